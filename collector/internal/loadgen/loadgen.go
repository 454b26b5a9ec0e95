// Package loadgen is a fleet of agents in one process, for measuring a collector: each
// has its own certificate, epoch, numbers and spool (in memory), and speaks the real
// protocol over shared/link with frames as an agent makes them. What was produced and
// what was acked goes into a ledger, which Verify compares with what is in ClickHouse.
//
// Rows are copied from templates that are made once, so that the fleet takes little of
// the processor that it shares with the collector. An agent is three goroutines: one
// makes records, one connects and sends, one receives. The spool is the only thing that
// they share; it is guarded by its own lock.
package loadgen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"sidetone/shared/link"
	"sidetone/shared/wire"
)

// Config says what the fleet does; zero values mean the defaults.
type Config struct {
	Addr      string        // host:port of the collector; "" is that of the enrolment
	Transport string        // link.TransportQUIC (default) or link.TransportTCP
	Duration  time.Duration // of producing; 0 is until ctx ends
	// Interval is that of probe windows, PBX status and trunks; services come with every
	// sixth, health with every third. Default 10 s. A shorter one makes the same rows more
	// often, so that few agents make the load of many.
	Interval time.Duration
	// Ramp is over how long the agents begin. Default 5 ms for each.
	Ramp time.Duration
	// Settle is how long outstanding acks are waited for at the end. Default 60 s.
	Settle time.Duration
	// SpoolRecords and SpoolBytes bound the spool of each agent; the oldest records go
	// when it is full, as a gap. Defaults 4,096 and 4 MiB.
	SpoolRecords, SpoolBytes int
	// Watch are processes whose memory and CPU are recorded.
	Watch []Process
}

// Limits of Config.
const (
	minInterval = 50 * time.Millisecond
	maxFleet    = 20_000
)

func (c Config) withDefaults(agents int) (Config, error) {
	if c.Interval == 0 {
		c.Interval = 10 * time.Second
	}
	if c.Ramp == 0 {
		c.Ramp = time.Duration(agents) * 5 * time.Millisecond
	}
	if c.Settle == 0 {
		c.Settle = time.Minute
	}
	if c.SpoolRecords == 0 {
		c.SpoolRecords = 4096
	}
	if c.SpoolBytes == 0 {
		c.SpoolBytes = 4 << 20
	}
	if c.Transport == "" {
		c.Transport = link.TransportQUIC
	}
	switch {
	case agents == 0 || agents > maxFleet:
		return c, fmt.Errorf("load: %d agents, must be 1 to %d", agents, maxFleet)
	case c.Interval < minInterval:
		return c, fmt.Errorf("load: interval %s is below %s", c.Interval, minInterval)
	case c.Transport != link.TransportQUIC && c.Transport != link.TransportTCP:
		return c, fmt.Errorf("load: transport %q is neither quic nor tcp", c.Transport)
	case c.SpoolRecords < 1 || c.SpoolBytes < 1:
		return c, errors.New("load: a spool without room")
	}
	return c, nil
}

// Deps are handed in by code.
type Deps struct {
	Log      zerolog.Logger
	Progress io.Writer // one line every 10 s; nil is none
	// Ready is called once, when every agent has been connected; may be nil.
	Ready func()
}

// Fleet is agents that run together.
type Fleet struct {
	cfg    Config
	deps   Deps
	file   *File
	kinds  *templates
	agents []*agent
	stats  stats
	// settled is closed when nothing more is produced: then an agent leaves once all of
	// its records are answered.
	settled chan struct{}
}

// New makes a fleet of the agents of a file.
func New(cfg Config, file *File, deps Deps) (*Fleet, error) {
	cfg, err := cfg.withDefaults(len(file.Agents))
	if err != nil {
		return nil, err
	}
	if cfg.Addr == "" {
		cfg.Addr = file.Addr
	}
	f := &Fleet{cfg: cfg, deps: deps, file: file, kinds: newTemplates(), settled: make(chan struct{})}
	root, err := file.roots()
	if err != nil {
		return nil, err
	}
	base := uint64(time.Now().UnixMilli()) << 10
	for i := range file.Agents {
		a, err := newAgent(f, i, &file.Agents[i], root, base|rand.Uint64N(1<<10))
		if err != nil {
			return nil, err
		}
		f.agents = append(f.agents, a)
	}
	return f, nil
}

// Run lets the agents work for Config.Duration or until ctx ends, then waits until all
// that was produced is answered, at most Config.Settle. It returns when all goroutines
// have ended.
func (f *Fleet) Run(ctx context.Context) (*Ledger, *Report, error) {
	produce, stopProducing := context.WithCancel(ctx)
	defer stopProducing()
	if f.cfg.Duration > 0 {
		produce, stopProducing = context.WithTimeout(produce, f.cfg.Duration)
		defer stopProducing()
	}
	deliver, stopDelivering := context.WithCancel(context.WithoutCancel(ctx))
	defer stopDelivering()

	watch := newWatcher(f.cfg.Watch)
	watch.sample(watchStart)
	f.stats.begin(len(f.agents))
	var makers, senders, side sync.WaitGroup
	side.Go(func() { f.observe(deliver, watch) })
	for _, a := range f.agents {
		wait := time.Duration(0)
		if f.cfg.Ramp > 0 {
			wait = f.cfg.Ramp * time.Duration(a.index) / time.Duration(len(f.agents))
		}
		makers.Go(func() { a.produce(produce, wait) })
		senders.Go(func() { a.deliver(deliver, wait) })
	}
	makers.Wait()
	f.stats.producingEnded()
	watch.sample(watchEnd)
	close(f.settled)
	over := time.AfterFunc(f.cfg.Settle, stopDelivering)
	senders.Wait()
	over.Stop()
	stopDelivering()
	side.Wait()
	f.stats.end()
	ledger := f.ledger()
	return ledger, f.report(ledger, watch), nil
}

// Renewed tells whether an agent has a new certificate, so that the file must be
// written again.
func (f *Fleet) Renewed() bool { return f.stats.renewed.Load() > 0 }

func (f *Fleet) ledger() *Ledger {
	l := &Ledger{Transport: f.cfg.Transport, Began: f.stats.began, Ended: time.Now()}
	for _, a := range f.agents {
		l.Agents = append(l.Agents, a.spool.ledger(a.id.Agent, a.id.Tenant))
	}
	return l
}

// capability is what these agents speak.
const capability = wire.Capability
