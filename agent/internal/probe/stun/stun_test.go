package stun

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v2"

	"sidetone/agent/internal/probe"
	"sidetone/agent/internal/probe/probetest"
)

// serve answers binding requests with what reply builds.
func serve(t *testing.T, reply func(n int, m *stun.Message, src netip.AddrPort, send func(...stun.Setter))) netip.AddrPort {
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
		for n := 0; ; n++ {
			size, src, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			m := &stun.Message{Raw: append([]byte(nil), buf[:size]...)}
			if err := m.Decode(); err != nil || m.Type != stun.BindingRequest {
				t.Errorf("no binding request: %x", buf[:size])
				continue
			}
			reply(n, m, src, func(s ...stun.Setter) {
				out, err := stun.Build(s...)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = conn.WriteToUDPAddrPort(out.Raw, src)
			})
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

func id(m *stun.Message) stun.Setter { return stun.NewTransactionIDSetter(m.TransactionID) }

func TestBinding(t *testing.T) {
	cases := []struct {
		name                 string
		reply                func(m *stun.Message, send func(...stun.Setter))
		fault, detail, state string
	}{
		{"XOR-MAPPED-ADDRESS", func(m *stun.Message, send func(...stun.Setter)) {
			send(id(m), stun.BindingSuccess, &stun.XORMappedAddress{IP: net.IPv4(198, 51, 100, 7), Port: 40000})
		}, "", "198.51.100.7:40000", "198.51.100.7"},
		{"IPv6", func(m *stun.Message, send func(...stun.Setter)) {
			send(id(m), stun.BindingSuccess, &stun.XORMappedAddress{IP: net.ParseIP("2001:db8::7"), Port: 40000})
		}, "", "[2001:db8::7]:40000", "2001:db8::7"},
		{"MAPPED-ADDRESS of an old server", func(m *stun.Message, send func(...stun.Setter)) {
			send(id(m), stun.BindingSuccess, &stun.MappedAddress{IP: net.IPv4(198, 51, 100, 7), Port: 40000})
		}, "", "198.51.100.7:40000", "198.51.100.7"},
		{"no address", func(m *stun.Message, send func(...stun.Setter)) {
			send(id(m), stun.BindingSuccess)
		}, probe.FaultAnswer, "response without a mapped address", ""},
		{"error response", func(m *stun.Message, send func(...stun.Setter)) {
			send(id(m), stun.BindingError, stun.CodeBadRequest)
		}, probe.FaultAnswer, "error 400 Bad Request", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dst := serve(t, func(_ int, m *stun.Message, _ netip.AddrPort, send func(...stun.Setter)) { c.reply(m, send) })
			s := probetest.Open(t, New, probe.Target{}, probetest.NewSink())
			a := probetest.Attempt(t, s, 0, dst, probetest.Patience)
			if a.Fault != c.fault || a.Detail != c.detail || a.State != c.state || (a.RTT > 0) != (c.fault == "") {
				t.Errorf("%+v", a)
			}
		})
	}
}

func TestForgedLateAndDoubled(t *testing.T) {
	held := make(chan func(), 1)
	ok := &stun.XORMappedAddress{IP: net.IPv4(198, 51, 100, 7), Port: 40000}
	bad := &stun.XORMappedAddress{IP: net.IPv4(203, 0, 113, 66), Port: 1}
	dst := serve(t, func(n int, m *stun.Message, _ netip.AddrPort, send func(...stun.Setter)) {
		if n == 1 {
			held <- func() { send(id(m), stun.BindingSuccess, ok) }
			return
		}
		send(stun.TransactionID, stun.BindingSuccess, bad) // another transaction
		send(id(m), stun.BindingRequest)                   // no response
		send(id(m), stun.BindingSuccess, ok)
		send(id(m), stun.BindingSuccess, bad) // too late: the first answer counts
	})
	sink := probetest.NewSink()
	s := probetest.Open(t, New, probe.Target{}, sink)
	if a := probetest.Attempt(t, s, 0, dst, probetest.Patience); a.State != "198.51.100.7" {
		t.Errorf("%+v", a)
	}
	sink.Await(t, 0, 1, 2)
	if a := probetest.Attempt(t, s, 1, dst, 20*time.Millisecond); a.Fault != probe.FaultTimeout {
		t.Errorf("%+v", a)
	}
	(<-held)()
	sink.Await(t, 1, 1, 2)
}

// The NAT's mapping must stay, so the port must.
func TestOneSocket(t *testing.T) {
	dst := serve(t, func(_ int, m *stun.Message, src netip.AddrPort, send func(...stun.Setter)) {
		send(id(m), stun.BindingSuccess, &stun.XORMappedAddress{IP: src.Addr().AsSlice(), Port: int(src.Port())})
	})
	s := probetest.Open(t, New, probe.Target{}, probetest.NewSink())
	first := probetest.Attempt(t, s, 0, dst, probetest.Patience)
	second := probetest.Attempt(t, s, 1, dst, probetest.Patience)
	if first.Detail == "" || first.Detail != second.Detail {
		t.Errorf("%q, then %q", first.Detail, second.Detail)
	}
}

func FuzzAnswer(f *testing.F) {
	m := stun.MustBuild(stun.TransactionID, stun.BindingSuccess, &stun.XORMappedAddress{IP: net.IPv4(198, 51, 100, 7), Port: 40000})
	f.Add(m.Raw)
	f.Add(stun.MustBuild(stun.TransactionID, stun.BindingError, stun.CodeBadRequest).Raw)
	f.Add(m.Raw[:25])
	f.Fuzz(func(t *testing.T, b []byte) {
		now := time.Now()
		tk := &talk{sink: probetest.NewSink()}
		fl := &probe.Flight{Sent: now, Req: probe.Request{Deadline: now.Add(time.Hour)}}
		var key transaction
		if len(b) >= 20 {
			copy(key[:], b[8:20])
		}
		tk.flights.Start(key, fl, tk.sink)
		tk.answer(&stun.Message{Raw: b}, now)
	})
}
