package uplink

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"sidetone/shared/certid"
	"sidetone/shared/link"
	"sidetone/shared/link/linktest"
	"sidetone/shared/telemetry"
	"sidetone/shared/wire"
)

// TestFirewallsOverSockets plays the five firewalls over real sockets: the real link,
// through real things in the middle.
func TestFirewallsOverSockets(t *testing.T) {
	for _, c := range []struct {
		name   string
		wall   func(*realSite)
		proxy  bool
		want   string
		reason string
	}{
		{"drop UDP", func(s *realSite) { s.udp.Down(true) }, false, link.TransportTCP, "on TCP: QUIC black-holed (no answer on UDP)"},
		{"reject UDP", func(s *realSite) { s.set(link.TransportQUIC, closedPort) }, false, link.TransportTCP, "on TCP: QUIC rejected"},
		{"QUIC only", func(s *realSite) { s.set(link.TransportTCP, closedPort) }, false, link.TransportQUIC, ""},
		{"proxy only", func(s *realSite) {
			s.udp.Down(true)
			s.set(link.TransportTCP, linktest.Reject(s.t))
		}, true, link.TransportProxy, "on the proxy: QUIC black-holed (no answer on UDP); TCP rejected"},
		{"TLS inspection", func(s *realSite) {
			s.udp.Down(true)
			s.set(link.TransportTCP, linktest.NewCA(s.t, "Corp Inspection").Inspect(s.far))
		}, false, "", `intercepted by "CN=Corp Inspection" on every way`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newRealSite(t)
			c.wall(s)
			s.start(c.proxy)
			s.q.put(50, wire.ClassSample, 500, time.Now())
			if c.want == "" {
				s.await("refused", func() bool { return s.told("refused", c.reason) })
			} else {
				s.await("connected", func() bool { st := s.up.State(); return st.Transport == c.want && st.Reason == c.reason })
				s.await("records arrived", func() bool { return s.q.waits() == 0 })
			}
			s.q.put(50, wire.ClassSample, 500, time.Now())
			// The firewall opens, and the machine's address changes: that is a reason to try.
			s.udp.Down(false)
			s.set(link.TransportQUIC, s.udp.Addr())
			s.set(link.TransportTCP, s.far)
			s.up.roamed <- struct{}{}
			s.await("back on QUIC", func() bool { st := s.up.State(); return st.Transport == link.TransportQUIC && st.Reason == "" })
			s.await("all records arrived", func() bool { return s.q.waits() == 0 })
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(s.stored) != 100 {
				t.Errorf("%d of 100 records arrived", len(s.stored))
			}
		})
	}
}

const closedPort = "127.0.0.1:1"

// realSite is an uplink and a collector with things between them, all over sockets.
type realSite struct {
	t     *testing.T
	far   string // the collector's own address
	udp   *linktest.Path
	proxy *linktest.Proxy
	ca    *linktest.CA
	q     *queue
	up    *Uplink

	mu     sync.Mutex
	addrs  map[string]string // what to dial over each transport; guarded by mu
	stored map[uint64]bool   // guarded by mu
	events []telemetry.LinkEvent
}

func newRealSite(t *testing.T) *realSite {
	ca := linktest.NewCA(t, "root")
	ln := ca.Listen("")
	s := &realSite{t: t, ca: ca, far: ln.Addr().String(), q: newQueue(), stored: map[uint64]bool{}, proxy: linktest.NewProxy(t, nil)}
	s.udp = linktest.NewPath(t, s.far)
	s.addrs = map[string]string{link.TransportQUIC: s.udp.Addr(), link.TransportTCP: s.far, link.TransportProxy: s.far}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.collect(ctx, ln, &wg) })
	t.Cleanup(func() {
		cancel()
		_ = ln.Close()
		wg.Wait()
	})
	return s
}

func (s *realSite) set(transport, addr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addrs[transport] = addr
}

// collect is the collector: it stores all, and lets the newest connection win.
func (s *realSite) collect(ctx context.Context, ln *link.Listener, wg *sync.WaitGroup) {
	var former *link.Conn
	for {
		conn, err := ln.Accept(ctx)
		if err != nil {
			return
		}
		wg.Go(func() {
			for {
				msg, err := conn.Recv(ctx)
				if err != nil {
					_ = conn.CloseWith(wire.CloseShutdown, "")
					return
				}
				switch m := msg.(type) {
				case *wire.Hello:
					s.mu.Lock()
					old := former
					former = conn
					s.mu.Unlock()
					if old != nil {
						_ = old.CloseWith(wire.CloseReplaced, "")
					}
					_ = conn.Send(ctx, wire.Welcome{Capability: wire.Capability, Version: "9.9", Window: 256})
				case *wire.Ping:
					_ = conn.Send(ctx, wire.Pong{Number: m.Number})
				case *wire.Frame:
					s.store(ctx, conn, []wire.Frame{*m})
				case *wire.Bundle:
					frames, err := m.Frames()
					if err != nil {
						s.t.Error(err)
					}
					s.store(ctx, conn, frames)
				}
			}
		})
	}
}

func (s *realSite) store(ctx context.Context, conn *link.Conn, frames []wire.Frame) {
	for _, f := range frames {
		s.mu.Lock()
		s.stored[f.Seq] = true
		s.mu.Unlock()
		_ = conn.Send(ctx, wire.Ack{Epoch: f.Epoch, Ranges: []wire.Range{{From: f.Seq, To: f.Seq}}})
	}
}

func (s *realSite) start(proxy bool) {
	cfg := Config{Addr: s.far, Proxy: ProxyNone}
	if proxy {
		cfg.Proxy = s.proxy.URL(nil).String()
	}
	id := &identity{tls: s.ca.Agent(certid.ID{Tenant: 1, Agent: 2}, time.Now().Add(time.Hour))}
	s.up = New(cfg, Deps{
		Spool: s.q, Identity: id, Log: zerolog.Nop(), LocalAddr: func() string { return "127.0.0.1" },
		Events: func(e telemetry.LinkEvent) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.events = append(s.events, e)
		},
		Dial: func(ctx context.Context, transport string, proxy *url.URL) (Conn, error) {
			s.mu.Lock()
			addr := s.addrs[transport]
			s.mu.Unlock()
			conn, err := link.Dial(ctx, link.DialConfig{Addr: addr, Transport: transport, Proxy: proxy, TLS: id.TLS(), Log: zerolog.Nop()})
			if err != nil {
				return nil, err
			}
			return conn, nil
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.up.Run(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
}

func (s *realSite) told(event, reason string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		if e.Event == event && strings.HasPrefix(e.Reason, reason) {
			return true
		}
	}
	return false
}

func (s *realSite) await(what string, ok func() bool) {
	s.t.Helper()
	tick, over := time.NewTicker(10*time.Millisecond), time.After(45*time.Second)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-over:
			s.mu.Lock()
			defer s.mu.Unlock()
			s.t.Fatalf("not in time: %s; state %+v, events %+v", what, s.up.State(), s.events)
		}
	}
}

// TestLocalAddr finds the address of the interface, and sends nothing.
func TestLocalAddr(t *testing.T) {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if got := localAddr(c.LocalAddr().String()); got != "127.0.0.1" {
		t.Errorf("localAddr = %q", got)
	}
	// By name: the way out, which a machine without network does not have.
	byName := localAddr("collector.invalid:443")
	if _, err := netip.ParseAddr(byName); byName != "" && err != nil {
		t.Errorf("localAddr = %q", byName)
	}
	if byName != localAddr("no port") {
		t.Error("a name was looked up")
	}
}
