package enrolment_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"sidetone/collector/internal/enrolment"
	"sidetone/shared/certid"
	"sidetone/shared/link"
	"sidetone/shared/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve answers both conversations on a loopback port until the test ends; seen gets
// the verdict on each agent that connects.
func (r *rig) serve(t *testing.T, seen chan<- error) string {
	t.Helper()
	ln, err := link.Listen(link.ListenConfig{Addr: "127.0.0.1:0", TLS: r.ca.ServerTLS, Log: zerolog.Nop()})
	check(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept(ctx)
			if err != nil {
				return
			}
			r.answer(ctx, conn, seen)
		}
	}()
	t.Cleanup(func() {
		cancel()
		check(t, ln.Close())
		<-done
	})
	return ln.Addr().String()
}

func (r *rig) answer(ctx context.Context, conn *link.Conn, seen chan<- error) {
	msg, err := conn.Recv(ctx)
	if err != nil {
		seen <- err
		return
	}
	switch m := msg.(type) {
	case *wire.EnrolRequest:
		if err := conn.Send(ctx, r.Enrol(ctx, conn.RemoteAddr(), *m)); err != nil {
			seen <- err
			return
		}
		<-conn.Context().Done() // the agent closes
	case *wire.Hello:
		id, err := certid.FromCert(conn.PeerCert())
		if err == nil {
			_, err = r.Lookup(ctx, id)
		}
		seen <- err
		_ = conn.CloseWith(wire.CloseShutdown, "")
	}
}

// TestEnrolOverTheLink goes the whole way of an agent on real sockets: enrol over
// QUIC with nothing but the token, connect with the certificate, be revoked.
func TestEnrolOverTheLink(t *testing.T) {
	r := newRig(t, io.Discard)
	seen := make(chan error, 4)
	addr := r.serve(t, seen)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tok := r.token(t, 1)

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	check(t, err)
	req := request(t, tok, enrolmentID(1))
	req.CSR = der
	resp, err := link.Enrol(ctx, addr, &tls.Config{
		ServerName: certid.ServerName, InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			for _, c := range cs.PeerCertificates {
				if certid.SPKIHash(c) == tok.RootSPKI {
					return nil
				}
			}
			return errors.New("the chain lacks the root that the token names")
		},
	}, req)
	check(t, err)
	id := identityOf(t, resp)

	root, err := x509.ParseCertificate(resp.Root)
	check(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(root)
	knock := func() error {
		t.Helper()
		conn, err := link.Dial(ctx, link.DialConfig{Addr: addr, Log: zerolog.Nop(), TLS: &tls.Config{
			RootCAs: roots, ServerName: certid.ServerName,
			Certificates: []tls.Certificate{{Certificate: resp.Chain, PrivateKey: key}},
		}})
		check(t, err)
		check(t, conn.Send(ctx, wire.Hello{Capability: wire.Capability}))
		verdict := <-seen
		<-conn.Context().Done()
		return verdict
	}
	check(t, knock())
	_, _, err = r.Renew(ctx, id, csr(t))
	check(t, err)
	check(t, knock()) // the newest generation is not in use yet
	check(t, r.db.Revoke(ctx, system, id.Agent, r.clock()))
	wantErr(t, knock(), enrolment.ErrRevoked)
}
