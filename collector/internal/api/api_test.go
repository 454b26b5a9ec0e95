package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"sidetone/collector/internal/alert"
	"sidetone/collector/internal/authn"
	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/fleet"
	"sidetone/shared/certid"
	"sidetone/shared/telemetry"
)

func cookieOf(t *testing.T, a answer) *http.Cookie {
	t.Helper()
	list := a.Cookies()
	if len(list) != 1 {
		t.Fatalf("%d cookies", len(list))
	}
	return list[0]
}

func TestSetupSignInSignOut(t *testing.T) {
	b := newBench(t, nil)
	c := b.client()
	var s Session
	b.want(b.do(c, "GET", "/api/v1/session", nil), 200).into(t, &s)
	if s.SignedIn || !s.SetupNeeded || s.User != nil || s.ProductVersion == "" {
		t.Errorf("before the setup: %+v", s)
	}

	good := map[string]string{"code": b.code, "email": email, "name": "Owner", "password": password}
	with := func(k, v string) map[string]string {
		m := map[string]string{}
		for a, b := range good {
			m[a] = b
		}
		m[k] = v
		return m
	}
	b.want(b.do(c, "POST", "/api/v1/setup", with("code", "0000-0000-0000-0000")), 403)
	a := b.want(b.do(c, "POST", "/api/v1/setup", map[string]string{"code": b.code, "email": "x", "name": "", "password": "short"}), 422)
	var p struct {
		Errors []struct{ Message, Location string }
	}
	if err := json.Unmarshal(a.body, &p); err != nil {
		t.Fatal(err)
	}
	at := map[string]bool{}
	for _, e := range p.Errors {
		at[e.Location] = e.Message != ""
	}
	if len(at) != 3 || !at["body.email"] || !at["body.name"] || !at["body.password"] {
		t.Errorf("not all mistakes of the form are told: %s", a.body)
	}

	a = b.want(b.do(c, "POST", "/api/v1/setup", good), 201)
	k := cookieOf(t, a)
	if k.Name != "__Host-sidetone" || !k.Secure || !k.HttpOnly || k.SameSite != http.SameSiteLaxMode || k.Path != "/" || k.Domain != "" || len(k.Value) < 40 {
		t.Errorf("cookie: %s", k)
	}
	if got := a.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("an answer with a cookie has Cache-Control %q", got)
	}
	a.into(t, &s)
	if !s.SignedIn || s.User == nil || *s.User != (User{Email: email, Name: "Owner", Role: "owner"}) {
		t.Errorf("after the setup: %s", a.body)
	}
	b.want(b.do(c, "GET", "/api/v1/fleet", nil), 200)
	b.want(b.do(b.client(), "POST", "/api/v1/setup", good), 409)

	// sign out: the cookie goes, and the token is dead also where it was copied
	a = b.want(b.do(c, "DELETE", "/api/v1/session", nil), 204)
	if gone := cookieOf(t, a); gone.MaxAge >= 0 || gone.Name != k.Name || !gone.Secure || gone.Path != "/" {
		t.Errorf("the clearing cookie: %s", gone)
	}
	thief := b.client()
	b.want(b.do(thief, "GET", "/api/v1/fleet", nil, "Cookie", k.Name+"="+k.Value), 401)
	b.want(b.do(c, "GET", "/api/v1/fleet", nil), 401)
	b.want(b.do(c, "GET", "/api/v1/session", nil), 200).into(t, &s)
	if s.SignedIn || s.SetupNeeded {
		t.Errorf("signed out: %+v", s)
	}

	wrong := b.want(b.do(c, "POST", "/api/v1/session", map[string]string{"email": email, "password": "wrong password!"}), 401)
	unknown := b.want(b.do(c, "POST", "/api/v1/session", map[string]string{"email": "nobody@example.com", "password": password}), 401)
	if string(wrong.body) != string(unknown.body) || !strings.Contains(string(wrong.body), "email or password is wrong") {
		t.Errorf("a wrong password says %s, an unknown account %s", wrong.body, unknown.body)
	}
	k2 := cookieOf(t, b.want(b.do(c, "POST", "/api/v1/session", map[string]string{"email": strings.ToUpper(email), "password": password}), 201))
	if k2.Value == k.Value || k2.Name != "__Host-sidetone" || !k2.Secure || !k2.HttpOnly || k2.SameSite != http.SameSiteLaxMode || k2.Path != "/" {
		t.Errorf("cookie of the second sign-in: %s", k2)
	}
	b.want(b.do(c, "GET", "/api/v1/fleet", nil), 200)
}

func TestGuessingEnds(t *testing.T) {
	b := newBench(t, nil)
	b.owner()
	c := b.client()
	var a answer
	for tries := 0; ; tries++ {
		a = b.do(c, "POST", "/api/v1/session", map[string]string{"email": email, "password": "guess number " + strconv.Itoa(tries)})
		if a.StatusCode != 401 {
			break
		}
		if tries > 50 {
			t.Fatal("fifty guesses, and no end")
		}
	}
	b.want(a, 429)
	if s, err := strconv.Atoi(a.Header.Get("Retry-After")); err != nil || s < 1 || s > 600 {
		t.Errorf("Retry-After: %q", a.Header.Get("Retry-After"))
	}
	// also with the right password, else the answer would tell it
	b.want(b.do(c, "POST", "/api/v1/session", map[string]string{"email": email, "password": password}), 429)
}

// TestEveryRouteNeedsASession walks the OpenAPI document.
func TestEveryRouteNeedsASession(t *testing.T) {
	b := newBench(t, nil)
	stranger := b.client()
	for _, path := range []string{"/api/v1/openapi.json", "/api/v1/openapi.yaml", "/api/v1/openapi-3.0.json", "/api/v1/schemas/Fleet.json",
		"/api/v1/stream", "/api/v1/stream?site=1", "/api/v1/nothing", "/api/", "/api/v1/session/", "/api/v1/setup"} {
		b.want(b.do(stranger, "GET", path, nil), 401)
	}
	b.want(b.do(stranger, "HEAD", "/api/v1/nothing", nil).headed(), 401)
	owner := b.owner()
	var doc struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(b.want(b.do(owner, "GET", "/api/v1/openapi.json", nil), 200).body, &doc); err != nil {
		t.Fatal(err)
	}
	isOpen := map[string]bool{"GET /api/v1/session": true, "POST /api/v1/session": true, "POST /api/v1/setup": true}
	seen := 0
	for path, ops := range doc.Paths {
		for method := range ops {
			method = strings.ToUpper(method)
			seen++
			a := b.do(stranger, method, strings.ReplaceAll(path, "{site_id}", "1"), "{}")
			if got := a.StatusCode == 401; got == isOpen[method+" "+path] {
				t.Errorf("%s %s without a session: %d", method, path, a.StatusCode)
			}
			if a.StatusCode == 401 {
				b.want(a, 401)
			}
			if a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s %s: headers %v", method, path, a.Header)
			}
		}
	}
	if seen < 10 {
		t.Errorf("the document has %d operations only", seen)
	}
	for _, cookie := range []string{"", "x", strings.Repeat("A", 43), strings.Repeat("A", 20000)} {
		b.want(b.do(stranger, "GET", "/api/v1/fleet", nil, "Cookie", authn.CookieName+"="+cookie), 401)
	}
}

// headed gives an answer to HEAD the body it cannot have.
func (a answer) headed() answer {
	a.body = fmt.Appendf(nil, `{"status":%d,"title":"x","detail":"x"}`, a.StatusCode)
	return a
}

func TestGuards(t *testing.T) {
	b := newBench(t, nil)
	c := b.owner()
	place := map[string]string{"tenant": "T", "customer": "C", "site": "S"}
	text, err := json.Marshal(place)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range [][]string{
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"},
	} {
		if a := b.do(c, "POST", "/api/v1/tokens", place, h...); a.StatusCode != 403 {
			t.Errorf("POST with %v: %d", h, a.StatusCode)
		}
		if a := b.do(c, "DELETE", "/api/v1/session", nil, h...); a.StatusCode != 403 {
			t.Errorf("DELETE with %v: %d", h, a.StatusCode)
		}
	}
	if tree := b.want(b.do(c, "GET", "/api/v1/tree", nil), 200); strings.Contains(string(tree.body), `"T"`) {
		t.Error("a refused request made a tenant")
	}
	for _, ct := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json/x", "application/cbor"} {
		b.want(b.do(c, "POST", "/api/v1/tokens", string(text), "Content-Type", ct), 415)
	}
	b.want(b.do(c, "POST", "/api/v1/tokens", place, "Content-Type", "application/json; charset=utf-8", "Sec-Fetch-Site", "same-origin"), 201)

	big := `{"tenant":"` + strings.Repeat("x", maxBody) + `"}`
	b.want(b.do(c, "POST", "/api/v1/tokens", big), 413)
	for _, body := range []string{"", "{", "[]", "null", `{"tenant":1}`, strings.Repeat("[", 30000), "\xff\xfe"} {
		if a := b.do(c, "POST", "/api/v1/tokens", body); a.StatusCode != 400 && a.StatusCode != 422 {
			t.Errorf("body %.20q: %d %s", body, a.StatusCode, a.body)
		}
	}
	for _, path := range []string{"/api/v1/nothing", "/api/", "/api/v2/fleet", "/api/v1/sites", "/api/v1/sites/1/nothing"} {
		b.want(b.do(c, "GET", path, nil), 404)
	}
	if a := b.do(c, "PUT", "/api/v1/fleet", "{}"); a.StatusCode != 405 && a.StatusCode != 404 {
		t.Errorf("PUT: %d", a.StatusCode)
	}
}

func TestBrokenStoreIsNotSignedOut(t *testing.T) {
	b := newBench(t, nil)
	c := b.owner()
	if err := b.db.Close(); err != nil {
		t.Fatal(err)
	}
	a := b.want(b.do(c, "GET", "/api/v1/fleet", nil), 503)
	if strings.Contains(string(a.body), "sql") {
		t.Errorf("the store's words reach the asker: %s", a.body)
	}
}

func TestSitesOutOfSight(t *testing.T) {
	b := newBench(t, nil)
	c := b.owner()
	src := b.admit("T", "C", "S")
	b.want(b.do(c, "GET", sitePath(src), nil), 200)
	now := time.Now().UnixMilli()
	q := fmt.Sprintf("?target=1&from_ms=%d&to_ms=%d", now-1000, now)
	for _, id := range []string{"999", "0", "4294967295"} {
		for _, path := range []string{"/api/v1/sites/" + id, "/api/v1/sites/" + id + "/series" + q, "/api/v1/stream?site=" + id} {
			if id == "0" && strings.Contains(path, "stream") {
				continue
			}
			b.want(b.do(c, "GET", path, nil), 404)
		}
	}
	for _, id := range []string{"x", "-1", "4294967296", fmt.Sprint(1<<32 + int64(src.Site)), "1e3", "%00"} {
		b.want(b.do(c, "GET", "/api/v1/sites/"+id, nil), 422)
		b.want(b.do(c, "GET", "/api/v1/stream?site="+id, nil), 422)
	}

	// another tenant's person: no role gives that yet, so below the guards
	other := authz.Tenants(src.Tenant + 1)
	if rows, err := b.board.rows(t.Context(), other); err != nil || len(rows) != 0 {
		t.Errorf("rows of another tenant: %+v, %v", rows, err)
	}
	if _, err := b.board.detail(t.Context(), other, src.Site); err == nil {
		t.Error("the site of another tenant is shown")
	}
	if rows, err := b.board.rows(t.Context(), authz.Tenants(src.Tenant)); err != nil || len(rows) != 1 {
		t.Errorf("rows of the tenant: %+v, %v", rows, err)
	}
	if rows, err := b.board.rows(t.Context(), scope(t.Context())); err != nil || len(rows) != 0 {
		t.Errorf("without guards in front: %+v, %v", rows, err)
	}
}

func TestFleetAndSite(t *testing.T) {
	b := newBench(t, nil)
	c := b.owner()
	var f Fleet
	a := b.want(b.do(c, "GET", "/api/v1/fleet", nil), 200)
	a.into(t, &f)
	if !strings.Contains(string(a.body), `"sites":[]`) {
		t.Errorf("no sites is not an empty list: %s", a.body)
	}

	now := time.Now()
	good, lossy, down, empty := b.admit("T", "C", "good"), b.admit("T", "C", "lossy"), b.admit("T", "D", "down"), b.admit("U", "E", "empty")
	for _, src := range []telemetry.Source{good, lossy, down} {
		b.Fleet.Connected(src, fleet.Conn{Transport: "quic", Remote: "192.0.2.9:1", CertExpires: now.Add(time.Hour), ClockOffset: -3 * time.Second}, now)
		b.Live.Deliver(src, status(now, telemetry.PBXOK), now)
		b.Live.Deliver(src, window(now.Add(-10*time.Second), 0), now)
	}
	b.Live.Deliver(lossy, window(now.Add(-9*time.Second), 4), now)
	b.fire(lossy, "loss", alert.Warning, "Packet loss")
	b.fire(down, "trunk", alert.Critical, "Trunk not registered")
	b.storage.Store(&Storage{Detail: "no answer", Since: 7})

	b.want(b.do(c, "GET", "/api/v1/fleet", nil), 200).into(t, &f)
	var order []string
	for _, r := range f.Sites {
		order = append(order, r.Site+" "+r.State)
	}
	if got := strings.Join(order, ", "); got != "down down, empty no_data, lossy degraded, good ok" {
		t.Errorf("order: %s", got)
	}
	if f.Counts != (Counts{1, 1, 1, 1}) || f.Storage != (Storage{Detail: "no answer", Since: 7}) || f.Generated < telemetry.MS(now) {
		t.Errorf("%+v", f)
	}
	if r := f.Sites[2]; r.Tenant != "T" || r.Customer != "C" || r.OpenIncidents != 1 || *r.WorstLossRatio != 0.4 || r.Reason != "Packet loss" {
		t.Errorf("row: %+v", r)
	}

	var d SiteDetail // ClickHouse does not answer: the page works all the same
	a = b.want(b.do(c, "GET", sitePath(lossy), nil), 200)
	a.into(t, &d)
	if d.Row.Site != "lossy" || len(d.Targets) != 1 || d.PBX == nil || len(d.Incidents) != 1 || len(d.Agents) != 1 {
		t.Fatalf("%s", a.body)
	}
	ag := d.Agents[0]
	if !ag.Connected || ag.Transport != "quic" || ag.Remote != "192.0.2.9:1" || *ag.ClockOffsetMS != -3000 || ag.SpoolRecords != nil || ag.CertificateExpires == 0 {
		t.Errorf("agent: %+v", ag)
	}
	tg := d.Targets[0]
	if tg.ItemID != strconv.FormatUint(uint64(targetID), 10) || tg.Last == nil || tg.Last.LossRatio != 0.4 || *tg.Last.RTTP50US != 5000 || tg.Method != "stamp" {
		t.Errorf("target: %+v", tg)
	}
	if i := d.Incidents[0]; i.Title != "Packet loss" || i.State != "open" || i.Severity != "warning" || i.Site != "lossy" || i.SiteID != lossy.Site || len(i.Evidence) != 1 || i.Evidence[0].Value != "4 %" {
		t.Errorf("incident: %+v", i)
	}
	if strings.Contains(string(a.body), "null") {
		t.Errorf("null instead of nothing: %s", a.body)
	}
	a = b.want(b.do(c, "GET", sitePath(empty), nil), 200)
	for _, k := range []string{"trunks", "sbcs", "services", "targets", "incidents", "changes"} {
		if !strings.Contains(string(a.body), `"`+k+`":[]`) {
			t.Errorf("%s is no empty list: %s", k, a.body)
		}
	}

	var list Incidents
	b.want(b.do(c, "GET", "/api/v1/incidents", nil), 200).into(t, &list)
	if len(list.Incidents) != 2 {
		t.Errorf("incidents: %+v", list)
	}
	b.want(b.do(c, "GET", "/api/v1/incidents?state=all&limit=1", nil), 200).into(t, &list)
	if len(list.Incidents) != 1 {
		t.Errorf("with limit 1: %+v", list)
	}
	for _, q := range []string{"state=closed", "limit=0", "limit=1001", "limit=x"} {
		b.want(b.do(c, "GET", "/api/v1/incidents?"+q, nil), 422)
	}
}

// TestAWindowWithoutAnswers has no delays: "no data" is never 0.
func TestAWindowWithoutAnswers(t *testing.T) {
	w := windowJSON(telemetry.ProbeWindow{Observed: 1, LengthMS: 10000, Sent: 10, Lost: 10, Fault: "timeout"})
	text, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "rtt") || strings.Contains(string(text), "jitter") || w.LossRatio != 1 {
		t.Errorf("%s", text)
	}
	if w := windowJSON(telemetry.ProbeWindow{}); w.LossRatio != 0 {
		t.Errorf("nothing sent: %+v", w)
	}
}

func TestSeriesMistakes(t *testing.T) {
	b := newBench(t, nil)
	c := b.owner()
	path := sitePath(b.admit("T", "C", "S")) + "/series"
	day := (24 * time.Hour).Milliseconds()
	for name, q := range map[string]string{
		"nothing":          "",
		"no target":        "from_ms=1&to_ms=2",
		"target no number": "target=x&from_ms=1&to_ms=2",
		"target too large": "target=18446744073709551616&from_ms=1&to_ms=2",
		"target negative":  "target=-1&from_ms=1&to_ms=2",
		"no from":          "target=1&to_ms=2",
		"from is text":     "target=1&from_ms=now&to_ms=2",
		"from after to":    "target=1&from_ms=2&to_ms=1",
		"from is to":       "target=1&from_ms=2&to_ms=2",
		"too long":         fmt.Sprintf("target=1&from_ms=1&to_ms=%d", 401*day),
		"overflow":         "target=1&from_ms=-9223372036854775808&to_ms=9223372036854775807",
		"negative step":    "target=1&from_ms=1&to_ms=2&step_ms=-1",
		"step overflow":    "target=1&from_ms=1&to_ms=2&step_ms=9223372036854775807",
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			b.want(b.do(c, "GET", path+"?"+q, nil), 422)
		})
	}
	b.t = t
	a := b.want(b.do(c, "GET", path+"?target=1&from_ms=1000&to_ms=2000", nil), 503)
	if strings.Contains(string(a.body), "socket") {
		t.Errorf("the cause is shown to the asker: %s", a.body)
	}
}

func TestToken(t *testing.T) {
	b := newBench(t, nil)
	c := b.owner()
	hostile := []string{`<script>alert(1)</script>`, `Zürich "&' \ 日本`, `{{7*7}} ${x} %s`}
	a := b.want(b.do(c, "POST", "/api/v1/tokens", map[string]any{"tenant": hostile[0], "customer": hostile[1], "site": hostile[2], "uses": 3, "hours": 2}), 201)
	var n NewToken
	a.into(t, &n)
	tok, err := certid.ParseToken(n.Token)
	if err != nil || tok.Addr != "collector.example.com:4443" || tok.Secret == "" {
		t.Errorf("%+v, %v", tok, err)
	}
	if !strings.Contains(n.Command, "sidetone-agent enrol "+n.Token) {
		t.Errorf("command %q", n.Command)
	}
	if left := time.Until(n.Expires.Time()); left < 119*time.Minute || left > 2*time.Hour {
		t.Errorf("expires in %s", left)
	}

	var tree Tree
	b.want(b.do(c, "GET", "/api/v1/tree", nil), 200).into(t, &tree)
	if len(tree.Tenants) != 1 || tree.Tenants[0].Name != hostile[0] || tree.Tenants[0].Customers[0].Name != hostile[1] || tree.Tenants[0].Customers[0].Sites[0].Name != hostile[2] {
		t.Errorf("%+v", tree)
	}
	var f Fleet
	fl := b.want(b.do(c, "GET", "/api/v1/fleet", nil), 200)
	fl.into(t, &f)
	if len(f.Sites) != 1 || f.Sites[0].Tenant != hostile[0] || f.Sites[0].Customer != hostile[1] || f.Sites[0].Site != hostile[2] {
		t.Errorf("%+v", f)
	}
	if ct := fl.Header.Get("Content-Type"); ct != "application/json" {
		t.Errorf("Content-Type %q", ct)
	}

	// the same place again makes a token and no second tree
	b.want(b.do(c, "POST", "/api/v1/tokens", map[string]any{"tenant": hostile[0], "customer": hostile[1], "site": hostile[2]}), 201)
	b.want(b.do(c, "GET", "/api/v1/tree", nil), 200).into(t, &tree)
	if len(tree.Tenants) != 1 || len(tree.Tenants[0].Customers[0].Sites) != 1 {
		t.Errorf("%+v", tree)
	}

	a = b.want(b.do(c, "POST", "/api/v1/tokens", map[string]any{"tenant": " ", "customer": "a\x00b", "site": ""}), 422)
	for _, field := range []string{"body.tenant", "body.customer", "body.site"} {
		if !strings.Contains(string(a.body), field) {
			t.Errorf("%s is not told: %s", field, a.body)
		}
	}
	for name, body := range map[string]map[string]any{
		"uses":     {"tenant": "T", "customer": "C", "site": "S", "uses": 1001},
		"hours":    {"tenant": "T", "customer": "C", "site": "S", "hours": 721},
		"long":     {"tenant": strings.Repeat("x", 101), "customer": "C", "site": "S"},
		"no site":  {"tenant": "T", "customer": "C"},
		"unknown":  {"tenant": "T", "customer": "C", "site": "S", "role": "owner"},
		"uses neg": {"tenant": "T", "customer": "C", "site": "S", "uses": -1},
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			b.want(b.do(c, "POST", "/api/v1/tokens", body), 422)
		})
	}
}

// TestTokenDefaults holds one use and a day.
func TestTokenDefaults(t *testing.T) {
	b := newBench(t, nil)
	var n NewToken
	b.want(b.do(b.owner(), "POST", "/api/v1/tokens", map[string]any{"tenant": "T", "customer": "C", "site": "S"}), 201).into(t, &n)
	if left := time.Until(n.Expires.Time()); left < 23*time.Hour+59*time.Minute || left > 24*time.Hour {
		t.Errorf("expires in %s", left)
	}
	tok, err := certid.ParseToken(n.Token)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := b.db.Token(t.Context(), tok.ID)
	if err != nil || kept.UsesLeft != 1 {
		t.Errorf("%+v, %v", kept, err)
	}
}

// TestHostileNamesInDetail holds that what a PBX calls its things comes back as text.
func TestHostileNamesInDetail(t *testing.T) {
	b := newBench(t, nil)
	c := b.owner()
	src := b.admit("T", "C", "S")
	name := "<img src=x onerror=alert(1)>\u2028\"'\\\u202e日本\x7f"
	b.Live.Deliver(src, &telemetry.Set{
		Trunks:   []telemetry.Trunk{{ID: 1, Observed: 1, Number: name, Name: name, Host: name, Kind: "provider", FailCode: name}},
		SBCs:     []telemetry.SBC{{ID: 2, Observed: 1, Name: name, Version: name}},
		Services: []telemetry.Service{{ID: 3, Observed: 1, Name: name, Title: name, Status: name}},
		Targets:  []telemetry.Target{{ID: 18446744073709551615, Method: "icmp", Name: name, Address: name}},
	}, time.Now())
	var d SiteDetail
	b.want(b.do(c, "GET", sitePath(src), nil), 200).into(t, &d)
	if d.Trunks[0].Name != name || d.Trunks[0].Host != name || d.SBCs[0].Name != name || d.Services[0].Status != name || d.Targets[0].Address != name {
		t.Errorf("%+v", d)
	}
	if d.Targets[0].ItemID != "18446744073709551615" {
		t.Errorf("item id %s", d.Targets[0].ItemID)
	}
}
