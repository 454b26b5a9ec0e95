// Package outbound reaches addresses that operators give: webhooks, mail servers,
// sign-in providers. It judges the address that a name resolved to, at the moment of
// connecting, so that neither an odd spelling nor a resolver that changes its mind gets
// round it. Networks that are not public are refused unless they are allowed. Proxies of
// the environment are not used, redirects are not followed, sizes and times are bounded.
package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// Limits of one exchange.
const (
	Timeout         = 10 * time.Second
	MaxReply        = 64 << 10
	dialTimeout     = 8 * time.Second
	maxHeader       = 64 << 10
	maxConnsPerHost = 8
)

// Config is what an operator allows.
type Config struct {
	// Allow lists networks that may be reached although they are not public.
	Allow []netip.Prefix
}

// ErrDenied is wrapped by the error of a refused address.
var ErrDenied = errors.New("address is not allowed")

// Client reaches out. It is safe for concurrent use.
type Client struct {
	guard  guard
	dialer net.Dialer
	http   http.Client
}

// New returns a Client.
func New(cfg Config) *Client { return newClient(cfg, nil) }

func newClient(cfg Config, resolver *net.Resolver) *Client {
	c := &Client{guard: guard{allow: cfg.Allow}}
	c.dialer = net.Dialer{Timeout: dialTimeout, Resolver: resolver, ControlContext: c.guard.control}
	c.http = http.Client{
		Timeout: Timeout,
		Transport: &http.Transport{
			Proxy:                  nil,
			DialContext:            c.dialer.DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    dialTimeout,
			ResponseHeaderTimeout:  Timeout,
			MaxResponseHeaderBytes: maxHeader,
			MaxConnsPerHost:        maxConnsPerHost,
			MaxIdleConnsPerHost:    1,
			IdleConnTimeout:        30 * time.Second,
			DisableCompression:     true, // a small reply could unpack into a large one
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

// DialContext connects to an address after judging it.
func (c *Client) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return c.dialer.DialContext(ctx, network, addr)
}

// Response is the answer to a request, read as far as the limit.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
	// Truncated says that there was more than the limit.
	Truncated bool
}

// Do sends a request. A redirect is an answer like any other.
func (c *Client) Do(req *http.Request) (*Response, error) {
	if req.URL.Scheme != "https" && req.URL.Scheme != "http" {
		return nil, fmt.Errorf("scheme %q is neither https nor http", req.URL.Scheme)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxReply+1))
	if err != nil {
		return nil, fmt.Errorf("read reply: %w", err)
	}
	r := &Response{Status: resp.StatusCode, Header: resp.Header, Body: body}
	if len(body) > MaxReply {
		r.Body, r.Truncated = body[:MaxReply], true
	}
	return r, nil
}

// CloseIdle closes connections that are kept for later.
func (c *Client) CloseIdle() { c.http.CloseIdleConnections() }

// guard judges addresses.
type guard struct{ allow []netip.Prefix }

// control is called by the dialer with the address that it is about to connect to.
func (g guard) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return fmt.Errorf("network %s: %w", network, ErrDenied)
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%s: %w", address, ErrDenied)
	}
	return g.check(ap.Addr())
}

// check returns nil when the address may be reached.
func (g guard) check(a netip.Addr) error {
	a = a.Unmap().WithZone("")
	for _, x := range append(embedded(a), a) {
		if why := g.denied(x); why != "" {
			return fmt.Errorf("%s is %s: %w (outbound.allow lists exceptions)", a, why, ErrDenied)
		}
	}
	return nil
}

// denied says why an address may not be reached, or "".
func (g guard) denied(a netip.Addr) string {
	for _, n := range never {
		if n.prefix.Contains(a) {
			return n.why
		}
	}
	for _, p := range g.allow {
		if p.Contains(a) || p.Addr().Is4In6() && netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96).Contains(a) {
			return ""
		}
	}
	for _, n := range special {
		if n.prefix.Contains(a) {
			return n.why
		}
	}
	return ""
}

type network struct {
	prefix netip.Prefix
	why    string
}

// never is what no list of exceptions opens: the services that hand out a machine's own
// credentials, and addresses that name no single host.
var never = []network{
	{netip.MustParsePrefix("169.254.169.254/32"), "a metadata service"},
	{netip.MustParsePrefix("169.254.170.0/24"), "a metadata service"},
	{netip.MustParsePrefix("100.100.100.200/32"), "a metadata service"},
	{netip.MustParsePrefix("168.63.129.16/32"), "a metadata service"},
	{netip.MustParsePrefix("fd00:ec2::/32"), "a metadata service"},
	{netip.MustParsePrefix("fd20:ce::/32"), "a metadata service"},
	{netip.MustParsePrefix("0.0.0.0/8"), "not a host"},
	{netip.MustParsePrefix("::/128"), "not a host"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
}

// special is the registries of special-purpose addresses (RFC 6890), as far as they are
// not global.
var special = []network{
	{netip.MustParsePrefix("127.0.0.0/8"), "this machine"},
	{netip.MustParsePrefix("::1/128"), "this machine"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private"},
	{netip.MustParsePrefix("fc00::/7"), "private"},
	{netip.MustParsePrefix("fec0::/10"), "private"},
	{netip.MustParsePrefix("100.64.0.0/10"), "a carrier's inner network"},
	{netip.MustParsePrefix("192.0.0.0/24"), "reserved"},
	{netip.MustParsePrefix("192.0.2.0/24"), "for documentation"},
	{netip.MustParsePrefix("198.18.0.0/15"), "for benchmarks"},
	{netip.MustParsePrefix("198.51.100.0/24"), "for documentation"},
	{netip.MustParsePrefix("203.0.113.0/24"), "for documentation"},
	{netip.MustParsePrefix("2001:db8::/32"), "for documentation"},
	{netip.MustParsePrefix("100::/64"), "reserved"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "a local translator"},
}

// embedded lists the IPv4 addresses that an IPv6 address leads to by translation or
// tunnel: IPv4-compatible, NAT64 (RFC 6052), 6to4 (RFC 3056), Teredo (RFC 4380).
func embedded(a netip.Addr) []netip.Addr {
	if !a.Is6() {
		return nil
	}
	b := a.As16()
	v4 := func(x []byte) netip.Addr { return netip.AddrFrom4([4]byte(x)) }
	switch {
	case netip.MustParsePrefix("::/96").Contains(a) && a != netip.IPv6Loopback() && a != netip.IPv6Unspecified(),
		netip.MustParsePrefix("64:ff9b::/96").Contains(a):
		return []netip.Addr{v4(b[12:16])}
	case netip.MustParsePrefix("2002::/16").Contains(a):
		return []netip.Addr{v4(b[2:6])}
	case netip.MustParsePrefix("2001::/32").Contains(a):
		return []netip.Addr{v4(b[4:8]), netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]})}
	}
	return nil
}
