package ingest

import (
	"sync/atomic"

	"sidetone/shared/link"
)

// Stats is a snapshot of the counters; Live is a state, the rest only grow.
type Stats struct {
	Live, LiveQUIC, LiveTCP int64
	Accepted                uint64 // connections that said hello and were let in
	TurnedAway              uint64 // connections that were not: unknown, revoked, no hello
	Replaced                uint64
	OverTenant              uint64 // connections over MaxConnsPerTenant

	Bundles  uint64 // messages that held frames
	Frames   uint64
	Bytes    uint64 // of payloads
	Acked    uint64
	Deferred uint64
	// OverQuota frames were deferred because their agent sent too much.
	OverQuota uint64
	// Rejected frames by reason.
	RejectedChecksum  uint64
	RejectedMalformed uint64
	RejectedStorage   uint64
	// Malformed messages, frames or not; three of a connection close it.
	Malformed uint64
	// NewerSchema frames wait for an update of the collector (they are deferred too).
	NewerSchema uint64
	// OverWindow connections were closed because they sent more than they may.
	OverWindow uint64

	Enrols        uint64
	EnrolsLimited uint64
	Renewals      uint64
}

type counters struct {
	liveQUIC, liveTCP                                    atomic.Int64
	bundles, overQuota, overTenant                       atomic.Uint64
	accepted, turnedAway, replaced                       atomic.Uint64
	frames, bytes, acked, deferred                       atomic.Uint64
	rejectedChecksum, rejectedMalformed, rejectedStorage atomic.Uint64
	malformed, newerSchema, overWindow                   atomic.Uint64
	enrols, enrolsLimited, renewals                      atomic.Uint64
}

// liveOver counts the connections of a transport.
func (c *counters) liveOver(transport string) *atomic.Int64 {
	if transport == link.TransportQUIC {
		return &c.liveQUIC
	}
	return &c.liveTCP
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	c := &s.count
	q, t := c.liveQUIC.Load(), c.liveTCP.Load()
	return Stats{
		Live: q + t, LiveQUIC: q, LiveTCP: t, Bundles: c.bundles.Load(), OverQuota: c.overQuota.Load(), OverTenant: c.overTenant.Load(), Accepted: c.accepted.Load(), TurnedAway: c.turnedAway.Load(), Replaced: c.replaced.Load(),
		Frames: c.frames.Load(), Bytes: c.bytes.Load(), Acked: c.acked.Load(), Deferred: c.deferred.Load(),
		RejectedChecksum: c.rejectedChecksum.Load(), RejectedMalformed: c.rejectedMalformed.Load(), RejectedStorage: c.rejectedStorage.Load(),
		Malformed: c.malformed.Load(), NewerSchema: c.newerSchema.Load(), OverWindow: c.overWindow.Load(),
		Enrols: c.enrols.Load(), EnrolsLimited: c.enrolsLimited.Load(), Renewals: c.renewals.Load(),
	}
}
