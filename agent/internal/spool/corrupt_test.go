package spool

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sidetone/shared/wire"
)

// seed gives the seed of a random test, and says it so that it can be repeated.
func seed(t testing.TB) uint64 {
	n := rand.Uint64()
	if s := os.Getenv("SIDETONE_SEED"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SIDETONE_SEED=%d", n)
	return n
}

// TestCorruptions breaks copies of a spool in one to three places of any of its files.
// Each opens, takes and gives records within seconds; as long as the sentinel is whole,
// all records are accounted for.
func TestCorruptions(t *testing.T) {
	rounds := 60
	if os.Getenv("SIDETONE_SOAK") != "" {
		rounds = 500
	}
	r := rand.New(rand.NewPCG(seed(t), 1))
	clean, crashed, want, acked := brokenLater(t)
	var lost, slowest int
	for round := range rounds {
		from := clean
		if r.IntN(2) == 0 {
			from = crashed
		}
		dir, err := os.MkdirTemp(scratch(), "spool-corrupt")
		if err != nil {
			t.Fatal(err)
		}
		if err := copyOnce(from, dir); err != nil {
			t.Fatal(err)
		}
		var what []string
		known := true
		for range 1 + r.IntN(3) {
			files := append(dbFiles(t, dir, "*"), filepath.Join(dir, sentinelName), filepath.Join(dir, statusName))
			f := files[r.IntN(len(files))]
			known = known && filepath.Base(f) != sentinelName
			kind := damageKind(r.IntN(int(damageKinds)))
			what = append(what, fmt.Sprintf("%s %d", filepath.Base(f), kind))
			corrupt(t, f, kind, r.IntN(1<<22), 1+r.IntN(32))
		}
		started := time.Now()
		gone := openCorrupted(t, dir, r.IntN(4) == 0, want, acked, known)
		d := time.Since(started)
		if d > 5*time.Second {
			t.Errorf("round %d, %v: %s until it worked again", round, what, d)
		}
		if t.Failed() {
			t.Fatalf("round %d: %v in %s", round, what, dir)
		}
		lost += gone
		slowest = max(slowest, int(d.Milliseconds()))
		remove(t, dir)
	}
	t.Logf("%d corruptions: %d of %d records lost and all counted, %d ms at most until it worked again",
		rounds, lost, rounds*len(want), slowest)
}

// brokenLater makes a spool with tables, a log and acked records: as it is after Close,
// and as a crash leaves it.
func brokenLater(t *testing.T) (clean, crashed string, want map[recordID]string, acked map[recordID]bool) {
	cfg := Config{Dir: t.TempDir()}
	want, acked = map[recordID]string{}, map[recordID]bool{}
	s := open(t, cfg, testDeps(t))
	var epoch uint64
	for i := range 400 {
		if i == 200 {
			closeIt(t, s)
			s = open(t, cfg, testDeps(t))
		}
		p := fmt.Sprint(i, strings.Repeat("d", 3*i))
		e, q := add(t, s, wire.ClassSample, p)
		epoch, want[recordID{e, q}] = e, p
	}
	if err := s.Ack(epoch, []wire.Range{{From: 1, To: 30}, {From: 190, To: 230}}); err != nil {
		t.Fatal(err)
	}
	for id := range want {
		if id.seq <= 30 || id.seq >= 190 && id.seq <= 230 {
			acked[id] = true
		}
	}
	crashed = copyDir(t, cfg.Dir)
	closeIt(t, s)
	return cfg.Dir, crashed, want, acked
}

// openCorrupted checks a damaged spool and tells how many records are lost.
func openCorrupted(t *testing.T, dir string, child bool, want map[recordID]string, acked map[recordID]bool, known bool) (gone int) {
	t.Helper()
	deps := testDeps(t)
	if child {
		deps.Precheck = childChecker(t, "check")
	}
	s := open(t, Config{Dir: dir}, deps)
	e, q := add(t, s, wire.ClassSample, "life goes on")
	if _, twice := want[recordID{e, q}]; twice {
		t.Errorf("number %d/%d was given twice", e, q)
	}
	found := map[recordID]bool{}
	for _, r := range readAll(t, s) {
		id := recordID{r.Epoch, r.Seq}
		if p, ok := want[id]; (!ok || p != string(r.Payload)) && id != (recordID{e, q}) {
			t.Errorf("record %v is invented or different", id)
		}
		found[id] = true
	}
	if !found[recordID{e, q}] {
		t.Error("the new record cannot be read")
	}
	for _, g := range s.TakeGaps(1000) {
		for n := g.From; n <= g.To; n++ {
			if id := (recordID{g.Epoch, n}); !found[id] {
				found[id] = true
				gone++
			}
		}
	}
	for id := range want {
		if known && !found[id] && !acked[id] {
			t.Errorf("record %v is neither there nor in a gap", id)
		}
	}
	closeIt(t, s)
	return gone
}
