// Package probe measures targets: it paces the attempts, gathers their outcomes in
// windows, and turns each closed window into a row.
//
// Attempts of a target are evenly spaced and the targets are spread over the
// interval; a stall is never made up for. Windows are multiples of their length of
// wall time, so those of all agents align, but run on monotonic time. A window is
// closed when the timeout of its last attempt has passed; windows that close at the
// same moment leave as one Set. The first window of a target may hold fewer
// attempts. On stop, windows that are over and answered are emitted, others are
// discarded: a half-measured window is not a measurement.
//
// The methods of measuring are child packages; package methods lists them.
package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"sidetone/shared/telemetry"
)

// closeSlack gives attempts that time out at the last moment time to say so.
const closeSlack = 50 * time.Millisecond

// Deps is what a prober is given by code.
type Deps struct {
	// Emit takes the rows; it must not block for long.
	Emit func(*telemetry.Set)
	// Methods are the ways of measuring: methods.All().
	Methods map[telemetry.Method]OpenDriver
	Log     zerolog.Logger
}

// Prober measures the targets of one configuration.
type Prober struct {
	cfg    Config
	deps   Deps
	log    zerolog.Logger
	lookup lookupFunc
	count  counters

	align atomic.Pointer[alignment]

	mu        sync.Mutex // guards reflector and changed
	reflector string
	changed   chan struct{} // closed when reflector changes
}

type counters struct {
	overrun, foreign, afterClose, discarded atomic.Uint64
}

// Stats counts what is not in the rows.
type Stats struct {
	// OverrunTotal is the attempts that were due and not made.
	OverrunTotal uint64
	// ForeignTotal is the packets that claimed to be answers and were not.
	ForeignTotal uint64
	// AfterCloseTotal is late or doubled answers whose window was closed already.
	AfterCloseTotal uint64
	// DiscardedTotal is the partial windows thrown away at the stop.
	DiscardedTotal uint64
}

// New checks the configuration and builds a prober; nothing is opened before Run.
func New(cfg Config, deps Deps) (*Prober, error) {
	if errs := cfg.Validate(); len(errs) > 0 {
		return nil, fmt.Errorf("configure probes: %w", errors.Join(errs...))
	}
	if cfg.Window == 0 {
		cfg.Window = DefaultWindow
	}
	cfg.Targets = slices.Clone(cfg.Targets)
	for i, t := range cfg.Targets {
		cfg.Targets[i] = t.withDefaults()
		if deps.Methods[t.Method] == nil {
			return nil, fmt.Errorf("configure probes: no driver for method %q: pass methods.All() in Deps.Methods", t.Method)
		}
	}
	return &Prober{
		cfg: cfg, deps: deps, log: deps.Log, changed: make(chan struct{}),
		lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		},
	}, nil
}

// SetReflector tells where the collector's reflector is (host:port); targets with
// the address "collector" are measured from then on. Empty means nowhere.
func (p *Prober) SetReflector(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reflector == addr {
		return
	}
	p.reflector = addr
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Prober) reflectorAddr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reflector
}

func (p *Prober) reflectorChanged() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// OverrunTotal is the number of attempts that were due and not made.
func (p *Prober) OverrunTotal() uint64 { return p.count.overrun.Load() }

// Stats returns the counters.
func (p *Prober) Stats() Stats {
	return Stats{
		OverrunTotal: p.count.overrun.Load(), ForeignTotal: p.count.foreign.Load(),
		AfterCloseTotal: p.count.afterClose.Load(), DiscardedTotal: p.count.discarded.Load(),
	}
}

// Run measures until ctx ends. It may be called once.
func (p *Prober) Run(ctx context.Context) error {
	clk := clock{base: time.Now()}
	al := align(0, clk.base, p.cfg.Window)
	p.align.Store(&al)

	targets, closeAll, err := p.open(clk)
	defer closeAll()
	if err != nil {
		return err
	}
	var loops sync.WaitGroup
	for _, m := range targets {
		loops.Go(func() { m.run(ctx) })
		loops.Go(func() { p.resolve(ctx, m) })
	}
	p.closeWindows(ctx, clk, targets)
	loops.Wait()
	p.emit(clk.now(), targets, true)
	for _, m := range targets {
		p.count.discarded.Add(uint64(len(m.windows)))
	}
	return nil
}

// open makes the drivers and sessions; the function it returns closes them all.
func (p *Prober) open(clk clock) ([]*measured, func(), error) {
	drivers := make(map[telemetry.Method]Driver)
	var targets []*measured
	closeAll := func() {
		for _, m := range targets {
			if err := m.session.Close(); err != nil {
				p.log.Debug().Str("target", m.target.Name).Err(err).Msg("close probe session")
			}
		}
		for _, d := range drivers {
			if err := d.Close(); err != nil {
				p.log.Debug().Err(err).Msg("close probe driver")
			}
		}
	}
	for _, t := range p.cfg.Targets {
		d := drivers[t.Method]
		if d == nil {
			d = p.deps.Methods[t.Method](p.log.With().Str("probe", string(t.Method)).Logger())
			drivers[t.Method] = d
		}
		m := &measured{target: t, id: t.ID(), clock: clk, count: &p.count,
			align: func() alignment { return *p.align.Load() }, retry: make(chan struct{}, 1)}
		s, err := d.Open(t, m)
		if err != nil {
			return targets, closeAll, fmt.Errorf("open target %s (%s %s): %w", t.Name, t.Method, t.Address, err)
		}
		m.session = s
		targets = append(targets, m)
	}
	return targets, closeAll, nil
}

// closeWindows emits what closes until ctx ends.
func (p *Prober) closeWindows(ctx context.Context, clk clock, targets []*measured) {
	var timeouts []time.Duration
	for _, m := range targets {
		timeouts = append(timeouts, m.target.Timeout)
	}
	slices.Sort(timeouts)
	timeouts = slices.Compact(timeouts)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := clk.now()
		timer.Reset(nextClose(*p.align.Load(), timeouts, now) - now)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		now = clk.now()
		p.emit(now-closeSlack, targets, false)
		if wall := time.Now(); p.align.Load().stepped(now, wall) {
			al := align(now, wall, p.cfg.Window)
			p.align.Store(&al)
			p.log.Info().Msg("the wall clock was set: windows are aligned anew")
		}
	}
}

// nextClose is the first instant after now at which windows close.
func nextClose(al alignment, timeouts []time.Duration, now time.Duration) time.Duration {
	next := al.boundary(now) + al.length // to look at the wall clock, if for nothing else
	for _, t := range timeouts {
		t += closeSlack
		next = min(next, al.boundary(now-t)+al.length+t)
	}
	return next
}

func (p *Prober) emit(now time.Duration, targets []*measured, final bool) {
	set := &telemetry.Set{}
	for _, m := range targets {
		m.close(now, final, set)
	}
	if len(set.ProbeWindows) > 0 {
		p.deps.Emit(set)
	}
}
