package loadgen

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"sidetone/shared/backoff"
	"sidetone/shared/certid"
	"sidetone/shared/link"
	"sidetone/shared/wire"
)

const (
	enrolTime   = 30 * time.Second
	enrolAtOnce = 8
	enrolTries  = 40 // an address over its limit waits: 30 a minute is the collector's default
	busyWait    = 3 * time.Second
)

// Enrol makes a fleet of n agents over the real link, spread evenly over the tokens,
// each of which must have enough uses.
func Enrol(ctx context.Context, tokens []string, n int, transport string, progress io.Writer) (*File, error) {
	if n < 1 || n > maxFleet || len(tokens) == 0 {
		return nil, fmt.Errorf("enrol: %d agents with %d tokens: need 1 to %d agents and a token", n, len(tokens), maxFleet)
	}
	parsed := make([]certid.Token, len(tokens))
	for i, t := range tokens {
		var err error
		if parsed[i], err = certid.ParseToken(t); err != nil {
			return nil, fmt.Errorf("enrol: token %d: %w", i+1, err)
		}
	}
	f := &File{Addr: parsed[0].Addr, Agents: make([]Identity, n)}
	roots := make([][]byte, n)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(enrolAtOnce)
	for i := range n {
		g.Go(func() (err error) {
			f.Agents[i], roots[i], err = enrolOne(gctx, parsed[i%len(parsed)], i, transport)
			if err == nil && progress != nil && (i+1)%100 == 0 {
				fmt.Fprintf(progress, "%d of %d enrolled\n", i+1, n)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	f.Root = roots[0]
	return f, nil
}

// enrolOne is one agent's enrolment; a collector that is busy is asked again.
func enrolOne(ctx context.Context, tok certid.Token, index int, transport string) (id Identity, root []byte, err error) {
	key, csr, err := newCSR()
	if err != nil {
		return id, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return id, nil, err
	}
	random := make([]byte, 24)
	_, _ = rand.Read(random) // never fails, by its documentation
	req := wire.EnrolRequest{Token: tok.String(), EnrolmentID: base64.RawURLEncoding.EncodeToString(random), CSR: csr,
		Hostname: hostname(index), OS: "linux", Arch: "amd64", Version: version}
	var resp wire.EnrolResponse
	for try := 1; ; try++ {
		resp, err = exchange(ctx, tok, transport, req)
		if err == nil && resp.Code != wire.EnrolBusy {
			break
		}
		if try == enrolTries || ctx.Err() != nil {
			return id, nil, fmt.Errorf("enrol agent %d at %s: %w", index+1, tok.Addr, errors.Join(err, errors.New(resp.Error)))
		}
		if err := backoff.Sleep(ctx, busyWait); err != nil {
			return id, nil, err
		}
	}
	if len(resp.Chain) == 0 {
		return id, nil, fmt.Errorf("enrol agent %d at %s: %s (%s)", index+1, tok.Addr, resp.Error, resp.Code)
	}
	r, err := x509.ParseCertificate(resp.Root)
	if err != nil || certid.SPKIHash(r) != tok.RootSPKI {
		return id, nil, fmt.Errorf("enrol agent %d at %s: the root in the answer is not the token's", index+1, tok.Addr)
	}
	id = Identity{Tenant: resp.Tenant, Agent: resp.Agent, Generation: resp.Generation, Key: der, Chain: resp.Chain}
	_, err = id.pair()
	return id, resp.Root, err
}

func exchange(ctx context.Context, tok certid.Token, transport string, req wire.EnrolRequest) (wire.EnrolResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, enrolTime)
	defer cancel()
	tlsc := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: certid.ServerName,
		// Not the system's roots but the token's hash decides, in VerifyConnection.
		InsecureSkipVerify: true,
		VerifyConnection:   func(cs tls.ConnectionState) error { return pinned(cs.PeerCertificates, tok.RootSPKI) }}
	return link.EnrolWith(ctx, link.DialConfig{Addr: tok.Addr, Transport: transport, TLS: tlsc, Log: zerolog.Nop()}, req)
}

// pinned verifies a chain against the root in it that has the token's hash.
func pinned(chain []*x509.Certificate, pin [32]byte) error {
	if len(chain) == 0 {
		return errors.New("collector sent no certificate")
	}
	opts := x509.VerifyOptions{DNSName: certid.ServerName, Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool()}
	found := false
	for _, c := range chain[1:] {
		if certid.SPKIHash(c) == pin {
			opts.Roots.AddCert(c)
			found = true
		} else {
			opts.Intermediates.AddCert(c)
		}
	}
	if !found {
		return errors.New("collector's certificate is not of the token's root")
	}
	_, err := chain[0].Verify(opts)
	return err
}
