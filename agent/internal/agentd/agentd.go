// Package agentd is the agent as a whole: it builds all parts, starts the sinks before
// the sources, and stops them in the order of the data, so that what was measured
// reaches the spool. It is the one package that knows every other.
package agentd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"sidetone/agent/internal/config"
	"sidetone/agent/internal/framer"
	"sidetone/agent/internal/identity"
	"sidetone/agent/internal/probe"
	"sidetone/agent/internal/scrape"
	"sidetone/agent/internal/spool"
	"sidetone/agent/internal/uplink"
	"sidetone/shared/svc"
	"sidetone/shared/telemetry"
	"sidetone/shared/wire"
)

// drainTime is how long a stop waits for the collector to take what is in the spool.
// What stays there is sent after the next start.
const drainTime = 3 * time.Second

// Options is what the command hands in.
type Options struct {
	StateDir string
	Config   *config.Config
	// ReadyFile is written when the agent runs; "" for none.
	ReadyFile string
	// Ledger is an auditor's record of every payload that the spool took; "" for none.
	Ledger string
	Log    zerolog.Logger
}

// CheckConfig finds the mistakes that only the scrape knows; it is for config.Load.
func CheckConfig(c *config.Config) []error {
	if c.PBX == nil {
		return nil
	}
	return scrapeConfig(c.PBX, "").Validate()
}

func scrapeConfig(p *config.PBX, cursorFile string) scrape.Config {
	return scrape.Config{
		Interval: p.Interval, Calls: p.Calls, SBCs: p.SBCs, Events: p.Events,
		Extensions: p.Extensions, Backups: p.Backups, Licence: p.Licence, CursorFile: cursorFile,
	}
}

// SpoolConfig is where and how the spool is kept.
func SpoolConfig(c *config.Config, stateDir string) spool.Config {
	s := c.Spool
	if s.Dir == "" {
		s.Dir = filepath.Join(stateDir, "spool")
	}
	return s
}

// Agent is the parts, joined.
type Agent struct {
	opts     Options
	log      zerolog.Logger
	started  time.Time
	identity *identity.Identity
	notifier *svc.Notifier

	spool  *spool.Spool
	framer *framer.Framer
	uplink *uplink.Uplink
	ledger *ledger

	mu        sync.Mutex
	prober    *probe.Prober // guarded by mu; nil while there is none
	reflector string        // guarded by mu
	overruns  atomic.Uint64 // of probers that ended

	beat atomic.Int64 // when the upkeep was last seen alive, since started
}

// Open opens identity and spool and makes the parts; nothing runs yet. Without an
// identity the error is identity.ErrNotEnrolled.
func Open(opts Options) (*Agent, error) {
	a := &Agent{opts: opts, log: opts.Log, started: time.Now(), notifier: svc.NewNotifier()}
	var err error
	if a.identity, err = identity.Open(opts.StateDir); err != nil {
		return nil, err
	}
	if a.ledger, err = openLedger(opts.Ledger); err != nil {
		return nil, err
	}
	a.framer = framer.New(framer.Config{
		MaxBytes: spool.MaxPayload, Log: a.log,
		Dropped: func(set *telemetry.Set) { a.spool.ReturnGaps(set.Gaps) },
	}, a.store)
	a.spool, err = spool.Open(SpoolConfig(opts.Config, opts.StateDir), spool.Deps{Log: a.log, Event: a.spoolEvent})
	if err != nil {
		return nil, errors.Join(err, a.ledger.close())
	}
	a.uplink = uplink.New(uplink.Config{Addr: a.identity.Info().Collector}, uplink.Deps{
		Spool: spoolForUplink{a.spool}, Identity: a.identity, Host: thisHost(), Log: a.log,
		Events:    func(e telemetry.LinkEvent) { a.framer.Add(&telemetry.Set{LinkEvents: []telemetry.LinkEvent{e}}) },
		OnWelcome: a.welcomed,
	})
	return a, nil
}

// Run runs the agent until ctx ends, then stops it in order. It is called once.
func (a *Agent) Run(ctx context.Context) error {
	err := a.run(ctx)
	err = errors.Join(err, a.spool.Close(), a.ledger.close())
	a.log.Info().Msg("agent stopped")
	return err
}

// store is the framer's sink.
func (a *Agent) store(class wire.Class, payload []byte, set *telemetry.Set) error {
	epoch, seq, err := a.spool.Append(class, payload)
	if err != nil {
		return err
	}
	if len(set.Gaps) > 0 {
		a.spool.CarryGaps(seq, set.Gaps)
	}
	if err := a.ledger.note(epoch, seq, class, set); err != nil {
		a.log.Warn().Err(err).Msg("ledger cannot be written")
	}
	return nil
}

// welcomed is called when the link is up.
func (a *Agent) welcomed(w wire.Welcome, collectorHost string) {
	addr := ""
	if w.ReflectorPort != 0 {
		addr = net.JoinHostPort(collectorHost, fmt.Sprint(w.ReflectorPort))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reflector = addr
	if a.prober != nil {
		a.prober.SetReflector(addr)
	}
}

func (a *Agent) spoolEvent(e spool.Event) {
	a.framer.Add(&telemetry.Set{StateChanges: []telemetry.StateChange{{
		Observed: telemetry.MS(time.Now()), Subject: telemetry.SubjectAgent, Name: "spool",
		From: e.From, To: e.To, Detail: e.Detail,
	}}})
}

// part is a running part that can be stopped by itself.
type part struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// start runs functions until stop. Their context ends then and not before: a stop goes
// part by part.
func start(runs ...func(context.Context)) *part {
	ctx, cancel := context.WithCancel(context.Background())
	p := &part{cancel: cancel}
	for _, run := range runs {
		p.wg.Go(func() { run(ctx) })
	}
	return p
}

func (p *part) stop() {
	p.cancel()
	p.wg.Wait()
}

// run starts the sinks, then the sources; when ctx ends it stops the sources, lets the
// queues flush, gives the link a moment, and stops the sinks.
func (a *Agent) run(ctx context.Context) error {
	upkeep := start(a.logged("spool", a.spool.Run))
	link := start(a.logged("uplink", a.uplink.Run))
	gather := start(a.logged("framer", a.framer.Run))
	sources := start(a.probe, a.scrape, a.observeItself)

	err := a.announce()
	watch := start(a.logged("watchdog", func(ctx context.Context) error { return a.notifier.Watch(ctx, a.alive) }))
	if err == nil {
		<-ctx.Done()
		a.log.Info().Msg("agent stops")
	}
	if nerr := a.notifier.Stopping(); nerr != nil {
		a.log.Debug().Err(nerr).Msg("systemd cannot be told that the agent stops")
	}
	sources.stop()
	gather.stop()
	if err == nil {
		a.drain()
	}
	link.stop()
	a.framer.Flush() // the link's last event
	upkeep.stop()
	watch.stop()
	return err
}

func (a *Agent) logged(name string, run func(context.Context) error) func(context.Context) {
	return func(ctx context.Context) {
		if err := run(ctx); err != nil && ctx.Err() == nil {
			a.log.Error().Err(err).Str("reason", name).Msg("part ended")
		}
	}
}

// drain waits a moment for the collector to take what is in the spool.
func (a *Agent) drain() {
	limit := time.NewTimer(drainTime)
	defer limit.Stop()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for a.uplink.State().Connected && a.spool.Status().Records > 0 {
		select {
		case <-limit.C:
			return
		case <-look.C:
		}
	}
}
