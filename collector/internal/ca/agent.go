package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/url"
	"time"

	"sidetone/shared/certid"
)

// maxCSR bounds a certificate request; one of a P-256 key has about 250 bytes.
const maxCSR = 4096

// ErrBadCSR is the reason when a certificate request cannot be honoured.
var ErrBadCSR = errors.New("bad certificate request")

// CheckCSR tells whether a request is well-formed, signed by its own key, and the
// key is P-256. Names in a request are ignored: the collector says who an agent is.
func (c *CA) CheckCSR(der []byte) error {
	_, err := parseCSR(der)
	return err
}

func parseCSR(der []byte) (*ecdsa.PublicKey, error) {
	if len(der) > maxCSR {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are possible", ErrBadCSR, len(der), maxCSR)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadCSR, err)
	}
	pub, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%w: the key must be ECDSA P-256", ErrBadCSR)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadCSR, err)
	}
	return pub, nil
}

// SignAgent gives the holder of the request's key a certificate as the agent id.
// The chain is leaf first, without the root.
func (c *CA) SignAgent(csrDER []byte, id certid.ID) (chain [][]byte, notAfter time.Time, err error) {
	pub, err := parseCSR(csrDER)
	if err != nil {
		return nil, time.Time{}, err
	}
	if id.Tenant == 0 || id.Agent == 0 || id.Generation == 0 {
		return nil, time.Time{}, fmt.Errorf("sign agent: incomplete identity %s", id)
	}
	ext, err := certid.Extension(id)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("sign agent: %w", err)
	}
	t := &x509.Certificate{
		Subject:         pkix.Name{CommonName: fmt.Sprintf("agent %d", id.Agent)},
		KeyUsage:        x509.KeyUsageDigitalSignature,
		ExtKeyUsage:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs:            []*url.URL{certid.URI(id)},
		ExtraExtensions: []pkix.Extension{ext},
	}
	setLife(t, agentLife, c.clients.cert.NotAfter)
	der, err := sign(t, c.clients.cert, pub, c.clients.key)
	if err != nil {
		return nil, time.Time{}, err
	}
	return [][]byte{der, c.clients.cert.Raw}, t.NotAfter.Truncate(time.Second), nil
}
