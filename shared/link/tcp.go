package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"syscall"
	"time"
)

// TCP keep-alive: a peer that is gone is noticed after 10 s + 4 × 5 s, the idle time
// of QUIC; while data waits for an acknowledgement, tcpUserTime does the same.
var tcpKeepAlive = net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: 5 * time.Second, Count: 4}

const (
	tcpUserTime = idleTime
	// tcpReceiveBuffer bounds what the kernel holds of one peer; Linux doubles it.
	tcpReceiveBuffer = 256 << 10
)

// tcpCarrier is a TLS connection over TCP, or over a tunnel that a proxy made.
type tcpCarrier struct {
	*tls.Conn
	under  net.Conn     // below the TLS: the socket, or the TLS to the proxy
	socket *net.TCPConn // nil when it is not known
	ctx    context.Context
	cancel context.CancelFunc
	kind   string // TransportTCP or TransportProxy
	addr   string // as dialled, for errors; "" on the listening side
}

func newTCPCarrier(conn *tls.Conn, under net.Conn, socket *net.TCPConn, kind, addr string) *tcpCarrier {
	ctx, cancel := context.WithCancel(context.Background())
	return &tcpCarrier{Conn: conn, under: under, socket: socket, ctx: ctx, cancel: cancel, kind: kind, addr: addr}
}

func (c *tcpCarrier) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.note(err)
	return n, err
}

func (c *tcpCarrier) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.note(err)
	return n, err
}

// note ends the context at an error that is final.
func (c *tcpCarrier) note(err error) {
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.cancel()
	}
}

// linger says that nothing follows and takes what the peer still sends: to close a
// socket with unread bytes would destroy what the peer has not read yet.
func (c *tcpCarrier) linger(limit time.Duration) {
	if c.socket != nil && c.under == net.Conn(c.socket) {
		_ = c.socket.CloseWrite()
	}
	discard(c.under, limit)
}

// discard reads conn to its end; it closes conn when that takes longer than limit.
func discard(conn net.Conn, limit time.Duration) {
	t := time.AfterFunc(limit, func() { _ = conn.Close() })
	defer t.Stop()
	_ = conn.SetReadDeadline(time.Time{})
	_, _ = io.Copy(io.Discard, struct{ io.Reader }{conn})
}

func (c *tcpCarrier) close(string, string) {
	_ = c.under.Close()
	c.cancel()
}

func (c *tcpCarrier) explain(err error) error {
	addr := c.addr
	if addr == "" {
		addr = c.RemoteAddr().String()
	}
	return explainTCP(addr, err)
}

func (c *tcpCarrier) context() context.Context { return c.ctx }
func (c *tcpCarrier) localAddr() net.Addr      { return c.LocalAddr() }
func (c *tcpCarrier) remoteAddr() net.Addr     { return c.RemoteAddr() }
func (c *tcpCarrier) transport() string        { return c.kind }
func (c *tcpCarrier) alpn() string             { return c.ConnectionState().NegotiatedProtocol }

func (c *tcpCarrier) lowerEffort(on bool) {
	if c.socket != nil {
		markSocket(c.socket, on)
	}
}

func (c *tcpCarrier) peerCert() *x509.Certificate {
	if certs := c.ConnectionState().PeerCertificates; len(certs) > 0 {
		return certs[0]
	}
	return nil
}

// remoteAlert is the TLS alert that the peer sent. crypto/tls does not export its
// type for TCP, only the number inside.
func remoteAlert(err error) (alert uint8, ok bool) {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" || op.Err == nil {
		return 0, false
	}
	if v := reflect.ValueOf(op.Err); v.Kind() == reflect.Uint8 {
		return uint8(v.Uint()), true
	}
	return 0, true
}

// explainTCP says what happened to an established connection.
func explainTCP(addr string, err error) error {
	if _, ok := remoteAlert(err); ok {
		return tlsError(addr, true, err)
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &LostError{Reason: "the peer is too slow", Cause: err}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &LostError{Reason: "the peer ended the stream", Cause: err}
	case isReset(err):
		return &LostError{Reason: "the peer, or something on the path, reset the connection", Cause: err}
	case isTimeout(err):
		return &LostError{Reason: "nothing heard for " + idleTime.String(), Cause: err}
	}
	return &LostError{Reason: err.Error(), Cause: err}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, syscall.ETIMEDOUT) || errors.As(err, &n) && n.Timeout()
}

// dialTCP connects to one address.
func dialTCP(ctx context.Context, addr netip.AddrPort, cfg DialConfig, alpn string) (*Conn, error) {
	dctx, cancel := context.WithTimeout(ctx, shakeTime)
	defer cancel()
	socket, err := dialSocket(dctx, addr.String())
	if err != nil {
		return nil, tcpDialError(ctx, cfg.Addr, err)
	}
	return secure(ctx, socket, socket, TransportTCP, cfg, alpn)
}

func dialSocket(ctx context.Context, addr string) (*net.TCPConn, error) {
	d := net.Dialer{KeepAliveConfig: tcpKeepAlive}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	socket := conn.(*net.TCPConn)
	setUserTimeout(socket, tcpUserTime)
	return socket, nil
}

// secure makes a connection of a stream to the collector, or closes the stream.
func secure(ctx context.Context, under net.Conn, socket *net.TCPConn, kind string, cfg DialConfig, alpn string) (*Conn, error) {
	hctx, cancel := context.WithTimeout(ctx, shakeTime)
	defer cancel()
	conn := tls.Client(under, clientTLS(cfg.TLS, alpn))
	err := conn.HandshakeContext(hctx)
	if err == nil && conn.ConnectionState().NegotiatedProtocol != alpn {
		err = errWrongProtocol
	}
	if err != nil {
		_ = under.Close()
		return nil, tcpShakeError(ctx, cfg.Addr, err, cfg.TLS)
	}
	return newConn(newTCPCarrier(conn, under, socket, kind, cfg.Addr)), nil
}

var errWrongProtocol = errors.New("the peer does not speak our protocol")

// tcpDialError says why there is no TCP connection.
func tcpDialError(ctx context.Context, addr string, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	switch {
	case isRefused(err):
		return &DialError{Kind: KindRefused, Addr: addr, Cause: err,
			Advice: "no collector listens there on TCP, or a firewall rejects it: check that the collector runs, and the port"}
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return &DialError{Kind: KindBlackholed, Addr: addr, Cause: err,
			Advice: "no answer on TCP: allow outbound TCP to this address and port in the firewall, and check that the collector runs"}
	}
	return &DialError{Kind: KindBlackholed, Addr: addr, Cause: err,
		Advice: "this machine cannot connect there: check its network and its firewall"}
}

// tcpShakeError says why a TCP connection did not become a TLS connection.
func tcpShakeError(ctx context.Context, addr string, err error, tlsc *tls.Config) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	const noApplicationProtocol = 120 // RFC 7301
	var record tls.RecordHeaderError
	alert, remote := remoteAlert(err)
	switch {
	case errors.Is(err, errWrongProtocol), remote && alert == noApplicationProtocol:
		return &DialError{Kind: KindProtocol, Addr: addr, Cause: err,
			Advice: "what answers there speaks TLS, but is not a collector of this version, or something on the path inspects TLS: check the address, and exempt " + hostOf(addr) + " from inspection"}
	case remote:
		return tlsError(addr, true, err)
	case errors.As(err, &record):
		return &DialError{Kind: KindProtocol, Addr: addr, Cause: err,
			Advice: "what answers there does not speak TLS (a captive portal?): check the address"}
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return &DialError{Kind: KindBlackholed, Addr: addr, Cause: err,
			Advice: "the connection is taken, but nobody answers the TLS handshake: a firewall swallows it, or the collector is overloaded"}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), isReset(err):
		return &DialError{Kind: KindRefused, Addr: addr, Cause: err,
			Advice: "the connection was cut in the TLS handshake: a firewall does not let it pass, or the collector takes no more connections at the moment"}
	}
	return chainError(addr, err, tlsc)
}

func hostOf(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return strings.Trim(host, "[]")
	}
	return addr
}
