package telemetrydb

import (
	"context"
	"time"

	"sidetone/shared/telemetry"
)

// AgentDim is an agent and its place in the tree, by id and by name.
type AgentDim struct {
	Source                             telemetry.Source
	Tenant, Customer, Site, PBX, Agent string
	Revoked                            bool
}

// PutAgents mirrors agents from the control store; the newest row of an agent counts.
func (db *DB) PutAgents(ctx context.Context, agents []AgentDim) error {
	if len(agents) == 0 {
		return nil
	}
	now := time.Now().UnixMilli()
	var ids [5][]uint32
	var names [5][]string
	var revoked []bool
	var at []int64
	for _, a := range agents {
		for i, v := range []uint32{uint32(a.Source.Tenant), uint32(a.Source.Customer), uint32(a.Source.Site), uint32(a.Source.PBX), uint32(a.Source.Agent)} {
			ids[i] = append(ids[i], v)
		}
		for i, v := range []string{a.Tenant, a.Customer, a.Site, a.PBX, a.Agent} {
			names[i] = append(names[i], v)
		}
		revoked = append(revoked, a.Revoked)
		at = append(at, now)
	}
	b := &Block{Table: "agent_dim", Rows: len(agents)}
	for i, n := range []string{"tenant_id", "customer_id", "site_id", "pbx_id", "agent_id"} {
		b.Columns = append(b.Columns, Column{n, "UInt32", ids[i]})
	}
	for i, n := range []string{"tenant", "customer", "site", "pbx", "agent"} {
		b.Columns = append(b.Columns, Column{n, "String", names[i]})
	}
	b.Columns = append(b.Columns, Column{"revoked", "Bool", revoked}, Column{"updated_at", instantType, at})
	return db.InsertBlock(ctx, b, "")
}

// IncidentRow is an incident as analysts see it.
type IncidentRow struct {
	Source                                telemetry.Source
	ID                                    uint64
	Rule, Title, Severity, Subject, State string
	Summary                               string
	Opened                                time.Time
	Resolved                              time.Time // zero while open
}

// PutIncidents mirrors incidents; the newest row of an incident counts.
func (db *DB) PutIncidents(ctx context.Context, incidents []IncidentRow) error {
	if len(incidents) == 0 {
		return nil
	}
	now := time.Now().UnixMilli()
	var ids [5][]uint32
	var id []uint64
	var text [6][]string
	var opened, at []int64
	var resolved []*int64
	for _, r := range incidents {
		for i, v := range []uint32{uint32(r.Source.Tenant), uint32(r.Source.Customer), uint32(r.Source.Site), uint32(r.Source.PBX), uint32(r.Source.Agent)} {
			ids[i] = append(ids[i], v)
		}
		id = append(id, r.ID)
		for i, v := range []string{r.Rule, r.Title, r.Severity, r.Subject, r.State, r.Summary} {
			text[i] = append(text[i], v)
		}
		opened = append(opened, r.Opened.UnixMilli())
		var end *int64
		if !r.Resolved.IsZero() {
			ms := r.Resolved.UnixMilli()
			end = &ms
		}
		resolved = append(resolved, end)
		at = append(at, now)
	}
	b := &Block{Table: "incident_raw", Rows: len(incidents)}
	for i, n := range []string{"tenant_id", "customer_id", "site_id", "pbx_id", "agent_id"} {
		b.Columns = append(b.Columns, Column{n, "UInt32", ids[i]})
	}
	const lc = "LowCardinality(String)"
	b.Columns = append(b.Columns, Column{"incident_id", "UInt64", id},
		Column{"rule", lc, text[0]}, Column{"title", "String", text[1]}, Column{"severity", lc, text[2]},
		Column{"subject", "String", text[3]}, Column{"state", lc, text[4]}, Column{"summary", "String", text[5]},
		Column{"opened_at", instantType, opened}, Column{"resolved_at", nullableInstantType, resolved}, Column{"updated_at", instantType, at})
	return db.InsertBlock(ctx, b, "")
}
