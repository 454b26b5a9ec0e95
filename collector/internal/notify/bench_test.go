package notify_test

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"sidetone/collector/internal/alert"
	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/controldb"
	"sidetone/collector/internal/controldb/sqlite"
	"sidetone/collector/internal/enrolment"
	"sidetone/collector/internal/incident"
	"sidetone/collector/internal/notify"
	"sidetone/collector/internal/notify/notifytest"
	"sidetone/collector/internal/notify/smtp"
	"sidetone/collector/internal/notify/webhook"
	"sidetone/collector/internal/outbound"
	"sidetone/shared/telemetry"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		child(dir)
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("database/sql.(*DB).connectionOpener"))
}

// patience bounds every wait; a loaded machine may take long, a broken one fails.
const patience = 60 * time.Second

var noon = time.Date(2026, 3, 29, 12, 0, 0, 0, time.UTC)

// openStore opens the store in dir, with one agent in it.
func openStore(dir string) (*controldb.DB, alert.Source, error) {
	ctx := context.Background()
	db, err := sqlite.Open(filepath.Join(dir, "control.db"))
	if err != nil {
		return nil, alert.Source{}, err
	}
	if err := db.Migrate(ctx); err != nil {
		return nil, alert.Source{}, err
	}
	if a, err := db.AgentByEnrolment(ctx, "e"); err == nil {
		return db, a.Source, nil
	}
	tok := enrolment.Token{ID: "tok", SecretHash: []byte{1}, UsesLeft: 1, Created: noon, Expires: noon.Add(time.Hour)}
	if err := db.CreateToken(ctx, authz.System(), enrolment.Place{Tenant: "MSP", Customer: "Acme", Site: "HQ"}, tok); err != nil {
		return nil, alert.Source{}, err
	}
	a, err := db.Admit(ctx, "tok", enrolment.Applicant{EnrolmentID: "e"}, noon)
	return db, a.Source, err
}

// places is the names of the one site.
type places struct{}

func (places) IncidentPath(context.Context, alert.Source) (incident.Path, error) {
	return incident.Path{Tenant: "MSP", Customer: "Acme", Site: "HQ", PBX: "pbx.example"}, nil
}

// rig is everything behind ingest: engine, incidents, outbox, senders.
type rig struct {
	db     *controldb.DB
	src    alert.Source
	engine *alert.Engine
	inc    *incident.Manager
	disp   *notify.Dispatcher
	client *outbound.Client
}

func newRig(dir string, channels []notify.ChannelConfig, now func() time.Time) (*rig, error) {
	r := &rig{client: outbound.New(outbound.Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})}
	var err error
	if r.db, r.src, err = openStore(dir); err != nil {
		return nil, err
	}
	var list []notify.Channel
	for _, c := range channels {
		ch := notify.Channel{Config: c}
		if c.Kind == notify.KindWebhook {
			ch.Sender, err = webhook.New(c, r.client)
		} else {
			ch.Sender, err = smtp.New(c, r.client.DialContext)
		}
		if err != nil {
			return nil, err
		}
		list = append(list, ch)
	}
	if r.disp, err = notify.New(list, notify.Deps{Store: r.db, Log: zerolog.Nop(), Now: now}); err != nil {
		return nil, err
	}
	if r.engine, err = alert.New(alert.Defaults(), alert.Deps{Store: r.db, Log: zerolog.Nop()}); err != nil {
		return nil, err
	}
	r.inc = incident.New(incident.Config{}, incident.Deps{Store: r.db, Names: places{}, Announcer: r.disp, Log: zerolog.Nop(), Now: now})
	return r, nil
}

// start runs a rig's dispatcher until the test ends or stop is called.
func start(t *testing.T, dir string, channels []notify.ChannelConfig, now func() time.Time) (r *rig, stop func()) {
	t.Helper()
	r, err := newRig(dir, channels, now)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.inc.Reconcile(t.Context(), r.engine.Firings()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.disp.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		r.client.CloseIdle()
		if err := r.db.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return r, stop
}

// observe passes a trunk's state through the engine to the incidents.
func (r *rig) observe(t *testing.T, name string, registered bool, at time.Time) {
	t.Helper()
	set := &telemetry.Set{Trunks: []telemetry.Trunk{{Observed: telemetry.MS(at), ID: 7, Number: "10001", Name: name, Host: "sip.example",
		Kind: "provider", RegistrationNeeded: true, Registered: registered}}}
	list := r.engine.Observe(alert.FromSet(r.src, set, at, false))
	list = append(list, r.engine.Tick(at)...)
	if err := r.inc.Handle(t.Context(), list); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) tick(t *testing.T, at time.Time) {
	t.Helper()
	if err := r.inc.Handle(t.Context(), r.engine.Tick(at)); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) incidents(t *testing.T) []incident.Incident {
	t.Helper()
	list, err := r.inc.List(t.Context(), authz.System(), incident.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// until polls a condition that nothing announces.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("waiting for %s: %v", what, ctx.Err())
		case <-tick.C:
		}
	}
}

func hookChannel(url string) notify.ChannelConfig {
	return notify.ChannelConfig{Name: "hook", Kind: notify.KindWebhook, URL: url, Secret: "0123456789abcdef"}
}

func mailChannel(port int) notify.ChannelConfig {
	return notify.ChannelConfig{Name: "mail", Kind: notify.KindSMTP, Host: "127.0.0.1", Port: port, TLS: notify.TLSNone,
		From: "noc@example.com", To: []string{"a@example.com"}}
}

func waitHTTP(t *testing.T, h *notifytest.HTTP, n int) []notifytest.Request {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got, err := h.Wait(ctx, n)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func waitMail(t *testing.T, s *notifytest.SMTP, n int) []notifytest.Mail {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got, err := s.Wait(ctx, n)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

var (
	ctxBackground = context.Background()
	systemScope   = authz.System()
)

// trunkDown is a trunk seen unregistered.
func trunkDown(src alert.Source) []alert.Observation {
	set := &telemetry.Set{Trunks: []telemetry.Trunk{{Observed: telemetry.MS(noon), ID: 7, Number: "10001", Name: "Carrier",
		Kind: "provider", RegistrationNeeded: true}}}
	return alert.FromSet(src, set, noon, false)
}
