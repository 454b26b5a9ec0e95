package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	// proxyTime is for the tunnel: reaching the proxy and having its answer.
	proxyTime = 10 * time.Second
	// maxProxyAnswer bounds the head of a proxy's answer, maxProxyLine what we quote.
	maxProxyAnswer = 16 << 10
	maxProxyLine   = 100
)

// dialProxy connects through a tunnel of an HTTP proxy. The proxy resolves the
// collector's name: where there is a proxy, there is often no other way to.
func dialProxy(ctx context.Context, cfg DialConfig, alpn string) (*Conn, error) {
	if _, _, err := splitAddr(cfg.Addr); err != nil {
		return nil, err
	}
	if strings.ContainsFunc(cfg.Addr, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }) {
		return nil, &DialError{Kind: KindResolve, Addr: short(cfg.Addr), Advice: "the address must be host:port"} // it goes into a header
	}
	p := proxy{url: cfg.Proxy, tls: cfg.ProxyTLS, target: cfg.Addr}
	addr, err := p.addr()
	if err != nil {
		return nil, p.fail(err, "the proxy must be http://host:port or https://host:port, with user:password@ before the host if it wants them")
	}
	pctx, cancel := context.WithTimeout(ctx, proxyTime)
	defer cancel()
	socket, err := dialSocket(pctx, addr)
	if err != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, ctx.Err()
		}
		return nil, p.fail(fmt.Errorf("reach proxy %s: %w", addr, err), "the proxy is not reached: check its address, and that it runs")
	}
	under, err := p.tunnel(pctx, socket)
	if err != nil {
		_ = socket.Close()
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, ctx.Err()
		}
		return nil, err
	}
	return secure(ctx, under, socket, TransportProxy, cfg, alpn)
}

// proxy is an HTTP proxy that is asked for a tunnel to target.
type proxy struct {
	url    *url.URL
	tls    *tls.Config
	target string
}

func (p *proxy) fail(cause error, advice string) *DialError {
	return &DialError{Kind: KindProxy, Addr: p.target, Cause: cause, Advice: advice}
}

// addr is the proxy's host:port.
func (p *proxy) addr() (string, error) {
	if p.url == nil {
		return "", errors.New("no proxy is set")
	}
	port := p.url.Port()
	switch {
	case p.url.Scheme != "http" && p.url.Scheme != "https":
		return "", fmt.Errorf("proxy %s: no such kind of proxy", p.url.Redacted())
	case p.url.Hostname() == "":
		return "", fmt.Errorf("proxy %s: no host", p.url.Redacted())
	case port == "" && p.url.Scheme == "https":
		port = "443"
	case port == "":
		port = "80"
	}
	return net.JoinHostPort(p.url.Hostname(), port), nil
}

// tunnel asks for the tunnel over socket and returns what carries it.
func (p *proxy) tunnel(ctx context.Context, socket net.Conn) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { _ = socket.SetDeadline(past) })
	defer stop()
	conn := socket
	if p.url.Scheme == "https" {
		c := &tls.Config{}
		if p.tls != nil {
			c = p.tls.Clone()
		}
		if c.ServerName == "" {
			c.ServerName = p.url.Hostname()
		}
		c.MinVersion, c.NextProtos = max(c.MinVersion, tls.VersionTLS12), []string{"http/1.1"}
		secured := tls.Client(socket, c)
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, p.fail(fmt.Errorf("TLS with proxy %s: %w", p.url.Host, err), "the TLS connection to the proxy did not succeed: check that it is an https proxy, and that this machine trusts its certificate")
		}
		conn = secured
	}
	if _, err := conn.Write(p.request()); err != nil {
		return nil, p.fail(fmt.Errorf("ask proxy %s for a tunnel: %w", p.url.Host, err), "the proxy ended the connection: check its address")
	}
	in := bufio.NewReaderSize(&io.LimitedReader{R: conn, N: maxProxyAnswer}, 4<<10)
	status, text, offers, err := readAnswer(in)
	if err != nil {
		return nil, p.fail(fmt.Errorf("answer of proxy %s: %w", p.url.Host, err), "what answers there is no HTTP proxy, or it is overloaded: check its address")
	}
	if status < 200 || status > 299 {
		return nil, p.refused(status, text, offers)
	}
	if in.Buffered() > 0 {
		return nil, p.fail(fmt.Errorf("proxy %s speaks before us in the tunnel", p.url.Host), "this proxy does not tunnel as it should: ask who runs it")
	}
	if !stop() { // the deadline came, and may be set at any moment
		return nil, p.fail(context.DeadlineExceeded, "the proxy is too slow")
	}
	return conn, nil
}

func (p *proxy) request() []byte {
	b := fmt.Appendf(nil, "CONNECT %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: sidetone\r\n", p.target, p.target)
	if u := p.url.User; u != nil {
		password, _ := u.Password()
		b = fmt.Appendf(b, "Proxy-Authorization: Basic %s\r\n", base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	return append(b, "\r\n"...)
}

// readAnswer reads the head of a proxy's answer: the status, its text, and which
// ways of signing in the proxy offers.
func readAnswer(in *bufio.Reader) (status int, text string, offers []string, err error) {
	line, err := readLine(in)
	if err != nil {
		return 0, "", nil, err
	}
	version, rest, _ := strings.Cut(line, " ")
	code, text, _ := strings.Cut(rest, " ")
	status, err = strconv.Atoi(code)
	if err != nil || !strings.HasPrefix(version, "HTTP/1.") || len(code) != 3 {
		return 0, "", nil, fmt.Errorf("not HTTP: %q", short(line))
	}
	for {
		line, err := readLine(in)
		if err != nil {
			return 0, "", nil, err
		}
		if line == "" {
			return status, short(text), offers, nil
		}
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "Proxy-Authenticate") && len(offers) < 4 {
			scheme, _, _ := strings.Cut(strings.TrimSpace(value), " ")
			offers = append(offers, short(scheme))
		}
	}
}

func readLine(in *bufio.Reader) (string, error) {
	line, err := in.ReadSlice('\n')
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

// short makes text of a proxy fit to be shown.
func short(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	if len(s) > maxProxyLine {
		s = strings.ToValidUTF8(s[:maxProxyLine], "") + "…"
	}
	return s
}

func (p *proxy) refused(status int, text string, offers []string) *DialError {
	cause := fmt.Errorf("proxy %s answered %d %s", p.url.Host, status, text)
	switch {
	case status == 407 && p.url.User == nil:
		return p.fail(cause, "the proxy wants a user and a password"+offered(offers)+": put them into the proxy's address")
	case status == 407:
		return p.fail(cause, "the proxy does not accept this user and password"+offered(offers)+"; only Basic is known here")
	case status == 403, status == 405:
		return p.fail(cause, "the proxy does not allow a tunnel to "+p.target+": allow CONNECT to this host and port there")
	case status == 502, status == 503, status == 504:
		return p.fail(cause, "the proxy cannot reach "+p.target+": check that it resolves the name and may connect there, and that the collector runs")
	}
	return p.fail(cause, "the proxy makes no tunnel: look at its log")
}

func offered(schemes []string) string {
	if len(schemes) == 0 {
		return ""
	}
	return " (it offers " + strings.Join(schemes, ", ") + ")"
}
