package collectord

import (
	"context"
	"time"

	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/config"
	"sidetone/collector/internal/telemetrydb"
	"sidetone/shared/telemetry"
)

// Rhythms of the work on what is stored.
const (
	rollEvery   = time.Minute
	rollLimit   = 2 * time.Minute // of one piece
	rollPause   = 50 * time.Millisecond
	expireEvery = 24 * time.Hour
)

// runKeeper rolls up what was stored and deletes what is kept for a shorter time: one
// thing at a time, so that inserts and pages have the engine to themselves most of the
// time. How far it is stands in ClickHouse, so a stop in the middle does no harm.
func (d *Daemon) runKeeper(ctx context.Context) error {
	select {
	case <-d.migrated.ch:
	case <-ctx.Done():
		return nil
	}
	tick := time.NewTicker(rollEvery)
	defer tick.Stop()
	applied := -1 // tenants whose times the tables have
	var expired time.Time
	for {
		kept, err := d.kept(ctx)
		if err != nil {
			d.log.Warn().Err(err).Msg("read the tenants for their retention")
		}
		if err == nil && applied != len(kept.Tenants) {
			if err := d.telemetry.ApplyRetention(ctx, kept); err != nil {
				d.log.Warn().Err(err).Msg("set how long measurements are kept; will try again")
			} else {
				applied = len(kept.Tenants)
			}
		}
		if err == nil {
			d.rollUp(ctx, kept)
		}
		if err == nil && time.Since(expired) > expireEvery {
			if err := d.telemetry.Expire(ctx, kept); err != nil {
				d.log.Warn().Err(err).Msg("delete what is kept no longer; will try again")
			} else {
				expired = time.Now()
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// rollUp catches up, piece after piece.
func (d *Daemon) rollUp(ctx context.Context, kept telemetrydb.Kept) {
	cfg := telemetrydb.RollUpConfig{Keep: time.Duration(kept.RawDays()) * 24 * time.Hour}
	for {
		pctx, cancel := context.WithTimeout(ctx, rollLimit)
		more, err := d.telemetry.RollUp(pctx, cfg)
		cancel()
		switch {
		case ctx.Err() != nil || err == nil && !more:
			return
		case err != nil:
			d.log.Warn().Err(err).Msg("roll up measurements; will try again")
			return
		}
		pause := time.NewTimer(rollPause) // others want the engine, too
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
	}
}

// kept ties the configured times to the tenants. One that does not exist yet may come
// with its first token.
func (d *Daemon) kept(ctx context.Context) (telemetrydb.Kept, error) {
	kept := telemetrydb.Kept{All: d.cfg.Retention}
	if len(d.cfg.Tenants) == 0 {
		return kept, nil
	}
	tree, err := d.inventory.Tree(ctx, authz.System())
	if err != nil {
		return kept, err
	}
	own := make(map[string]config.Tenant, len(d.cfg.Tenants))
	for _, t := range d.cfg.Tenants {
		own[t.Name] = t
	}
	kept.Tenants = map[telemetry.TenantID]telemetrydb.Retention{}
	for _, t := range tree {
		if o, ok := own[t.Name]; ok {
			kept.Tenants[t.ID] = o.Retention
		}
	}
	return kept, nil
}
