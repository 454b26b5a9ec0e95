package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"sidetone/shared/wire"
)

// ListenConfig says where and how to listen. Zero limits mean the defaults.
type ListenConfig struct {
	Addr string // host:port, UDP and TCP
	// TLS gives the server's configuration for wire.ALPNLink (which must require
	// and verify a client certificate) and wire.ALPNEnrol. It is called for each
	// handshake, so certificates may change.
	TLS func(alpn string) (*tls.Config, error)
	// ResetKey and TokenKey must be the same after a restart: with them the peers
	// of the process before learn at once that it is gone.
	ResetKey, TokenKey [32]byte
	// DisableTCP leaves TCP alone: agents whose UDP does not get through stay away.
	DisableTCP bool
	// ShareTCP gives TCP connections that do not ask for one of our protocols to
	// Others, as they came: pages can have the same port.
	ShareTCP bool
	// MaxConns bounds connections, handshakes included. Default 12,000.
	MaxConns int
	// MaxConnsPerAddr bounds those of one remote address (IPv6: one /64). Default
	// 2,048: a hoster may have a thousand PBXs behind one address, and after a change
	// of its router those that died in silence count for 30 s more.
	MaxConnsPerAddr int
	// MaxWindowBytes bounds by how much all QUIC receive windows together may grow
	// over their first size. Default 256 MiB.
	MaxWindowBytes uint64
	// HandshakesPerSecond is the rate of new connections above which a peer must
	// first prove its address (Retry). Default 100.
	HandshakesPerSecond int
	Log                 zerolog.Logger
}

const (
	defaultMaxConns   = 12_000
	defaultPerAddr    = 2_048
	defaultHandshakes = 100
	defaultWindows    = 256 << 20
	// openTime is what a peer has, after the handshake, to open its stream, and then
	// what Accept has to take the connection.
	openTime = 5 * time.Second
	// maxOpening bounds, for each transport, connections between their beginning (TCP)
	// or their handshake (QUIC) and Accept; one address may have half of TCP's.
	maxOpening = 1024
	// readyQueue is how many opened connections of a transport wait for Accept.
	readyQueue = 64
	// portTries is how often a port is looked for that is free for UDP and TCP.
	portTries = 20
)

func (c ListenConfig) withDefaults() ListenConfig {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&c.MaxConns, defaultMaxConns)
	set(&c.MaxConnsPerAddr, defaultPerAddr)
	set(&c.HandshakesPerSecond, defaultHandshakes)
	if c.MaxWindowBytes == 0 {
		c.MaxWindowBytes = defaultWindows
	}
	return c
}

// ErrListenerClosed is the error of Accept after Close.
var ErrListenerClosed = errors.New("listener is closed")

// Listener accepts connections of all transports. Its own goroutines take them from
// the system at once, so a slow Accept never fills a short queue; each transport
// has its own queue, so neither makes the other wait.
type Listener struct {
	cfg     ListenConfig
	gate    *gate
	windows *windowBudget

	socket *net.UDPConn
	tr     *quic.Transport
	ln     *quic.Listener
	tcp    *net.TCPListener // nil without TCP
	shakes *gate            // TCP connections before Accept
	others *others          // nil without ShareTCP

	readyQUIC, readyTCP chan *Conn

	cancel context.CancelFunc
	group  errgroup.Group // accept loops and openings
	once   sync.Once
	ctx    context.Context // ends when Close begins
	over   context.Context // ends when Close has said goodbye: no connection outlives it
	end    context.CancelFunc

	quicTally, tcpTally tally
	retries, handedOn   atomic.Int64
}

// Listen opens the sockets and begins to accept.
func Listen(cfg ListenConfig) (*Listener, error) {
	cfg = cfg.withDefaults()
	l := &Listener{
		cfg: cfg, gate: newGate(cfg.MaxConns, cfg.MaxConnsPerAddr), windows: newWindowBudget(cfg.MaxWindowBytes),
		shakes: newGate(maxOpening, maxOpening/2), readyQUIC: make(chan *Conn, readyQueue), readyTCP: make(chan *Conn, readyQueue),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.over, l.end = context.WithCancel(context.Background())
	if err := l.sockets(); err != nil {
		l.cancel()
		l.end()
		return nil, err
	}
	if err := l.startQUIC(); err != nil {
		l.cancel()
		l.end()
		l.closeSockets()
		return nil, fmt.Errorf("listen for agents on %s: %w", cfg.Addr, err)
	}
	l.group.Go(l.acceptQUIC)
	if l.tcp != nil {
		if cfg.ShareTCP {
			l.others = newOthers(l.tcp.Addr())
		}
		l.group.Go(l.acceptTCP)
	}
	return l, nil
}

// sockets opens UDP and, on the same port, TCP.
func (l *Listener) sockets() error {
	addr, err := net.ResolveUDPAddr("udp", l.cfg.Addr)
	if err != nil {
		return fmt.Errorf("listen for agents on %s: %w", l.cfg.Addr, err)
	}
	for try := 1; ; try++ {
		if l.socket, err = net.ListenUDP("udp", addr); err != nil {
			return fmt.Errorf("listen for agents on %s: %w", l.cfg.Addr, err)
		}
		if l.cfg.DisableTCP {
			return nil
		}
		same := net.TCPAddr{IP: addr.IP, Zone: addr.Zone, Port: l.socket.LocalAddr().(*net.UDPAddr).Port}
		lc := net.ListenConfig{KeepAliveConfig: tcpKeepAlive}
		ln, err := lc.Listen(l.ctx, "tcp", same.String())
		if err == nil {
			l.tcp = ln.(*net.TCPListener)
			return nil
		}
		_ = l.socket.Close()
		if addr.Port != 0 || try == portTries {
			return fmt.Errorf("listen for agents on %s, TCP: %w: the port must be free for TCP too, or TCP turned off", l.cfg.Addr, err)
		}
	}
}

func (l *Listener) closeSockets() {
	_ = l.socket.Close()
	if l.tcp != nil {
		_ = l.tcp.Close()
	}
}

// oursOf is the protocol of ours that a client asks for, "" when it asks for none.
func oursOf(hello *tls.ClientHelloInfo) string {
	for _, alpn := range []string{wire.ALPNLink, wire.ALPNEnrol} {
		if slices.Contains(hello.SupportedProtos, alpn) {
			return alpn
		}
	}
	return ""
}

func (l *Listener) tlsFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	protos := []string{wire.ALPNLink, wire.ALPNEnrol}
	alpn := oursOf(hello)
	if alpn != "" {
		protos = []string{alpn}
	} else {
		// Some configuration must go back for the handshake to fail with the alert
		// "no application protocol", which a client can explain.
		alpn = wire.ALPNEnrol
	}
	c, err := l.cfg.TLS(alpn)
	if err != nil {
		return nil, fmt.Errorf("TLS configuration for %s: %w", alpn, err)
	}
	c = c.Clone()
	c.NextProtos = protos
	return strictTLS(c), nil
}

// Accept returns the next connection: the handshake is done and the stream open.
func (l *Listener) Accept(ctx context.Context) (*Conn, error) {
	select {
	case c := <-l.readyQUIC:
		l.quicTally.accepted.Add(1)
		return c, nil
	case c := <-l.readyTCP:
		l.tcpTally.accepted.Add(1)
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.ctx.Done():
		return nil, ErrListenerClosed
	}
}

// Others are the TCP connections that are not for us, nil without ShareTCP. Its
// Close makes them be closed; the socket stays with the Listener.
func (l *Listener) Others() net.Listener {
	if l.others == nil {
		return nil
	}
	return l.others
}

// Addr is the address that the listener has, for UDP and TCP.
func (l *Listener) Addr() net.Addr { return l.socket.LocalAddr() }

// Stats returns the counters.
func (l *Listener) Stats() ListenStats {
	q, t := l.quicTally.stats(), l.tcpTally.stats()
	return ListenStats{TransportStats: q.plus(t), QUIC: q, TCP: t, Retries: l.retries.Load(), Others: l.handedOn.Load(),
		WindowBytes: l.windows.inUse(), WindowsDenied: l.windows.denied.Load()}
}

// waiting gives what a queue holds now.
func waiting(queue chan *Conn) func(yield func(*Conn) bool) {
	return func(yield func(*Conn) bool) {
		for {
			select {
			case c := <-queue:
				if !yield(c) {
					return
				}
			default:
				return
			}
		}
	}
}

// Close stops accepting and ends the connections that are left without a word to
// their peers: close them before with a code.
func (l *Listener) Close() error {
	l.once.Do(func() {
		l.cancel()
		_ = l.ln.Close()
		if l.tcp != nil {
			_ = l.tcp.Close()
		}
		if l.others != nil {
			_ = l.others.Close()
		}
		_ = l.group.Wait() // the error is that of the closed listener
		var left sync.WaitGroup
		for _, queue := range []chan *Conn{l.readyQUIC, l.readyTCP} {
			for c := range waiting(queue) {
				left.Go(func() { _ = c.CloseWith(wire.CloseShutdown, "the collector stops") })
			}
		}
		left.Wait()
		l.end()
		_ = l.tr.Close()
		l.closeSockets()
	})
	return nil
}
