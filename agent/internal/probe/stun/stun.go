// Package stun asks a STUN server (RFC 5389) for the address that it sees: RTT, and
// an event when the public address changes.
//
// Each target keeps one socket, so that the NAT's mapping stays and a change is a
// change outside. Only the address makes an event: a port changes with each restart.
package stun

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/stun/v2"
	"github.com/rs/zerolog"

	"sidetone/agent/internal/probe"
	"sidetone/shared/pathstats"
)

// errorPause keeps a socket whose error stays from spinning.
const errorPause = 10 * time.Millisecond

type transaction [stun.TransactionIDSize]byte

type driver struct{}

// New is the method's probe.OpenDriver.
func New(zerolog.Logger) probe.Driver { return driver{} }

func (driver) Open(_ probe.Target, sink probe.Sink) (probe.Session, error) {
	return &session{sink: sink}, nil
}

func (driver) Close() error { return nil }

type session struct {
	sink probe.Sink

	mu     sync.Mutex // guards what follows
	talk   *talk
	closed bool
}

// talk is the socket to one server.
type talk struct {
	sink    probe.Sink
	conn    *net.UDPConn
	dst     netip.AddrPort
	flights probe.Inflight[transaction]
	done    chan struct{}
}

func (s *session) Attempt(ctx context.Context, r probe.Request) probe.Attempt {
	t, err := s.use(r.Dst)
	if err != nil {
		return unsent(err)
	}
	m, err := stun.Build(stun.TransactionID, stun.BindingRequest)
	if err != nil {
		return unsent(fmt.Errorf("build binding request: %w", err))
	}
	key := transaction(m.TransactionID)
	fl := &probe.Flight{Req: r, Sent: time.Now()}
	t.flights.Start(key, fl, s.sink)
	_, err = t.conn.Write(m.Raw)
	if err != nil && probe.FaultOf(err) == probe.FaultRefused {
		_, err = t.conn.Write(m.Raw) // the error was about an earlier packet, and kept this one here
	}
	if err != nil {
		t.flights.Cancel(key)
		return unsent(err)
	}
	return t.flights.Wait(ctx, fl)
}

func unsent(err error) probe.Attempt {
	a := probe.LostBy(err)
	a.Unsent = true
	return a
}

func (s *session) use(dst netip.AddrPort) (*talk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, net.ErrClosed
	}
	if s.talk != nil && s.talk.dst == dst {
		return s.talk, nil
	}
	if s.talk != nil {
		s.talk.close()
		s.talk = nil
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(dst))
	if err != nil {
		return nil, fmt.Errorf("open STUN socket to %s: %w", dst, err)
	}
	s.talk = &talk{sink: s.sink, conn: conn, dst: dst, done: make(chan struct{})}
	go s.talk.read()
	return s.talk, nil
}

func (s *session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.talk == nil {
		return nil
	}
	return s.talk.close()
}

func (t *talk) close() error {
	err := t.conn.Close()
	<-t.done
	return err
}

func (t *talk) read() {
	defer close(t.done)
	buf := make([]byte, 2048)
	m := new(stun.Message)
	for {
		n, err := t.conn.Read(buf)
		at := time.Now()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			t.flights.NoteAll(probe.FaultOf(err), err.Error())
			if probe.FaultOf(err) != probe.FaultRefused { // that one answers a packet of ours
				time.Sleep(errorPause)
			}
			continue
		}
		m.Reset()
		m.Raw = append(m.Raw, buf[:n]...)
		if !t.answer(m, at) {
			t.sink.Foreign()
		}
	}
}

// answer reports whether m answers one of our requests.
func (t *talk) answer(m *stun.Message, at time.Time) bool {
	if !stun.IsMessage(m.Raw) || m.Decode() != nil || m.Type.Method != stun.MethodBinding ||
		m.Type.Class != stun.ClassSuccessResponse && m.Type.Class != stun.ClassErrorResponse {
		return false
	}
	return t.flights.Answer(transaction(m.TransactionID), at, func(fl *probe.Flight) (probe.Attempt, bool) {
		return outcome(m, fl, at), true
	})
}

func outcome(m *stun.Message, fl *probe.Flight, at time.Time) probe.Attempt {
	if m.Type.Class == stun.ClassErrorResponse {
		var code stun.ErrorCodeAttribute
		if err := code.GetFrom(m); err != nil {
			return probe.Lost(probe.FaultAnswer, "error response without a code")
		}
		return probe.Lost(probe.FaultAnswer, fmt.Sprintf("error %d %s", code.Code, code.Reason))
	}
	mapped, err := mappedAddress(m)
	if err != nil {
		return probe.Lost(probe.FaultAnswer, err.Error())
	}
	a := fl.Answered(at, pathstats.Far{})
	a.Detail, a.State = mapped.String(), mapped.Addr().String()
	return a
}

// mappedAddress reads XOR-MAPPED-ADDRESS, or MAPPED-ADDRESS of an old server.
func mappedAddress(m *stun.Message) (netip.AddrPort, error) {
	var ip net.IP
	var port int
	var x stun.XORMappedAddress
	if err := x.GetFrom(m); err == nil {
		ip, port = x.IP, x.Port
	} else {
		var old stun.MappedAddress
		if err := old.GetFrom(m); err != nil {
			return netip.AddrPort{}, errors.New("response without a mapped address")
		}
		ip, port = old.IP, old.Port
	}
	addr, ok := netip.AddrFromSlice(ip)
	if !ok || port < 0 || port > 65535 {
		return netip.AddrPort{}, errors.New("response with a malformed mapped address")
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), nil
}
