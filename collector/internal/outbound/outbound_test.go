package outbound

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAddresses(t *testing.T) {
	allowed := guard{allow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("127.0.0.0/8"),
		netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}
	cases := []struct {
		addr             string
		plain, exception bool // reachable without and with exceptions for everything
	}{
		{"93.184.216.34", true, true}, {"2606:2800:220:1::1", true, true},
		{"127.0.0.1", false, true}, {"127.8.8.8", false, true}, {"::1", false, true},
		{"::ffff:127.0.0.1", false, true}, {"::ffff:10.0.0.1", false, true}, {"::127.0.0.1", false, true},
		{"64:ff9b::7f00:1", false, true}, {"64:ff9b::5db8:d822", true, true}, {"2002:7f00:1::", false, true},
		{"2001:0:5db8:d822::80ff:fffe", false, true}, // Teredo, client 127.0.0.1
		{"10.9.9.9", false, true}, {"172.16.0.1", false, true}, {"172.32.0.1", true, true}, {"192.168.1.1", false, true},
		{"100.64.0.1", false, true}, {"fd12::1", false, true}, {"fe80::1%eth0", false, true}, {"169.254.1.1", false, true},
		{"169.254.169.254", false, false}, {"::ffff:169.254.169.254", false, false}, {"64:ff9b::a9fe:a9fe", false, false},
		{"fd00:ec2::254", false, false}, {"100.100.100.200", false, false}, {"168.63.129.16", false, false},
		{"0.0.0.0", false, false}, {"::", false, false}, {"224.0.0.1", false, false}, {"255.255.255.255", false, false}, {"ff02::1", false, false},
	}
	for _, c := range cases {
		a := netip.MustParseAddr(c.addr)
		if got := (guard{}).check(a) == nil; got != c.plain {
			t.Errorf("%s: reachable %v, want %v", c.addr, got, c.plain)
		}
		if got := allowed.check(a) == nil; got != c.exception {
			t.Errorf("%s with exceptions: reachable %v, want %v", c.addr, got, c.exception)
		}
	}
	one := guard{allow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}
	if one.check(netip.MustParseAddr("10.1.2.3")) != nil || one.check(netip.MustParseAddr("10.2.0.1")) == nil {
		t.Error("an exception opens itself and nothing else")
	}
}

// resolver is a DNS server on the loopback address that answers any name with the
// addresses in turn, as one that rebinds does.
type resolver struct {
	conn  net.PacketConn
	n     atomic.Int64
	addrs []string
	wg    sync.WaitGroup
}

func newResolver(t *testing.T, addrs ...string) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &resolver{conn: conn, addrs: addrs}
	r.wg.Go(r.serve)
	t.Cleanup(func() { conn.Close(); r.wg.Wait() })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func (r *resolver) serve() {
	buf := make([]byte, 512)
	for {
		n, from, err := r.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		end := 12
		for end < n && buf[end] != 0 {
			end += int(buf[end]) + 1
		}
		end += 5 // root, type, class
		if end > n {
			continue
		}
		q := buf[:end]
		a := append([]byte{}, q...)
		binary.BigEndian.PutUint16(a[2:], 0x8180)
		for _, off := range []int{6, 8, 10} {
			binary.BigEndian.PutUint16(a[off:], 0)
		}
		if binary.BigEndian.Uint16(q[end-4:]) == 1 { // A
			ip := netip.MustParseAddr(r.addrs[int(r.n.Add(1)-1)%len(r.addrs)]).As4()
			binary.BigEndian.PutUint16(a[6:], 1)
			a = append(a, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
			a = append(a, ip[:]...)
		}
		_, _ = r.conn.WriteTo(a, from)
	}
}

func loopback() Config {
	return Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
}

func get(t *testing.T, c *Client, url string) (*Response, error) {
	t.Helper()
	t.Cleanup(c.CloseIdle)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	return c.Do(req)
}

func TestBypasses(t *testing.T) {
	var hits atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer srv.Close()
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	toLoop := newResolver(t, "127.0.0.1")
	for name, host := range map[string]string{
		"plain": "127.0.0.1", "decimal": "2130706433", "short": "127.1", "hexadecimal": "0x7f000001", "octal": "0177.0.0.1",
		"mapped": "[::ffff:127.0.0.1]", "mapped in hexadecimal": "[::ffff:7f00:1]", "any": "0.0.0.0", "any in IPv6": "[::]",
		"a name": "internal.example",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := get(t, newClient(Config{}, toLoop), "http://"+host+":"+port+"/")
			// Some resolvers read odd spellings as addresses, others find no such host.
			var notFound *net.DNSError
			if !errors.Is(err, ErrDenied) && !errors.As(err, &notFound) {
				t.Fatalf("error %v, want a refused address", err)
			}
		})
	}
	if n := hits.Load(); n != 0 {
		t.Fatalf("%d requests arrived", n)
	}
	if _, err := get(t, New(loopback()), srv.URL); err != nil || hits.Load() != 1 {
		t.Fatalf("an exception does not work: %v", err)
	}
}

func TestRebinding(t *testing.T) {
	var hits atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer srv.Close()
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	// The first answer is harmless, as a check beforehand would see it; later ones are not.
	r := newResolver(t, "127.0.0.1", "127.0.0.2")
	c := newClient(Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}, r)
	c.http.Transport.(*http.Transport).DisableKeepAlives = true
	if _, err := get(t, c, "http://rebind.example:"+port); err != nil {
		t.Fatalf("allowed address: %v", err)
	}
	if _, err := get(t, c, "http://rebind.example:"+port); !errors.Is(err, ErrDenied) {
		t.Fatalf("the second resolution was not judged: %v", err)
	}
	if hits.Load() != 1 {
		t.Fatalf("%d requests arrived, want 1", hits.Load())
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var inside atomic.Int64
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { inside.Add(1) }))
	defer target.Close()
	srv := httptest.NewServer(http.RedirectHandler(target.URL, http.StatusTemporaryRedirect))
	defer srv.Close()
	r, err := get(t, New(loopback()), srv.URL)
	if err != nil || r.Status != http.StatusTemporaryRedirect || inside.Load() != 0 {
		t.Fatalf("status %v, error %v, followed %d times", r, err, inside.Load())
	}
}

func TestReplyIsBounded(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 100 {
			_, _ = w.Write(make([]byte, 4096))
		}
	}))
	defer srv.Close()
	r, err := get(t, New(loopback()), srv.URL)
	if err != nil || len(r.Body) != MaxReply || !r.Truncated {
		t.Fatalf("error %v, reply %+v", err, r)
	}
}

func TestProxyOfTheEnvironmentIsNotUsed(t *testing.T) {
	var hits atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer proxy.Close()
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("http_proxy", proxy.URL)
	_, _ = get(t, newClient(Config{}, newResolver(t, "127.0.0.1")), "http://somewhere.example:"+strconv.Itoa(9)+"/")
	if hits.Load() != 0 {
		t.Fatal("the request went through the proxy")
	}
}

func TestOtherSchemesAndNetworks(t *testing.T) {
	req, _ := http.NewRequest(http.MethodGet, "file:///etc/passwd", nil)
	if _, err := New(Config{}).Do(req); err == nil {
		t.Error("file: was fetched")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := New(loopback()).DialContext(ctx, "udp", "127.0.0.1:53"); !errors.Is(err, ErrDenied) {
		t.Errorf("udp: %v", err)
	}
	if _, err := New(Config{}).DialContext(ctx, "tcp", "127.0.0.1:25"); !errors.Is(err, ErrDenied) {
		t.Errorf("mail server on loopback: %v", err)
	}
}
