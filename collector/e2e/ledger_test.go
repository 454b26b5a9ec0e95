//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// ledgerLine is what the agent writes after each record that its spool took.
type ledgerLine struct {
	Epoch   uint64           `json:"epoch"`
	Seq     uint64           `json:"seq"`
	Rows    map[string]int   `json:"rows"`
	Windows [][2]json.Number `json:"windows"` // target, observed_ms
}

// ledger is everything that the agent produced.
type ledger struct {
	records map[string]bool // epoch/seq
	windows map[string]bool // target/observed
}

func readLedger(t *testing.T, path string) ledger {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l := ledger{records: map[string]bool{}, windows: map[string]bool{}}
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 4<<20)
	for sc.Scan() {
		var line ledgerLine
		if err := json.Unmarshal(sc.Bytes(), &line); err != nil {
			continue // a line cut by kill -9: its record may or may not be stored
		}
		l.records[fmt.Sprintf("%d/%d", line.Epoch, line.Seq)] = true
		for _, w := range line.Windows {
			l.windows[w[0].String()+"/"+w[1].String()] = true
		}
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
	return l
}

// settle waits until everything that the ledger names is stored, then demands that each
// window is there exactly once, that no row is doubled in an exact read, and that no
// sequence number is missing.
func settle(t *testing.T, dataDir, ledgerPath string, limit time.Duration) {
	t.Helper()
	var l ledger
	var missing []string
	eventually(t, limit, "every produced window in ClickHouse", func() bool {
		l = readLedger(t, ledgerPath)
		rows, err := sqlIn(t, dataDir, `SELECT toString(target_id) AS target, toUnixTimestamp64Milli(observed) AS at, count() AS n
			FROM sidetone.probe_window GROUP BY target_id, observed`)
		if err != nil {
			return false
		}
		stored := map[string]bool{}
		for _, r := range rows {
			key := fmt.Sprint(r["target"], "/", r["at"])
			stored[key] = true
			if n := fmt.Sprint(r["n"]); n != "1" {
				t.Fatalf("window %s is stored %s times", key, n)
			}
		}
		missing = missing[:0]
		for w := range l.windows {
			if !stored[w] {
				missing = append(missing, w)
			}
		}
		return len(missing) == 0
	})
	if len(l.windows) == 0 {
		t.Fatal("the ledger is empty: nothing was produced")
	}
	checkRecords(t, dataDir, l)
	t.Logf("ledger: %d records, %d windows, each stored once", len(l.records), len(l.windows))
}

// identified lists the tables whose rows carry (agent, epoch, seq, idx).
var identified = []string{"probe_window", "pbx_status", "trunk_state", "service_state", "sbc_state",
	"extension_summary", "backup", "licence", "event_log", "state_change", "agent_health", "link_event", "gap"}

func checkRecords(t *testing.T, dataDir string, l ledger) {
	t.Helper()
	var union []string
	for _, table := range identified {
		rows, err := sqlIn(t, dataDir, fmt.Sprintf(
			`SELECT count() AS n, uniqExact(agent_id, epoch, seq, idx) AS u FROM sidetone.%s`, table))
		if err != nil {
			t.Fatal(err)
		}
		if n, u := fmt.Sprint(rows[0]["n"]), fmt.Sprint(rows[0]["u"]); n != u {
			t.Errorf("exact view %s has %s rows of %s identities", table, n, u)
		}
		union = append(union, fmt.Sprintf("SELECT epoch, seq FROM sidetone.%s", table))
	}
	rows, err := sqlIn(t, dataDir, "SELECT DISTINCT toString(epoch) AS e, toString(seq) AS s FROM ("+strings.Join(union, " UNION ALL ")+")")
	if err != nil {
		t.Fatal(err)
	}
	stored := map[string]bool{}
	for _, r := range rows {
		stored[fmt.Sprint(r["e"], "/", r["s"])] = true
	}
	for rec := range l.records {
		if !stored[rec] {
			t.Errorf("record %s was produced and has no row in ClickHouse", rec)
		}
	}
}
