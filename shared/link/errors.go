package link

import "fmt"

// ClosedError says that one side has closed the connection on purpose.
type ClosedError struct {
	Code   string // one of wire's Close codes
	Reason string
	Local  bool // this side did
}

func (e *ClosedError) Error() string {
	who := "by the peer"
	if e.Local {
		who = "by this side"
	}
	s := fmt.Sprintf("connection closed %s (%s)", who, e.Code)
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}

// LostError says that the connection ended without a Close: the path or the peer
// died.
type LostError struct {
	Reason string
	Cause  error
}

func (e *LostError) Error() string { return "connection lost: " + e.Reason }

// Unwrap gives the cause.
func (e *LostError) Unwrap() error { return e.Cause }

// Kinds of DialError.
const (
	KindResolve    = "resolve"    // the name has no address
	KindBlackholed = "blackholed" // nothing comes back
	KindRefused    = "refused"    // the host says that nobody listens, or the collector is full
	KindTLS        = "tls"        // one side does not accept the other's certificate
	KindProtocol   = "protocol"   // something answers, but not as a collector does
	// KindIntercepted: the certificate that was presented is not of our root, so
	// something on the path inspects TLS (or it is another collector).
	KindIntercepted = "intercepted"
	KindProxy       = "proxy" // the proxy refuses, wants a password, or is not reached
)

// DialError says why there is no connection, and what to do about it.
type DialError struct {
	Kind   string
	Addr   string
	Advice string // a sentence for a person
	// Issuer names who signed the certificate that was presented, when Kind is
	// KindIntercepted. It is text of a stranger.
	Issuer string
	Cause  error
}

func (e *DialError) Error() string {
	s := "connect to " + e.Addr
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	if e.Advice != "" {
		s += ": " + e.Advice
	}
	return s
}

// Unwrap gives the cause.
func (e *DialError) Unwrap() error { return e.Cause }
