package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"sidetone/shared/wire"
)

const (
	// enrolTime bounds a whole enrolment.
	enrolTime = 30 * time.Second
	// headStart is how long the better transport may try alone.
	headStart = 2 * time.Second
)

// Enrol makes the one exchange of an agent that wants an identity: over QUIC, or
// over TCP where UDP does not get through. A refusal by the collector is not an
// error: it stands in the response.
func Enrol(ctx context.Context, addr string, tlsc *tls.Config, req wire.EnrolRequest) (wire.EnrolResponse, error) {
	return EnrolWith(ctx, DialConfig{Addr: addr, TLS: tlsc, Log: zerolog.Nop()}, req)
}

// EnrolWith is Enrol over cfg.Transport, or, when that is empty, over the first that
// gets through: QUIC, TCP two seconds later, and then cfg.Proxy, if there is one.
func EnrolWith(ctx context.Context, cfg DialConfig, req wire.EnrolRequest) (wire.EnrolResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, enrolTime)
	defer cancel()
	conn, err := dialFirst(ctx, cfg, wire.ALPNEnrol)
	if err != nil {
		return wire.EnrolResponse{}, err
	}
	defer func() { _ = conn.CloseWith(wire.CloseShutdown, "") }()
	if err := conn.Send(ctx, req); err != nil {
		return wire.EnrolResponse{}, fmt.Errorf("send enrolment request to %s: %w", cfg.Addr, err)
	}
	msg, err := conn.Recv(ctx)
	if err != nil {
		return wire.EnrolResponse{}, fmt.Errorf("read enrolment response of %s: %w", cfg.Addr, err)
	}
	resp, ok := msg.(*wire.EnrolResponse)
	if !ok {
		return wire.EnrolResponse{}, &DialError{Kind: KindProtocol, Addr: cfg.Addr, Cause: fmt.Errorf("a %T instead of an enrolment response", msg)}
	}
	return *resp, nil
}

// dialled is the outcome of one transport.
type dialled struct {
	transport string
	conn      *Conn
	err       error
}

// dialFirst dials over each transport, the better ones with a head start, and takes
// the first connection. It returns when no attempt is left over.
func dialFirst(ctx context.Context, cfg DialConfig, alpn string) (*Conn, error) {
	if cfg.Transport != "" {
		return dial(ctx, cfg, alpn)
	}
	rungs := []string{TransportQUIC, TransportTCP}
	if cfg.Proxy != nil {
		rungs = append(rungs, TransportProxy)
	}
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan dialled, len(rungs))
	next, running := 0, 0
	start := func() {
		c := cfg
		c.Transport = rungs[next]
		next++
		running++
		go func() {
			conn, err := dial(ctx, c, alpn)
			results <- dialled{c.Transport, conn, err}
		}()
	}
	start()
	head := time.NewTicker(headStart)
	defer head.Stop()
	var failed []dialled
	var won *Conn
	for running > 0 {
		select {
		case <-head.C:
			if next < len(rungs) && won == nil {
				start()
			}
		case r := <-results:
			running--
			switch {
			case r.err == nil && won == nil:
				won = r.conn
				cancel() // ends the others
			case r.err == nil:
				_ = r.conn.CloseWith(wire.CloseShutdown, "not needed")
			default:
				failed = append(failed, r)
				if next < len(rungs) && won == nil && ctx.Err() == nil {
					start()
					head.Reset(headStart)
				}
			}
		}
	}
	cancel()
	if won != nil {
		return won, nil
	}
	return nil, dialFailure(cfg.Addr, failed)
}

// telling orders kinds: the first says most about what to do.
var telling = []string{KindIntercepted, KindTLS, KindResolve, KindProxy, KindProtocol, KindRefused, KindBlackholed}

// dialFailure is one error for all transports: it has kind and advice of the most
// telling one, and says what became of the others.
func dialFailure(addr string, failed []dialled) error {
	var (
		best  *DialError
		parts []string
		all   []error
	)
	for _, f := range failed {
		var d *DialError
		if !errors.As(f.err, &d) {
			all = append(all, f.err)
			continue
		}
		parts = append(parts, f.transport+": "+d.Kind)
		if best == nil || slices.Index(telling, d.Kind) < slices.Index(telling, best.Kind) {
			best = d
		}
	}
	if best == nil {
		return errors.Join(all...)
	}
	out := *best
	out.Addr = addr
	out.Cause = fmt.Errorf("%s: %w", strings.Join(parts, ", "), errOr(best.Cause))
	if best.Kind == KindBlackholed && len(parts) > 1 {
		out.Advice = "no answer on UDP and TCP: allow one of them outbound to this address and port in the firewall, and check that the collector runs"
	}
	return &out
}

var errNoAnswer = errors.New("no answer")

func errOr(err error) error {
	if err == nil {
		return errNoAnswer
	}
	return err
}
