package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"sidetone/shared/certid"
	"sidetone/shared/link"
	"sidetone/shared/wire"
)

// EnrolOptions are optional: the zero value is right for most.
type EnrolOptions struct {
	Force   bool          // replace an identity that is there
	Version string        // the program's version, for the collector's list
	Timeout time.Duration // for the whole exchange; 20 s when 0
	Proxy   *url.URL      // HTTP proxy, tried when the collector is not reached directly; may be nil
}

const defaultTimeout = 20 * time.Second

// Enrol trades a token for an identity and keeps it under the state directory. The
// collector is trusted only if its chain holds the root that the token names. A try
// that got no answer may be repeated: it becomes the same agent.
func Enrol(ctx context.Context, dir, token string, opts EnrolOptions) (*Identity, error) {
	tok, err := certid.ParseToken(token)
	if err != nil {
		return nil, &Problem{Kind: ErrBadToken, Err: err, Advice: "Copy the whole token, from st1. to its end, as one word."}
	}
	f := newFiles(dir)
	if !opts.Force {
		if err := mustBeNew(f); err != nil {
			return nil, err
		}
	}
	try, err := f.attempt(tok.ID, newEnrolmentID)
	if err != nil {
		return nil, fmt.Errorf("keep enrolment id in %s: %w: the state directory must be writable", f.dir, err)
	}
	key, csr, err := newCSR()
	if err != nil {
		return nil, err
	}
	if opts.Timeout <= 0 {
		opts.Timeout = defaultTimeout
	}
	limited, cancel := context.WithTimeout(ctx, opts.Timeout)
	defer cancel()
	hostname, _ := os.Hostname() // only shown
	resp, err := link.EnrolWith(limited, link.DialConfig{Addr: tok.Addr, TLS: bootstrapTLS(tok), Proxy: opts.Proxy, Log: zerolog.Nop()}, wire.EnrolRequest{
		Token: tok.String(), EnrolmentID: try.EnrolmentID, CSR: csr,
		Hostname: hostname, OS: runtime.GOOS, Arch: runtime.GOARCH, Version: opts.Version,
	})
	if ctx.Err() != nil { // a person's own stop (Ctrl-C) needs no advice
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, explain(tok, err)
	}
	if err := refused(resp); err != nil {
		return nil, err
	}
	s, err := accept(tok, try, key, resp)
	if err != nil {
		return nil, &Problem{Kind: ErrBadAnswer, Err: err, Advice: "Check that agent and collector have versions that fit together."}
	}
	if err := f.save(s); err != nil {
		return nil, fmt.Errorf("%w: free some space or fix the directory's rights, then repeat with the same token", err)
	}
	if err := f.attemptDone(); err != nil {
		return nil, fmt.Errorf("forget the enrolment attempt: %w", err)
	}
	return newIdentity(f, s)
}

// mustBeNew refuses to replace an identity, also a damaged one.
func mustBeNew(f *files) error {
	i, err := open(f)
	switch {
	case errors.Is(err, ErrNotEnrolled):
		return nil
	case err != nil:
		return err
	}
	return &Problem{Kind: ErrAlreadyEnrolled,
		Detail: fmt.Sprintf("agent %d at site %q of collector %s", i.meta.Agent, i.meta.Site, i.meta.Collector),
		Advice: "Nothing needs to be done. To make it another agent, add --force."}
}

func newEnrolmentID() string {
	b := make([]byte, 24)
	_, _ = rand.Read(b) // never fails, by its documentation
	return base64.RawURLEncoding.EncodeToString(b)
}

// bootstrapTLS verifies the collector by the root's hash alone: the root itself is
// in the chain that the collector sends.
func bootstrapTLS(tok certid.Token) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: certid.ServerName,
		// Not the system's roots but the token's hash decides, in VerifyConnection.
		InsecureSkipVerify: true,
		VerifyConnection:   func(cs tls.ConnectionState) error { return verifyPinned(cs.PeerCertificates, tok.RootSPKI) },
	}
}

// pinError says that the chain holds no certificate with the pinned key.
type pinError struct{ issuer string }

func (e *pinError) Error() string { return "certificate was issued by " + e.issuer }

func verifyPinned(chain []*x509.Certificate, pin [32]byte) error {
	if len(chain) == 0 {
		return errors.New("collector sent no certificate")
	}
	opts := x509.VerifyOptions{
		DNSName:       certid.ServerName,
		Intermediates: x509.NewCertPool(),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, c := range chain[1:] {
		if certid.SPKIHash(c) == pin {
			opts.Roots = x509.NewCertPool()
			opts.Roots.AddCert(c)
		} else {
			opts.Intermediates.AddCert(c)
		}
	}
	if opts.Roots == nil {
		return &pinError{issuer: fmt.Sprintf("%q", chain[0].Issuer.String())}
	}
	_, err := chain[0].Verify(opts)
	return err
}

// explain turns the failure of an exchange into advice.
func explain(tok certid.Token, err error) error {
	var (
		pin     *pinError
		invalid x509.CertificateInvalidError
		closed  *link.ClosedError
		dial    *link.DialError
	)
	switch {
	case errors.As(err, &pin):
		return &Problem{Kind: ErrRootMismatch, Detail: pin.Error(),
			Advice: "If a firewall inspects TLS, exempt " + tok.Addr + " from inspection; else make a new token: this one is of another collector."}
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return &Problem{Kind: ErrClock, Detail: "it is " + time.Now().UTC().Format(time.RFC3339) + " here", Err: invalid,
			Advice: "Set the clock of this host (NTP); if it is right, check the collector's."}
	case errors.As(err, &closed) && closed.Code == link.CloseBusy:
		return &Problem{Kind: ErrBusy, Err: closed, Advice: "Try again in a minute, with the same token."}
	case errors.As(err, &dial) && (dial.Kind == link.KindTLS || dial.Kind == link.KindIntercepted):
		return &Problem{Kind: ErrRootMismatch, Err: dial.Cause, Advice: adviceNewToken}
	case errors.As(err, &dial) && dial.Advice != "":
		return &Problem{Kind: ErrUnreachable, Detail: tok.Addr, Err: dial.Cause,
			Advice: strings.ToUpper(dial.Advice[:1]) + dial.Advice[1:] + "."}
	}
	return &Problem{Kind: ErrUnreachable, Detail: tok.Addr, Err: err,
		Advice: "Check that the collector runs and that UDP or TCP to this address may leave this network."}
}

// refused turns the collector's refusal into an error, nil when it is none.
func refused(resp wire.EnrolResponse) error {
	if resp.Code == "" && resp.Error == "" {
		return nil
	}
	p := &Problem{Kind: ErrRefused, Detail: printable(resp.Error), Advice: adviceNewToken}
	switch resp.Code {
	case wire.EnrolBadToken:
		p.Kind = ErrBadToken
	case wire.EnrolExpiredToken:
		p.Kind = ErrExpiredToken
	case wire.EnrolUsedToken:
		p.Kind = ErrUsedToken
	case wire.EnrolBusy:
		p.Kind, p.Advice = ErrBusy, "Try again in a minute, with the same token."
	case wire.EnrolBadRequest:
		p.Advice = "Update the agent, or enrol with a new token and --force."
	}
	return p
}

// accept checks the answer and makes the state of it.
func accept(tok certid.Token, try attempt, key *ecdsa.PrivateKey, resp wire.EnrolResponse) (state, error) {
	chain, err := parseChain(resp.Chain)
	if err != nil {
		return state{}, err
	}
	roots, err := parseChain([][]byte{resp.Root})
	if err != nil {
		return state{}, fmt.Errorf("root: %w", err)
	}
	root := roots[0]
	if certid.SPKIHash(root) != tok.RootSPKI {
		return state{}, errors.New("root is not the one that the token names")
	}
	if err := root.CheckSignatureFrom(root); err != nil {
		return state{}, fmt.Errorf("root: %w", err)
	}
	id, err := verifyChain(root, chain, &key.PublicKey)
	if err != nil {
		return state{}, err
	}
	if uint32(id.Tenant) != resp.Tenant || uint32(id.Agent) != resp.Agent || id.Generation != resp.Generation {
		return state{}, fmt.Errorf("certificate is of %s, answer says tenant %d, agent %d, generation %d", id, resp.Tenant, resp.Agent, resp.Generation)
	}
	return state{
		meta: meta{
			Collector: tok.Addr, Tenant: resp.Tenant, Agent: resp.Agent, Generation: resp.Generation,
			Site: printable(resp.Site), EnrolmentID: try.EnrolmentID,
		},
		key: key, chain: chain, root: root,
	}, nil
}
