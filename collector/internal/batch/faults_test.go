package batch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sidetone/collector/internal/chengine/enginetest"
	"sidetone/collector/internal/ingest"
	"sidetone/collector/internal/telemetrydb"
	"sidetone/shared/telemetry"
)

// cutter stands before the engine's socket and can cut off answers to inserts: the rows
// are stored, and nobody is told.
type cutter struct {
	ln     net.Listener
	target string
	wg     sync.WaitGroup

	mu   sync.Mutex
	left int // answers still to cut; guarded by mu
	cut  int // answers cut that said "stored"; guarded by mu
}

func newCutter(t *testing.T, target string) *cutter {
	t.Helper()
	dir, err := os.MkdirTemp("", "cut")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &cutter{target: target}
	if c.ln, err = net.Listen("unix", filepath.Join(dir, "s")); err != nil {
		t.Fatal(err)
	}
	c.wg.Go(func() {
		for {
			conn, err := c.ln.Accept()
			if err != nil {
				return
			}
			c.wg.Go(func() { c.serve(conn) })
		}
	})
	t.Cleanup(func() { c.ln.Close(); c.wg.Wait() })
	return c
}

func (c *cutter) serve(down net.Conn) {
	defer down.Close()
	up, err := net.Dial("unix", c.target)
	if err != nil {
		return
	}
	defer up.Close()
	var mu sync.Mutex
	inserting := false // the request in work is an insert; guarded by mu
	c.wg.Go(func() {
		defer up.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := down.Read(buf)
			if bytes.HasPrefix(buf[:n], []byte("POST ")) {
				line, _, _ := bytes.Cut(buf[:n], []byte("\r\n"))
				mu.Lock()
				inserting = bytes.Contains(line, []byte("INSERT"))
				mu.Unlock()
			}
			if _, werr := up.Write(buf[:n]); err != nil || werr != nil {
				return
			}
		}
	})
	buf := make([]byte, 64<<10)
	for {
		n, err := up.Read(buf)
		mu.Lock()
		drop := inserting && n > 0 && c.take(bytes.HasPrefix(buf[:n], []byte("HTTP/1.1 200")))
		mu.Unlock()
		if drop {
			return
		}
		if _, werr := down.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

func (c *cutter) take(stored bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left == 0 {
		return false
	}
	c.left--
	if stored {
		c.cut++
	}
	return true
}

// TestReplyLost: the engine stores, its answer is lost. The same block goes again under
// its token, and nothing is there twice, not even in the raw tables.
func TestReplyLost(t *testing.T) {
	sup, _ := enginetest.Start(t, t.TempDir())
	c := newCutter(t, sup.Socket())
	db, err := telemetrydb.Open(t.Context(), telemetrydb.Config{Socket: c.ln.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	const cuts = 12
	c.mu.Lock()
	c.left = cuts
	c.mu.Unlock()
	b := New(Config{MaxWait: 5 * time.Millisecond, RetryMin: time.Millisecond, RetryMax: 5 * time.Millisecond}, quiet(db))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { b.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	for seq := range uint64(15) {
		deliver(t, b, seq)
	}
	if got := sql(t, db, "SELECT count(), uniqExact(seq, idx) FROM sidetone.probe_window_raw"); got != "45\t45" {
		t.Errorf("windows and distinct ones: %s", got)
	}
	if got := sql(t, db, "SELECT count(), uniqExact(seq) FROM sidetone.frame_raw"); got != "15\t15" {
		t.Errorf("frames and distinct ones: %s", got)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut != cuts || b.Stats().Retries < cuts {
		t.Errorf("%d answers that said stored were cut off, %d tries again: the test shows nothing", c.cut, b.Stats().Retries)
	}
}

// deliver hands a record over and waits until it is stored.
func deliver(t *testing.T, b *Batcher, seq uint64) {
	t.Helper()
	done := make(chan error, 1)
	set := &telemetry.Set{}
	for i := range 3 {
		w := window(i, seq)
		w.Observed = telemetry.MS(time.Now().Truncate(24 * time.Hour)) // the same record has the same rows each time
		set.ProbeWindows = append(set.ProbeWindows, w)
	}
	if !b.Offer(&ingest.Delivery{Source: telemetry.Source{Tenant: 1, Site: 1, Agent: 1}, Epoch: 1, Seq: seq, ReceivedAt: time.Now(), Rows: set, Done: func(err error) { done <- err }}) {
		t.Fatalf("seq %d finds no room", seq)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Fatalf("seq %d: %v", seq, err)
		}
	case <-time.After(time.Minute):
		t.Fatalf("seq %d is not answered: %+v", seq, b.Stats())
	}
}

// TestWindowOverflow: records that come again after more inserts than ClickHouse
// remembers tokens of are stored once more, and still counted once. (Merges, which would
// hide that, are held back.)
func TestWindowOverflow(t *testing.T) {
	db, _ := openDB(t)
	const window, batches = 5, 20
	for _, table := range []string{"probe_window_raw", telemetrydb.FrameTable} {
		if err := db.Exec(t.Context(), fmt.Sprintf("ALTER TABLE sidetone.%s MODIFY SETTING non_replicated_deduplication_window = %d, max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1", table, window)); err != nil {
			t.Fatal(err)
		}
	}
	b := New(Config{MaxWait: time.Millisecond}, quiet(db))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { b.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	for range 2 {
		for seq := range uint64(batches) {
			deliver(t, b, seq)
		}
	}
	if got := sql(t, db, "SELECT count() > "+fmt.Sprint(3*batches+3*batches/2)+" FROM sidetone.probe_window_raw"); got != "1" {
		t.Errorf("the window did not overflow: the test shows nothing")
	}
	for view, want := range map[string]int{"probe_window": 3 * batches, "frame": batches} {
		if got := sql(t, db, "SELECT count(), uniqExact(epoch, seq, "+map[string]string{"probe_window": "idx", "frame": "seq"}[view]+") FROM sidetone."+view); got != fmt.Sprintf("%d\t%d", want, want) {
			t.Errorf("%s: %s, want %d", view, got, want)
		}
	}
}

// slowStore takes its time for each insert.
type slowStore struct {
	*store
	each time.Duration
}

func (s *slowStore) InsertBlock(ctx context.Context, b *telemetrydb.Block, token string) error {
	time.Sleep(s.each)
	return s.store.InsertBlock(ctx, b, token)
}

// TestSlowInserts: when an insert takes 5 s, batches grow; there are never more inserts.
func TestSlowInserts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := &slowStore{newStore(nil), 5 * time.Second}, newLedger()
		b := New(Config{}, quiet(s))
		stop := run(b)
		const perSecond, seconds = 20, 120
		for i := range uint64(perSecond * seconds) {
			if !b.Offer(l.delivery(i, windows(1))) {
				t.Fatal("no room")
			}
			time.Sleep(time.Second / perSecond)
		}
		time.Sleep(time.Minute)
		stop()
		if acked, _, _ := l.count(); acked != perSecond*seconds {
			t.Fatalf("%d acked", acked)
		}
		batches := 0
		for _, b := range s.blocks {
			if b.Table == "probe_window_raw" {
				batches++
			}
		}
		if most := seconds/5 + 2; batches > most || batches == 0 {
			t.Errorf("%d inserts into one table, at most %d in this time", batches, most)
		}
	})
}

// TestTroubleIsNoPoison: what the server suffers from is tried again with the same block,
// what is wrong with the content is not.
func TestTroubleIsNoPoison(t *testing.T) {
	for _, trouble := range []error{
		errors.New("too many parts"), io.ErrUnexpectedEOF, context.DeadlineExceeded, &net.OpError{Op: "dial", Err: errors.New("refused")},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, l := newStore(func(try int, b *telemetrydb.Block) error {
				if try < 20 {
					return trouble
				}
				return nil
			}), newLedger()
			b := New(Config{}, quiet(s))
			stop := run(b)
			b.Offer(l.delivery(1, windows(2)))
			time.Sleep(10 * time.Minute)
			stop()
			if acked, _, _ := l.count(); acked != 1 || b.Stats().Retries != 19 || len(s.letters) != 0 {
				t.Errorf("%v: %d acked, %+v", trouble, acked, b.Stats())
			}
		})
	}
}
