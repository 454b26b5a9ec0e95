package loadgen

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"sidetone/shared/backoff"
	"sidetone/shared/certid"
	"sidetone/shared/link"
	"sidetone/shared/wire"
)

// Delays of an agent without a connection, as a real one has them.
const (
	minDelay     = 500 * time.Millisecond
	maxDelay     = 30 * time.Second
	replacedWait = 30 * time.Second
	revokedWait  = time.Hour
	maxDrain     = 10 * time.Minute
	stableTime   = 30 * time.Second
	dialTime     = 20 * time.Second
	greetTime    = 10 * time.Second
)

// agent is one simulated agent.
type agent struct {
	fleet *Fleet
	index int
	id    *Identity // of the file; changed by a renewal only
	spool *spool
	maker *maker
	tls   *tls.Config

	mu   sync.Mutex
	pair *tls.Certificate // guarded by mu

	asked   *ecdsa.PrivateKey // of the renewal that is under way; of deliver's goroutine
	renewAt time.Time         // of deliver's goroutine
}

func newAgent(f *Fleet, index int, id *Identity, root *x509.CertPool, epoch uint64) (*agent, error) {
	pair, err := id.pair()
	if err != nil {
		return nil, err
	}
	a := &agent{
		fleet: f, index: index, id: id, pair: pair, renewAt: renewalDue(pair.Leaf),
		spool: newSpool(epoch, f.cfg.SpoolRecords, f.cfg.SpoolBytes), maker: newMaker(f.kinds, index, f.cfg.Interval),
	}
	a.tls = &tls.Config{RootCAs: root, ServerName: certid.ServerName, MinVersion: tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.pair, nil
		}}
	return a, nil
}

// produce makes records until ctx ends. The agents' phases are spread evenly over the
// interval; windows and readings of one agent are half an interval apart.
func (a *agent) produce(ctx context.Context, wait time.Duration) {
	if backoff.Sleep(ctx, wait) != nil {
		return
	}
	half := a.fleet.cfg.Interval / 2
	phase := a.fleet.cfg.Interval * time.Duration(a.index) / time.Duration(len(a.fleet.agents))
	due := time.Now().Add(phase)
	t := time.NewTimer(phase)
	defer t.Stop()
	for n := 0; ; n++ {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		var r *record
		var err error
		if n%2 == 0 {
			r, err = a.maker.windows(n/2, now)
		} else {
			r, err = a.maker.readings(n/2, now, a.spool)
		}
		if err != nil { // these rows are always within the limits
			panic(err)
		}
		a.spool.add(r)
		a.fleet.stats.made(r)
		due = due.Add(half)
		t.Reset(time.Until(due))
	}
}

// deliver keeps a connection and sends what waits, until ctx ends, or until nothing is
// produced any more and all is answered.
func (a *agent) deliver(ctx context.Context, wait time.Duration) {
	retry := backoff.Backoff{Min: minDelay, Max: maxDelay}
	for {
		if a.pause(ctx, wait) {
			return
		}
		began := time.Now()
		conn, err := a.connect(ctx)
		if err == nil {
			up := time.Now()
			a.fleet.stats.up(up.Sub(began))
			err = a.serve(ctx, conn)
			a.spool.landed()
			a.fleet.stats.down(time.Now(), err)
			if time.Since(up) >= stableTime {
				retry.Reset()
			}
		} else if ctx.Err() == nil {
			a.fleet.stats.dialFailed(err)
		}
		if errors.Is(err, errDone) || ctx.Err() != nil {
			return
		}
		wait = a.delay(err, &retry)
		a.fleet.deps.Log.Debug().Uint32("agent", a.id.Agent).Err(err).Int64("dur_ms", wait.Milliseconds()).Msg("no connection")
	}
}

// pause waits; it is over when nothing more is produced and all is answered.
func (a *agent) pause(ctx context.Context, wait time.Duration) (over bool) {
	t := time.NewTimer(wait)
	defer t.Stop()
	settled := a.fleet.settled
	for {
		select {
		case <-ctx.Done():
			return true
		case <-settled:
			if a.spool.status(time.Now()).records == 0 {
				return true
			}
			settled = nil
		case <-t.C:
			return false
		}
	}
}

// delay is how long to wait before the next try.
func (a *agent) delay(err error, retry *backoff.Backoff) time.Duration {
	var closed *link.ClosedError
	var drained *drainError
	switch {
	case errors.As(err, &drained):
		return minDelay + mathrand.N(drained.limit+1)
	case errors.As(err, &closed) && closed.Code == wire.CloseRevoked:
		return revokedWait
	case errors.As(err, &closed) && closed.Code == wire.CloseReplaced:
		return replacedWait + retry.Next()
	case errors.As(err, &closed) && closed.Code == wire.CloseExpired:
		return 0 // the renewed certificate is here
	}
	return retry.Next()
}

// welcomed is a connection that was welcomed, and how many frames may be on the way.
type welcomed struct {
	*link.Conn
	window int
}

func (a *agent) connect(ctx context.Context) (*welcomed, error) {
	dctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	conn, err := link.Dial(dctx, link.DialConfig{Addr: a.fleet.cfg.Addr, Transport: a.fleet.cfg.Transport, TLS: a.tls, Log: zerolog.Nop()})
	if err != nil {
		return nil, err
	}
	gctx, cancel := context.WithTimeout(ctx, greetTime)
	defer cancel()
	w, err := a.greet(gctx, conn)
	if err != nil {
		_ = conn.CloseWith(wire.CloseProtocol, "no welcome")
		return nil, err
	}
	return &welcomed{conn, int(min(w.Window, maxWindow))}, nil
}

func (a *agent) greet(ctx context.Context, conn *link.Conn) (*wire.Welcome, error) {
	now := time.Now()
	st := a.spool.status(now)
	err := conn.Send(ctx, wire.Hello{
		Capability: capability, Version: version, Epoch: a.spool.epoch, NextSeq: st.next, Pending: st.records,
		EpochFirst: 1, LowestSeq: st.lowest, Hostname: a.hostname(), OS: "linux", Arch: "amd64", NowMS: now.UnixMilli(),
	})
	if err != nil {
		return nil, err
	}
	msg, err := conn.Recv(ctx)
	if err != nil {
		return nil, err
	}
	w, ok := msg.(*wire.Welcome)
	if !ok || w.Window == 0 {
		return nil, fmt.Errorf("collector answered the hello with %T", msg)
	}
	return w, nil
}

func (a *agent) hostname() string { return hostname(a.index) }

func hostname(index int) string { return fmt.Sprintf("pbx-%05d", index+1) }

// renewIfDue asks for the next certificate.
func (a *agent) renewIfDue(ctx context.Context, conn *welcomed) error {
	if time.Now().Before(a.renewAt) {
		return nil
	}
	a.renewAt = time.Now().Add(renewRetry)
	key, csr, err := newCSR()
	if err != nil {
		return err
	}
	a.asked = key
	return conn.Send(ctx, wire.RenewRequest{CSR: csr})
}

// renewed installs the next certificate.
func (a *agent) renewed(m *wire.RenewResponse) error {
	if a.asked == nil || m.Error != "" {
		a.fleet.deps.Log.Warn().Uint32("agent", a.id.Agent).Str("reason", m.Error).Msg("certificate not renewed")
		return nil
	}
	key, err := x509.MarshalPKCS8PrivateKey(a.asked)
	if err != nil {
		return err
	}
	next := Identity{Tenant: a.id.Tenant, Agent: a.id.Agent, Generation: m.Generation, Key: key, Chain: m.Chain}
	pair, err := next.pair()
	if err != nil {
		return fmt.Errorf("renewed certificate: %w", err)
	}
	a.mu.Lock()
	a.pair = pair
	a.mu.Unlock()
	*a.id, a.asked, a.renewAt = next, nil, renewalDue(pair.Leaf)
	a.fleet.stats.renewed.Add(1)
	return nil
}

func newCSR() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("make certificate request: %w", err)
	}
	return key, der, nil
}
