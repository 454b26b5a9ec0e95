package uplink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"sidetone/shared/link"
	"sidetone/shared/wire"
)

// Conn is what uplink needs of a connection; *link.Conn is one.
type Conn interface {
	Send(ctx context.Context, msg any) error
	Recv(ctx context.Context) (any, error)
	CloseWith(code, reason string) error
	Transport() string
	RemoteAddr() net.Addr
	SetLowerEffort(on bool)
}

// DialFunc connects over a transport; proxy is set when that is link.TransportProxy.
// The handshake is done when it returns; the hello is not.
type DialFunc func(ctx context.Context, transport string, proxy *url.URL) (Conn, error)

// names of the rungs in texts.
var names = map[string]string{link.TransportQUIC: "QUIC", link.TransportTCP: "TCP", link.TransportProxy: "the proxy"}

func name(transport string) string {
	if n, ok := names[transport]; ok {
		return n
	}
	return transport
}

// errSilent: the handshake succeeded, and then the hello was not answered.
var errSilent = errors.New("the hello is not answered")

// errUnstable: QUIC works, but its connections die.
var errUnstable = fmt.Errorf("lost %d times within %s", maxLost, lostWithin)

// why says in a few stable words what is wrong with a rung. err is nil when nothing
// has come back yet.
func why(transport string, err error) string {
	n := name(transport)
	var d *link.DialError
	switch {
	case err == nil:
		return blackholed(transport)
	case errors.Is(err, errSilent):
		return n + " connects, but the hello gets no answer"
	case errors.Is(err, errUnstable):
		return fmt.Sprintf("%s unstable (%s)", n, errUnstable)
	case !errors.As(err, &d):
		return n + " failed"
	}
	switch d.Kind {
	case link.KindBlackholed:
		return blackholed(transport)
	case link.KindRefused:
		return n + " rejected"
	case link.KindIntercepted:
		return fmt.Sprintf("%s intercepted by %q", n, d.Issuer)
	case link.KindResolve:
		return "DNS: the collector's name has no address"
	case link.KindTLS:
		return n + ": a certificate is not accepted"
	case link.KindProxy:
		return n + " makes no tunnel"
	}
	return n + ": no collector answers"
}

func blackholed(transport string) string {
	if transport == link.TransportQUIC {
		return "QUIC black-holed (no answer on UDP)"
	}
	return name(transport) + " black-holed (no answer)"
}

// failure is a rung that did not work.
type failure struct {
	transport string
	err       error // nil: no answer yet
}

func reasons(fails []failure) string {
	var list []string
	for _, f := range fails {
		if w := why(f.transport, f.err); !slices.Contains(list, w) { // DNS is one reason for all
			list = append(list, w)
		}
	}
	return strings.Join(list, "; ")
}

// because says why the connection is on this rung; "" on the first.
func because(transport string, reason string) string {
	if transport == link.TransportQUIC || reason == "" {
		return ""
	}
	return "on " + name(transport) + ": " + reason
}

// NoWayError says that no rung leads to the collector.
type NoWayError struct {
	addr  string
	fails []failure
}

// Reason is the stable part: what is wrong with each rung, and what to do.
func (e *NoWayError) Reason() string {
	if issuer, ok := e.intercepted(); ok {
		host := e.addr
		if h, _, err := net.SplitHostPort(e.addr); err == nil {
			host = h
		}
		return fmt.Sprintf("intercepted by %q on every way: exempt host %s from TLS inspection", issuer, host)
	}
	s := "no way to the collector: " + reasons(e.fails)
	for _, f := range e.fails {
		var d *link.DialError
		if errors.As(f.err, &d) && d.Advice != "" {
			return s + ". First: " + d.Advice
		}
	}
	return s
}

// intercepted tells whether every rung meets TLS inspection, and whose. A rung on which
// nothing answers does not speak against it.
func (e *NoWayError) intercepted() (issuer string, ok bool) {
	for _, f := range e.fails {
		var d *link.DialError
		if !errors.As(f.err, &d) {
			return "", false
		}
		switch d.Kind {
		case link.KindIntercepted:
			issuer = d.Issuer
		case link.KindBlackholed, link.KindRefused, link.KindProxy:
		default:
			return "", false
		}
	}
	return issuer, issuer != ""
}

func (e *NoWayError) Error() string {
	var parts []string
	for _, f := range e.fails {
		text := "no answer yet"
		if f.err != nil {
			text = f.err.Error()
		}
		parts = append(parts, name(f.transport)+": "+text)
	}
	return "no way to the collector: " + strings.Join(parts, "; ")
}

// Unwrap gives the errors of the rungs.
func (e *NoWayError) Unwrap() []error {
	var errs []error
	for _, f := range e.fails {
		if f.err != nil {
			errs = append(errs, f.err)
		}
	}
	return errs
}

// final tells whether err is the word of the collector itself: another rung would hear
// the same.
func final(err error) bool {
	var closed *link.ClosedError
	return errors.As(err, &closed) && !closed.Local && closed.Code != wire.CloseProtocol
}
