// Package stampprobe measures by STAMP (RFC 8762, unauthenticated mode): RTT without
// the reflector's own delay, transit times in each direction, and, when the
// reflector counts by itself, the direction of losses.
//
// Each target has one connected UDP socket. An answer is believed only when it comes
// from there and returns the number, the timestamp and the session identifier of a
// request that waits.
package stampprobe

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"sidetone/agent/internal/probe"
	"sidetone/shared/pathstats"
	"sidetone/shared/stamp"
)

// errorPause keeps a socket whose error stays from spinning.
const errorPause = 10 * time.Millisecond

type driver struct{}

// New is the method's probe.OpenDriver.
func New(zerolog.Logger) probe.Driver { return driver{} }

func (driver) Open(_ probe.Target, sink probe.Sink) (probe.Session, error) {
	return &session{sink: sink}, nil
}

func (driver) Close() error { return nil }

// session is a target; its conversation is replaced when the address changes.
type session struct {
	sink probe.Sink

	mu     sync.Mutex // guards what follows
	talk   *talk
	count  uint32 // of conversations
	closed bool
}

// talk is one STAMP session: one socket, one run of numbers.
type talk struct {
	sink    probe.Sink
	conn    *net.UDPConn
	dst     netip.AddrPort
	session uint32
	ssid    uint16
	base    time.Time // the wall clock is read once; a step of it does not reach the packets
	flights probe.Inflight[uint32]
	next    uint32 // guarded by session.mu
	done    chan struct{}
}

func (s *session) Attempt(ctx context.Context, r probe.Request) probe.Attempt {
	t, seq, err := s.use(r.Dst)
	if err != nil {
		a := probe.LostBy(err)
		a.Unsent = true
		return a
	}
	var buf [stamp.PacketLen]byte
	pkt := stamp.SenderPacket{Seq: seq, Error: stamp.UnknownError, SSID: t.ssid}.Append(buf[:0])
	fl := &probe.Flight{Req: r, Sent: time.Now()}
	sent := stamp.NTP(t.wall(fl.Sent))
	fl.Check = uint64(sent)
	t.flights.Start(seq, fl, s.sink)
	stamp.SetTransmit(pkt, t.wall(fl.Sent))
	_, err = t.conn.Write(pkt)
	if err != nil && probe.FaultOf(err) == probe.FaultRefused {
		_, err = t.conn.Write(pkt) // the error was about an earlier packet, and kept this one here
	}
	if err != nil {
		t.flights.Cancel(seq)
		a := probe.LostBy(err)
		a.Unsent = true
		return a
	}
	return t.flights.Wait(ctx, fl)
}

// wall is the wall clock of an instant, free of steps since the session began.
func (t *talk) wall(at time.Time) time.Time { return t.base.Add(at.Sub(t.base)) }

// use returns the conversation with dst and the number of the next packet.
func (s *session) use(dst netip.AddrPort) (*talk, uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, 0, net.ErrClosed
	}
	if s.talk == nil || s.talk.dst != dst {
		if s.talk != nil {
			s.talk.close()
			s.talk = nil
		}
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(dst))
		if err != nil {
			return nil, 0, fmt.Errorf("open STAMP socket to %s: %w", dst, err)
		}
		s.count++
		s.talk = &talk{sink: s.sink, conn: conn, dst: dst, session: s.count, ssid: ssid(), base: time.Now(), done: make(chan struct{})}
		go s.talk.read()
	}
	// Number 0 is left out, see pathstats: a reflector that counts by itself then
	// cannot agree with us by chance.
	s.talk.next++
	return s.talk, s.talk.next, nil
}

// ssid is a session identifier of RFC 8972, which is never zero.
func ssid() uint16 {
	var b [2]byte
	rand.Read(b[:]) // cannot fail, by its documentation
	return max(binary.BigEndian.Uint16(b[:]), 1)
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
		t.answer(buf[:n], at)
	}
}

func (t *talk) answer(b []byte, at time.Time) {
	p, err := stamp.ParseReflector(b)
	if err != nil || p.SSID != 0 && p.SSID != t.ssid {
		t.sink.Foreign()
		return
	}
	ok := t.flights.Answer(p.SenderSeq, at, func(fl *probe.Flight) (probe.Attempt, bool) {
		if uint64(p.SenderTimestamp) != fl.Check {
			return probe.Attempt{}, false
		}
		return t.outcome(fl, &p, at), true
	})
	if !ok {
		t.sink.Foreign()
	}
}

// outcome computes the times of RFC 8762, 4.3. When the reflector's two timestamps
// make no sense together, only the time of our own clock is used.
func (t *talk) outcome(fl *probe.Flight, p *stamp.ReflectorPacket, at time.Time) probe.Attempt {
	far := pathstats.Far{Valid: true, Session: t.session, SenderSeq: p.SenderSeq, Seq: p.Seq}
	a := fl.Answered(at, far)
	sent, back := t.wall(fl.Sent), t.wall(at)
	// RFC 8762 gives the answer's error estimate for both timestamps of the reflector.
	received, left := p.Received.Time(p.Error, sent), p.Timestamp.Time(p.Error, sent)
	stay := left.Sub(received)
	if stay < 0 || stay >= a.RTT {
		return a
	}
	a.RTT -= stay
	a.Far.Timed = true
	a.Far.Forward, a.Far.Reverse = received.Sub(sent), back.Sub(left)
	return a
}
