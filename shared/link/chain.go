package link

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// clientTLS is the configuration of a dialling side. TLS 1.3 only. When the owner's
// own check of the connection fails, the chain that was presented is kept.
func clientTLS(c *tls.Config, alpn string) *tls.Config {
	c = strictTLS(c.Clone())
	c.NextProtos = []string{alpn}
	if verify := c.VerifyConnection; verify != nil {
		c.VerifyConnection = func(cs tls.ConnectionState) error {
			if err := verify(cs); err != nil {
				return &presentedError{chain: cs.PeerCertificates, err: err}
			}
			return nil
		}
	}
	return c
}

// strictTLS asks for TLS 1.3; resumption is off, because a resumed connection does
// not prove the certificate again.
func strictTLS(c *tls.Config) *tls.Config {
	c.MinVersion = tls.VersionTLS13
	c.SessionTicketsDisabled = true
	c.ClientSessionCache = nil
	return c
}

// presentedError is an owner's refusal of a chain.
type presentedError struct {
	chain []*x509.Certificate
	err   error
}

func (e *presentedError) Error() string { return e.err.Error() }
func (e *presentedError) Unwrap() error { return e.err }

// tlsError explains a handshake that one side refused for the other's certificate.
func tlsError(addr string, remote bool, err error) *DialError {
	if !remote {
		return chainError(addr, err, nil)
	}
	return &DialError{Kind: KindTLS, Addr: addr, Cause: err,
		Advice: "the collector does not accept this agent's certificate: it may be expired, revoked or from another collector; check this machine's clock, then enrol again"}
}

// chainError explains a handshake that this side ended. When the presented chain
// does not lead to one of our roots, whatever else is wrong with it, then somebody
// else answers: most often a firewall that inspects TLS.
func chainError(addr string, err error, tlsc *tls.Config) *DialError {
	e := &DialError{Kind: KindTLS, Addr: addr, Cause: err}
	var (
		invalid x509.CertificateInvalidError
		host    x509.HostnameError
	)
	chain := presented(err)
	switch {
	case len(chain) > 0 && !ours(chain, tlsc, err):
		e.Kind, e.Issuer = KindIntercepted, issuer(chain[0])
		e.Advice = fmt.Sprintf("TLS inspection: issuer %q; exempt host %s from inspection (if nothing inspects TLS here, the address is that of another collector)",
			e.Issuer, hostOf(addr))
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		e.Advice = "the certificate's time is over or has not begun: check the clocks of this machine and of the collector"
	case errors.As(err, &host):
		e.Advice = "the certificate is not that of a collector: check the address"
	default:
		e.Kind = KindProtocol
		if len(chain) > 0 {
			e.Kind = KindTLS
		}
		e.Advice = "the TLS handshake did not succeed: check the address, and that agent and collector have versions that fit together"
	}
	return e
}

// presented is the chain that the peer showed, as far as err tells.
func presented(err error) []*x509.Certificate {
	var (
		verify  *tls.CertificateVerificationError
		own     *presentedError
		unknown x509.UnknownAuthorityError
	)
	switch {
	case errors.As(err, &own):
		return own.chain
	case errors.As(err, &verify):
		return verify.UnverifiedCertificates
	case errors.As(err, &unknown) && unknown.Cert != nil:
		return []*x509.Certificate{unknown.Cert}
	}
	return nil
}

// ours tells whether chain leads to our roots, with name and time left aside. Where
// the owner checks the chain itself, its error decides.
func ours(chain []*x509.Certificate, tlsc *tls.Config, err error) bool {
	if tlsc == nil || tlsc.RootCAs == nil || tlsc.InsecureSkipVerify {
		var (
			invalid x509.CertificateInvalidError
			host    x509.HostnameError
		)
		return errors.As(err, &host) || errors.As(err, &invalid)
	}
	leaf := chain[0]
	opts := x509.VerifyOptions{
		Roots: tlsc.RootCAs, Intermediates: x509.NewCertPool(),
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		CurrentTime: leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2),
	}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	_, err = leaf.Verify(opts)
	return err == nil
}

// maxIssuer bounds the name of a stranger in our texts.
const maxIssuer = 200

func issuer(cert *x509.Certificate) string {
	name := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, cert.Issuer.String())
	if len(name) > maxIssuer {
		name = strings.ToValidUTF8(name[:maxIssuer], "")
	}
	return name
}
