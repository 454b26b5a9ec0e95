package spool

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sidetone/shared/telemetry"
	"sidetone/shared/wire"
)

// flip changes n bytes at a random place of a file.
func flip(t testing.TB, path string, n int, rnd func(int) int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) == 0 {
		return
	}
	// Most of Badger's files is unused space: hit what is used.
	used := len(bytes.TrimRight(b, "\x00"))
	if used == 0 {
		return
	}
	at := rnd(used)
	for i := at; i < min(at+n, used); i++ {
		b[i] ^= 0x5a
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.WriteAt(b[at:min(at+n, used)], int64(at)); err != nil {
		t.Fatal(err)
	}
}

func dbFiles(t testing.TB, dir, pattern string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, dbName, pattern))
	if err != nil || len(list) == 0 {
		t.Fatalf("no %s in %s (%v)", pattern, dir, err)
	}
	return list
}

// TestDamage breaks a spool by hand in every way that is known to make Badger lose
// records silently or refuse to open.
func TestDamage(t *testing.T) {
	const records = 60
	for _, c := range []struct {
		name     string
		crash    bool // copied while open, so the newest records are in the log only
		break_   func(t *testing.T, dir string)
		sameLife bool // the epoch may go on
	}{
		{name: "manifest cut to 10 bytes", break_: func(t *testing.T, dir string) {
			truncate(t, filepath.Join(dir, dbName, "MANIFEST"), 10)
		}},
		{name: "manifest empty", break_: func(t *testing.T, dir string) {
			truncate(t, filepath.Join(dir, dbName, "MANIFEST"), 0)
		}},
		{name: "manifest is garbage", break_: func(t *testing.T, dir string) {
			garbage(t, filepath.Join(dir, dbName, "MANIFEST"))
		}},
		{name: "manifest removed", break_: func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, dbName, "MANIFEST"))
		}},
		{name: "16 bytes of a table", sameLife: true, break_: func(t *testing.T, dir string) {
			flip(t, dbFiles(t, dir, "*.sst")[0], 16, func(n int) int { return n / 3 })
		}},
		{name: "table cut in half", break_: func(t *testing.T, dir string) {
			f := dbFiles(t, dir, "*.sst")[0]
			st, err := os.Stat(f)
			if err != nil {
				t.Fatal(err)
			}
			truncate(t, f, st.Size()/2)
		}},
		{name: "table is garbage", break_: func(t *testing.T, dir string) { garbage(t, dbFiles(t, dir, "*.sst")[0]) }},
		{name: "table removed", break_: func(t *testing.T, dir string) { remove(t, dbFiles(t, dir, "*.sst")[0]) }},
		{name: "16 bytes of the log", crash: true, break_: func(t *testing.T, dir string) {
			flip(t, dbFiles(t, dir, "*.mem")[0], 16, func(n int) int { return n / 2 })
		}},
		{name: "log removed", crash: true, break_: func(t *testing.T, dir string) { remove(t, dbFiles(t, dir, "*.mem")[0]) }},
		{name: "every file is garbage", break_: func(t *testing.T, dir string) {
			for _, f := range dbFiles(t, dir, "*") {
				garbage(t, f)
			}
		}},
		{name: "database is a file", break_: func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, dbName))
			if err := os.WriteFile(filepath.Join(dir, dbName), []byte("hello"), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "database removed", break_: func(t *testing.T, dir string) { remove(t, filepath.Join(dir, dbName)) }},
		{name: "one slot of the sentinel", sameLife: true, break_: func(t *testing.T, dir string) {
			flip(t, filepath.Join(dir, sentinelName), 8, func(int) int { return slotSize + 60 })
		}},
		{name: "sentinel is garbage", break_: func(t *testing.T, dir string) { garbage(t, filepath.Join(dir, sentinelName)) }},
		{name: "sentinel removed", break_: func(t *testing.T, dir string) { remove(t, filepath.Join(dir, sentinelName)) }},
		{name: "status file is garbage", sameLife: true, break_: func(t *testing.T, dir string) { garbage(t, filepath.Join(dir, statusName)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := Config{Dir: t.TempDir()}
			s := open(t, cfg, testDeps(t))
			want := map[uint64]string{}
			var epoch uint64
			for i := range records {
				p := fmt.Sprint(i, strings.Repeat("d", 700))
				e, q := add(t, s, wire.ClassSample, p)
				epoch, want[q] = e, p
			}
			for q := uint64(1); q <= 10; q++ {
				delete(want, q)
			}
			if err := s.Ack(epoch, []wire.Range{{From: 1, To: 10}}); err != nil {
				t.Fatal(err)
			}
			if c.crash {
				cfg.Dir = copyDir(t, cfg.Dir)
			}
			closeIt(t, s)
			c.break_(t, cfg.Dir)

			start := time.Now()
			s = open(t, cfg, testDeps(t))
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("opening took %s", d)
			}
			for _, r := range readAll(t, s) {
				if r.Epoch != epoch || r.Seq <= records && want[r.Seq] != string(r.Payload) && r.Seq > 10 {
					t.Errorf("record %d/%d came back different", r.Epoch, r.Seq)
				}
				delete(want, r.Seq)
			}
			gone := len(want)
			for _, g := range s.TakeGaps(1000) {
				if g.Reason != telemetry.GapDamaged || g.Epoch != epoch {
					t.Errorf("gap %+v", g)
				}
				for q := g.From; q <= g.To; q++ {
					delete(want, q)
				}
			}
			promised := !strings.HasPrefix(c.name, "sentinel")
			if promised && len(want) > 0 {
				t.Errorf("%d records are neither there nor in a gap", len(want))
			}
			e, q := add(t, s, wire.ClassSample, "life goes on")
			if e == epoch && q <= records {
				t.Errorf("number %d was given twice", q)
			}
			if !c.sameLife && e == epoch && (gone > 0 || !promised) {
				t.Errorf("the epoch went on after %d records were lost", gone)
			}
			if rs := readAll(t, s); len(rs) == 0 || string(rs[len(rs)-1].Payload) != "life goes on" {
				t.Error("the new record cannot be read")
			}
			t.Logf("%d of 50 records lost, all counted", gone)
		})
	}
}

// TestDamageMeetsCompaction goes on for many megabytes after a block was damaged, so that
// Badger compacts the table: nothing may hang, and what is gone is counted.
func TestDamageMeetsCompaction(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	s := open(t, cfg, testDeps(t))
	const old, more = 60, 600
	for range old {
		add(t, s, wire.ClassSample, strings.Repeat("d", 20_000))
	}
	closeIt(t, s)
	flip(t, dbFiles(t, cfg.Dir, "*.sst")[0], 16, func(n int) int { return n / 3 })
	s = open(t, cfg, testDeps(t))
	for range more {
		add(t, s, wire.ClassSample, strings.Repeat("e", 20_000))
	}
	live := len(readAll(t, s))
	gone := 0
	for _, g := range s.TakeGaps(1000) {
		if g.Reason != telemetry.GapDamaged || g.To > old {
			t.Errorf("gap %+v", g)
		}
		gone += int(g.To - g.From + 1)
	}
	if live+gone != old+more || live < more || gone == 0 {
		t.Errorf("%d records live and %d in gaps of %d", live, gone, old+more)
	}
}

// TestDiedWhileOpening: a process that ends while the database opens, as Badger's own
// goroutines can make it, opens a new one at the third start, with what the files hold.
func TestDiedWhileOpening(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	s := open(t, cfg, testDeps(t))
	epoch, _ := add(t, s, wire.ClassSample, "x")
	closeIt(t, s)
	for _, c := range []struct {
		died string
		want int
	}{{"1", 1}, {"nonsense", 1}, {"2", 1}} {
		if err := os.WriteFile(filepath.Join(cfg.Dir, openingName), []byte(c.died), 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, cfg, testDeps(t))
		if n := len(readAll(t, s)); n != c.want {
			t.Errorf("after %s openings that died: %d records, want %d", c.died, n, c.want)
		}
		closeIt(t, s)
	}
	s = open(t, cfg, testDeps(t))
	if rs := readAll(t, s); len(rs) != 1 || rs[0].Epoch != epoch || len(s.TakeGaps(9)) != 0 {
		t.Errorf("records %+v", rs)
	}
	if list := matches(cfg.Dir, quarantinePrefix+"*"); len(list) != 1 {
		t.Errorf("quarantined: %v", list)
	}
}

func TestQuarantineIsBounded(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	deps := testDeps(t)
	deps.Now = func() time.Time { return now }
	for range 4 {
		now = now.Add(time.Hour)
		s := open(t, cfg, deps)
		add(t, s, wire.ClassSample, "x")
		closeIt(t, s)
		garbage(t, filepath.Join(cfg.Dir, dbName, "MANIFEST"))
	}
	open(t, cfg, deps)
	if list := matches(cfg.Dir, quarantinePrefix+"*"); len(list) != maxQuarantines || !strings.Contains(list[0], "20260301T04") {
		t.Errorf("quarantined: %v", list)
	}
}

func truncate(t testing.TB, path string, n int64) {
	t.Helper()
	if err := os.Truncate(path, n); err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func garbage(t testing.TB, path string) {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, min(st.Size(), 64<<10))
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSpansModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var s spans
		set := map[uint64]bool{}
		rt.Repeat(map[string]func(*rapid.T){
			"add": func(rt *rapid.T) {
				q := rapid.Uint64Range(1, 40).Draw(rt, "seq")
				s.add(q)
				set[q] = true
			},
			"remove": func(rt *rapid.T) {
				q := rapid.Uint64Range(1, 40).Draw(rt, "seq")
				s.remove(q)
				delete(set, q)
			},
			"": func(rt *rapid.T) {
				if s.count() != uint64(len(set)) {
					rt.Fatalf("%v holds %d, the model %d", s, s.count(), len(set))
				}
				for i := 1; i < len(s); i++ {
					if s[i-1].to+1 >= s[i].from {
						rt.Fatalf("spans touch or are not sorted: %v", s)
					}
				}
				holes := s.holes(span{1, 40})
				for q := uint64(1); q <= 40; q++ {
					if s.has(q) != set[q] || holes.has(q) == set[q] {
						rt.Fatalf("%d: has %v, hole %v, model %v", q, s.has(q), holes.has(q), set[q])
					}
				}
			},
		})
	})
}

func TestSentinelBounds(t *testing.T) {
	var live, memory spans
	for q := uint64(1); q < 2000; q += 2 {
		live.add(1<<40 + q)
		memory.add(1<<41 + q)
	}
	p := promise{Epoch: 1 << 52, Next: 1 << 42}
	for range maxEpochsKept {
		p.Epochs = append(p.Epochs, epochStart{1 << 52, 1 << 42})
	}
	var gaps []*gap
	for range 500 {
		gaps = append(gaps, &gap{Gap: telemetry.Gap{Observed: 1 << 42, Epoch: 1 << 52, From: 1 << 42, To: 1 << 42, Reason: telemetry.GapRejected}})
	}
	p.keep(live, memory)
	p.keepGaps(gaps)
	b, err := encodeSlot(nil, &p)
	if err != nil {
		t.Fatal(err)
	}
	got := decodeSlot(b)
	if got == nil || !got.Loose || len(got.Live) != maxSpansKept || len(got.Gaps) != maxGapsKept {
		t.Fatalf("sentinel came back as %+v", got)
	}
	if lost := got.missing(live); len(lost) != 0 {
		t.Errorf("missing though all is there: %v", lost)
	}
	live.remove(1<<40 + 1)
	if lost := got.missing(live); !lost.has(1<<40 + 1) {
		t.Errorf("a lost record of the loose span is not missed: %v", lost)
	}
}

func FuzzDecode(f *testing.F) {
	r := &Record{Epoch: 1, Seq: 2, Class: wire.ClassState, Created: time.UnixMilli(3), Payload: []byte("abc"), CRC: checksum([]byte("abc"))}
	f.Add(encodeRecord(r))
	slot, err := encodeSlot(nil, &promise{Epoch: 1, Next: 2, Live: [][2]uint64{{1, 1}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(slot)
	f.Add((&gap{Gap: telemetry.Gap{Epoch: 1, From: 2, To: 3, Reason: "evicted"}}).write().value)
	f.Add([]byte{})
	f.Add([]byte(slotMagic + " 00000000 -1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := decodeRecord(1, 2, b); err == nil {
			if again := encodeRecord(&got); !bytes.Equal(again, b) {
				t.Errorf("record is not what its bytes say: %q", b)
			}
		}
		if p := decodeSlot(b); p != nil {
			p.missing(spans{{1, 5}})
			knownEpochs(p)
		}
		decodeGap(key(prefixGap, 1, 2, 3), b)
		decodeIndex(1, b)
	})
}
