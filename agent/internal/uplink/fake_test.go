package uplink

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sidetone/shared/link"
	"sidetone/shared/telemetry"
	"sidetone/shared/wire"

	"github.com/rs/zerolog"
)

// fakeNet is a network with a collector behind it, in memory and so in virtual time.
// Firewalls are functions of the transport.
type fakeNet struct {
	t *testing.T

	mu sync.Mutex
	// dial says how a dial over a transport comes out: nil opens a connection; guarded by mu.
	firewall map[string]func(ctx context.Context) error
	deaf     map[string]bool // the collector answers no hello there; guarded by mu
	dead     map[string]bool // packets vanish there, also of connections; guarded by mu
	pings    int             // that were answered; guarded by mu
	addr     string          // this machine's; guarded by mu

	capability uint32
	window     uint32
	rate       float64       // bytes a second of the line, 0: no limit
	hold       time.Duration // until an ack
	lineFree   time.Time     // when the line has sent what was given to it; guarded by mu

	conns   []*fakeConn    // guarded by mu
	stored  map[uint64]int // seq -> times; guarded by mu
	frames  []got          // guarded by mu
	deferAt bool           // stores nothing; guarded by mu
	hellos  int            // that are out without an answer; guarded by mu
	worst   int            // most hellos that were; guarded by mu
	sends   []sent         // guarded by mu
}

// got is a frame at the collector.
type got struct {
	seq       uint64
	class     wire.Class
	at        time.Time
	age       time.Duration
	transport string
	bundle    int // of so many
	lower     bool
	payload   string // its beginning
}

// sent is bytes on the line.
type sent struct {
	at    time.Time
	bytes int
}

func newFakeNet(t *testing.T) *fakeNet {
	return &fakeNet{t: t, firewall: map[string]func(context.Context) error{}, deaf: map[string]bool{}, dead: map[string]bool{}, addr: "192.0.2.10",
		capability: 2, window: 256, hold: 500 * time.Millisecond, stored: map[uint64]int{}}
}

func (n *fakeNet) set(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

func (n *fakeNet) local() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.addr
}

// Firewalls.
func dropped(kind string) func(context.Context) error { // nothing comes back
	return func(ctx context.Context) error {
		select {
		case <-time.After(5 * time.Second):
			return &link.DialError{Kind: link.KindBlackholed, Addr: "c:443", Cause: errors.New("timeout"), Advice: "allow outbound " + kind}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func refused(kind string) func(context.Context) error {
	return func(context.Context) error {
		return &link.DialError{Kind: link.KindRefused, Addr: "c:443", Cause: errors.New("port unreachable"), Advice: kind + " is rejected"}
	}
}

func intercepted(issuer string) func(context.Context) error {
	return func(context.Context) error {
		return &link.DialError{Kind: link.KindIntercepted, Addr: "c:443", Issuer: issuer, Cause: errors.New("unknown authority"), Advice: "exempt"}
	}
}

func (n *fakeNet) dial(ctx context.Context, transport string, proxy *url.URL) (Conn, error) {
	if (proxy != nil) != (transport == link.TransportProxy) {
		n.t.Errorf("dial over %s with proxy %v", transport, proxy)
	}
	n.mu.Lock()
	wall := n.firewall[transport]
	n.mu.Unlock()
	if wall != nil {
		if err := wall(ctx); err != nil {
			return nil, err
		}
	}
	select {
	case <-time.After(40 * time.Millisecond): // a round trip
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c := &fakeConn{n: n, transport: transport, toAgent: make(chan any, 4096), over: make(chan struct{})}
	n.mu.Lock()
	n.conns = append(n.conns, c)
	n.mu.Unlock()
	return c, nil
}

// cut ends all connections over a transport without a word.
func (n *fakeNet) cut(transport string) {
	n.mu.Lock()
	conns := slices.Clone(n.conns)
	n.mu.Unlock()
	for _, c := range conns {
		if c.transport == transport {
			c.end(&link.LostError{Reason: "nothing heard for 30s", Cause: io.EOF})
		}
	}
}

// fakeConn is one connection, and the collector's end of it.
type fakeConn struct {
	n         *fakeNet
	transport string
	toAgent   chan any
	over      chan struct{}
	once      sync.Once
	err       error // before over is closed

	hello bool // is out without an answer; guarded by n.mu

	mu    sync.Mutex
	lower bool // guarded by mu
}

func (c *fakeConn) end(err error) {
	c.once.Do(func() {
		c.err = err
		close(c.over)
	})
}

func (c *fakeConn) Transport() string { return c.transport }
func (c *fakeConn) RemoteAddr() net.Addr {
	return &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443}
}

func (c *fakeConn) SetLowerEffort(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lower = on
}

func (c *fakeConn) CloseWith(code, reason string) error {
	c.n.mu.Lock()
	if c.hello {
		c.hello = false
		c.n.hellos--
	}
	c.n.mu.Unlock()
	c.end(&link.ClosedError{Code: code, Reason: reason, Local: true})
	return nil
}

func (c *fakeConn) Recv(ctx context.Context) (any, error) {
	select {
	case m := <-c.toAgent:
		return m, nil
	default:
	}
	select {
	case m := <-c.toAgent:
		return m, nil
	case <-c.over:
		return nil, c.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Send puts the message on the line, and the collector reads it at once.
func (c *fakeConn) Send(ctx context.Context, msg any) error {
	select {
	case <-c.over:
		return c.err
	default:
	}
	c.line(msg)
	var frames []wire.Frame
	bundled := 0
	switch m := msg.(type) {
	case wire.Hello:
		c.greet()
		return nil
	case wire.Ping:
		c.pong(m)
		return nil
	case wire.Frame:
		frames = []wire.Frame{m}
	case fakeBundle:
		frames, bundled = m.frames, len(m.frames)
	default:
		return fmt.Errorf("sent a %T", msg)
	}
	for _, f := range frames {
		c.take(f, bundled)
	}
	return nil
}

// line takes the time that the message needs on a line of limited rate.
func (c *fakeConn) line(msg any) {
	bytes := 0
	switch m := msg.(type) {
	case wire.Frame:
		bytes = realBytes(len(m.Payload) + 30)
	case fakeBundle:
		for _, f := range m.frames {
			bytes += len(f.Payload) + 30
		}
		bytes = realBytes(bytes)
	}
	n := c.n
	n.mu.Lock()
	now := time.Now()
	n.sends = append(n.sends, sent{now, bytes})
	var wait time.Duration
	if n.rate > 0 {
		if n.lineFree.Before(now) {
			n.lineFree = now
		}
		n.lineFree = n.lineFree.Add(time.Duration(float64(bytes) / n.rate * float64(time.Second)))
		wait = n.lineFree.Sub(now)
	}
	n.mu.Unlock()
	if wait > 0 {
		time.Sleep(wait)
	}
}

// realBytes is what QUIC packets of 1,252 bytes of content make of a message.
func realBytes(n int) int { return n + (n+1251)/1252*(20+8+1+8+2+16+7) }

func (c *fakeConn) greet() {
	n := c.n
	n.mu.Lock()
	c.hello = true
	n.hellos++
	n.worst = max(n.worst, n.hellos)
	deaf := n.deaf[c.transport]
	if !deaf {
		c.hello = false
		n.hellos--
	}
	var former []*fakeConn
	for _, o := range n.conns {
		if o != c {
			former = append(former, o)
		}
	}
	n.mu.Unlock()
	if deaf {
		return
	}
	for _, o := range former { // the newest wins
		o.end(&link.ClosedError{Code: wire.CloseReplaced})
	}
	c.toAgent <- &wire.Welcome{Capability: n.capability, Version: "9.9", Window: n.window}
}

func (c *fakeConn) take(f wire.Frame, bundled int) {
	n := c.n
	n.mu.Lock()
	defer n.mu.Unlock()
	c.mu.Lock()
	lower := c.lower
	c.mu.Unlock()
	if crc32.Checksum(f.Payload, castagnoli) != f.CRC {
		n.t.Errorf("frame %d is damaged", f.Seq)
	}
	n.frames = append(n.frames, got{f.Seq, f.Class, time.Now(), time.Duration(f.AgeMS) * time.Millisecond, c.transport, bundled, lower, string(f.Payload[:min(len(f.Payload), 8)])})
	ranges := []wire.Range{{From: f.Seq, To: f.Seq}}
	if n.dead[c.transport] {
		n.frames = n.frames[:len(n.frames)-1]
		return
	}
	if n.deferAt {
		c.answer(&wire.Defer{Epoch: f.Epoch, Ranges: ranges, RetryMS: 15_000})
		return
	}
	n.stored[f.Seq]++
	c.answer(&wire.Ack{Epoch: f.Epoch, Ranges: ranges})
}

// pong answers a ping, unless the path is dead.
func (c *fakeConn) pong(p wire.Ping) {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	if !c.n.dead[c.transport] {
		c.n.pings++
		c.toAgent <- &wire.Pong{Number: p.Number}
	}
}

func (c *fakeConn) answer(msg any) {
	time.AfterFunc(c.n.hold, func() {
		select {
		case c.toAgent <- msg:
		default:
			c.n.t.Error("the agent does not read")
		}
	})
}

// fakeBundle stands for wire's bundle.
type fakeBundle struct{ frames []wire.Frame }

func fakePack(frames []wire.Frame, maxBytes int) (any, int, int, error) {
	bytes, k := 0, 0
	for ; k < len(frames); k++ {
		n := len(frames[k].Payload) + 30
		if k > 0 && bytes+n > maxBytes {
			break
		}
		bytes += n
	}
	return fakeBundle{frames[:k]}, k, bytes, nil
}

// site is an uplink on a fakeNet.
type site struct {
	*fakeNet
	q      *queue
	up     *Uplink
	stop   func()
	began  time.Time
	events []telemetry.LinkEvent // guarded by fakeNet.mu
	poor   bool                  // guarded by fakeNet.mu
}

func newSite(t *testing.T, cfg Config) *site {
	s := &site{fakeNet: newFakeNet(t), q: newQueue(), began: time.Now()}
	if cfg.Addr == "" {
		cfg.Addr = "collector.example.com:443"
	}
	if cfg.Proxy == "" {
		cfg.Proxy = ProxyNone
	}
	s.up = New(cfg, s.deps(""))
	s.up.codec.pack = fakePack
	return s
}

func (s *site) deps(memory string) Deps {
	return Deps{Spool: s.q, Identity: &identity{}, Log: zerolog.Nop(), Dial: s.dial, LocalAddr: s.local, MemoryFile: memory,
		Events: func(e telemetry.LinkEvent) { s.set(func() { s.events = append(s.events, e) }) },
		Quality: func() (poor bool) {
			s.set(func() { poor = s.poor })
			return poor
		}}
}

func (s *site) start() {
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan error, 1)
	go func() { done <- s.up.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
}

// produce appends a record now and then until the time is over.
func (s *site) produce(every, until time.Duration) {
	for end := time.Now().Add(until); time.Now().Before(end); time.Sleep(every) {
		s.q.add(1)
	}
}

// settled waits until all that was produced has arrived, and checks that nothing is lost.
func (s *site) settled(within time.Duration) {
	s.t.Helper()
	for end := time.Now().Add(within); time.Now().Before(end) && s.q.waits() > 0; {
		time.Sleep(time.Second)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	missing := 0
	for seq := uint64(1); seq < s.q.next; seq++ {
		if s.stored[seq] == 0 {
			missing++
		}
	}
	if missing > 0 {
		s.t.Errorf("%d of %d records did not arrive", missing, s.q.next-1)
	}
	if s.worst > 1 {
		s.t.Errorf("%d hellos were out at once", s.worst)
	}
}

// twice counts records that were stored more than once.
func (s *site) twice() (n int) {
	s.set(func() {
		for _, times := range s.stored {
			if times > 1 {
				n++
			}
		}
	})
	return n
}

// told lists the events as text.
func (s *site) told() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []string
	for _, e := range s.events {
		lines = append(lines, strings.TrimSpace(e.Event+" "+e.Transport+" "+e.Reason))
	}
	return strings.Join(lines, "\n")
}

func nameless(context.Context) error {
	return &link.DialError{Kind: link.KindResolve, Addr: "c:443", Cause: errors.New("no such host"), Advice: "check the name"}
}
