package collectord

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/ca"
	"sidetone/collector/internal/config"
	"sidetone/collector/internal/enrolment"
	"sidetone/collector/internal/incident"
	"sidetone/collector/internal/ingest"
	"sidetone/collector/internal/notify"
	"sidetone/collector/internal/notify/notifytest"
	"sidetone/shared/telemetry"
)

// nobody is an address where no ClickHouse answers.
const nobody = "clickhouse://127.0.0.1:1/sidetone"

// output collects what is printed for people.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func freshConfig(t *testing.T) config.Config {
	t.Helper()
	c := config.Config{
		DataDir: t.TempDir(), Agents: "127.0.0.1:0", Web: "127.0.0.1:0", Reflector: "127.0.0.1:0", ClickHouse: nobody,
	}
	c.Default()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

// started is a running daemon and a browser before it.
type started struct {
	*Daemon
	t      *testing.T
	out    *output
	url    string
	client *http.Client
	stop   func() error // waits for Run
}

func start(t *testing.T, cfg config.Config) *started {
	t.Helper()
	s := &started{t: t, out: &output{}}
	ready := filepath.Join(t.TempDir(), "ready.json")
	var err error
	s.Daemon, err = Open(t.Context(), cfg, Options{ReadyFile: ready, Log: zerolog.Nop(), Out: s.out})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	s.stop = sync.OnceValue(func() error { cancel(); return <-done })
	root, err := x509.ParseCertificate(s.ca.RootDER())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		if err := s.stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	s.client = &http.Client{Transport: tr, Timeout: 30 * time.Second}
	s.url = "https://" + s.webListener.Addr().String()
	s.get("/healthz") // answers once Run has come so far
	s.checkReady(ready)
	return s
}

// checkReady reads the file that tells programs where everything is.
func (s *started) checkReady(path string) {
	s.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	var r struct {
		PID       int    `json:"pid"`
		Agents    string `json:"agents"`
		Web       string `json:"web"`
		Reflector string `json:"reflector"`
		URL       string `json:"url"`
		DataDir   string `json:"data_dir"`
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		s.t.Fatalf("%s: %v", text, err)
	}
	if r.PID != os.Getpid() || r.URL != s.url+"/" || r.DataDir != s.cfg.DataDir {
		s.t.Errorf("ready file: %s", text)
	}
	for name, addr := range map[string]string{"agents": r.Agents, "web": r.Web, "reflector": r.Reflector} {
		if _, port, err := net.SplitHostPort(addr); err != nil || port == "0" {
			s.t.Errorf("%s is at %q", name, addr)
		}
	}
	if left, err := filepath.Glob(path + ".*"); err != nil || len(left) != 0 {
		s.t.Errorf("left behind: %v", left)
	}
}

func (s *started) get(path string) (int, string, http.Header) {
	s.t.Helper()
	return s.do("GET", path, "")
}

func (s *started) do(method, path, body string) (int, string, http.Header) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header
}

// admit enrols an agent in the control store.
func (s *started) admit() telemetry.Source {
	s.t.Helper()
	token, _, err := s.enrolment.CreateToken(s.t.Context(), authz.System(), enrolment.TokenSpec{Tenant: "T", Customer: "C", Site: "S", Addr: s.agentsAddr()})
	if err != nil {
		s.t.Fatal(err)
	}
	a, err := s.control.Admit(s.t.Context(), token.ID, enrolment.Applicant{EnrolmentID: "e1", Hostname: "h"}, time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	s.mirror.touch()
	return a.Source
}

func TestDaemonWithoutClickHouse(t *testing.T) {
	s := start(t, freshConfig(t))
	if code, body, _ := s.get("/healthz"); code != 200 || body != "ok\n" {
		t.Errorf("healthz: %d %q", code, body)
	}
	if code, body, _ := s.get("/readyz"); code != 503 || !strings.Contains(body, "ClickHouse has not answered yet") {
		t.Errorf("readyz: %d %q", code, body)
	}
	for _, path := range []string{"/", "/setup", "/sign-in"} {
		code, body, h := s.get(path)
		if code != 200 || !strings.Contains(body, "<html") || h.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: %d %.100q %v", path, code, body, h)
		}
	}
	if code, body, h := s.get("/api/v1/fleet"); code != 401 || h.Get("Content-Type") != "application/problem+json" {
		t.Errorf("fleet: %d %s", code, body)
	}
	code, body, _ := s.get("/metrics")
	if code != 200 || !strings.Contains(body, "\nsidetone_storage_ok 0\n") || !strings.Contains(body, "sidetone_build_info{version=") {
		t.Errorf("metrics: %d %.200q", code, body)
	}

	setup, err := os.ReadFile(filepath.Join(s.cfg.DataDir, "setup-code"))
	if err != nil {
		t.Fatal(err)
	}
	printed := s.out.String()
	if !strings.Contains(printed, strings.TrimSpace(string(setup))) || !strings.Contains(printed, s.url+"/setup") {
		t.Errorf("printed: %q", printed)
	}
	code, body, h := s.do("POST", "/api/v1/setup", fmt.Sprintf(`{"code":%q,"email":"a@example.com","name":"A","password":"a long enough password"}`, strings.TrimSpace(string(setup))))
	if code != 201 {
		t.Fatalf("setup: %d %s", code, body)
	}
	if !strings.HasPrefix(h.Get("Set-Cookie"), "__Host-sidetone=") {
		t.Errorf("cookie: %q", h.Get("Set-Cookie"))
	}
	if err := s.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}

	// a second start on the same data asks nobody for a first sign-in
	cfg := s.cfg
	s = start(t, cfg)
	if got := s.out.String(); got != "" {
		t.Errorf("printed at the second start: %q", got)
	}
}

// TestAlertWithoutClickHouse follows a trunk that drops to the webhook, and back.
func TestAlertWithoutClickHouse(t *testing.T) {
	hook, err := notifytest.ListenHTTP(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer hook.Close()
	cfg := freshConfig(t)
	cfg.Outbound.Allow = []string{"127.0.0.0/8"}
	cfg.Channels = []notify.ChannelConfig{{Name: "hook", Kind: notify.KindWebhook, URL: hook.URL()}}
	s := start(t, cfg)
	src := s.admit()

	var done sync.WaitGroup
	trunk := func(at time.Time, registered bool, age time.Duration) *ingest.Delivery {
		done.Add(1)
		return &ingest.Delivery{
			Source: src, Epoch: 1, Seq: uint64(at.UnixMilli()), ReceivedAt: time.Now(), Age: age, Done: func(error) { done.Done() },
			Rows: &telemetry.Set{
				Trunks:      []telemetry.Trunk{{Observed: telemetry.MS(at), ID: 1, Number: "10001", Name: "Carrier", Kind: "provider", RegistrationNeeded: true, Registered: registered}},
				PBXStatuses: []telemetry.PBXStatus{{Observed: telemetry.MS(at), State: telemetry.PBXOK, FQDN: "pbx.example.com", Version: "20.1"}},
			},
		}
	}
	o := observer{s.Daemon}
	now := time.Now()
	o.Delivered(trunk(now.Add(-time.Hour), false, time.Hour)) // of the past: nobody is woken
	if la, ok := s.live.Agent(src.Agent); !ok || time.Since(la.Received) < 59*time.Minute {
		t.Errorf("what lay in the spool for an hour counts as received at %s", la.Received)
	}
	o.Delivered(trunk(now, false, 0))
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	got, err := hook.Wait(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	if body := string(got[0].Body); !strings.Contains(body, "Carrier") || !strings.Contains(body, "trunk-unregistered") {
		t.Errorf("message: %s", body)
	}
	open, err := s.incidents.List(t.Context(), authz.System(), incident.Filter{Phase: incident.Open})
	if err != nil || len(open) != 1 || open[0].Cause.Rule != "trunk-unregistered" || open[0].Path.Site != "S" {
		t.Errorf("incidents: %+v, %v", open, err)
	}
	site, err := s.inventory.Site(t.Context(), authz.System(), src.Site)
	if err != nil || len(site.PBXs) != 1 {
		t.Errorf("site: %+v, %v", site, err)
	}
	if n := len(hook.Requests()); n != 1 {
		t.Errorf("%d messages", n)
	}
	if err := s.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}

	// the incident is still open after a restart, and is told no second time
	s = start(t, cfg)
	open, err = s.incidents.List(t.Context(), authz.System(), incident.Filter{Phase: incident.Open})
	if err != nil || len(open) != 1 {
		t.Errorf("after the restart: %+v, %v", open, err)
	}
	if n := len(hook.Requests()); n != 1 {
		t.Errorf("%d messages after the restart", n)
	}
}

// TestJudgeTakesWhatWaits holds that nothing that came is left unjudged by a stop.
func TestJudgeTakesWhatWaits(t *testing.T) {
	d, err := Open(t.Context(), freshConfig(t), Options{Log: zerolog.Nop(), Out: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	s := &started{Daemon: d, t: t}
	src := s.admit()
	const many = 50
	at := time.Now()
	for i := range telemetry.ItemID(many) {
		observer{d}.Delivered(&ingest.Delivery{Source: src, ReceivedAt: at, Rows: &telemetry.Set{Trunks: []telemetry.Trunk{
			{Observed: telemetry.MS(at), ID: i + 1, Number: "1", Name: "n", Kind: "provider", RegistrationNeeded: true},
		}}})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.runJudge(ctx); err != nil {
		t.Fatal(err)
	}
	open, err := d.incidents.List(t.Context(), authz.System(), incident.Filter{Phase: incident.Open})
	if err != nil || len(open) != many {
		t.Errorf("%d incidents of %d, %v", len(open), many, err)
	}
}

func TestOpenGivesBackWhatItTook(t *testing.T) {
	cfg := freshConfig(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	cfg.Web = taken.Addr().String()
	reflector, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Reflector = reflector.LocalAddr().String()
	reflector.Close()
	if _, err := Open(t.Context(), cfg, Options{Log: zerolog.Nop(), Out: io.Discard}); err == nil || !strings.HasPrefix(err.Error(), "web: ") {
		t.Fatalf("web address in use: %v", err)
	}
	again, err := net.ListenPacket("udp", cfg.Reflector)
	if err != nil {
		t.Fatalf("the reflector's socket is still open: %v", err)
	}
	again.Close()
	cfg.Web = "127.0.0.1:0"
	d, err := Open(t.Context(), cfg, Options{Log: zerolog.Nop(), Out: io.Discard})
	if err != nil {
		t.Fatalf("after the mistake was mended: %v", err)
	}
	d.close()
}

func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*config.Config)
		says   string
	}{
		"web certificate":  {func(c *config.Config) { c.WebCert, c.WebKey = "/none.pem", "/none.key" }, "web_cert and web_key"},
		"channel":          {func(c *config.Config) { c.Channels = []notify.ChannelConfig{{Name: "x", Kind: "pager"}} }, "pager"},
		"outbound":         {func(c *config.Config) { c.Outbound.Allow = []string{"x"} }, "outbound.allow[0]"},
		"dsn":              {func(c *config.Config) { c.ClickHouse = "clickhouse://%" }, "ClickHouse"},
		"damaged keys":     {func(c *config.Config) { os.WriteFile(filepath.Join(c.DataDir, "link-keys"), nil, 0o600) }, "damaged"},
		"engine not found": {func(c *config.Config) { c.ClickHouse, c.EngineLib = "embedded", "/none/libchdb.so" }, "/none/libchdb.so"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := freshConfig(t)
			c.change(&cfg)
			d, err := Open(t.Context(), cfg, Options{Log: zerolog.Nop(), Out: io.Discard})
			if err == nil {
				d.close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestAgentsAddr holds that tokens name the port that is really open.
func TestAgentsAddr(t *testing.T) {
	d, err := Open(t.Context(), freshConfig(t), Options{Log: zerolog.Nop(), Out: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if got, want := d.agentsAddr(), d.listener.Addr().String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestStopEndsOpenPages holds that a page with a stream does not delay the stop until
// the web's patience ends.
func TestStopEndsOpenPages(t *testing.T) {
	s := start(t, freshConfig(t))
	code, err := s.authn.SetupCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	status, body, h := s.do("POST", "/api/v1/setup", fmt.Sprintf(`{"code":%q,"email":"a@example.com","name":"A","password":"a long enough password"}`, code))
	if status != 201 {
		t.Fatalf("setup: %d %s", status, body)
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.url+"/api/v1/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	cookie, _, _ := strings.Cut(h.Get("Set-Cookie"), ";")
	req.Header.Set("Cookie", cookie)
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	first := make([]byte, len("event: storage\n"))
	if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != "event: storage\n" {
		t.Fatalf("%q, %v", first, err)
	}
	rest := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, resp.Body)
		rest <- err
	}()
	if err := s.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if err := <-rest; err != nil {
		t.Errorf("the stream was cut, not ended: %v", err)
	}
	if n := s.live.Listeners(); n != 0 {
		t.Errorf("%d pages are left", n)
	}
}

func TestGivenWebCertificate(t *testing.T) {
	authority, err := ca.Open(filepath.Join(t.TempDir(), "ca"), ca.Config{Names: []string{"pages.example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := authority.WebCert()
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cfg := freshConfig(t)
	cfg.WebCert, cfg.WebKey = filepath.Join(cfg.DataDir, "w.crt"), filepath.Join(cfg.DataDir, "w.key")
	for path, block := range map[string]*pem.Block{cfg.WebCert: {Type: "CERTIFICATE", Bytes: cert.Certificate[0]}, cfg.WebKey: {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, err := Open(t.Context(), cfg, Options{Log: zerolog.Nop(), Out: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if c := d.webTLSConfig; c.GetCertificate != nil || len(c.Certificates) != 1 || !bytes.Equal(c.Certificates[0].Certificate[0], cert.Certificate[0]) {
		t.Error("the operator's certificate is not the one that is shown")
	}
}
