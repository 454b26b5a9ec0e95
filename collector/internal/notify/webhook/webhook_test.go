package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sidetone/collector/internal/incident"
	"sidetone/collector/internal/notify"
	"sidetone/collector/internal/notify/notifytest"
	"sidetone/collector/internal/notify/webhook"
	"sidetone/collector/internal/outbound"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "0123456789abcdef-shared"

func message() notify.Message {
	return notify.Message{ID: 1, Attempt: 1, Announcement: incident.Announcement{
		Key: "k1", Kind: incident.KindOpened, Body: []byte(`{"version":1,"kind":"opened"}`)}}
}

func sender(t *testing.T, url string) *webhook.Sender {
	t.Helper()
	client := outbound.New(outbound.Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	t.Cleanup(client.CloseIdle)
	s, err := webhook.New(notify.ChannelConfig{Name: "w", Kind: notify.KindWebhook, URL: url, Secret: secret}, client)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSignedPost(t *testing.T) {
	sink, err := notifytest.ListenHTTP(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	if err := sender(t, sink.URL()).Send(t.Context(), message()); err != nil {
		t.Fatal(err)
	}
	got := sink.Requests()[0]
	if got.Header.Get(webhook.HeaderKey) != "k1" || got.Header.Get("Content-Type") != "application/json" || !json.Valid(got.Body) {
		t.Errorf("header %v body %s", got.Header, got.Body)
	}
	sig := got.Header.Get(webhook.HeaderSignature)
	if err := webhook.Verify([]byte(secret), sig, got.Body, time.Now(), time.Minute); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		sig    string
		secret string
		body   []byte
		now    time.Time
	}{
		"other body":   {sig, secret, append(bytes.Clone(got.Body), ' '), time.Now()},
		"other secret": {sig, secret + "x", got.Body, time.Now()},
		"replayed":     {sig, secret, got.Body, time.Now().Add(time.Hour)},
		"other time":   {strings.Replace(sig, "t=1", "t=2", 1), secret, got.Body, time.Now()},
		"none":         {"", secret, got.Body, time.Now()},
		"nonsense":     {"t=,v1=zz", secret, got.Body, time.Now()},
	} {
		if webhook.Verify([]byte(c.secret), c.sig, c.body, c.now, time.Minute) == nil {
			t.Errorf("%s: signature accepted", name)
		}
	}
}

func TestAnswers(t *testing.T) {
	cases := []struct {
		name      string
		status    int
		header    string
		permanent bool
		after     time.Duration
		ok        bool
	}{
		{name: "200", status: 200, ok: true}, {name: "202", status: 202, ok: true},
		{name: "redirect", status: 307, permanent: true}, {name: "400", status: 400, permanent: true},
		{name: "404", status: 404, permanent: true}, {name: "408", status: 408}, {name: "500", status: 500},
		{name: "429 with seconds", status: 429, header: "17", after: 17 * time.Second},
		{name: "503 with nonsense", status: 503, header: "soon"},
		{name: "429 in the past", status: 429, header: "Mon, 02 Jan 2006 15:04:05 GMT"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			sink, err := notifytest.ListenHTTP(func(_ int, _ notifytest.Request, w http.ResponseWriter) {
				w.Header().Set("Location", "http://127.0.0.1:1/")
				if c.header != "" {
					w.Header().Set("Retry-After", c.header)
				}
				w.WriteHeader(c.status)
			})
			if err != nil {
				t.Fatal(err)
			}
			defer sink.Close()
			err = sender(t, sink.URL()).Send(t.Context(), message())
			var p *notify.PermanentError
			var l *notify.LaterError
			if (err == nil) != c.ok || errors.As(err, &p) != c.permanent {
				t.Fatalf("error %v", err)
			}
			if errors.As(err, &l) != (c.after > 0) || l != nil && l.After != c.after {
				t.Fatalf("retry after %v, want %v", l, c.after)
			}
			if len(sink.Requests()) != 1 {
				t.Error("one try is one request")
			}
		})
	}
}

func TestErrorsDoNotNameThePath(t *testing.T) {
	s := sender(t, "http://127.0.0.1:1/services/TOPSECRET")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := s.Send(ctx, message())
	if err == nil || strings.Contains(err.Error(), "TOPSECRET") {
		t.Fatalf("error %v", err)
	}
}
