package reflector

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pion/stun/v2"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"sidetone/shared/stamp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come: it never decides a result.
const patience = 20 * time.Second

// start runs a reflector until stop, or the end of the test. After stop its counters
// are final.
func start(t testing.TB, cfg Config) (r *Reflector, stop func()) {
	t.Helper()
	r, err := New(cfg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return r, stop
}

// port is a source address that belongs to the test, so that answers disturb nobody.
func port(t testing.TB, ip string) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(ip)})
	if err != nil {
		t.Skipf("no address %s here: %v", ip, err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

func dial(t testing.TB, r *Reflector) *net.UDPConn {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, r.Addr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func ask(t testing.TB, conn *net.UDPConn, request []byte) []byte {
	t.Helper()
	if _, err := conn.Write(request); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, maxPacket)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

func request(seq uint32, ssid uint16) []byte {
	return stamp.SenderPacket{Seq: seq, Timestamp: stamp.NTP(time.Now()), Error: stamp.UnknownError, SSID: ssid}.Append(nil)
}

func TestSTAMP(t *testing.T) {
	for name, ip := range map[string]string{"IPv4": "127.0.0.1", "IPv6": "::1"} {
		t.Run(name, func(t *testing.T) {
			port(t, ip) // skips when the family is missing
			r, stop := start(t, Config{Addr: net.JoinHostPort(ip, "0")})
			a, b := dial(t, r), dial(t, r)
			for i := range uint32(3) {
				for _, conn := range []*net.UDPConn{a, b} { // each a session of its own
					before := time.Now()
					req := request(10+2*i, 0)
					got := ask(t, conn, req)
					p, err := stamp.ParseReflector(got)
					if err != nil || len(got) != len(req) {
						t.Fatalf("%x: %v", got, err)
					}
					s, _ := stamp.ParseSender(req)
					if p.Seq != i || p.SenderSeq != s.Seq || p.SenderTimestamp != s.Timestamp || p.SenderError != s.Error {
						t.Errorf("%+v to %+v; want the reflector's number %d", p, s, i)
					}
					received, left := p.Received.NTPTime(before), p.Timestamp.NTPTime(before)
					if received.Before(before.Add(-time.Microsecond)) || left.Before(received) || left.After(time.Now()) {
						t.Errorf("received %s, left %s, asked at %s", received, left, before)
					}
					if p.SenderTTL != 64 && p.SenderTTL != stamp.UnknownTTL {
						t.Errorf("TTL %d", p.SenderTTL)
					}
				}
			}
			stop()
			if s := r.Stats(); s.STAMP != 6 || s.Received != 6 || s.Sessions != 2 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestSTUN(t *testing.T) {
	r, stop := start(t, Config{Addr: "127.0.0.1:0"})
	conn := dial(t, r)
	m := stun.MustBuild(stun.TransactionID, stun.BindingRequest)
	got := &stun.Message{Raw: ask(t, conn, m.Raw)}
	if err := got.Decode(); err != nil {
		t.Fatal(err)
	}
	var x stun.XORMappedAddress
	if err := x.GetFrom(got); err != nil || got.Type != stun.BindingSuccess || got.TransactionID != m.TransactionID {
		t.Fatalf("%v: %v", got, err)
	}
	if x.String() != conn.LocalAddr().String() {
		t.Errorf("mapped address %s, want %s", x.String(), conn.LocalAddr())
	}
	if len(got.Raw) > 32 {
		t.Errorf("%d octets answered to %d", len(got.Raw), len(m.Raw))
	}
	stop()
	if s := r.Stats(); s.STUN != 1 || s.STAMP != 0 {
		t.Errorf("%+v", s)
	}
}

// Packets given by hand: what gets no answer, and what is counted for it.
func TestNoAnswer(t *testing.T) {
	r, err := New(Config{Addr: "127.0.0.1:0"}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer r.conn.Close()
	user := port(t, "127.0.0.1")
	binding := stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw
	response := stun.MustBuild(stun.TransactionID, stun.BindingSuccess, &stun.XORMappedAddress{IP: net.IPv4(192, 0, 2, 1), Port: 1}).Raw
	broken := bytes.Clone(binding)
	broken = append(broken, 0, 1, 0xff, 0xff) // an attribute longer than the message
	broken[3] = 4
	cases := []struct {
		name string
		b    []byte
		src  netip.AddrPort
		want Stats
	}{
		{"empty", nil, user, Stats{Malformed: 1}},
		{"short", request(1, 0)[:stamp.MinPacketLen-1], user, Stats{Malformed: 1}},
		{"STUN response", response, user, Stats{Malformed: 1}},
		{"broken STUN", broken, user, Stats{Malformed: 1}},
		{"from DNS", request(1, 0), netip.MustParseAddrPort("127.0.0.1:53"), Stats{Refused: 1}},
		{"from another reflector at our port", request(1, 0), netip.AddrPortFrom(user.Addr(), r.port), Stats{Refused: 1}},
		{"STUN from a service", binding, netip.MustParseAddrPort("127.0.0.1:862"), Stats{Refused: 1}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			before := r.Stats()
			r.packet(c.b, nil, c.src, time.Now())
			after := r.Stats()
			got := Stats{Malformed: after.Malformed - before.Malformed, Refused: after.Refused - before.Refused,
				STAMP: after.STAMP - before.STAMP, STUN: after.STUN - before.STUN}
			if got != c.want || after.Received != before.Received+1 {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

func TestRateIsLimited(t *testing.T) {
	r, err := New(Config{Addr: "127.0.0.1:0", STAMPRate: 5, STUNRate: 3}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer r.conn.Close()
	now := time.Now()
	binding := stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw
	one, two, other := port(t, "127.0.0.1"), port(t, "127.0.0.1"), port(t, "127.0.0.2")
	for i := range 40 {
		src := []netip.AddrPort{one, two}[i%2] // another port does not help
		r.packet(request(1, 0), nil, src, now)
		r.packet(bytes.Clone(binding), nil, src, now)
	}
	if s := r.Stats(); s.STAMP != 10 || s.STUN != 6 || s.Limited != 64 {
		t.Errorf("%+v; want a burst of twice the rate", s)
	}
	r.packet(request(1, 0), nil, other, now)
	if s := r.Stats(); s.STAMP != 11 {
		t.Error("another source pays for the first")
	}
	for range 40 {
		r.packet(request(1, 0), nil, one, now.Add(time.Second))
	}
	if s := r.Stats(); s.STAMP != 16 {
		t.Errorf("%d answered; want 5 more after a second", s.STAMP)
	}
}

func TestLimiter(t *testing.T) {
	now := time.Unix(1000, 0)
	t.Run("an IPv6 network is one source", func(t *testing.T) {
		l := newLimiter(1, 10)
		n := 0
		for i := range 10 {
			a := netip.MustParseAddr("2001:db8::").As16()
			a[15] = byte(i)
			if l.allow(netip.AddrFrom16(a), now) {
				n++
			}
		}
		if n != 2 || len(l.m) != 1 {
			t.Errorf("%d allowed, %d sources", n, len(l.m))
		}
	})
	t.Run("the table is bounded and the worst stays in it", func(t *testing.T) {
		l := newLimiter(1, evictionSample)
		bad := netip.MustParseAddr("192.0.2.1")
		for range 5 {
			l.allow(bad, now)
		}
		for i := range 1000 {
			l.allow(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), now)
			if len(l.m) > evictionSample {
				t.Fatalf("%d sources", len(l.m))
			}
		}
		if l.allow(bad, now) {
			t.Error("a flood of other sources gave the worst one a new allowance")
		}
	})
}

func TestBadAddress(t *testing.T) {
	for _, addr := range []string{"nonsense", "127.0.0.1:99999"} {
		if _, err := New(Config{Addr: addr}, zerolog.Nop()); err == nil {
			t.Errorf("%s was accepted", addr)
		}
	}
}

func FuzzPacket(f *testing.F) {
	f.Add(request(1, 2))
	f.Add(stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw)
	f.Add([]byte{0, 1, 0, 4, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff})
	r, err := New(Config{Addr: "127.0.0.1:0", STAMPRate: 1e9, STUNRate: 1e9}, zerolog.Nop())
	if err != nil {
		f.Fatal(err)
	}
	defer r.conn.Close()
	src := port(f, "127.0.0.1")
	f.Fuzz(func(t *testing.T, b []byte) {
		before := r.Stats()
		r.packet(bytes.Clone(b), b, src, time.Unix(1000, 0))
		s := r.Stats()
		if sum := s.STAMP + s.STUN + s.Limited + s.Malformed + s.Refused + s.Failed; sum != s.Received || s.Received != before.Received+1 {
			t.Fatalf("%+v does not add up", s)
		}
	})
}

func BenchmarkSTAMP(b *testing.B) {
	r, _ := start(b, Config{Addr: "127.0.0.1:0", STAMPRate: 1e9})
	conn := dial(b, r)
	if err := conn.SetDeadline(time.Time{}); err != nil {
		b.Fatal(err)
	}
	req := request(1, 0)
	buf := make([]byte, maxPacket)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := conn.Write(req); err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}
