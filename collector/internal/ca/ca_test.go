package ca_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sidetone/collector/internal/ca"
	"sidetone/shared/certid"
	"sidetone/shared/wire"
)

const day = 24 * time.Hour

func open(t *testing.T, dir string, names ...string) *ca.CA {
	t.Helper()
	c, err := ca.Open(dir, ca.Config{Names: names})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func csrOf(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func parse(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func readPEM(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		t.Fatalf("%s holds no PEM", path)
	}
	return block.Bytes
}

var id7 = certid.ID{Tenant: 3, Agent: 7, Generation: 5}

func TestSignAgent(t *testing.T) {
	c := open(t, t.TempDir())
	key := newKey(t)
	chain, notAfter, err := c.SignAgent(csrOf(t, key), id7)
	if err != nil {
		t.Fatal(err)
	}
	leaf := parse(t, chain[0])
	if got, err := certid.FromCert(leaf); err != nil || got != id7 {
		t.Errorf("identity %v, %v, want %v", got, err, id7)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		t.Error("the certificate is of another key")
	}
	if !leaf.NotAfter.Equal(notAfter) {
		t.Errorf("ends %s, told %s", leaf.NotAfter, notAfter)
	}
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life != 7*day+time.Hour {
		t.Errorf("life %s, want 7 days and the hour of backdating", life)
	}
	if n := leaf.SerialNumber.BitLen(); n < 120 || n > 128 {
		t.Errorf("serial of %d bits", n)
	}
	if len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth || leaf.IsCA {
		t.Errorf("usages %v, CA %v", leaf.ExtKeyUsage, leaf.IsCA)
	}
	opts := x509.VerifyOptions{Roots: pool(parse(t, c.RootDER())), Intermediates: pool(parse(t, chain[1])), KeyUsages: leaf.ExtKeyUsage}
	if _, err := leaf.Verify(opts); err != nil {
		t.Error(err)
	}
	if _, _, err := c.SignAgent(csrOf(t, key), certid.ID{Tenant: 3, Generation: 1}); err == nil {
		t.Error("signed an identity without an agent")
	}
}

func pool(certs ...*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}

func TestServerCertificate(t *testing.T) {
	c := open(t, t.TempDir(), "collector.example.org", "192.0.2.7", "2001:db8::7")
	cert, err := c.ServerCert()
	if err != nil {
		t.Fatal(err)
	}
	if len(cert.Certificate) != 3 || !bytes.Equal(cert.Certificate[2], c.RootDER()) {
		t.Fatalf("chain of %d: an agent that enrols needs the root in it", len(cert.Certificate))
	}
	root := parse(t, cert.Certificate[2])
	if certid.SPKIHash(root) != c.RootSPKI() {
		t.Error("RootSPKI is not the hash of the root's key")
	}
	for _, name := range []string{certid.ServerName, "collector.example.org", "192.0.2.7", "2001:db8::7"} {
		opts := x509.VerifyOptions{Roots: pool(root), Intermediates: pool(parse(t, cert.Certificate[1])), DNSName: name,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		if strings.Contains(name, ":") {
			opts.DNSName = "[" + name + "]"
		}
		if _, err := cert.Leaf.Verify(opts); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		opts.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		if _, err := cert.Leaf.Verify(opts); err == nil {
			t.Error("a server's certificate passes as a client's")
		}
	}
	web, err := c.WebCert()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"localhost", "127.0.0.1", "collector.example.org"} {
		if err := web.Leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if web.Leaf.VerifyHostname(certid.ServerName) == nil {
		t.Error("the browsers' certificate passes as the agents' address")
	}
}

func TestServerCertificateRenewsItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, t.TempDir())
		get := func() *tls.Certificate {
			t.Helper()
			cert, err := c.ServerCert()
			if err != nil {
				t.Fatal(err)
			}
			if now := time.Now(); now.Before(cert.Leaf.NotBefore) || now.After(cert.Leaf.NotAfter) {
				t.Errorf("at %s: valid %s to %s", now, cert.Leaf.NotBefore, cert.Leaf.NotAfter)
			}
			return cert
		}
		first := get()
		time.Sleep(19 * day)
		if get() != first {
			t.Error("renewed with more than a third of its life left")
		}
		time.Sleep(2 * day)
		if get() == first {
			t.Error("not renewed with less than a third of its life left")
		}
	})
}

// Near the end of the authority no certificate outlives it, and after it Open says why.
func TestEndOfTheAuthority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		c := open(t, dir)
		end := parse(t, c.RootDER()).NotAfter
		time.Sleep(time.Until(end) - 3*day)
		_, notAfter, err := c.SignAgent(csrOf(t, newKey(t)), id7)
		if err != nil || notAfter.After(end) {
			t.Errorf("agent until %s, root until %s, %v", notAfter, end, err)
		}
		time.Sleep(4 * day)
		if _, err := ca.Open(dir, ca.Config{}); err == nil || !strings.Contains(err.Error(), "clock") {
			t.Errorf("an ended root was opened: %v", err)
		}
	})
}

func TestClockBeforeTheRoot(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	synctest.Test(t, func(t *testing.T) { // the bubble's clock starts in the year 2000
		if _, err := ca.Open(dir, ca.Config{}); err == nil || !strings.Contains(err.Error(), "check this host's clock") {
			t.Errorf("opened 26 years before it was made: %v", err)
		}
	})
}

func TestWebCertificateIsKept(t *testing.T) {
	dir := t.TempDir()
	first := webDER(t, open(t, dir, "a.example"))
	if !bytes.Equal(first, webDER(t, open(t, dir, "a.example"))) {
		t.Error("a restart changed the certificate: browsers ask again")
	}
	second := webDER(t, open(t, dir, "a.example", "b.example"))
	if bytes.Equal(first, second) {
		t.Error("the new name is not in the certificate")
	}
	if err := os.WriteFile(filepath.Join(dir, "web.pem"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	webDER(t, open(t, dir, "b.example"))
	if info, err := os.Stat(filepath.Join(dir, "web.pem")); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("web.pem: %v, %v", info, err)
	}
}

func webDER(t *testing.T, c *ca.CA) []byte {
	t.Helper()
	cert, err := c.WebCert()
	if err != nil {
		t.Fatal(err)
	}
	return cert.Certificate[0]
}

func TestExposedKeysAreRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes mean nothing on Windows")
	}
	for _, name := range []string{"root", "clients", "servers"} {
		for _, mode := range []os.FileMode{0o640, 0o604, 0o660} {
			dir := t.TempDir()
			open(t, dir)
			path := filepath.Join(dir, name+".key.pem")
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Fatalf("made with mode %v, %v", info.Mode(), err)
			}
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			_, err := ca.Open(dir, ca.Config{})
			var exposed *ca.ExposedKeyError
			if !errors.As(err, &exposed) || exposed.Path != path || !strings.Contains(err.Error(), "chmod 600 "+path) {
				t.Errorf("%s with mode %04o: %v", name, mode, err)
			}
		}
	}
}

// Each case removes or damages files of a finished directory.
func TestOpenAfterLoss(t *testing.T) {
	cases := []struct {
		name   string
		remove []string
		mix    string // file taken from another CA
		want   string // part of the error; "" = opens
	}{
		{name: "cut off after the root's key", remove: []string{"root.crt", "clients.key", "clients.crt", "servers.key", "servers.crt"}},
		{name: "cut off after the root", remove: []string{"clients.key", "clients.crt", "servers.key", "servers.crt"}},
		{name: "cut off after a key", remove: []string{"servers.crt"}},
		{name: "root's key offline", remove: []string{"root.key"}},
		{name: "root's key offline, intermediate gone", remove: []string{"root.key", "clients.key", "clients.crt"}, want: "root.key.pem"},
		{name: "intermediate's key gone", remove: []string{"clients.key"}, want: "clients.key.pem"},
		{name: "intermediate of another CA", mix: "clients.crt", want: "does not belong to the key"},
		{name: "root of another CA", mix: "root.crt", want: "does not belong to the key"},
		{name: "key of another CA", mix: "servers.key", want: "does not belong to the key"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			before := open(t, dir).RootSPKI()
			for _, f := range c.remove {
				if err := os.Remove(filepath.Join(dir, f+".pem")); err != nil {
					t.Fatal(err)
				}
			}
			if c.mix != "" {
				other := t.TempDir()
				open(t, other)
				if err := os.Rename(filepath.Join(other, c.mix+".pem"), filepath.Join(dir, c.mix+".pem")); err != nil {
					t.Fatal(err)
				}
			}
			got, err := ca.Open(dir, ca.Config{})
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %v, want one with %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.RootSPKI() != before {
				t.Error("the root's key changed: every agent would be lost")
			}
			if _, _, err := got.SignAgent(csrOf(t, newKey(t)), id7); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOpenTogether(t *testing.T) {
	dir := t.TempDir()
	cas := make([]*ca.CA, 6)
	var wg sync.WaitGroup
	for i := range cas {
		wg.Go(func() {
			c, err := ca.Open(dir, ca.Config{})
			if err != nil {
				t.Error(err)
			}
			cas[i] = c
		})
	}
	wg.Wait()
	for _, c := range cas {
		if c == nil {
			continue
		}
		if !bytes.Equal(c.RootDER(), cas[0].RootDER()) {
			t.Fatal("two roots in one directory")
		}
		chain, _, err := c.SignAgent(csrOf(t, newKey(t)), id7)
		if err != nil {
			t.Fatal(err)
		}
		onDisk := readPEM(t, filepath.Join(dir, "clients.crt.pem"))
		if !bytes.Equal(chain[1], onDisk) {
			t.Error("signed by an intermediate that is not the one on disk")
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

func TestConfigMistakes(t *testing.T) {
	many := make([]string, 65)
	for i := range many {
		many[i] = "a.example"
	}
	for _, names := range [][]string{{""}, {"a..b"}, {"-a.example"}, {"a b"}, {"http://a"}, {"a.example:443"}, {"a\x00b"}, {strings.Repeat("a.", 200)}, many} {
		if _, err := ca.Open(t.TempDir(), ca.Config{Names: names}); err == nil {
			t.Errorf("accepted %.40q", names)
		}
	}
	if errs := (ca.Config{Names: []string{"a b", "ok.example", "c d"}}).Validate(); len(errs) != 2 {
		t.Errorf("%d mistakes reported, want both", len(errs))
	}
}

func TestServerTLSKnowsTwoConversations(t *testing.T) {
	c := open(t, t.TempDir())
	if _, err := c.ServerTLS("h3"); err == nil {
		t.Error("a protocol of others got a configuration")
	}
	cfg, err := c.ServerTLS(wire.ALPNEnrol)
	if err != nil {
		t.Fatal(err)
	}
	roots := pool(parse(t, c.RootDER()))
	if _, err := handshake(t, cfg, &tls.Config{RootCAs: roots, ServerName: certid.ServerName, NextProtos: []string{wire.ALPNEnrol}}); err != nil {
		t.Errorf("enrolment without a certificate: %v", err)
	}
}

// handshake returns the server's view: its error, or the client's when the server had none.
func handshake(t *testing.T, server, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	s, c := tls.Server(a, server), tls.Client(b, client)
	clientErr := make(chan error, 1)
	go func() {
		err := c.HandshakeContext(t.Context())
		if err == nil {
			_, err = c.Read(make([]byte, 1)) // TLS 1.3: a refusal comes after the client's part
		}
		clientErr <- err
	}()
	err := s.HandshakeContext(t.Context())
	if err == nil {
		_, err = s.Write([]byte{1})
	}
	a.Close()
	if cerr := <-clientErr; err == nil && cerr != nil {
		err = cerr
	}
	return s.ConnectionState(), err
}
