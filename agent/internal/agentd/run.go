package agentd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"sidetone/agent/internal/hoststate"
	"sidetone/agent/internal/scrape"
	"sidetone/agent/internal/threecx"
	"sidetone/agent/internal/threecx/xapi"
	"sidetone/shared/backoff"
	"sidetone/shared/buildinfo"
	"sidetone/shared/svc"
	"sidetone/shared/telemetry"
)

// Rhythms and patience of what agentd does itself.
const (
	healthEvery   = 30 * time.Second
	gapsEvery     = 2 * time.Second
	gapsAtOnce    = 256
	pbxRetry      = 30 * time.Second
	drainPatience = 3 * time.Second
)

// layer is parts that stop together.
type layer struct {
	group  *errgroup.Group
	cancel context.CancelFunc
	ctx    context.Context
}

// newLayer starts the parts under a context of their own, which outlives ctx. A part
// that ends by itself ends everything.
func newLayer(ctx context.Context, fall context.CancelCauseFunc, parts map[string]func(context.Context) error) *layer {
	l := &layer{group: new(errgroup.Group)}
	l.ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	for name, run := range parts {
		l.group.Go(func() error {
			err := run(l.ctx)
			if l.ctx.Err() != nil {
				return nil // it was asked to
			}
			if err == nil {
				err = errors.New("ended by itself")
			}
			err = fmt.Errorf("%s: %w", name, err)
			fall(err)
			return err
		})
	}
	return l
}

func (l *layer) stop() error {
	l.cancel()
	return l.group.Wait()
}

// Run works until ctx ends, then stops in the order of the data. It returns nil after
// an orderly stop.
func (a *Agent) Run(ctx context.Context) error {
	notifier := svc.NewNotifier()
	ctx, fall := context.WithCancelCause(ctx)
	defer fall(nil)

	base := newLayer(ctx, fall, map[string]func(context.Context) error{"spool": a.spool.Run})
	link := newLayer(ctx, fall, map[string]func(context.Context) error{"link": a.uplink.Run})
	middle := newLayer(ctx, fall, map[string]func(context.Context) error{"framer": a.framer.Run})
	sources := map[string]func(context.Context) error{
		"probes": a.probe.Run, "health": a.runHealth, "gaps": a.runGaps,
		"watchdog": func(ctx context.Context) error {
			// A spool that hangs does not answer, and so the watchdog is not fed.
			err := notifier.Watch(ctx, func() bool { a.spool.Status(); return true })
			<-ctx.Done() // without a watchdog Watch returns at once
			return err
		},
	}
	if a.opts.Config.PBX != nil {
		sources["PBX"] = a.runPBX
	} else {
		a.log.Info().Msg("no [pbx] in the configuration: only the network is measured")
	}
	top := newLayer(ctx, fall, sources)

	err := a.announce()
	if err == nil {
		if nerr := notifier.Ready(); nerr != nil {
			a.log.Debug().Err(nerr).Msg("tell systemd")
		}
		<-ctx.Done()
		if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
			err = cause
		}
	}
	_ = notifier.Stopping() // systemd may be gone
	err = errors.Join(err, top.stop(), middle.stop())
	a.drained(base.ctx, drainPatience)
	err = errors.Join(err, link.stop())
	a.framer.Flush() // the link's last event
	err = errors.Join(err, base.stop(), a.spool.Close())
	if a.ledger != nil {
		err = errors.Join(err, a.ledger.close())
	}
	a.log.Info().Msg("stopped")
	return err
}

// runHealth reports on the agent itself.
func (a *Agent) runHealth(ctx context.Context) error {
	next := time.NewTimer(time.Second)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
			next.Reset(healthEvery)
		}
		a.framer.Add(&telemetry.Set{AgentHealth: []telemetry.AgentHealth{a.health(time.Now())}})
	}
}

func (a *Agent) health(now time.Time) telemetry.AgentHealth {
	host, st := hoststate.Read(a.opts.StateDir), a.spool.Status()
	h := telemetry.AgentHealth{
		Observed: telemetry.MS(now), UptimeS: uint64(now.Sub(a.start).Seconds()), RSSBytes: host.RSS,
		CPUMS: uint64(host.CPU.Milliseconds()), Goroutines: uint32(host.Goroutines),
		SpoolRecords: st.Records, SpoolBytes: st.Bytes, SpoolDegraded: st.Degraded,
		DroppedTotal: st.DroppedTotal + a.framer.DroppedTotal(), ProbeOverrunTotal: a.probe.OverrunTotal(),
		Load1Milli: uint32(host.Load1 * 1000), MemoryFreeBytes: host.MemoryFree, DiskFreeBytes: host.DiskFree,
		Version: buildinfo.Version(), SpoolEpoch: st.Epoch, SpoolFirst: st.EpochFirst, SpoolNext: st.NextSeq, SpoolLowest: st.LowestSeq,
	}
	if !st.Oldest.IsZero() {
		h.SpoolOldestMS = uint64(max(0, now.Sub(st.Oldest).Milliseconds()))
	}
	return h
}

// runPBX reads the PBX. When the client cannot even be made (a CA file that is not
// there, say), that becomes a state like any other, and is tried again: the measuring of
// the network goes on.
func (a *Agent) runPBX(ctx context.Context) error {
	p := a.opts.Config.PBX
	for {
		client, err := xapi.New(p.Config, xapi.Deps{Log: a.log})
		if err == nil {
			s := scrape.New(ScrapeConfig(p, a.opts.StateDir), scrape.Deps{Client: client, Emit: a.framer.Add, Log: a.log})
			err = s.Run(ctx)
			client.Close()
		}
		if ctx.Err() != nil {
			return nil
		}
		a.log.Error().Err(err).Msg("the PBX is not read, will try again")
		a.framer.Add(&telemetry.Set{PBXStatuses: []telemetry.PBXStatus{{
			Observed: telemetry.MS(time.Now()), State: telemetry.PBXUnreachable, Detail: threecx.Detail(err),
		}}})
		if backoff.Sleep(ctx, pbxRetry) != nil {
			return nil
		}
	}
}

// runGaps tells the collector which records will never come.
func (a *Agent) runGaps(ctx context.Context) error {
	tick := time.NewTicker(gapsEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !a.uplink.State().Connected {
			continue // they stay with the spool until someone can hear of them
		}
		if gaps := a.spool.TakeGaps(gapsAtOnce); len(gaps) > 0 {
			a.framer.Add(&telemetry.Set{Gaps: gaps})
		}
	}
}
