package tcp

import (
	"crypto/tls"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"sidetone/agent/internal/probe"
	"sidetone/agent/internal/probe/probetest"
	"sidetone/shared/telemetry"
)

func listen(t *testing.T) (net.Listener, netip.AddrPort) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, l.Addr().(*net.TCPAddr).AddrPort()
}

func TestConnect(t *testing.T) {
	l, dst := listen(t)
	s := probetest.Open(t, New, probe.Target{Method: telemetry.MethodTCP}, probetest.NewSink())
	a := probetest.Attempt(t, s, 0, dst, probetest.Patience)
	if a.RTT <= 0 || a.Fault != "" || a.Received.IsZero() {
		t.Errorf("%+v", a)
	}
	l.Close()
	if a := probetest.Attempt(t, s, 1, dst, probetest.Patience); a.RTT != 0 || a.Fault != probe.FaultRefused {
		t.Errorf("%+v", a)
	}
}

// server is an HTTPS server of the test's own root, and the file with that root.
func server(t *testing.T) (netip.AddrPort, string) {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = nil
	srv.StartTLS()
	t.Cleanup(srv.Close)
	file := filepath.Join(t.TempDir(), "root.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return srv.Listener.Addr().(*net.TCPAddr).AddrPort(), file
}

func TestTLS(t *testing.T) {
	dst, root := server(t)
	cases := []struct {
		name   string
		target probe.Target
		fault  string
		detail string
	}{
		{"trusted", probe.Target{CAFile: root, ServerName: "example.com"}, "", "example.com, expires 2084-01-29"},
		{"name from the address", probe.Target{CAFile: root, Address: "example.com:443"}, "", "example.com, expires"},
		{"address as the name", probe.Target{CAFile: root, Address: "127.0.0.1:443"}, "", "example.com, expires"},
		{"unknown authority", probe.Target{ServerName: "example.com"}, probe.FaultTLS, "unknown authority; example.com, expires"},
		{"wrong name", probe.Target{CAFile: root, ServerName: "pbx.invalid"}, probe.FaultTLS, "not pbx.invalid; example.com, expires"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.target.Method = telemetry.MethodTLS
			s := probetest.Open(t, New, c.target, probetest.NewSink())
			a := probetest.Attempt(t, s, 0, dst, probetest.Patience)
			if a.Fault != c.fault || !strings.Contains(a.Detail, c.detail) || (a.RTT > 0) != (c.fault == "") {
				t.Errorf("%+v", a)
			}
			if !strings.Contains(a.State, "sha256 ") {
				t.Errorf("state %q: a certificate is known even when it is not acceptable", a.State)
			}
			if b := probetest.Attempt(t, s, 1, dst, probetest.Patience); b.State != a.State {
				t.Errorf("%q, then %q", a.State, b.State)
			}
		})
	}
}

func TestNoTLSAtTheOtherEnd(t *testing.T) {
	cases := map[string]struct {
		serve func(net.Conn)
		fault string
		wait  time.Duration
	}{
		"talks something else": {func(c net.Conn) { _, _ = c.Write([]byte("220 mail.example ESMTP\r\n")) }, probe.FaultTLS, probetest.Patience},
		"hangs up":             {func(c net.Conn) { c.Close() }, probe.FaultTLS, probetest.Patience},
		"says nothing":         {func(net.Conn) {}, probe.FaultTimeout, time.Second},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			l, dst := listen(t)
			done := make(chan struct{})
			go func() {
				defer close(done)
				conn, err := l.Accept()
				if err != nil {
					return
				}
				c.serve(conn)
				buf := make([]byte, 1024)
				for err == nil {
					_, err = conn.Read(buf) // until the probe gives up
				}
				conn.Close()
			}()
			s := probetest.Open(t, New, probe.Target{Method: telemetry.MethodTLS, ServerName: "x.invalid"}, probetest.NewSink())
			if a := probetest.Attempt(t, s, 0, dst, c.wait); a.RTT != 0 || a.Fault != c.fault || a.Detail == "" {
				t.Errorf("%+v", a)
			}
			l.Close()
			<-done
		})
	}
}

func TestRoots(t *testing.T) {
	dir := t.TempDir()
	empty, big := filepath.Join(dir, "empty"), filepath.Join(dir, "big")
	if err := os.WriteFile(empty, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(big, make([]byte, maxCAFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]string{"missing": filepath.Join(dir, "missing"), "empty": empty, "too large": big} {
		_, err := New(zerolog.Nop()).Open(probe.Target{Method: telemetry.MethodTLS, CAFile: file, ServerName: "x"}, probetest.NewSink())
		if err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func BenchmarkTLS(b *testing.B) {
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	defer srv.Close()
	pool := srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	s := &session{tls: &tls.Config{RootCAs: pool, ServerName: "example.com", MinVersion: tls.VersionTLS12}}
	dst := srv.Listener.Addr().(*net.TCPAddr).AddrPort()
	b.ReportAllocs()
	for b.Loop() {
		if a := probetest.Attempt(b, s, 0, dst, probetest.Patience); a.RTT == 0 {
			b.Fatal(a)
		}
	}
}
