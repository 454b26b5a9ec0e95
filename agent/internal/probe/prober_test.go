package probe

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"sidetone/shared/telemetry"
)

// fake is a method whose answers a test decides. It runs in a bubble of virtual time.
type fake struct {
	answer func(ctx context.Context, name string, r Request) Attempt

	mu    sync.Mutex // guards what follows
	calls map[string][]time.Time
	dsts  map[string][]netip.AddrPort
	sinks map[string]Sink
}

type fakeSession struct {
	f    *fake
	name string
}

func newFake(answer func(context.Context, string, Request) Attempt) *fake {
	return &fake{answer: answer, calls: map[string][]time.Time{}, dsts: map[string][]netip.AddrPort{}, sinks: map[string]Sink{}}
}

func (f *fake) Open(t Target, sink Sink) (Session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sinks[t.Name] = sink
	return &fakeSession{f, t.Name}, nil
}

func (f *fake) Close() error { return nil }

func (s *fakeSession) Close() error { return nil }

func (s *fakeSession) Attempt(ctx context.Context, r Request) Attempt {
	s.f.mu.Lock()
	s.f.calls[s.name] = append(s.f.calls[s.name], time.Now())
	s.f.dsts[s.name] = append(s.f.dsts[s.name], r.Dst)
	s.f.mu.Unlock()
	return s.f.answer(ctx, s.name, r)
}

// after answers after a delay, or times out.
func after(ctx context.Context, r Request, d time.Duration) Attempt {
	start := time.Now()
	answer, timeout := time.NewTimer(d), time.NewTimer(time.Until(r.Deadline))
	defer answer.Stop()
	defer timeout.Stop()
	select {
	case <-answer.C:
		return Attempt{Received: time.Now(), RTT: time.Since(start)}
	case <-timeout.C:
	case <-ctx.Done():
	}
	return Lost(FaultTimeout, "")
}

func quick(ctx context.Context, _ string, r Request) Attempt {
	return after(ctx, r, 20*time.Millisecond)
}

// emitted gathers what a prober emits, with the instant.
type emitted struct {
	sets []*telemetry.Set
	at   []time.Time
}

func (e *emitted) windows(name string, targets []Target) []telemetry.ProbeWindow {
	var ws []telemetry.ProbeWindow
	for _, t := range targets {
		if t.Name != name {
			continue
		}
		for _, s := range e.sets {
			for _, w := range s.ProbeWindows {
				if w.Target == t.ID() {
					ws = append(ws, w)
				}
			}
		}
	}
	return ws
}

// simulate runs a prober for a while of virtual time; during, if given, runs beside
// it. All of it must be called inside a bubble.
func simulate(t *testing.T, f *fake, cfg Config, d time.Duration, during func(p *Prober)) (*Prober, *emitted) {
	t.Helper()
	out := &emitted{}
	methods := map[telemetry.Method]OpenDriver{}
	for _, m := range []telemetry.Method{telemetry.MethodICMP, telemetry.MethodSTAMP, telemetry.MethodSTUN, telemetry.MethodTCP} {
		methods[m] = func(zerolog.Logger) Driver { return f }
	}
	p, err := New(cfg, Deps{Methods: methods, Log: zerolog.Nop(), Emit: func(s *telemetry.Set) {
		out.sets, out.at = append(out.sets, s), append(out.at, time.Now())
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	if during != nil {
		during(p)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return p, out
}

func icmpTarget(i int) Target {
	return Target{Method: telemetry.MethodICMP, Name: "t" + strconv.Itoa(i), Address: "192.0.2." + strconv.Itoa(1+i%250)}
}

func TestPaceAndWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(3*time.Second + 141*time.Millisecond) // a bubble starts on a boundary
		f := newFake(quick)
		var cfg Config
		for i := range 50 {
			cfg.Targets = append(cfg.Targets, icmpTarget(i))
		}
		p, out := simulate(t, f, cfg, 58*time.Second, nil) // 3.1 s … 61.1 s

		var first []time.Duration
		for name, calls := range f.calls {
			for i := 1; i < len(calls); i++ {
				if d := calls[i].Sub(calls[i-1]); d != time.Second {
					t.Fatalf("%s: %s between attempts, want 1s", name, d)
				}
			}
			first = append(first, calls[0].Sub(calls[0].Truncate(time.Second)))
		}
		slices.Sort(first)
		largest := time.Duration(0)
		for i := 1; i < len(first); i++ {
			largest = max(largest, first[i]-first[i-1])
		}
		if largest > 250*time.Millisecond { // 20 ms would be even; chance alone stays far below this
			t.Errorf("targets are bunched: %s without an attempt", largest)
		}

		// One set for all targets at each boundary + timeout.
		if len(out.sets) != 6 {
			t.Fatalf("%d sets, want 6: %v", len(out.sets), out.at)
		}
		for i, s := range out.sets {
			if len(s.ProbeWindows) != 50 || len(s.Targets) != 50 {
				t.Errorf("set %d has %d windows of %d targets, want all 50", i, len(s.ProbeWindows), len(s.Targets))
			}
			past := out.at[i].Sub(out.at[i].Truncate(DefaultWindow))
			if past < DefaultTimeout || past > DefaultTimeout+200*time.Millisecond {
				t.Errorf("set %d leaves %s after a boundary, want about the timeout of 1s", i, past)
			}
			for _, w := range s.ProbeWindows {
				if w.Observed%10000 != 0 || w.LengthMS != 10000 {
					t.Fatalf("window at %d of %d ms is not aligned", w.Observed, w.LengthMS)
				}
				if want := uint32(10); i > 0 && w.Sent != want || w.Sent != w.Received || len(w.RTTUS) != int(w.Sent) {
					t.Fatalf("set %d: %+v", i, w)
				}
				if w.RTTP50US != 20000 || w.Fault != "" || w.Lost != 0 {
					t.Fatalf("set %d: %+v", i, w)
				}
			}
		}
		if s := p.Stats(); s.OverrunTotal != 0 || s.AfterCloseTotal != 0 || s.DiscardedTotal != 50 {
			t.Errorf("stats %+v; want only 50 partial windows discarded", s)
		}
	})
}

func TestStallIsNotMadeUpFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The method is serial and holds up its target for 5.6 s, once.
		stalled := false
		f := newFake(func(ctx context.Context, name string, r Request) Attempt {
			if !stalled {
				stalled = true
				time.Sleep(5600 * time.Millisecond)
			}
			return after(ctx, r, time.Millisecond)
		})
		target := Target{Method: telemetry.MethodTCP, Name: "t", Address: "192.0.2.1:80"}
		p, _ := simulate(t, f, Config{Targets: []Target{target}}, 30*time.Second, nil)
		calls := f.calls["t"]
		if d := calls[1].Sub(calls[0]); d != 6*time.Second {
			t.Errorf("the next attempt came after %s, want the next instant of the grid, 6s", d)
		}
		for i := 2; i < len(calls); i++ {
			if d := calls[i].Sub(calls[i-1]); d != time.Second {
				t.Fatalf("burst: %s between attempts", d)
			}
		}
		if p.OverrunTotal() != 5 {
			t.Errorf("%d overruns, want 5", p.OverrunTotal())
		}
	})
}

// A pacing goroutine that does not get to run misses instants: what was due is given
// up and counted, and the grid stays.
func TestMissedInstants(t *testing.T) {
	const s = time.Second
	cases := []struct {
		name      string
		late      time.Duration
		wantSkip  uint64
		wantAfter time.Duration
	}{
		{"in time", 0, 0, 0},
		{"late by less than half", s/2 - 1, 0, 0},
		{"late by half", s / 2, 1, s},
		{"late by one and a bit", s + s/4, 1, s},
		{"late by hours", 2*time.Hour + s*3/5, 7201, 7201 * s},
	}
	for _, c := range cases {
		skip := missed(c.late, s)
		if uint64(skip) != c.wantSkip || skip*s != c.wantAfter {
			t.Errorf("%s: %d given up, want %d", c.name, skip, c.wantSkip)
		}
	}
}

func TestOverlappingAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(func(ctx context.Context, _ string, r Request) Attempt { return after(ctx, r, 900*time.Millisecond) })
		target := icmpTarget(0)
		target.Interval = 200 * time.Millisecond
		p, out := simulate(t, f, Config{Targets: []Target{target}}, 32*time.Second, nil)
		ws := out.windows("t0", []Target{target})
		if len(ws) != 3 {
			t.Fatalf("%d windows, want 3", len(ws))
		}
		for _, w := range ws {
			if w.Sent != 50 || w.Received != 50 || w.Reordered != 0 {
				t.Errorf("%+v", w)
			}
		}
		if p.OverrunTotal() != 0 {
			t.Errorf("%d overruns", p.OverrunTotal())
		}
	})
}

func TestLossFaultsAndEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(nil)
		f.answer = func(ctx context.Context, name string, r Request) Attempt {
			f.mu.Lock()
			sink := f.sinks[name]
			f.mu.Unlock()
			switch r.Seq % 10 {
			case 2:
				return Lost(FaultRefused, "port closed\n"+string(make([]byte, 400)))
			case 4:
				a := after(ctx, r, time.Hour)
				sink.Late(r.Seq, a.Far)
				return a
			case 5:
				sink.Duplicate(r.Seq)
				sink.Foreign()
			}
			return quick(ctx, name, r)
		}
		target := icmpTarget(0)
		p, out := simulate(t, f, Config{Targets: []Target{target}}, 12*time.Second, nil)
		ws := out.windows("t0", []Target{target})
		if len(ws) != 1 {
			t.Fatalf("%d windows", len(ws))
		}
		w := ws[0]
		if w.Sent != 10 || w.Lost != 2 || w.Received != 8 || w.Late != 1 || w.Duplicated != 1 {
			t.Errorf("%+v", w)
		}
		if w.Fault != FaultTimeout || w.Detail != "" {
			t.Errorf("fault %q, detail %q; want those of the last lost attempt, a timeout", w.Fault, w.Detail)
		}
		if p.Stats().ForeignTotal != 1 {
			t.Errorf("%+v", p.Stats())
		}
	})
}

func TestLateAndDoubledAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(quick)
		p, _ := simulate(t, f, Config{Targets: []Target{icmpTarget(0)}}, 25*time.Second, func(*Prober) {
			time.Sleep(20 * time.Second)
			f.mu.Lock()
			sink := f.sinks["t0"]
			f.mu.Unlock()
			sink.Duplicate(0) // of the first window, long closed
			sink.Late(1, Attempt{}.Far)
		})
		if got := p.Stats().AfterCloseTotal; got != 2 {
			t.Errorf("%d answers after the close, want 2", got)
		}
	})
}

func TestStateChangeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		f := newFake(func(ctx context.Context, name string, r Request) Attempt {
			a := quick(ctx, name, r)
			a.State, a.Detail = "198.51.100.1", "198.51.100.1:4000"
			if s := time.Since(begin); s > 15*time.Second && s < 35*time.Second {
				a.State = "203.0.113.9"
			}
			return a
		})
		target := Target{Method: telemetry.MethodSTUN, Name: "public", Address: "192.0.2.1"}
		_, out := simulate(t, f, Config{Targets: []Target{target}}, 62*time.Second, nil)
		var got []telemetry.StateChange
		for _, s := range out.sets {
			got = append(got, s.StateChanges...)
		}
		if len(got) != 2 {
			t.Fatalf("%d events, want one for each change: %+v", len(got), got)
		}
		a, b := got[0], got[1]
		if a.From != "198.51.100.1" || a.To != "203.0.113.9" || b.From != a.To || b.To != a.From {
			t.Errorf("%+v", got)
		}
		if a.Subject != telemetry.SubjectTarget || a.Item != target.ID() || a.Name != "public" || a.Detail != "public address changed" {
			t.Errorf("%+v", a)
		}
		if d := a.Observed.Time().Sub(begin); d < 15*time.Second || d > 21*time.Second {
			t.Errorf("observed after %s", d)
		}
	})
}

func TestReflectorTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(quick)
		target := Target{Method: telemetry.MethodSTAMP, Name: "collector", Address: AddressCollector}
		_, out := simulate(t, f, Config{Targets: []Target{target}}, 65*time.Second, func(p *Prober) {
			time.Sleep(25 * time.Second)
			f.mu.Lock()
			if n := len(f.calls["collector"]); n != 0 {
				t.Errorf("%d attempts before the reflector is known", n)
			}
			f.mu.Unlock()
			p.SetReflector("192.0.2.7:8862")
			time.Sleep(10 * time.Second)
			p.SetReflector("[2001:db8::7]:8862")
		})
		ws := out.windows("collector", []Target{target})
		if len(ws) != 4 { // 20…30 (partly), 30…40, 40…50, 50…60
			t.Fatalf("%d windows, want 4: before the address is known nothing is lost", len(ws))
		}
		for _, w := range ws {
			if w.Lost != 0 || w.Sent == 0 {
				t.Errorf("%+v", w)
			}
		}
		dsts := slices.Compact(f.dsts["collector"])
		want := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.7:8862"), netip.MustParseAddrPort("[2001:db8::7]:8862")}
		if !slices.Equal(dsts, want) {
			t.Errorf("measured %v, want %v", dsts, want)
		}
	})
}

func TestNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(quick)
		target := Target{Method: telemetry.MethodICMP, Name: "pbx", Address: "pbx.example"}
		lookups := 0
		p, out := simulateNamed(t, f, target, 150*time.Second, func(context.Context, string) ([]netip.Addr, error) {
			lookups++
			a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
			switch {
			case lookups <= 3: // 0, 5 and 10 s
				return nil, errors.New("no such host")
			case lookups == 4:
				return []netip.Addr{a, b}, nil
			}
			return []netip.Addr{b, a}, nil // rotated: the address must stay
		})
		ws := out.windows("pbx", []Target{target})
		if ws[0].Fault != FaultResolve || ws[0].Lost != 10 || ws[0].Detail != "no such host" {
			t.Errorf("unresolved: %+v", ws[0])
		}
		if last := ws[len(ws)-1]; last.Lost != 0 {
			t.Errorf("resolved: %+v", last)
		}
		if lookups < 6 || lookups > 7 {
			t.Errorf("%d look-ups in 150 s, want one a minute after the failures", lookups)
		}
		if got := slices.Compact(f.dsts["pbx"]); len(got) != 1 || got[0].Addr().String() != "192.0.2.1" {
			t.Errorf("measured %v, want one address throughout", got)
		}
		if p.OverrunTotal() != 0 {
			t.Error("resolving is in the way of the pace")
		}
	})
}

// simulateNamed is simulate with a resolver of its own.
func simulateNamed(t *testing.T, f *fake, target Target, d time.Duration, lookup lookupFunc) (*Prober, *emitted) {
	t.Helper()
	out := &emitted{}
	p, err := New(Config{Targets: []Target{target}}, Deps{Log: zerolog.Nop(),
		Methods: map[telemetry.Method]OpenDriver{target.Method: func(zerolog.Logger) Driver { return f }},
		Emit:    func(s *telemetry.Set) { out.sets = append(out.sets, s) }})
	if err != nil {
		t.Fatal(err)
	}
	p.lookup = lookup
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := p.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return p, out
}

func TestStopEmitsWhatIsComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(quick)
		// Stop 0.5 s after a boundary: the window is over and answered, its timeout is not.
		_, out := simulate(t, f, Config{Targets: []Target{icmpTarget(0)}}, 10*time.Second+500*time.Millisecond, nil)
		if len(out.sets) != 1 || out.sets[0].ProbeWindows[0].Sent != 10 {
			t.Errorf("%d sets", len(out.sets))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		f := newFake(func(ctx context.Context, _ string, r Request) Attempt { return after(ctx, r, time.Hour) })
		target := icmpTarget(0)
		target.Timeout = 3 * time.Second
		p, out := simulate(t, f, Config{Targets: []Target{target}}, 10*time.Second+500*time.Millisecond, nil)
		if len(out.sets) != 0 || p.Stats().DiscardedTotal == 0 {
			t.Errorf("%d sets, %+v: attempts cut short by the stop are not losses", len(out.sets), p.Stats())
		}
	})
}
