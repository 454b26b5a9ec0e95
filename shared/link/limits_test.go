package link

import (
	"net"
	"net/netip"
	"testing"

	"github.com/quic-go/quic-go"
)

func TestGate(t *testing.T) {
	g := newGate(4, 2)
	a, b, c := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	for _, s := range []struct {
		a    netip.Addr
		want verdict
	}{{a, entered}, {a, entered}, {a, addrFull}, {b, entered}, {c, entered}, {c, full}} {
		if got := g.enter(s.a); got != s.want {
			t.Errorf("enter %v = %d, want %d", s.a, got, s.want)
		}
	}
	if !g.crowded(a) || g.crowded(netip.Addr{}) {
		t.Error("crowded")
	}
	g.leave(b)
	if g.enter(a) != addrFull || g.enter(c) != entered || len(g.by) != 2 {
		t.Errorf("gate = %+v", g)
	}
}

func TestGateKey(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7:1":              "192.0.2.7",
		"[::ffff:192.0.2.7]:1":     "192.0.2.7",
		"[2001:db8:1:2:3:4:5:6]:1": "2001:db8:1:2::",
		"[fe80::1%lo]:1":           "fe80::",
	} {
		ap := netip.MustParseAddrPort(in)
		for _, r := range []net.Addr{net.UDPAddrFromAddrPort(ap), net.TCPAddrFromAddrPort(ap)} {
			if got := gateKey(r); got != netip.MustParseAddr(want) {
				t.Errorf("gateKey(%s) = %s, want %s", in, got, want)
			}
		}
	}
}

func TestWindowBudget(t *testing.T) {
	w := newWindowBudget(100)
	a, b := new(quic.Conn), new(quic.Conn)
	if w.grow(a, 1) {
		t.Error("a connection that is not open may grow")
	}
	w.open(a)
	w.open(b)
	if !w.grow(a, 60) || w.grow(b, 50) || !w.grow(b, 40) || w.inUse() != 100 {
		t.Errorf("in use: %d", w.inUse())
	}
	w.close(a)
	if w.grow(a, 1) || w.inUse() != 40 || !w.grow(b, 60) {
		t.Errorf("in use after a close: %d", w.inUse())
	}
	w.close(b)
	w.close(b)
	if w.inUse() != 0 || len(w.by) != 0 || w.denied.Load() != 3 {
		t.Errorf("budget = %d used, %d denied", w.inUse(), w.denied.Load())
	}
	if w.open(a); w.grow(a, 1<<63) {
		t.Error("overflow")
	}
}
