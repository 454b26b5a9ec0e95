package inventory_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/controldb/sqlite"
	"sidetone/collector/internal/enrolment"
	"sidetone/collector/internal/inventory"
	"sidetone/shared/telemetry"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tree is an inventory over a real store with one agent in each of two tenants.
func tree(t *testing.T) (*inventory.Inventory, [2]telemetry.Source) {
	t.Helper()
	db, err := sqlite.Open(filepath.Join(t.TempDir(), "control.db"))
	check(t, err)
	t.Cleanup(func() { check(t, db.Close()) })
	check(t, db.Migrate(t.Context()))
	var sources [2]telemetry.Source
	now := time.Now()
	for i, tenant := range []string{"One", "Two"} {
		tok := enrolment.Token{ID: tenant, SecretHash: []byte{1}, UsesLeft: 1, Created: now, Expires: now.Add(time.Hour)}
		check(t, db.CreateToken(t.Context(), authz.System(), enrolment.Place{Tenant: tenant, Customer: "Acme", Site: "HQ"}, tok))
		a, err := db.Admit(t.Context(), tenant, enrolment.Applicant{EnrolmentID: "enrolment-" + tenant, Hostname: "pbx"}, now)
		check(t, err)
		sources[i] = a.Source
	}
	return inventory.New(db), sources
}

func TestOutOfScopeIsNotFound(t *testing.T) {
	inv, src := tree(t)
	ctx := t.Context()
	own := authz.Tenants(src[0].Tenant)
	if s, err := inv.Site(ctx, own, src[0].Site); err != nil || s.Tenant.Name != "One" || s.Tenant.ID != src[0].Tenant {
		t.Errorf("own site %+v, %v", s, err)
	}
	if p, err := inv.Path(ctx, own, src[0].Agent); err != nil || p.Source != src[0] || p.Tenant != "One" || p.Customer != "Acme" || p.Site != "HQ" || p.PBX != "HQ" {
		t.Errorf("own path %+v, %v", p, err)
	}
	for name, scope := range map[string]authz.Scope{"neighbour": own, "nobody": {}} {
		_, err := inv.Site(ctx, scope, src[1].Site)
		_, missing := inv.Site(ctx, scope, 4711)
		if !errors.Is(err, inventory.ErrNotFound) || !errors.Is(missing, inventory.ErrNotFound) {
			t.Errorf("%s: hidden site %v, missing site %v", name, err, missing)
		}
		if _, err := inv.Path(ctx, scope, src[1].Agent); !errors.Is(err, inventory.ErrNotFound) {
			t.Errorf("%s: hidden agent %v", name, err)
		}
	}
	for _, c := range []struct {
		scope authz.Scope
		n     int
	}{{authz.System(), 2}, {own, 1}, {authz.Scope{}, 0}} {
		sites, err := inv.Sites(ctx, c.scope)
		check(t, err)
		places, err := inv.Tree(ctx, c.scope)
		check(t, err)
		dims, err := inv.Dimensions(ctx, c.scope)
		check(t, err)
		if len(sites) != c.n || len(places) != c.n || len(dims) != c.n {
			t.Errorf("sees %d sites, %d tenants, %d agents, want %d", len(sites), len(places), len(dims), c.n)
		}
	}
}

func TestReportedTextIsCleaned(t *testing.T) {
	inv, src := tree(t)
	ctx := t.Context()
	check(t, inv.UpdatePBX(ctx, src[0].PBX, "pbx.example\x00\n", strings.Repeat("9", 200)))
	check(t, inv.UpdatePBX(ctx, src[0].PBX, "", "\x00")) // nothing left: nothing changes
	check(t, inv.UpdateAgent(ctx, src[0].Agent, inventory.Hello{Hostname: "\u202epbx\xff", OS: "linux", Arch: "arm64", Version: "2", At: time.Unix(1e9, 0)}))
	check(t, inv.UpdateSeen(ctx, nil))
	check(t, inv.UpdateSeen(ctx, []inventory.Seen{{Agent: src[0].Agent, At: time.Unix(2e9, 0)}}))
	s, err := inv.Site(ctx, authz.System(), src[0].Site)
	check(t, err)
	p := s.PBXs[0]
	if p.FQDN != "pbx.example" || p.Version != strings.Repeat("9", 64) {
		t.Errorf("PBX %+v", p)
	}
	if a := p.Agents[0]; a.Hostname != "pbx" || a.Arch != "arm64" || !a.LastSeen.Equal(time.Unix(2e9, 0)) {
		t.Errorf("agent %+v", a)
	}
	if err := inv.UpdatePBX(ctx, 4711, "x", ""); !errors.Is(err, inventory.ErrNotFound) {
		t.Errorf("unknown PBX: %v", err)
	}
}
