package icmp

import (
	"encoding/binary"
	"net/netip"

	"sidetone/agent/internal/probe"
)

const (
	headerLen = 8
	// echoLen is the size of a request: what ping sends by default, 56 octets of payload.
	echoLen = headerLen + 56

	v4EchoReply, v4Unreachable, v4Echo, v4TimeExceeded = 0, 3, 8, 11
	v6Unreachable, v6TimeExceeded, v6Echo, v6EchoReply = 1, 3, 128, 129
)

// putEcho writes a request into b, which has echoLen octets. The kernel computes
// the checksum of ICMPv6, which covers the addresses.
func putEcho(b []byte, v6 bool, id, seq uint16, nonce uint64) {
	b[0] = v4Echo
	if v6 {
		b[0] = v6Echo
	}
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], seq)
	binary.BigEndian.PutUint64(b[headerLen:], nonce)
	if !v6 {
		binary.BigEndian.PutUint16(b[2:], checksum(b))
	}
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// message is an answer, or an error about a request.
type message struct {
	id, seq uint16
	nonce   uint64
	fault   string // of an error
	detail  string
	about   netip.Addr // of an error: the request's destination
}

// parse reads an ICMP message; it reports false for all but echo replies of our
// length and errors about echo requests.
func parse(b []byte, v6 bool) (message, bool) {
	if len(b) < headerLen {
		return message{}, false
	}
	reply, unreachable, exceeded := byte(v4EchoReply), byte(v4Unreachable), byte(v4TimeExceeded)
	if v6 {
		reply, unreachable, exceeded = v6EchoReply, v6Unreachable, v6TimeExceeded
	}
	switch b[0] {
	case reply:
		if len(b) != echoLen {
			return message{}, false
		}
		return message{
			id: binary.BigEndian.Uint16(b[4:]), seq: binary.BigEndian.Uint16(b[6:]),
			nonce: binary.BigEndian.Uint64(b[headerLen:]),
		}, true
	case unreachable:
		return parseError(b[headerLen:], v6, "destination unreachable")
	case exceeded:
		return parseError(b[headerLen:], v6, "time to live exceeded")
	}
	return message{}, false
}

// parseError reads the start of our request that an error quotes.
func parseError(b []byte, v6 bool, detail string) (message, bool) {
	m := message{fault: probe.FaultUnreachable, detail: detail}
	var echo []byte
	if v6 {
		const ipLen, icmpv6 = 40, 58
		if len(b) < ipLen+headerLen || b[0]>>4 != 6 || b[6] != icmpv6 || b[ipLen] != v6Echo {
			return message{}, false
		}
		m.about, echo = netip.AddrFrom16([16]byte(b[24:40])), b[ipLen:]
	} else {
		const minLen, icmpv4 = 20, 1
		if len(b) < minLen || b[0]>>4 != 4 || b[9] != icmpv4 {
			return message{}, false
		}
		ipLen := int(b[0]&0xf) * 4
		if ipLen < minLen || len(b) < ipLen+headerLen || b[ipLen] != v4Echo {
			return message{}, false
		}
		m.about, echo = netip.AddrFrom4([4]byte(b[16:20])), b[ipLen:]
	}
	m.id, m.seq = binary.BigEndian.Uint16(echo[4:]), binary.BigEndian.Uint16(echo[6:])
	return m, true
}
