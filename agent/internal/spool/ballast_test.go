package spool

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"sidetone/shared/wire"
)

func TestBallast(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	free, total := uint64(50<<30), uint64(100<<30)
	var events []Event
	deps := testDeps(t)
	deps.Now = func() time.Time { return now }
	deps.FreeSpace = func(string) (uint64, uint64, error) { return free, total, nil }
	deps.Event = func(e Event) { events = append(events, e) }
	cfg := Config{Dir: t.TempDir(), BallastBytes: 3<<20 + 5}
	path := filepath.Join(cfg.Dir, ballastName)
	there := func(want bool, when string) {
		t.Helper()
		st, err := os.Stat(path)
		if (err == nil) != want {
			t.Fatalf("%s: %v", when, err)
		}
		if want && (st.Size() != 3<<20+5 || allocated(st) < 3<<20) {
			t.Fatalf("%s: ballast of %d bytes, %d on disk", when, st.Size(), allocated(st))
		}
	}
	s := open(t, cfg, deps)
	there(false, "after opening")
	s.upkeep()
	there(true, "with plenty of space")

	free = 1 << 30 // of which 2 GB are kept free
	add(t, s, wire.ClassSample, "x")
	there(false, "short of space")
	if !s.Status().Degraded || len(events) != 2 || events[0].To != StateBallastGone {
		t.Errorf("events %+v", events)
	}
	now = now.Add(time.Hour)
	s.upkeep()
	there(false, "still short")
	free = 3 << 30
	now = now.Add(time.Hour)
	s.upkeep()
	there(false, "space is back, but not plenty")
	if s.Status().Degraded {
		t.Error("not back on disk")
	}
	free = 50 << 30
	now = now.Add(time.Hour)
	s.upkeep()
	there(true, "plenty again")
	if e := events[len(events)-1]; e.From != StateBallastGone || e.To != StateOK {
		t.Errorf("events %+v", events)
	}
	closeIt(t, s)

	cfg.NoBallast = true
	s = open(t, cfg, deps)
	s.upkeep()
	there(false, "switched off")
	closeIt(t, s)

	cfg.NoBallast = false
	free, total = 300<<20, 300<<20
	cfg.MinFreeBytes = 10 << 20
	s = open(t, cfg, deps)
	s.upkeep()
	there(false, "a small disk")
}
