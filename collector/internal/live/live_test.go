package live

import (
	"testing"
	"time"

	"sidetone/collector/internal/authz"
	"sidetone/shared/telemetry"
)

var src = telemetry.Source{Tenant: 1, Customer: 2, Site: 3, PBX: 4, Agent: 5}

func trunk(at telemetry.UnixMS, registered bool) *telemetry.Set {
	return &telemetry.Set{Trunks: []telemetry.Trunk{{Observed: at, ID: 9, Number: "10001", Registered: registered}}}
}

func TestSinceMovesOnlyWithTheState(t *testing.T) {
	h := New()
	now := time.Now()
	h.Deliver(src, trunk(1000, true), now)
	h.Deliver(src, trunk(2000, true), now)
	h.Deliver(src, trunk(3000, false), now)
	h.Deliver(src, trunk(4000, false), now)
	a, _ := h.Agent(src.Agent)
	if got := a.Trunks[9]; got.Since != 3000 || got.Value.Observed != 4000 {
		t.Fatalf("since %d observed %d, want 3000 and 4000", got.Since, got.Value.Observed)
	}
}

func TestBackfillDoesNotOverwriteThePresent(t *testing.T) {
	h := New()
	now := time.Now()
	h.Deliver(src, trunk(4000, false), now)
	h.Deliver(src, trunk(2000, true), now)
	h.Deliver(src, &telemetry.Set{ProbeWindows: []telemetry.ProbeWindow{{Target: 7, Observed: 50}, {Target: 7, Observed: 40}}}, now)
	a, _ := h.Agent(src.Agent)
	if a.Trunks[9].Value.Registered {
		t.Error("an old reading replaced a newer one")
	}
	if a.Windows[7].Observed != 50 {
		t.Errorf("window observed %d, want 50", a.Windows[7].Observed)
	}
}

func TestRemovedItemGoes(t *testing.T) {
	h := New()
	h.Deliver(src, trunk(1000, true), time.Now())
	h.Deliver(src, &telemetry.Set{StateChanges: []telemetry.StateChange{{Observed: 2, Subject: telemetry.SubjectTrunk, Item: 9, To: "removed"}}}, time.Now())
	if a, _ := h.Agent(src.Agent); len(a.Trunks) != 0 {
		t.Error("a removed trunk is still listed")
	}
}

func TestLimitOfItems(t *testing.T) {
	h := New()
	set := &telemetry.Set{}
	for i := range maxItemsPerAgent + 5 {
		set.Services = append(set.Services, telemetry.Service{Observed: 1, ID: telemetry.ItemID(i + 1)})
	}
	h.Deliver(src, set, time.Now())
	a, _ := h.Agent(src.Agent)
	if len(a.Services) != maxItemsPerAgent || h.Refused() != 5 {
		t.Fatalf("kept %d, refused %d", len(a.Services), h.Refused())
	}
}

func TestSubscriptionSeesOnlyItsScope(t *testing.T) {
	h := New()
	mine := h.Subscribe(authz.Tenants(1), 0)
	other := h.Subscribe(authz.Tenants(2), 0)
	site := h.Subscribe(authz.System(), 99)
	for _, s := range []*Subscription{mine, other, site} {
		defer s.Close()
	}
	h.Deliver(src, trunk(1, true), time.Now())
	if len(mine.Events()) != 1 || len(other.Events()) != 0 || len(site.Events()) != 0 {
		t.Fatalf("events: mine %d, other tenant %d, other site %d", len(mine.Events()), len(other.Events()), len(site.Events()))
	}
}

func TestSlowListenerIsToldToResync(t *testing.T) {
	h := New()
	s := h.Subscribe(authz.System(), 0)
	defer s.Close()
	for range queueLength + 3 {
		h.Touch(src)
	}
	for range queueLength {
		if e := <-s.Events(); e.Resync {
			t.Fatal("resync before anything was lost")
		}
	}
	h.Touch(src)
	if e := <-s.Events(); !e.Resync {
		t.Fatal("events were lost and the listener was not told")
	}
	h.Touch(src)
	if e := <-s.Events(); e.Resync {
		t.Fatal("resync is told once")
	}
}
