package controldbtest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"sidetone/collector/internal/alert"
	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/controldb"
	"sidetone/collector/internal/enrolment"
	"sidetone/collector/internal/incident"
	"sidetone/collector/internal/notify"
	"sidetone/shared/telemetry"
)

func alertingContract(t *testing.T, open Open) {
	t.Run("alert states", func(t *testing.T) { alertStates(t, open(t)) })
	t.Run("incidents", func(t *testing.T) { incidents(t, open(t)) })
	t.Run("one transaction", func(t *testing.T) { incidentRollback(t, open(t)) })
	t.Run("claims", func(t *testing.T) { claims(t, open(t)) })
	t.Run("claimants race", func(t *testing.T) { claimRace(t, open(t)) })
	t.Run("order at a recipient", func(t *testing.T) { outboxOrder(t, open(t)) })
	t.Run("withdraw", func(t *testing.T) { withdraw(t, open(t)) })
	t.Run("strays", func(t *testing.T) { strays(t, open(t)) })
	t.Run("prune", func(t *testing.T) { prune(t, open(t)) })
}

func alertStates(t *testing.T, db *controldb.DB) {
	a := alert.State{
		Key:    alert.Key{Rule: "r", Agent: 7, Kind: "trunk", Item: 1<<63 | 5},
		Source: alert.Source{Tenant: 1, Customer: 2, Site: 3, PBX: 4, Agent: 7}, Subject: alert.Subject{Kind: "trunk", Item: 1<<63 | 5, Name: "Müller <x>"},
		Phase: alert.Firing, Since: noon, Fired: noon.Add(time.Second), Last: noon.Add(2 * time.Second), Severity: alert.Critical,
		Title: "t", Summary: "s", Advice: "a", Evidence: []alert.Evidence{{Label: "l", Value: "v"}},
	}
	b := a
	b.Key.Item, b.Subject.Item = 6, 6
	save := func(write []alert.State, remove ...alert.Key) {
		t.Helper()
		if err := db.SaveAlertStates(t.Context(), write, remove); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(want ...alert.State) {
		t.Helper()
		got, err := db.LoadAlertStates(t.Context())
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("read %+v, %v\nwant %+v", got, err, want)
		}
	}
	save([]alert.State{a, b})
	expect(a, b)
	b.Summary = "new"
	save([]alert.State{b}, a.Key)
	expect(b)
	save(nil, b.Key, b.Key)
	expect()
}

// source admits an agent at a place and returns where it is.
func source(t *testing.T, db *controldb.DB, p enrolment.Place, id string) alert.Source {
	t.Helper()
	return addAgent(t, db, p, id).Source
}

func newIncident(src alert.Source, item telemetry.ItemID, opened time.Time) incident.Incident {
	return incident.Incident{
		Key:    fmt.Sprintf("key-%d-%d-%d", src.Agent, item, opened.UnixMilli()),
		Cause:  alert.Key{Rule: "trunk-unregistered", Agent: src.Agent, Kind: "trunk", Item: item},
		Source: src, Path: incident.Path{Tenant: "T", Customer: "C", Site: "S", PBX: "P"},
		Severity: alert.Critical, Title: "Trunk not registered", Subject: "Carrier'; DROP TABLE incident; --", Summary: "sum", Advice: "adv",
		Evidence: []alert.Evidence{{Label: "Number", Value: "10001"}}, Phase: incident.Open, Opened: opened,
	}
}

func tx(t *testing.T, db *controldb.DB, fn func(incident.Tx) error) {
	t.Helper()
	if err := db.InIncidentTx(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// add stores an incident and messages about it, each with key, channel and kind.
func add(t *testing.T, db *controldb.DB, inc incident.Incident, now time.Time, msgs ...incident.Announcement) incident.Incident {
	t.Helper()
	tx(t, db, func(x incident.Tx) error {
		if err := x.InsertIncident(&inc); err != nil {
			return err
		}
		return enqueue(x, inc.ID, now, msgs)
	})
	return inc
}

func enqueue(x incident.Tx, id int64, now time.Time, msgs []incident.Announcement) error {
	for _, m := range msgs {
		if err := x.Enqueue(id, m, now); err != nil {
			return err
		}
	}
	return nil
}

func msg(key, channel string, kind incident.Kind) incident.Announcement {
	return incident.Announcement{Key: key, Channel: channel, Recipient: "r", Kind: kind, Subject: "s", Text: "t", Body: []byte(`{"a":1}`), Thread: "th"}
}

func claim(t *testing.T, db *controldb.DB, channel string, now time.Time, limit int) []notify.Message {
	t.Helper()
	got, err := db.ClaimMessages(t.Context(), notify.Claim{Channel: channel, Holder: "me", Now: now, Lease: now.Add(time.Minute), Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func finish(t *testing.T, db *controldb.DB, m notify.Message, d notify.Delivery) {
	t.Helper()
	if err := db.FinishMessage(t.Context(), m, "me", d); err != nil {
		t.Fatal(err)
	}
}

func keys(list []notify.Message) []string {
	out := []string{}
	for _, m := range list {
		out = append(out, m.Key)
	}
	return out
}

func incidents(t *testing.T, db *controldb.DB) {
	src := source(t, db, place, "a1")
	other := source(t, db, enrolment.Place{Tenant: "Other", Customer: "X", Site: "Y"}, "a2")
	one := add(t, db, newIncident(src, 1<<63|9, noon), noon, msg("m1", "mail", incident.KindOpened))
	two := add(t, db, newIncident(src, 2, noon.Add(time.Minute)), noon)
	foreign := add(t, db, newIncident(other, 1, noon), noon, msg("m2", "mail", incident.KindOpened))
	if one.ID == 0 || one.ID == two.ID {
		t.Fatalf("ids %d and %d", one.ID, two.ID)
	}
	twice := newIncident(src, 2, noon.Add(time.Hour))
	if err := db.InIncidentTx(t.Context(), func(x incident.Tx) error { return x.InsertIncident(&twice) }); err == nil {
		t.Error("a cause has two open incidents")
	}
	tx(t, db, func(x incident.Tx) error {
		got, found, err := x.LatestIncident(one.Cause)
		if err != nil || !found || !reflect.DeepEqual(got, one) {
			t.Errorf("read %+v, %v, %v\nwrote %+v", got, found, err, one)
		}
		if _, found, err := x.LatestIncident(alert.Key{Rule: "none"}); found || err != nil {
			t.Errorf("a cause without incident: %v, %v", found, err)
		}
		two.Phase, two.Resolved, two.Resolution, two.Reopened, two.ReopenedAt = incident.Resolved, noon.Add(2*time.Minute), "over", 1, noon.Add(time.Minute)
		if err := x.UpdateIncident(two); err != nil {
			return err
		}
		list, err := x.OpenCauses()
		if err != nil || len(list) != 2 || list[0].ID != one.ID {
			t.Errorf("open: %+v, %v", list, err)
		}
		return nil
	})
	expect := func(scope authz.Scope, f incident.Filter, want ...int64) []incident.Incident {
		t.Helper()
		list, err := db.Incidents(t.Context(), scope, f)
		var got []int64
		for _, i := range list {
			got = append(got, i.ID)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%+v: %v, %v; want %v", f, got, err, want)
		}
		return list
	}
	list := expect(authz.System(), incident.Filter{}, foreign.ID, one.ID, two.ID) // open before resolved, newest first
	expect(authz.Scope{}, incident.Filter{})
	expect(authz.Tenants(src.Tenant), incident.Filter{}, one.ID, two.ID)
	expect(authz.Tenants(src.Tenant), incident.Filter{Phase: incident.Open}, one.ID)
	expect(authz.Tenants(src.Tenant), incident.Filter{Phase: incident.Resolved}, two.ID)
	expect(authz.Tenants(src.Tenant), incident.Filter{Site: other.Site})
	expect(authz.System(), incident.Filter{Limit: 1}, foreign.ID)
	if m := list[1].Messages; len(m) != 1 || m[0].State != "queued" || m[0].Channel != "mail" || m[0].Kind != incident.KindOpened {
		t.Errorf("messages %+v", m)
	}
	if !reflect.DeepEqual(list[2], two) {
		t.Errorf("read %+v\nwrote %+v", list[2], two)
	}
	n, err := db.OpenIncidents(t.Context(), authz.Tenants(other.Tenant))
	if err != nil || !reflect.DeepEqual(n, map[telemetry.SiteID]int{other.Site: 1}) {
		t.Errorf("open by site %v, %v", n, err)
	}
}

// incidentRollback: without the message there is no incident, and the reverse.
func incidentRollback(t *testing.T, db *controldb.DB) {
	src := source(t, db, place, "a1")
	boom := errors.New("boom")
	err := db.InIncidentTx(t.Context(), func(x incident.Tx) error {
		inc := newIncident(src, 1, noon)
		if err := x.InsertIncident(&inc); err != nil {
			return err
		}
		if err := x.Enqueue(inc.ID, msg("m", "mail", incident.KindOpened), noon); err != nil {
			return err
		}
		return boom
	})
	want(t, err, boom)
	list, err := db.Incidents(t.Context(), authz.System(), incident.Filter{})
	if got := claim(t, db, "mail", noon.Add(time.Hour), 9); len(list) != 0 || err != nil || len(got) != 0 {
		t.Errorf("left behind: %v, %v, %v", list, err, got)
	}
	unknown := newIncident(alert.Source{Tenant: 99, Site: 99}, 1, noon)
	if db.InIncidentTx(t.Context(), func(x incident.Tx) error { return x.InsertIncident(&unknown) }) == nil {
		t.Error("an incident of a site that does not exist was stored")
	}
}

func claims(t *testing.T, db *controldb.DB) {
	src := source(t, db, place, "a1")
	inc := add(t, db, newIncident(src, 1, noon), noon, msg("m1", "mail", incident.KindOpened), msg("w1", "web", incident.KindOpened))
	add(t, db, newIncident(src, 2, noon), noon, msg("m2", "mail", incident.KindOpened))
	if got := claim(t, db, "mail", noon.Add(-time.Second), 9); len(got) != 0 {
		t.Errorf("claimed before it was due: %v", keys(got))
	}
	first := claim(t, db, "mail", noon, 1)
	if len(first) != 1 || first[0].Key != "m1" || first[0].Attempt != 1 || string(first[0].Body) != `{"a":1}` ||
		first[0].Thread != "th" || !first[0].Created.Equal(noon) || first[0].IncidentID != inc.ID {
		t.Fatalf("claimed %+v", first)
	}
	if got := keys(claim(t, db, "mail", noon, 9)); !slices.Equal(got, []string{"m2"}) {
		t.Errorf("claimed %v, want m2", got)
	}
	if due, err := db.NextDue(t.Context(), "mail"); err != nil || !due.Equal(noon.Add(time.Minute)) {
		t.Errorf("next due %v, %v: the end of the leases", due, err)
	}
	again := claim(t, db, "mail", noon.Add(time.Minute), 1)
	if len(again) != 1 || again[0].Key != "m1" || again[0].Attempt != 2 {
		t.Fatalf("after the lease %+v", again)
	}
	// The first claimant comes back late: its try is on record, the claim is not its own any more.
	finish(t, db, first[0], notify.Delivery{Outcome: notify.Failed, At: noon, Error: "late"})
	if err := db.ReleaseMessages(t.Context(), "somebody"); err != nil {
		t.Fatal(err)
	}
	if got := claim(t, db, "mail", noon.Add(61*time.Second), 1); len(got) == 1 && got[0].Key == "m1" {
		t.Error("another holder's release ended the claim")
	}
	finish(t, db, again[0], notify.Delivery{Outcome: notify.Retry, At: noon, Took: 30 * time.Millisecond, Error: "busy", Next: noon.Add(time.Hour)})
	if err := db.ReleaseMessages(t.Context(), "me"); err != nil {
		t.Fatal(err)
	}
	got := claim(t, db, "mail", noon.Add(2*time.Hour), 9)
	if !slices.Equal(keys(got), []string{"m1", "m2"}) || got[0].Attempt != 3 {
		t.Fatalf("after the retry is due: %+v", got)
	}
	finish(t, db, got[0], notify.Delivery{Outcome: notify.Sent, At: noon.Add(2 * time.Hour)})
	list, err := db.Incidents(t.Context(), authz.System(), incident.Filter{Site: src.Site})
	if err != nil || list[1].Messages[0].State != "sent" || !list[1].Messages[0].At.Equal(noon.Add(2*time.Hour)) || list[1].Messages[0].Error != "" {
		t.Errorf("messages %+v, %v", list, err)
	}
	recs, err := db.Deliveries(t.Context(), authz.System(), inc.ID)
	if err != nil || len(recs) != 3 || recs[0].Error != "late" || recs[1].Outcome != notify.Retry || recs[1].Took != 30*time.Millisecond || recs[2].Outcome != notify.Sent {
		t.Errorf("deliveries %+v, %v", recs, err)
	}
	if recs, err := db.Deliveries(t.Context(), authz.Tenants(999), inc.ID); err != nil || len(recs) != 0 {
		t.Errorf("deliveries out of scope: %+v, %v", recs, err)
	}
}

func claimRace(t *testing.T, db *controldb.DB) {
	src := source(t, db, place, "a1")
	for i := range 20 {
		add(t, db, newIncident(src, telemetry.ItemID(i+1), noon), noon, msg(fmt.Sprint("m", i), "mail", incident.KindOpened))
	}
	var mu sync.Mutex
	seen := map[string]int{}
	var wg sync.WaitGroup
	for h := range 4 {
		wg.Go(func() {
			for range 10 {
				got, err := db.ClaimMessages(context.WithoutCancel(t.Context()), notify.Claim{Channel: "mail", Holder: fmt.Sprint(h), Now: noon, Lease: noon.Add(time.Hour), Limit: 3})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				for _, m := range got {
					seen[m.Key]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for k, n := range seen {
		if n != 1 {
			t.Errorf("%s was claimed %d times", k, n)
		}
	}
	if len(seen) != 20 {
		t.Errorf("%d of 20 messages were claimed", len(seen))
	}
}

// outboxOrder: the resolution waits for its opening, at the same recipient only.
func outboxOrder(t *testing.T, db *controldb.DB) {
	src := source(t, db, place, "a1")
	inc := add(t, db, newIncident(src, 1, noon), noon, msg("open", "mail", incident.KindOpened), msg("web-open", "web", incident.KindOpened))
	tx(t, db, func(x incident.Tx) error {
		return enqueue(x, inc.ID, noon, []incident.Announcement{msg("back", "mail", incident.KindResolved), msg("web-back", "web", incident.KindResolved)})
	})
	open := claim(t, db, "mail", noon, 9)
	if !slices.Equal(keys(open), []string{"open"}) {
		t.Fatalf("claimed %v", keys(open))
	}
	finish(t, db, open[0], notify.Delivery{Outcome: notify.Retry, At: noon, Next: noon.Add(time.Minute)})
	if got := claim(t, db, "mail", noon.Add(30*time.Second), 9); len(got) != 0 {
		t.Errorf("%v overtook", keys(got))
	}
	if due, err := db.NextDue(t.Context(), "mail"); err != nil || !due.Equal(noon.Add(time.Minute)) {
		t.Errorf("next due %v, %v: what waits behind must not count", due, err)
	}
	web := claim(t, db, "web", noon, 9)
	finish(t, db, web[0], notify.Delivery{Outcome: notify.Failed, At: noon, Error: "404"})
	if got := keys(claim(t, db, "web", noon, 9)); !slices.Equal(got, []string{"web-back"}) {
		t.Errorf("after a failure: %v", got)
	}
	open = claim(t, db, "mail", noon.Add(time.Minute), 9)
	finish(t, db, open[0], notify.Delivery{Outcome: notify.Sent, At: noon})
	if got := keys(claim(t, db, "mail", noon.Add(time.Minute), 9)); !slices.Equal(got, []string{"back"}) {
		t.Errorf("after the opening: %v", got)
	}
}

func withdraw(t *testing.T, db *controldb.DB) {
	src := source(t, db, place, "a1")
	inc := add(t, db, newIncident(src, 1, noon), noon, msg("m1", "mail", incident.KindOpened), msg("w1", "web", incident.KindOpened))
	other := add(t, db, newIncident(src, 2, noon), noon)
	held := msg("m2", "mail", incident.KindOpened)
	held.NotBefore = noon.Add(time.Minute)
	tx(t, db, func(x incident.Tx) error {
		foreign := held
		foreign.Key = "m3"
		if err := x.Enqueue(other.ID, foreign, noon); err != nil {
			return err
		}
		return x.Enqueue(inc.ID, held, noon)
	})
	tx(t, db, func(x incident.Tx) error {
		told, err := x.WithdrawHeld(inc.ID, noon.Add(time.Second))
		if err != nil || !slices.Equal(told, []incident.Recipient{{Channel: "web", Name: "r"}}) {
			t.Errorf("told %v, %v", told, err)
		}
		return err
	})
	if got := keys(claim(t, db, "mail", noon.Add(time.Hour), 9)); !slices.Equal(got, []string{"m1", "m3"}) {
		t.Errorf("left over: %v", got)
	}
}

func strays(t *testing.T, db *controldb.DB) {
	src := source(t, db, place, "a1")
	add(t, db, newIncident(src, 1, noon), noon, msg("m1", "mail", incident.KindOpened), msg("w1", "web", incident.KindOpened))
	if n, err := db.FailStrays(t.Context(), []string{"mail"}, noon); n != 1 || err != nil {
		t.Errorf("failed %d, %v", n, err)
	}
	if n, err := db.FailStrays(t.Context(), nil, noon); n != 1 || err != nil {
		t.Errorf("failed %d, %v", n, err)
	}
	list, err := db.Incidents(t.Context(), authz.System(), incident.Filter{})
	if err != nil || list[0].Messages[0].State != "failed" || list[0].Messages[0].Error == "" {
		t.Errorf("messages %+v, %v", list, err)
	}
	if due, err := db.NextDue(t.Context(), "web"); err != nil || !due.IsZero() {
		t.Errorf("next due %v, %v", due, err)
	}
}

func prune(t *testing.T, db *controldb.DB) {
	src := source(t, db, place, "a1")
	inc := add(t, db, newIncident(src, 1, noon), noon, msg("m1", "mail", incident.KindOpened))
	add(t, db, newIncident(src, 2, noon), noon)
	finish(t, db, claim(t, db, "mail", noon, 1)[0], notify.Delivery{Outcome: notify.Sent, At: noon})
	inc.Phase, inc.Resolved = incident.Resolved, noon.Add(time.Minute)
	tx(t, db, func(x incident.Tx) error { return x.UpdateIncident(inc) })
	if n, err := db.PruneIncidents(t.Context(), noon.Add(time.Minute)); n != 0 || err != nil {
		t.Errorf("pruned %d too early, %v", n, err)
	}
	if n, err := db.PruneIncidents(t.Context(), noon.Add(time.Hour)); n != 1 || err != nil {
		t.Errorf("pruned %d, %v", n, err)
	}
	recs, err := db.Deliveries(t.Context(), authz.System(), inc.ID)
	list, err2 := db.Incidents(t.Context(), authz.System(), incident.Filter{})
	if len(recs) != 0 || len(list) != 1 || err != nil || err2 != nil {
		t.Errorf("left: %v, %v, %v, %v", recs, list, err, err2)
	}
}
