package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"slices"
	"sync"
	"time"
)

// leaf is a server certificate that renews itself when it is asked for.
type leaf struct {
	issuer authority
	root   *x509.Certificate
	life   time.Duration
	names  []string
	file   string // where it is kept; "" = in memory

	mu      sync.Mutex
	current *tls.Certificate // guarded by mu
}

// get returns the current certificate, renewed if a third of its life or less is left.
func (l *leaf) get(now time.Time) (*tls.Certificate, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fresh(l.current, now) {
		return l.current, nil
	}
	if l.current == nil && l.file != "" {
		// A file that is damaged, of other names or of another authority is replaced:
		// nothing but a browser's exception depends on it.
		if kept, err := loadPair(l.file); err == nil && l.fresh(kept, now) {
			l.current = kept
			return kept, nil
		}
	}
	made, err := l.make()
	if err != nil {
		if l.current != nil && now.Before(l.current.Leaf.NotAfter) {
			return l.current, nil // still good; the next call tries again
		}
		return nil, err
	}
	l.current = made
	return made, nil
}

func (l *leaf) fresh(c *tls.Certificate, now time.Time) bool {
	if c == nil || c.Leaf == nil || c.Leaf.CheckSignatureFrom(l.issuer.cert) != nil {
		return false
	}
	var want x509.Certificate
	addNames(&want, l.names)
	if !slices.Equal(want.DNSNames, c.Leaf.DNSNames) || len(want.IPAddresses) != len(c.Leaf.IPAddresses) {
		return false
	}
	for i, ip := range want.IPAddresses {
		if !ip.Equal(c.Leaf.IPAddresses[i]) {
			return false
		}
	}
	left := c.Leaf.NotAfter.Sub(now)
	return left > c.Leaf.NotAfter.Sub(c.Leaf.NotBefore)/3 && !now.Before(c.Leaf.NotBefore)
}

func (l *leaf) make() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	t := &x509.Certificate{
		Subject:     pkix.Name{CommonName: l.names[0]},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	addNames(t, l.names)
	setLife(t, l.life, l.issuer.cert.NotAfter)
	der, err := sign(t, l.issuer.cert, &key.PublicKey, l.issuer.key)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read back server certificate: %w", err)
	}
	made := &tls.Certificate{
		Certificate: [][]byte{der, l.issuer.cert.Raw, l.root.Raw},
		PrivateKey:  key,
		Leaf:        parsed,
	}
	if l.file == "" {
		return made, nil
	}
	text, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	if err := replaceFile(l.file, append(text, encodeCerts(made.Certificate...)...)); err != nil {
		return nil, err
	}
	return made, nil
}
