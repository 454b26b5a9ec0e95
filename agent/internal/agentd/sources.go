package agentd

import (
	"context"
	"net"
	"path/filepath"
	"time"

	"sidetone/agent/internal/hoststate"
	"sidetone/agent/internal/probe"
	"sidetone/agent/internal/probe/methods"
	"sidetone/agent/internal/scrape"
	"sidetone/agent/internal/threecx"
	"sidetone/agent/internal/threecx/xapi"
	"sidetone/shared/backoff"
	"sidetone/shared/buildinfo"
	"sidetone/shared/telemetry"
)

const (
	// retrySource is the time between tries to start a source that would not.
	retrySource = 30 * time.Second
	// lookEvery is how often the agent looks at itself, and healthEvery how often that
	// becomes a row.
	lookEvery   = 10 * time.Second
	healthEvery = 30 * time.Second
	// maxGapsAtOnce bounds the gaps told in one set.
	maxGapsAtOnce = 200
	// deadAfter is how long the upkeep may be silent before the watchdog is no longer
	// told that the agent lives.
	deadAfter = 45 * time.Second
)

// probe measures the targets until ctx ends.
func (a *Agent) probe(ctx context.Context) {
	host, _, err := net.SplitHostPort(a.identity.Info().Collector)
	if err != nil {
		host = ""
	}
	cfg := probe.Config{Targets: a.opts.Config.AllTargets(host)}
	if len(cfg.Targets) == 0 {
		a.log.Info().Msg("no targets: the network is not measured")
		return
	}
	for {
		err := a.probeOnce(ctx, cfg)
		if ctx.Err() != nil {
			return
		}
		a.log.Error().Err(err).Int64("dur_ms", retrySource.Milliseconds()).Msg("probes do not run, will try again")
		if backoff.Sleep(ctx, retrySource) != nil {
			return
		}
	}
}

func (a *Agent) probeOnce(ctx context.Context, cfg probe.Config) error {
	p, err := probe.New(cfg, probe.Deps{Emit: a.framer.Add, Methods: methods.All(), Log: a.log})
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.prober = p
	if a.reflector != "" {
		p.SetReflector(a.reflector)
	}
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.prober = nil
		a.overruns.Add(p.OverrunTotal())
	}()
	return p.Run(ctx)
}

// scrape reads the PBX until ctx ends. When the client cannot even be made, that is a
// reading of its own: the PBX is not known to be well.
func (a *Agent) scrape(ctx context.Context) {
	pbx := a.opts.Config.PBX
	if pbx == nil {
		a.log.Info().Msg("no [pbx]: only the network is measured")
		return
	}
	for {
		client, err := xapi.New(pbx.Config, xapi.Deps{Log: a.log})
		if err == nil {
			s := scrape.New(scrapeConfig(pbx, filepath.Join(a.opts.StateDir, "eventlog.cursor")),
				scrape.Deps{Client: client, Emit: a.framer.Add, Log: a.log})
			err = s.Run(ctx)
			client.Close()
		}
		if ctx.Err() != nil {
			return
		}
		a.log.Error().Err(err).Int64("dur_ms", retrySource.Milliseconds()).Msg("the PBX is not read, will try again")
		a.framer.Add(&telemetry.Set{PBXStatuses: []telemetry.PBXStatus{{
			Observed: telemetry.MS(time.Now()), State: telemetry.PBXUnreachable, Detail: threecx.Detail(err),
		}}})
		if backoff.Sleep(ctx, retrySource) != nil {
			return
		}
	}
}

// observeItself tells how the agent is, and the gaps that the collector does not know.
func (a *Agent) observeItself(ctx context.Context) {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	var told time.Time
	for {
		set := &telemetry.Set{}
		if told.IsZero() || time.Since(told) >= healthEvery-lookEvery/2 {
			told = time.Now()
			set.AgentHealth = append(set.AgentHealth, a.health())
		}
		if a.uplink.State().Connected {
			set.Gaps = a.spool.TakeGaps(maxGapsAtOnce)
		}
		a.framer.Add(set)
		a.beat.Store(int64(time.Since(a.started)))
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// alive tells the watchdog whether the upkeep still turns, which needs the spool to
// answer.
func (a *Agent) alive() bool {
	return time.Since(a.started)-time.Duration(a.beat.Load()) < deadAfter
}

func (a *Agent) health() telemetry.AgentHealth {
	now := time.Now()
	h, st := hoststate.Read(a.opts.StateDir), a.spool.Status()
	row := telemetry.AgentHealth{
		Observed: telemetry.MS(now), UptimeS: uint64(now.Sub(a.started).Seconds()),
		RSSBytes: h.RSS, CPUMS: uint64(h.CPU.Milliseconds()), Goroutines: uint32(h.Goroutines),
		SpoolRecords: st.Records, SpoolBytes: st.Bytes, SpoolDegraded: st.Degraded,
		DroppedTotal:      st.DroppedTotal + a.framer.DroppedTotal(),
		ProbeOverrunTotal: a.overrunTotal(),
		Load1Milli:        uint32(h.Load1 * 1000), MemoryFreeBytes: h.MemoryFree, DiskFreeBytes: h.DiskFree,
		Version: buildinfo.Version(),
	}
	if !st.Oldest.IsZero() && now.After(st.Oldest) {
		row.SpoolOldestMS = uint64(now.Sub(st.Oldest).Milliseconds())
	}
	return row
}

func (a *Agent) overrunTotal() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.overruns.Load()
	if a.prober != nil {
		n += a.prober.OverrunTotal()
	}
	return n
}
