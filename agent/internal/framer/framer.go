// Package framer gathers rows into sets, encodes each set once as a payload, and hands
// it to the spool. Samples wait a little for company; what changed leaves at once. A
// set that is too large for one payload is split, keeping the order of its rows. When
// the spool does not take a payload it is kept and tried again, up to a bound; beyond
// that the oldest rows go, counted.
package framer

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"sidetone/shared/telemetry"
	"sidetone/shared/wire"
)

// Config has the limits; zero values mean the defaults.
type Config struct {
	// Every is how long a row waits for company at most.
	Every time.Duration
	// Live is that wait for probe windows, which people watch.
	Live time.Duration
	// Urgent is that wait for state changes, link events and gaps.
	Urgent time.Duration
	// MaxRows and MaxBytes bound one payload.
	MaxRows, MaxBytes int
	// MaxPending bounds the rows that wait, also while the sink fails.
	MaxPending int

	Log zerolog.Logger
	// Dropped is told of rows that were dropped; may be nil.
	Dropped func(*telemetry.Set)
}

// Defaults of Config. DefaultLive weighs bytes against age. For ten targets and a PBX,
// with windows that end at any time, one agent sends (BenchmarkLive of wire):
//
//	Live   frames in 10 s   bytes a sample   a window waits, on average
//	 1 s       5.1              3.7               0.7 s
//	 2 s       3.5              3.5               1.4 s
//	 3 s       2.5              3.3               1.8 s
//	10 s       1.0              3.0               5.7 s
//
// Each frame costs some 120 bytes of headers and its ack on top (0.36 bytes a sample
// for every frame in 10 s). Two seconds keep what is on the page about three seconds
// old at most.
const (
	DefaultEvery      = 10 * time.Second
	DefaultLive       = 2 * time.Second
	DefaultUrgent     = 100 * time.Millisecond
	DefaultMaxRows    = 2000
	DefaultMaxBytes   = 120 << 10
	DefaultMaxPending = 20_000
)

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&c.Every, DefaultEvery}, {&c.Live, DefaultLive}, {&c.Urgent, DefaultUrgent}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	for _, d := range []struct {
		field *int
		value int
	}{{&c.MaxRows, DefaultMaxRows}, {&c.MaxBytes, DefaultMaxBytes}, {&c.MaxPending, DefaultMaxPending}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	c.MaxRows = min(c.MaxRows, wire.MaxRows)
	c.MaxBytes = min(c.MaxBytes, wire.MaxPayload)
	return c
}

// Sink takes one payload and the rows that are in it. An error means: not taken, try
// again later.
type Sink = func(class wire.Class, payload []byte, set *telemetry.Set) error

// Framer is safe for concurrent use; Run is called once.
type Framer struct {
	cfg     Config
	sink    Sink
	wake    chan struct{} // the deadline moved forward
	dropped atomic.Uint64

	mu       sync.Mutex // guards the following
	current  *telemetry.Set
	deadline time.Time // when current must leave; zero when it is empty
	pending  int       // rows in current and in queue

	queue []*parcel // only used by flush, which Run alone calls
}

// parcel is a set on its way: encoded when payload is there.
type parcel struct {
	set     *telemetry.Set
	payload []byte
}

// New builds a framer.
func New(cfg Config, sink Sink) *Framer {
	return &Framer{cfg: cfg.withDefaults(), sink: sink, wake: make(chan struct{}, 1), current: &telemetry.Set{}}
}

// Add takes the rows of set, which the caller must not change afterwards.
func (f *Framer) Add(set *telemetry.Set) {
	n := set.Len()
	if n == 0 {
		return
	}
	wait := f.cfg.Every
	if len(set.ProbeWindows) > 0 {
		wait = min(wait, f.cfg.Live)
	}
	if classOf(set) == wire.ClassState {
		wait = min(wait, f.cfg.Urgent)
	}
	f.mu.Lock()
	if f.pending+n > f.cfg.MaxPending && f.current.Len() > 0 {
		// Run does not keep up, which a failing sink explains: the rows gathered last
		// give way, as those in the queue are older and already in order.
		f.drop(f.current, "the spool does not take them")
		f.pending -= f.current.Len()
		f.current, f.deadline = &telemetry.Set{}, time.Time{}
	}
	f.current.Append(set)
	f.pending += n
	if f.current.Len() >= f.cfg.MaxRows {
		wait = 0
	}
	due := time.Now().Add(wait)
	sooner := f.deadline.IsZero() || due.Before(f.deadline)
	if sooner {
		f.deadline = due
	}
	f.mu.Unlock()
	if sooner {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
}

// DroppedTotal counts dropped rows.
func (f *Framer) DroppedTotal() uint64 { return f.dropped.Load() }

// Run hands sets to the sink until ctx ends, then what is left.
func (f *Framer) Run(ctx context.Context) error {
	timer := time.NewTimer(f.cfg.Every)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			f.Flush()
			return nil
		case <-f.wake:
		case <-timer.C:
		}
		timer.Reset(f.step())
	}
}

// Flush hands on what is left, and counts as dropped what the sink does not take. It
// must not be called while Run runs.
func (f *Framer) Flush() {
	f.flush()
	f.giveUp()
}

// step flushes when it is time and tells how long to wait.
func (f *Framer) step() time.Duration {
	f.mu.Lock()
	deadline := f.deadline
	f.mu.Unlock()
	now := time.Now()
	if len(f.queue) > 0 || !deadline.IsZero() && !deadline.After(now) {
		f.flush()
		return f.cfg.Every
	}
	if deadline.IsZero() {
		return f.cfg.Every
	}
	return min(f.cfg.Every, deadline.Sub(now))
}

// flush encodes what was gathered and hands it on until the sink refuses.
func (f *Framer) flush() {
	f.mu.Lock()
	if f.current.Len() > 0 {
		f.queue = append(f.queue, &parcel{set: f.current})
		f.current, f.deadline = &telemetry.Set{}, time.Time{}
	}
	f.mu.Unlock()
	for len(f.queue) > 0 {
		p := f.queue[0]
		if !f.encode(p) {
			continue // split or dropped: the queue has changed
		}
		if err := f.sink(classOf(p.set), p.payload, p.set); err != nil {
			f.cfg.Log.Warn().Err(err).Int("rows", p.set.Len()).Msg("payload not taken by the spool; it is kept and tried again")
			f.bound()
			return
		}
		f.done(p)
	}
}

func (f *Framer) done(p *parcel) {
	f.queue = f.queue[1:]
	f.mu.Lock()
	f.pending -= p.set.Len()
	f.mu.Unlock()
}

// encode makes the payload of the first in the queue; false means that it was split or
// dropped instead.
func (f *Framer) encode(p *parcel) bool {
	if p.payload != nil {
		return true
	}
	if p.set.Len() <= f.cfg.MaxRows {
		b, err := wire.EncodePayload(p.set)
		var large *wire.TooLargeError
		switch {
		case err == nil && len(b) <= f.cfg.MaxBytes:
			p.payload = b
			return true
		case err != nil && !errors.As(err, &large), p.set.Len() == 1:
			f.drop(p.set, "they cannot be encoded")
			f.done(p)
			return false
		}
	}
	first, second := split(p.set, min(f.cfg.MaxRows, (p.set.Len()+1)/2))
	f.queue = append([]*parcel{{set: first}, {set: second}}, f.queue[1:]...)
	return false
}

// bound drops the oldest parcels while more rows wait than may.
func (f *Framer) bound() {
	for {
		f.mu.Lock()
		over := f.pending > f.cfg.MaxPending
		f.mu.Unlock()
		if !over || len(f.queue) == 0 {
			return
		}
		p := f.queue[0]
		f.drop(p.set, "the spool does not take them")
		f.done(p)
	}
}

// giveUp counts what the last flush could not hand on.
func (f *Framer) giveUp() {
	for len(f.queue) > 0 {
		p := f.queue[0]
		f.drop(p.set, "the agent stops")
		f.done(p)
	}
}

func (f *Framer) drop(set *telemetry.Set, reason string) {
	f.dropped.Add(uint64(set.Len()))
	f.cfg.Log.Error().Int("rows", set.Len()).Str("reason", reason).Msg("rows dropped")
	if f.cfg.Dropped != nil {
		f.cfg.Dropped(set)
	}
}

func classOf(s *telemetry.Set) wire.Class {
	if len(s.StateChanges)+len(s.LinkEvents)+len(s.Gaps) > 0 {
		return wire.ClassState
	}
	return wire.ClassSample
}
