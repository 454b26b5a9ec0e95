package impair

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

const patience = 30 * time.Second

// echo answers every datagram and tells from where each came.
func echo(t *testing.T) (addr string, from <-chan netip.AddrPort) {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ch := make(chan netip.AddrPort, 100_000)
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 65536)
		for {
			n, a, err := c.ReadFromUDPAddrPort(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				ch <- a
				_, _ = c.WriteToUDPAddrPort(buf[:n], a)
			}
		}
	})
	t.Cleanup(func() { _ = c.Close(); wg.Wait() })
	return c.LocalAddr().String(), ch
}

func udp(t *testing.T, cfg UDPConfig) *UDP {
	t.Helper()
	cfg.Listen = "127.0.0.1:0"
	u, err := ListenUDP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	})
	return u
}

func caller(t *testing.T, u *UDP) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(u.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

func send(t *testing.T, c *net.UDPConn, n uint32, size int) {
	t.Helper()
	b := make([]byte, size)
	binary.BigEndian.PutUint32(b, n)
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

func recv(t *testing.T, c *net.UDPConn) uint32 {
	t.Helper()
	b := make([]byte, 65536)
	n, err := c.Read(b)
	if err != nil || n < 4 {
		t.Fatalf("no answer: %v (%d bytes)", err, n)
	}
	return binary.BigEndian.Uint32(b)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func TestUDPDelay(t *testing.T) {
	far, _ := echo(t)
	u := udp(t, UDPConfig{To: far, Up: Profile{Delay: 20 * time.Millisecond}, Down: Profile{Delay: 10 * time.Millisecond}})
	c := caller(t, u)
	var took []time.Duration
	for i := range uint32(40) {
		begun := time.Now()
		send(t, c, i, 100)
		if n := recv(t, c); n != i {
			t.Fatalf("answer %d to packet %d", n, i)
		}
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	if took[0] < 30*time.Millisecond {
		t.Errorf("the shortest round trip is %v, less than the delay", took[0])
	}
	t.Logf("added to 30 ms: shortest %v, median %v, longest %v", took[0]-30e6, took[20]-30e6, took[39]-30e6)
	if took[0] > 200*time.Millisecond { // loose: the machine may be busy
		t.Errorf("the shortest round trip is %v", took[0])
	}
	eventually(t, "counted", func() bool { return u.Counters(Down).SentPackets == 40 })
	if a, b := u.Counters(Up), u.Counters(Down); a.Packets != 40 || a.SentBytes != 4000 || b.SentPackets != 40 || a.Lost()+b.Lost() != 0 {
		t.Errorf("counted %+v, %+v", a, b)
	}
}

func TestUDPLossDuplicatesAndCounters(t *testing.T) {
	far, from := echo(t)
	u := udp(t, UDPConfig{To: far, Seed: 4, Up: Profile{Loss: 0.2, Duplicate: 0.1, MTU: 1280}})
	c := caller(t, u)
	const n = 1000
	for i := range uint32(n) {
		send(t, c, i, 4+int(i%2)*1249) // IP packets of 32 and of 1281 bytes
		eventually(t, "packet taken", func() bool { return u.Counters(Up).Packets == uint64(i)+1 })
	}
	up := u.Counters(Up)
	eventually(t, "all passed on", func() bool {
		up = u.Counters(Up)
		return up.SentPackets == up.Packets+up.Duplicated-up.Lost()
	})
	within(t, "lost", int(up.Dropped[DropLoss]), n/2, 0.2)
	within(t, "twice", int(up.Duplicated), n/2-int(up.Dropped[DropLoss]), 0.1)
	if up.Dropped[DropMTU] != n/2 {
		t.Errorf("%d packets were too large, want %d", up.Dropped[DropMTU], n/2)
	}
	eventually(t, "the far end has them", func() bool { return len(from) == int(up.SentPackets) })
	if m := up.DroppedByName(); len(m) != 2 || m["mtu"] != n/2 {
		t.Errorf("by name: %v", m)
	}
}

func TestUDPRebind(t *testing.T) {
	far, from := echo(t)
	u := udp(t, UDPConfig{To: far})
	a, b := caller(t, u), caller(t, u)
	port := func(c *net.UDPConn, n uint32) netip.AddrPort {
		send(t, c, n, 64)
		if got := recv(t, c); got != n {
			t.Fatalf("answer %d to packet %d", got, n)
		}
		return <-from
	}
	a1, b1 := port(a, 1), port(b, 2)
	if a1 == b1 || u.Flows() != 2 || port(a, 3) != a1 {
		t.Fatalf("flows are not apart: %v %v, %d", a1, b1, u.Flows())
	}
	if err := u.Rebind(); err != nil {
		t.Fatal(err)
	}
	if a2, b2 := port(a, 4), port(b, 5); a2 == a1 || b2 == b1 || a2 == b2 {
		t.Errorf("after rebinding: %v → %v, %v → %v", a1, a2, b1, b2)
	}
	if u.Flows() != 2 {
		t.Errorf("%d flows", u.Flows())
	}
}

func TestUDPReject(t *testing.T) {
	far, _ := echo(t)
	u := udp(t, UDPConfig{To: far, Down: Profile{Delay: time.Millisecond}})
	c := caller(t, u)
	send(t, c, 1, 64)
	recv(t, c)
	if err := u.Reject(true); err != nil {
		t.Fatal(err)
	}
	send(t, c, 2, 64)
	if _, err := c.Read(make([]byte, 100)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a closed port answers with %v, want refused", err)
	}
	if err := u.Reject(false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "open again", func() bool {
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		_, _ = c.Write([]byte("3 again"))
		n, err := c.Read(make([]byte, 100))
		return err == nil && n == 7
	})
}

func TestUDPBlackholeWhileRunning(t *testing.T) {
	far, from := echo(t)
	u := udp(t, UDPConfig{To: far})
	c := caller(t, u)
	send(t, c, 1, 64)
	recv(t, c)
	if err := u.SetProfile(Down, Profile{Blackhole: true}); err != nil {
		t.Fatal(err)
	}
	for i := range uint32(5) {
		send(t, c, i, 64)
	}
	eventually(t, "answers vanished", func() bool { return u.Counters(Down).Dropped[DropBlackhole] == 5 })
	if len(from) != 6 {
		t.Errorf("the far end got %d packets, want 6", len(from))
	}
	if err := u.SetProfile(Down, Profile{}); err != nil {
		t.Fatal(err)
	}
	send(t, c, 99, 64)
	if n := recv(t, c); n != 99 {
		t.Errorf("answer %d, want 99", n)
	}
	if err := u.SetProfile(Down, Profile{Loss: 2}); err == nil || u.Profile(Down) != (Profile{}) {
		t.Errorf("a wrong profile was taken: %v", err)
	}
}

func TestUDPBounds(t *testing.T) {
	far, _ := echo(t)
	u := udp(t, UDPConfig{To: far, MaxPacket: 1000, MaxBytes: 20 * 1001, MaxFlows: 2, Up: Profile{Delay: time.Minute}})
	a, b, c := caller(t, u), caller(t, u), caller(t, u)
	send(t, a, 1, 1001)
	eventually(t, "too large", func() bool { return u.Counters(Up).Dropped[DropTooLarge] == 1 })
	for i := range uint32(30) {
		send(t, a, i, 1000)
		eventually(t, "taken", func() bool { return u.Counters(Up).Packets == uint64(i)+2 })
	}
	if d := u.Counters(Up).Dropped[DropMemory]; d != 10 {
		t.Errorf("%d packets found no memory, want 10 of 30", d)
	}
	send(t, b, 1, 100)
	send(t, c, 1, 100)
	eventually(t, "third flow", func() bool { return u.Counters(Up).Dropped[DropFlows] == 1 })
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	if up := u.Counters(Up); up.Dropped[DropClosed] != 20 || up.Packets != up.Lost() {
		t.Errorf("not all is accounted for: %+v", up)
	}
	if u.Rebind() == nil || u.Reject(true) == nil {
		t.Error("a closed proxy does as it is told")
	}
}

func TestUDPForgetsIdleFlows(t *testing.T) {
	far, _ := echo(t)
	u := udp(t, UDPConfig{To: far, Idle: 50 * time.Millisecond})
	c := caller(t, u)
	send(t, c, 1, 64)
	recv(t, c)
	eventually(t, "forgotten", func() bool { return u.Flows() == 0 })
	send(t, c, 2, 64)
	recv(t, c)
}

func TestUDPFarEndGone(t *testing.T) {
	gone, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	addr := gone.LocalAddr().(*net.UDPAddr)
	_ = gone.Close()
	u := udp(t, UDPConfig{To: addr.String()})
	c := caller(t, u)
	for i := range uint32(20) {
		send(t, c, i, 64)
	}
	eventually(t, "tried", func() bool { up := u.Counters(Up); return up.SentPackets+up.Lost() == 20 })
	back, err := net.ListenUDP("udp", addr)
	if err != nil {
		t.Skipf("the port was taken meanwhile: %v", err)
	}
	defer back.Close()
	_ = back.SetReadDeadline(time.Now().Add(patience))
	send(t, c, 77, 64)
	b := make([]byte, 100)
	if _, _, err := back.ReadFromUDP(b); err != nil || binary.BigEndian.Uint32(b) != 77 {
		t.Errorf("the first packet after the far end came back is lost: %v", err)
	}
}

func BenchmarkUDP(b *testing.B) {
	far, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	defer far.Close()
	u, err := ListenUDP(UDPConfig{Listen: "127.0.0.1:0", To: far.LocalAddr().String(), Up: Profile{Loss: 0.01, Jitter: time.Microsecond}})
	if err != nil {
		b.Fatal(err)
	}
	defer u.Close()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(u.Addr()))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	payload := make([]byte, 1200)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(payload); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(u.Counters(Up).SentPackets)/float64(b.N), "passed/op")
}
