// Package linktest makes what tests of a connection need: a root that signs
// collectors and agents, their TLS configurations, a listener on loopback, and what
// stands between the two in the field: an HTTP proxy, a firewall that inspects TLS,
// a NAT and a path that loses packets.
package linktest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"

	"sidetone/shared/certid"
	"sidetone/shared/link"
	"sidetone/shared/wire"
)

// CA is a root with its key.
type CA struct {
	tb   testing.TB
	key  *ecdsa.PrivateKey
	Cert *x509.Certificate
}

// NewCA makes a root named name.
func NewCA(tb testing.TB, name string) *CA {
	tb.Helper()
	ca := &CA{tb: tb, key: newKey(tb)}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	ca.Cert = ca.sign(tmpl, tmpl, ca.key.Public())
	return ca
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func (ca *CA) sign(tmpl, parent *x509.Certificate, pub any) *x509.Certificate {
	ca.tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, ca.key)
	if err != nil {
		ca.tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		ca.tb.Fatal(err)
	}
	return cert
}

func (ca *CA) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.Cert)
	return pool
}

// Sign makes an agent's certificate for a key.
func (ca *CA) Sign(id certid.ID, pub any, notAfter time.Time) *x509.Certificate {
	ca.tb.Helper()
	ext, err := certid.Extension(id)
	if err != nil {
		ca.tb.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		ca.tb.Fatal(err)
	}
	return ca.sign(&x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "agent"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: notAfter,
		URIs: []*url.URL{certid.URI(id)}, ExtraExtensions: []pkix.Extension{ext},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, ca.Cert, pub)
}

// Agent is the TLS configuration of an agent whose certificate ends at notAfter.
func (ca *CA) Agent(id certid.ID, notAfter time.Time) *tls.Config {
	ca.tb.Helper()
	key := newKey(ca.tb)
	cert := ca.Sign(id, key.Public(), notAfter)
	c := ca.Stranger()
	// Always presented, also to a collector that asks for another root's.
	pair := &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }
	return c
}

// Stranger is the TLS configuration of a client without a certificate.
func (ca *CA) Stranger() *tls.Config {
	return &tls.Config{RootCAs: ca.pool(), ServerName: certid.ServerName, MinVersion: tls.VersionTLS13}
}

// ServerCert is a server's certificate for a DNS name or IP address, with its key.
func (ca *CA) ServerCert(name string) tls.Certificate {
	ca.tb.Helper()
	key := newKey(ca.tb)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "collector"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		tmpl.IPAddresses = []net.IP{ip}
	} else {
		tmpl.DNSNames = []string{name}
	}
	cert := ca.sign(tmpl, ca.Cert, key.Public())
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// Server gives the configurations of a collector, as link.ListenConfig.TLS wants.
func (ca *CA) Server() func(alpn string) (*tls.Config, error) {
	ca.tb.Helper()
	pair := ca.ServerCert(certid.ServerName)
	return func(alpn string) (*tls.Config, error) {
		c := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13}
		if alpn == wire.ALPNLink {
			c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, ca.pool()
		}
		return c, nil
	}
}

// Listen opens a collector's listener on addr ("" is a free port on loopback). The
// test's end closes it.
func (ca *CA) Listen(addr string) *link.Listener {
	ca.tb.Helper()
	return ca.ListenWith(link.ListenConfig{Addr: addr})
}

// ListenWith is Listen with limits of the test's choice.
func (ca *CA) ListenWith(cfg link.ListenConfig) *link.Listener {
	ca.tb.Helper()
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	cfg.TLS, cfg.ResetKey, cfg.TokenKey = ca.Server(), [32]byte{1}, [32]byte{2}
	ln, err := link.Listen(cfg)
	if err != nil {
		ca.tb.Fatal(err)
	}
	ca.tb.Cleanup(func() { _ = ln.Close() })
	return ln
}
