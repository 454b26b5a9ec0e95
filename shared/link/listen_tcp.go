package link

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"sidetone/shared/wire"
)

// acceptTCP takes connections until the listener closes. It never waits for one of
// them: what finds no room is closed at once.
func (l *Listener) acceptTCP() error {
	pause := time.Duration(0)
	for {
		socket, err := l.tcp.AcceptTCP()
		if l.ctx.Err() != nil {
			if err == nil {
				_ = socket.Close()
			}
			return nil
		}
		if err != nil { // out of file descriptors, for example: it passes
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			l.cfg.Log.Warn().Err(err).Msg("accept agents over TCP")
			select {
			case <-time.After(pause):
			case <-l.ctx.Done():
			}
			continue
		}
		pause = 0
		key := gateKey(socket.RemoteAddr())
		if !l.tcpTally.enter(l.gate, key) {
			_ = socket.Close()
			continue
		}
		if l.shakes.enter(key) != entered {
			l.tcpTally.busy.Add(1)
			l.tcpTally.leave(l.gate, key)
			_ = socket.Close()
			continue
		}
		l.group.Go(func() error {
			l.openTCP(socket, key)
			return nil
		})
	}
}

// openTCP makes the handshake and hands the connection to Accept.
func (l *Listener) openTCP(socket *net.TCPConn, key netip.Addr) {
	shaking := sync.OnceFunc(func() { l.shakes.leave(key) })
	defer shaking()
	gone := sync.OnceFunc(func() { l.tcpTally.leave(l.gate, key) })
	setUserTimeout(socket, tcpUserTime)
	_ = socket.SetReadBuffer(tcpReceiveBuffer)

	ctx, cancel := context.WithTimeout(l.ctx, shakeTime)
	defer cancel()
	first := &firstBytes{Conn: socket, keep: l.others != nil}
	conn := tls.Server(first, &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if l.others != nil && oursOf(hello) == "" {
			return nil, errOther
		}
		first.pass()
		return l.tlsFor(hello)
	}})
	err := conn.HandshakeContext(ctx)
	if errors.Is(err, errOther) {
		gone()
		_ = socket.SetDeadline(time.Time{})
		l.handOn(first.replay())
		return
	}
	if p := conn.ConnectionState().NegotiatedProtocol; err == nil && p != wire.ALPNLink && p != wire.ALPNEnrol {
		err = errWrongProtocol
	}
	if err != nil {
		l.tcpTally.failed.Add(1)
		l.cfg.Log.Debug().Str("addr", socket.RemoteAddr().String()).Err(err).Msg("TLS handshake of an agent")
		_ = socket.CloseWrite() // the peer shall read the alert
		discard(socket, lingerTime)
		_ = socket.Close()
		gone()
		return
	}
	carrier := newTCPCarrier(conn, socket, socket, TransportTCP, "")
	forget := context.AfterFunc(l.over, func() { carrier.close("", "") })
	context.AfterFunc(carrier.ctx, func() {
		forget()
		gone()
	})
	l.giveTCP(newConn(carrier))
}

func (l *Listener) giveTCP(c *Conn) {
	t := time.NewTimer(openTime)
	defer t.Stop()
	select {
	case l.readyTCP <- c:
	case <-t.C:
		l.tcpTally.busy.Add(1)
		_ = c.CloseWith(CloseBusy, "the collector is busy")
	case <-l.ctx.Done():
		_ = c.CloseWith(wire.CloseShutdown, "the collector stops")
	}
}

// handOn gives a connection that is not for us to whoever serves Others.
func (l *Listener) handOn(c net.Conn) {
	l.handedOn.Add(1)
	if l.others.give(c) {
		return
	}
	l.handedOn.Add(-1)
	l.tcpTally.busy.Add(1)
	_ = c.Close()
}

var errOther = errors.New("not a protocol of ours")

// firstBytes keeps what a client says first, and answers nothing, until pass is
// called: then it was for us. It is used by one handshake, on one goroutine.
type firstBytes struct {
	net.Conn
	keep bool
	seen []byte
}

// Read keeps what it reads. A ClientHello has its limit in crypto/tls.
func (f *firstBytes) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	if f.keep {
		f.seen = append(f.seen, b[:n]...)
	}
	return n, err
}

func (f *firstBytes) Write(b []byte) (int, error) {
	if f.keep {
		return len(b), nil
	}
	return f.Conn.Write(b)
}

func (f *firstBytes) pass() { f.keep, f.seen = false, nil }

// replay is the connection as it came.
func (f *firstBytes) replay() net.Conn { return &replayed{Conn: f.Conn, head: f.seen} }

// replayed is a connection whose first bytes were read before. Its Read is for one
// goroutine at a time.
type replayed struct {
	net.Conn
	head []byte
}

func (r *replayed) Read(b []byte) (int, error) {
	if len(r.head) > 0 {
		n := copy(b, r.head)
		if r.head = r.head[n:]; len(r.head) == 0 {
			r.head = nil
		}
		return n, nil
	}
	return r.Conn.Read(b)
}

// others is the listener of connections that are not for us.
type others struct {
	addr  net.Addr
	conns chan net.Conn

	mu     sync.Mutex
	closed chan struct{} // closed by Close, under mu
}

func newOthers(addr net.Addr) *others {
	return &others{addr: addr, conns: make(chan net.Conn, readyQueue), closed: make(chan struct{})}
}

// give never waits.
func (o *others) give(c net.Conn) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case <-o.closed:
		return false
	default:
	}
	select {
	case o.conns <- c:
		return true
	default:
		return false
	}
}

// Accept is of net.Listener.
func (o *others) Accept() (net.Conn, error) {
	select {
	case c := <-o.conns:
		return c, nil
	case <-o.closed:
		return nil, net.ErrClosed
	}
}

// Close is of net.Listener.
func (o *others) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case <-o.closed:
		return nil
	default:
	}
	close(o.closed)
	for len(o.conns) > 0 {
		_ = (<-o.conns).Close()
	}
	return nil
}

// Addr is of net.Listener.
func (o *others) Addr() net.Addr { return o.addr }
