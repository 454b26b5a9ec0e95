package api

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"sidetone/collector/internal/alert"
	"sidetone/collector/internal/authn"
	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/ca"
	"sidetone/collector/internal/chengine/enginetest"
	"sidetone/collector/internal/controldb"
	"sidetone/collector/internal/controldb/sqlite"
	"sidetone/collector/internal/enrolment"
	"sidetone/collector/internal/fleet"
	"sidetone/collector/internal/incident"
	"sidetone/collector/internal/inventory"
	"sidetone/collector/internal/live"
	"sidetone/collector/internal/telemetrydb"
	"sidetone/shared/telemetry"
)

func TestMain(m *testing.M) {
	enginetest.Child()
	goleak.VerifyTestMain(m)
}

const (
	email    = "owner@example.com"
	password = "a long enough password"
)

var allScope = authz.System()

func ptr[T any](v T) *T { return &v }

// bench is the API over its real parts, behind TLS.
type bench struct {
	*API
	t         *testing.T
	db        *controldb.DB
	enrolment *enrolment.Service
	code      string // of the setup
	srv       *httptest.Server
	stop      func() // what ends streams when the daemon stops
	storage   atomic.Pointer[Storage]
}

// incidentNames tells incidents where they are, as the daemon does.
type incidentNames struct{ inv *inventory.Inventory }

func (n incidentNames) IncidentPath(ctx context.Context, src alert.Source) (incident.Path, error) {
	p, err := n.inv.Path(ctx, authz.System(), src.Agent)
	return incident.Path{Tenant: p.Tenant, Customer: p.Customer, Site: p.Site, PBX: p.PBX}, err
}

// quiet announces nothing.
type quiet struct{}

func (quiet) Announce(incident.Incident, incident.Kind) []incident.Announcement { return nil }
func (quiet) Wake()                                                             {}

// newBench starts the API. A nil telemetry means a ClickHouse that does not answer.
func newBench(t *testing.T, telem *telemetrydb.DB) *bench {
	t.Helper()
	b := newParts(t, telem)
	b.srv = httptest.NewUnstartedServer(b.Handler())
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	b.srv.Config.BaseContext = func(net.Listener) context.Context { return ctx } // as the daemon does
	b.srv.StartTLS()
	t.Cleanup(func() { stop(); b.srv.Close() })
	return b
}

// newParts is a bench without a server.
func newParts(t *testing.T, telem *telemetrydb.DB) *bench {
	t.Helper()
	dir := t.TempDir()
	db, err := sqlite.Open(filepath.Join(dir, "control.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	authority, err := ca.Open(filepath.Join(dir, "ca"), ca.Config{Names: []string{"localhost"}})
	if err != nil {
		t.Fatal(err)
	}
	if telem == nil {
		telem, err = telemetrydb.Open(t.Context(), telemetrydb.Config{Socket: filepath.Join(dir, "nobody")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { telem.Close() })
	}
	auth, err := authn.New(authn.Deps{Store: db, Dir: dir, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	inv := inventory.New(db)
	b := &bench{t: t, db: db, enrolment: enrolment.New(enrolment.Deps{Store: db, CA: authority, Log: zerolog.Nop()})}
	b.storage.Store(&Storage{OK: true})
	b.API = New(Deps{
		Inventory: inv, Fleet: fleet.New(time.Now()), Live: live.New(),
		Incidents: incident.New(incident.Config{}, incident.Deps{Store: db, Names: incidentNames{inv}, Announcer: quiet{}, Log: zerolog.Nop()}),
		Telemetry: telem, Authn: auth, Enrolment: b.enrolment,
		Storage:    func() Storage { return *b.storage.Load() },
		AgentsAddr: func() string { return "collector.example.com:4443" },
		Log:        zerolog.New(zerolog.NewTestWriter(t)),
	})
	if b.code, err = auth.SetupCode(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

// client is a browser: it keeps cookies.
func (b *bench) client() *http.Client {
	b.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	c := *b.srv.Client()
	c.Jar = jar
	return &c
}

// answer is a response, read.
type answer struct {
	*http.Response
	body []byte
}

// into decodes the body strictly.
func (a answer) into(t *testing.T, v any) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(a.body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
}

func (b *bench) do(c *http.Client, method, path string, body any, header ...string) answer {
	b.t.Helper()
	var r io.Reader
	switch v := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(v)
	default:
		text, err := json.Marshal(v)
		if err != nil {
			b.t.Fatal(err)
		}
		r = bytes.NewReader(text)
	}
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, b.srv.URL+path, r)
	if err != nil {
		b.t.Fatal(err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer{resp, text}
}

// want fails unless the answer has the status; errors must be problems.
func (b *bench) want(a answer, status int) answer {
	b.t.Helper()
	if a.StatusCode != status {
		b.t.Fatalf("%s %s: status %d, want %d: %s", a.Request.Method, a.Request.URL.Path, a.StatusCode, status, a.body)
	}
	if status < 400 {
		return a
	}
	if ct := a.Header.Get("Content-Type"); ct != "application/problem+json" {
		b.t.Errorf("%s %s: an error of type %q", a.Request.Method, a.Request.URL.Path, ct)
	}
	var p struct {
		Status        int
		Title, Detail string
	}
	if err := json.Unmarshal(a.body, &p); err != nil || p.Status != status || p.Title == "" || p.Detail == "" {
		b.t.Errorf("%s %s: not a whole problem: %s (%v)", a.Request.Method, a.Request.URL.Path, a.body, err)
	}
	return a
}

// owner is a browser of the first owner, signed in.
func (b *bench) owner() *http.Client {
	b.t.Helper()
	c := b.client()
	b.want(b.do(c, "POST", "/api/v1/setup", map[string]string{"code": b.code, "email": email, "name": "Owner", "password": password}), 201)
	return c
}

// admit makes a place in the tree with one agent, as an enrolment does.
func (b *bench) admit(tenant, customer, site string) telemetry.Source {
	b.t.Helper()
	token, _, err := b.enrolment.CreateToken(b.t.Context(), authz.System(), enrolment.TokenSpec{
		Tenant: tenant, Customer: customer, Site: site, Addr: "collector.example.com:4443",
	})
	if err != nil {
		b.t.Fatal(err)
	}
	a, err := b.db.Admit(b.t.Context(), token.ID, enrolment.Applicant{EnrolmentID: token.ID, Hostname: "host of " + site}, time.Now())
	if err != nil {
		b.t.Fatal(err)
	}
	return a.Source
}

func sitePath(src telemetry.Source) string {
	return "/api/v1/sites/" + strconv.FormatUint(uint64(src.Site), 10)
}

var targetID = telemetry.MakeItemID("target", "stamp", "x")

// window is a set with one target and one window of it.
func window(at time.Time, lost uint32) *telemetry.Set {
	return &telemetry.Set{
		Targets: []telemetry.Target{{ID: targetID, Method: telemetry.MethodSTAMP, Name: "collector", Address: "192.0.2.1:862"}},
		ProbeWindows: []telemetry.ProbeWindow{{
			Target: targetID, Observed: telemetry.MS(at), LengthMS: 10000, Sent: 10, Received: 10 - lost, Lost: lost,
			RTTUS:    []uint32{1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000, 9000}[:10],
			RTTMinUS: 1000, RTTP10US: 1000, RTTP50US: 5000, RTTP90US: 9000, RTTP99US: 9000, RTTMaxUS: 9000, RTTMeanUS: 5400, JitterUS: 77,
		}},
	}
}

// status is a set with one reading of the PBX.
func status(at time.Time, state telemetry.PBXState) *telemetry.Set {
	return &telemetry.Set{PBXStatuses: []telemetry.PBXStatus{{
		Observed: telemetry.MS(at), State: state, FQDN: "pbx.example.com", Version: "20.0.7", CallsActive: ptr(uint32(3)), CallsMax: ptr(uint32(16)),
	}}}
}

// fire opens an incident at the source.
func (b *bench) fire(src telemetry.Source, rule string, sev alert.Severity, title string) {
	b.t.Helper()
	now := time.Now()
	err := b.Incidents.Handle(b.t.Context(), []alert.Transition{{
		Key: alert.Key{Rule: rule, Agent: src.Agent}, Source: src, Subject: alert.Subject{Name: "it"}, From: alert.Pending, To: alert.Firing,
		At: now, Since: now, Severity: sev, Title: title, Summary: title + " here", Evidence: []alert.Evidence{{Label: "Loss", Value: "4 %"}},
	}})
	if err != nil {
		b.t.Fatal(err)
	}
}
