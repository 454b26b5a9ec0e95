package linktest

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// server runs handle for each TCP connection until the test ends, and then closes
// what is open and waits.
type server struct {
	ln     net.Listener
	handle func(*server, net.Conn)
	group  sync.WaitGroup

	mu    sync.Mutex
	over  bool       // guarded by mu
	conns []net.Conn // guarded by mu
}

func serve(tb testing.TB, handle func(*server, net.Conn)) *server {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s := &server{ln: ln, handle: handle}
	s.group.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if s.own(c) {
				s.group.Go(func() { s.handle(s, c) })
			}
		}
	})
	tb.Cleanup(func() {
		_ = ln.Close()
		s.mu.Lock()
		s.over = true
		s.mu.Unlock()
		s.cut()
		s.group.Wait()
	})
	return s
}

// own makes the end of the test close c.
func (s *server) own(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		_ = c.Close()
		return false
	}
	s.conns = append(s.conns, c)
	return true
}

// cut closes all connections.
func (s *server) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.conns = nil
}

// splice copies both ways until both sides have ended.
func (s *server) splice(a, b net.Conn) {
	var both sync.WaitGroup
	one := func(dst, src net.Conn) {
		_, _ = io.Copy(dst, src)
		if w, ok := dst.(interface{ CloseWrite() error }); ok {
			_ = w.CloseWrite()
		} else {
			_ = dst.Close()
		}
	}
	both.Go(func() { one(a, b) })
	both.Go(func() { one(b, a) })
	both.Wait()
	_ = a.Close()
	_ = b.Close()
}

// ProxyRules say how a Proxy behaves.
type ProxyRules struct {
	User, Password string // asked for when not empty
	Status         int    // what it answers instead of making tunnels
	Answer         string // raw bytes that it answers instead
	Dial           func(target string) (net.Conn, error)
}

// Proxy is an HTTP proxy that makes tunnels (CONNECT).
type Proxy struct {
	s       *server
	tunnels atomic.Int64
	tls     *tls.Config

	mu    sync.Mutex
	rules ProxyRules // guarded by mu
}

// NewProxy starts a proxy; with a root it is an https proxy.
func NewProxy(tb testing.TB, ca *CA) *Proxy {
	tb.Helper()
	p := &Proxy{rules: ProxyRules{Dial: func(target string) (net.Conn, error) { return net.DialTimeout("tcp", target, 5*time.Second) }}}
	if ca != nil {
		p.tls = &tls.Config{Certificates: []tls.Certificate{ca.ServerCert("127.0.0.1")}}
	}
	p.s = serve(tb, p.handle)
	return p
}

// Set changes how the proxy treats connections from now on.
func (p *Proxy) Set(f func(*ProxyRules)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.rules)
}

// URL is the proxy's address; user may be nil.
func (p *Proxy) URL(user *url.Userinfo) *url.URL {
	u := &url.URL{Scheme: "http", Host: p.s.ln.Addr().String(), User: user}
	if p.tls != nil {
		u.Scheme = "https"
	}
	return u
}

// Tunnels is how many tunnels were made.
func (p *Proxy) Tunnels() int64 { return p.tunnels.Load() }

// Cut closes all tunnels.
func (p *Proxy) Cut() { p.s.cut() }

func (p *Proxy) handle(s *server, c net.Conn) {
	defer c.Close()
	p.mu.Lock()
	rules := p.rules
	p.mu.Unlock()
	if p.tls != nil {
		c = tls.Server(c, p.tls)
	}
	if rules.Answer != "" {
		_, _ = io.WriteString(c, rules.Answer)
		_, _ = io.Copy(io.Discard, c)
		return
	}
	in := bufio.NewReader(c)
	req, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	status := rules.Status
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(rules.User+":"+rules.Password))
	switch {
	case req.Method != http.MethodConnect:
		status = http.StatusMethodNotAllowed
	case rules.User != "" && req.Header.Get("Proxy-Authorization") != want:
		status = http.StatusProxyAuthRequired
	}
	if status != 0 {
		fmt.Fprintf(c, "HTTP/1.1 %d %s\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n", status, http.StatusText(status))
		return
	}
	up, err := rules.Dial(req.Host)
	if err != nil {
		fmt.Fprintf(c, "HTTP/1.1 502 %s\r\n\r\n", http.StatusText(http.StatusBadGateway))
		return
	}
	if !s.own(up) {
		return
	}
	p.tunnels.Add(1)
	fmt.Fprint(c, "HTTP/1.1 200 Connection established\r\nVia: linktest\r\n\r\n")
	s.splice(c, up)
}

// Inspect starts a firewall that ends TLS with certificates of its own root and
// passes what is inside on to target. It returns its address.
func (ca *CA) Inspect(target string) string {
	ca.tb.Helper()
	names := map[string]tls.Certificate{}
	var mu sync.Mutex
	return serve(ca.tb, func(s *server, c net.Conn) {
		defer c.Close()
		var protos []string
		near := tls.Server(c, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			mu.Lock()
			defer mu.Unlock()
			cert, ok := names[h.ServerName]
			if !ok {
				cert = ca.ServerCert(h.ServerName)
				names[h.ServerName] = cert
			}
			protos = slices.Clone(h.SupportedProtos)
			return &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: protos}, nil
		}})
		if near.Handshake() != nil {
			return
		}
		far, err := tls.Dial("tcp", target, &tls.Config{InsecureSkipVerify: true, NextProtos: protos})
		if err != nil || !s.own(far) {
			return
		}
		s.splice(near, far)
	}).ln.Addr().String()
}

// Reject starts a server that resets each connection at its first bytes, as a
// firewall does that lets no TLS through. It returns its address.
func Reject(tb testing.TB) string {
	tb.Helper()
	return serve(tb, func(_ *server, c net.Conn) {
		_, _ = c.Read(make([]byte, 1))
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}).ln.Addr().String()
}

// Path is a UDP path with a NAT in it.
type Path struct {
	near   *net.UDPConn
	target *net.UDPAddr
	tb     testing.TB
	group  sync.WaitGroup

	max  atomic.Int64 // larger packets vanish; 0: none do
	lost atomic.Int64
	down atomic.Bool

	mu     sync.Mutex
	client *net.UDPAddr // guarded by mu
	far    *net.UDPConn // guarded by mu
	over   bool         // guarded by mu
}

// NewPath starts a path to target for one client.
func NewPath(tb testing.TB, target string) *Path {
	tb.Helper()
	addr, err := net.ResolveUDPAddr("udp", target)
	if err != nil {
		tb.Fatal(err)
	}
	near, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		tb.Fatal(err)
	}
	p := &Path{near: near, target: addr, tb: tb}
	p.Rebind()
	p.group.Go(p.out)
	tb.Cleanup(func() {
		p.mu.Lock()
		p.over = true
		_ = p.far.Close()
		p.mu.Unlock()
		_ = near.Close()
		p.group.Wait()
	})
	return p
}

// Addr is what the client dials.
func (p *Path) Addr() string { return p.near.LocalAddr().String() }

// Seen is the client's address as the target sees it.
func (p *Path) Seen() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.far.LocalAddr().String()
}

// MaxSize makes packets with more than n bytes of payload vanish; 0 lets all pass.
func (p *Path) MaxSize(n int) { p.max.Store(int64(n)) }

// Down makes all packets vanish.
func (p *Path) Down(on bool) { p.down.Store(on) }

// Lost is how many packets vanished.
func (p *Path) Lost() int64 { return p.lost.Load() }

// Rebind gives the client another source port, as a NAT does that has forgotten it.
// Answers to the old one do not arrive any more.
func (p *Path) Rebind() {
	p.tb.Helper()
	p.Move("")
}

// Move gives the client another address: of loopback, 127.0.0.2 for example.
func (p *Path) Move(ip string) {
	p.tb.Helper()
	var from *net.UDPAddr
	if ip != "" {
		from = &net.UDPAddr{IP: net.ParseIP(ip)}
	}
	far, err := net.DialUDP("udp4", from, p.target)
	if err != nil {
		p.tb.Fatal(err)
	}
	p.mu.Lock()
	old := p.far
	p.far = far
	p.mu.Unlock()
	if old != nil {
		_ = old.Close()
	}
	p.group.Go(func() { p.back(far) })
}

func (p *Path) passes(n int) bool {
	most := p.max.Load()
	if p.down.Load() || most != 0 && int64(n) > most {
		p.lost.Add(1)
		return false
	}
	return true
}

func (p *Path) out() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := p.near.ReadFromUDP(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.client = from
		far := p.far
		p.mu.Unlock()
		if p.passes(n) {
			_, _ = far.Write(buf[:n])
		}
	}
}

func (p *Path) back(far *net.UDPConn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := far.Read(buf)
		p.mu.Lock()
		client, over, current := p.client, p.over, p.far == far
		p.mu.Unlock()
		if over || !current {
			return
		}
		if err == nil && client != nil && p.passes(n) {
			_, _ = p.near.WriteToUDP(buf[:n], client)
		}
	}
}
