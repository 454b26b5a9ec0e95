package api

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sidetone/collector/internal/authn"
	"sidetone/collector/internal/fleet"
	"sidetone/collector/internal/live"
	"sidetone/shared/telemetry"
)

// event is one server-sent event.
type event struct{ name, data string }

// page is an open stream; the channel closes when it ends.
type page struct {
	t      *testing.T
	events chan event
	cancel context.CancelFunc
}

// listen opens a stream and reads it until it ends.
func (b *bench) listen(c *http.Client, query string) *page {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", b.srv.URL+"/api/v1/stream"+query, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("Cache-Control") != "no-store" {
		b.t.Fatalf("%s %v", resp.Status, resp.Header)
	}
	p := &page{t: b.t, events: make(chan event, 100), cancel: cancel}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer resp.Body.Close()
		defer close(p.events)
		readEvents(resp.Body, func(e event) { p.events <- e })
	}()
	b.t.Cleanup(func() {
		cancel()
		for range p.events { // let the reader end
		}
		<-done
	})
	return p
}

func readEvents(r io.Reader, take func(event)) {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	var e event
	for sc.Scan() {
		switch line := sc.Text(); {
		case line == "":
			take(e)
			e = event{}
		case strings.HasPrefix(line, "event: "):
			e.name = line[len("event: "):]
		case strings.HasPrefix(line, "data: "):
			e.data += line[len("data: "):]
		}
	}
}

// next returns the next event other than pings.
func (p *page) next() event {
	p.t.Helper()
	for {
		e, ok := p.any()
		if !ok {
			p.t.Fatal("the stream ended")
		}
		if e.name != "ping" {
			return e
		}
	}
}

func (p *page) any() (event, bool) {
	p.t.Helper()
	select {
	case e, ok := <-p.events:
		return e, ok
	case <-time.After(30 * time.Second):
		p.t.Fatal("nothing came")
		return event{}, false
	}
}

// expect takes the next event, which must have this name, and decodes it strictly.
func (p *page) expect(name string, v any) {
	p.t.Helper()
	e := p.next()
	if e.name != name {
		p.t.Fatalf("event %s %s, want %s", e.name, e.data, name)
	}
	dec := json.NewDecoder(strings.NewReader(e.data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		p.t.Fatalf("%s: %v", e.data, err)
	}
}

func (p *page) ends() {
	p.t.Helper()
	for {
		if _, ok := p.any(); !ok {
			return
		}
	}
}

func TestStreamOfFleet(t *testing.T) {
	b := newBench(t, nil)
	c := b.owner()
	src := b.admit("T", "C", "<S>")
	p := b.listen(c, "")
	first, _ := p.any()
	if first.name != "storage" || first.data != `{"ok":true}` {
		t.Errorf("first: %+v", first)
	}
	var ping struct {
		Now int64 `json:"now_ms"`
	}
	second, _ := p.any()
	if err := json.Unmarshal([]byte(second.data), &ping); err != nil || second.name != "ping" || ping.Now < time.Now().Add(-time.Minute).UnixMilli() {
		t.Errorf("second: %+v", second)
	}

	now := time.Now()
	b.Fleet.Connected(src, fleet.Conn{}, now)
	b.Live.Deliver(src, window(now, 2), now)
	var row SiteRow
	p.expect("fleet", &row)
	if row.Site != "<S>" || row.State != StateOK || *row.WorstLossRatio != 0.2 {
		t.Errorf("row: %+v", row)
	}

	b.storage.Store(&Storage{Detail: "no answer", Since: 5})
	var s Storage
	p.expect("storage", &s)
	if s != (Storage{Detail: "no answer", Since: 5}) {
		t.Errorf("storage: %+v", s)
	}
}

func TestStreamOfSite(t *testing.T) {
	b := newBench(t, nil)
	c := b.owner()
	src, other := b.admit("T", "C", "S"), b.admit("T", "C", "other")
	p := b.listen(c, "?site="+strconv.FormatUint(uint64(src.Site), 10))
	var s Storage
	p.expect("storage", &s)

	now := time.Now()
	b.Live.Deliver(other, window(now, 0), now) // of no concern to this page
	b.Live.Deliver(src, window(now, 1), now)
	var w struct {
		SiteID telemetry.SiteID `json:"site_id"`
		ItemID string           `json:"item_id"`
		Window Window           `json:"window"`
	}
	p.expect("window", &w)
	if w.SiteID != src.Site || w.ItemID != itemText(targetID) || w.Window.Lost != 1 || *w.Window.RTTMaxUS != 9000 || w.Window.Observed != telemetry.MS(now) {
		t.Errorf("window: %+v", w)
	}

	b.Live.Deliver(other, status(now, telemetry.PBXOK), now)
	b.Live.Deliver(src, status(now, telemetry.PBXUnreachable), now)
	var row SiteRow
	p.expect("fleet", &row)
	if row.Site != "S" || row.PBXState != "unreachable" {
		t.Errorf("row: %+v", row)
	}
	var d SiteDetail
	p.expect("site", &d)
	if d.Row.Site != "S" || d.PBX == nil || d.PBX.State != "unreachable" {
		t.Errorf("site: %+v", d)
	}
}

// TestStreamSeesItsScopeOnly puts a streamer of another tenant beside the deliveries.
func TestStreamSeesItsScopeOnly(t *testing.T) {
	hub := live.New()
	sub := hub.Subscribe(scope(t.Context()), 0)
	defer sub.Close()
	hub.Deliver(telemetry.Source{Tenant: 1, Site: 1, Agent: 1}, window(time.Now(), 0), time.Now())
	select {
	case e := <-sub.Events():
		t.Errorf("a request without guards in front sees %+v", e)
	default:
	}
}

func TestStreamEndsWithTheServer(t *testing.T) {
	b := newBench(t, nil)
	p := b.listen(b.owner(), "")
	p.next()
	b.stop()
	p.ends()
	b.srv.Close()
	if n := b.Live.Listeners(); n != 0 {
		t.Errorf("%d listeners are left", n)
	}
}

func TestStreamEndsWithThePage(t *testing.T) {
	b := newBench(t, nil)
	p := b.listen(b.owner(), "")
	p.next()
	p.cancel()
	p.ends()
	b.srv.Close() // waits for the handler
	if n := b.Live.Listeners(); n != 0 {
		t.Errorf("%d listeners are left", n)
	}
}

func TestStreamLimit(t *testing.T) {
	b := newBench(t, nil)
	c := b.owner()
	var subs []*live.Subscription
	for range maxStreams {
		subs = append(subs, b.Live.Subscribe(allScope, 0))
	}
	a := b.want(b.do(c, "GET", "/api/v1/stream", nil), 503)
	if a.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	subs[0].Close()
	b.listen(c, "").next()
	for _, s := range subs[1:] {
		s.Close()
	}
}

// recorder is the answer to a request in virtual time. Writes fail from failing on.
type recorder struct {
	mu      sync.Mutex
	header  http.Header
	text    strings.Builder // guarded by mu
	failing bool            // guarded by mu
}

func (r *recorder) Header() http.Header              { return r.header }
func (r *recorder) WriteHeader(int)                  {}
func (r *recorder) Flush()                           {}
func (r *recorder) SetWriteDeadline(time.Time) error { return nil }
func (r *recorder) set(failing bool)                 { r.mu.Lock(); r.failing = failing; r.mu.Unlock() }
func (r *recorder) events() (names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	readEvents(strings.NewReader(r.text.String()), func(e event) { names = append(names, e.name) })
	return names
}

func (r *recorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failing {
		return 0, io.ErrClosedPipe
	}
	return r.text.Write(b)
}

// open starts a stream in the bubble.
func (b *bench) open(token string) (*recorder, chan struct{}) {
	req := httptest.NewRequestWithContext(b.t.Context(), "GET", "/api/v1/stream", nil)
	req.AddCookie(authn.Cookie(token))
	rec, done := &recorder{header: http.Header{}}, make(chan struct{})
	go func() {
		defer close(done)
		b.Handler().ServeHTTP(rec, req)
	}()
	return rec, done
}

func over(done chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

func TestStreamEndsWithTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newParts(t, nil)
		who, err := b.Authn.Setup(t.Context(), b.code, email, "Owner", password)
		if err != nil {
			t.Fatal(err)
		}
		token, err := b.Authn.StartSession(t.Context(), who, "192.0.2.1")
		if err != nil {
			t.Fatal(err)
		}
		rec, done := b.open(token)
		time.Sleep(2*recheckEvery + time.Second)
		if over(done) {
			t.Fatal("a stream with a good session ended")
		}
		names := rec.events()
		pings := 0
		for _, n := range names {
			if n == "ping" {
				pings++
			}
		}
		if names[0] != "storage" || pings != 13 || !slices.Contains(names, "ping") {
			t.Errorf("in two minutes: %v", names)
		}
		if err := b.Authn.SignOut(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		time.Sleep(recheckEvery + time.Second)
		if !over(done) {
			t.Error("the stream goes on after the sign-out")
		}
		if n := b.Live.Listeners(); n != 0 {
			t.Errorf("%d listeners are left", n)
		}
	})
}

// TestStreamEndsWhenWritesFail holds that a page that is gone is found out by the ping.
func TestStreamEndsWhenWritesFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newParts(t, nil)
		who, err := b.Authn.Setup(t.Context(), b.code, email, "Owner", password)
		if err != nil {
			t.Fatal(err)
		}
		token, err := b.Authn.StartSession(t.Context(), who, "192.0.2.1")
		if err != nil {
			t.Fatal(err)
		}
		rec, done := b.open(token)
		time.Sleep(time.Second)
		rec.set(true)
		time.Sleep(pingEvery + time.Second)
		if !over(done) {
			t.Error("the stream goes on although nobody takes it")
		}
	})
}
