package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"sidetone/shared/wire"
)

// Transports. A collector cannot tell TransportProxy from TransportTCP.
const (
	TransportQUIC  = "quic"
	TransportTCP   = "tcp"
	TransportProxy = "proxy" // TCP through an HTTP proxy
)

// DialConfig says whom to connect to and as whom.
type DialConfig struct {
	Addr string // host:port
	// Transport is what to connect over: one of the Transport constants, "" is QUIC.
	Transport string
	// Proxy is asked for a tunnel (HTTP CONNECT) when Transport is TransportProxy:
	// http or https, with user and password if it wants them.
	Proxy *url.URL
	// ProxyTLS is for a proxy that is spoken to over https; nil trusts the roots of
	// the system.
	ProxyTLS *tls.Config
	// TLS has roots, client certificate and server name; link adds the protocol.
	TLS *tls.Config
	Log zerolog.Logger
}

const (
	// maxAddrs bounds the addresses of a name that are tried.
	maxAddrs = 4
	// refusalTime is how long an ICMP "port unreachable" is waited for.
	refusalTime = 2 * time.Second
)

// Dial connects an enrolled agent to a collector. The error is a *DialError, or
// that of ctx.
func Dial(ctx context.Context, cfg DialConfig) (*Conn, error) {
	return dial(ctx, cfg, wire.ALPNLink)
}

func dial(ctx context.Context, cfg DialConfig, alpn string) (*Conn, error) {
	var one func(context.Context, netip.AddrPort, DialConfig, string) (*Conn, error)
	switch cfg.Transport {
	case "", TransportQUIC:
		one = dialQUIC
	case TransportTCP:
		one = dialTCP
	case TransportProxy:
		return dialProxy(ctx, cfg, alpn)
	default:
		return nil, &DialError{Kind: KindProtocol, Addr: cfg.Addr, Cause: fmt.Errorf("no transport is named %q", cfg.Transport)}
	}
	addrs, err := resolve(ctx, cfg.Addr)
	if err != nil {
		return nil, err
	}
	for i, a := range addrs {
		var conn *Conn
		conn, err = one(ctx, a, cfg, alpn)
		if err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			break
		}
		if i < len(addrs)-1 {
			cfg.Log.Debug().Str("addr", a.String()).Err(err).Msg("trying the next address")
		}
	}
	return nil, err
}

// splitAddr takes host:port apart.
func splitAddr(addr string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(addr)
	n, perr := strconv.ParseUint(text, 10, 16)
	if err = errors.Join(err, perr); err != nil {
		return "", 0, &DialError{Kind: KindResolve, Addr: addr, Cause: err, Advice: "the address must be host:port"}
	}
	return host, uint16(n), nil
}

// resolve gives the addresses of host:port in the order of trying.
func resolve(ctx context.Context, addr string) ([]netip.AddrPort, error) {
	host, port, err := splitAddr(addr)
	if err != nil {
		return nil, err
	}
	var ips []netip.Addr
	if ip, perr := netip.ParseAddr(host); perr == nil {
		ips = []netip.Addr{ip}
	} else if ips, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &DialError{Kind: KindResolve, Addr: addr, Cause: err,
			Advice: "check the name, and the DNS servers of this machine"}
	}
	if len(ips) == 0 {
		return nil, &DialError{Kind: KindResolve, Addr: addr, Advice: "the name has no address"}
	}
	var out []netip.AddrPort
	for _, ip := range ips[:min(len(ips), maxAddrs)] {
		out = append(out, netip.AddrPortFrom(ip.Unmap(), port))
	}
	return out, nil
}

// watchRefusal ends the returned context when the host says that nobody listens
// on the port. The QUIC socket is not connected, so it would never hear that: a
// second socket is, and sends one byte, which a collector ignores.
func watchRefusal(ctx context.Context, addr *net.UDPAddr) (context.Context, *atomic.Bool, func()) {
	ctx, cancel := context.WithCancel(ctx)
	refused := new(atomic.Bool)
	probe, err := net.DialUDP("udp", nil, addr)
	if err != nil {
		return ctx, refused, cancel
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = probe.SetDeadline(time.Now().Add(refusalTime))
		if _, err := probe.Write([]byte{0}); err != nil {
			return
		}
		if _, err := probe.Read(make([]byte, 1)); isRefused(err) {
			refused.Store(true)
			cancel()
		}
	}()
	return ctx, refused, func() {
		_ = probe.Close()
		<-done
		cancel()
	}
}

func refusedError(addr string, cause error) error {
	return &DialError{Kind: KindRefused, Addr: addr, Cause: fmt.Errorf("port unreachable (%w)", cause),
		Advice: "no collector listens there, or a firewall rejects UDP: check that the collector runs, and the port"}
}
