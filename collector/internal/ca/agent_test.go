package ca_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"sidetone/collector/internal/ca"
	"sidetone/shared/certid"
	"sidetone/shared/wire"
)

func TestCSRs(t *testing.T) {
	c := open(t, t.TempDir())
	good := csrOf(t, newKey(t))
	forged := append([]byte(nil), good...)
	forged[len(forged)-1] ^= 1
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	check(t, err)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	check(t, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	cases := []struct {
		name string
		der  []byte
		ok   bool
	}{
		{"P-256", good, true},
		{"P-384", csrOf(t, p384), false},
		{"P-224", csrOf(t, p224), false},
		{"RSA", csrOf(t, rsaKey), false},
		{"Ed25519", csrOf(t, ed), false},
		{"signature of another", forged, false},
		{"something behind it", append(append([]byte(nil), good...), 0), false},
		{"cut", good[:len(good)-3], false},
		{"empty", nil, false},
		{"huge", make([]byte, 1<<20), false},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if err := c.CheckCSR(tc.der); (err == nil) != tc.ok || err != nil && !errors.Is(err, ca.ErrBadCSR) {
				t.Errorf("check: %v", err)
			}
			if _, _, err := c.SignAgent(tc.der, id7); (err == nil) != tc.ok {
				t.Errorf("sign: %v", err)
			}
		})
	}
}

// What a request says of names, usages and authority must not reach the certificate.
func TestCSRCannotChooseItsName(t *testing.T) {
	c := open(t, t.TempDir())
	basic, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: "root"},
		DNSNames: []string{certid.ServerName},
		URIs:     []*url.URL{certid.URI(certid.ID{Tenant: 99, Agent: 99})},
		ExtraExtensions: []pkix.Extension{{
			Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 0x03, 0x01, 0x01, 0xff}, // CA:TRUE
		}},
	}, newKey(t))
	check(t, err)
	chain, _, err := c.SignAgent(basic, id7)
	check(t, err)
	leaf := parse(t, chain[0])
	if got, err := certid.FromCert(leaf); err != nil || got != id7 {
		t.Errorf("identity %v, %v", got, err)
	}
	if leaf.IsCA || len(leaf.DNSNames) != 0 || leaf.Subject.CommonName == "root" {
		t.Errorf("the request chose: CA %v, names %v, subject %s", leaf.IsCA, leaf.DNSNames, leaf.Subject)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// signer reads an authority's key and certificate from the directory, as a thief would.
type signer struct {
	key  crypto.Signer
	cert *x509.Certificate
}

func steal(t *testing.T, dir, name string) signer {
	t.Helper()
	key, err := x509.ParsePKCS8PrivateKey(readPEM(t, filepath.Join(dir, name+".key.pem")))
	check(t, err)
	return signer{key.(crypto.Signer), parse(t, readPEM(t, filepath.Join(dir, name+".crt.pem")))}
}

// agentTemplate is a good agent's certificate, for the cases to spoil.
func agentTemplate(t *testing.T) *x509.Certificate {
	t.Helper()
	ext, err := certid.Extension(id7)
	check(t, err)
	return &x509.Certificate{
		SerialNumber:    big.NewInt(77),
		NotBefore:       time.Now().Add(-time.Hour),
		NotAfter:        time.Now().Add(time.Hour),
		KeyUsage:        x509.KeyUsageDigitalSignature,
		ExtKeyUsage:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs:            []*url.URL{certid.URI(id7)},
		ExtraExtensions: []pkix.Extension{ext},
	}
}

func (s signer) issue(t *testing.T, tmpl *x509.Certificate, pub crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, s.cert, pub, s.key)
	check(t, err)
	return der
}

// TestCraftedCertificates presents certificates made with the CA's own keys, or with
// others, at the agents' address.
func TestCraftedCertificates(t *testing.T) {
	dir, otherDir := t.TempDir(), t.TempDir()
	c := open(t, dir)
	open(t, otherDir)
	clients, servers, root := steal(t, dir, "clients"), steal(t, dir, "servers"), steal(t, dir, "root")
	foreign := steal(t, otherDir, "clients")
	cases := []struct {
		name  string
		by    signer
		spoil func(*x509.Certificate)
		ok    bool
	}{
		{name: "good", by: clients, ok: true},
		{name: "expired", by: clients, spoil: func(x *x509.Certificate) { x.NotAfter = time.Now().Add(-time.Minute) }},
		{name: "not yet valid", by: clients, spoil: func(x *x509.Certificate) { x.NotBefore = time.Now().Add(time.Minute) }},
		{name: "server usage", by: clients, spoil: func(x *x509.Certificate) { x.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }},
		{name: "no usage", by: clients, spoil: func(x *x509.Certificate) { x.ExtKeyUsage = nil }, ok: true}, // unrestricted, and ours
		{name: "signed by the servers' authority", by: servers},
		{name: "signed by another collector", by: foreign},
		{name: "no name", by: clients, spoil: func(x *x509.Certificate) { x.URIs = nil }},
		{name: "DNS name only", by: clients, spoil: func(x *x509.Certificate) { x.URIs, x.DNSNames = nil, []string{"agent"} }},
		{name: "other trust domain", by: clients, spoil: func(x *x509.Certificate) {
			x.URIs = []*url.URL{{Scheme: "spiffe", Host: "elsewhere", Path: "/tenant/3/agent/7"}}
		}},
		{name: "two names", by: clients, spoil: func(x *x509.Certificate) {
			x.URIs = append(x.URIs, certid.URI(certid.ID{Tenant: 1, Agent: 1}))
		}},
		{name: "no generation", by: clients, spoil: func(x *x509.Certificate) { x.ExtraExtensions = nil }},
		{name: "agent zero", by: clients, spoil: func(x *x509.Certificate) {
			x.URIs = []*url.URL{{Scheme: "spiffe", Host: "sidetone", Path: "/tenant/3/agent/0"}}
		}},
		{name: "signed by the root itself", by: root, ok: true},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			key := newKey(t)
			tmpl := agentTemplate(t)
			if tc.spoil != nil {
				tc.spoil(tmpl)
			}
			chain := [][]byte{tc.by.issue(t, tmpl, &key.PublicKey), tc.by.cert.Raw}
			got, err := knock(t, c, &tls.Certificate{Certificate: chain, PrivateKey: key})
			if (err == nil) != tc.ok {
				t.Errorf("handshake: %v, want accepted %v", err, tc.ok)
			}
			if tc.ok && got != id7 {
				t.Errorf("known as %v", got)
			}
		})
	}
}

// TestCraftedChains presents chains that break a rule above the leaf.
func TestCraftedChains(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	clients := steal(t, dir, "clients")
	t.Run("no certificate", func(t *testing.T) {
		if _, err := knock(t, c, &tls.Certificate{}); err == nil {
			t.Error("an agent without a certificate came in")
		}
	})
	t.Run("agent as authority", func(t *testing.T) {
		agentKey, key := newKey(t), newKey(t)
		agent := parse(t, clients.issue(t, agentTemplate(t), &agentKey.PublicKey))
		leaf := signer{agentKey, agent}.issue(t, agentTemplate(t), &key.PublicKey)
		chain := [][]byte{leaf, agent.Raw, clients.cert.Raw}
		if _, err := knock(t, c, &tls.Certificate{Certificate: chain, PrivateKey: key}); err == nil {
			t.Error("an agent's certificate signed another's")
		}
	})
	t.Run("intermediate below the intermediate", func(t *testing.T) {
		subKey, key := newKey(t), newKey(t)
		sub := agentTemplate(t)
		sub.IsCA, sub.BasicConstraintsValid, sub.KeyUsage = true, true, x509.KeyUsageCertSign
		subCert := parse(t, clients.issue(t, sub, &subKey.PublicKey))
		leaf := signer{subKey, subCert}.issue(t, agentTemplate(t), &key.PublicKey)
		chain := [][]byte{leaf, subCert.Raw, clients.cert.Raw}
		if _, err := knock(t, c, &tls.Certificate{Certificate: chain, PrivateKey: key}); err == nil {
			t.Error("the path length of the intermediate does not hold")
		}
	})
}

// knock does the handshake of an agent and returns whom the collector saw.
func knock(t *testing.T, c *ca.CA, cert *tls.Certificate) (certid.ID, error) {
	t.Helper()
	server, err := c.ServerTLS(wire.ALPNLink)
	check(t, err)
	state, err := handshake(t, server, &tls.Config{
		RootCAs: pool(parse(t, c.RootDER())), ServerName: certid.ServerName, NextProtos: []string{wire.ALPNLink},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil },
	})
	if err != nil {
		return certid.ID{}, err
	}
	return certid.FromCert(state.PeerCertificates[0])
}
