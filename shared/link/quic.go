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
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"sidetone/shared/wire"
)

// Numbers of the QUIC connection. The windows bound what one peer can make us
// buffer: quic-go's own defaults allow 15 MB each.
const (
	idleTime  = 30 * time.Second
	keepAlive = 10 * time.Second // RFC 9000, 10.1.2: most middleboxes keep 30 s
	shakeTime = 5 * time.Second

	streamWindowMin = 128 << 10
	streamWindowMax = 512 << 10
	connWindowMin   = 192 << 10
	connWindowMax   = 1536 << 10

	// firstPacket is the size that every QUIC path must carry.
	firstPacket = 1200
)

func quicConfig() *quic.Config {
	return &quic.Config{
		Versions:                       []quic.Version{quic.Version1},
		HandshakeIdleTimeout:           shakeTime,
		MaxIdleTimeout:                 idleTime,
		InitialStreamReceiveWindow:     streamWindowMin,
		MaxStreamReceiveWindow:         streamWindowMax,
		InitialConnectionReceiveWindow: connWindowMin,
		MaxConnectionReceiveWindow:     connWindowMax,
		MaxIncomingUniStreams:          -1,
		InitialPacketSize:              firstPacket,
		Allow0RTT:                      false, // 0-RTT can be replayed
	}
}

// codes are the close codes as QUIC application errors. Numbers are on the wire:
// they do not change.
var codes = map[string]quic.ApplicationErrorCode{
	wire.CloseReplaced: 1,
	wire.CloseRevoked:  2,
	wire.CloseProtocol: 3,
	wire.CloseExpired:  4,
	wire.CloseShutdown: 5,
	CloseBusy:          6,
}

// CloseBusy is the close code of a collector that has no room for the connection.
const CloseBusy = "busy"

func codeName(n quic.ApplicationErrorCode) string {
	for name, c := range codes {
		if c == n {
			return name
		}
	}
	return "other"
}

// maxReason bounds the reason in a CONNECTION_CLOSE, which must fit one packet.
const maxReason = 256

// quicCarrier is a QUIC connection with its one stream.
type quicCarrier struct {
	*quic.Stream
	conn *quic.Conn
	addr string // as dialled, for errors; "" on the listening side
	// free releases what the dialling side made for this connection.
	free func()
	// mark marks what is sent; nil on the listening side, whose socket serves all.
	mark func(bool)
}

func (c *quicCarrier) close(code, reason string) {
	if len(reason) > maxReason {
		reason = reason[:maxReason]
	}
	_ = c.conn.CloseWithError(codes[code], reason)
	if c.free != nil {
		c.free()
	}
}

func (c *quicCarrier) context() context.Context { return c.conn.Context() }
func (c *quicCarrier) localAddr() net.Addr      { return c.conn.LocalAddr() }
func (c *quicCarrier) remoteAddr() net.Addr     { return c.conn.RemoteAddr() }
func (c *quicCarrier) transport() string        { return TransportQUIC }
func (c *quicCarrier) alpn() string             { return c.conn.ConnectionState().TLS.NegotiatedProtocol }

func (c *quicCarrier) lowerEffort(on bool) {
	if c.mark != nil {
		c.mark(on)
	}
}

func (c *quicCarrier) linger(limit time.Duration) { lingerUntil(c.conn.Context(), limit) }

// lingerUntil waits until the peer, having read our Close, closes its side.
func lingerUntil(closed context.Context, limit time.Duration) {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-closed.Done():
	case <-t.C:
	}
}

func (c *quicCarrier) peerCert() *x509.Certificate {
	if certs := c.conn.ConnectionState().TLS.PeerCertificates; len(certs) > 0 {
		return certs[0]
	}
	return nil
}

func (c *quicCarrier) explain(err error) error {
	addr := c.addr
	if addr == "" {
		addr = c.conn.RemoteAddr().String()
	}
	return explainQUIC(addr, err)
}

// explainQUIC says what happened to an established connection.
func explainQUIC(addr string, err error) error {
	var (
		app   *quic.ApplicationError
		tp    *quic.TransportError
		idle  *quic.IdleTimeoutError
		reset *quic.StatelessResetError
		strm  *quic.StreamError
	)
	switch {
	case errors.As(err, &app):
		return &ClosedError{Code: codeName(app.ErrorCode), Reason: app.ErrorMessage, Local: !app.Remote}
	case errors.As(err, &tp) && tp.ErrorCode.IsCryptoError():
		return tlsError(addr, tp.Remote, err)
	case errors.As(err, &idle):
		return &LostError{Reason: "nothing heard for " + idleTime.String(), Cause: err}
	case errors.As(err, &reset):
		return &LostError{Reason: "the peer has restarted", Cause: err}
	case errors.As(err, &strm), errors.Is(err, io.EOF):
		return &LostError{Reason: "the peer ended the stream", Cause: err}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &LostError{Reason: "the peer is too slow", Cause: err}
	}
	return &LostError{Reason: err.Error(), Cause: err}
}

// dialQUIC connects to one address. On success the connection owns its socket.
func dialQUIC(ctx context.Context, ap netip.AddrPort, cfg DialConfig, alpn string) (*Conn, error) {
	name, addr, network := cfg.Addr, net.UDPAddrFromAddrPort(ap), "udp4"
	if !ap.Addr().Is4() {
		network = "udp6"
	}
	plain, err := net.ListenUDP(network, nil)
	if err != nil {
		return nil, &DialError{Kind: KindBlackholed, Addr: name, Cause: err,
			Advice: "this machine gives us no UDP socket: check its network and its limits"}
	}
	socket := markable(plain)
	tr := &quic.Transport{Conn: socket}
	free := sync.OnceFunc(func() {
		_ = tr.Close()
		_ = socket.Close()
	})
	ctx, refused, stop := watchRefusal(ctx, addr)
	defer stop()

	qc := quicConfig()
	qc.KeepAlivePeriod = keepAlive
	qc.MaxIncomingStreams = -1
	conn, err := tr.Dial(ctx, addr, clientTLS(cfg.TLS, alpn), qc)
	if err == nil {
		var stream *quic.Stream
		if stream, err = conn.OpenStreamSync(ctx); err == nil {
			context.AfterFunc(conn.Context(), free)
			return newConn(&quicCarrier{Stream: stream, conn: conn, addr: name, free: free, mark: socket.lowerEffort}), nil
		}
		_ = conn.CloseWithError(codes[wire.CloseProtocol], "no stream")
	}
	free()
	if refused.Load() {
		return nil, refusedError(name, err)
	}
	return nil, dialError(name, err, cfg.TLS)
}

// dialError says why a dial failed.
func dialError(addr string, err error, tlsc *tls.Config) error {
	var (
		shake   *quic.HandshakeTimeoutError
		idle    *quic.IdleTimeoutError
		tp      *quic.TransportError
		version *quic.VersionNegotiationError
		app     *quic.ApplicationError
		closed  *ClosedError
	)
	switch {
	case errors.As(err, &shake), errors.As(err, &idle), errors.Is(err, context.DeadlineExceeded):
		return &DialError{Kind: KindBlackholed, Addr: addr, Cause: err,
			Advice: "no answer on UDP: allow outbound UDP to this address and port in the firewall, and check that the collector runs"}
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &tp) && tp.ErrorCode.IsCryptoError():
		const noApplicationProtocol = 0x100 + 120 // RFC 9001, 8.1
		if tp.ErrorCode == noApplicationProtocol {
			return &DialError{Kind: KindProtocol, Addr: addr, Cause: err,
				Advice: "what answers there speaks QUIC, but is not a collector of this version: check the address"}
		}
		if tp.Remote {
			return tlsError(addr, true, err)
		}
		return chainError(addr, err, tlsc)
	case errors.As(err, &tp) && tp.ErrorCode == quic.ConnectionRefused:
		return &DialError{Kind: KindRefused, Addr: addr, Cause: err,
			Advice: "the collector takes no more connections at the moment"}
	case errors.As(err, &app):
		closed = &ClosedError{Code: codeName(app.ErrorCode), Reason: app.ErrorMessage, Local: !app.Remote}
		return &DialError{Kind: KindRefused, Addr: addr, Cause: closed}
	case errors.As(err, &version):
		return &DialError{Kind: KindProtocol, Addr: addr, Cause: err, Advice: "the peer speaks another QUIC version"}
	case isSocketError(err):
		return &DialError{Kind: KindBlackholed, Addr: addr, Cause: err,
			Advice: "this machine cannot send there: check its network and its firewall"}
	}
	return &DialError{Kind: KindProtocol, Addr: addr, Cause: err}
}

func isSocketError(err error) bool {
	var op *net.OpError
	return errors.As(err, &op)
}
