package impair

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// TCPConfig says what a TCP proxy does.
type TCPConfig struct {
	Listen, To string // host:port; port 0 takes a free one
	Seed       uint64
	Up, Down   Profile // without loss, reorder, duplicate and MTU

	Buffer   int // bytes under way in a direction of a connection (default 1 MiB)
	MaxConns int // default 256; more are reset
}

// TCP is a proxy for connections.
type TCP struct {
	cfg   TCPConfig
	addr  netip.AddrPort
	start time.Time
	lanes [2]*lane
	stop  chan struct{}
	wg    sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener      // guarded by mu; nil while it rejects
	sessions map[*session]bool // guarded by mu
	closed   bool              // guarded by mu
}

// ListenTCP starts a proxy. Close ends it.
func ListenTCP(cfg TCPConfig) (*TCP, error) {
	if err := errors.Join(named(Up, cfg.Up.validateTCP()), named(Down, cfg.Down.validateTCP())); err != nil {
		return nil, err
	}
	if _, _, err := net.SplitHostPort(cfg.To); err != nil {
		return nil, fmt.Errorf("find the far end: %w", err)
	}
	cfg.Buffer, cfg.MaxConns = max(cmp.Or(cfg.Buffer, 1<<20), tcpPiece), cmp.Or(cfg.MaxConns, 256)
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", cfg.Listen, err)
	}
	t := &TCP{
		cfg: cfg, addr: l.Addr().(*net.TCPAddr).AddrPort(), start: time.Now(), listener: l, stop: make(chan struct{}),
		lanes:    [2]*lane{newLane(cfg.Seed, Up, cfg.Up), newLane(cfg.Seed, Down, cfg.Down)},
		sessions: make(map[*session]bool),
	}
	t.wg.Go(func() { t.accept(l) })
	return t, nil
}

func (t *TCP) now() time.Duration { return time.Since(t.start) }

// Addr is where it listens.
func (t *TCP) Addr() netip.AddrPort { return t.addr }

// SetProfile changes a direction, of connections that are open too.
func (t *TCP) SetProfile(d Direction, p Profile) error {
	if err := p.validateTCP(); err != nil {
		return named(d, err)
	}
	t.lanes[d].set(t.now(), p)
	return nil
}

// Profile is that of a direction.
func (t *TCP) Profile(d Direction) Profile {
	p, _ := t.lanes[d].profile()
	return p
}

// Counters tell what a direction has done.
func (t *TCP) Counters(d Direction) Counters { return t.lanes[d].counters() }

// Conns is how many connections are open.
func (t *TCP) Conns() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.sessions)
}

// Cut resets all connections.
func (t *TCP) Cut() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reset(DropCut)
}

func (t *TCP) reset(why Reason) {
	for s := range t.sessions {
		s.reset(Up, why)
	}
}

// Reject refuses new connections and resets those that are open, or listens again.
func (t *TCP) Reject(on bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return errClosed
	case on && t.listener != nil:
		err := t.listener.Close()
		t.listener = nil
		t.reset(DropReject)
		return err
	case !on && t.listener == nil:
		l, err := net.Listen("tcp", t.addr.String())
		if err != nil {
			return fmt.Errorf("listen on %v again: %w", t.addr, err)
		}
		t.listener = l
		t.wg.Go(func() { t.accept(l) })
	}
	return nil
}

// Close ends the proxy and resets what is open.
func (t *TCP) Close() error {
	t.mu.Lock()
	if !t.closed {
		t.closed = true
		close(t.stop)
		if t.listener != nil {
			_ = t.listener.Close()
			t.listener = nil
		}
		t.reset(DropClosed)
	}
	t.mu.Unlock()
	t.wg.Wait()
	return nil
}

func (t *TCP) accept(l net.Listener) {
	var calm pause
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		calm.after(err, t.stop)
		if err == nil && !t.begin(l, c.(*net.TCPConn)) {
			t.lanes[Up].dropped(DropFlows)
			abort(c.(*net.TCPConn))
		}
	}
}

// begin starts a session, unless there are as many as may be.
func (t *TCP) begin(l net.Listener, near *net.TCPConn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.listener != l || len(t.sessions) >= t.cfg.MaxConns {
		return false
	}
	s := &session{proxy: t, near: near}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	t.sessions[s] = true
	t.wg.Go(s.run)
	return true
}

// abort closes with a RST.
func abort(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}
