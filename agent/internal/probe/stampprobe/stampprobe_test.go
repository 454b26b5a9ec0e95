package stampprobe

import (
	"bytes"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"sidetone/agent/internal/probe"
	"sidetone/agent/internal/probe/probetest"
	"sidetone/shared/pathstats"
	"sidetone/shared/stamp"
	"sidetone/shared/telemetry"
)

// far is a reflector on loopback and the path to it in one: each packet is passed to
// decide, which says what becomes of it.
type far struct {
	conn   *net.UDPConn
	decide func(n int, answer []byte, send func([]byte)) // called in order; n counts from 0
	lose   func(n int) bool                              // on the way there

	mu   sync.Mutex // guards sent
	sent [][]byte
}

func startFar(t *testing.T, f *far) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	f.conn = conn
	done := make(chan struct{})
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	go func() {
		defer close(done)
		f.serve()
	}()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

func (f *far) serve() {
	sessions := stamp.NewSessions(0, 0)
	buf := make([]byte, 2048)
	for n := 0; ; n++ {
		size, src, err := f.conn.ReadFromUDPAddrPort(buf)
		at := time.Now()
		if err != nil {
			return
		}
		if f.lose != nil && f.lose(n) {
			continue
		}
		p, err := stamp.ParseSender(buf[:size])
		if err != nil {
			continue
		}
		f.mu.Lock()
		f.sent = append(f.sent, bytes.Clone(buf[:size]))
		f.mu.Unlock()
		seq := sessions.Next(stamp.SessionKey{Source: src, SSID: p.SSID}, at)
		answer, _ := stamp.Reflect(nil, buf[:size], at, 64, seq)
		stamp.SetTransmit(answer, time.Now())
		send := func(b []byte) { _, _ = f.conn.WriteToUDPAddrPort(b, src) }
		if f.decide != nil {
			f.decide(n, answer, send)
		} else {
			send(answer)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	f := &far{}
	dst := startFar(t, f)
	sink := probetest.NewSink()
	s := probetest.Open(t, New, probe.Target{}, sink)
	for seq := range uint32(5) {
		a := probetest.Attempt(t, s, seq, dst, probetest.Patience)
		if a.RTT <= 0 || a.Fault != "" {
			t.Fatalf("%+v", a)
		}
		far := a.Far
		if !far.Valid || !far.Timed || far.SenderSeq != seq+1 || far.Seq != seq || far.Session == 0 {
			t.Errorf("%+v", far)
		}
		// Both ends are this machine's clock: the two ways add up to the RTT, within
		// the resolution of the timestamps.
		if d := (far.Forward + far.Reverse - a.RTT).Abs(); d > time.Microsecond || far.Forward < -time.Millisecond {
			t.Errorf("forward %s, reverse %s, RTT %s", far.Forward, far.Reverse, a.RTT)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, b := range f.sent {
		if len(b) != stamp.PacketLen || !bytes.Equal(b[16:], make([]byte, 28)) {
			t.Errorf("packet %d is not the 44 octets of RFC 8762: %x", i, b)
		}
	}
}

// The residence time of the reflector is not the path's.
func TestReflectorDelayIsTakenOut(t *testing.T) {
	const stay = 300 * time.Millisecond
	f := &far{decide: func(_ int, answer []byte, send func([]byte)) {
		left := time.NewTimer(stay)
		<-left.C
		stamp.SetTransmit(answer, time.Now())
		send(answer)
	}}
	dst := startFar(t, f)
	s := probetest.Open(t, New, probe.Target{}, probetest.NewSink())
	start := time.Now()
	a := probetest.Attempt(t, s, 0, dst, probetest.Patience)
	if took := time.Since(start); a.RTT <= 0 || a.RTT > took-stay+time.Millisecond {
		t.Errorf("RTT %s of %s, of which the reflector took %s", a.RTT, took, stay)
	}
}

// Losses are put to the direction in which the relay made them.
func TestLossDirection(t *testing.T) {
	there := map[int]bool{2: true, 3: true, 7: true}
	back := map[int]bool{5: true, 8: true}
	for name, c := range map[string]struct {
		forward, reverse bool
		fwd, rev         uint32
	}{
		"there": {true, false, 3, 0},
		"back":  {false, true, 0, 2},
		"both":  {true, true, 3, 2},
	} {
		t.Run(name, func(t *testing.T) {
			f := &far{
				lose: func(n int) bool { return c.forward && there[n] },
				decide: func(n int, answer []byte, send func([]byte)) {
					if !c.reverse || !back[n] {
						send(answer)
					}
				},
			}
			dst := startFar(t, f)
			s := probetest.Open(t, New, probe.Target{}, probetest.NewSink())
			var attempts []pathstats.Attempt
			for seq := range uint32(12) {
				timeout := probetest.Patience
				if c.forward && there[int(seq)] || c.reverse && back[int(seq)] {
					timeout = 20 * time.Millisecond
				}
				a := probetest.Attempt(t, s, seq, dst, timeout)
				attempts = append(attempts, pathstats.Attempt{Seq: seq, RTT: a.RTT, Unsent: a.Unsent, Far: a.Far})
			}
			var calc pathstats.Calc
			var w telemetry.ProbeWindow
			calc.Window(attempts, nil, &w)
			if w.LostForward == nil || *w.LostForward != c.fwd || *w.LostReverse != c.rev || w.Lost != c.fwd+c.rev {
				t.Errorf("lost %d, forward %v, reverse %v; want %d, %d", w.Lost, w.LostForward, w.LostReverse, c.fwd, c.rev)
			}
		})
	}
}

func TestForgedLateAndDoubled(t *testing.T) {
	held := make(chan func(), 1)
	f := &far{decide: func(n int, answer []byte, send func([]byte)) {
		change := func(at int) []byte { b := bytes.Clone(answer); b[at]++; return b }
		switch n {
		case 0:
			for _, at := range []int{15, 27, 35} { // session identifier, number, timestamp
				send(change(at))
			}
			send(answer[:40])
			send(nil)
			send(answer)
			send(answer)
		case 1:
			held <- func() { send(answer) }
		}
	}}
	dst := startFar(t, f)
	sink := probetest.NewSink()
	s := probetest.Open(t, New, probe.Target{}, sink)
	if a := probetest.Attempt(t, s, 0, dst, probetest.Patience); a.RTT <= 0 {
		t.Errorf("%+v", a)
	}
	sink.Await(t, 0, 1, 5)
	if a := probetest.Attempt(t, s, 1, dst, 20*time.Millisecond); a.RTT != 0 || a.Fault != probe.FaultTimeout {
		t.Errorf("%+v", a)
	}
	(<-held)()
	sink.Await(t, 1, 1, 5)
}

func TestRefused(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	dst := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	conn.Close()
	s := probetest.Open(t, New, probe.Target{}, probetest.NewSink())
	for seq := range uint32(2) {
		a := probetest.Attempt(t, s, seq, dst, time.Second)
		if a.RTT != 0 || a.Fault != probe.FaultRefused || a.Unsent {
			t.Errorf("attempt %d: %+v", seq, a)
		}
	}
}

func TestNewAddressIsANewSession(t *testing.T) {
	s := probetest.Open(t, New, probe.Target{}, probetest.NewSink())
	one := probetest.Attempt(t, s, 0, startFar(t, &far{}), probetest.Patience)
	two := probetest.Attempt(t, s, 1, startFar(t, &far{}), probetest.Patience)
	if one.RTT <= 0 || two.RTT <= 0 || one.Far.Session == two.Far.Session || two.Far.SenderSeq != 1 {
		t.Errorf("%+v, then %+v", one, two)
	}
}

func TestClosed(t *testing.T) {
	s := probetest.Open(t, New, probe.Target{}, probetest.NewSink())
	s.Close()
	if a := probetest.Attempt(t, s, 0, netip.MustParseAddrPort("127.0.0.1:9"), time.Second); a.RTT != 0 || !a.Unsent {
		t.Errorf("%+v", a)
	}
}
