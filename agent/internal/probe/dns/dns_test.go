package dns

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/net/dns/dnsmessage"

	"sidetone/agent/internal/probe"
	"sidetone/agent/internal/probe/probetest"
)

// serve is a small nameserver: reply gets the parsed query and sends what it likes.
func serve(t *testing.T, reply func(q dnsmessage.Message, send func([]byte))) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, src, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			var q dnsmessage.Message
			if err := q.Unpack(buf[:n]); err != nil || !q.RecursionDesired || len(q.Questions) != 1 {
				t.Errorf("query %+v: %v", q, err)
				continue
			}
			reply(q, func(b []byte) { _, _ = conn.WriteToUDPAddrPort(b, src) })
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// answer packs an answer to q with so many A records.
func answer(t testing.TB, q dnsmessage.Message, records int, change func(*dnsmessage.Message)) []byte {
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, RecursionDesired: true, RecursionAvailable: true}, Questions: q.Questions}
	for i := range records {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Questions[0].Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: 60},
			Body:   &dnsmessage.AResource{A: [4]byte{192, 0, 2, byte(i + 1)}},
		})
	}
	if change != nil {
		change(&m)
	}
	b, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return b
}

func TestQuery(t *testing.T) {
	cname := dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("www.example."), Type: dnsmessage.TypeCNAME, Class: dnsmessage.ClassINET},
		Body:   &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("host.example.")},
	}
	cases := []struct {
		name          string
		reply         func(q dnsmessage.Message, send func([]byte))
		fault, detail string
	}{
		{"an address", func(q dnsmessage.Message, send func([]byte)) { send(answer(t, q, 2, nil)) }, "", "NOERROR, 192.0.2.1"},
		{"no records", func(q dnsmessage.Message, send func([]byte)) { send(answer(t, q, 0, nil)) }, "", "NOERROR"},
		{"behind a CNAME", func(q dnsmessage.Message, send func([]byte)) {
			send(answer(t, q, 1, func(m *dnsmessage.Message) { m.Answers = append([]dnsmessage.Resource{cname}, m.Answers...) }))
		}, "", "NOERROR, 192.0.2.1"},
		{"NXDOMAIN is an answer", func(q dnsmessage.Message, send func([]byte)) {
			send(answer(t, q, 0, func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeNameError }))
		}, "", "NXDOMAIN"},
		{"SERVFAIL is a loss", func(q dnsmessage.Message, send func([]byte)) {
			send(answer(t, q, 0, func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeServerFailure }))
		}, probe.FaultAnswer, "SERVFAIL"},
		{"unknown code", func(q dnsmessage.Message, send func([]byte)) {
			send(answer(t, q, 0, func(m *dnsmessage.Message) { m.RCode = 15 }))
		}, probe.FaultAnswer, "RCODE15"},
		{"truncated", func(q dnsmessage.Message, send func([]byte)) {
			send(answer(t, q, 0, func(m *dnsmessage.Message) { m.Truncated = true }))
		}, "", "NOERROR, truncated"},
		{"truncated within a record", func(q dnsmessage.Message, send func([]byte)) {
			b := answer(t, q, 3, func(m *dnsmessage.Message) { m.Truncated = true })
			send(b[:len(b)-20])
		}, "", "NOERROR, truncated"},
		{"cut short without saying so", func(q dnsmessage.Message, send func([]byte)) {
			b := answer(t, q, 1, nil)
			send(b[:len(b)-2])
		}, probe.FaultAnswer, "malformed answer"},
		{"giant", func(q dnsmessage.Message, send func([]byte)) { send(answer(t, q, 250, nil)) }, "", "NOERROR, 192.0.2.1"},
		{"larger than is read", func(q dnsmessage.Message, send func([]byte)) {
			b := answer(t, q, 1, nil)
			send(append(b, make([]byte, 20000)...))
		}, "", "NOERROR, 192.0.2.1"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dst := serve(t, c.reply)
			s := probetest.Open(t, New, probe.Target{Query: "www.example"}, probetest.NewSink())
			a := probetest.Attempt(t, s, 0, dst, probetest.Patience)
			if a.Fault != c.fault || !strings.HasPrefix(a.Detail, c.detail) || (a.RTT > 0) != (c.fault == "") {
				t.Errorf("%+v, want fault %q, detail %q", a, c.fault, c.detail)
			}
		})
	}
}

func TestForged(t *testing.T) {
	dst := serve(t, func(q dnsmessage.Message, send func([]byte)) {
		send(answer(t, q, 1, func(m *dnsmessage.Message) { m.ID++ }))
		send(answer(t, q, 1, func(m *dnsmessage.Message) { m.Response = false }))
		send(answer(t, q, 0, func(m *dnsmessage.Message) { m.Questions = nil }))
		send(answer(t, q, 0, func(m *dnsmessage.Message) {
			m.Questions = []dnsmessage.Question{{Name: dnsmessage.MustNewName("bank.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}
		}))
		send([]byte{1, 2, 3})
		send(answer(t, q, 1, func(m *dnsmessage.Message) { m.Questions[0].Name = dnsmessage.MustNewName("WWW.example.") })) // case does not count
	})
	sink := probetest.NewSink()
	s := probetest.Open(t, New, probe.Target{Query: "www.example"}, sink)
	a := probetest.Attempt(t, s, 0, dst, probetest.Patience)
	if a.RTT <= 0 || a.Detail != "NOERROR, 192.0.2.1" {
		t.Errorf("%+v", a)
	}
	sink.Await(t, 0, 0, 5)
}

func TestNoAnswer(t *testing.T) {
	dst := serve(t, func(dnsmessage.Message, func([]byte)) {})
	s := probetest.Open(t, New, probe.Target{Query: "www.example"}, probetest.NewSink())
	if a := probetest.Attempt(t, s, 0, dst, 50*time.Millisecond); a.RTT != 0 || a.Fault != probe.FaultTimeout {
		t.Errorf("%+v", a)
	}
}

func TestParseQuery(t *testing.T) {
	for text, want := range map[string]string{
		"example.com":                     "example.com. TypeA",
		"example.com. aaaa":               "example.com. TypeAAAA",
		"_sip._udp.carrier.example   SRV": "_sip._udp.carrier.example. TypeSRV",
	} {
		q, err := parseQuery(text)
		if got := q.Name.String() + " " + q.Type.String(); err != nil || got != want {
			t.Errorf("%q: %s, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "a b c", "example.com NONSENSE", strings.Repeat("x", 300), strings.Repeat("x", 64) + ".example", "a..b"} {
		if _, err := New(zerolog.Nop()).Open(probe.Target{Query: text}, probetest.NewSink()); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	q, err := parseQuery("www.example")
	if err != nil {
		f.Fatal(err)
	}
	ask := dnsmessage.Message{Header: dnsmessage.Header{ID: 7}, Questions: []dnsmessage.Question{q}}
	f.Add(answer(f, ask, 3, nil))
	f.Add(answer(f, ask, 1, nil)[:30])
	f.Add([]byte{0, 7, 0x80, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xc0, 0x0c})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &session{question: q}
		if a, ours := s.answer(b, 7); !ours && a != (probe.Attempt{}) {
			t.Errorf("%+v of a foreign packet", a)
		}
	})
}
