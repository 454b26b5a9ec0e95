package probe

import (
	"context"
	"net/netip"
	"time"

	"github.com/rs/zerolog"

	"sidetone/shared/pathstats"
)

// Causes of a lost attempt, as telemetry.ProbeWindow.Fault carries them.
const (
	FaultTimeout     = "timeout"     // no answer in time
	FaultRefused     = "refused"     // the host answered that nothing listens
	FaultUnreachable = "unreachable" // no way there, or the socket failed
	FaultResolve     = "resolve"     // the name has no address
	FaultTLS         = "tls"         // handshake or certificate not acceptable
	FaultAnswer      = "answer"      // the far end answered that it failed
	FaultPermission  = "permission"  // the system does not let us measure so
)

// Attempt is the outcome of one try. "Lost" is a value, not an error.
type Attempt struct {
	// Received is when the answer came, with a monotonic reading.
	Received time.Time
	// RTT is zero when the attempt is lost; then Fault says why.
	RTT   time.Duration
	Fault string
	// Unsent marks a lost attempt of which nothing left this host.
	Unsent bool
	// Detail is what was learnt, in short, or the reason of the fault.
	Detail string
	// State is a property whose change is an event: the public address, the
	// certificate. Empty when nothing was learnt.
	State string
	// Far is what the far end told (STAMP).
	Far pathstats.Far
}

// Lost builds the outcome of an attempt without an answer.
func Lost(fault, detail string) Attempt { return Attempt{Fault: fault, Detail: detail} }

// Request is one attempt to make.
type Request struct {
	Seq uint32
	// Dst is where the target is now. Names are resolved outside the attempt.
	Dst netip.AddrPort
	// Deadline ends the attempt.
	Deadline time.Time
}

// Session measures one target. Attempt blocks until the answer, the deadline or the
// end of ctx, and may be called again while it runs, unless the method is serial.
type Session interface {
	Attempt(ctx context.Context, r Request) Attempt
	Close() error
}

// AddressResolver is a Session that finds the meaning of the address "system" itself.
type AddressResolver interface {
	Resolve(ctx context.Context) (netip.AddrPort, error)
}

// Sink takes what arrives outside of an attempt. Its methods do not block and are
// safe for concurrent use.
type Sink interface {
	// Late: the answer to attempt seq came after its timeout.
	Late(seq uint32, far pathstats.Far)
	// Duplicate: another answer to attempt seq.
	Duplicate(seq uint32)
	// Foreign: something that claims to be an answer and is none of ours.
	Foreign()
}

// Driver measures all targets of one method and owns what they share, like a socket.
// Close comes after the sessions' Close and waits for the driver's goroutines.
type Driver interface {
	Open(t Target, sink Sink) (Session, error)
	Close() error
}

// OpenDriver makes the driver of a method; it does not touch the network yet.
type OpenDriver func(log zerolog.Logger) Driver
