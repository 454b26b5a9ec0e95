package impair

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// UDPConfig says what a UDP proxy does.
type UDPConfig struct {
	Listen, To string // host:port; port 0 takes a free one
	Seed       uint64
	Up, Down   Profile

	MaxPacket int           // largest datagram (default 2048); larger ones are dropped
	MaxBytes  int           // what it may hold under way (default 16 MiB)
	MaxFlows  int           // addresses that may send to it at a time (default 1024)
	Idle      time.Duration // after which silence a flow is forgotten (default 2 min)
}

// UDP is a proxy for datagrams. Each address that sends to it gets a socket of its own
// towards the far end.
type UDP struct {
	cfg   UDPConfig
	to    *net.UDPAddr
	addr  netip.AddrPort
	lanes [2]*lane
	queue *queue
	stop  chan struct{}
	wg    sync.WaitGroup

	listener atomic.Pointer[net.UDPConn] // nil while it rejects

	mu     sync.Mutex
	flows  map[netip.AddrPort]*flow // guarded by mu
	closed bool                     // guarded by mu
}

// flow is one address that sends to the proxy.
type flow struct {
	client netip.AddrPort
	header int                         // bytes of IP and UDP headers
	conn   atomic.Pointer[net.UDPConn] // towards the far end
	used   atomic.Int64                // when something last passed, in time of the queue
}

var errClosed = errors.New("the proxy is closed")

// ListenUDP starts a proxy. Close ends it.
func ListenUDP(cfg UDPConfig) (*UDP, error) {
	if err := errors.Join(named(Up, cfg.Up.validateUDP()), named(Down, cfg.Down.validateUDP())); err != nil {
		return nil, err
	}
	cfg.MaxPacket, cfg.MaxBytes = cmp.Or(cfg.MaxPacket, 2048), cmp.Or(cfg.MaxBytes, 16<<20)
	cfg.MaxFlows, cfg.Idle = cmp.Or(cfg.MaxFlows, 1024), cmp.Or(cfg.Idle, 2*time.Minute)
	to, err := net.ResolveUDPAddr("udp", cfg.To)
	if err != nil {
		return nil, fmt.Errorf("find the far end %s: %w", cfg.To, err)
	}
	at, err := net.ResolveUDPAddr("udp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", cfg.Listen, err)
	}
	l, err := net.ListenUDP("udp", at)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", cfg.Listen, err)
	}
	u := &UDP{
		cfg: cfg, to: to, addr: l.LocalAddr().(*net.UDPAddr).AddrPort(), stop: make(chan struct{}),
		lanes: [2]*lane{newLane(cfg.Seed, Up, cfg.Up), newLane(cfg.Seed, Down, cfg.Down)},
		flows: make(map[netip.AddrPort]*flow),
	}
	u.queue = newQueue(cfg.MaxPacket+1, max(16, cfg.MaxBytes/(cfg.MaxPacket+1)), u.deliver)
	u.listener.Store(l)
	enlarge(l)
	u.wg.Go(func() { u.queue.run(u.stop) })
	u.wg.Go(func() { u.listen(l) })
	return u, nil
}

func named(d Direction, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("profile %v: %w", d, err)
}

// enlarge asks for buffers that take bursts; a smaller one is no mistake.
func enlarge(c *net.UDPConn) {
	_ = c.SetReadBuffer(1 << 20)
	_ = c.SetWriteBuffer(1 << 20)
}

// Addr is where it listens.
func (u *UDP) Addr() netip.AddrPort { return u.addr }

// SetProfile changes a direction; what is under way stays as it was decided.
func (u *UDP) SetProfile(d Direction, p Profile) error {
	if err := p.validateUDP(); err != nil {
		return named(d, err)
	}
	u.lanes[d].set(u.queue.now(), p)
	return nil
}

// Profile is that of a direction.
func (u *UDP) Profile(d Direction) Profile {
	p, _ := u.lanes[d].profile()
	return p
}

// Counters tell what a direction has done.
func (u *UDP) Counters(d Direction) Counters { return u.lanes[d].counters() }

// Flows is how many addresses send through it at present.
func (u *UDP) Flows() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.flows)
}

// Rebind gives every flow a new port towards the far end, as a NAT does that lost its
// table: what the far end sends to the old port is lost.
func (u *UDP) Rebind() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return errClosed
	}
	for _, f := range u.flows {
		c, err := net.DialUDP("udp", nil, u.to)
		if err != nil {
			return fmt.Errorf("rebind: %w", err)
		}
		_ = f.conn.Swap(c).Close()
	}
	return nil
}

// Reject closes the socket that is listened on, so that whoever sends there is told by
// ICMP that the port is closed, or opens it again.
func (u *UDP) Reject(on bool) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	l := u.listener.Load()
	switch {
	case u.closed:
		return errClosed
	case on && l != nil:
		u.listener.Store(nil)
		return l.Close()
	case !on && l == nil:
		l, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(u.addr))
		if err != nil {
			return fmt.Errorf("listen on %v again: %w", u.addr, err)
		}
		enlarge(l)
		u.listener.Store(l)
		u.wg.Go(func() { u.listen(l) })
	}
	return nil
}

// Close ends the proxy; what is under way is lost, and counted.
func (u *UDP) Close() error {
	u.mu.Lock()
	if u.closed {
		u.mu.Unlock()
		return nil
	}
	u.closed = true
	close(u.stop)
	if l := u.listener.Swap(nil); l != nil {
		_ = l.Close()
	}
	for _, f := range u.flows {
		_ = f.conn.Load().Close()
	}
	u.mu.Unlock()
	u.wg.Wait()
	u.queue.rest(func(p *parcel) { u.lanes[p.dir].dropped(DropClosed) })
	return nil
}

// listen reads what the near side sends.
func (u *UDP) listen(l *net.UDPConn) {
	buf := make([]byte, u.cfg.MaxPacket+1)
	var calm pause
	for {
		n, from, err := l.ReadFromUDPAddrPort(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil && (n < len(buf) || !from.IsValid()): // some systems report what an earlier packet met
			calm.after(err, u.stop)
			continue
		}
		calm.after(nil, u.stop)
		f := u.flow(from)
		if f == nil {
			u.lanes[Up].lost(DropFlows, n)
			continue
		}
		buf = u.take(Up, f, buf, n)
	}
}

// answers reads what the far end sends to a flow, until it is idle or the proxy closes.
func (u *UDP) answers(f *flow) {
	buf := make([]byte, u.cfg.MaxPacket+1)
	c := f.conn.Load()
	_ = c.SetReadDeadline(time.Now().Add(u.cfg.Idle))
	var calm pause
	for {
		n, err := c.Read(buf)
		var timeout net.Error
		switch {
		case err == nil, n == len(buf):
			calm.after(nil, u.stop)
			buf = u.take(Down, f, buf, n)
			continue
		case errors.As(err, &timeout) && timeout.Timeout():
			left := u.cfg.Idle - (u.queue.now() - time.Duration(f.used.Load()))
			if left <= 0 {
				u.forget(f)
				return
			}
			_ = c.SetReadDeadline(time.Now().Add(left))
		case errors.Is(err, net.ErrClosed):
			next := f.conn.Load()
			if next == c {
				return // closed, not bound anew
			}
			c = next
			_ = c.SetReadDeadline(time.Now().Add(u.cfg.Idle))
		default: // nobody listens at the far end
			calm.after(err, u.stop)
		}
	}
}

// flow finds the flow of an address, or begins one; nil when there are too many.
func (u *UDP) flow(from netip.AddrPort) *flow {
	u.mu.Lock()
	defer u.mu.Unlock()
	if f := u.flows[from]; f != nil {
		return f
	}
	if u.closed || len(u.flows) >= u.cfg.MaxFlows {
		return nil
	}
	c, err := net.DialUDP("udp", nil, u.to)
	if err != nil {
		return nil
	}
	enlarge(c)
	f := &flow{client: from, header: 28}
	if from.Addr().Is6() && !from.Addr().Is4In6() {
		f.header = 48
	}
	f.conn.Store(c)
	f.used.Store(int64(u.queue.now()))
	u.flows[from] = f
	u.wg.Go(func() { u.answers(f) })
	return f
}

func (u *UDP) forget(f *flow) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.flows, f.client)
	_ = f.conn.Load().Close()
}

// take decides about a packet in buf and gives the buffer to read the next one into.
func (u *UDP) take(d Direction, f *flow, buf []byte, n int) []byte {
	now, lane := u.queue.now(), u.lanes[d]
	f.used.Store(int64(now))
	if n > u.cfg.MaxPacket {
		lane.lost(DropTooLarge, n)
		return buf
	}
	fate := lane.arrived(now, n, n+f.header)
	if fate.copies == 0 {
		return buf
	}
	next := u.queue.buffer()
	if next == nil {
		lane.dropped(DropMemory)
		return buf
	}
	if fate.copies > 1 {
		if again := u.queue.buffer(); again != nil {
			copy(again, buf[:n])
			u.queue.push(parcel{due: fate.due[1], buf: again, size: n, dir: d, flow: f})
		} else {
			lane.dropped(DropMemory)
		}
	}
	u.queue.push(parcel{due: fate.due[0], buf: buf, size: n, dir: d, flow: f})
	return next
}

// deliver sends a packet that is due.
func (u *UDP) deliver(p *parcel) {
	lane := u.lanes[p.dir]
	var err error
	if p.dir == Down {
		l := u.listener.Load()
		if l == nil {
			lane.dropped(DropReject)
			return
		}
		_, err = l.WriteToUDPAddrPort(p.buf[:p.size], p.flow.client)
	} else if _, err = p.flow.conn.Load().Write(p.buf[:p.size]); err != nil {
		// The error may be of an earlier packet that nobody took, or of a socket that
		// was bound anew just now: this packet has not been sent.
		_, err = p.flow.conn.Load().Write(p.buf[:p.size])
	}
	if err != nil {
		lane.dropped(DropSend)
		return
	}
	lane.sent(p.size)
}

// pause keeps a loop from spinning when each of its reads fails.
type pause struct{ failed int }

func (p *pause) after(err error, stop <-chan struct{}) {
	if err == nil {
		p.failed = 0
		return
	}
	if p.failed++; p.failed < 10 {
		return
	}
	select {
	case <-time.After(10 * time.Millisecond):
	case <-stop:
	}
}
