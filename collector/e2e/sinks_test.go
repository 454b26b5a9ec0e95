//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// received is one message at a sink.
type received struct {
	at   time.Time
	kind string // opened or resolved
	body string
	key  string
}

// sink gathers messages.
type sink struct {
	mu   sync.Mutex
	msgs []received
}

func (s *sink) add(m received) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.at = time.Now()
	s.msgs = append(s.msgs, m)
}

// about lists the messages of a kind (opened, resolved) whose text holds a word.
func (s *sink) about(kind, word string) []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []received
	for _, m := range s.msgs {
		if m.kind == kind && strings.Contains(strings.ToLower(m.body), word) {
			out = append(out, m)
		}
	}
	return out
}

// webhookSink is a local HTTP server that takes everything.
func webhookSink(t *testing.T) (*sink, string) {
	t.Helper()
	s := &sink{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var m struct {
			Kind string `json:"kind"`
			Key  string `json:"idempotency_key"`
		}
		if err := json.Unmarshal(body, &m); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.add(received{kind: m.Kind, key: m.Key, body: string(body)})
	}))
	t.Cleanup(srv.Close)
	return s, srv.URL
}

// smtpSink is a local mail server that takes everything.
func smtpSink(t *testing.T) (*sink, int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serveSMTP(c, s) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return s, l.Addr().(*net.TCPAddr).Port
}

func serveSMTP(c net.Conn, s *sink) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	r := bufio.NewReader(c)
	say := func(line string) { fmt.Fprintf(c, "%s\r\n", line) }
	say("220 sink ESMTP")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch verb := strings.ToUpper(strings.Fields(line + " x")[0]); verb {
		case "EHLO", "HELO":
			say("250 sink")
		case "DATA":
			say("354 go on")
			var body strings.Builder
			for {
				l, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if l == ".\r\n" {
					break
				}
				body.WriteString(l)
			}
			kind := "opened"
			if strings.Contains(strings.ToLower(header(body.String(), "Subject")), "resolved") {
				kind = "resolved"
			}
			s.add(received{kind: kind, body: body.String()})
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func header(mail, name string) string {
	for line := range strings.SplitSeq(mail, "\r\n") {
		if v, ok := strings.CutPrefix(line, name+": "); ok {
			return v
		}
	}
	return ""
}

// channels is the collector's configuration for both sinks.
func channels(webhookURL string, smtpPort int) string {
	return fmt.Sprintf(`
[outbound]
allow = ["127.0.0.0/8"]

[[channel]]
name = "hook"
kind = "webhook"
url = %q
secret = "e2e-secret-of-some-length"

[[channel]]
name = "mail"
kind = "smtp"
host = "127.0.0.1"
port = %d
tls = "none"
from = "sidetone@test.example"
to = ["noc@test.example"]
`, webhookURL, smtpPort)
}
