package framer

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"sidetone/shared/telemetry"
	"sidetone/shared/wire"
)

func TestMain(m *testing.M) {
	// The codec's channels must not belong to the bubble of the test that comes first.
	b, err := wire.EncodePayload(changes(1))
	if err == nil {
		_, err = wire.DecodePayload(b)
	}
	if err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// taken is what a sink got.
type taken struct {
	at    time.Duration
	class wire.Class
	set   *telemetry.Set
	size  int
}

// bench runs a framer with a sink that can be told to fail, inside a synctest bubble.
type bench struct {
	t     *testing.T
	f     *Framer
	start time.Time
	fail  atomic.Bool
	mu    sync.Mutex
	sunk  []taken // guarded by mu
	stop  context.CancelFunc
	done  chan struct{}
}

func newBench(t *testing.T, cfg Config) *bench {
	b := &bench{t: t, start: time.Now(), done: make(chan struct{})}
	cfg.Log = zerolog.Nop()
	b.f = New(cfg, func(class wire.Class, payload []byte, set *telemetry.Set) error {
		if b.fail.Load() {
			return errors.New("no")
		}
		back, err := wire.DecodePayload(payload)
		if err != nil || back.Len() != set.Len() {
			t.Errorf("payload does not hold the set: %v", err)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.sunk = append(b.sunk, taken{time.Since(b.start), class, back, len(payload)})
		return nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	b.stop = cancel
	go func() {
		defer close(b.done)
		if err := b.f.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	return b
}

func (b *bench) got() []taken {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.sunk)
}

func (b *bench) finish() {
	b.stop()
	<-b.done
}

func services(from, n int) *telemetry.Set {
	s := &telemetry.Set{}
	for i := range n {
		s.Services = append(s.Services, telemetry.Service{Observed: telemetry.UnixMS(from + i + 1), Name: "svc", Status: "Running"})
	}
	return s
}

func changes(n int) *telemetry.Set {
	s := &telemetry.Set{}
	for i := range n {
		s.StateChanges = append(s.StateChanges, telemetry.StateChange{Observed: telemetry.UnixMS(i + 1), Subject: "trunk", To: "down"})
	}
	return s
}

func windows(n, rtts int) *telemetry.Set {
	s := &telemetry.Set{}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		id := telemetry.ItemID(i%7 + 1)
		w := telemetry.ProbeWindow{Target: id, Observed: telemetry.UnixMS(i + 1), LengthMS: 10_000, Sent: uint32(rtts), Received: uint32(rtts)}
		for range rtts {
			w.RTTUS = append(w.RTTUS, 1+r.Uint32N(1_000_000))
		}
		s.Append(&telemetry.Set{ProbeWindows: []telemetry.ProbeWindow{w},
			Targets: []telemetry.Target{{ID: id, Method: telemetry.MethodICMP, Name: "t", Address: "192.0.2.1"}}})
	}
	return s
}

func TestWhenSetsLeave(t *testing.T) {
	for _, c := range []struct {
		name   string
		add    *telemetry.Set
		class  wire.Class
		within time.Duration
		after  time.Duration
	}{
		{"samples wait for company", services(0, 1), wire.ClassSample, DefaultEvery, DefaultEvery},
		{"probe windows are watched", windows(1, 3), wire.ClassSample, DefaultLive, DefaultLive},
		{"state changes leave at once", changes(1), wire.ClassState, 200 * time.Millisecond, 0},
		{"link events leave at once", &telemetry.Set{LinkEvents: []telemetry.LinkEvent{{Observed: 1, Event: "up"}}}, wire.ClassState, 200 * time.Millisecond, 0},
		{"gaps leave at once", &telemetry.Set{Gaps: []telemetry.Gap{{Observed: 1, Epoch: 1, From: 1, To: 2, Reason: telemetry.GapEvicted}}}, wire.ClassState, 200 * time.Millisecond, 0},
		{"a full set leaves at once", services(0, DefaultMaxRows), wire.ClassSample, time.Millisecond, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, Config{})
				b.f.Add(c.add)
				time.Sleep(time.Minute)
				synctest.Wait()
				if len(b.got()) != 1 || b.got()[0].class != c.class || b.got()[0].at > c.within || b.got()[0].at < c.after {
					t.Errorf("left as %+v, want one of class %d within %s", b.got(), c.class, c.within)
				}
				b.finish()
			})
		})
	}
}

func TestUrgentTakesTheRestAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{})
		b.f.Add(services(0, 3))
		time.Sleep(3 * time.Second)
		b.f.Add(changes(1))
		b.f.Add(changes(1))
		time.Sleep(time.Second)
		synctest.Wait()
		if len(b.got()) != 1 || b.got()[0].set.Len() != 5 {
			t.Errorf("%d payloads, want one with 5 rows", len(b.got()))
		}
		b.finish()
		if b.f.Add(&telemetry.Set{}); len(b.got()) != 1 {
			t.Error("an empty set became a payload")
		}
	})
}

func TestStopFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{})
		b.f.Add(services(0, 2))
		b.finish()
		if len(b.got()) != 1 || b.got()[0].set.Len() != 2 {
			t.Errorf("at the stop %d payloads left", len(b.got()))
		}
		b.f.Add(changes(1))
		b.f.Flush()
		if len(b.got()) != 2 {
			t.Error("rows after the stop were not flushed")
		}
	})
}

func TestSplitKeepsOrderAndTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{MaxRows: 100, MaxBytes: 8 << 10})
		b.f.Add(services(0, 730))
		b.f.Add(windows(90, 100))
		time.Sleep(time.Minute)
		b.finish()
		var last telemetry.UnixMS
		rows, seen := 0, 0
		for _, g := range b.got() {
			if g.size > 8<<10 || g.set.Len() > 100 {
				t.Errorf("payload of %d bytes and %d rows", g.size, g.set.Len())
			}
			known := map[telemetry.ItemID]bool{}
			for _, tg := range g.set.Targets {
				known[tg.ID] = true
			}
			for _, w := range g.set.ProbeWindows {
				if !known[w.Target] || len(w.RTTUS) != 100 {
					t.Errorf("window of target %d came without it, or with %d attempts", w.Target, len(w.RTTUS))
				}
				seen++
			}
			for _, s := range g.set.Services {
				if s.Observed <= last {
					t.Errorf("row %d after %d", s.Observed, last)
				}
				last = s.Observed
			}
			rows += g.set.Len()
		}
		if rows != 820 || seen != 90 || b.f.DroppedTotal() != 0 {
			t.Errorf("%d of 820 rows, %d of 90 windows, %d dropped", rows, seen, b.f.DroppedTotal())
		}
	})
}

func TestFailingSinkIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{})
		b.fail.Store(true)
		b.f.Add(services(0, 3))
		b.f.Add(changes(1))
		time.Sleep(time.Minute)
		synctest.Wait()
		b.fail.Store(false)
		b.f.Add(services(100, 1))
		time.Sleep(2 * DefaultEvery)
		b.finish()
		if len(b.got()) == 0 || b.got()[0].set.Len() != 4 || b.got()[0].class != wire.ClassState {
			t.Fatalf("after the sink came back: %+v", b.got())
		}
		if n := b.f.DroppedTotal(); n != 0 {
			t.Errorf("%d rows dropped", n)
		}
	})
}

func TestPendingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told int
		b := newBench(t, Config{MaxPending: 50, MaxRows: 20, Dropped: func(s *telemetry.Set) { told += s.Len() }})
		b.fail.Store(true)
		total := 0
		for i := range 40 {
			b.f.Add(services(i*10, 10))
			total += 10
			time.Sleep(DefaultEvery)
		}
		synctest.Wait()
		b.fail.Store(false)
		time.Sleep(DefaultEvery)
		b.finish()
		kept := 0
		for _, g := range b.got() {
			kept += g.set.Len()
		}
		dropped := int(b.f.DroppedTotal())
		if kept+dropped != total || kept == 0 || kept > 50 || told != dropped {
			t.Errorf("%d rows: %d kept (at most 50), %d dropped, %d told of", total, kept, dropped, told)
		}
	})
}

func TestStopWithFailingSinkCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var returned []telemetry.Gap
		b := newBench(t, Config{Dropped: func(s *telemetry.Set) { returned = append(returned, s.Gaps...) }})
		b.fail.Store(true)
		b.f.Add(&telemetry.Set{Gaps: []telemetry.Gap{{Observed: 1, Epoch: 1, From: 1, To: 1, Reason: telemetry.GapDamaged}}})
		b.finish()
		if b.f.DroppedTotal() != 1 || len(returned) != 1 {
			t.Errorf("%d dropped, %d gaps returned, want 1 and 1", b.f.DroppedTotal(), len(returned))
		}
	})
}

// TestSplitCutsEveryKind guards split against a kind of rows that it does not know.
func TestSplitCutsEveryKind(t *testing.T) {
	all := windows(2, 1)
	all.Append(services(0, 2))
	all.Append(changes(2))
	all.Append(&telemetry.Set{
		PBXStatuses: make([]telemetry.PBXStatus, 2), Trunks: make([]telemetry.Trunk, 2), SBCs: make([]telemetry.SBC, 2),
		Extensions: make([]telemetry.ExtensionSummary, 2), Backups: make([]telemetry.Backup, 2),
		Licences: make([]telemetry.Licence, 2), EventLog: make([]telemetry.EventLogEntry, 2),
		AgentHealth: make([]telemetry.AgentHealth, 2), LinkEvents: make([]telemetry.LinkEvent, 2), Gaps: make([]telemetry.Gap, 2),
	})
	for n := range all.Len() + 1 {
		a, b := split(all, n)
		if a.Len() != n || a.Len()+b.Len() != all.Len() {
			t.Errorf("split at %d: %d and %d of %d", n, a.Len(), b.Len(), all.Len())
		}
	}
}
