package collectord

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sidetone/collector/internal/api"
	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/inventory"
	"sidetone/shared/backoff"
	"sidetone/shared/buildinfo"
	"sidetone/shared/svc"
	"sidetone/shared/telemetry"
)

// Rhythms and patience of what collectord does itself.
const (
	seenEvery     = 30 * time.Second
	drainOver     = 10 * time.Second // agents come back spread over this
	flushPatience = 20 * time.Second
	quietStart    = 10 * time.Second
)

// Run serves until ctx ends, then stops everything in order. It returns nil after an
// orderly stop.
func (d *Daemon) Run(ctx context.Context) error {
	defer d.close()
	stages := []stage{
		{name: "migrations", run: d.runMigrate},
		{name: "notifications", run: d.notify.Run},
		{name: "incident history", run: d.runHistory},
		{name: "names", run: d.runMirror},
		{name: "chores", run: d.runChores},
		{name: "roll-ups", run: d.runKeeper},
		{name: "judge", run: d.runJudge},
		{name: "batches", run: d.runBatches, patience: flushPatience},
		{name: "reflector", run: d.reflector.Run},
		{name: "agents", run: d.ingest.Run, leave: func() { d.ingest.Drain(drainOver, "the collector is being restarted") }},
		{name: "web", run: d.runWeb},
	}
	if d.engine != nil {
		stages = append([]stage{{name: "engine", run: d.engine.Run, patience: 30 * time.Second}}, stages...)
	}
	if err := d.announce(ctx); err != nil {
		return err
	}
	notifier := svc.NewNotifier()
	if err := notifier.Ready(); err != nil {
		d.log.Debug().Err(err).Msg("tell systemd")
	}
	err := runStages(ctx, stages, d.log)
	d.log.Info().Msg("stopped")
	return err
}

// announce tells people and programs where everything is.
func (d *Daemon) announce(ctx context.Context) error {
	needed, err := d.authn.SetupNeeded(ctx)
	if err != nil {
		return err
	}
	url := "https://" + d.webListener.Addr().String() + "/"
	if needed {
		code, err := d.authn.SetupCode(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(d.opts.Out, "\nFirst sign-in: open %ssetup and enter the code\n\n    %s\n\n(also in %s until it is used)\n\n",
			url, code, filepath.Join(d.cfg.DataDir, "setup-code"))
	}
	d.log.Info().Str("version", buildinfo.String()).Str("addr", d.agentsAddr()).Str("path", d.cfg.DataDir).
		Msg("serving agents; pages at " + url)
	if d.opts.ReadyFile == "" {
		return nil
	}
	text, err := json.Marshal(map[string]any{
		"pid": os.Getpid(), "agents": d.listener.Addr().String(), "web": d.webListener.Addr().String(),
		"reflector": d.reflector.Addr().String(), "url": url, "data_dir": d.cfg.DataDir,
	})
	if err != nil {
		return err
	}
	tmp := d.opts.ReadyFile + ".tmp"
	if err := os.WriteFile(tmp, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	return os.Rename(tmp, d.opts.ReadyFile)
}

// runBatches inserts once the tables are what this program knows: what comes before
// waits, within the batcher's limits.
func (d *Daemon) runBatches(ctx context.Context) error {
	select {
	case <-d.migrated.ch:
	case <-ctx.Done(): // Run then defers what waits
	}
	return d.batch.Run(ctx)
}

// runMigrate brings the tables up to date, as soon as ClickHouse answers, and then
// seeds the live state with what was last known. Until then agents keep their data.
func (d *Daemon) runMigrate(ctx context.Context) error {
	retry := backoff.Backoff{Min: 100 * time.Millisecond, Max: 5 * time.Second}
	start := time.Now()
	for {
		err := d.telemetry.Migrate(ctx)
		if err == nil {
			break
		}
		if time.Since(start) > quietStart { // it takes a moment to start
			d.log.Warn().Err(err).Msg("ClickHouse is not ready yet; agents keep their data")
		}
		if retry.Wait(ctx) != nil {
			return nil
		}
	}
	d.migrated.set()
	d.mirror.touch()
	d.log.Info().Msg("ClickHouse is ready")
	d.seed(ctx)
	<-ctx.Done()
	return nil
}

// seed fills the live state from ClickHouse, so that pages show what was last known
// until the agents' next frames. Newer rows that came meanwhile stay.
func (d *Daemon) seed(ctx context.Context) {
	sctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	latest, err := d.telemetry.Latest(sctx, authz.System())
	if err != nil {
		d.log.Warn().Err(err).Msg("seed the live state")
		return
	}
	for _, l := range latest {
		d.live.Deliver(l.Source, l.Set, l.Received)
	}
}

// runChores does small writes in their turn and keeps when agents were last seen.
func (d *Daemon) runChores(ctx context.Context) error {
	tick := time.NewTicker(seenEvery)
	defer tick.Stop()
	for {
		select {
		case f := <-d.chores:
			f(ctx)
		case <-tick.C:
			d.keepSeen(ctx)
		case <-ctx.Done():
			d.keepSeen(context.WithoutCancel(ctx))
			return nil
		}
	}
}

func (d *Daemon) keepSeen(ctx context.Context) {
	all := d.fleet.LastSeen()
	seen := make([]inventory.Seen, 0, len(all))
	for id, at := range all {
		seen = append(seen, inventory.Seen{Agent: id, At: at})
	}
	sctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := d.inventory.UpdateSeen(sctx, seen); err != nil {
		d.log.Warn().Err(err).Msg("keep when agents were last seen")
	}
}

// storage says whether measurements reach ClickHouse.
func (d *Daemon) storage() api.Storage {
	if !d.migrated.isSet() {
		return api.Storage{Detail: "ClickHouse has not answered yet; agents keep their data"}
	}
	s := d.batch.Stats()
	if s.StorageOK {
		return api.Storage{OK: true}
	}
	return api.Storage{Detail: s.LastError, Since: telemetry.MS(s.Since)}
}
