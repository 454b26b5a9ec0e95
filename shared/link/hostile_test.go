package link_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"sidetone/shared/certid"
	"sidetone/shared/link"
	"sidetone/shared/link/linktest"
	"sidetone/shared/wire"
)

// TestNATRebinding: the NAT gives the agent another port in mid-connection, and then
// another address; the connection goes on, and stays one.
func TestNATRebinding(t *testing.T) {
	t.Parallel()
	ctx, ca := limit(t), linktest.NewCA(t, "root")
	ln := ca.Listen("")
	path := linktest.NewPath(t, ln.Addr().String())
	a, err := link.Dial(ctx, link.DialConfig{Addr: path.Addr(), TLS: ca.Agent(agent, soon())})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.CloseWith(wire.CloseShutdown, "") }()
	if err := a.Send(ctx, wire.Hello{}); err != nil {
		t.Fatal(err)
	}
	c, err := ln.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Recv(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		if i == 2 {
			path.Move("127.0.0.2")
		} else {
			path.Rebind()
		}
		if err := a.Send(ctx, wire.Frame{Epoch: 1, Seq: uint64(i), Class: 1, Payload: make([]byte, 5000)}); err != nil {
			t.Fatal(err)
		}
		if msg, err := c.Recv(ctx); err != nil || msg.(*wire.Frame).Seq != uint64(i) {
			t.Fatalf("Recv = %v, %v", msg, err)
		}
		if err := c.Send(ctx, wire.Ack{Epoch: uint64(i)}); err != nil {
			t.Fatal(err)
		}
		if msg, err := a.Recv(ctx); err != nil || msg.(*wire.Ack).Epoch != uint64(i) {
			t.Fatalf("the answer after a rebinding: %v, %v", msg, err)
		}
		if got := c.RemoteAddr().String(); got != path.Seen() {
			t.Errorf("the collector sees %s, the agent is at %s", got, path.Seen())
		}
	}
	if s := ln.Stats(); s.Live != 1 || s.Accepted != 1 {
		t.Errorf("stats = %+v", s)
	}
}

// TestMTUBlackHole: a path that loses all packets over 1,280 bytes of IP carries a
// connection and large frames.
func TestMTUBlackHole(t *testing.T) {
	t.Parallel()
	ctx, ca := limit(t), linktest.NewCA(t, "root")
	ln := ca.Listen("")
	path := linktest.NewPath(t, ln.Addr().String())
	path.MaxSize(1280 - 28)
	a, err := link.Dial(ctx, link.DialConfig{Addr: path.Addr(), TLS: ca.Agent(agent, soon())})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.CloseWith(wire.CloseShutdown, "") }()
	const frames = 50
	go func() {
		for i := range uint64(frames) {
			if a.Send(ctx, wire.Frame{Epoch: 1, Seq: i, Class: 1, Payload: make([]byte, 20_000)}) != nil {
				return
			}
		}
	}()
	c, err := ln.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(frames) {
		if msg, err := c.Recv(ctx); err != nil || msg.(*wire.Frame).Seq != i {
			t.Fatalf("frame %d: %v", i, err)
		}
	}
	if path.Lost() == 0 {
		t.Error("no packet was too large: the test shows nothing")
	}
}

// TestConnectionsPerAddress: one address fills its share, and that of no other.
func TestConnectionsPerAddress(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{link.TransportQUIC, link.TransportTCP} {
		t.Run(transport, func(t *testing.T) {
			ctx, ca := limit(t), linktest.NewCA(t, "root")
			ln := ca.ListenWith(link.ListenConfig{MaxConnsPerAddr: 4})
			ectx, cancel := context.WithCancel(ctx)
			wait := echo(ectx, ln) // over TCP, who receives sees the end
			defer func() { cancel(); wait() }()
			var conns []*link.Conn
			for range 4 {
				c, err := link.Dial(ctx, link.DialConfig{Addr: ln.Addr().String(), Transport: transport, TLS: ca.Agent(agent, soon())})
				if err != nil {
					t.Fatal(err)
				}
				conns = append(conns, c)
			}
			c, err := link.Dial(ctx, link.DialConfig{Addr: ln.Addr().String(), Transport: transport, TLS: ca.Agent(agent, soon())})
			wantDial(t, c, err, link.KindRefused)
			// Both transports count together.
			c, err = link.Dial(ctx, link.DialConfig{Addr: ln.Addr().String(), Transport: link.TransportTCP, TLS: ca.Agent(agent, soon())})
			wantDial(t, c, err, link.KindRefused)
			if s := ln.Stats(); s.RefusedAddr < 2 || s.Refused != 0 || transport == link.TransportQUIC && s.Retries == 0 {
				t.Errorf("stats = %+v", s)
			}
			// Whoever goes makes room.
			_ = conns[0].CloseWith(wire.CloseShutdown, "")
			for {
				c, err = link.Dial(ctx, link.DialConfig{Addr: ln.Addr().String(), Transport: transport, TLS: ca.Agent(agent, soon())})
				if err == nil || ctx.Err() != nil {
					break
				}
			}
			if err != nil {
				t.Fatalf("no room after a connection has gone: %v", err)
			}
			for _, c := range append(conns, c) {
				_ = c.CloseWith(wire.CloseShutdown, "")
			}
		})
	}
}

// echo answers each frame of each connection until ctx ends.
func echo(ctx context.Context, ln *link.Listener) (wait func()) {
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept(ctx)
			if err != nil {
				return
			}
			all.Go(func() {
				for {
					msg, err := c.Recv(ctx)
					if err != nil {
						_ = c.CloseWith(wire.CloseShutdown, "")
						return
					}
					if f, ok := msg.(*wire.Frame); ok {
						_ = c.Send(ctx, wire.Ack{Epoch: f.Epoch, Ranges: []wire.Range{{From: f.Seq, To: f.Seq}}})
					}
				}
			})
		}
	})
	return all.Wait
}

// healthy exchanges frames until stop is closed, and gives the longest answer time.
func healthy(t *testing.T, ctx context.Context, a *link.Conn, stop <-chan struct{}) (frames int, worst time.Duration) {
	t.Helper()
	for seq := uint64(1); ; seq++ {
		select {
		case <-stop:
			return frames, worst
		default:
		}
		start := time.Now()
		if err := a.Send(ctx, wire.Frame{Epoch: 1, Seq: seq, Class: 1, Payload: make([]byte, 500)}); err != nil {
			t.Errorf("the healthy agent: send: %v", err)
			return frames, worst
		}
		if _, err := a.Recv(ctx); err != nil {
			t.Errorf("the healthy agent: receive: %v", err)
			return frames, worst
		}
		worst = max(worst, time.Since(start))
		frames++
	}
}

func soak(short, long int) int {
	if os.Getenv("SIDETONE_SOAK") == "1" {
		return long
	}
	return short
}

// TestSlowClients: clients that say nothing, half a ClientHello, or half a message
// hold no place that others need, and an agent beside them is served on.
func TestSlowClients(t *testing.T) {
	ctx, ca := limit(t), linktest.NewCA(t, "root")
	ln := ca.ListenWith(link.ListenConfig{})
	ectx, cancel := context.WithCancel(ctx)
	wait := echo(ectx, ln)
	defer func() { cancel(); wait() }()
	addr := ln.Addr().String()

	n := soak(200, 1000)
	id := ca.Agent(agent, soon())
	var slow []interface{ Close() error }
	for i := range n / 2 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		slow = append(slow, c)
		if i%2 == 0 {
			_, _ = c.Write([]byte{22, 3, 1, 2, 0, 1, 0, 1, 252}) // a ClientHello begins
		}
	}
	for i := range n / 2 {
		transport := link.TransportTCP
		if i%2 == 0 {
			transport = link.TransportQUIC
		}
		c, err := link.Dial(ctx, link.DialConfig{Addr: addr, Transport: transport, TLS: id})
		if err != nil {
			t.Fatalf("slow client %d: %v", i, err)
		}
		slow = append(slow, closer{c})
		if err := c.WriteRaw([]byte{0, 0, 4}); err != nil {
			t.Fatal(err)
		}
	}
	for _, transport := range []string{link.TransportQUIC, link.TransportTCP} {
		a, err := link.Dial(ctx, link.DialConfig{Addr: addr, Transport: transport, TLS: id})
		if err != nil {
			t.Fatalf("over %s beside %d slow clients: %v", transport, n, err)
		}
		stop := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(stop) })
		frames, worst := healthy(t, ctx, a, stop)
		t.Logf("%s: %d frames beside %d slow clients, the slowest answer took %v", transport, frames, n, worst)
		if frames < 10 || worst > 2*time.Second {
			t.Errorf("%s: %d frames, the slowest took %v", transport, frames, worst)
		}
		_ = a.CloseWith(wire.CloseShutdown, "")
	}
	var all sync.WaitGroup
	for _, c := range slow {
		all.Go(func() { _ = c.Close() })
	}
	all.Wait()
	if s := ln.Stats(); s.Busy != 0 {
		t.Errorf("stats = %+v", s)
	}
}

type closer struct{ c *link.Conn }

func (c closer) Close() error { c.c.CutOff(); return nil }

// TestTCPHalfOpenIsBounded: a flood of connections that say nothing is bounded, is
// closed in time, and does not touch QUIC.
func TestTCPHalfOpenIsBounded(t *testing.T) {
	t.Parallel()
	ctx, ca := limit(t), linktest.NewCA(t, "root")
	ln := ca.Listen("")
	var flood []net.Conn
	defer func() {
		for _, c := range flood {
			c.Close()
		}
	}()
	for range 700 { // one address may have 512
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		flood = append(flood, c)
	}
	a, err := link.Dial(ctx, link.DialConfig{Addr: ln.Addr().String(), TLS: ca.Agent(agent, soon())})
	if err != nil {
		t.Fatalf("QUIC beside a flood of TCP: %v", err)
	}
	_ = a.CloseWith(wire.CloseShutdown, "")
	_ = flood[0].SetReadDeadline(time.Now().Add(20 * time.Second))
	start := time.Now()
	if _, err := flood[0].Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) || err == nil {
		t.Errorf("a silent connection is still open after %v: %v", time.Since(start), err)
	}
	s := ln.Stats()
	if s.TCP.Busy < 700-512 || s.TCP.Live > 512 {
		t.Errorf("stats = %+v", s)
	}
}

// TestInitialFlood: thousands of first packets of clients that never go on make the
// listener ask for proof of address; a connection that is there works on.
func TestInitialFlood(t *testing.T) {
	ctx, ca := limit(t), linktest.NewCA(t, "root")
	ln := ca.ListenWith(link.ListenConfig{HandshakesPerSecond: 50})
	ectx, cancel := context.WithCancel(ctx)
	wait := echo(ectx, ln)
	defer func() { cancel(); wait() }()
	a, err := link.Dial(ctx, link.DialConfig{Addr: ln.Addr().String(), TLS: ca.Agent(agent, soon())})
	if err != nil {
		t.Fatal(err)
	}
	initial := firstInitial(t, ca)
	stop, flooded := make(chan struct{}), make(chan error, 1)
	n := soak(3000, 50_000)
	go func() {
		defer close(stop)
		flooded <- flood(ln.Addr().String(), initial, n)
	}()
	frames, worst := healthy(t, ctx, a, stop)
	if err := <-flooded; err != nil {
		t.Fatal(err)
	}
	s := ln.Stats()
	t.Logf("%d Initials: %d answered with Retry, %d half open; %d frames beside it, the slowest took %v", n, s.Retries, s.QUIC.Live, frames, worst)
	if s.Retries == 0 || s.QUIC.Live > 1000 || frames == 0 {
		t.Errorf("stats = %+v, %d frames", s, frames)
	}
	b, err := link.Dial(ctx, link.DialConfig{Addr: ln.Addr().String(), TLS: ca.Agent(certid.ID{Tenant: 1, Agent: 9, Generation: 1}, soon())})
	if err != nil {
		t.Fatalf("a new agent under the flood: %v", err)
	}
	_ = b.CloseWith(wire.CloseShutdown, "")
	_ = a.CloseWith(wire.CloseShutdown, "")
}

// firstInitial is the first packet of a real client.
func firstInitial(t *testing.T, ca *linktest.CA) []byte {
	t.Helper()
	hole, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = link.Dial(ctx, link.DialConfig{Addr: hole.LocalAddr().String(), TLS: ca.Agent(agent, soon())})
	}()
	defer func() { cancel(); <-done }()
	_ = hole.SetReadDeadline(time.Now().Add(10 * time.Second))
	for buf := make([]byte, 2048); ; {
		n, _, err := hole.ReadFromUDP(buf)
		if err != nil {
			t.Fatal(err)
		}
		if n >= 1200 {
			return append([]byte(nil), buf[:n]...)
		}
	}
}

// flood sends the packet n times from many ports. Each port is a client of its own to
// the listener; the packet's own ids do not matter, for nothing answers.
func flood(addr string, packet []byte, n int) error {
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return err
	}
	for i := range n {
		c, err := net.DialUDP("udp4", nil, to)
		if err != nil {
			return fmt.Errorf("flood: %w", err)
		}
		// Another destination connection id makes it another connection; the packet's
		// protection does not fit then, but that is found out after the admission.
		p := append([]byte(nil), packet...)
		p[6], p[7], p[8] = byte(i), byte(i>>8), byte(i>>16)
		_, err = c.Write(p)
		c.Close()
		if err != nil {
			return fmt.Errorf("flood: %w", err)
		}
	}
	return nil
}

// TestWindowsAreBounded: with no budget, windows stay at their first size, and frames
// arrive all the same.
func TestWindowsAreBounded(t *testing.T) {
	t.Parallel()
	for name, budget := range map[string]uint64{"none": 1, "default": 0} {
		t.Run(name, func(t *testing.T) {
			ctx, ca := limit(t), linktest.NewCA(t, "root")
			ln := ca.ListenWith(link.ListenConfig{MaxWindowBytes: budget})
			a, err := link.Dial(ctx, link.DialConfig{Addr: ln.Addr().String(), TLS: ca.Agent(agent, soon())})
			if err != nil {
				t.Fatal(err)
			}
			const frames = 60
			go func() {
				for i := range uint64(frames) {
					if a.Send(ctx, wire.Frame{Epoch: 1, Seq: i, Class: 1, Payload: make([]byte, 250_000)}) != nil {
						return
					}
				}
			}()
			c, err := ln.Accept(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for range frames {
				if _, err := c.Recv(ctx); err != nil {
					t.Fatal(err)
				}
			}
			s := ln.Stats()
			if budget == 1 && (s.WindowBytes > 1 || s.WindowsDenied == 0) || budget == 0 && (s.WindowsDenied != 0 || s.WindowBytes == 0) {
				t.Errorf("stats = %+v", s)
			}
			_ = a.CloseWith(wire.CloseShutdown, "")
			for ln.Stats().WindowBytes != 0 { // given back with the connection
				if ctx.Err() != nil {
					t.Fatal("a connection that ended keeps its share of the windows")
				}
				_, _ = c.Recv(ctx)
			}
		})
	}
}
