package notify_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"sidetone/collector/internal/incident"
	"sidetone/collector/internal/notify"
	"sidetone/collector/internal/notify/notifytest"
	"sidetone/collector/internal/notify/webhook"
)

func listenHTTP(t *testing.T, respond func(int, notifytest.Request, http.ResponseWriter)) *notifytest.HTTP {
	t.Helper()
	h, err := notifytest.ListenHTTP(respond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func listenSMTP(t *testing.T, cfg notifytest.SMTPConfig) *notifytest.SMTP {
	t.Helper()
	s, err := notifytest.ListenSMTP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// hook is the JSON that a receiver reads.
type hook struct {
	Version  int    `json:"version"`
	Kind     string `json:"kind"`
	Key      string `json:"idempotency_key"`
	Incident struct {
		ID       int64  `json:"incident_id"`
		Site     string `json:"site"`
		Subject  string `json:"subject"`
		State    string `json:"state"`
		Opened   int64  `json:"opened_ms"`
		Resolved int64  `json:"resolved_ms"`
		Summary  string `json:"summary"`
		Evidence []struct{ Label, Value string }
	} `json:"incident"`
}

func parse(t *testing.T, r notifytest.Request) hook {
	t.Helper()
	var h hook
	if err := json.Unmarshal(r.Body, &h); err != nil {
		t.Fatalf("%v in %s", err, r.Body)
	}
	return h
}

func TestDropAndReturnOfATrunk(t *testing.T) {
	web, mail := listenHTTP(t, nil), listenSMTP(t, notifytest.SMTPConfig{})
	r, stop := start(t, t.TempDir(), []notify.ChannelConfig{hookChannel(web.URL()), mailChannel(mail.Port())}, nil)
	r.observe(t, "Carrier", true, noon)
	r.observe(t, "Carrier", false, noon.Add(10*time.Second))
	r.observe(t, "Carrier", false, noon.Add(20*time.Second))
	waitHTTP(t, web, 1)
	waitMail(t, mail, 1)
	r.observe(t, "Carrier", true, noon.Add(30*time.Second))
	r.tick(t, noon.Add(40*time.Second))
	waitHTTP(t, web, 2)
	waitMail(t, mail, 2)
	r.tick(t, noon.Add(500*time.Second))
	stop()

	reqs, mails := web.Requests(), mail.Mails()
	if len(reqs) != 2 || len(mails) != 2 {
		t.Fatalf("%d requests and %d mails, want two of each", len(reqs), len(mails))
	}
	open, back := parse(t, reqs[0]), parse(t, reqs[1])
	if open.Version != 1 || open.Kind != "opened" || open.Incident.State != "open" || open.Incident.Site != "HQ" ||
		open.Incident.Subject != "Carrier" || open.Incident.Opened != noon.Add(10*time.Second).UnixMilli() || len(open.Incident.Evidence) < 3 {
		t.Errorf("opened: %s", reqs[0].Body)
	}
	if back.Kind != "resolved" || back.Incident.State != "resolved" || back.Incident.ID != open.Incident.ID ||
		back.Incident.Resolved != noon.Add(40*time.Second).UnixMilli() {
		t.Errorf("resolved: %s", reqs[1].Body)
	}
	if open.Key == back.Key || open.Key != reqs[0].Header.Get(webhook.HeaderKey) {
		t.Errorf("keys %q and %q", open.Key, back.Key)
	}
	first, err := mails[0].Parse()
	if err != nil {
		t.Fatal(err)
	}
	second, err := mails[1].Parse()
	if err != nil {
		t.Fatal(err)
	}
	if first.Header.Get("Subject") != "[CRITICAL] Trunk not registered: Carrier (HQ, Acme)" ||
		second.Header.Get("Subject") != "[RESOLVED] Trunk not registered: Carrier (HQ, Acme)" {
		t.Errorf("subjects %q, %q", first.Header.Get("Subject"), second.Header.Get("Subject"))
	}
	if second.Header.Get("References") != first.Header.Get("Message-Id") {
		t.Errorf("thread: %q refers to %q", second.Header.Get("References"), first.Header.Get("Message-Id"))
	}
}

func TestHostileNameOfATrunk(t *testing.T) {
	web, mail := listenHTTP(t, nil), listenSMTP(t, notifytest.SMTPConfig{})
	r, _ := start(t, t.TempDir(), []notify.ChannelConfig{hookChannel(web.URL()), mailChannel(mail.Port())}, nil)
	evil := "x\r\nBcc: victim@example.org\r\n\r\n<script>alert(1)</script>\u202e\"}'; DROP TABLE outbox; --" + strings.Repeat("A", 64<<10)
	r.observe(t, evil, false, noon)
	h := parse(t, waitHTTP(t, web, 1)[0])
	if len(h.Incident.Subject) > 200 || strings.ContainsAny(h.Incident.Subject+h.Incident.Summary, "\r\n\u202e") {
		t.Errorf("JSON carries %q", h.Incident.Subject)
	}
	got := waitMail(t, mail, 1)[0]
	p, err := got.Parse()
	if err != nil {
		t.Fatal(err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(p.Header.Get("Subject"))
	if err != nil || len([]rune(subject)) > 180 || len(got.To) != 1 || p.Header.Get("Bcc") != "" || len(got.Data) > 8<<10 {
		t.Errorf("subject %q, to %v, bcc %q, %d bytes, %v", subject, got.To, p.Header.Get("Bcc"), len(got.Data), err)
	}
	if !strings.HasPrefix(p.Header.Get("Content-Type"), "text/plain") {
		t.Error("the mail is not plain text")
	}
}

// TestRetryKeepsTheOrder: the opening fails twice while its resolution waits.
func TestRetryKeepsTheOrder(t *testing.T) {
	web := listenHTTP(t, func(n int, _ notifytest.Request, w http.ResponseWriter) {
		if n <= 2 {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	r, _ := start(t, t.TempDir(), []notify.ChannelConfig{hookChannel(web.URL())}, nil)
	r.observe(t, "Carrier", false, noon)
	waitHTTP(t, web, 1)
	r.observe(t, "Carrier", true, noon.Add(10*time.Second))
	r.tick(t, noon.Add(20*time.Second))
	reqs := waitHTTP(t, web, 4)
	var kinds []string
	for _, q := range reqs {
		kinds = append(kinds, parse(t, q).Kind)
	}
	if fmt.Sprint(kinds) != "[opened opened opened resolved]" {
		t.Fatalf("order %v", kinds)
	}
	if !bytes.Equal(reqs[0].Body, reqs[2].Body) || reqs[0].Header.Get(webhook.HeaderKey) != reqs[2].Header.Get(webhook.HeaderKey) {
		t.Error("a retry differs from the first try")
	}
	until(t, "both messages on record", func() bool {
		m := r.incidents(t)[0].Messages
		return len(m) == 2 && m[0].State == "sent" && m[1].State == "sent"
	})
	if s := r.disp.Stats()["hook"]; s.Sent != 2 || s.Retried != 2 {
		t.Errorf("stats %+v", s)
	}
}

// TestOneChannelDownDoesNotDelayTheOther and tells what is wrong.
func TestOneChannelDownDoesNotDelayTheOther(t *testing.T) {
	web := listenHTTP(t, func(_ int, _ notifytest.Request, w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) })
	mail := listenSMTP(t, notifytest.SMTPConfig{})
	r, _ := start(t, t.TempDir(), []notify.ChannelConfig{hookChannel(web.URL()), mailChannel(mail.Port())}, nil)
	r.observe(t, "Carrier", false, noon)
	waitMail(t, mail, 1)
	until(t, "the refusal on record", func() bool {
		for _, m := range r.incidents(t)[0].Messages {
			if m.Channel == "hook" && m.State == "failed" && strings.Contains(m.Error, "404") {
				return true
			}
		}
		return false
	})
	if n := len(web.Requests()); n != 1 {
		t.Errorf("a refusal for good was tried %d times", n)
	}
}

func TestGivenUpAfterADay(t *testing.T) {
	web := listenHTTP(t, func(_ int, _ notifytest.Request, w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) })
	var hours atomic.Int64
	now := func() time.Time { return noon.Add(time.Duration(hours.Load()) * time.Hour) }
	r, _ := start(t, t.TempDir(), []notify.ChannelConfig{hookChannel(web.URL())}, now)
	r.observe(t, "Carrier", false, noon)
	tried := func(n int) {
		t.Helper()
		waitHTTP(t, web, n)
		until(t, "the try judged", func() bool { return r.disp.Stats()["hook"].Retried == uint64(n) })
	}
	tried(1)
	for i, h := range []int64{1, 23} {
		hours.Store(h)
		tried(i + 2)
		if s := r.incidents(t)[0].Messages[0].State; s != "queued" {
			t.Fatalf("after %d h: %s", h, s)
		}
	}
	hours.Store(25)
	until(t, "the end of trying", func() bool {
		m := r.incidents(t)[0].Messages[0]
		return m.State == "failed" && strings.Contains(m.Error, "given up after 24h")
	})
}

// TestStopReturnsWhatIsUnderWay: an orderly stop during a try sends it again at once.
func TestStopReturnsWhatIsUnderWay(t *testing.T) {
	dir := t.TempDir()
	release := make(chan struct{})
	web := listenHTTP(t, func(n int, _ notifytest.Request, w http.ResponseWriter) {
		if n == 1 {
			<-release
		}
	})
	defer close(release)
	r, stop := start(t, dir, []notify.ChannelConfig{hookChannel(web.URL())}, nil)
	r.observe(t, "Carrier", false, noon)
	waitHTTP(t, web, 1)
	stop()
	r, _ = start(t, dir, []notify.ChannelConfig{hookChannel(web.URL())}, nil)
	reqs := waitHTTP(t, web, 2)
	if parse(t, reqs[0]).Key != parse(t, reqs[1]).Key || len(r.incidents(t)) != 1 {
		t.Error("another message, or another incident")
	}
}

const (
	childEnv    = "NOTIFY_TEST_CHILD"
	childURLEnv = "NOTIFY_TEST_URL"
)

// child is a collector's alerting in a process of its own: it sees the trunk down and
// runs until it is killed.
func child(dir string) {
	r, err := newRig(dir, []notify.ChannelConfig{hookChannel(os.Getenv(childURLEnv))}, nil)
	if err == nil {
		err = r.inc.Reconcile(ctxBackground, r.engine.Firings())
	}
	if err == nil {
		err = r.inc.Handle(ctxBackground, r.engine.Observe(trunkDown(r.src)))
	}
	if err == nil {
		err = r.disp.Run(ctxBackground)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestKillDuringDelivery kills the process while the receiver has the request and has
// not answered.
func TestKillDuringDelivery(t *testing.T) {
	dir := t.TempDir()
	release := make(chan struct{})
	web := listenHTTP(t, func(n int, _ notifytest.Request, w http.ResponseWriter) {
		if n <= 2 {
			<-release
		}
	})
	defer close(release)
	run := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), childEnv+"="+dir, childURLEnv+"="+web.URL())
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		return cmd
	}
	for n := 1; n <= 2; n++ {
		cmd := run()
		waitHTTP(t, web, n)
		if err := cmd.Process.Kill(); err != nil { // SIGKILL
			t.Fatal(err)
		}
		cmd.Wait() // its error says that it was killed
	}
	run()
	reqs := waitHTTP(t, web, 3)
	for _, q := range reqs {
		if parse(t, q).Key != parse(t, reqs[0]).Key {
			t.Errorf("another key: %s", q.Body)
		}
	}
	db, _, err := openStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	until(t, "the delivery on record", func() bool {
		list, err := db.Incidents(t.Context(), systemScope, incident.Filter{})
		if err != nil || len(list) != 1 || len(list[0].Messages) != 1 {
			t.Fatalf("incidents %+v, %v: want one with one message", list, err)
		}
		return list[0].Messages[0].State == "sent"
	})
}

func TestRouting(t *testing.T) {
	web := listenHTTP(t, nil)
	other, quiet, mine := hookChannel(web.URL()), hookChannel(web.URL()), hookChannel(web.URL())
	other.Name, other.Tenant = "other", "Another"
	quiet.Name, quiet.MinSeverity = "quiet", "critical"
	mine.Name, mine.Tenant, mine.MinSeverity = "mine", "MSP", "warning"
	mail := mailChannel(25)
	mail.To = []string{"a@example.com", "b@example.com"}
	d, err := notify.New([]notify.Channel{{Config: other}, {Config: quiet}, {Config: mine}, {Config: mail}}, notify.Deps{Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	inc := incident.Incident{Key: "k", Path: incident.Path{Tenant: "MSP"}, Severity: "warning"}
	var got []string
	seen := map[string]bool{}
	for _, a := range d.Announce(inc, incident.KindOpened) {
		got = append(got, a.Channel+" "+a.Recipient)
		if seen[a.Key] || a.Key != a.Thread {
			t.Errorf("key %s thread %s", a.Key, a.Thread)
		}
		seen[a.Key] = true
	}
	host := strings.TrimSuffix(web.URL(), "/hook")
	if want := []string{"mine " + host, "mail a@example.com", "mail b@example.com"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("told %v, want %v", got, want)
	}
	again := d.Announce(inc, incident.KindOpened)
	if !seen[again[0].Key] {
		t.Error("the same incident gives another key")
	}
}

func TestChannelMistakes(t *testing.T) {
	good := []notify.ChannelConfig{hookChannel("https://example.com/x"), mailChannel(0)}
	for _, c := range good {
		if errs := c.Validate(); len(errs) != 0 {
			t.Errorf("%s: %v", c.Name, errs)
		}
	}
	cases := []struct {
		name string
		c    notify.ChannelConfig
		want []string
	}{
		{"nothing", notify.ChannelConfig{}, []string{"name: is missing", "kind: "}},
		{"unknown kind", notify.ChannelConfig{Name: "a", Kind: "pigeon", MinSeverity: "loud"}, []string{"kind: \"pigeon\"", "min_severity: \"loud\""}},
		{"webhook", notify.ChannelConfig{Name: "a\n", Kind: "webhook", URL: "ftp://x", Secret: "short", Host: "h", Port: 1, To: []string{"x"}},
			[]string{"name: ", "url: must begin", "secret: is shorter", "host: belongs", "port: belongs", "to: belongs"}},
		{"url with a user", notify.ChannelConfig{Name: "a", Kind: "webhook", URL: "https://u:p@x/"}, []string{"url: must not hold a user"}},
		{"mail", notify.ChannelConfig{Name: "a", Kind: "smtp", Port: 70000, From: "x", To: []string{"y", "y"}, TLS: "maybe", User: "u", URL: "https://x", Secret: "s"},
			[]string{"host: is missing", "port: 70000", "from: \"x\"", "to[0]: \"y\"", "to[1]: \"y\" is named twice", "tls: \"maybe\"", "user: user and password", "url: belongs", "secret: belongs"}},
		{"password in clear", notify.ChannelConfig{Name: "a", Kind: "smtp", Host: "h", From: "a@b.c", To: []string{"a@b.c"}, TLS: "none", User: "u", Password: "p"},
			[]string{"tls: \"none\" would send the password in clear"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			text := errors.Join(c.c.Validate()...).Error()
			for _, w := range c.want {
				if !strings.Contains(text, w) {
					t.Errorf("no %q in:\n%s", w, text)
				}
			}
		})
	}
	twice := notify.Channel{Config: good[0]}
	if _, err := notify.New([]notify.Channel{twice, twice}, notify.Deps{}); err == nil {
		t.Error("two channels of one name")
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	c := hookChannel("https://example.com")
	for _, text := range []string{fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c), mustJSON(t, c)} {
		if strings.Contains(text, c.Secret.Reveal()) {
			t.Errorf("secret in %s", text)
		}
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
