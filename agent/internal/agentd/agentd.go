// Package agentd builds the agent's parts, starts them, and stops them in the order of
// the data: sources, then the framer's last flush, then the link drains, then the
// spool closes. It is the one package that knows every other.
package agentd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"sidetone/agent/internal/config"
	"sidetone/agent/internal/framer"
	"sidetone/agent/internal/hoststate"
	"sidetone/agent/internal/identity"
	"sidetone/agent/internal/probe"
	"sidetone/agent/internal/probe/methods"
	"sidetone/agent/internal/scrape"
	"sidetone/agent/internal/spool"
	"sidetone/agent/internal/uplink"
	"sidetone/shared/buildinfo"
	"sidetone/shared/telemetry"
	"sidetone/shared/wire"
)

// Options is what the command hands in.
type Options struct {
	StateDir  string
	Config    *config.Config
	ReadyFile string
	Ledger    string // file that gets a line for each record that the spool took
	// Precheck opens the spool's database for trial in another process
	// (spool.ExecChecker); nil: the spool is opened without.
	Precheck func(ctx context.Context, dir string) error
	Log      zerolog.Logger
}

// Agent is an open agent.
type Agent struct {
	opts     Options
	log      zerolog.Logger
	start    time.Time
	identity *identity.Identity
	spool    *spool.Spool
	framer   *framer.Framer
	uplink   *uplink.Uplink
	probe    *probes
	quality  *quality
	ledger   *ledger // nil unless asked for
}

// ScrapeConfig is the reading rhythm that the file asks for.
func ScrapeConfig(p *config.PBX, stateDir string) scrape.Config {
	return scrape.Config{
		Interval: p.Interval, Calls: p.Calls, SBCs: p.SBCs, Events: p.Events,
		Extensions: p.Extensions, Backups: p.Backups, Licence: p.Licence,
		CursorFile: filepath.Join(stateDir, "pbx-events.json"),
	}
}

// CheckConfig finds the mistakes that no section sees by itself: rhythms of the scrape,
// and files that are named and cannot be read. It is for config.Load.
func CheckConfig(c *config.Config) []error {
	var errs []error
	file := func(path, name string) {
		if name == "" {
			return
		}
		f, err := os.Open(name)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
			return
		}
		_ = f.Close() // it was only looked at
	}
	for i, t := range c.Targets {
		file(fmt.Sprintf("target[%d].ca_file", i), t.CAFile)
	}
	if c.PBX != nil {
		file("pbx.ca_file", c.PBX.CAFile)
		errs = append(errs, ScrapeConfig(c.PBX, "").Validate()...)
	}
	return errs
}

// SpoolConfig is the spool's place and limits.
func SpoolConfig(c *config.Config, stateDir string) spool.Config {
	sc := c.Spool
	if sc.Dir == "" {
		sc.Dir = filepath.Join(stateDir, "spool")
	}
	if sc.KeyFile == "" { // not beside a spool that lies elsewhere
		sc.KeyFile = filepath.Join(stateDir, spool.KeyFileName)
	}
	return sc
}

// Open builds everything; nothing runs yet.
func Open(opts Options) (_ *Agent, err error) {
	a := &Agent{opts: opts, log: opts.Log, start: time.Now()}
	if a.identity, err = identity.Open(opts.StateDir); err != nil {
		return nil, err
	}
	if opts.Ledger != "" {
		if a.ledger, err = openLedger(opts.Ledger); err != nil {
			return nil, err
		}
	}
	// The framer comes first: opening the spool may have something to tell.
	a.framer = framer.New(framer.Config{Log: a.log, Dropped: func(s *telemetry.Set) { a.spool.ReturnGaps(s.Gaps) }}, a.keep)
	a.spool, err = spool.Open(SpoolConfig(opts.Config, opts.StateDir), spool.Deps{Log: a.log, Event: a.spoolEvent, Precheck: opts.Precheck})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.spool.Close())
		}
	}()
	info := a.identity.Info()
	host, _, err := net.SplitHostPort(info.Collector)
	if err != nil {
		return nil, fmt.Errorf("collector's address %q: %w", info.Collector, err)
	}
	a.quality = newQuality(host)
	link := opts.Config.Link
	link.Addr = info.Collector
	a.uplink = uplink.New(link, uplink.Deps{
		Spool: spoolOf{a.spool}, Identity: a.identity, Host: thisHost(), Log: a.log,
		MemoryFile: filepath.Join(opts.StateDir, "link.json"), Quality: a.quality.poor,
		Events:    func(e telemetry.LinkEvent) { a.framer.Add(&telemetry.Set{LinkEvents: []telemetry.LinkEvent{e}}) },
		OnWelcome: a.welcome,
	})
	a.probe, err = newProbes(probe.Config{Targets: opts.Config.AllTargets(host)},
		probe.Deps{Emit: a.measured, Methods: methods.All(), Log: a.log}, a.probesFailed)
	if err != nil {
		return nil, err
	}
	return a, nil
}

// measured takes what the probes give.
func (a *Agent) measured(set *telemetry.Set) {
	a.quality.note(set)
	a.framer.Add(set)
}

// welcome tells the probes where the collector reflects.
func (a *Agent) welcome(w wire.Welcome, host string) {
	addr := "" // nowhere
	if w.ReflectorPort != 0 {
		addr = net.JoinHostPort(host, strconv.Itoa(int(w.ReflectorPort)))
	}
	a.probe.SetReflector(addr)
	a.noteClock(w)
}

// keep is the framer's sink: the spool takes the payload, and the gaps in it count as
// told when the record that carries them is acked.
func (a *Agent) keep(class wire.Class, payload []byte, set *telemetry.Set) error {
	epoch, seq, err := a.spool.Append(class, payload)
	if err != nil {
		return err
	}
	if len(set.Gaps) > 0 {
		a.spool.CarryGaps(seq, set.Gaps)
	}
	if a.ledger != nil {
		if err := a.ledger.write(epoch, seq, class, set); err != nil {
			a.log.Error().Err(err).Msg("write the ledger")
		}
	}
	return nil
}

// spoolEvent makes a state change of what the spool has to say.
func (a *Agent) spoolEvent(e spool.Event) {
	a.framer.Add(&telemetry.Set{StateChanges: []telemetry.StateChange{{
		Observed: telemetry.MS(time.Now()), Subject: telemetry.SubjectAgent, Name: "spool", From: e.From, To: e.To, Detail: e.Detail,
	}}})
}

// spoolOf lets uplink use the spool; the record types are the same, field by field.
type spoolOf struct{ *spool.Spool }

func (s spoolOf) ReadRange(from, to uint64, class wire.Class, maxRecords, maxBytes int) ([]uplink.Record, error) {
	list, err := s.Spool.ReadRange(from, to, class, maxRecords, maxBytes)
	if len(list) == 0 {
		return nil, err
	}
	out := make([]uplink.Record, len(list))
	for i, r := range list {
		out[i] = uplink.Record(r)
	}
	return out, err
}

func (s spoolOf) Status() uplink.Status {
	st := s.Spool.Status()
	return uplink.Status{Epoch: st.Epoch, EpochFirst: st.EpochFirst, LowestSeq: st.LowestSeq, NextSeq: st.NextSeq, Records: st.Records}
}

// thisHost describes the machine in the hello.
func thisHost() uplink.Host {
	h := uplink.Host{Version: buildinfo.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, BootID: hoststate.BootID()}
	h.Hostname, _ = os.Hostname() // it is only a label
	return h
}

// announce writes the ready file.
func (a *Agent) announce() error {
	for _, w := range a.opts.Config.Warnings {
		a.log.Warn().Msg(w)
	}
	info := a.identity.Info()
	a.log.Info().Str("version", buildinfo.String()).Str("addr", info.Collector).Uint32("agent", uint32(info.Agent)).
		Str("site", info.Site).Msg("agent runs")
	if a.opts.ReadyFile == "" {
		return nil
	}
	text, err := json.Marshal(map[string]any{
		"pid": os.Getpid(), "state_dir": a.opts.StateDir, "tenant": info.Tenant, "agent": info.Agent, "collector": info.Collector,
	})
	if err != nil {
		return err
	}
	tmp := a.opts.ReadyFile + ".tmp"
	if err := os.WriteFile(tmp, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	return os.Rename(tmp, a.opts.ReadyFile)
}

// drained waits until the collector has everything, or patience ends.
func (a *Agent) drained(ctx context.Context, patience time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for a.uplink.State().Connected && a.spool.Status().Records > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
