package uplink

import (
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sidetone/shared/link"
)

const proxyURL = "http://proxy.example.com:3128"

// firewallCase is one firewall, and what it must lead to.
type firewallCase struct {
	name   string
	proxy  string
	walls  map[string]string
	want   string // transport, "" when none
	reason string
	event  string
	within time.Duration
}

func firewallCases() []firewallCase {
	return []firewallCase{
		{name: "open", want: link.TransportQUIC, event: "up quic", within: time.Second},
		{name: "drop UDP", walls: map[string]string{link.TransportQUIC: "drop"},
			want: link.TransportTCP, reason: "on TCP: QUIC black-holed (no answer on UDP)",
			event: "up tcp on TCP: QUIC black-holed (no answer on UDP)", within: 3 * time.Second},
		{name: "reject the handshake", walls: map[string]string{link.TransportQUIC: "reject"},
			want: link.TransportTCP, reason: "on TCP: QUIC rejected", event: "up tcp on TCP: QUIC rejected", within: time.Second},
		{name: "QUIC only", walls: map[string]string{link.TransportTCP: "drop"},
			want: link.TransportQUIC, event: "up quic", within: time.Second},
		{name: "proxy only", proxy: proxyURL, walls: map[string]string{link.TransportQUIC: "drop", link.TransportTCP: "reject"},
			want: link.TransportProxy, reason: "on the proxy: QUIC black-holed (no answer on UDP); TCP rejected",
			event: "up proxy on the proxy: QUIC black-holed (no answer on UDP); TCP rejected", within: 3 * time.Second},
		{name: "proxy only, all else is dropped", proxy: proxyURL, walls: map[string]string{link.TransportQUIC: "drop", link.TransportTCP: "drop"},
			want: link.TransportProxy, reason: "on the proxy: QUIC black-holed (no answer on UDP); TCP black-holed (no answer)",
			event: "up proxy on the proxy: QUIC black-holed (no answer on UDP); TCP black-holed (no answer)", within: 5 * time.Second},
		{name: "inspected", proxy: proxyURL,
			walls: map[string]string{link.TransportQUIC: "inspect", link.TransportTCP: "inspect", link.TransportProxy: "inspect"},
			event: `refused  intercepted by "CN=Corp Firewall" on every way: exempt host collector.example.com from TLS inspection`, within: time.Second},
		{name: "QUIC dropped, TCP inspected", walls: map[string]string{link.TransportQUIC: "drop", link.TransportTCP: "inspect"},
			event: `refused  intercepted by "CN=Corp Firewall" on every way`, within: 10 * time.Second},
		{name: "QUIC inspected", walls: map[string]string{link.TransportQUIC: "inspect"},
			want: link.TransportTCP, reason: `on TCP: QUIC intercepted by "CN=Corp Firewall"`,
			event: `up tcp on TCP: QUIC intercepted by "CN=Corp Firewall"`, within: time.Second},
		{name: "no name", walls: map[string]string{link.TransportQUIC: "dns", link.TransportTCP: "dns"},
			event: "refused  no way to the collector: DNS: the collector's name has no address", within: time.Second},
		{name: "QUIC without answer to the hello", walls: map[string]string{link.TransportQUIC: "deaf"},
			want: link.TransportTCP, reason: "on TCP: QUIC connects, but the hello gets no answer",
			event: "up tcp on TCP: QUIC connects, but the hello gets no answer", within: 5 * time.Second},
	}
}

// TestFirewalls plays each firewall in virtual time: connected or refused within 30 s,
// for the right reason; back on QUIC within 10 minutes of its opening; nothing lost.
func TestFirewalls(t *testing.T) {
	for _, c := range firewallCases() {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, Config{Proxy: c.proxy})
				for transport, wall := range c.walls {
					s.wall(transport, wall)
				}
				s.q.add(20)
				s.start()
				defer s.stop()
				s.produce(100*time.Millisecond, c.within)
				st := s.up.State()
				if st.Connected != (c.want != "") || st.Transport != c.want || st.Reason != c.reason {
					t.Fatalf("after %v: %+v", c.within, st)
				}
				if !strings.HasPrefix(s.told(), c.event) {
					t.Errorf("told:\n%s\nwant %s", s.told(), c.event)
				}
				s.produce(time.Second, 20*time.Minute) // it stays like this
				if st := s.up.State(); st.Transport != c.want || st.Reason != c.reason {
					t.Errorf("20 minutes later: %+v", st)
				}
				before := s.told()
				if n := strings.Count(before, "\n"); n > 0 {
					t.Errorf("%d more events while nothing changed:\n%s", n, before)
				}
				for transport := range c.walls {
					s.wall(transport, "")
				}
				s.produce(time.Second, 10*time.Minute)
				if st := s.up.State(); st.Transport != link.TransportQUIC || st.Reason != "" {
					t.Errorf("10 minutes after the opening: %+v", st)
				}
				s.settled(time.Minute)
				if n := s.twice(); n > 0 {
					t.Errorf("%d records were sent twice", n)
				}
			})
		})
	}
}

// wall puts a firewall before a transport; "" takes it away.
func (s *site) wall(transport, kind string) {
	s.set(func() {
		delete(s.firewall, transport)
		delete(s.deaf, transport)
		switch kind {
		case "drop":
			s.firewall[transport] = dropped(transport)
		case "reject":
			s.firewall[transport] = refused(transport)
		case "inspect":
			s.firewall[transport] = intercepted("CN=Corp Firewall")
		case "dns":
			s.firewall[transport] = nameless
		case "deaf":
			s.deaf[transport] = true
		}
	})
}

// TestHeadStart: on a network where QUIC is known to be dead, a reconnect and a restart
// do not wait for it, and QUIC is tried all the same.
func TestHeadStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{})
		memory := filepath.Join(t.TempDir(), "link.json")
		s.up = New(s.up.cfg, s.deps(memory))
		s.wall(link.TransportQUIC, "drop")
		s.start()
		time.Sleep(5 * time.Second)
		connected := func(within time.Duration) {
			t.Helper()
			time.Sleep(within)
			if st := s.up.State(); st.Transport != link.TransportTCP || st.Reason != "on TCP: QUIC black-holed (no answer on UDP)" {
				t.Errorf("after %v: %+v", within, st)
			}
		}
		s.cut(link.TransportTCP)
		connected(minDelay*3 + 500*time.Millisecond) // back-off, and the head start that is known
		s.stop()

		s.up = New(s.up.cfg, s.deps(memory))
		s.start()
		connected(500 * time.Millisecond)
		s.stop()

		// Another network: nothing is known of it.
		s.set(func() { s.addr = "198.51.100.7" })
		s.up = New(s.up.cfg, s.deps(memory))
		s.start()
		time.Sleep(1900 * time.Millisecond)
		if st := s.up.State(); st.Connected {
			t.Errorf("on an unknown network: %+v", st)
		}
		connected(time.Second)
		s.stop()

		// QUIC opens while the agent is off: the head start of TCP is small enough.
		s.wall(link.TransportQUIC, "")
		s.up = New(s.up.cfg, s.deps(memory))
		s.start()
		time.Sleep(500 * time.Millisecond)
		if st := s.up.State(); st.Transport != link.TransportQUIC {
			t.Errorf("QUIC works again: %+v", st)
		}
		s.stop()
	})
}

// TestNewAddress: a machine that moves to another network tries QUIC at once.
func TestNewAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{})
		s.wall(link.TransportQUIC, "drop")
		s.start()
		defer s.stop()
		s.produce(time.Second, 30*time.Minute) // the tries are far apart now
		s.wall(link.TransportQUIC, "")
		s.set(func() { s.addr = "198.51.100.7" })
		s.produce(time.Second, watchMax+2*time.Second)
		if st := s.up.State(); st.Transport != link.TransportQUIC {
			t.Errorf("after the change: %+v", st)
		}
		// And a wait between two connections ends with it.
		for _, tr := range []string{link.TransportQUIC, link.TransportTCP} {
			s.wall(tr, "reject")
			s.cut(tr)
		}
		s.produce(time.Second, 10*time.Minute)
		s.wall(link.TransportQUIC, "")
		s.wall(link.TransportTCP, "")
		s.set(func() { s.addr = "203.0.113.1" })
		s.produce(time.Second, watchMax+2*time.Second)
		if st := s.up.State(); !st.Connected {
			t.Errorf("on a third network: %+v", st)
		}
		s.settled(time.Minute)
	})
}

// TestFlapping: QUIC that connects and dies has the link on TCP, with tries at least
// some minutes apart, and the link returns when QUIC has become well.
func TestFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{})
		s.start()
		defer s.stop()
		const hour = time.Hour
		var well atomic.Bool
		go func() {
			for time.Sleep(20 * time.Second); !well.Load(); time.Sleep(20 * time.Second) {
				s.cut(link.TransportQUIC) // every connection over QUIC dies soon
			}
		}()
		s.produce(time.Second, 3*time.Minute)
		if st := s.up.State(); st.Transport != link.TransportTCP || st.Reason != "on TCP: QUIC unstable (lost 3 times within 5m0s)" {
			t.Errorf("after three deaths: %+v", st)
		}
		s.produce(time.Second, hour)
		downs := strings.Count(s.told(), "down quic")
		if downs > 3+8 || downs < 3+4 {
			t.Errorf("QUIC was lost %d times in an hour", downs)
		}
		well.Store(true)
		s.produce(time.Second, 11*time.Minute)
		if st := s.up.State(); st.Transport != link.TransportQUIC {
			t.Errorf("QUIC is well again: %+v\n%s", st, s.told())
		}
		s.settled(time.Minute)
	})
}

// TestDeafOnTheWayUp: a try to climb whose hello is not answered leaves the link where
// it is, and costs no record.
func TestDeafOnTheWayUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{})
		s.wall(link.TransportQUIC, "reject")
		s.start()
		defer s.stop()
		s.produce(time.Second, 5*time.Second)
		s.wall(link.TransportQUIC, "deaf")
		s.produce(time.Second, 30*time.Minute)
		if st := s.up.State(); st.Transport != link.TransportTCP || st.Reason != "on TCP: QUIC connects, but the hello gets no answer" {
			t.Errorf("%+v", st)
		}
		if n := strings.Count(s.told(), "down"); n != 0 {
			t.Errorf("the link went down %d times:\n%s", n, s.told())
		}
		s.set(func() {
			if n := len(s.conns); n > 1+6 {
				t.Errorf("%d connections in half an hour", n)
			}
		})
		s.settled(time.Minute)
		if n := s.twice(); n > 0 {
			t.Errorf("%d records were sent twice", n)
		}
	})
}

// TestStalled: a connection on which nothing is answered is given up, although the
// transport finds it alive.
func TestStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{})
		s.hold = 24 * time.Hour
		s.start()
		defer s.stop()
		s.produce(time.Second, stallTime+time.Minute+5*time.Second)
		if told := s.told(); !strings.Contains(told, "down quic connection lost: no answer to anything for 3m0s") {
			t.Errorf("told:\n%s", told)
		}
		s.set(func() { s.hold = time.Second })
		s.settled(3 * time.Minute)
	})
}

// TestRefusalsAreToldSeldom: a network that fails now in one way and now in another.
func TestRefusalsAreToldSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{})
		s.start()
		defer s.stop()
		kinds := []string{"dns", "reject", "inspect", "drop"}
		for i := range 6 * 60 {
			for _, tr := range []string{link.TransportQUIC, link.TransportTCP} {
				s.wall(tr, kinds[i%len(kinds)])
				if i == 0 {
					s.cut(tr)
				}
			}
			s.produce(10*time.Second, time.Minute)
		}
		if n := strings.Count(s.told(), "refused"); n < 4 || n > 6*maxRefused {
			t.Errorf("%d refusals told in six hours", n)
		}
		s.wall(link.TransportQUIC, "")
		s.produce(time.Second, time.Minute)
		s.settled(10 * time.Minute)
	})
}

// TestPathDies: a path that dies under a connection is left in less than half a minute,
// although the transport notices nothing; a quiet one is not.
func TestPathDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{})
		s.start()
		defer s.stop()
		time.Sleep(10 * time.Minute) // nothing to send
		s.set(func() {
			if len(s.conns) != 1 || s.pings < 50 || s.pings > 60 {
				t.Errorf("quiet: %d connections, %d pings", len(s.conns), s.pings)
			}
			s.dead[link.TransportQUIC] = true
		})
		s.wall(link.TransportQUIC, "drop")
		s.produce(time.Second, pingAfter+pongTime+4*time.Second)
		if st := s.up.State(); st.Transport != link.TransportTCP {
			t.Errorf("%+v\n%s", st, s.told())
		}
		if !strings.Contains(s.told(), "down quic connection lost: no sign of life for 22s") {
			t.Errorf("told:\n%s", s.told())
		}
		s.settled(time.Minute)
	})
}
