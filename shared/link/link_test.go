package link_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sidetone/shared/certid"
	"sidetone/shared/link"
	"sidetone/shared/link/linktest"
	"sidetone/shared/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var agent = certid.ID{Tenant: 1, Agent: 2, Generation: 3}

// limit bounds a test that hangs; no test waits for it.
func limit(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func soon() time.Time { return time.Now().Add(time.Hour) }

// dialOver is how the agent of a test connects.
func dialOver(t *testing.T, transport, addr string, tlsc *tls.Config) (*link.Conn, error) {
	t.Helper()
	cfg := link.DialConfig{Addr: addr, Transport: transport, TLS: tlsc}
	if transport == link.TransportProxy {
		p := linktest.NewProxy(t, nil)
		p.Set(func(r *linktest.ProxyRules) { r.User, r.Password = "site", "se:cret" })
		cfg.Proxy = p.URL(url.UserPassword("site", "se:cret"))
	}
	return link.Dial(limit(t), cfg)
}

// pair gives both ends of one connection; the agent has said hello.
func pair(t *testing.T, transport string) (agentSide, collectorSide *link.Conn) {
	t.Helper()
	ctx, ca := limit(t), linktest.NewCA(t, "root")
	ln := ca.Listen("")
	a, err := dialOver(t, transport, ln.Addr().String(), ca.Agent(agent, soon()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.CloseWith(wire.CloseShutdown, "test over") })
	if err := a.Send(ctx, wire.Hello{Capability: 1, Version: "t"}); err != nil {
		t.Fatal(err)
	}
	c, err := ln.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if msg, err := c.Recv(ctx); err != nil || msg.(*wire.Hello).Version != "t" {
		t.Fatalf("Recv = %v, %v", msg, err)
	}
	return a, c
}

// onAll runs a test over each transport: they behave alike.
func onAll(t *testing.T, f func(t *testing.T, transport string)) {
	for _, transport := range []string{link.TransportQUIC, link.TransportTCP, link.TransportProxy} {
		t.Run(transport, func(t *testing.T) { f(t, transport) })
	}
}

func TestMessagesBothWays(t *testing.T) { onAll(t, testMessagesBothWays) }

func testMessagesBothWays(t *testing.T, transport string) {
	ctx := limit(t)
	a, c := pair(t, transport)
	if id, err := certid.FromCert(c.PeerCert()); err != nil || id != agent {
		t.Errorf("peer is %v, %v; want %v", id, err, agent)
	}
	if c.ALPN() != wire.ALPNLink || a.ALPN() != wire.ALPNLink || a.Transport() != transport {
		t.Errorf("ALPN %s and %s over %s", c.ALPN(), a.ALPN(), a.Transport())
	}
	// Many senders at once, with frames larger than any buffer: none may be torn.
	const senders, each = 4, 20
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				f := wire.Frame{Epoch: uint64(s), Seq: uint64(i), Class: wire.ClassSample, Payload: []byte(strings.Repeat(string(rune('a'+s)), 1000*(i+1)))}
				if err := a.Send(ctx, f); err != nil {
					t.Errorf("send: %v", err)
				}
			}
		})
	}
	next := map[uint64]uint64{}
	for range senders * each {
		msg, err := c.Recv(ctx)
		if err != nil {
			t.Fatal(err)
		}
		f := msg.(*wire.Frame)
		if f.Seq != next[f.Epoch] || len(f.Payload) != 1000*int(f.Seq+1) || strings.Trim(string(f.Payload), string(rune('a'+f.Epoch))) != "" {
			t.Fatalf("frame %d of sender %d is torn or out of order", f.Seq, f.Epoch)
		}
		next[f.Epoch]++
	}
	wg.Wait()
	if err := c.Send(ctx, &wire.Ack{Epoch: 1, Ranges: []wire.Range{{From: 1, To: 5}}}); err != nil {
		t.Fatal(err)
	}
	if msg, err := a.Recv(ctx); err != nil || msg.(*wire.Ack).Ranges[0].To != 5 {
		t.Errorf("Recv = %v, %v", msg, err)
	}
}

func TestLargestFrame(t *testing.T) {
	t.Parallel()
	onAll(t, testLargestFrame)
}

func testLargestFrame(t *testing.T, transport string) {
	ctx := limit(t)
	a, c := pair(t, transport)
	done := make(chan error, 1)
	go func() {
		done <- a.Send(ctx, wire.Frame{Class: 1, Payload: make([]byte, wire.MaxPayload)})
	}()
	msg, err := c.Recv(ctx)
	if err != nil || len(msg.(*wire.Frame).Payload) != wire.MaxPayload {
		t.Fatalf("Recv: %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := a.Send(ctx, wire.Frame{Class: 1, Payload: make([]byte, wire.MaxPayload+1)}); err == nil {
		t.Error("a frame over the limit was sent")
	}
	if err := a.Send(ctx, wire.Drain{}); err != nil {
		t.Errorf("an encoding error must not end the connection: %v", err)
	}
}

func TestRecvEndsWithItsContext(t *testing.T) { onAll(t, testRecvEndsWithItsContext) }

func testRecvEndsWithItsContext(t *testing.T, transport string) {
	ctx := limit(t)
	a, c := pair(t, transport)
	short, cancel := context.WithCancel(ctx)
	got := make(chan error, 1)
	go func() {
		_, err := c.Recv(short)
		got <- err
	}()
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Fatalf("Recv = %v; want Canceled", err)
	}
	// The connection lives on.
	if err := a.Send(ctx, wire.Drain{Reason: "still here"}); err != nil {
		t.Fatal(err)
	}
	if msg, err := c.Recv(ctx); err != nil || msg.(*wire.Drain).Reason != "still here" {
		t.Errorf("Recv = %v, %v", msg, err)
	}
}

func TestCloseReachesThePeer(t *testing.T) { onAll(t, testCloseReachesThePeer) }

func testCloseReachesThePeer(t *testing.T, transport string) {
	ctx := limit(t)
	a, c := pair(t, transport)
	if err := c.Send(ctx, wire.Ack{Epoch: 7}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = c.CloseWith(wire.CloseReplaced, "newer one") }()
	if msg, err := a.Recv(ctx); err != nil || msg.(*wire.Ack).Epoch != 7 {
		t.Fatalf("what was sent before the Close is lost: %v, %v", msg, err)
	}
	var closed *link.ClosedError
	for range 2 { // and it is said again
		if _, err := a.Recv(ctx); !errors.As(err, &closed) || closed.Code != wire.CloseReplaced || closed.Reason != "newer one" || closed.Local {
			t.Errorf("Recv = %#v", err)
		}
	}
	<-done
	if err := a.Send(ctx, wire.Drain{}); !errors.As(err, &closed) {
		t.Errorf("Send after the end = %v; want ClosedError", err)
	}
	if _, err := c.Recv(ctx); !errors.As(err, &closed) || !closed.Local {
		t.Errorf("own side: Recv = %v; want a local ClosedError", err)
	}
	<-a.Context().Done()
}

func TestCloseReachesAPeerThatOnlySends(t *testing.T) { onAll(t, testCloseReachesAPeerThatOnlySends) }

func testCloseReachesAPeerThatOnlySends(t *testing.T, transport string) {
	ctx := limit(t)
	a, c := pair(t, transport)
	_ = c.CloseWith(wire.CloseExpired, "over")
	var err error
	for err == nil { // over TCP the first may still go out
		err = a.Send(ctx, wire.Drain{})
	}
	var closed *link.ClosedError
	if !errors.As(err, &closed) || closed.Code != wire.CloseExpired || closed.Reason != "over" {
		t.Errorf("Send = %v; want the code of the close", err)
	}
	<-a.Context().Done()
}

func TestEnrol(t *testing.T) {
	ctx := limit(t)
	ca := linktest.NewCA(t, "root")
	ln := ca.Listen("")
	go func() {
		c, err := ln.Accept(ctx)
		if err != nil {
			return
		}
		msg, err := c.Recv(ctx)
		if err != nil || c.ALPN() != wire.ALPNEnrol || c.PeerCert() != nil {
			t.Errorf("%s: %v", c.ALPN(), err)
			return
		}
		_ = c.Send(ctx, wire.EnrolResponse{Agent: 5, Site: "site of " + msg.(*wire.EnrolRequest).Hostname})
		_, _ = c.Recv(ctx) // the agent closes
	}()
	resp, err := link.Enrol(ctx, ln.Addr().String(), ca.Stranger(), wire.EnrolRequest{Hostname: "pbx"})
	if err != nil || resp.Agent != 5 || resp.Site != "site of pbx" {
		t.Errorf("Enrol = %+v, %v", resp, err)
	}
}

func TestDialErrors(t *testing.T) {
	t.Parallel()
	ca, other := linktest.NewCA(t, "root"), linktest.NewCA(t, "Evil Proxy Inc")
	ln := ca.Listen("")
	addr := ln.Addr().String()
	web := ca.Agent(agent, soon())
	wrongName := ca.Agent(agent, soon())
	wrongName.ServerName = "www.example.net"
	hole, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	free, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	closed := free.LocalAddr().String()
	free.Close()
	cases := []struct {
		name, addr string
		tls        *tls.Config
		kind, word string
		wait       time.Duration
	}{
		{"no port", "127.0.0.1", web, link.KindResolve, "host:port", 0},
		{"no such name", "collector.invalid:443", web, link.KindResolve, "DNS", 0},
		{"nobody listens", closed, web, link.KindRefused, "collector runs", 0},
		{"black hole", hole.LocalAddr().String(), web, link.KindBlackholed, "firewall", 300 * time.Millisecond},
		{"another root", addr, other.Agent(agent, soon()), link.KindIntercepted, `TLS inspection: issuer "CN=root"; exempt host 127.0.0.1 from inspection`, 0},
		{"another name", addr, wrongName, link.KindTLS, "check the address", 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ctx := limit(t)
			if c.wait != 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, c.wait)
				defer cancel()
			}
			conn, err := link.Dial(ctx, link.DialConfig{Addr: c.addr, TLS: c.tls})
			if err == nil {
				_ = conn.CloseWith(wire.CloseShutdown, "")
				t.Fatal("connected")
			}
			var d *link.DialError
			if !errors.As(err, &d) || d.Kind != c.kind || !strings.Contains(err.Error(), c.word) {
				t.Errorf("err = %v; want kind %s and %q", err, c.kind, c.word)
			}
		})
	}
}

func TestCollectorRefusesClient(t *testing.T) {
	t.Parallel()
	onAll(t, testCollectorRefusesClient)
}

func testCollectorRefusesClient(t *testing.T, transport string) {
	ca, other := linktest.NewCA(t, "root"), linktest.NewCA(t, "other")
	strange := ca.Stranger() // trusts us, has no certificate
	foreign := other.Agent(agent, soon())
	foreign.RootCAs = ca.Stranger().RootCAs
	for name, c := range map[string]*tls.Config{
		"no certificate":      strange,
		"another root's":      foreign,
		"expired certificate": ca.Agent(agent, time.Now().Add(-time.Minute)),
	} {
		t.Run(name, func(t *testing.T) {
			ctx := limit(t)
			ln := ca.Listen("")
			conn, err := dialOver(t, transport, ln.Addr().String(), c)
			if err == nil {
				// TLS 1.3: the client is done before the server has judged it.
				_, err = conn.Recv(ctx)
				_ = conn.CloseWith(wire.CloseShutdown, "")
			}
			var d *link.DialError
			if !errors.As(err, &d) || d.Kind != link.KindTLS || !strings.Contains(err.Error(), "enrol again") {
				t.Errorf("err = %v; want a DialError of kind tls with advice", err)
			}
			ctx2, cancel := context.WithCancel(ctx)
			cancel()
			if got, err := ln.Accept(ctx2); err == nil {
				t.Errorf("the listener gave out %v", got.RemoteAddr())
			}
		})
	}
}

func TestMaxConns(t *testing.T) {
	t.Parallel()
	onAll(t, testMaxConns)
}

func testMaxConns(t *testing.T, transport string) {
	ca := linktest.NewCA(t, "root")
	ln, err := link.Listen(link.ListenConfig{Addr: "127.0.0.1:0", TLS: ca.Server(), MaxConns: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dial := func() (*link.Conn, error) {
		return dialOver(t, transport, ln.Addr().String(), ca.Agent(agent, soon()))
	}
	var conns []*link.Conn
	for range 2 {
		c, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	var d *link.DialError
	if _, err := dial(); !errors.As(err, &d) || d.Kind != link.KindRefused {
		t.Errorf("the third got %v; want refused", err)
	}
	if s := ln.Stats(); s.Live != 2 || s.Refused == 0 {
		t.Errorf("stats = %+v", s)
	}
	for _, c := range conns {
		_ = c.CloseWith(wire.CloseShutdown, "")
	}
}

func TestRetryUnderLoad(t *testing.T) {
	ctx := limit(t)
	ca := linktest.NewCA(t, "root")
	ln, err := link.Listen(link.ListenConfig{Addr: "127.0.0.1:0", TLS: ca.Server(), HandshakesPerSecond: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for range 3 {
		c, err := link.Dial(ctx, link.DialConfig{Addr: ln.Addr().String(), TLS: ca.Agent(agent, soon())})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.CloseWith(wire.CloseShutdown, "") }()
	}
	if s := ln.Stats(); s.Retries == 0 {
		t.Errorf("no connection had to prove its address: %+v", s)
	}
}

// TestRestartIsSeenAtOnce: with the same keys, the peer of a collector that died is
// told so by a stateless reset and need not wait for the idle timeout.
func TestRestartIsSeenAtOnce(t *testing.T) {
	t.Parallel()
	ctx := limit(t)
	ca := linktest.NewCA(t, "root")
	ln := ca.Listen("")
	addr := ln.Addr().String()
	a, err := link.Dial(ctx, link.DialConfig{Addr: addr, TLS: ca.Agent(agent, soon())})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Send(ctx, wire.Hello{}); err != nil {
		t.Fatal(err)
	}
	if _, err := ln.Accept(ctx); err != nil {
		t.Fatal(err)
	}
	ln.Close() // dies without a word: no connection was closed
	ca.Listen(addr)
	start := time.Now()
	go func() {
		// Traffic that the new one cannot place, longer than a reset (RFC 9000, 10.3).
		for a.Send(ctx, wire.Frame{Class: 1, Payload: make([]byte, 200)}) == nil {
			select {
			case <-a.Context().Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	_, err = a.Recv(ctx)
	var lost *link.LostError
	if !errors.As(err, &lost) || !strings.Contains(err.Error(), "restarted") {
		t.Errorf("Recv = %v; want LostError", err)
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("noticed only after %v", d)
	}
	<-a.Context().Done()
}

func TestAcceptAfterClose(t *testing.T) {
	ca := linktest.NewCA(t, "root")
	ln := ca.Listen("")
	ln.Close()
	if _, err := ln.Accept(limit(t)); !errors.Is(err, link.ErrListenerClosed) {
		t.Errorf("Accept = %v", err)
	}
}
