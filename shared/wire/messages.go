// Package wire defines what the agent and the collector say to each other: the
// messages of a connection, the frame that carries a payload, the payload's
// encoding, and the limits of each. It encodes and decodes and does nothing else.
//
// The wire only grows: field numbers are never reused, readers ignore what they do not
// know, writers send only what the peer's capability allows. DESIGN.md has the forms
// of messages, payloads and bundles, and what they cost.
package wire

import "sidetone/shared/telemetry"

// ALPN names of the two conversations that an agents' address accepts.
const (
	ALPNLink  = "sidetone/1"       // mTLS: hello, frames, acks, renewal
	ALPNEnrol = "sidetone-enrol/1" // no client certificate: one enrolment exchange
)

// Capability history. A new number gets a line here and never changes its meaning.
//
//	1: hello, frame, ack, defer, reject, drain, renew; payload schema 1
//	2: bundle; payload schema 2; the spool's numbers in hello and agent health
const Capability = 2

// Class tells how dear a record is; a higher class is evicted later.
type Class uint8

// Classes of records.
const (
	ClassSample Class = 1 // probe windows, readings
	ClassState  Class = 2 // holds at least one state change, link event or gap
)

// Frame is the unit of sending: a header and the payload's bytes, as they lay in
// the spool. Tenant and agent are not in it: they come from the certificate.
type Frame struct {
	Epoch uint64 `cbor:"1,keyasint"`
	Seq   uint64 `cbor:"2,keyasint"`
	Class Class  `cbor:"3,keyasint"`
	// AgeMS is how long ago, by the agent's clock, the record entered the spool.
	AgeMS uint64 `cbor:"4,keyasint,omitempty"`
	// CRC is CRC-32C of Payload.
	CRC     uint32 `cbor:"5,keyasint"`
	Payload []byte `cbor:"6,keyasint"`

	rows *telemetry.Set // of Payload, when they are known
}

// Hello opens a connection; the agent sends it first.
type Hello struct {
	Capability uint32 `cbor:"1,keyasint"`
	Version    string `cbor:"2,keyasint"`
	Epoch      uint64 `cbor:"3,keyasint"`
	NextSeq    uint64 `cbor:"4,keyasint"`
	// Pending is the number of records that wait in the spool.
	Pending  uint64 `cbor:"5,keyasint"`
	BootID   string `cbor:"6,keyasint,omitempty"`
	Hostname string `cbor:"7,keyasint,omitempty"`
	OS       string `cbor:"8,keyasint,omitempty"`
	Arch     string `cbor:"9,keyasint,omitempty"`
	NowMS    int64  `cbor:"10,keyasint"` // agent's wall clock
	// EpochFirst is the first seq of Epoch, LowestSeq the lowest seq that still waits
	// (NextSeq when none does).
	EpochFirst uint64 `cbor:"11,keyasint,omitempty"`
	LowestSeq  uint64 `cbor:"12,keyasint,omitempty"`
}

// Welcome answers a Hello.
type Welcome struct {
	Capability uint32 `cbor:"1,keyasint"`
	Version    string `cbor:"2,keyasint"`
	NowMS      int64  `cbor:"3,keyasint"` // collector's wall clock
	// ReflectorPort is the UDP port of the STAMP reflector (and STUN responder) on
	// the host that the agent dialled; 0 when there is none.
	ReflectorPort uint16 `cbor:"4,keyasint,omitempty"`
	// Window is how many frames may be on the way without an answer.
	Window uint32 `cbor:"5,keyasint"`
	// Observed is the agent's address as the collector sees it.
	Observed string `cbor:"6,keyasint,omitempty"`
}

// Range is sequence numbers From…To, ends included.
type Range struct {
	From uint64 `cbor:"1,keyasint"`
	To   uint64 `cbor:"2,keyasint"`
}

// Ack says that ClickHouse has accepted all rows of these frames: the agent may
// delete them.
type Ack struct {
	Epoch  uint64  `cbor:"1,keyasint"`
	Ranges []Range `cbor:"2,keyasint"`
}

// Defer says that these frames were read and judged but could not be stored now:
// keep them and send them again after RetryMS.
type Defer struct {
	Epoch   uint64  `cbor:"1,keyasint"`
	Ranges  []Range `cbor:"2,keyasint"`
	RetryMS uint32  `cbor:"3,keyasint"`
}

// Reject says that this frame cannot be accepted whatever is tried: the agent sets
// it aside and records a gap.
type Reject struct {
	Epoch  uint64 `cbor:"1,keyasint"`
	Seq    uint64 `cbor:"2,keyasint"`
	Reason string `cbor:"3,keyasint"`
}

// Drain asks the agent to leave and to come back after a random delay up to MaxDelayMS.
type Drain struct {
	MaxDelayMS uint32 `cbor:"1,keyasint"`
	Reason     string `cbor:"2,keyasint,omitempty"`
}

// RenewRequest asks for the next certificate; CSR is DER (PKCS #10).
type RenewRequest struct {
	CSR []byte `cbor:"1,keyasint"`
}

// RenewResponse carries the chain (DER, leaf first) or the reason of a refusal.
type RenewResponse struct {
	Chain      [][]byte `cbor:"1,keyasint,omitempty"`
	Generation uint64   `cbor:"2,keyasint,omitempty"`
	Error      string   `cbor:"3,keyasint,omitempty"`
}

// Close is the last message of the side that ends a connection for a reason.
type Close struct {
	Code   string `cbor:"1,keyasint"` // one of the Close codes
	Reason string `cbor:"2,keyasint,omitempty"`
}

// Close codes.
const (
	CloseReplaced = "replaced" // a newer connection of the same agent took over
	CloseRevoked  = "revoked"  // the agent was revoked: wait an hour between tries
	CloseProtocol = "protocol" // a message could not be understood
	CloseExpired  = "expired"  // the certificate ended
	CloseShutdown = "shutdown" // orderly stop
)

// EnrolRequest is the one message of an agent that wants an identity.
type EnrolRequest struct {
	Token string `cbor:"1,keyasint"`
	// EnrolmentID is random and kept by the agent: the same id again is the same agent.
	EnrolmentID string `cbor:"2,keyasint"`
	CSR         []byte `cbor:"3,keyasint"` // DER, PKCS #10; proves possession of the key
	Hostname    string `cbor:"4,keyasint,omitempty"`
	OS          string `cbor:"5,keyasint,omitempty"`
	Arch        string `cbor:"6,keyasint,omitempty"`
	Version     string `cbor:"7,keyasint,omitempty"`
}

// Reasons for refusing an enrolment, for programs; EnrolResponse.Error is for people.
const (
	EnrolBadToken     = "bad_token" // unknown or wrong: the two are not told apart
	EnrolExpiredToken = "expired_token"
	EnrolUsedToken    = "used_token"
	EnrolBadRequest   = "bad_request"
	EnrolBusy         = "busy"
)

// EnrolResponse carries the identity or the reason of a refusal.
type EnrolResponse struct {
	Chain      [][]byte `cbor:"1,keyasint,omitempty"` // DER, leaf first
	Root       []byte   `cbor:"2,keyasint,omitempty"` // DER of the root that signs both sides
	Tenant     uint32   `cbor:"3,keyasint,omitempty"`
	Agent      uint32   `cbor:"4,keyasint,omitempty"`
	Generation uint64   `cbor:"5,keyasint,omitempty"`
	Site       string   `cbor:"6,keyasint,omitempty"` // name, for the installer's eyes
	Code       string   `cbor:"7,keyasint,omitempty"`
	Error      string   `cbor:"8,keyasint,omitempty"`
}
