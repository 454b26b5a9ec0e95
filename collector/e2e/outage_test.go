//go:build e2e

package e2e

import (
	"testing"
	"time"
)

// A collector that is down for two minutes loses nothing: the agent back-fills.
func TestOutageOfTwoMinutes(t *testing.T) {
	t.Parallel()
	s := newSite(t, "")
	s.startAgent("")
	eventually(t, 60*time.Second, "first windows", func() bool {
		return s.count("SELECT count() FROM sidetone.probe_window") > 0
	})
	before := len(readLedger(t, s.ledgerFile()).windows)
	if status := s.collector.stop(20 * time.Second); status != 0 {
		t.Fatalf("the collector ended with status %d", status)
	}
	down := time.NewTimer(2 * time.Minute)
	<-down.C
	during := len(readLedger(t, s.ledgerFile()).windows)
	if during-before < 10 {
		t.Fatalf("the agent produced %d windows during the outage: it did not go on measuring", during-before)
	}
	s.collector.run()
	settle(t, s.collectorData(), s.ledgerFile(), 90*time.Second)
	t.Logf("%d windows were produced during the outage", during-before)
}
