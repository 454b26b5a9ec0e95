package link

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/quic-go/quic-go"
)

// verdict is what a gate says to a new connection.
type verdict uint8

const (
	entered verdict = iota
	full
	addrFull
)

// gate counts connections, in all and for each remote address: an IPv4 address, or
// an IPv6 network of /64, which one person can have whole.
type gate struct {
	max, perAddr int

	mu   sync.Mutex
	live int                // guarded by mu
	by   map[netip.Addr]int // guarded by mu; at most live entries
}

func newGate(most, perAddr int) *gate {
	return &gate{max: most, perAddr: perAddr, by: map[netip.Addr]int{}}
}

func (g *gate) enter(a netip.Addr) verdict {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.live >= g.max:
		return full
	case g.by[a] >= g.perAddr:
		return addrFull
	}
	g.live++
	g.by[a]++
	return entered
}

func (g *gate) leave(a netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.live--
	if g.by[a]--; g.by[a] <= 0 {
		delete(g.by, a)
	}
}

// crowded tells whether the address holds half of what it may.
func (g *gate) crowded(a netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.by[a] >= (g.perAddr+1)/2
}

// gateKey is what a remote address is counted under.
func gateKey(remote net.Addr) netip.Addr {
	var ap netip.AddrPort
	switch r := remote.(type) {
	case *net.UDPAddr:
		ap = r.AddrPort()
	case *net.TCPAddr:
		ap = r.AddrPort()
	}
	a := ap.Addr().Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// windowBudget bounds by how much all receive windows together may grow over what
// each connection has at its beginning.
type windowBudget struct {
	max uint64

	mu     sync.Mutex
	used   uint64                // guarded by mu
	by     map[*quic.Conn]uint64 // guarded by mu; the connections that may grow
	denied atomic.Int64
}

func newWindowBudget(most uint64) *windowBudget {
	return &windowBudget{max: most, by: map[*quic.Conn]uint64{}}
}

func (w *windowBudget) open(c *quic.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.by[c] = 0
}

// grow is asked by the transport, which holds locks of the connection.
func (w *windowBudget) grow(c *quic.Conn, delta uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	have, open := w.by[c]
	if !open || delta > w.max-w.used {
		w.denied.Add(1)
		return false
	}
	w.used += delta
	w.by[c] = have + delta
	return true
}

func (w *windowBudget) close(c *quic.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.used -= w.by[c]
	delete(w.by, c)
}

func (w *windowBudget) inUse() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.used
}

// TransportStats counts the connections of one transport. Live is a state, the rest
// only grow.
type TransportStats struct {
	Live         int64 // connections now, handshakes included
	Accepted     int64 // given out by Accept
	Refused      int64 // over MaxConns
	RefusedAddr  int64 // over MaxConnsPerAddr
	Busy         int64 // over the internal queues
	Failed       int64 // no handshake, or one that was refused
	WithoutHello int64 // no stream in time
}

func (s TransportStats) plus(o TransportStats) TransportStats {
	return TransportStats{
		Live: s.Live + o.Live, Accepted: s.Accepted + o.Accepted, Refused: s.Refused + o.Refused,
		RefusedAddr: s.RefusedAddr + o.RefusedAddr, Busy: s.Busy + o.Busy, Failed: s.Failed + o.Failed,
		WithoutHello: s.WithoutHello + o.WithoutHello,
	}
}

// ListenStats is what a listener has done: the sums, and each transport.
type ListenStats struct {
	TransportStats
	QUIC, TCP TransportStats
	Retries   int64 // asked to prove the address first
	Others    int64 // TCP connections that were not for us (ShareTCP)
	// WindowBytes is by how much receive windows have grown now, WindowsDenied how
	// often one was not allowed to.
	WindowBytes   uint64
	WindowsDenied int64
}

// tally has the counters of one transport.
type tally struct {
	live, accepted, refused, refusedAddr, busy, failed, withoutHello atomic.Int64
}

func (t *tally) stats() TransportStats {
	return TransportStats{
		Live: t.live.Load(), Accepted: t.accepted.Load(), Refused: t.refused.Load(), RefusedAddr: t.refusedAddr.Load(),
		Busy: t.busy.Load(), Failed: t.failed.Load(), WithoutHello: t.withoutHello.Load(),
	}
}

// enter asks the gate and counts its answer.
func (t *tally) enter(g *gate, a netip.Addr) bool {
	switch g.enter(a) {
	case full:
		t.refused.Add(1)
	case addrFull:
		t.refusedAddr.Add(1)
	default:
		t.live.Add(1)
		return true
	}
	return false
}

func (t *tally) leave(g *gate, a netip.Addr) {
	g.leave(a)
	t.live.Add(-1)
}
