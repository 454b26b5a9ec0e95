package telemetrydb

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sidetone/collector/internal/authz"
	"sidetone/shared/telemetry"
)

// Seed is the freshest rows of one agent, for the live state after a restart.
type Seed struct {
	Source   telemetry.Source
	Received time.Time // of the newest row
	Set      *telemetry.Set
}

// How far back Latest looks: what comes every few seconds is stale soon, what is read
// a few times a day is not.
const (
	freshFor  = 15 * time.Minute
	rarelyFor = 48 * time.Hour
)

// Latest returns the newest row of each thing that was observed lately, by agent:
// windows with their targets, PBX status, trunks, SBCs, services, and backups,
// licence, extensions and the agent's own health.
func (db *DB) Latest(ctx context.Context, scope authz.Scope) ([]Seed, error) {
	seeds := &seeds{byAgent: map[telemetry.AgentID]*Seed{}}
	for _, read := range []func() error{
		func() error { return latest(ctx, db, scope, &probeWindowTable, "target_id", freshFor, seeds) },
		func() error { return latest(ctx, db, scope, &pbxStatusTable, "", freshFor, seeds) },
		func() error { return latest(ctx, db, scope, &trunkStateTable, "trunk_id", freshFor, seeds) },
		func() error { return latest(ctx, db, scope, &sbcStateTable, "sbc_id", freshFor, seeds) },
		func() error { return latest(ctx, db, scope, &serviceStateTable, "service_id", freshFor, seeds) },
		func() error { return latest(ctx, db, scope, &agentHealthTable, "", freshFor, seeds) },
		func() error { return latest(ctx, db, scope, &extensionSummaryTable, "", rarelyFor, seeds) },
		func() error { return latest(ctx, db, scope, &backupTable, "", rarelyFor, seeds) },
		func() error { return latest(ctx, db, scope, &licenceTable, "", rarelyFor, seeds) },
		func() error { return db.nameSeeds(ctx, scope, seeds) },
	} {
		if err := read(); err != nil {
			return nil, fmt.Errorf("latest state: %w", err)
		}
	}
	return seeds.list(), nil
}

type seeds struct {
	byAgent map[telemetry.AgentID]*Seed
	order   []telemetry.AgentID
}

func (s *seeds) agent(src telemetry.Source, received time.Time) *Seed {
	seed, ok := s.byAgent[src.Agent]
	if !ok {
		seed = &Seed{Source: src, Set: &telemetry.Set{}}
		s.byAgent[src.Agent] = seed
		s.order = append(s.order, src.Agent)
	}
	if received.After(seed.Received) {
		seed.Received, seed.Source = received, src
	}
	return seed
}

func (s *seeds) list() []Seed {
	out := make([]Seed, 0, len(s.order))
	for _, id := range s.order {
		out = append(out, *s.byAgent[id])
	}
	return out
}

func latest[R any](ctx context.Context, db *DB, scope authz.Scope, t *table[R], item string, age time.Duration, out *seeds) error {
	w := within(scope).and("NOT clock_flag").
		and("received_at >= fromUnixTimestamp64Milli({since_ms:Int64}) AND observed >= fromUnixTimestamp64Milli({since_ms:Int64})").
		and("day >= toDate(fromUnixTimestamp64Milli({since_ms:Int64}), 'UTC')").
		bind("since_ms", time.Now().Add(-age).UnixMilli())
	by := "agent_id"
	if item != "" {
		by += ", " + item
	}
	return readRows(ctx, db, t, w, "ORDER BY observed DESC, received_at DESC LIMIT 1 BY "+by, func(src telemetry.Source, received time.Time, r R) {
		t.put(out.agent(src, received).Set, r)
	})
}

// readRows reads telemetry rows back from a raw table.
func readRows[R any](ctx context.Context, db *DB, t *table[R], w *where, tail string, each func(telemetry.Source, time.Time, R)) error {
	names := make([]string, len(t.fields))
	for i, f := range t.fields {
		names[i] = f.name
	}
	rows, err := db.ask(ctx, "read "+t.name, "SELECT tenant_id, customer_id, site_id, pbx_id, agent_id, observed, received_at, "+
		strings.Join(names, ", ")+" FROM sidetone."+t.name+" FINAL WHERE "+w.String()+" "+tail, w)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var r R
		var tenant, customer, site, pbx, agent uint32
		var observed, received time.Time
		dest := []any{&tenant, &customer, &site, &pbx, &agent, &observed, &received}
		done := make([]func(), len(t.fields))
		for i, f := range t.fields {
			var d any
			d, done[i] = f.scan(&r)
			dest = append(dest, d)
		}
		if err := rows.Scan(dest...); err != nil {
			return fmt.Errorf("read %s: %w", t.name, err)
		}
		for _, f := range done {
			f()
		}
		*t.observed(&r) = telemetry.MS(observed)
		each(telemetry.Source{
			Tenant: telemetry.TenantID(tenant), Customer: telemetry.CustomerID(customer), Site: telemetry.SiteID(site),
			PBX: telemetry.PBXID(pbx), Agent: telemetry.AgentID(agent),
		}, received, r)
	}
	return rows.Err()
}

// nameSeeds adds the targets and the names of trunks, SBCs and services.
func (db *DB) nameSeeds(ctx context.Context, scope authz.Scope, out *seeds) error {
	w := within(scope)
	rows, err := db.ask(ctx, "read names", "SELECT agent_id, item_id, kind, name, address, method, number, variety, template, interval_ms FROM sidetone.item_raw FINAL WHERE "+w.String(), w)
	if err != nil {
		return err
	}
	defer rows.Close()
	names := map[itemKey]itemRow{}
	for rows.Next() {
		var agent uint32
		var id uint64
		var r itemRow
		if err := rows.Scan(&agent, &id, &r.kind, &r.name, &r.address, &r.method, &r.number, &r.variety, &r.template, &r.intervalMS); err != nil {
			return fmt.Errorf("read names: %w", err)
		}
		names[itemKey{agent: telemetry.AgentID(agent), item: telemetry.ItemID(id)}] = r
	}
	for agent, seed := range out.byAgent {
		nameSet(seed.Set, func(id telemetry.ItemID) itemRow { return names[itemKey{agent: agent, item: id}] })
	}
	return rows.Err()
}

func nameSet(set *telemetry.Set, name func(telemetry.ItemID) itemRow) {
	for i := range set.ProbeWindows {
		id := set.ProbeWindows[i].Target
		n := name(id)
		set.Targets = append(set.Targets, telemetry.Target{ID: id, Method: telemetry.Method(n.method), Name: n.name, Address: n.address, IntervalMS: n.intervalMS})
	}
	for i := range set.Trunks {
		t := &set.Trunks[i]
		n := name(t.ID)
		t.Number, t.Name, t.Host, t.Kind, t.Template = n.number, n.name, n.address, n.variety, n.template
	}
	for i := range set.SBCs {
		set.SBCs[i].Name = name(set.SBCs[i].ID).name
	}
	for i := range set.Services {
		s := &set.Services[i]
		n := name(s.ID)
		s.Name, s.Title = n.name, n.address
	}
}

// Change is a state change and where it happened.
type Change struct {
	Source telemetry.Source
	telemetry.StateChange
}

// changesBack is how far Changes looks back: as long as state changes are kept.
const changesBack = 396 * 24 * time.Hour

// Changes returns the newest state changes of a site, newest first.
func (db *DB) Changes(ctx context.Context, scope authz.Scope, site telemetry.SiteID, limit int) ([]Change, error) {
	now := time.Now()
	w := within(scope).between(now.Add(-changesBack), now.Add(24*time.Hour)).
		and("site_id = {site_id:UInt32}").bind("site_id", uint32(site)).bind("rows", uint32(min(max(limit, 0), 1000)))
	var out []Change
	err := readRows(ctx, db, &stateChangeTable, w, "ORDER BY observed DESC, epoch DESC, seq DESC, idx DESC LIMIT {rows:UInt32}",
		func(src telemetry.Source, _ time.Time, r telemetry.StateChange) { out = append(out, Change{src, r}) })
	return out, err
}
