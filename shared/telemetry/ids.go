// Package telemetry says what was observed: identities of the tree, the typed
// rows that the agent produces, and the set of rows that travels as one payload.
//
// Units stand in the field names. Times are the agent's wall clock (UnixMS) and
// are only labels: every interval comes from the monotonic clock. A count that
// was not observed is absent (nil pointer), never zero.
package telemetry

import (
	"hash/fnv"
	"time"
)

// Identities of the tree tenant > customer > site > PBX, and of agents. They are
// given by the collector's control store; zero means "none".
type (
	TenantID   uint32
	CustomerID uint32
	SiteID     uint32
	PBXID      uint32
	AgentID    uint32
)

// Source says where in the tree rows come from. The collector fills it from the
// agent's certificate and the control store, never from what the agent sends.
type Source struct {
	Tenant   TenantID
	Customer CustomerID
	Site     SiteID
	PBX      PBXID
	Agent    AgentID
}

// ItemID identifies something an agent observes: a target, a trunk, an SBC, a
// service. It is a hash of what makes the thing itself, so it survives restarts
// and needs no coordination.
type ItemID uint64

// UnixMS is a wall-clock instant in milliseconds since 1970-01-01 UTC. The field
// that holds it says whose clock it is: Observed is the agent's, Received the
// collector's. Zero means "not known".
type UnixMS int64

// MS converts t.
func MS(t time.Time) UnixMS {
	if t.IsZero() {
		return 0
	}
	return UnixMS(t.UnixMilli())
}

// Time converts back, in UTC. Zero gives the zero time.
func (m UnixMS) Time() time.Time {
	if m == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(m)).UTC()
}

// MakeItemID hashes the parts that identify an item.
func MakeItemID(parts ...string) ItemID {
	h := fnv.New64a()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	return ItemID(h.Sum64())
}
