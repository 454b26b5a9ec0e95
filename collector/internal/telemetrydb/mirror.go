package telemetrydb

import (
	"context"
	"strings"
	"time"

	"sidetone/shared/telemetry"
)

// AgentDim is an agent and its place in the tree, by id and by name.
type AgentDim struct {
	Source                      telemetry.Source
	Tenant, Customer, Site, PBX string
	PBXFQDN                     string
	Hostname, OS, Arch, Version string // of the agent
}

// PutAgents mirrors agents from the control store; the newest row of an agent counts.
func (db *DB) PutAgents(ctx context.Context, agents []AgentDim) error {
	if len(agents) == 0 {
		return nil
	}
	now := time.Now().UnixMilli()
	b := &Block{Table: "agent_dim", Rows: len(agents)}
	b.place(len(agents), func(i int) telemetry.Source { return agents[i].Source })
	for _, c := range []struct {
		name string
		get  func(*AgentDim) string
	}{
		{"tenant", func(a *AgentDim) string { return a.Tenant }},
		{"customer", func(a *AgentDim) string { return a.Customer }},
		{"site", func(a *AgentDim) string { return a.Site }},
		{"pbx", func(a *AgentDim) string { return a.PBX }},
		{"pbx_fqdn", func(a *AgentDim) string { return a.PBXFQDN }},
		{"hostname", func(a *AgentDim) string { return a.Hostname }},
		{"os", func(a *AgentDim) string { return a.OS }},
		{"arch", func(a *AgentDim) string { return a.Arch }},
		{"version", func(a *AgentDim) string { return a.Version }},
	} {
		b.text(c.name, "String", len(agents), func(i int) string { return c.get(&agents[i]) })
	}
	at := make([]int64, len(agents))
	for i := range at {
		at[i] = now
	}
	b.Columns = append(b.Columns, Column{"updated_at", instantType, at})
	return db.InsertBlock(ctx, b, "")
}

// place adds the ids of the tree.
func (b *Block) place(n int, at func(int) telemetry.Source) {
	var ids [5][]uint32
	for i := range n {
		s := at(i)
		for j, v := range [5]uint32{uint32(s.Tenant), uint32(s.Customer), uint32(s.Site), uint32(s.PBX), uint32(s.Agent)} {
			ids[j] = append(ids[j], v)
		}
	}
	for j, name := range [5]string{"tenant_id", "customer_id", "site_id", "pbx_id", "agent_id"} {
		b.Columns = append(b.Columns, Column{name, "UInt32", ids[j]})
	}
}

func (b *Block) text(name, typ string, n int, at func(int) string) {
	v := make([]string, n)
	for i := range v {
		v[i] = strings.ToValidUTF8(at(i), "\uFFFD")
	}
	b.Columns = append(b.Columns, Column{name, typ, v})
}

// IncidentRow is an incident as analysts see it.
type IncidentRow struct {
	ID                                    int64
	Source                                telemetry.Source
	Rule, Title, Severity, Subject, State string
	Summary                               string
	Opened                                time.Time
	Resolved                              time.Time // zero while open
	Reopened                              int       // how often the cause came back
}

// PutIncidents mirrors incidents; the newest row of an incident counts.
func (db *DB) PutIncidents(ctx context.Context, incidents []IncidentRow) error {
	n := len(incidents)
	if n == 0 {
		return nil
	}
	const lc = "LowCardinality(String)"
	now := time.Now().UnixMilli()
	b := &Block{Table: "incident_raw", Rows: n}
	b.place(n, func(i int) telemetry.Source { return incidents[i].Source })
	for _, c := range []struct {
		name, typ string
		get       func(*IncidentRow) string
	}{
		{"rule", lc, func(r *IncidentRow) string { return r.Rule }},
		{"title", "String", func(r *IncidentRow) string { return r.Title }},
		{"severity", lc, func(r *IncidentRow) string { return r.Severity }},
		{"subject", "String", func(r *IncidentRow) string { return r.Subject }},
		{"state", lc, func(r *IncidentRow) string { return r.State }},
		{"summary", "String", func(r *IncidentRow) string { return r.Summary }},
	} {
		b.text(c.name, c.typ, n, func(i int) string { return c.get(&incidents[i]) })
	}
	var id []uint64
	var opened, at []int64
	var resolved []*int64
	var reopened []uint32
	for _, r := range incidents {
		id = append(id, uint64(r.ID))
		opened = append(opened, r.Opened.UnixMilli())
		var end *int64
		if !r.Resolved.IsZero() {
			ms := r.Resolved.UnixMilli()
			end = &ms
		}
		resolved = append(resolved, end)
		reopened = append(reopened, uint32(r.Reopened))
		at = append(at, now)
	}
	b.Columns = append(b.Columns, Column{"incident_id", "UInt64", id}, Column{"opened_at", instantType, opened},
		Column{"resolved_at", nullableInstantType, resolved}, Column{"reopened", "UInt32", reopened}, Column{"updated_at", instantType, at})
	return db.InsertBlock(ctx, b, "")
}
