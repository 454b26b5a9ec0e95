package agentd

import (
	"context"
	"errors"
	"sync"
	"time"

	"sidetone/agent/internal/probe"
	"sidetone/shared/backoff"
	"sidetone/shared/telemetry"
)

// Delays between two tries to measure.
const (
	probeRetryMin = time.Second
	probeRetryMax = time.Minute
)

// prober is what agentd needs of probe.Prober.
type prober interface {
	Run(ctx context.Context) error
	SetReflector(addr string)
	OverrunTotal() uint64
}

// probes keeps a prober running: one that ends with an error is built anew, while the
// rest of the agent goes on.
type probes struct {
	make func() (prober, error)
	fail func(error) // told of each end

	mu        sync.Mutex
	now       prober // guarded by mu, but for Run's start
	reflector string // guarded by mu
	overrun   uint64 // of the former ones; guarded by mu
}

// newProbes builds the first prober: a mistake in its configuration ends the start.
func newProbes(cfg probe.Config, deps probe.Deps, fail func(error)) (*probes, error) {
	p := &probes{make: func() (prober, error) { return probe.New(cfg, deps) }, fail: fail}
	var err error
	p.now, err = p.make()
	return p, err
}

func (p *probes) SetReflector(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reflector = addr
	p.now.SetReflector(addr)
}

func (p *probes) OverrunTotal() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.overrun + p.now.OverrunTotal()
}

// Run measures until ctx ends.
func (p *probes) Run(ctx context.Context) error {
	delays := backoff.Backoff{Min: probeRetryMin, Max: probeRetryMax}
	for now := p.now; ; {
		start := time.Now()
		err := now.Run(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = errors.New("ended by itself")
		}
		if time.Since(start) > probeRetryMax {
			delays.Reset()
		}
		for {
			p.fail(err)
			if delays.Wait(ctx) != nil {
				return nil
			}
			if now, err = p.make(); err == nil {
				break
			}
		}
		p.use(now)
	}
}

// use makes next the prober of now on.
func (p *probes) use(next prober) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.overrun += p.now.OverrunTotal()
	p.now = next
	if p.reflector != "" {
		next.SetReflector(p.reflector)
	}
}

// probesFailed tells that nothing is measured for the moment.
func (a *Agent) probesFailed(err error) {
	a.log.Error().Err(err).Msg("the probes have ended, will start them again")
	a.framer.Add(&telemetry.Set{StateChanges: []telemetry.StateChange{{
		Observed: telemetry.MS(time.Now()), Subject: telemetry.SubjectAgent, Name: "probes", From: "running", To: "restarting", Detail: err.Error(),
	}}})
}
