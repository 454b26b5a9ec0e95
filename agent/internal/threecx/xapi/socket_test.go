package xapi_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sidetone/agent/internal/pbxsim"
	"sidetone/agent/internal/threecx"
	"sidetone/agent/internal/threecx/xapi"
)

// serve runs a box on a real socket and gives its URL and CA file.
func serve(t *testing.T, opt pbxsim.Options) (url, ca string) {
	t.Helper()
	sim, err := pbxsim.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pbxsim.NewCertificate("pbx.example.com")
	if err != nil {
		t.Fatal(err)
	}
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, cert.CAPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sim.Serve(ctx, l, cert) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "https://" + l.Addr().String(), ca
}

func TestCheck(t *testing.T) {
	url, ca := serve(t, pbxsim.Options{ForbidServices: true})
	good := threecx.Config{URL: url, ClientID: "sidetone", ClientSecret: "sim-secret", CAFile: ca}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "https://" + closed.Addr().String()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		change func(*threecx.Config)
		kind   error
		step   string // the last one
		advice string
	}{
		{"healthy", func(*threecx.Config) {}, nil, "version", ""},
		{"certificate's name given", func(c *threecx.Config) { c.ServerName = "pbx.example.com" }, nil, "version", ""},
		{"user", func(c *threecx.Config) {
			c.ClientID, c.ClientSecret, c.User, c.Password = "", "", "100", "sim-password"
		}, nil, "version", ""},
		{"nobody listens", func(c *threecx.Config) { c.URL = nobody }, threecx.ErrUnreachable, "reach", "connection refused"},
		{"unknown authority", func(c *threecx.Config) { c.CAFile = "" }, threecx.ErrUnreachable, "tls", "set pbx.ca_file"},
		{"other name", func(c *threecx.Config) { c.ServerName = "other.example.com" }, threecx.ErrUnreachable, "tls", "pbx.server_name"},
		{"wrong key", wrongPassword, threecx.ErrCredentials, "sign-in", "make a new key"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := good
			tc.change(&cfg)
			c, err := xapi.New(cfg, xapi.Deps{})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			r, err := c.Check(t.Context())
			if !errors.Is(err, tc.kind) {
				t.Fatalf("error %v, want %v; report %+v", err, tc.kind, r)
			}
			last := r.Steps[len(r.Steps)-1]
			if last.Name != tc.step || last.OK != (tc.kind == nil) || !strings.Contains(last.Advice, tc.advice) {
				t.Errorf("last step %+v", last)
			}
			if tc.kind != nil {
				return
			}
			if r.Version != "20.0.9.1310" || r.Role != "system_owners" || len(r.Steps) != 5 || len(r.Readings) != 8 {
				t.Errorf("report %+v", r)
			}
			for _, rd := range r.Readings {
				if rd.OK == (rd.Path == threecx.PathServices) {
					t.Errorf("reading %+v", rd)
				}
			}
		})
	}
}

// A port that does not speak TLS, and an answer that never ends, over real sockets.
func TestStrangeListeners(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("SSH-2.0-OpenSSH_9.2p1\r\n"))
			_ = conn.Close()
		}
	}()
	defer func() { _ = l.Close(); <-done }()
	c, err := xapi.New(threecx.Config{URL: "https://" + l.Addr().String(), User: "1", Password: "p"}, xapi.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.SystemStatus(t.Context()); !errors.Is(err, threecx.ErrUnreachable) || !strings.Contains(err.Error(), "check the port") {
		t.Errorf("no TLS: %v", err)
	}
}

func TestNew(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.pem")
	if err := os.WriteFile(bad, []byte("not a certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]threecx.Config{
		"invalid": {URL: "ftp://x"},
		"no PEM":  {URL: "https://pbx", User: "1", Password: "p", CAFile: bad},
	} {
		if _, err := xapi.New(cfg, xapi.Deps{}); err == nil || !strings.Contains(err.Error(), "pbx.") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
