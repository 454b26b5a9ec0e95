package batch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"sidetone/collector/internal/chengine/enginetest"
	"sidetone/collector/internal/ingest"
	"sidetone/collector/internal/telemetrydb"
	"sidetone/shared/telemetry"
)

func TestMain(m *testing.M) {
	enginetest.Child()
	goleak.VerifyTestMain(m)
}

// store is a Store in memory that deduplicates by token as ClickHouse does.
type store struct {
	mu      sync.Mutex
	fail    func(try int, b *telemetrydb.Block) error // nil: take everything
	tries   int
	blocks  map[string]*telemetrydb.Block // by token
	order   []string                      // tokens of tries
	letters []telemetrydb.DeadLetter
}

func newStore(fail func(int, *telemetrydb.Block) error) *store {
	return &store{fail: fail, blocks: map[string]*telemetrydb.Block{}}
}

func (s *store) InsertBlock(ctx context.Context, b *telemetrydb.Block, token string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries++
	s.order = append(s.order, token)
	if s.fail != nil {
		if err := s.fail(s.tries, b); err != nil {
			return err
		}
	}
	if old, ok := s.blocks[token]; ok && old != b && !sameRows(old, b) {
		return fmt.Errorf("token %s came with another block", token)
	}
	s.blocks[token] = b
	return nil
}

func (s *store) PutDeadLetter(_ context.Context, d telemetrydb.DeadLetter) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.letters = append(s.letters, d)
	return nil
}

// seqs lists the seqs of one table, each as often as it is stored.
func (s *store) seqs(table string) map[uint64]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[uint64]int{}
	for _, b := range s.blocks {
		if b.Table == table {
			for _, seq := range column(b, "seq").([]uint64) {
				out[seq]++
			}
		}
	}
	return out
}

func sameRows(a, b *telemetrydb.Block) bool {
	return fmt.Sprint(column(a, "seq")) == fmt.Sprint(column(b, "seq"))
}

func column(b *telemetrydb.Block, name string) any {
	for _, c := range b.Columns {
		if c.Name == name {
			return c.Values
		}
	}
	return nil
}

// ledger counts the answers to deliveries.
type ledger struct {
	mu      sync.Mutex
	answers map[uint64][]error
}

func newLedger() *ledger { return &ledger{answers: map[uint64][]error{}} }

func (l *ledger) delivery(seq uint64, set *telemetry.Set) *ingest.Delivery {
	return &ingest.Delivery{
		Source: telemetry.Source{Tenant: 1, Site: 2, Agent: 3}, Epoch: 9, Seq: seq, ReceivedAt: time.Now(), Rows: set,
		Done: func(err error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.answers[seq] = append(l.answers[seq], err)
		},
	}
}

func (l *ledger) count() (acked, deferred, rejected int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.answers {
		var r *ingest.RejectError
		switch {
		case a[0] == nil:
			acked++
		case errors.As(a[0], &r):
			rejected++
		default:
			deferred++
		}
	}
	return
}

func windows(n int) *telemetry.Set {
	s := &telemetry.Set{Targets: []telemetry.Target{{ID: 1, Method: telemetry.MethodICMP, Name: "a"}}}
	for range n {
		s.ProbeWindows = append(s.ProbeWindows, telemetry.ProbeWindow{Target: 1, Observed: telemetry.MS(time.Now()), Sent: 1, Received: 1, RTTUS: []uint32{5}})
	}
	return s
}

// run starts b inside a synctest bubble; stop ends it and waits.
func run(b *Batcher) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); b.Run(ctx) }()
	return func() { cancel(); <-done }
}

func quiet(s Store) Deps { return Deps{Store: s, Log: zerolog.Nop()} }

func TestCutByAgeAndBySize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := newStore(nil), newLedger()
		b := New(Config{MaxRows: 100, MaxWait: time.Second}, quiet(s))
		stop := run(b)
		for i := range uint64(5) {
			b.Offer(l.delivery(i, windows(10)))
		}
		time.Sleep(900 * time.Millisecond)
		synctest.Wait()
		if n, _, _ := l.count(); n != 0 {
			t.Errorf("%d answered before the batch was due", n)
		}
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if n, _, _ := l.count(); n != 5 || b.Stats().Batches != 1 {
			t.Errorf("after a second %d answered in %d batches", n, b.Stats().Batches)
		}
		for i := range uint64(25) { // two full batches and a half
			b.Offer(l.delivery(100+i, windows(10)))
		}
		synctest.Wait()
		if n, _, _ := l.count(); n != 25 || b.Stats().Batches != 3 {
			t.Errorf("full batches wait: %d answered in %d batches", n, b.Stats().Batches)
		}
		stop() // flushes the rest
		if n, _, _ := l.count(); n != 30 {
			t.Errorf("%d answered after the stop", n)
		}
		if st := b.Stats(); st.Rows != 300 || st.PendingRows != 0 || st.PendingBytes != 0 || !st.StorageOK {
			t.Errorf("stats %+v", st)
		}
		if b.Offer(l.delivery(999, windows(1))) {
			t.Error("takes deliveries after the stop")
		}
	})
}

func TestRetryRepeatsTheSameBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var first *telemetrydb.Block
		s, l := newStore(func(try int, b *telemetrydb.Block) error {
			if b.Table != "probe_window_raw" {
				return nil
			}
			if first == nil {
				first = b
			}
			if b != first {
				t.Error("a retry sends another block")
			}
			if try < 6 {
				return errors.New("connection refused")
			}
			return nil
		}), newLedger()
		b := New(Config{}, quiet(s))
		stop := run(b)
		b.Offer(l.delivery(1, windows(3)))
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if st := b.Stats(); st.StorageOK || st.LastError == "" || st.Retries == 0 {
			t.Errorf("trouble is not told: %+v", st)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		st := b.Stats()
		if n, _, _ := l.count(); n != 1 || st.Rows != 3 || !st.StorageOK || st.LastError != "" || st.Retries != 4 {
			t.Errorf("%d acked, %+v", n, st)
		}
		// names first, the frame ledger last
		for _, tok := range s.order[1 : len(s.order)-1] {
			if tok != s.order[1] {
				t.Errorf("tokens differ: %v", s.order)
			}
		}
		stop()
	})
}

func TestStorageDownIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		down.Store(true)
		s, l := newStore(func(int, *telemetrydb.Block) error {
			if down.Load() {
				return errors.New("no space left")
			}
			return nil
		}), newLedger()
		b := New(Config{MaxRows: 1000, MaxPendingRows: 5000}, quiet(s))
		stop := run(b)
		var taken uint64
		for b.Offer(l.delivery(taken, windows(10))) {
			if taken++; taken > 10_000 {
				t.Fatal("takes without end")
			}
		}
		time.Sleep(time.Hour)
		if st := b.Stats(); taken != 500 || st.PendingRows != 5000 || st.StorageOK || st.Refused != 1 {
			t.Errorf("took %d: %+v", taken, st)
		}
		down.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n, _, _ := l.count(); n != 500 || b.Stats().PendingRows != 0 {
			t.Errorf("%d acked after it came back, %+v", n, b.Stats())
		}
		if !b.Offer(l.delivery(taken, windows(10))) {
			t.Error("still full")
		}
		stop()
	})
}

func TestPendingBytes(t *testing.T) {
	b := New(Config{MaxPendingBytes: 10_000}, quiet(newStore(nil)))
	l := newLedger()
	if !b.Offer(l.delivery(0, windows(100))) {
		t.Error("a delivery above the bound finds no room in an empty batcher: it never would")
	}
	if b.Offer(l.delivery(1, windows(1))) {
		t.Error("takes more than the bound")
	}
}

func TestStopWhileStorageIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := newStore(func(int, *telemetrydb.Block) error { return errors.New("down") }), newLedger()
		b := New(Config{FlushTimeout: 5 * time.Second}, quiet(s))
		stop := run(b)
		for i := range uint64(10) {
			b.Offer(l.delivery(i, windows(1)))
		}
		time.Sleep(3 * time.Second)
		start := time.Now()
		stop()
		if d := time.Since(start); d > 6*time.Second {
			t.Errorf("the stop took %s", d)
		}
		if acked, deferred, _ := l.count(); acked != 0 || deferred != 10 {
			t.Errorf("%d acked, %d deferred", acked, deferred)
		}
	})
}

func TestPoisonIsBisected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := newStore(func(_ int, b *telemetrydb.Block) error {
			if b.Table != "probe_window_raw" {
				return nil
			}
			for _, seq := range column(b, "seq").([]uint64) {
				if seq == 37 || seq == 61 {
					return &telemetrydb.PoisonError{Table: b.Table, Err: fmt.Errorf("value of %d", seq)}
				}
			}
			return nil
		}), newLedger()
		b := New(Config{}, quiet(s))
		stop := run(b)
		for i := range uint64(100) {
			set := windows(1)
			set.Gaps = []telemetry.Gap{{From: 1, To: 2}}
			b.Offer(l.delivery(i, set))
		}
		stop()
		if acked, _, _ := l.count(); acked != 100 {
			t.Errorf("%d acked: poison must not hold anything up", acked)
		}
		got, gaps := s.seqs("probe_window_raw"), s.seqs("gap_raw")
		for i := range uint64(100) {
			want := 1
			if i == 37 || i == 61 {
				want = 0
			}
			if got[i] != want || gaps[i] != 1 {
				t.Errorf("seq %d: %d windows, %d gaps", i, got[i], gaps[i])
			}
		}
		if last := s.blocks[s.order[len(s.order)-1]]; last.Table != telemetrydb.FrameTable {
			t.Errorf("the last block of a batch is %s, not the frame ledger", last.Table)
		}
		for _, b := range s.blocks {
			if b.Table != telemetrydb.FrameTable {
				continue
			}
			for i, dead := range column(b, "dead_letter").([]bool) {
				if seq := column(b, "seq").([]uint64)[i]; dead != (seq == 37 || seq == 61) {
					t.Errorf("the frame ledger has seq %d as dead letter: %v", seq, dead)
				}
			}
		}
		if n := len(s.seqs(telemetrydb.FrameTable)); n != 100 {
			t.Errorf("the frame ledger has %d of 100 frames", n)
		}
		if len(s.letters) != 2 || b.Stats().DeadLetters != 2 {
			t.Errorf("%d dead letters", len(s.letters))
		}
		for _, d := range s.letters {
			if d.Seq != 37 && d.Seq != 61 || d.Reason == "" || d.Rows == nil {
				t.Errorf("letter %+v", d)
			}
		}
	})
}

// TestModel drives random arrivals against a store that fails at random, with unknown
// outcomes: stored, but answered with an error.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		fails := rapid.SliceOfN(rapid.IntRange(0, 3), 0, 60).Draw(rt, "fails")
		sizes := rapid.SliceOfN(rapid.IntRange(0, 30), 1, 60).Draw(rt, "sizes")
		pauses := rapid.SliceOfN(rapid.IntRange(0, 900), len(sizes), len(sizes)).Draw(rt, "pauses ms")
		synctest.Test(t, func(*testing.T) {
			s, l := newStore(nil), newLedger()
			flaky := &flakyStore{store: s, fails: fails}
			b := New(Config{MaxRows: 50, MaxPendingRows: 200}, quiet(flaky))
			stop := run(b)
			offered := map[uint64]int{}
			for i, n := range sizes {
				if b.Offer(l.delivery(uint64(i), windows(n))) {
					offered[uint64(i)] = n
				}
				time.Sleep(time.Duration(pauses[i]) * time.Millisecond)
			}
			time.Sleep(time.Hour)
			stop()
			stored := s.seqs("probe_window_raw")
			for seq, n := range offered {
				if a := l.answers[seq]; len(a) != 1 || a[0] != nil {
					rt.Errorf("seq %d answered %v", seq, a)
				}
				if stored[seq] != n {
					rt.Errorf("seq %d: %d of %d rows stored", seq, stored[seq], n)
				}
			}
			if st := b.Stats(); st.PendingRows != 0 || st.PendingBytes != 0 || len(l.answers) != len(offered) {
				rt.Errorf("left over: %+v, %d answers to %d", st, len(l.answers), len(offered))
			}
		})
	})
}

// flakyStore fails as told: 0 works, 1 fails, 2 stores and fails, 3 works.
type flakyStore struct {
	*store
	fails []int
}

func (f *flakyStore) InsertBlock(ctx context.Context, b *telemetrydb.Block, token string) error {
	how := 0
	if len(f.fails) > 0 {
		how, f.fails = f.fails[0], f.fails[1:]
	}
	if how == 1 {
		return errors.New("not stored")
	}
	err := f.store.InsertBlock(ctx, b, token)
	if how == 2 && err == nil {
		return errors.New("stored, but who knows")
	}
	return err
}

func TestTokens(t *testing.T) {
	l := newLedger()
	mk := func(seqs ...uint64) []held {
		var out []held
		for _, s := range seqs {
			out = append(out, held{Delivery: l.delivery(s, windows(1))})
		}
		return out
	}
	blk := &telemetrydb.Block{Table: "a"}
	base := token(mk(1, 2), blk)
	if token(mk(1, 2), blk) != base {
		t.Error("the same records give another token")
	}
	for name, other := range map[string]string{
		"order": token(mk(2, 1), blk), "fewer": token(mk(1), blk), "more": token(mk(1, 2, 3), blk),
		"table": token(mk(1, 2), &telemetrydb.Block{Table: "b"}), "salt": token(mk(1, 2), &telemetrydb.Block{Table: "a", Salt: "x"}),
	} {
		if other == base {
			t.Errorf("%s: the same token for another block", name)
		}
	}
}
