// Package ingest is the collector's side of the link: it accepts agents, learns
// from their certificates who they are, hands their frames on and answers each one.
//
// A frame is acked only when the sink says that it is stored; until then the agent
// keeps it. Tenant and agent come from the certificate, never from the frame. At
// most Config.Window frames of a connection wait for their answer, which is also
// the bound on what a connection can make the collector hold. A frame that comes
// again, or out of order, is handed on and answered like any other: the rows carry
// their position, which makes storing them twice the same as once.
//
// Lock order: Server.mu, then session.mu.
package ingest

import (
	"context"
	"errors"
	"net"
	"time"

	"sidetone/shared/certid"
	"sidetone/shared/telemetry"
	"sidetone/shared/wire"
)

// Source says where in the tree rows come from.
type Source = telemetry.Source

// Delivery is one frame that arrived sound.
type Delivery struct {
	Source     Source
	Epoch, Seq uint64
	Class      wire.Class
	// Age is how long the record lay in the agent's spool, by the agent's monotonic
	// clock where possible.
	Age        time.Duration
	ReceivedAt time.Time
	Rows       *telemetry.Set
	Bytes      int // of the payload as it came
	// Done is called once, by the sink, when the fate of the rows is known: nil means
	// stored (ack), ErrDefer means keep and send again, *RejectError means set aside.
	// Any other error defers. It never blocks, and may be called after the
	// connection is gone.
	Done func(error)
}

// ErrDefer asks the agent to keep a frame and to send it again later.
var ErrDefer = errors.New("not now")

// RejectError says that a frame can never be accepted.
type RejectError struct{ Reason string }

func (e *RejectError) Error() string { return "rejected: " + e.Reason }

// Sink takes deliveries for storing.
type Sink interface {
	// Offer takes d, and then calls d.Done once; or it is full and returns false.
	Offer(d *Delivery) bool
}

// Observer sees each delivery when it arrives, before the sink does. It must not
// block and must not change the rows.
type Observer interface {
	Delivered(d *Delivery)
}

// Errors of Agents.
var (
	ErrRevoked         = errors.New("agent is revoked")
	ErrUnknown         = errors.New("agent is not known")
	ErrStaleGeneration = errors.New("certificate is older than the agent's newest: a copy of the agent may be running")
)

// AgentInfo is what the control store knows of an agent.
type AgentInfo struct {
	Source  Source
	Revoked bool
}

// Agents knows the agents that are enrolled.
type Agents interface {
	Lookup(ctx context.Context, id certid.ID) (AgentInfo, error)
	Renew(ctx context.Context, id certid.ID, csr []byte) (chain [][]byte, generation uint64, err error)
}

// Revoker is an optional part of Agents: which of these agents are revoked by now?
// It is asked each second about all live connections, so it must be cheap. Without
// it, whoever revokes calls Server.Disconnect.
type Revoker interface {
	Revoked(ctx context.Context, agents []telemetry.AgentID) ([]telemetry.AgentID, error)
}

// Enroller admits new agents.
type Enroller interface {
	Enrol(ctx context.Context, remote net.Addr, req wire.EnrolRequest) wire.EnrolResponse
}

// ConnInfo describes a live connection.
type ConnInfo struct {
	Transport string // "quic" or "tcp"; an agent behind a proxy comes over tcp
	Remote    string
	Since     time.Time
	// CertExpires is when the connection will be closed at the latest.
	CertExpires time.Time
	// ClockOffset is the agent's clock minus the collector's, at the hello.
	ClockOffset time.Duration
	Hello       wire.Hello
}

// Presence is told who comes and goes. For one agent the calls alternate.
type Presence interface {
	Connected(src Source, info ConnInfo)
	Disconnected(src Source, reason string)
}

// Config is chosen by the operator, zero values mean the defaults.
type Config struct {
	// Window is how many frames of a connection may wait for an answer. Default 256.
	Window uint32
	// ReflectorPort is told to agents; 0 when there is no reflector.
	ReflectorPort uint16
	// Retry is how long an agent waits before it sends a deferred frame again.
	// Default 15 s.
	Retry time.Duration
	// EnrolsPerMinute bounds enrolments from one address. Default 30.
	EnrolsPerMinute int
	// Quota of one agent: what it may send for long, and at once. Default 2 MiB/s with
	// 16 MiB, 200 frames/s with 2,000. Frames over it are deferred.
	BytesPerSecond, BurstBytes   int
	FramesPerSecond, BurstFrames int
	// MaxConnsPerTenant bounds the live connections of one tenant; 0 does not.
	MaxConnsPerTenant int
}

func (c Config) withDefaults() Config {
	if c.Window == 0 {
		c.Window = 256
	}
	if c.Retry == 0 {
		c.Retry = 15 * time.Second
	}
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&c.EnrolsPerMinute, 30)
	set(&c.BytesPerSecond, defaultBytesPerSecond)
	set(&c.BurstBytes, defaultBurstBytes)
	set(&c.FramesPerSecond, defaultFramesPerSecond)
	set(&c.BurstFrames, defaultBurstFrames)
	return c
}

// Fixed limits.
const (
	helloTime  = 5 * time.Second
	lookupTime = 5 * time.Second
	// revokeEvery is how often live connections are checked for revocation.
	revokeEvery = time.Second
	renewTime   = 15 * time.Second
	// enrolTime is for the enroller's answer; partTime for the agent to go then.
	enrolTime = 20 * time.Second
	partTime  = 5 * time.Second
	// ackEvery is how long answers are gathered before they are sent.
	ackEvery = 50 * time.Millisecond
	// lastTime is for the last answers of a connection that closes.
	lastTime = time.Second
	// maxStrikes is how many malformed messages end a connection.
	maxStrikes = 3
	// schemaRetry: a payload from a newer agent waits for this program's update.
	schemaRetry = 10 * time.Minute
	// maxAge bounds what an agent can claim.
	maxAge = 400 * 24 * time.Hour
	// Renewals of one connection.
	renewEvery = time.Minute
	renewBurst = 3
)

// Reasons of a rejection, for counters and agents.
const (
	rejectChecksum  = "checksum"
	rejectMalformed = "malformed"
	rejectSink      = "storage" // the sink gave the reason
)
