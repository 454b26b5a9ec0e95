package impair

// Direction is one way through a proxy.
type Direction int

// The two directions.
const (
	Up   Direction = iota // from whoever called the proxy to the far end
	Down                  // back
)

func (d Direction) String() string {
	if d == Up {
		return "up"
	}
	return "down"
}

// Reason is why a packet was dropped, or a TCP connection ended.
type Reason int

// The reasons.
const (
	forwarded     Reason = iota // not dropped
	DropLoss                    // Profile.Loss
	DropBurst                   // Profile.Bursts
	DropQueue                   // Profile.Queue was full
	DropMTU                     // Profile.MTU
	DropBlackhole               // Profile.Blackhole
	DropReject                  // Reject while it was under way
	DropTooLarge                // larger than the proxy's buffers
	DropMemory                  // the proxy held as much as it may
	DropFlows                   // as many flows, or connections, as there may be, or no socket for another
	DropSend                    // the socket did not take it, or nobody listens at the far end
	DropClosed                  // under way when the proxy closed
	DropCut                     // Profile.CutAfter, or Cut: a TCP connection was reset
	reasons
)

var reasonNames = [reasons]string{
	"forwarded", "loss", "burst", "queue", "mtu", "blackhole", "reject", "too_large", "memory", "flows", "send", "closed", "cut",
}

func (r Reason) String() string { return reasonNames[r] }

// Counters tell what one direction has done. TCP counts a piece of the stream as a packet.
type Counters struct {
	Packets, Bytes         uint64 // arrived
	SentPackets, SentBytes uint64 // passed on, with duplicates
	Duplicated, Reordered  uint64
	Dropped                [reasons]uint64 // by Reason; of TCP, connections
}

// Lost is all that was dropped, for any reason.
func (c *Counters) Lost() (n uint64) {
	for _, v := range c.Dropped {
		n += v
	}
	return n
}

// DroppedByName is Dropped without its zeros, for people.
func (c *Counters) DroppedByName() map[string]uint64 {
	m := make(map[string]uint64)
	for r, v := range c.Dropped {
		if v > 0 {
			m[Reason(r).String()] = v
		}
	}
	return m
}
