package pbxsim_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sidetone/agent/internal/pbxsim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newSim(t *testing.T, opt pbxsim.Options) *pbxsim.Sim {
	t.Helper()
	sim, err := pbxsim.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	return sim
}

func send(t *testing.T, sim *pbxsim.Sim, method, target, contentType, body string, headers ...string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "https://pbx.example.com"+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := pbxsim.Transport{Handler: sim}.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, raw
}

func get(t *testing.T, sim *pbxsim.Sim, access, target string) (int, []byte) {
	t.Helper()
	return send(t, sim, http.MethodGet, target, "", "", "Authorization", "Bearer "+access)
}

const goodForm = "client_id=sidetone&client_secret=sim-secret&grant_type=client_credentials"

type tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Expires int    `json:"expires_in"`
}

func signIn(t *testing.T, sim *pbxsim.Sim) string {
	t.Helper()
	status, body := send(t, sim, http.MethodPost, "/connect/token", "application/x-www-form-urlencoded", goodForm)
	var tok tokens
	if err := json.Unmarshal(body, &tok); err != nil || status != http.StatusOK || tok.Expires != 60 || strings.Count(tok.Access, ".") != 2 {
		t.Fatalf("sign in: %d %s", status, body)
	}
	return tok.Access
}

func TestGenerations(t *testing.T) {
	if _, err := pbxsim.New(pbxsim.Options{Generation: "v18"}); err == nil || !strings.Contains(err.Error(), "not simulated yet") {
		t.Errorf("v18: %v", err)
	}
	if _, err := pbxsim.New(pbxsim.Options{Generation: "v99"}); err == nil {
		t.Error("v99 was accepted")
	}
	if _, err := pbxsim.New(pbxsim.Options{RefuseEnded: 500}); err == nil {
		t.Error("500 for ended tokens was accepted")
	}
}

func TestTokens(t *testing.T) {
	for _, refuse := range []int{401, 403} {
		synctest.Test(t, func(t *testing.T) {
			sim := newSim(t, pbxsim.Options{TokenLife: time.Minute, RefuseEnded: refuse})
			if status, _ := get(t, sim, "nonsense", "/xapi/v1/Trunks"); status != 401 {
				t.Errorf("no token: %d", status)
			}
			first := signIn(t, sim)
			if status, body := get(t, sim, first, "/xapi/v1/Trunks"); status != 200 {
				t.Errorf("good token: %d %s", status, body)
			}
			time.Sleep(30 * time.Second)
			second := signIn(t, sim)
			if status, _ := get(t, sim, first, "/xapi/v1/Trunks"); status != refuse {
				t.Errorf("a new token must end the old one: %d, want %d", status, refuse)
			}
			time.Sleep(61 * time.Second)
			if status, _ := get(t, sim, second, "/xapi/v1/Trunks"); status != refuse {
				t.Errorf("an ended token: %d, want %d", status, refuse)
			}
		})
	}
}

func TestSignInByForms(t *testing.T) {
	sim := newSim(t, pbxsim.Options{})
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	for k, v := range map[string]string{"client_id": "sidetone", "client_secret": "sim-secret", "grant_type": "client_credentials"} {
		if err := w.WriteField(k, v); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if status, body := send(t, sim, http.MethodPost, "/connect/token", w.FormDataContentType(), buf.String()); status != 200 {
		t.Errorf("multipart: %d %s", status, body)
	}
	status, body := send(t, sim, http.MethodPost, "/connect/token", "application/x-www-form-urlencoded",
		strings.Replace(goodForm, "sim-secret", "guess", 1))
	if status != 401 || !bytes.Contains(body, []byte(`"unauthorized"`)) {
		t.Errorf("wrong key: %d %s", status, body)
	}
}

func TestUserSignIn(t *testing.T) {
	const form = "application/x-www-form-urlencoded"
	login := func(t *testing.T, sim *pbxsim.Sim, body string) (int, []byte) {
		t.Helper()
		return send(t, sim, http.MethodPost, "/webclient/api/Login/GetAccessToken", "application/json", body)
	}
	good := `{"SecurityCode":"","Username":"100","Password":"sim-password","ReCaptchaResponse":null}`
	sim := newSim(t, pbxsim.Options{})
	status, body := login(t, sim, good)
	var in struct {
		Status string
		Token  tokens
	}
	if err := json.Unmarshal(body, &in); err != nil || status != 200 || in.Status != "AuthSuccess" || in.Token.Refresh == "" {
		t.Fatalf("sign in: %d %s", status, body)
	}
	if status, _ := get(t, sim, in.Token.Access, "/xapi/v1/SystemStatus"); status != 200 {
		t.Errorf("with the token: %d", status)
	}
	refresh := "client_id=Webclient&grant_type=refresh_token"
	if status, _ := send(t, sim, http.MethodPost, "/connect/token", form, refresh+"&refresh_token="+url.QueryEscape(in.Token.Refresh)); status != 200 {
		t.Errorf("refresh by form: %d", status)
	}
	if status, _ := send(t, sim, http.MethodPost, "/connect/token", form, refresh, "Cookie", "RefreshTokenCookie="+in.Token.Refresh); status != 200 {
		t.Errorf("refresh by cookie: %d", status)
	}
	if status, _ := send(t, sim, http.MethodPost, "/connect/token", form, refresh+"&refresh_token=x"); status != 400 {
		t.Errorf("refresh with nonsense: %d", status)
	}
	wrong := strings.Replace(good, "sim-password", "guess", 1)
	if status, _ := login(t, sim, wrong); status != 401 {
		t.Errorf("wrong password: %d", status)
	}
	if status, body := login(t, newSim(t, pbxsim.Options{WrongAs200: true}), wrong); status != 200 || !bytes.Contains(body, []byte("AuthFailed")) {
		t.Errorf("wrong password, other manner: %d %s", status, body)
	}
	if status, body := login(t, newSim(t, pbxsim.Options{SecondFactor: true}), good); status != 200 || !bytes.Contains(body, []byte("Required2FA")) {
		t.Errorf("second factor: %d %s", status, body)
	}
}

// A client without manners is throttled, and one that guesses is not answered any more.
func TestDefences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSim(t, pbxsim.Options{})
		post := func(body string) (int, error) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://pbx/connect/token", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			resp, err := pbxsim.Transport{Handler: sim}.RoundTrip(req)
			if err != nil {
				return 0, err
			}
			return resp.StatusCode, resp.Body.Close()
		}
		for range 20 {
			if status, err := post(goodForm); status != 200 || err != nil {
				t.Fatalf("%d %v", status, err)
			}
		}
		if status, _ := post(goodForm); status != 403 {
			t.Errorf("a burst: %d, want 403", status)
		}
		time.Sleep(181 * time.Second)
		if status, _ := post(goodForm); status != 200 {
			t.Errorf("after the pause: %d", status)
		}
		wrong := strings.Replace(goodForm, "sim-secret", "guess", 1)
		for range 10 {
			if status, _ := post(wrong); status != 401 {
				t.Errorf("wrong: %d", status)
			}
		}
		if _, err := post(goodForm); err == nil {
			t.Error("an address that guesses is still answered")
		}
		time.Sleep(901 * time.Second)
		if status, err := post(goodForm); status != 200 || err != nil {
			t.Errorf("after the block: %d %v", status, err)
		}
	})
}

func TestOData(t *testing.T) {
	sim := newSim(t, pbxsim.Options{})
	access := signIn(t, sim)
	for _, tc := range []struct {
		name, target string
		status, rows int
		holds        string
	}{
		{"at most 100", "Users", 200, 100, ""},
		{"$top", "Users?$top=7", 200, 7, ""},
		{"$top too large", "Users?$top=101", 400, 0, `"target":"$top"`},
		{"$skip", "Users?$top=100&$skip=100", 200, 28, ""},
		{"$skip beyond", "Users?$skip=1000", 200, 0, ""},
		{"$count", "Users?$count=true&$top=1", 200, 1, `"@odata.count":128`},
		{"$select", "Users?$select=Id&$top=1", 200, 1, `"value":[{"Id":30}]`},
		{"$select of an unknown field", "Users?$select=Nothing", 400, 0, `"target":"Nothing"`},
		{"$filter eq", "Trunks?$filter=Number%20eq%20'10001'", 200, 1, "Provider B"},
		{"$filter gt and", "Users?$filter=Id%20gt%2035%20and%20Id%20ge%2040%20and%20QueueStatus%20eq%20'LoggedIn'&$select=Id", 200, 13, ""},
		{"$filter on truth", "Trunks?$filter=IsOnline%20eq%20false", 200, 0, ""},
		{"$filter on time", "EventLogs?$filter=TimeGenerated%20ge%202100-01-01T00:00:00Z", 200, 0, ""},
		{"$filter with an unknown word", "Users?$filter=Id%20has%205", 400, 0, "$filter"},
		{"$orderby desc", "EventLogs?$orderby=Id%20desc&$top=1&$select=Id", 200, 1, `{"Id":90412}`},
		{"$orderby an unknown field", "EventLogs?$orderby=Nothing", 400, 0, "Nothing"},
		{"unknown option", "Users?$sum=1", 400, 0, "$sum"},
		{"function without parentheses", "SystemStatus/Pbx.SystemExtensions", 404, 0, "NOT_FOUND"},
		{"function", "SystemStatus/Pbx.SystemExtensions()", 200, 6, ""},
		{"unknown path", "Nothing", 404, 0, "NOT_FOUND"},
		{"context", "Defs?$select=Id", 200, 1, `$metadata#Defs`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, body := get(t, sim, access, "/xapi/v1/"+tc.target)
			if status != tc.status || !bytes.Contains(body, []byte(tc.holds)) {
				t.Fatalf("%d %s", status, body)
			}
			var v struct{ Value []any }
			if err := json.Unmarshal(body, &v); err != nil || len(v.Value) != tc.rows {
				t.Errorf("%d rows, want %d (%v)", len(v.Value), tc.rows, err)
			}
		})
	}
}

func TestForbiddenIsRefusedAndReported(t *testing.T) {
	sim := newSim(t, pbxsim.Options{})
	access := signIn(t, sim)
	for i, target := range []string{
		"GET /xapi/v1/SystemStatus/Pbx.APIToken()", "GET /xapi/v1/Parameters", "GET /xapi/v1/Trunks(5)/Pbx.ExportTrunk()",
		"POST /xapi/v1/Services/Pbx.Restart", "PATCH /xapi/v1/Users(29)", "DELETE /xapi/v1/Backups('x')", "GET /xapi/v1/Contacts",
	} {
		method, path, _ := strings.Cut(target, " ")
		if status, _ := send(t, sim, method, path, "application/json", "{}", "Authorization", "Bearer "+access); status != 403 {
			t.Errorf("%s: %d", target, status)
		}
		if n := len(sim.Violations()); n != i+1 {
			t.Errorf("%s: %d violations reported, want %d", target, n, i+1)
		}
	}
	if n := sim.Requests()["GET /xapi/v1/Parameters"]; n != 1 {
		t.Errorf("counted %d times", n)
	}
}

func TestControl(t *testing.T) {
	sim := newSim(t, pbxsim.Options{})
	access := signIn(t, sim)
	for _, tc := range []struct {
		name, method, path, body string
		status                   int
		then, holds              string
	}{
		{"trunk down", "POST", "/sim/trunks/10001", `{"online":false}`, 200, "Trunks?$filter=IsOnline%20eq%20false&$select=Number", "10001"},
		{"trunk up", "POST", "/sim/trunks/10001", `{"online":true}`, 200, "Trunks?$filter=IsOnline%20eq%20false", `"value":[]`},
		{"no such trunk", "POST", "/sim/trunks/5", `{"online":true}`, 400, "", ""},
		{"trunk without a word", "POST", "/sim/trunks/10001", `{}`, 400, "", ""},
		{"trunk removed", "DELETE", "/sim/trunks/10002", ``, 200, "Trunks?$filter=Number%20eq%20'10002'", `"value":[]`},
		{"service", "POST", "/sim/services/3CXIVR01", `{"status":"Stopped"}`, 200, "Services?$filter=Status%20eq%20'Stopped'", "3CXIVR01"},
		{"no such word", "POST", "/sim/services/3CXIVR01", `{"status":"Sleeping"}`, 400, "", ""},
		{"SBC", "POST", "/sim/sbcs/SBC7f3c", `{"connected":false}`, 200, "Sbcs?$filter=HasConnection%20eq%20false", "Branch North"},
		{"calls as number", "POST", "/sim/calls", `{"count":7}`, 200, "SystemStatus", `"CallsActive":7`},
		{"calls as text", "POST", "/sim/calls", `{"count":"3"}`, 200, "SystemStatus", `"CallsActive":3`},
		{"backup fails", "POST", "/sim/backup", `{"ok":false}`, 200, "EventLogs?$filter=EventId%20eq%2050022", "Backup failed"},
		{"version", "POST", "/sim/version", `{"version":"20.0.10.1"}`, 200, "SystemStatus", "20.0.10.1"},
		{"bad body", "POST", "/sim/calls", `{"count":`, 400, "", ""},
		{"bad fault", "POST", "/sim/fault", `{"mode":"tired"}`, 400, "", ""},
		{"unknown", "POST", "/sim/weather", `{}`, 400, "", ""},
		{"state", "GET", "/sim/state", ``, 200, "", ""},
		{"requests", "GET", "/sim/requests", ``, 200, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if status, body := send(t, sim, tc.method, tc.path, "application/json", tc.body); status != tc.status {
				t.Fatalf("%d %s", status, body)
			}
			if tc.then == "" {
				return
			}
			if status, body := get(t, sim, access, "/xapi/v1/"+tc.then); status != 200 || !bytes.Contains(body, []byte(tc.holds)) {
				t.Errorf("%d %s, want %q in it", status, body, tc.holds)
			}
		})
	}
}

func TestScenario(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sc, err := pbxsim.LoadScenario("demo")
		if err != nil {
			t.Fatal(err)
		}
		sim := newSim(t, pbxsim.Options{Scenario: sc})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- sim.Run(ctx) }()
		down := func() bool {
			_, body := send(t, sim, "GET", "/sim/state", "", "")
			return bytes.Contains(body, []byte(`"10001":false`))
		}
		for _, step := range []struct {
			at   time.Duration
			want bool
		}{{89 * time.Second, false}, {91 * time.Second, true}, {131 * time.Second, false}, {331 * time.Second, true}, {371 * time.Second, false}} {
			time.Sleep(time.Until(start.Add(step.at)))
			if down() != step.want {
				t.Errorf("at %s: trunk down is %v", step.at, !step.want)
			}
		}
		access := signIn(t, sim)
		if _, body := get(t, sim, access, "/xapi/v1/EventLogs?$filter=EventId%20eq%204100&$select=Id"); bytes.Count(body, []byte(`"Id"`)) != 4 {
			t.Errorf("trunk events: %s", body)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// start is where the virtual clock of a bubble begins.
var start = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func TestABoxLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSim(t, pbxsim.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- sim.Run(ctx) }()
		seen, events := map[int]bool{}, 0
		for range 120 {
			time.Sleep(10 * time.Second)
			_, body := send(t, sim, "GET", "/sim/state", "", "")
			var v struct{ Calls, Events int }
			if err := json.Unmarshal(body, &v); err != nil {
				t.Fatal(err)
			}
			if v.Calls > 14 || v.Events < events {
				t.Errorf("calls %d, events %d after %d", v.Calls, v.Events, events)
			}
			seen[v.Calls], events = true, v.Events
		}
		if len(seen) < 3 || events < 40 {
			t.Errorf("numbers of calls %v, events %d in 20 minutes", seen, events)
		}
		cancel()
		<-done
	})
}

func TestParseScenario(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"good", "[[event]]\nat=\"1s\"\nevery=\"1m\"\naction=\"trunk_drop\"\ntarget=\"10001\"", ""},
		{"empty", "", ""},
		{"unknown key", "[[event]]\nat=\"1s\"\nactoin=\"x\"", "unknown key"},
		{"unknown action", "[[event]]\nat=\"1s\"\naction=\"explode\"", "event[0].action"},
		{"bad time", "[[event]]\nat=\"soon\"\naction=\"reachable\"", "event[0].at"},
		{"too often", "[[event]]\nat=\"1s\"\nevery=\"1ms\"\naction=\"reachable\"", "event[0].every"},
		{"not TOML", "[[event", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := pbxsim.ParseScenario([]byte(tc.in))
			if wantErr := tc.want != "" || tc.name == "not TOML"; (err != nil) != wantErr || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	if _, err := pbxsim.LoadScenario("/nowhere.toml"); err == nil {
		t.Error("a missing file was accepted")
	}
}

// Over real sockets: TLS by its own CA, and an orderly end while a request hangs.
func TestServe(t *testing.T) {
	sim := newSim(t, pbxsim.Options{})
	cert, err := pbxsim.NewCertificate("pbx.example.com")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- sim.Serve(ctx, l, cert) }()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(cert.CAPEM) {
		t.Fatal("no CA certificate")
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "pbx.example.com"}}
	defer tr.CloseIdleConnections()
	hc := &http.Client{Transport: tr}
	base := "https://" + l.Addr().String()
	resp, err := hc.PostForm(base+"/connect/token", url.Values{
		"client_id": {"sidetone"}, "client_secret": {"sim-secret"}, "grant_type": {"client_credentials"}})
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("status %d", resp.StatusCode)
	}
	if err := sim.Do(pbxsim.Action{Name: "fault", Value: pbxsim.FaultHang}); err != nil {
		t.Fatal(err)
	}
	hung := make(chan error, 1)
	go func() {
		resp, err := hc.Get(base + "/xapi/v1/SystemStatus")
		if err == nil {
			err = resp.Body.Close()
		}
		hung <- err
	}()
	for sim.Requests()["GET /xapi/v1/SystemStatus"] == 0 {
		select {
		case err := <-hung:
			t.Fatalf("the request did not hang: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	<-hung
}
