// Package icmp measures by ICMP echo. One socket for each address family serves all
// targets: a raw one where the program may open it, else an unprivileged one.
//
// An answer is believed only when its source, identifier, sequence number and a
// random nonce in the payload are those of a request that waits. ICMP errors are
// easily forged, so they only explain a loss and never cause one.
package icmp

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/net/icmp"

	"sidetone/agent/internal/probe"
	"sidetone/shared/pathstats"
)

// reopenEvery is how often a socket that could not be opened is tried again.
const reopenEvery = time.Minute

// flights are known by the sequence number; it wraps after 65,536 attempts, when
// the most that limits allow are 1,000 a second and are remembered for 15 s.
type flights = probe.Inflight[uint16]

type driver struct{ v4, v6 family }

// family is the socket of one address family.
type family struct {
	log        zerolog.Logger
	openSocket func() (*socket, error) // called with mu held

	mu      sync.Mutex // guards what follows
	sink    probe.Sink // of any target: foreign packets are counted for all together
	sock    *socket
	failed  error
	tried   time.Time
	told    bool
	closed  bool
	nextSeq uint16
}

// socket is an open one, with the goroutine that reads it.
type socket struct {
	pc      *icmp.PacketConn
	raw     bool
	v6      bool
	id      uint16 // of a raw socket; the kernel chooses that of others
	sink    probe.Sink
	flights flights
	done    chan struct{}
}

// New is the method's probe.OpenDriver.
func New(log zerolog.Logger) probe.Driver {
	d := &driver{v4: family{log: log}, v6: family{log: log}}
	d.v4.openSocket = func() (*socket, error) { return open(false, d.v4.sink, log) }
	d.v6.openSocket = func() (*socket, error) { return open(true, d.v6.sink, log) }
	return d
}

func (d *driver) Open(_ probe.Target, sink probe.Sink) (probe.Session, error) {
	d.v4.foreignTo(sink)
	d.v6.foreignTo(sink)
	return &session{d: d, sink: sink}, nil
}

func (d *driver) Close() error { return errors.Join(d.v4.close(), d.v6.close()) }

type session struct {
	d    *driver
	sink probe.Sink
}

func (s *session) Close() error { return nil }

func (s *session) Attempt(ctx context.Context, r probe.Request) probe.Attempt {
	f := &s.d.v4
	if r.Dst.Addr().Is6() {
		f = &s.d.v6
	}
	sock, seq, err := f.use()
	if err != nil {
		fault := probe.FaultUnreachable
		if errors.Is(err, fs.ErrPermission) {
			fault = probe.FaultPermission
		}
		a := probe.Lost(fault, err.Error())
		a.Unsent = true
		return a
	}
	fl := &probe.Flight{Req: r, Check: nonce()}
	var buf [echoLen]byte
	putEcho(buf[:], sock.v6, sock.id, seq, fl.Check)
	to := sock.addr(r.Dst.Addr())

	fl.Sent = time.Now()
	sock.flights.Start(seq, fl, s.sink)
	if _, err := sock.pc.WriteTo(buf[:], to); err != nil {
		sock.flights.Cancel(seq)
		a := probe.LostBy(err)
		a.Unsent = true
		return a
	}
	return sock.flights.Wait(ctx, fl)
}

func nonce() uint64 {
	var b [8]byte
	rand.Read(b[:]) // cannot fail, by its documentation
	return binary.BigEndian.Uint64(b[:])
}

func (f *family) foreignTo(sink probe.Sink) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sink = sink
}

// use returns the open socket and the next sequence number.
func (f *family) use() (*socket, uint16, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sock == nil {
		if f.closed {
			return nil, 0, net.ErrClosed
		}
		if f.failed != nil && time.Since(f.tried) < reopenEvery {
			return nil, 0, f.failed
		}
		f.tried = time.Now()
		f.sock, f.failed = f.openSocket()
		if f.failed != nil {
			if !f.told {
				f.told = true
				if errors.Is(f.failed, fs.ErrPermission) {
					f.log.Error().Str("fault", probe.FaultPermission).Err(f.failed).Msg("ICMP echo is not permitted: " + advice)
				} else {
					f.log.Warn().Str("fault", probe.FaultUnreachable).Err(f.failed).Msg("no ICMP socket")
				}
			}
			return nil, 0, f.failed
		}
	}
	f.nextSeq++
	return f.sock, f.nextSeq, nil
}

func (f *family) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.sock == nil {
		return nil
	}
	err := f.sock.pc.Close()
	<-f.sock.done
	f.sock = nil
	return err
}

// open tries the kinds of sockets that the platform has.
func open(v6 bool, sink probe.Sink, log zerolog.Logger) (*socket, error) {
	var errs []error
	for _, k := range kinds(v6) {
		s, err := openKind(k, v6, sink, log)
		if err == nil {
			return s, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func openKind(k kind, v6 bool, sink probe.Sink, log zerolog.Logger) (*socket, error) {
	local := "0.0.0.0"
	if v6 {
		local = "::"
	}
	pc, err := icmp.ListenPacket(k.network, local)
	if err != nil {
		return nil, fmt.Errorf("open ICMP socket (%s): %w", k.network, err)
	}
	s := &socket{pc: pc, raw: k.raw, v6: v6, id: uint16(nonce()), sink: sink, done: make(chan struct{})}
	go s.read(log)
	return s, nil
}

// kind is one way to open a socket.
type kind struct {
	network string
	raw     bool
}

func rawKind(v6 bool) kind {
	if v6 {
		return kind{"ip6:ipv6-icmp", true}
	}
	return kind{"ip4:icmp", true}
}

func unprivilegedKind(v6 bool) kind {
	if v6 {
		return kind{"udp6", false}
	}
	return kind{"udp4", false}
}

func (s *socket) addr(ip netip.Addr) net.Addr {
	if s.raw {
		return &net.IPAddr{IP: ip.AsSlice(), Zone: ip.Zone()}
	}
	return &net.UDPAddr{IP: ip.AsSlice(), Zone: ip.Zone()}
}

// read hands on what arrives until the socket is closed.
func (s *socket) read(log zerolog.Logger) {
	defer close(s.done)
	buf := make([]byte, 1500)
	for {
		n, from, err := s.pc.ReadFrom(buf)
		at := time.Now()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			log.Debug().Err(err).Msg("read ICMP socket")
			time.Sleep(10 * time.Millisecond) // an error that stays must not spin
			continue
		}
		s.packet(buf[:n], ipOf(from), at)
	}
}

func ipOf(a net.Addr) netip.Addr {
	var ip net.IP
	switch a := a.(type) {
	case *net.IPAddr:
		ip = a.IP
	case *net.UDPAddr:
		ip = a.IP
	}
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}

func (s *socket) packet(b []byte, from netip.Addr, at time.Time) {
	m, ok := parse(b, s.v6)
	if !ok || s.raw && m.id != s.id {
		return // another program's, of which a raw socket sees all
	}
	if m.fault != "" {
		s.flights.Note(m.seq, m.fault, m.detail, func(fl *probe.Flight) bool {
			return fl.Req.Dst.Addr().WithZone("") == m.about
		})
		return
	}
	ok = s.flights.Answer(m.seq, at, func(fl *probe.Flight) (probe.Attempt, bool) {
		if m.nonce != fl.Check || fl.Req.Dst.Addr().WithZone("") != from {
			return probe.Attempt{}, false
		}
		return fl.Answered(at, pathstats.Far{}), true
	})
	if !ok {
		s.sink.Foreign()
	}
}
