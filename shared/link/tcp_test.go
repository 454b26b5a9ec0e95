package link_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"sidetone/shared/link"
	"sidetone/shared/link/linktest"
	"sidetone/shared/wire"
)

// wantDial checks a failed dial.
func wantDial(t *testing.T, conn *link.Conn, err error, kind string, words ...string) {
	t.Helper()
	if err == nil {
		_ = conn.CloseWith(wire.CloseShutdown, "")
		t.Fatal("connected")
	}
	var d *link.DialError
	if !errors.As(err, &d) || d.Kind != kind {
		t.Fatalf("err = %v; want kind %s", err, kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("err = %v; want %q in it", err, w)
		}
	}
}

func TestTCPDialErrors(t *testing.T) {
	t.Parallel()
	ca, evil := linktest.NewCA(t, "root"), linktest.NewCA(t, "Evil Proxy Inc")
	ln := ca.Listen("")
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := free.Addr().String()
	free.Close()
	hole, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	web := httpServer(t, "no TLS here")
	wrongName := ca.Agent(agent, soon())
	wrongName.ServerName = "www.example.net"
	cases := []struct {
		name, addr string
		tls        *tls.Config
		kind, word string
		wait       time.Duration
	}{
		{"nobody listens", closed, ca.Agent(agent, soon()), link.KindRefused, "collector runs", 0},
		{"a firewall resets the handshake", linktest.Reject(t), ca.Agent(agent, soon()), link.KindRefused, "cut in the TLS handshake", 0},
		{"black hole", hole.Addr().String(), ca.Agent(agent, soon()), link.KindBlackholed, "nobody answers the TLS handshake", 300 * time.Millisecond},
		{"no TLS", web, ca.Agent(agent, soon()), link.KindProtocol, "does not speak TLS", 0},
		{"inspection", evil.Inspect(ln.Addr().String()), ca.Agent(agent, soon()), link.KindIntercepted, `TLS inspection: issuer "CN=Evil Proxy Inc"; exempt host 127.0.0.1 from inspection`, 0},
		{"another name", ln.Addr().String(), wrongName, link.KindTLS, "check the address", 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ctx := limit(t)
			if c.wait != 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, c.wait)
				defer cancel()
			}
			conn, err := link.Dial(ctx, link.DialConfig{Addr: c.addr, Transport: link.TransportTCP, TLS: c.tls})
			wantDial(t, conn, err, c.kind, c.word)
		})
	}
}

func httpServer(t *testing.T, text string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }), ReadHeaderTimeout: time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return ln.Addr().String()
}

// TestInterceptedWhateverElseIsWrong: an inspecting firewall whose certificate is also
// expired or of another name is still named, over QUIC and TCP, and also to an owner
// that checks the chain itself.
func TestInterceptedWhateverElseIsWrong(t *testing.T) {
	ca, evil := linktest.NewCA(t, "root"), linktest.NewCA(t, "Evil \x1b[31m Proxy\r\nInc")
	ln := evil.Listen("")
	name := ca.Agent(agent, soon())
	name.ServerName = "blocked.example"
	clock := ca.Agent(agent, soon())
	clock.Time = func() time.Time { return time.Now().Add(1000 * time.Hour) }
	errPin := errors.New("not the pinned root")
	pinned := ca.Stranger()
	pinned.InsecureSkipVerify = true
	pinned.VerifyConnection = func(tls.ConnectionState) error { return errPin }
	for name, c := range map[string]*tls.Config{"plain": ca.Agent(agent, soon()), "name": name, "clock": clock, "pinned": pinned} {
		for _, transport := range []string{link.TransportQUIC, link.TransportTCP} {
			t.Run(name+" "+transport, func(t *testing.T) {
				conn, err := link.Dial(limit(t), link.DialConfig{Addr: ln.Addr().String(), Transport: transport, TLS: c})
				wantDial(t, conn, err, link.KindIntercepted, "TLS inspection", "exempt host 127.0.0.1")
				var d *link.DialError
				if errors.As(err, &d); !strings.Contains(d.Issuer, "Evil") || strings.ContainsAny(d.Issuer, "\x1b\r\n") {
					t.Errorf("issuer = %q", d.Issuer)
				}
				if name == "pinned" && !errors.Is(err, errPin) {
					t.Errorf("the owner's own error is lost: %v", err)
				}
			})
		}
	}
}

func TestProxyRefusals(t *testing.T) {
	t.Parallel()
	ca := linktest.NewCA(t, "root")
	addr := ca.Listen("").Addr().String()
	cases := []struct {
		name  string
		set   func(*linktest.ProxyRules)
		user  *url.Userinfo
		words []string
	}{
		{"wants a password", func(r *linktest.ProxyRules) { r.User, r.Password = "u", "p" }, nil, []string{"407", "wants a user and a password (it offers Basic)"}},
		{"wrong password", func(r *linktest.ProxyRules) { r.User, r.Password = "u", "p" }, url.UserPassword("u", "hunter2"), []string{"does not accept this user"}},
		{"forbidden", func(r *linktest.ProxyRules) { r.Status = 403 }, nil, []string{"403", "allow CONNECT"}},
		{"bad gateway", func(r *linktest.ProxyRules) { r.Status = 502 }, nil, []string{"502", "the proxy cannot reach"}},
		{"unavailable", func(r *linktest.ProxyRules) { r.Status = 503 }, nil, []string{"503"}},
		{"redirect", func(r *linktest.ProxyRules) { r.Status = 302 }, nil, []string{"302", "makes no tunnel"}},
		{"not HTTP", func(r *linktest.ProxyRules) { r.Answer = "SSH-2.0-OpenSSH\r\n" }, nil, []string{"no HTTP proxy"}},
		{"speaks first", func(r *linktest.ProxyRules) { r.Answer = "HTTP/1.1 200 OK\r\n\r\nhello" }, nil, []string{"speaks before us"}},
		{"endless line", func(r *linktest.ProxyRules) { r.Answer = "HTTP/1.1 200 " + strings.Repeat("x", 64<<10) }, nil, []string{"no HTTP proxy"}},
		{"endless head", func(r *linktest.ProxyRules) { r.Answer = "HTTP/1.1 200 OK\r\n" + strings.Repeat("a: b\r\n", 10_000) }, nil, []string{"no HTTP proxy"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := linktest.NewProxy(t, nil)
			p.Set(c.set)
			conn, err := link.Dial(limit(t), link.DialConfig{Addr: addr, Transport: link.TransportProxy, Proxy: p.URL(c.user), TLS: ca.Agent(agent, soon())})
			wantDial(t, conn, err, link.KindProxy, c.words...)
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the password is in the error: %v", err)
			}
		})
	}
	t.Run("unreachable", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ln.Close()
		conn, err := link.Dial(limit(t), link.DialConfig{Addr: addr, Transport: link.TransportProxy, TLS: ca.Agent(agent, soon()),
			Proxy: &url.URL{Scheme: "http", Host: ln.Addr().String(), User: url.UserPassword("u", "hunter2")}})
		wantDial(t, conn, err, link.KindProxy, "is not reached")
	})
	for _, u := range []*url.URL{nil, {Scheme: "socks5", Host: "x:1"}, {Scheme: "http"}} {
		conn, err := link.Dial(limit(t), link.DialConfig{Addr: addr, Transport: link.TransportProxy, TLS: ca.Agent(agent, soon()), Proxy: u})
		wantDial(t, conn, err, link.KindProxy, "http://host:port")
	}
	conn, err := link.Dial(limit(t), link.DialConfig{Addr: "a\r\nX: y:443", Transport: link.TransportProxy, TLS: ca.Agent(agent, soon()), Proxy: linktest.NewProxy(t, nil).URL(nil)})
	wantDial(t, conn, err, link.KindResolve, "host:port")
}

// TestProxyOverTLS: an https proxy, and inspection behind a proxy is named as such.
func TestProxyOverTLS(t *testing.T) {
	ctx := limit(t)
	ca, proxyCA, evil := linktest.NewCA(t, "root"), linktest.NewCA(t, "proxy root"), linktest.NewCA(t, "Evil Proxy Inc")
	ln := ca.Listen("")
	p := linktest.NewProxy(t, proxyCA)
	p.Set(func(r *linktest.ProxyRules) { r.User, r.Password = "u", "p" })
	cfg := link.DialConfig{Addr: ln.Addr().String(), Transport: link.TransportProxy, Proxy: p.URL(url.UserPassword("u", "p")), TLS: ca.Agent(agent, soon())}

	conn, err := link.Dial(ctx, cfg)
	wantDial(t, conn, err, link.KindProxy, "this machine trusts its certificate")

	cfg.ProxyTLS = &tls.Config{RootCAs: pool(proxyCA)}
	if conn, err = link.Dial(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	c, err := ln.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Send(ctx, wire.Drain{Reason: "x"}); err != nil {
		t.Fatal(err)
	}
	if msg, err := conn.Recv(ctx); err != nil || msg.(*wire.Drain).Reason != "x" || conn.Transport() != link.TransportProxy || c.Transport() != link.TransportTCP {
		t.Errorf("Recv = %v, %v over %s and %s", msg, err, conn.Transport(), c.Transport())
	}
	conn.SetLowerEffort(true) // marks the socket to the proxy
	p.Cut()
	var lost *link.LostError
	if _, err := conn.Recv(ctx); !errors.As(err, &lost) {
		t.Errorf("Recv after the proxy died = %v; want LostError", err)
	}

	inside := evil.Inspect(ln.Addr().String())
	p.Set(func(r *linktest.ProxyRules) {
		r.Dial = func(string) (net.Conn, error) { return net.Dial("tcp", inside) }
	})
	conn, err = link.Dial(ctx, cfg)
	wantDial(t, conn, err, link.KindIntercepted, "Evil Proxy Inc")
}

func pool(ca *linktest.CA) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.Cert)
	return p
}

// TestSharedPort: pages and agents on one port, told apart by ALPN.
func TestSharedPort(t *testing.T) {
	t.Parallel()
	ctx := limit(t)
	ca := linktest.NewCA(t, "root")
	ln := ca.ListenWith(link.ListenConfig{ShareTCP: true})
	srv := &http.Server{ReadHeaderTimeout: 5 * time.Second, TLSConfig: &tls.Config{Certificates: []tls.Certificate{ca.ServerCert("127.0.0.1")}},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) })}
	done := make(chan error, 1)
	go func() { done <- srv.ServeTLS(ln.Others(), "", "") }()
	defer func() { _ = srv.Close(); <-done }()

	for _, protos := range [][]string{{"h2"}, {"http/1.1"}, nil} {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool(ca), NextProtos: protos}, ForceAttemptHTTP2: len(protos) > 0 && protos[0] == "h2"}
		resp, err := (&http.Client{Transport: tr}).Get("https://" + ln.Addr().String() + "/")
		if err != nil {
			t.Fatalf("%v: %v", protos, err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		tr.CloseIdleConnections()
		if want := map[bool]string{true: "HTTP/2.0", false: "HTTP/1.1"}[tr.ForceAttemptHTTP2]; string(body) != want {
			t.Errorf("%v: answered over %q", protos, body)
		}
	}
	a, err := link.Dial(ctx, link.DialConfig{Addr: ln.Addr().String(), Transport: link.TransportTCP, TLS: ca.Agent(agent, soon())})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ln.Accept(ctx); err != nil {
		t.Fatal(err)
	}
	if s := ln.Stats(); s.Others != 3 || s.TCP.Live != 1 || s.TCP.Accepted != 1 {
		t.Errorf("stats = %+v", s)
	}
	_ = a.CloseWith(wire.CloseShutdown, "")
}

// TestNotForUs: what speaks no protocol of ours gets no connection, with and without
// pages on the port.
func TestNotForUs(t *testing.T) {
	ca := linktest.NewCA(t, "root")
	ln := ca.Listen("")
	for name, protos := range map[string][]string{"browser": {"h2", "http/1.1"}, "no ALPN": nil} {
		conn, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{RootCAs: pool(ca), ServerName: ca.Stranger().ServerName, NextProtos: protos})
		if err == nil { // without ALPN, TLS itself succeeds
			_, err = bufio.NewReader(conn).ReadByte()
			conn.Close()
		}
		if err == nil {
			t.Errorf("%s was served", name)
		}
	}
}

func TestTCPTurnedOff(t *testing.T) {
	ca := linktest.NewCA(t, "root")
	ln := ca.ListenWith(link.ListenConfig{DisableTCP: true})
	conn, err := link.Dial(limit(t), link.DialConfig{Addr: ln.Addr().String(), Transport: link.TransportTCP, TLS: ca.Agent(agent, soon())})
	wantDial(t, conn, err, link.KindRefused, "on TCP")
	if ln.Others() != nil {
		t.Error("Others without TCP")
	}
}

func TestPortTakenByTCP(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	ca := linktest.NewCA(t, "root")
	ln, err := link.Listen(link.ListenConfig{Addr: taken.Addr().String(), TLS: ca.Server()})
	if err == nil {
		ln.Close()
		t.Fatal("listens on a port that is taken")
	}
	if !strings.Contains(err.Error(), "free for TCP") {
		t.Errorf("err = %v", err)
	}
}

func TestEnrolFallsBack(t *testing.T) {
	t.Parallel()
	ca, ctx := linktest.NewCA(t, "root"), limit(t)
	serve := func(ln *link.Listener) {
		c, err := ln.Accept(ctx)
		if err != nil {
			return
		}
		if _, err := c.Recv(ctx); err == nil {
			_ = c.Send(ctx, wire.EnrolResponse{Site: c.Transport()})
			_, _ = c.Recv(ctx)
		}
	}
	// Only TCP: the same port of UDP is closed, so TCP begins before its turn.
	ln := ca.Listen("")
	go serve(ln)
	fwd := forward(t, ln.Addr().String())
	start := time.Now()
	resp, err := link.Enrol(ctx, fwd, ca.Stranger(), wire.EnrolRequest{Hostname: "pbx"})
	if err != nil || resp.Site != link.TransportTCP {
		t.Errorf("Enrol = %+v, %v; want it over TCP", resp, err)
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
	// Only the proxy: the address is closed, the proxy leads elsewhere.
	ln2 := ca.Listen("")
	go serve(ln2)
	p := linktest.NewProxy(t, nil)
	p.Set(func(r *linktest.ProxyRules) {
		r.Dial = func(string) (net.Conn, error) { return net.Dial("tcp", ln2.Addr().String()) }
	})
	resp, err = link.EnrolWith(ctx, link.DialConfig{Addr: closedPort(t), TLS: ca.Stranger(), Proxy: p.URL(nil)}, wire.EnrolRequest{})
	if err != nil || resp.Site != link.TransportTCP || p.Tunnels() != 1 {
		t.Errorf("EnrolWith = %+v, %v, %d tunnels", resp, err, p.Tunnels())
	}
	// Nothing: the error tells of all.
	_, err = link.EnrolWith(ctx, link.DialConfig{Addr: closedPort(t), TLS: ca.Stranger(), Proxy: &url.URL{Scheme: "http", Host: closedPort(t)}}, wire.EnrolRequest{})
	wantDial(t, nil, err, link.KindProxy, "quic: refused", "tcp: refused", "proxy: proxy")
}

// forward passes TCP on to target; its port is closed for UDP.
func forward(t *testing.T, target string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", target)
			if err != nil {
				near.Close()
				continue
			}
			go func() { _, _ = io.Copy(far, near); far.Close() }()
			go func() { _, _ = io.Copy(near, far); near.Close() }()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}

func closedPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// TestHostileBytes: what a peer sends that is no message, over each transport.
func TestHostileBytes(t *testing.T) {
	t.Parallel()
	onAll(t, testHostileBytes)
}

func testHostileBytes(t *testing.T, transport string) {
	head := func(n uint32, typ wire.Type) []byte { return append(binary.BigEndian.AppendUint32(nil, n), byte(typ)) }
	for name, c := range map[string]struct {
		bytes []byte
		fatal bool
	}{
		"4 GB":         {head(0xffffffff, wire.TypeFrame), true},
		"empty":        {head(0, wire.TypeFrame), true},
		"rubbish":      {bytes.Repeat([]byte{0xff}, 100), true},
		"not CBOR":     {append(head(3, wire.TypeHello), 0xff, 0xff), false},
		"unknown type": {append(head(2, 99), 0xa0), false},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := limit(t)
			a, c2 := pair(t, transport)
			if err := a.WriteRaw(c.bytes); err != nil {
				t.Fatal(err)
			}
			var mal *wire.MalformedError
			if _, err := c2.Recv(ctx); !errors.As(err, &mal) || mal.Fatal != c.fatal {
				t.Fatalf("Recv = %v; want malformed, fatal %t", err, c.fatal)
			}
			if c.fatal {
				var closed *link.ClosedError
				if _, err := a.Recv(ctx); !errors.As(err, &closed) || closed.Code != wire.CloseProtocol || closed.Local {
					t.Errorf("the peer got %v; want close code protocol", err)
				}
				return
			}
			if err := a.Send(ctx, wire.Drain{Reason: "on"}); err != nil {
				t.Fatal(err)
			}
			if msg, err := c2.Recv(ctx); err != nil || msg.(*wire.Drain).Reason != "on" {
				t.Errorf("Recv = %v, %v", msg, err)
			}
		})
	}
}
