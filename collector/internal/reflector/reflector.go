// Package reflector is the far end of the agents' path measurements: one UDP socket
// that answers STAMP test packets (RFC 8762, stateful) and STUN binding requests
// (RFC 5389); STUN's magic cookie tells them apart.
//
// Anybody can reach it and forge source addresses, so it must not be useful for
// attacks: a STAMP answer is exactly as long as its request; a STUN answer is at
// most 44 octets to a request of at least 20 (factor 2.2 for IPv6, 1.6 for IPv4); the
// rate for each source is bounded, and so is every table. Packets from ports below
// 1024 and from its own port number get no answer: two reflectors, or a reflector
// and a service like DNS, could otherwise be set to answer each other for ever.
package reflector

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"sidetone/shared/stamp"
)

const (
	// maxPacket is the largest packet that is read: no path carries more unfragmented.
	maxPacket = 2048
	// firstUserPort is the first port that is not a service's by convention.
	firstUserPort = 1024
	// readBuffer lets the kernel hold a burst while the program is not running.
	readBuffer = 1 << 20
	// errorPause keeps a socket whose error stays from spinning.
	errorPause = 10 * time.Millisecond
)

// Defaults of Config.
const (
	// DefaultSTAMPRate allows some voice streams (50 packets a second each) and many
	// slow sessions from behind one public address.
	DefaultSTAMPRate = 500
	DefaultSTUNRate  = 50
	DefaultSources   = 16384
)

// Config is the chosen part of a reflector.
type Config struct {
	// Addr is where to listen, host:port; port 0 takes a free one.
	Addr string
	// STAMPRate and STUNRate are the packets a second that one source, an IPv4
	// address or an IPv6 /64, gets answered; twice as many in a burst. Zero: default.
	STAMPRate, STUNRate int
	// Sources and Sessions bound the tables. Zero: default.
	Sources, Sessions int
}

// Stats counts packets since the start. Received is the sum of the others but
// Evicted and Sessions.
type Stats struct {
	Received  uint64
	STAMP     uint64 // answered
	STUN      uint64 // answered
	Limited   uint64 // over the source's rate
	Malformed uint64 // neither a STAMP packet nor a binding request
	Refused   uint64 // from a port that gets no answer
	Failed    uint64 // the answer could not be sent
	Evicted   uint64 // STAMP sessions given up for want of room
	Sessions  uint64 // STAMP sessions held
}

type counters struct {
	received, stamp, stun, limited, malformed, refused, failed, evicted, sessions atomic.Uint64
}

// Reflector is an open socket. Run serves it.
type Reflector struct {
	conn     *net.UDPConn
	port     uint16
	log      zerolog.Logger
	count    counters
	sessions *stamp.Sessions
	stampers *limiter
	stunners *limiter
	out      []byte
}

// New opens the socket.
func New(cfg Config, log zerolog.Logger) (*Reflector, error) {
	addr, err := net.ResolveUDPAddr("udp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("open reflector on %s: %w", cfg.Addr, err)
	}
	conn, err := net.ListenUDP("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("open reflector on %s: %w", cfg.Addr, err)
	}
	if err := conn.SetReadBuffer(readBuffer); err != nil {
		log.Debug().Err(err).Msg("enlarge the reflector's read buffer")
	}
	if err := askTTL(conn); err != nil {
		log.Debug().Err(err).Msg("the reflector cannot see the TTL of packets")
	}
	sources := orDefault(cfg.Sources, DefaultSources)
	return &Reflector{
		conn: conn, port: conn.LocalAddr().(*net.UDPAddr).AddrPort().Port(), log: log,
		sessions: stamp.NewSessions(cfg.Sessions, 0),
		stampers: newLimiter(orDefault(cfg.STAMPRate, DefaultSTAMPRate), sources),
		stunners: newLimiter(orDefault(cfg.STUNRate, DefaultSTUNRate), sources),
		out:      make([]byte, 0, maxPacket),
	}, nil
}

func orDefault(n, def int) int {
	if n <= 0 {
		return def
	}
	return n
}

// Addr is the address that the socket has.
func (r *Reflector) Addr() net.Addr { return r.conn.LocalAddr() }

// Stats returns the counters.
func (r *Reflector) Stats() Stats {
	c := &r.count
	return Stats{
		Received: c.received.Load(), STAMP: c.stamp.Load(), STUN: c.stun.Load(),
		Limited: c.limited.Load(), Malformed: c.malformed.Load(), Refused: c.refused.Load(),
		Failed: c.failed.Load(), Evicted: c.evicted.Load(), Sessions: c.sessions.Load(),
	}
}

// Run answers until ctx ends; then it closes the socket. It may be called once.
func (r *Reflector) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { r.conn.Close() })
	defer stop()
	defer r.conn.Close()
	buf, oob := make([]byte, maxPacket), make([]byte, oobLen)
	for {
		n, oobn, _, src, err := r.conn.ReadMsgUDPAddrPort(buf, oob)
		at := time.Now()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			r.log.Debug().Err(err).Msg("read reflector socket")
			time.Sleep(errorPause)
			continue
		}
		r.packet(buf[:n], oob[:oobn], src, at)
	}
}

// packet answers one packet, or counts why not.
func (r *Reflector) packet(b, oob []byte, src netip.AddrPort, at time.Time) {
	r.count.received.Add(1)
	switch {
	case src.Port() < firstUserPort || src.Port() == r.port:
		r.count.refused.Add(1)
	case isSTUN(b):
		r.bind(b, src, at)
	default:
		r.reflect(b, oob, src, at)
	}
}

func (r *Reflector) reflect(b, oob []byte, src netip.AddrPort, at time.Time) {
	p, err := stamp.ParseSender(b)
	if err != nil {
		r.count.malformed.Add(1)
		return
	}
	if !r.stampers.allow(src.Addr(), at) {
		r.count.limited.Add(1)
		return
	}
	seq := r.sessions.Next(stamp.SessionKey{Source: src, SSID: p.SSID}, at)
	r.count.evicted.Store(r.sessions.Evicted())
	r.count.sessions.Store(uint64(r.sessions.Len()))
	out, err := stamp.Reflect(r.out[:0], b, at, ttlOf(oob), seq)
	if err != nil {
		r.count.malformed.Add(1)
		return
	}
	stamp.SetTransmit(out, time.Now())
	r.send(out, src, &r.count.stamp)
}

func (r *Reflector) send(out []byte, to netip.AddrPort, sent *atomic.Uint64) {
	if _, err := r.conn.WriteToUDPAddrPort(out, to); err != nil {
		r.count.failed.Add(1)
		return
	}
	sent.Add(1)
}
