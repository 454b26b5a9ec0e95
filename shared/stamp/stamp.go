// Package stamp reads and writes the test packets of the Simple Two-Way Active
// Measurement Protocol (RFC 8762), unauthenticated mode, for both ends: the
// sender's packet, the reflector's answer, and the table of sessions that a
// stateful reflector keeps. TWAMP Light ends (RFC 5357, appendix I) understand
// both packets. Nothing here opens a socket or reads a clock.
package stamp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

const (
	// DefaultPort is the UDP port of the reflector, assigned to TWAMP and STAMP.
	DefaultPort = 862
	// PacketLen is the length of the base packet in either direction.
	PacketLen = 44
	// MinPacketLen is the shortest packet that can be reflected without an answer
	// longer than the request: the last three octets of the answer are only padding,
	// and TWAMP Light senders leave them out.
	MinPacketLen = 41
	// UnknownTTL stands in the answer when the reflector could not see the TTL (RFC 5357, 4.2.1).
	UnknownTTL = 255
)

// Offsets within the two packets (RFC 8762, figures 2 and 5; SSID: RFC 8972, figure 1).
const (
	offSeq         = 0
	offTimestamp   = 4
	offError       = 12
	offSSID        = 14
	offReceived    = 16
	offSenderSeq   = 24
	offSenderTime  = 28
	offSenderError = 36
	offSenderTTL   = 40
)

// UnknownError is the estimate of an end that does not know how good its clock is:
// not synchronised, one second (scale 25, multiplier 128).
const UnknownError ErrorEstimate = 25<<8 | 128

// ErrShort says that a packet ends before its last field.
var ErrShort = errors.New("stamp packet too short")

// SenderPacket is what the session-sender transmits. SSID is the session's
// identifier of RFC 8972; zero means none.
type SenderPacket struct {
	Seq       uint32
	Timestamp Timestamp
	Error     ErrorEstimate
	SSID      uint16
}

// Append adds the 44 octets of p to dst.
func (p SenderPacket) Append(dst []byte) []byte {
	var b [PacketLen]byte
	binary.BigEndian.PutUint32(b[offSeq:], p.Seq)
	binary.BigEndian.PutUint64(b[offTimestamp:], uint64(p.Timestamp))
	binary.BigEndian.PutUint16(b[offError:], uint16(p.Error))
	binary.BigEndian.PutUint16(b[offSSID:], p.SSID)
	return append(dst, b[:]...)
}

// ParseSender reads a sender's packet. Octets after the known fields, be they
// padding or the extensions of RFC 8972, are ignored.
func ParseSender(b []byte) (SenderPacket, error) {
	if len(b) < MinPacketLen {
		return SenderPacket{}, fmt.Errorf("parse sender packet of %d octets: %w", len(b), ErrShort)
	}
	return SenderPacket{
		Seq:       binary.BigEndian.Uint32(b[offSeq:]),
		Timestamp: Timestamp(binary.BigEndian.Uint64(b[offTimestamp:])),
		Error:     ErrorEstimate(binary.BigEndian.Uint16(b[offError:])),
		SSID:      binary.BigEndian.Uint16(b[offSSID:]),
	}, nil
}

// ReflectorPacket is the session-reflector's answer.
type ReflectorPacket struct {
	Seq             uint32
	Timestamp       Timestamp // when the answer left
	Error           ErrorEstimate
	SSID            uint16
	Received        Timestamp // when the sender's packet came
	SenderSeq       uint32
	SenderTimestamp Timestamp
	SenderError     ErrorEstimate
	SenderTTL       uint8
}

// Append adds the 44 octets of p to dst.
func (p *ReflectorPacket) Append(dst []byte) []byte {
	var b [PacketLen]byte
	binary.BigEndian.PutUint32(b[offSeq:], p.Seq)
	binary.BigEndian.PutUint64(b[offTimestamp:], uint64(p.Timestamp))
	binary.BigEndian.PutUint16(b[offError:], uint16(p.Error))
	binary.BigEndian.PutUint16(b[offSSID:], p.SSID)
	binary.BigEndian.PutUint64(b[offReceived:], uint64(p.Received))
	binary.BigEndian.PutUint32(b[offSenderSeq:], p.SenderSeq)
	binary.BigEndian.PutUint64(b[offSenderTime:], uint64(p.SenderTimestamp))
	binary.BigEndian.PutUint16(b[offSenderError:], uint16(p.SenderError))
	b[offSenderTTL] = p.SenderTTL
	return append(dst, b[:]...)
}

// ParseReflector reads an answer. Octets after the known fields are ignored.
func ParseReflector(b []byte) (ReflectorPacket, error) {
	if len(b) < MinPacketLen {
		return ReflectorPacket{}, fmt.Errorf("parse reflector packet of %d octets: %w", len(b), ErrShort)
	}
	return ReflectorPacket{
		Seq:             binary.BigEndian.Uint32(b[offSeq:]),
		Timestamp:       Timestamp(binary.BigEndian.Uint64(b[offTimestamp:])),
		Error:           ErrorEstimate(binary.BigEndian.Uint16(b[offError:])),
		SSID:            binary.BigEndian.Uint16(b[offSSID:]),
		Received:        Timestamp(binary.BigEndian.Uint64(b[offReceived:])),
		SenderSeq:       binary.BigEndian.Uint32(b[offSenderSeq:]),
		SenderTimestamp: Timestamp(binary.BigEndian.Uint64(b[offSenderTime:])),
		SenderError:     ErrorEstimate(binary.BigEndian.Uint16(b[offSenderError:])),
		SenderTTL:       b[offSenderTTL],
	}, nil
}

// Reflect appends the answer to pkt to dst. The answer is exactly as long as the
// request, so it never amplifies: what follows the base packet is returned as it
// came, which is what RFC 8972 asks of a reflector that understands none of the
// extensions (their "unrecognised" flag stays set) and keeps padded packets
// symmetrical. Both timestamps are receivedAt until SetTransmit corrects the
// second one; dst must not overlap pkt.
//
// The error estimate of the sender is returned unread: senders exist that leave
// it zero, and refusing them would lose a measurement for nothing.
func Reflect(dst, pkt []byte, receivedAt time.Time, ttl uint8, seq uint32) ([]byte, error) {
	s, err := ParseSender(pkt)
	if err != nil {
		return dst, err
	}
	now := NTP(receivedAt)
	start := len(dst)
	r := ReflectorPacket{
		Seq: seq, Timestamp: now, Error: UnknownError, SSID: s.SSID, Received: now,
		SenderSeq: s.Seq, SenderTimestamp: s.Timestamp, SenderError: s.Error, SenderTTL: ttl,
	}
	dst = r.Append(dst)
	if len(pkt) <= PacketLen {
		return dst[:start+len(pkt)], nil
	}
	return append(dst, pkt[PacketLen:]...), nil
}

// SetTransmit writes the time of sending into a packet of either end; call it last
// before the packet is written. It panics when pkt is no packet of this package.
func SetTransmit(pkt []byte, t time.Time) {
	binary.BigEndian.PutUint64(pkt[offTimestamp:offTimestamp+8], uint64(NTP(t)))
}
