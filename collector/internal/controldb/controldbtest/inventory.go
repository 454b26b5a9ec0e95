package controldbtest

import (
	"testing"
	"time"

	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/controldb"
	"sidetone/collector/internal/enrolment"
	"sidetone/collector/internal/inventory"
	"sidetone/shared/telemetry"
)

func inventoryContract(t *testing.T, open Open) {
	t.Run("scope", func(t *testing.T) { treeScope(t, open(t)) })
	t.Run("shape", func(t *testing.T) { treeShape(t, open(t)) })
	t.Run("facts", func(t *testing.T) { facts(t, open(t)) })
}

// treeScope asks every reading method with every kind of scope.
func treeScope(t *testing.T, db *controldb.DB) {
	a := addAgent(t, db, enrolment.Place{Tenant: "One", Customer: "A", Site: "HQ"}, "enrolment-one")
	b := addAgent(t, db, enrolment.Place{Tenant: "Two", Customer: "A", Site: "HQ"}, "enrolment-two")
	cases := []struct {
		name  string
		scope authz.Scope
		seesA bool
		seesB bool
	}{
		{"nobody", authz.Scope{}, false, false},
		{"system", authz.System(), true, true},
		{"first", authz.Tenants(a.Source.Tenant), true, false},
		{"second", authz.Tenants(b.Source.Tenant), false, true},
		{"both", authz.Tenants(a.Source.Tenant, b.Source.Tenant), true, true},
		{"foreign", authz.Tenants(a.Source.Tenant + b.Source.Tenant), false, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			total := 0
			for _, x := range []struct {
				src  telemetry.Source
				sees bool
			}{{a.Source, c.seesA}, {b.Source, c.seesB}} {
				n := 0
				if x.sees {
					n = 1
					total++
				}
				if got, err := db.Sites(t.Context(), c.scope, &x.src.Site); err != nil || len(got) != n {
					t.Errorf("site %d: %d rows, %v, want %d", x.src.Site, len(got), err, n)
				}
				if got, err := db.Paths(t.Context(), c.scope, &x.src.Agent); err != nil || len(got) != n {
					t.Errorf("path of agent %d: %d rows, %v, want %d", x.src.Agent, len(got), err, n)
				}
			}
			if got, err := db.Sites(t.Context(), c.scope, nil); err != nil || len(got) != total {
				t.Errorf("sites: %d, %v, want %d", len(got), err, total)
			}
			if got, err := db.Places(t.Context(), c.scope); err != nil || len(got) != total {
				t.Errorf("tenants: %d, %v, want %d", len(got), err, total)
			}
			if got, err := db.Paths(t.Context(), c.scope, nil); err != nil || len(got) != total {
				t.Errorf("paths: %d, %v, want %d", len(got), err, total)
			}
		})
	}
}

func treeShape(t *testing.T, db *controldb.DB) {
	hostile := "'; DROP TABLE site; -- \u202e<b>"
	addToken(t, db, "empty-site", 1, enrolment.Place{Tenant: "One", Customer: "Z", Site: "Branch"})
	addToken(t, db, "three", 3, enrolment.Place{Tenant: "One", Customer: "A", Site: hostile})
	var last enrolment.Agent
	for _, id := range []string{"enrolment-1", "enrolment-2"} {
		var err error
		if last, err = db.Admit(t.Context(), "three", enrolment.Applicant{EnrolmentID: id, Hostname: id, OS: "linux"}, noon); err != nil {
			t.Fatal(err)
		}
	}
	sites, err := db.Sites(t.Context(), authz.System(), nil)
	if err != nil || len(sites) != 2 {
		t.Fatalf("sites %+v, %v", sites, err)
	}
	full, empty := sites[0], sites[1]
	if full.Name != hostile || full.Tenant.Name != "One" || full.Customer.Name != "A" || len(full.PBXs) != 2 || len(empty.PBXs) != 0 {
		t.Fatalf("sites %+v", sites)
	}
	if full.PBXs[0].Name != hostile || full.PBXs[1].Name != hostile+" 2" {
		t.Errorf("PBX names %q, %q", full.PBXs[0].Name, full.PBXs[1].Name)
	}
	for i, p := range full.PBXs {
		if len(p.Agents) != 1 || p.Agents[0].OS != "linux" || !p.Agents[0].Created.Equal(noon) || !p.Agents[0].LastSeen.IsZero() {
			t.Errorf("PBX %d: %+v", i, p)
		}
	}
	paths, err := db.Paths(t.Context(), authz.System(), &last.Source.Agent)
	if err != nil || len(paths) != 1 || paths[0].Source != last.Source || paths[0].Site != hostile || paths[0].Hostname != "enrolment-2" {
		t.Errorf("path %+v, %v", paths, err)
	}
	tree, err := db.Places(t.Context(), authz.System())
	if err != nil || len(tree) != 1 || len(tree[0].Customers) != 2 || tree[0].Customers[1].Sites[0].Name != "Branch" {
		t.Errorf("tree %+v, %v", tree, err)
	}
}

func facts(t *testing.T, db *controldb.DB) {
	a := addAgent(t, db, place, "enrolment-f")
	ctx, id := t.Context(), a.Source.Agent
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(db.SetPBXFacts(ctx, a.Source.PBX, "pbx.example", "20.0.1"))
	check(db.SetPBXFacts(ctx, a.Source.PBX, "", "20.0.2"))
	check(db.SetHello(ctx, id, inventory.Hello{OS: "debian 12", Version: "1.1", At: noon}))
	check(db.SetSeen(ctx, []inventory.Seen{{Agent: id, At: noon.Add(time.Minute)}, {Agent: id + 99, At: noon}}))
	check(db.SetSeen(ctx, []inventory.Seen{{Agent: id, At: noon}}))
	check(db.SetHello(ctx, id, inventory.Hello{At: noon}))
	sites, err := db.Sites(ctx, authz.System(), &a.Source.Site)
	check(err)
	pbx := sites[0].PBXs[0]
	agent := pbx.Agents[0]
	if pbx.FQDN != "pbx.example" || pbx.Version != "20.0.2" {
		t.Errorf("PBX %+v", pbx)
	}
	if agent.Hostname != "host-enrolment-f" || agent.OS != "debian 12" || agent.Version != "1.1" {
		t.Errorf("agent %+v", agent)
	}
	if !agent.LastSeen.Equal(noon.Add(time.Minute)) {
		t.Errorf("last seen %s: it must not go back", agent.LastSeen)
	}
	want(t, db.SetPBXFacts(ctx, a.Source.PBX+1, "x", ""), inventory.ErrNotFound)
	want(t, db.SetHello(ctx, id+1, inventory.Hello{}), inventory.ErrNotFound)
}
