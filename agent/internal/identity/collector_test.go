package identity_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"sidetone/shared/certid"
	"sidetone/shared/link"
	"sidetone/shared/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// authority is one certificate authority of the test: root or intermediate.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// longAgo is when the authorities were made.
func longAgo() time.Time { return time.Now().Add(-365 * 24 * time.Hour) }

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return key
}

// sign issues a certificate; the template's validity defaults to an hour each way.
func (a authority) sign(t *testing.T, tmpl *x509.Certificate, pub any) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	check(t, err)
	tmpl.SerialNumber = serial
	if tmpl.NotBefore.IsZero() {
		tmpl.NotBefore = time.Now().Add(-time.Hour)
	}
	if tmpl.NotAfter.IsZero() {
		tmpl.NotAfter = time.Now().Add(7 * 24 * time.Hour)
	}
	parent := a.cert
	if parent == nil {
		parent = tmpl
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, a.key)
	check(t, err)
	cert, err := x509.ParseCertificate(der)
	check(t, err)
	return cert
}

func (a authority) child(t *testing.T, name string, usage x509.ExtKeyUsage) authority {
	t.Helper()
	key := newKey(t)
	return authority{key, a.sign(t, &x509.Certificate{
		NotBefore: longAgo(), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}, &key.PublicKey)}
}

// collector is the far end: the authorities of a collector and its address for agents
// over the real link, with answers that each test writes.
type collector struct {
	root, clients, servers authority
	// server is the certificate shown; a test may spoil it before serve.
	server tls.Certificate
	addr   string
	hellos chan certid.ID

	mu       sync.Mutex
	answer   func(wire.EnrolRequest) *wire.EnrolResponse // guarded by mu; nil response: hang up
	requests []wire.EnrolRequest                         // guarded by mu

	agentLife [2]time.Time // of the next agent's certificate; zero: a week from now
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{hellos: make(chan certid.ID, 8)}
	c.root = authority{key: newKey(t)}
	c.root.cert = c.root.sign(t, &x509.Certificate{
		NotBefore: longAgo(), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true, MaxPathLen: 1, KeyUsage: x509.KeyUsageCertSign,
	}, &c.root.key.PublicKey)
	c.clients = c.root.child(t, "agents", x509.ExtKeyUsageClientAuth)
	c.servers = c.root.child(t, "collectors", x509.ExtKeyUsageServerAuth)
	c.server = c.serverCert(t, c.servers, func(*x509.Certificate) {})
	c.answer = func(req wire.EnrolRequest) *wire.EnrolResponse { return c.grant(t, req, id(1)) }
	return c
}

func id(generation uint64) certid.ID { return certid.ID{Tenant: 2, Agent: 9, Generation: generation} }

func (c *collector) serverCert(t *testing.T, by authority, spoil func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key := newKey(t)
	tmpl := &x509.Certificate{
		DNSNames: []string{certid.ServerName}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	spoil(tmpl)
	leaf := by.sign(t, tmpl, &key.PublicKey)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw, by.cert.Raw, c.root.cert.Raw}, PrivateKey: key}
}

// agentChain signs a request as the identity, by the clients' authority.
func (c *collector) agentChain(t *testing.T, csrDER []byte, who certid.ID) [][]byte {
	t.Helper()
	csr, err := x509.ParseCertificateRequest(csrDER)
	check(t, err)
	check(t, csr.CheckSignature())
	ext, err := certid.Extension(who)
	check(t, err)
	leaf := c.clients.sign(t, &x509.Certificate{
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs: []*url.URL{certid.URI(who)}, ExtraExtensions: []pkix.Extension{ext},
		NotBefore: c.agentLife[0], NotAfter: c.agentLife[1],
	}, csr.PublicKey)
	return [][]byte{leaf.Raw, c.clients.cert.Raw}
}

func (c *collector) grant(t *testing.T, req wire.EnrolRequest, who certid.ID) *wire.EnrolResponse {
	return &wire.EnrolResponse{
		Chain: c.agentChain(t, req.CSR, who), Root: c.root.cert.Raw, Tenant: uint32(who.Tenant), Agent: uint32(who.Agent),
		Generation: who.Generation, Site: "HQ",
	}
}

// serve listens until the test ends.
func (c *collector) serve(t *testing.T) *collector {
	t.Helper()
	ln, err := link.Listen(link.ListenConfig{Addr: "127.0.0.1:0", TLS: c.tls, Log: zerolog.Nop()})
	check(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept(ctx)
			if err != nil {
				return
			}
			wg.Go(func() { c.talk(ctx, conn) })
		}
	})
	t.Cleanup(func() {
		cancel()
		check(t, ln.Close())
		wg.Wait()
	})
	c.addr = ln.Addr().String()
	return c
}

func (c *collector) tls(alpn string) (*tls.Config, error) {
	cfg := &tls.Config{Certificates: []tls.Certificate{c.server}, NextProtos: []string{alpn}}
	if alpn == wire.ALPNLink {
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
		cfg.ClientCAs = x509.NewCertPool()
		cfg.ClientCAs.AddCert(c.root.cert)
	}
	return cfg, nil
}

func (c *collector) talk(ctx context.Context, conn *link.Conn) {
	msg, err := conn.Recv(ctx)
	if err != nil {
		return
	}
	switch m := msg.(type) {
	case *wire.EnrolRequest:
		c.mu.Lock()
		c.requests = append(c.requests, *m)
		answer := c.answer
		c.mu.Unlock()
		if resp := answer(*m); resp != nil {
			if conn.Send(ctx, *resp) == nil {
				select {
				case <-conn.Context().Done():
				case <-ctx.Done():
				}
			}
		}
		_ = conn.CloseWith(wire.CloseShutdown, "")
	case *wire.Hello:
		who, err := certid.FromCert(conn.PeerCert())
		if err != nil {
			who = certid.ID{}
		}
		c.hellos <- who
		_ = conn.CloseWith(wire.CloseShutdown, "")
	}
}

// token is the text of a token of this collector.
func (c *collector) token(name string) string {
	return certid.Token{Addr: c.addr, ID: name, Secret: fmt.Sprintf("secret-of-%s", name), RootSPKI: certid.SPKIHash(c.root.cert)}.String()
}

// reply sets what the next requests are answered.
func (c *collector) reply(answer func(wire.EnrolRequest) *wire.EnrolResponse) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = answer
}

// asked lists the enrolment requests so far.
func (c *collector) asked() []wire.EnrolRequest {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]wire.EnrolRequest(nil), c.requests...)
}
