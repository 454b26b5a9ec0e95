package incident_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"sidetone/collector/internal/alert"
	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/controldb"
	"sidetone/collector/internal/controldb/sqlite"
	"sidetone/collector/internal/enrolment"
	"sidetone/collector/internal/incident"
	"sidetone/collector/internal/notify"
	"sidetone/shared/telemetry"
)

var noon = time.Date(2026, 3, 29, 12, 0, 0, 0, time.UTC)

func at(sec int) time.Time { return noon.Add(time.Duration(sec) * time.Second) }

// bench is a Manager over a real store, with a clock that stands where it is put.
type bench struct {
	*incident.Manager
	db      *controldb.DB
	store   *failing
	src     alert.Source
	now     time.Time
	changes []incident.Incident
}

// failing is the real store that can be told to fail.
type failing struct {
	incident.Store
	all  bool
	rule string // transitions of this rule fail
}

type failingTx struct {
	incident.Tx
	rule string
}

var errStore = errors.New("disk full")

func (f *failing) InIncidentTx(ctx context.Context, fn func(incident.Tx) error) error {
	return f.Store.InIncidentTx(ctx, func(tx incident.Tx) error {
		if err := fn(failingTx{tx, f.rule}); err != nil {
			return err
		}
		if f.all {
			return errStore // at the commit
		}
		return nil
	})
}

func (f failingTx) InsertIncident(inc *incident.Incident) error {
	if inc.Cause.Rule == f.rule {
		return errStore
	}
	return f.Tx.InsertIncident(inc)
}

// announcer tells two recipients of everything.
type announcer struct{ wakes int }

func (a *announcer) Wake() { a.wakes++ }

func (a *announcer) Announce(inc incident.Incident, kind incident.Kind) []incident.Announcement {
	var out []incident.Announcement
	for _, ch := range []string{"mail", "web"} {
		out = append(out, incident.Announcement{
			Key: fmt.Sprintf("%s-%s-%s-%d", inc.Key, ch, kind, inc.Reopened), Channel: ch, Recipient: "r", Kind: kind,
			Body: []byte("{}"),
		})
	}
	return out
}

type names struct{ fail bool }

func (n *names) IncidentPath(context.Context, alert.Source) (incident.Path, error) {
	if n.fail {
		return incident.Path{}, errors.New("no names")
	}
	return incident.Path{Tenant: "T", Customer: "C", Site: "S", PBX: "P"}, nil
}

func newBench(t *testing.T) *bench {
	t.Helper()
	db, err := sqlite.Open(filepath.Join(t.TempDir(), "control.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	tok := enrolment.Token{ID: "tok", SecretHash: []byte{1}, UsesLeft: 1, Created: noon, Expires: noon.Add(time.Hour)}
	if err := db.CreateToken(t.Context(), authz.System(), enrolment.Place{Tenant: "T", Customer: "C", Site: "S"}, tok); err != nil {
		t.Fatal(err)
	}
	a, err := db.Admit(t.Context(), "tok", enrolment.Applicant{EnrolmentID: "e"}, noon)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{db: db, store: &failing{Store: db}, src: a.Source, now: noon}
	b.Manager = incident.New(incident.Config{}, incident.Deps{
		Store: b.store, Names: &names{}, Announcer: &announcer{}, Log: zerolog.Nop(),
		OnChange: func(i incident.Incident) { b.changes = append(b.changes, i) },
		Now:      func() time.Time { return b.now },
	})
	return b
}

func (b *bench) transition(rule string, to alert.Phase, sec int) alert.Transition {
	return alert.Transition{
		Key: alert.Key{Rule: rule, Agent: b.src.Agent, Kind: telemetry.SubjectTrunk, Item: 7}, Source: b.src,
		Subject: alert.Subject{Kind: telemetry.SubjectTrunk, Item: 7, Name: "Carrier"}, From: alert.Pending, To: to, At: at(sec),
		Severity: alert.Critical, Title: "Title", Summary: fmt.Sprintf("%s at %d", to, sec),
	}
}

func (b *bench) handle(t *testing.T, list ...alert.Transition) {
	t.Helper()
	if err := b.Handle(t.Context(), list); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) list(t *testing.T) []incident.Incident {
	t.Helper()
	list, err := b.List(t.Context(), authz.System(), incident.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// messages lists the kinds of messages to one channel, withdrawn ones apart.
func (b *bench) messages(t *testing.T) string {
	t.Helper()
	var out []string
	for _, i := range b.list(t) {
		for _, m := range i.Messages {
			if m.Channel == "mail" {
				out = append(out, string(m.Kind))
			}
		}
	}
	return strings.Join(out, " ")
}

func TestOneIncidentForACause(t *testing.T) {
	b := newBench(t)
	b.handle(t, b.transition("r", alert.Firing, 0))
	b.handle(t, b.transition("r", alert.Firing, 5), b.transition("r", alert.Pending, 6)) // told twice, or nothing to act on
	b.handle(t, b.transition("other", alert.Firing, 7))
	b.now = at(60)
	b.handle(t, b.transition("r", alert.Resolved, 60))
	b.handle(t, b.transition("r", alert.Resolved, 61))
	list := b.list(t)
	if len(list) != 2 {
		t.Fatalf("%d incidents, want 2", len(list))
	}
	got := list[1]
	if got.Phase != incident.Resolved || !got.Opened.Equal(at(0)) || !got.Resolved.Equal(at(60)) || got.Summary != "firing at 0" ||
		got.Resolution != "resolved at 60" || got.Path.Customer != "C" || got.Subject != "Carrier" {
		t.Errorf("incident %+v", got)
	}
	if m := b.messages(t); m != "opened opened resolved" {
		t.Errorf("messages %q", m)
	}
	if s := b.Stats(); s.Opened != 2 || s.Resolved != 1 || len(b.changes) != 3 {
		t.Errorf("stats %+v, %d changes told", s, len(b.changes))
	}
}

func TestFlapping(t *testing.T) {
	b := newBench(t)
	step := func(sec int, to alert.Phase) { b.now = at(sec); b.handle(t, b.transition("r", to, sec)) }
	step(0, alert.Firing)
	step(30, alert.Resolved)
	for s := 40; s < 400; s += 40 { // comes and goes every 20 s
		step(s, alert.Firing)
		step(s+20, alert.Resolved)
	}
	list := b.list(t)
	if len(list) != 1 || list[0].Reopened != 9 {
		t.Fatalf("%d incidents, reopened %d", len(list), list[0].Reopened)
	}
	if m := b.messages(t); m != "opened resolved" {
		t.Fatalf("messages %q: a flap sends no more", m)
	}
	step(450, alert.Firing) // and now it stays
	b.now = at(450 + 121)
	if due := b.claim(t); !slices.Equal(due, []string{"opened"}) { // one after the other
		t.Fatalf("due %v", due)
	}
	step(700, alert.Resolved)
	if m := b.messages(t); m != "opened resolved opened resolved" {
		t.Fatalf("messages %q: a reopening that lasts is told, and so is its end", m)
	}
	step(700+301, alert.Firing)
	if list := b.list(t); len(list) != 2 || list[0].Reopened != 0 {
		t.Fatalf("after the flap window it is a new incident: %+v", list)
	}
}

// claim takes the message of the mail channel that is due now.
func (b *bench) claim(t *testing.T) []string {
	t.Helper()
	list, err := b.db.ClaimMessages(t.Context(), notify.Claim{Channel: "mail", Holder: "t", Now: b.now, Lease: b.now.Add(time.Minute), Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range list {
		out = append(out, string(m.Kind))
	}
	return out
}

func TestHeldMessageThatWasDueIsNotWithdrawn(t *testing.T) {
	b := newBench(t)
	step := func(sec int, to alert.Phase) { b.now = at(sec); b.handle(t, b.transition("r", to, sec)) }
	step(0, alert.Firing)
	step(10, alert.Resolved)
	step(20, alert.Firing)
	step(20+120, alert.Resolved) // at the very end of the hold
	if m := b.messages(t); m != "opened resolved opened resolved" {
		t.Fatalf("messages %q", m)
	}
}

func TestStoreFailure(t *testing.T) {
	b := newBench(t)
	b.store.all = true
	if err := b.Handle(t.Context(), []alert.Transition{b.transition("r", alert.Firing, 0), b.transition("q", alert.Firing, 0)}); !errors.Is(err, errStore) {
		t.Fatalf("error %v", err)
	}
	if err := b.Handle(t.Context(), []alert.Transition{b.transition("r", alert.Resolved, 9)}); !errors.Is(err, errStore) {
		t.Fatalf("error %v", err)
	}
	if len(b.list(t)) != 0 || len(b.changes) != 0 || b.Stats().Waiting != 3 {
		t.Fatalf("after a failed commit: %v, %v, %+v", b.list(t), b.changes, b.Stats())
	}
	b.store.all = false
	b.handle(t) // without new transitions, as each second
	if list := b.list(t); len(list) != 2 || b.Stats().Waiting != 0 || b.Stats().Resolved != 1 {
		t.Fatalf("after the store works again: %+v, %+v", list, b.Stats())
	}
}

func TestPoisonStopsNothingElse(t *testing.T) {
	b := newBench(t)
	b.store.rule = "poison"
	err := b.Handle(t.Context(), []alert.Transition{
		b.transition("poison", alert.Firing, 0), b.transition("r", alert.Firing, 0),
		b.transition("poison", alert.Resolved, 1), b.transition("q", alert.Firing, 1)})
	if !errors.Is(err, errStore) {
		t.Fatalf("error %v", err)
	}
	if list := b.list(t); len(list) != 2 || b.Stats().Waiting != 2 {
		t.Fatalf("%d incidents, %+v", len(list), b.Stats())
	}
	b.store.rule = ""
	b.handle(t)
	if list := b.list(t); len(list) != 3 || b.Stats().Resolved != 1 {
		t.Fatalf("%d incidents, %+v", len(list), b.Stats())
	}
}

func TestReconcile(t *testing.T) {
	b := newBench(t)
	b.handle(t, b.transition("ended", alert.Firing, 0), b.transition("lasts", alert.Firing, 0))
	b.now = at(600)
	firing := []alert.Transition{b.transition("lasts", alert.Firing, 0), b.transition("missed", alert.Firing, 500)}
	for range 2 { // a second time changes nothing
		if err := b.Reconcile(t.Context(), firing); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]incident.Phase{}
	for _, i := range b.list(t) {
		got[i.Cause.Rule] = i.Phase
	}
	if len(got) != 3 || got["ended"] != incident.Resolved || got["lasts"] != incident.Open || got["missed"] != incident.Open {
		t.Fatalf("incidents %v", got)
	}
	if m := b.messages(t); strings.Count(m, "opened") != 3 || strings.Count(m, "resolved") != 1 {
		t.Fatalf("messages %q", m)
	}
	if n, err := b.OpenBySite(t.Context(), authz.System()); err != nil || n[b.src.Site] != 2 {
		t.Fatalf("open %v, %v", n, err)
	}
}

func TestUnknownNamesDoNotStopAnIncident(t *testing.T) {
	b := newBench(t)
	m := incident.New(incident.Config{}, incident.Deps{Store: b.db, Names: &names{fail: true}, Announcer: &announcer{}, Log: zerolog.Nop()})
	if err := m.Handle(t.Context(), []alert.Transition{b.transition("r", alert.Firing, 0)}); err != nil {
		t.Fatal(err)
	}
	if p := b.list(t)[0].Path; p.Site != fmt.Sprintf("site %d", b.src.Site) {
		t.Fatalf("path %+v", p)
	}
}
