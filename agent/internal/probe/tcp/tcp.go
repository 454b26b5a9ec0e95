// Package tcp measures by connecting: the RTT of a "tcp" target is the time of the
// TCP handshake, that of a "tls" target the time of the TCP and the TLS handshake
// with full verification of the certificate. A certificate that does not hold is a
// lost attempt with the fault "tls"; a change of certificate is an event.
package tcp

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/rs/zerolog"

	"sidetone/agent/internal/probe"
	"sidetone/shared/telemetry"
)

// maxCAFile bounds a file of roots.
const maxCAFile = 1 << 20

type driver struct{}

// New is the probe.OpenDriver of both methods.
func New(zerolog.Logger) probe.Driver { return driver{} }

func (driver) Close() error { return nil }

func (driver) Open(t probe.Target, _ probe.Sink) (probe.Session, error) {
	s := &session{}
	if t.Method != telemetry.MethodTLS {
		return s, nil
	}
	s.tls = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if s.tls.ServerName == "" {
		host, _, err := probe.SplitAddress(t.Address, 443)
		if err != nil {
			return nil, err
		}
		s.tls.ServerName = host
	}
	if t.CAFile != "" {
		roots, err := readRoots(t.CAFile)
		if err != nil {
			return nil, err
		}
		s.tls.RootCAs = roots
	}
	return s, nil
}

func readRoots(path string) (*x509.CertPool, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read roots: %w", err)
	}
	if info.Size() > maxCAFile {
		return nil, fmt.Errorf("read roots %s: %d bytes are more than %d", path, info.Size(), maxCAFile)
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read roots: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read roots %s: no certificate in it", path)
	}
	return roots, nil
}

type session struct{ tls *tls.Config }

func (s *session) Close() error { return nil }

func (s *session) Attempt(ctx context.Context, r probe.Request) probe.Attempt {
	ctx, cancel := context.WithDeadline(ctx, r.Deadline)
	defer cancel()
	dialer := net.Dialer{KeepAlive: -1}
	dst := r.Dst.String()
	start := time.Now()
	conn, err := dialer.DialContext(ctx, "tcp", dst)
	at := time.Now()
	if err != nil {
		return probe.LostBy(err)
	}
	defer conn.Close()
	if s.tls == nil {
		return probe.Attempt{Received: at, RTT: max(at.Sub(start), 1)}
	}
	tc := tls.Client(conn, s.tls)
	err = tc.HandshakeContext(ctx)
	at = time.Now()
	if err != nil {
		return lostHandshake(err)
	}
	leaf := tc.ConnectionState().PeerCertificates[0]
	return probe.Attempt{Received: at, RTT: max(at.Sub(start), 1), Detail: describe(leaf), State: identify(leaf)}
}

// lostHandshake keeps what an unacceptable certificate says: that is what a person
// needs to see.
func lostHandshake(err error) probe.Attempt {
	var bad *tls.CertificateVerificationError
	if errors.As(err, &bad) {
		a := probe.Lost(probe.FaultTLS, bad.Err.Error())
		if len(bad.UnverifiedCertificates) > 0 {
			leaf := bad.UnverifiedCertificates[0]
			a.Detail += "; " + describe(leaf)
			a.State = identify(leaf)
		}
		return a
	}
	if probe.FaultOf(err) == probe.FaultTimeout {
		return probe.Lost(probe.FaultTimeout, "no end of the TLS handshake")
	}
	return probe.Lost(probe.FaultTLS, err.Error())
}

// describe is a certificate in short: whose, and until when.
func describe(c *x509.Certificate) string {
	return fmt.Sprintf("%s, expires %s", name(c), c.NotAfter.UTC().Format(time.RFC3339))
}

// identify adds what tells two certificates of the same name apart.
func identify(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return fmt.Sprintf("%s, sha256 %x", describe(c), sum[:6])
}

// name prefers a DNS name: the subject's common name is out of use.
func name(c *x509.Certificate) string {
	const most = 80
	n := c.Subject.CommonName
	switch {
	case len(c.DNSNames) > 0:
		n = c.DNSNames[0]
	case n == "" && len(c.IPAddresses) > 0:
		n = c.IPAddresses[0].String()
	case n == "":
		n = "no name"
	}
	if len(n) > most {
		n = n[:most]
	}
	return n
}
