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
	"golang.org/x/time/rate"

	"sidetone/shared/wire"
)

// ListenConfig says where and how to listen. Zero limits mean the defaults.
type ListenConfig struct {
	Addr string // host:port, UDP
	// TLS gives the server's configuration for wire.ALPNLink (which must require
	// and verify a client certificate) and wire.ALPNEnrol. It is called for each
	// handshake, so certificates may change.
	TLS func(alpn string) (*tls.Config, error)
	// ResetKey and TokenKey must be the same after a restart: with them the peers
	// of the process before learn at once that it is gone.
	ResetKey, TokenKey [32]byte
	// MaxConns bounds connections, handshakes included. Default 12,000.
	MaxConns int
	// HandshakesPerSecond is the rate of new connections above which a peer must
	// first prove its address (Retry). Default 100.
	HandshakesPerSecond int
	Log                 zerolog.Logger
}

const (
	defaultMaxConns   = 12_000
	defaultHandshakes = 100
	// openTime is what a peer has, after the handshake, to open its stream.
	openTime = 5 * time.Second
	// maxOpening bounds connections between handshake and stream.
	maxOpening = 1024
	// readyQueue is how many opened connections wait for Accept.
	readyQueue = 64
)

// ErrListenerClosed is the error of Accept after Close.
var ErrListenerClosed = errors.New("listener is closed")

// ListenStats counts what a listener has turned away.
type ListenStats struct {
	Live         int64 // connections now, handshakes included
	Refused      int64 // over MaxConns
	Busy         int64 // over the internal queues
	WithoutHello int64 // no stream in time
	Retries      int64 // asked to prove the address first
}

// Listener accepts connections. Its own goroutine takes them from the transport at
// once, so a slow Accept never fills the transport's short queue.
type Listener struct {
	cfg    ListenConfig
	socket *net.UDPConn
	tr     *quic.Transport
	ln     *quic.Listener
	ready  chan *Conn
	cancel context.CancelFunc
	group  errgroup.Group // accept loop and openings
	once   sync.Once
	ctx    context.Context // ends with Close

	live, refused, busy, withoutHello, retries atomic.Int64
}

// Listen opens the socket and begins to accept.
func Listen(cfg ListenConfig) (*Listener, error) {
	if cfg.MaxConns == 0 {
		cfg.MaxConns = defaultMaxConns
	}
	if cfg.HandshakesPerSecond == 0 {
		cfg.HandshakesPerSecond = defaultHandshakes
	}
	addr, err := net.ResolveUDPAddr("udp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen for agents on %s: %w", cfg.Addr, err)
	}
	socket, err := net.ListenUDP("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for agents on %s: %w", cfg.Addr, err)
	}
	l := &Listener{cfg: cfg, socket: socket, ready: make(chan *Conn, readyQueue)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	limiter := rate.NewLimiter(rate.Limit(cfg.HandshakesPerSecond), cfg.HandshakesPerSecond)
	resetKey, tokenKey := quic.StatelessResetKey(cfg.ResetKey), quic.TokenGeneratorKey(cfg.TokenKey)
	l.tr = &quic.Transport{
		Conn:              socket,
		StatelessResetKey: &resetKey,
		TokenGeneratorKey: &tokenKey,
		ConnContext:       l.admit,
		VerifySourceAddress: func(net.Addr) bool {
			if limiter.Allow() {
				return false
			}
			l.retries.Add(1)
			return true
		},
	}
	qc := quicConfig()
	qc.MaxIncomingStreams = 1
	if l.ln, err = l.tr.Listen(&tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: l.tlsFor}, qc); err != nil {
		_ = socket.Close()
		return nil, fmt.Errorf("listen for agents on %s: %w", cfg.Addr, err)
	}
	l.group.Go(l.acceptLoop)
	return l, nil
}

var errFull = errors.New("no room for another connection")

// admit counts a connection from its first packet to its end.
func (l *Listener) admit(ctx context.Context, _ *quic.ClientInfo) (context.Context, error) {
	if l.live.Add(1) > int64(l.cfg.MaxConns) {
		l.live.Add(-1)
		l.refused.Add(1)
		return nil, errFull
	}
	context.AfterFunc(ctx, func() { l.live.Add(-1) })
	return ctx, nil
}

func (l *Listener) tlsFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	for _, alpn := range []string{wire.ALPNLink, wire.ALPNEnrol} {
		if !slices.Contains(hello.SupportedProtos, alpn) {
			continue
		}
		c, err := l.cfg.TLS(alpn)
		if err != nil {
			return nil, fmt.Errorf("TLS configuration for %s: %w", alpn, err)
		}
		c = c.Clone()
		c.NextProtos = []string{alpn}
		return strictTLS(c), nil
	}
	// Some configuration must go back for the handshake to fail with the alert
	// "no application protocol", which a client can explain.
	c, err := l.cfg.TLS(wire.ALPNEnrol)
	if err != nil {
		return nil, err
	}
	c = c.Clone()
	c.NextProtos = []string{wire.ALPNLink, wire.ALPNEnrol}
	return strictTLS(c), nil
}

func (l *Listener) acceptLoop() error {
	opening := make(chan struct{}, maxOpening)
	for {
		qc, err := l.ln.Accept(l.ctx)
		if err != nil {
			return err
		}
		select {
		case opening <- struct{}{}:
			l.group.Go(func() error {
				defer func() { <-opening }()
				l.open(qc)
				return nil
			})
		default:
			l.busy.Add(1)
			_ = qc.CloseWithError(codes[CloseBusy], "too many new connections")
		}
	}
}

// open waits for the peer's stream and hands the connection to Accept.
func (l *Listener) open(qc *quic.Conn) {
	ctx, cancel := context.WithTimeout(l.ctx, openTime)
	defer cancel()
	stream, err := qc.AcceptStream(ctx)
	if err != nil {
		l.withoutHello.Add(1)
		_ = qc.CloseWithError(codes[wire.CloseProtocol], "no stream in time")
		return
	}
	select {
	case l.ready <- newConn(&quicCarrier{Stream: stream, conn: qc}):
	case <-qc.Context().Done():
	case <-ctx.Done():
		l.busy.Add(1)
		_ = qc.CloseWithError(codes[CloseBusy], "the collector is busy")
	}
}

// Accept returns the next connection: the handshake is done and the stream open.
func (l *Listener) Accept(ctx context.Context) (*Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.ctx.Done():
		return nil, ErrListenerClosed
	}
}

// Addr is the address that the listener has.
func (l *Listener) Addr() net.Addr { return l.socket.LocalAddr() }

// Stats returns the counters.
func (l *Listener) Stats() ListenStats {
	return ListenStats{Live: l.live.Load(), Refused: l.refused.Load(), Busy: l.busy.Load(),
		WithoutHello: l.withoutHello.Load(), Retries: l.retries.Load()}
}

// Close stops accepting and ends the connections that are left without a word to
// their peers: close them before with a code.
func (l *Listener) Close() error {
	l.once.Do(func() {
		l.cancel()
		_ = l.ln.Close()
		_ = l.group.Wait() // the error is that of the closed listener
		for {
			select {
			case c := <-l.ready:
				_ = c.CloseWith(wire.CloseShutdown, "the collector stops")
				continue
			default:
			}
			break
		}
		_ = l.tr.Close()
		_ = l.socket.Close()
	})
	return nil
}
