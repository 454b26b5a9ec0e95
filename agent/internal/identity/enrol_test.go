package identity_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"sidetone/agent/internal/identity"
	"sidetone/shared/certid"
	"sidetone/shared/link"
	"sidetone/shared/wire"
)

func wantErr(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("error %v, want %v", err, target)
	}
	var p *identity.Problem
	if !errors.As(err, &p) || p.Advice == "" || !strings.HasSuffix(err.Error(), p.Advice) {
		t.Errorf("%v does not end with advice", err)
	}
}

func enrol(t *testing.T, dir, token string) *identity.Identity {
	t.Helper()
	i, err := identity.Enrol(t.Context(), dir, token, identity.EnrolOptions{Version: "1.2.3"})
	check(t, err)
	return i
}

func TestEnrol(t *testing.T) {
	t.Parallel()
	c := newCollector(t).serve(t)
	dir := t.TempDir()
	_, err := identity.Open(dir)
	wantErr(t, err, identity.ErrNotEnrolled)

	i := enrol(t, dir, "  "+c.token("one")+"\n")
	info := i.Info()
	if info.Collector != c.addr || info.Tenant != 2 || info.Agent != 9 || info.Generation != 1 || info.Site != "HQ" ||
		time.Until(info.NotAfter) < 6*24*time.Hour {
		t.Errorf("info %+v", info)
	}
	req := c.asked()[0]
	if req.Token != c.token("one") || len(req.EnrolmentID) < 16 || req.OS != runtime.GOOS || req.Arch != runtime.GOARCH || req.Version != "1.2.3" {
		t.Errorf("request %+v", req)
	}
	again, err := identity.Open(dir)
	check(t, err)
	if again.Info() != info {
		t.Errorf("opened %+v, enrolled %+v", again.Info(), info)
	}
	for _, x := range []*identity.Identity{i, again} {
		if got := knock(t, c, x); got != id(1) {
			t.Errorf("collector saw %v", got)
		}
	}
	privateFiles(t, dir)
}

// knock connects with the identity and returns whom the collector saw.
func knock(t *testing.T, c *collector, i *identity.Identity) certid.ID {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, err := link.Dial(ctx, link.DialConfig{Addr: c.addr, TLS: i.TLS(), Log: zerolog.Nop()})
	check(t, err)
	defer func() { <-conn.Context().Done() }()
	check(t, conn.Send(ctx, wire.Hello{Capability: wire.Capability}))
	select {
	case who := <-c.hellos:
		return who
	case <-ctx.Done():
		t.Fatal("the collector saw no hello")
	}
	return certid.ID{}
}

func privateFiles(t *testing.T, dir string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		return
	}
	err := filepath.Walk(filepath.Join(dir, "identity"), func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %04o", path, info.Mode().Perm())
		}
		if strings.HasPrefix(filepath.Base(path), ".") {
			t.Errorf("temporary file %s left", path)
		}
		return err
	})
	check(t, err)
}

func TestAlreadyEnrolled(t *testing.T) {
	t.Parallel()
	c := newCollector(t).serve(t)
	dir := t.TempDir()
	enrol(t, dir, c.token("one"))
	_, err := identity.Enrol(t.Context(), dir, c.token("two"), identity.EnrolOptions{})
	wantErr(t, err, identity.ErrAlreadyEnrolled)
	if n := len(c.asked()); n != 1 {
		t.Errorf("%d requests: a refused try must not spend a token", n)
	}
	c.reply(func(req wire.EnrolRequest) *wire.EnrolResponse {
		return c.grant(t, req, certid.ID{Tenant: 2, Agent: 10, Generation: 1})
	})
	i, err := identity.Enrol(t.Context(), dir, c.token("two"), identity.EnrolOptions{Force: true})
	check(t, err)
	again, err := identity.Open(dir)
	check(t, err)
	if i.Info().Agent != 10 || again.Info() != i.Info() {
		t.Errorf("forced: %+v, opened %+v", i.Info(), again.Info())
	}
	asked := c.asked()
	if asked[0].EnrolmentID == asked[1].EnrolmentID {
		t.Error("another agent has the same enrolment id")
	}
}

// A try whose answer was lost is repeated with the same id, also by a new process; a
// new token is a new enrolment.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	c := newCollector(t).serve(t)
	grant := c.answer
	c.reply(func(wire.EnrolRequest) *wire.EnrolResponse { return nil })
	dir := t.TempDir()
	for range 2 {
		_, err := identity.Enrol(t.Context(), dir, c.token("one"), identity.EnrolOptions{})
		wantErr(t, err, identity.ErrUnreachable)
	}
	c.reply(grant)
	enrol(t, dir, c.token("one"))
	asked := c.asked()
	if asked[0].EnrolmentID != asked[1].EnrolmentID || asked[1].EnrolmentID != asked[2].EnrolmentID {
		t.Errorf("ids %q, %q, %q: each try is another agent", asked[0].EnrolmentID, asked[1].EnrolmentID, asked[2].EnrolmentID)
	}
	if _, err := os.Stat(filepath.Join(dir, "identity", "enrolment.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the finished attempt is kept: %v", err)
	}

	dir = t.TempDir()
	c.reply(func(wire.EnrolRequest) *wire.EnrolResponse { return nil })
	for _, name := range []string{"two", "three"} {
		_, err := identity.Enrol(t.Context(), dir, c.token(name), identity.EnrolOptions{})
		wantErr(t, err, identity.ErrUnreachable)
	}
	asked = c.asked()
	if asked[3].EnrolmentID == asked[4].EnrolmentID {
		t.Error("another token has the same enrolment id")
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	c := newCollector(t).serve(t)
	for code, kind := range map[string]error{
		wire.EnrolBadToken:     identity.ErrBadToken,
		wire.EnrolExpiredToken: identity.ErrExpiredToken,
		wire.EnrolUsedToken:    identity.ErrUsedToken,
		wire.EnrolBadRequest:   identity.ErrRefused,
		wire.EnrolBusy:         identity.ErrBusy,
		"code of the future":   identity.ErrRefused,
		"":                     identity.ErrRefused,
	} {
		t.Run(code, func(t *testing.T) {
			c.reply(func(wire.EnrolRequest) *wire.EnrolResponse {
				return &wire.EnrolResponse{Code: code, Error: "because\x1b[2J of this"}
			})
			dir := t.TempDir()
			_, err := identity.Enrol(t.Context(), dir, c.token("one"), identity.EnrolOptions{})
			wantErr(t, err, kind)
			if !strings.Contains(err.Error(), "because[2J of this") {
				t.Errorf("%q: reason missing, or not cleaned", err)
			}
			_, err = identity.Open(dir)
			wantErr(t, err, identity.ErrNotEnrolled)
		})
	}
}

func TestTokensThatAreNone(t *testing.T) {
	t.Parallel()
	c := newCollector(t).serve(t)
	whole := c.token("one")
	for _, token := range []string{"", "st1.", whole[:len(whole)-1], whole[1:], strings.Repeat("x", 1<<20)} {
		_, err := identity.Enrol(t.Context(), t.TempDir(), token, identity.EnrolOptions{})
		wantErr(t, err, identity.ErrBadToken)
		if strings.Contains(err.Error(), "secret-of") {
			t.Errorf("%q repeats the secret", err)
		}
	}
	if len(c.asked()) != 0 {
		t.Error("a broken token was sent")
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	check(t, err)
	c.addr = socket.LocalAddr().String()
	check(t, socket.Close()) // nobody listens there now
	_, err = identity.Enrol(t.Context(), t.TempDir(), c.token("one"), identity.EnrolOptions{})
	wantErr(t, err, identity.ErrUnreachable)
	if !strings.Contains(err.Error(), c.addr) {
		t.Errorf("%q does not name the address", err)
	}

	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	check(t, err)
	defer silent.Close()
	c.addr = silent.LocalAddr().String()
	_, err = identity.Enrol(t.Context(), t.TempDir(), c.token("one"), identity.EnrolOptions{Timeout: 300 * time.Millisecond})
	wantErr(t, err, identity.ErrUnreachable)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = identity.Enrol(ctx, t.TempDir(), c.token("one"), identity.EnrolOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped by a person: %v", err)
	}
}

func TestStateDirectoryUnusable(t *testing.T) {
	t.Parallel()
	c := newCollector(t).serve(t)
	file := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(file, nil, 0o600))
	if _, err := identity.Enrol(t.Context(), file, c.token("one"), identity.EnrolOptions{}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("error %v", err)
	}
	if len(c.asked()) != 0 {
		t.Error("the token was spent although the identity cannot be kept")
	}
}

// Whoever stands between must not be believed: no token may reach it.
func TestFakeCollectors(t *testing.T) {
	t.Parallel()
	real, fake := newCollector(t), newCollector(t)
	long := time.Now().Add(-2 * time.Hour)
	cases := []struct {
		name string
		cert tls.Certificate
		kind error
	}{
		{"another collector", fake.server, identity.ErrRootMismatch},
		{"another collector that appends our root", func() tls.Certificate {
			c := fake.server
			c.Certificate = append(append([][]byte(nil), c.Certificate...), real.root.cert.Raw)
			return c
		}(), identity.ErrRootMismatch},
		{"self-signed, our root behind it", func() tls.Certificate {
			c := fake.server
			c.Certificate = [][]byte{c.Certificate[0], real.root.cert.Raw}
			return c
		}(), identity.ErrRootMismatch},
		{"our root alone, without its key", tls.Certificate{Certificate: [][]byte{real.root.cert.Raw}, PrivateKey: fake.root.key}, identity.ErrRootMismatch},
		{"an agent of ours as collector", real.serverCert(t, real.clients, func(x *x509.Certificate) {
			x.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}), identity.ErrRootMismatch},
		{"ours, for another name", real.serverCert(t, real.servers, func(x *x509.Certificate) {
			x.DNSNames = []string{"web.example"}
		}), identity.ErrRootMismatch},
		{"ours, expired", real.serverCert(t, real.servers, func(x *x509.Certificate) {
			x.NotBefore, x.NotAfter = long, long.Add(time.Hour)
		}), identity.ErrClock},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c := &collector{root: real.root, server: tc.cert, answer: real.answer}
			c.serve(t)
			dir := t.TempDir()
			_, err := identity.Enrol(t.Context(), dir, c.token("one"), identity.EnrolOptions{})
			wantErr(t, err, tc.kind)
			if len(c.asked()) != 0 {
				t.Error("the token was sent")
			}
			_, err = identity.Open(dir)
			wantErr(t, err, identity.ErrNotEnrolled)
		})
	}
}

// The right collector with a wrong answer: nothing of it is kept.
func TestBadAnswers(t *testing.T) {
	t.Parallel()
	c, other := newCollector(t), newCollector(t)
	c.serve(t)
	cases := []struct {
		name  string
		spoil func(wire.EnrolRequest, *wire.EnrolResponse)
	}{
		{"no chain", func(_ wire.EnrolRequest, r *wire.EnrolResponse) { r.Chain = nil }},
		{"garbage chain", func(_ wire.EnrolRequest, r *wire.EnrolResponse) { r.Chain[0] = []byte("garbage") }},
		{"no intermediate", func(_ wire.EnrolRequest, r *wire.EnrolResponse) { r.Chain = r.Chain[:1] }},
		{"no root", func(_ wire.EnrolRequest, r *wire.EnrolResponse) { r.Root = nil }},
		{"another root", func(_ wire.EnrolRequest, r *wire.EnrolResponse) { r.Root = other.root.cert.Raw }},
		{"chain of another collector", func(q wire.EnrolRequest, r *wire.EnrolResponse) { r.Chain = other.agentChain(t, q.CSR, id(1)) }},
		{"certificate of another key", func(q wire.EnrolRequest, r *wire.EnrolResponse) {
			key := newKey(t)
			der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
			if err != nil {
				t.Error(err)
				return
			}
			r.Chain = c.agentChain(t, der, id(1))
		}},
		{"collector's certificate", func(_ wire.EnrolRequest, r *wire.EnrolResponse) { r.Chain = c.server.Certificate[:2] }},
		{"another tenant said", func(_ wire.EnrolRequest, r *wire.EnrolResponse) { r.Tenant++ }},
		{"another agent said", func(_ wire.EnrolRequest, r *wire.EnrolResponse) { r.Agent++ }},
		{"another generation said", func(_ wire.EnrolRequest, r *wire.EnrolResponse) { r.Generation++ }},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c.reply(func(q wire.EnrolRequest) *wire.EnrolResponse {
				r := c.grant(t, q, id(1))
				tc.spoil(q, r)
				return r
			})
			dir := t.TempDir()
			_, err := identity.Enrol(t.Context(), dir, c.token("one"), identity.EnrolOptions{})
			wantErr(t, err, identity.ErrBadAnswer)
			_, err = identity.Open(dir)
			wantErr(t, err, identity.ErrNotEnrolled)
		})
	}
}
