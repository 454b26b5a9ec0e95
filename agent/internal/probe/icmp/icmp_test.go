package icmp

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"net/netip"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"sidetone/agent/internal/probe"
	"sidetone/agent/internal/probe/probetest"
)

func TestLoopback(t *testing.T) {
	for name, addr := range map[string]string{"IPv4": "127.0.0.1", "IPv6": "::1"} {
		t.Run(name, func(t *testing.T) {
			sink := probetest.NewSink()
			s := probetest.Open(t, New, probe.Target{}, sink)
			dst := netip.AddrPortFrom(netip.MustParseAddr(addr), 0)
			for seq := range uint32(5) {
				a := probetest.Attempt(t, s, seq, dst, probetest.Patience)
				if a.Fault == probe.FaultPermission {
					t.Skipf("no ICMP socket here: %s", a.Detail)
				}
				if name == "IPv6" && a.Unsent {
					t.Skipf("no IPv6 here: %s", a.Detail)
				}
				if a.RTT <= 0 || a.RTT > probetest.Patience || a.Received.IsZero() {
					t.Fatalf("%+v", a)
				}
			}
			if l, d, f := sink.Counts(); l+d+f != 0 {
				t.Errorf("late %d, doubled %d, foreign %d", l, d, f)
			}
		})
	}
}

// Both kinds of sockets, whichever the machine prefers.
func TestKinds(t *testing.T) {
	for name, k := range map[string]kind{"raw": rawKind(false), "unprivileged": unprivilegedKind(false)} {
		t.Run(name, func(t *testing.T) {
			s, err := openKind(k, false, probetest.NewSink(), zerolog.Nop())
			if errors.Is(err, fs.ErrPermission) {
				t.Skipf("not permitted here: %v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			d := &driver{v4: family{sock: s}}
			defer d.Close()
			sess := &session{d: d, sink: s.sink}
			a := probetest.Attempt(t, sess, 0, netip.MustParseAddrPort("127.0.0.1:0"), probetest.Patience)
			if a.RTT <= 0 {
				t.Errorf("%+v", a)
			}
		})
	}
}

func TestPermissionIsToldOnce(t *testing.T) {
	lines := 0
	log := zerolog.New(countLines{&lines})
	denied := &fs.PathError{Op: "socket", Err: fs.ErrPermission}
	d := &driver{v4: family{log: log, openSocket: func() (*socket, error) { return nil, denied }}}
	s := &session{d: d, sink: probetest.NewSink()}
	for range 3 {
		a := probetest.Attempt(t, s, 0, netip.MustParseAddrPort("127.0.0.1:0"), time.Second)
		if a.Fault != probe.FaultPermission || !a.Unsent || a.RTT != 0 {
			t.Fatalf("%+v", a)
		}
	}
	if lines != 1 {
		t.Errorf("%d lines in the log, want 1", lines)
	}
}

type countLines struct{ n *int }

func (c countLines) Write(b []byte) (int, error) { *c.n++; return len(b), nil }

// A socket that is fed by hand: what a forger could send.
func TestForged(t *testing.T) {
	dst := netip.MustParseAddr("192.0.2.1")
	sink := probetest.NewSink()
	s := &socket{raw: true, id: 77, sink: sink}
	now := time.Now()
	fl := &probe.Flight{Sent: now, Check: 0xfeed, Req: probe.Request{Seq: 5, Dst: netip.AddrPortFrom(dst, 0), Deadline: now.Add(time.Hour)}}
	s.flights.Start(9, fl, sink)
	reply := func(id, seq uint16, nonce uint64) []byte {
		b := make([]byte, echoLen)
		putEcho(b, false, id, seq, nonce)
		b[0] = v4EchoReply
		return b
	}
	steps := []struct {
		name    string
		b       []byte
		from    string
		foreign int
	}{
		{"another program's", reply(78, 9, 0xfeed), "192.0.2.1", 0},
		{"wrong nonce", reply(77, 9, 0xbeef), "192.0.2.1", 1},
		{"wrong source", reply(77, 9, 0xfeed), "192.0.2.2", 2},
		{"wrong number", reply(77, 10, 0xfeed), "192.0.2.1", 3},
		{"cut short", reply(77, 9, 0xfeed)[:echoLen-1], "192.0.2.1", 3},
		{"header only", reply(77, 9, 0xfeed)[:headerLen], "192.0.2.1", 3},
		{"empty", nil, "192.0.2.1", 3},
		{"our own request on loopback", request(77, 9, 0xfeed), "192.0.2.1", 3},
	}
	for _, st := range steps {
		s.packet(st.b, netip.MustParseAddr(st.from), now.Add(time.Millisecond))
		if _, _, f := sink.Counts(); f != st.foreign {
			t.Errorf("%s: %d foreign, want %d", st.name, f, st.foreign)
		}
	}
	s.packet(reply(77, 9, 0xfeed), dst, now.Add(3*time.Millisecond))
	if a := s.flights.Wait(t.Context(), fl); a.RTT != 3*time.Millisecond {
		t.Errorf("the true answer gave %+v", a)
	}
}

func request(id, seq uint16, nonce uint64) []byte {
	b := make([]byte, echoLen)
	putEcho(b, false, id, seq, nonce)
	return b
}

func TestErrorsExplainLosses(t *testing.T) {
	dst := netip.MustParseAddr("192.0.2.1")
	quote := func(to netip.Addr, id, seq uint16) []byte {
		b := append([]byte{v4Unreachable, 1, 0, 0, 0, 0, 0, 0}, make([]byte, 20)...)
		ip := b[headerLen:]
		ip[0], ip[9] = 0x45, 1
		copy(ip[16:], to.AsSlice())
		return append(b, request(id, seq, 1)[:8]...) // routers quote 8 octets at least
	}
	cases := []struct {
		name string
		b    []byte
		want string
	}{
		{"ours", quote(dst, 77, 9), probe.FaultUnreachable},
		{"of another program", quote(dst, 78, 9), probe.FaultTimeout},
		{"about another host", quote(netip.MustParseAddr("192.0.2.9"), 77, 9), probe.FaultTimeout},
		{"cut short", quote(dst, 77, 9)[:30], probe.FaultTimeout},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := &socket{raw: true, id: 77, sink: probetest.NewSink()}
			now := time.Now()
			fl := &probe.Flight{Sent: now, Req: probe.Request{Dst: netip.AddrPortFrom(dst, 0), Deadline: now.Add(50 * time.Millisecond)}}
			s.flights.Start(9, fl, s.sink)
			s.packet(c.b, netip.MustParseAddr("198.51.100.1"), now)
			if a := s.flights.Wait(t.Context(), fl); a.Fault != c.want || a.RTT != 0 {
				t.Errorf("%+v, want %s", a, c.want)
			}
		})
	}
}

// RFC 1071, 3: the sum of 00 01 f2 03 f4 f5 f6 f7 is ddf2.
func TestChecksum(t *testing.T) {
	b := []byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}
	if got := checksum(b); got != ^uint16(0xddf2) {
		t.Errorf("%04x", got)
	}
	if echo := request(1, 2, 3); checksum(echo) != 0 {
		t.Error("the sum over a request must be zero")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(request(1, 2, 3), false)
	f.Add(append([]byte{v4Unreachable, 0, 0, 0, 0, 0, 0, 0, 0x4f}, make([]byte, 40)...), false)
	f.Add(append([]byte{v6TimeExceeded, 0, 0, 0, 0, 0, 0, 0, 0x60}, make([]byte, 60)...), true)
	f.Fuzz(func(t *testing.T, b []byte, v6 bool) {
		if m, ok := parse(b, v6); ok && m.fault == "" && m.seq != binary.BigEndian.Uint16(b[6:]) {
			t.Errorf("%+v", m)
		}
	})
}

func BenchmarkLoopback(b *testing.B) {
	s := probetest.Open(b, New, probe.Target{}, probetest.NewSink())
	dst := netip.MustParseAddrPort("127.0.0.1:0")
	if a := probetest.Attempt(b, s, 0, dst, probetest.Patience); a.RTT == 0 {
		b.Skip(a.Detail)
	}
	b.ReportAllocs()
	for i := uint32(1); b.Loop(); i++ {
		if a := probetest.Attempt(b, s, i, dst, probetest.Patience); a.RTT == 0 {
			b.Fatal(a)
		}
	}
}
