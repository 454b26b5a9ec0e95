package controldbtest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/controldb"
	"sidetone/collector/internal/enrolment"
)

var place = enrolment.Place{Tenant: "MSP", Customer: "Acme", Site: "HQ"}

func addToken(t *testing.T, db *controldb.DB, id string, uses int, p enrolment.Place) enrolment.Token {
	t.Helper()
	tok := enrolment.Token{
		ID: id, SecretHash: bytes.Repeat([]byte{7}, 32), UsesLeft: uses, Created: noon, Expires: noon.Add(time.Hour),
	}
	if err := db.CreateToken(t.Context(), authz.System(), p, tok); err != nil {
		t.Fatal(err)
	}
	return tok
}

func addAgent(t *testing.T, db *controldb.DB, p enrolment.Place, enrolmentID string) enrolment.Agent {
	t.Helper()
	tok := addToken(t, db, "tok-"+enrolmentID, 1, p)
	a, err := db.Admit(t.Context(), tok.ID, enrolment.Applicant{EnrolmentID: enrolmentID, Hostname: "host-" + enrolmentID}, noon)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func want(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("error %v, want %v", err, target)
	}
}

func enrolmentContract(t *testing.T, open Open) {
	t.Run("token", func(t *testing.T) {
		db := open(t)
		tok := addToken(t, db, "one", 2, place)
		got, err := db.Token(t.Context(), "one")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.SecretHash, tok.SecretHash) || got.UsesLeft != 2 || !got.Expires.Equal(tok.Expires) || !got.Created.Equal(tok.Created) {
			t.Errorf("read %+v, wrote %+v", got, tok)
		}
		_, err = db.Token(t.Context(), "two")
		want(t, err, enrolment.ErrUnknown)
	})
	t.Run("token scope", func(t *testing.T) { tokenScope(t, open(t)) })
	t.Run("admit", func(t *testing.T) { admit(t, open(t)) })
	t.Run("one use, many applicants", func(t *testing.T) { admitRace(t, open(t)) })
	t.Run("generation", func(t *testing.T) { generation(t, open(t)) })
	t.Run("revoke", func(t *testing.T) { revoke(t, open(t)) })
}

func tokenScope(t *testing.T, db *controldb.DB) {
	first := addAgent(t, db, place, "enrolment-first")
	own := authz.Tenants(first.Source.Tenant)
	tok := enrolment.Token{SecretHash: []byte{1}, UsesLeft: 1, Created: noon, Expires: noon.Add(time.Hour)}
	add := func(id string, scope authz.Scope, p enrolment.Place) error {
		tok.ID = id
		return db.CreateToken(t.Context(), scope, p, tok)
	}
	want(t, add("a", authz.Scope{}, place), enrolment.ErrForbidden)
	want(t, add("b", own, enrolment.Place{Tenant: "Other", Customer: "X", Site: "Y"}), enrolment.ErrForbidden)
	want(t, add("c", authz.Tenants(first.Source.Tenant+1), place), enrolment.ErrForbidden)
	if err := add("d", own, enrolment.Place{Tenant: "MSP", Customer: "Bravo", Site: "HQ"}); err != nil {
		t.Error(err)
	}
	if _, err := db.Token(t.Context(), "b"); !errors.Is(err, enrolment.ErrUnknown) {
		t.Errorf("a refused token was kept: %v", err)
	}
	tree, err := db.Places(t.Context(), authz.System())
	if err != nil || len(tree) != 1 || len(tree[0].Customers) != 2 {
		t.Errorf("tree %+v, %v: a refusal must leave nothing, a name must not repeat", tree, err)
	}
}

func admit(t *testing.T, db *controldb.DB) {
	addToken(t, db, "two-uses", 2, place)
	who := enrolment.Applicant{EnrolmentID: "enrolment-a", Hostname: "h", OS: "linux", Arch: "amd64", Version: "1"}
	a, err := db.Admit(t.Context(), "two-uses", who, noon)
	if err != nil {
		t.Fatal(err)
	}
	if a.Generation != 1 || a.Used || a.Revoked || a.SiteName != "HQ" || a.TokenID != "two-uses" ||
		a.Source.Tenant == 0 || a.Source.Customer == 0 || a.Source.Site == 0 || a.Source.PBX == 0 || a.Source.Agent == 0 {
		t.Errorf("new agent %+v", a)
	}
	again, err := db.AgentByEnrolment(t.Context(), "enrolment-a")
	if err != nil || again != a {
		t.Errorf("read %+v, %v, want %+v", again, err, a)
	}
	_, err = db.Admit(t.Context(), "two-uses", who, noon)
	want(t, err, enrolment.ErrDuplicate)
	if tok, _ := db.Token(t.Context(), "two-uses"); tok.UsesLeft != 1 {
		t.Errorf("%d uses left after a duplicate, want 1: a refusal must cost nothing", tok.UsesLeft)
	}
	who.EnrolmentID = "enrolment-b"
	_, err = db.Admit(t.Context(), "two-uses", who, noon.Add(time.Hour))
	want(t, err, enrolment.ErrTokenExpired)
	b, err := db.Admit(t.Context(), "two-uses", who, noon)
	if err != nil {
		t.Fatal(err)
	}
	if b.Source.Site != a.Source.Site || b.Source.PBX == a.Source.PBX || b.Source.Agent == a.Source.Agent {
		t.Errorf("second agent %+v beside %+v", b, a)
	}
	who.EnrolmentID = "enrolment-c"
	_, err = db.Admit(t.Context(), "two-uses", who, noon)
	want(t, err, enrolment.ErrTokenSpent)
	_, err = db.Admit(t.Context(), "no-such", who, noon)
	want(t, err, enrolment.ErrUnknown)
	_, err = db.AgentByEnrolment(t.Context(), "enrolment-c")
	want(t, err, enrolment.ErrUnknown)
	sites, err := db.Sites(t.Context(), authz.System(), nil)
	if err != nil || len(sites) != 1 || len(sites[0].PBXs) != 2 {
		t.Errorf("sites %+v, %v: refused agents must leave no PBX", sites, err)
	}
}

func admitRace(t *testing.T, db *controldb.DB) {
	addToken(t, db, "single", 1, place)
	const applicants = 8
	var wg sync.WaitGroup
	var admitted, spent atomic.Int64
	for i := range applicants {
		wg.Go(func() {
			_, err := db.Admit(t.Context(), "single", enrolment.Applicant{EnrolmentID: fmt.Sprintf("enrolment-%d", i)}, noon)
			switch {
			case err == nil:
				admitted.Add(1)
			case errors.Is(err, enrolment.ErrTokenSpent):
				spent.Add(1)
			default:
				t.Errorf("applicant %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if admitted.Load() != 1 || spent.Load() != applicants-1 {
		t.Errorf("%d admitted, %d told that the token is spent", admitted.Load(), spent.Load())
	}
}

func generation(t *testing.T, db *controldb.DB) {
	a := addAgent(t, db, place, "enrolment-g")
	set := func(a enrolment.Agent, g uint64, used, want bool) {
		t.Helper()
		ok, err := db.SetGeneration(t.Context(), a, g, used)
		if err != nil || ok != want {
			t.Errorf("set to %d, %v: %v, %v, want %v", g, used, ok, err, want)
		}
	}
	set(a, 1, true, true)
	set(a, 2, false, false) // a is out of date: it says not used
	a.Used = true
	set(a, 2, false, true)
	set(a, 2, false, false)
	got, err := db.Agent(t.Context(), a.Source.Agent)
	if err != nil || got.Generation != 2 || got.Used {
		t.Errorf("agent %+v, %v", got, err)
	}
}

func revoke(t *testing.T, db *controldb.DB) {
	a := addAgent(t, db, place, "enrolment-r")
	id := a.Source.Agent
	want(t, db.Revoke(t.Context(), authz.Scope{}, id, noon), enrolment.ErrUnknown)
	want(t, db.Revoke(t.Context(), authz.Tenants(a.Source.Tenant+1), id, noon), enrolment.ErrUnknown)
	want(t, db.Revoke(t.Context(), authz.System(), id+1, noon), enrolment.ErrUnknown)
	if got, _ := db.Agent(t.Context(), id); got.Revoked {
		t.Fatal("revoked out of scope")
	}
	for range 2 {
		if err := db.Revoke(t.Context(), authz.Tenants(a.Source.Tenant), id, noon); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := db.Agent(t.Context(), id); !got.Revoked {
		t.Error("not revoked")
	}
	if ok, err := db.SetGeneration(t.Context(), a, 2, false); ok || err != nil {
		t.Errorf("a revoked agent's generation was set: %v, %v", ok, err)
	}
}
