//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// soak reports whether the long form is asked for (make soak).
func soak() bool { return os.Getenv("SIDETONE_SOAK") != "" }

// dice is seeded by SIDETONE_SEED or by the time; the seed is printed, so that a run
// can be repeated.
func dice(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SIDETONE_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("SIDETONE_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("SIDETONE_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// bounded is n for `make test` and long for `make soak`.
func bounded(n, long int) int {
	if soak() {
		return long
	}
	return n
}

func wait(d time.Duration) {
	t := time.NewTimer(d)
	<-t.C
}

func killNow(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// kill ends the program without a word and starts it again.
func (p *process) kill() {
	p.t.Helper()
	killNow(p.t, p.pid())
	<-p.done
	p.run()
}

// Agent and collector die at random moments, again and again: what was produced is
// stored or is a labelled gap, and nothing is doubled.
func TestKills(t *testing.T) {
	t.Parallel()
	r := dice(t)
	s := newSite(t, "")
	s.startAgent("interval = \"200ms\"\n")
	agents, collectors := bounded(12, 200), bounded(4, 50)
	for agents+collectors > 0 {
		wait(time.Duration(100+r.IntN(3000)) * time.Millisecond)
		if r.IntN(agents+collectors) < agents {
			agents--
			s.agent.kill()
		} else {
			collectors--
			s.collector.kill()
		}
	}
	s.account(120 * time.Second)
}

// Engine: killed, and stopped for a while; the collector keeps the agents and stores
// what came as soon as it can.
func TestEngineTrouble(t *testing.T) {
	t.Parallel()
	r := dice(t)
	s := newSite(t, "")
	s.startAgent("")
	eventually(t, 60*time.Second, "first windows", func() bool {
		return s.count("SELECT count() FROM sidetone.probe_window") > 0
	})
	for range bounded(3, 50) {
		engine := childOf(t, s.collector.pid(), "engine")
		if err := syscall.Kill(engine, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		wait(time.Duration(500+r.IntN(4000)) * time.Millisecond)
		killNow(t, engine)
		wait(time.Duration(r.IntN(3000)) * time.Millisecond)
	}
	s.account(90 * time.Second)
}

// account waits until every record that the agent's ledger names is stored or stands in
// a gap, and demands that nothing is doubled.
func (s *site) account(limit time.Duration) {
	s.t.Helper()
	var l ledger
	var open []string
	defer func() {
		if s.t.Failed() && len(open) > 0 {
			s.t.Logf("neither stored nor in a gap: %v", open[:min(len(open), 20)])
		}
	}()
	gaps := 0
	eventually(s.t, limit, "every record stored or in a labelled gap", func() bool {
		l = readLedger(s.t, s.ledgerFile())
		stored, err := sqlIn(s.t, s.collectorData(), "SELECT toString(epoch) AS e, toString(seq) AS s FROM sidetone.frame")
		if err != nil {
			return false
		}
		told, err := sqlIn(s.t, s.collectorData(), `SELECT toString(gap_epoch) AS e, toString(from_seq) AS f, toString(to_seq) AS t, reason FROM sidetone.gap`)
		if err != nil {
			return false
		}
		there := map[string]bool{}
		for _, r := range stored {
			there[fmt.Sprint(r["e"], "/", r["s"])] = true
		}
		open, gaps = open[:0], 0
		for rec := range l.records {
			switch {
			case there[rec]:
			case inGap(rec, told):
				gaps++
			default:
				open = append(open, rec)
			}
		}
		return len(open) == 0
	})
	if len(l.records) == 0 {
		s.t.Fatal("the ledger is empty: nothing was produced")
	}
	for _, table := range append(identified, "frame") {
		key := "agent_id, epoch, seq, idx"
		if table == "frame" {
			key = "agent_id, epoch, seq"
		}
		rows := s.sql(fmt.Sprintf("SELECT count() AS n, uniqExact(%s) AS u FROM sidetone.%s", key, table))
		if n, u := fmt.Sprint(rows[0]["n"]), fmt.Sprint(rows[0]["u"]); n != u {
			s.t.Errorf("exact view %s has %s rows of %s identities", table, n, u)
		}
	}
	s.t.Logf("%d records produced: %d stored, %d in labelled gaps", len(l.records), len(l.records)-gaps, gaps)
}

func inGap(record string, gaps []map[string]any) bool {
	epoch, text, _ := strings.Cut(record, "/")
	seq, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return false
	}
	for _, g := range gaps {
		from, ferr := strconv.ParseUint(fmt.Sprint(g["f"]), 10, 64)
		to, terr := strconv.ParseUint(fmt.Sprint(g["t"]), 10, 64)
		if ferr == nil && terr == nil && fmt.Sprint(g["e"]) == epoch && from <= seq && seq <= to && fmt.Sprint(g["reason"]) != "" {
			return true
		}
	}
	return false
}

// damages are what can happen to the files of a spool while the agent does not run.
var damages = []struct {
	name string
	do   func(t *testing.T, spool string)
}{
	{"manifest cut", func(t *testing.T, spool string) { truncate(t, filepath.Join(spool, "db", "MANIFEST"), 10) }},
	{"log flipped", func(t *testing.T, spool string) { flip(t, newest(t, filepath.Join(spool, "db", "*.mem")), 600, 16) }},
	{"sentinel zeroed", func(t *testing.T, spool string) { flip(t, filepath.Join(spool, "sentinel"), 0, 8192) }},
	{"database emptied", func(t *testing.T, spool string) {
		if err := os.RemoveAll(filepath.Join(spool, "db")); err != nil {
			t.Fatal(err)
		}
	}},
	{"log cut", func(t *testing.T, spool string) { truncate(t, newest(t, filepath.Join(spool, "db", "*.mem")), 700) }},
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

// flip inverts n bytes.
func flip(t *testing.T, path string, at int64, n int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, n)
	n, err = f.ReadAt(b, at)
	if n == 0 {
		t.Fatal(err)
	}
	for i := range b[:n] {
		b[i] = ^b[i]
	}
	if _, err := f.WriteAt(b[:n], at); err != nil {
		t.Fatal(err)
	}
}

func newest(t *testing.T, pattern string) string {
	t.Helper()
	files, _ := filepath.Glob(pattern)
	if len(files) == 0 {
		t.Fatalf("no file matches %s", pattern)
	}
	return files[len(files)-1]
}

// A damaged spool: the agent measures again within seconds, and what is lost is told.
func TestDamagedSpool(t *testing.T) {
	t.Parallel()
	s := newSite(t, "")
	s.startAgent("interval = \"500ms\"\n")
	eventually(t, 60*time.Second, "first rows", func() bool {
		return s.count("SELECT count() FROM sidetone.frame") > 0
	})
	for _, d := range damages[:bounded(4, len(damages))] {
		// Without the collector, so that there is something to lose.
		if status := s.collector.stop(20 * time.Second); status != 0 {
			t.Fatalf("the collector ended with status %d", status)
		}
		before := len(readLedger(t, s.ledgerFile()).records)
		eventually(t, 30*time.Second, "records in the spool", func() bool {
			return len(readLedger(t, s.ledgerFile()).records) > before+1
		})
		killNow(t, s.agent.pid())
		<-s.agent.done
		d.do(t, filepath.Join(s.agentState(), "spool"))
		before = len(readLedger(t, s.ledgerFile()).records)
		s.agent.run()
		took := eventually(t, 30*time.Second, d.name+": records again", func() bool {
			return len(readLedger(t, s.ledgerFile()).records) > before
		})
		t.Logf("%s: a new record after %v", d.name, took.Round(10*time.Millisecond))
		s.collector.run()
		s.account(60 * time.Second)
	}
}
