package link

import (
	"encoding/binary"
	"net"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// lowerEffortTOS is the codepoint LE (RFC 8622) in the byte that IPv4 calls TOS and
// IPv6 traffic class; the two low bits are ECN's.
const lowerEffortTOS = 1 << 2

// markedConn is a UDP socket that can mark what it sends. It stays a socket that
// quic-go sends to in bulk and with ECN: those packets carry their own TOS in a
// control message, to which the mark is added. Packets without one get the socket's.
type markedConn struct {
	*net.UDPConn
	lower atomic.Bool
}

func markable(c *net.UDPConn) *markedConn { return &markedConn{UDPConn: c} }

func (c *markedConn) lowerEffort(on bool) {
	c.lower.Store(on)
	markSocket(c.UDPConn, on)
}

// WriteMsgUDP is called by quic-go for each packet, or group of packets.
func (c *markedConn) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	if c.lower.Load() {
		addMark(oob)
	}
	return c.UDPConn.WriteMsgUDP(b, oob, addr)
}

// addMark puts the mark into the TOS of control messages, and leaves ECN as it is.
func addMark(oob []byte) {
	for len(oob) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
		end := int(h.Len)
		if end < unix.CmsgLen(0) || end > len(oob) {
			return
		}
		data := oob[unix.CmsgLen(0):end]
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TOS && len(data) == 1:
			data[0] = data[0]&0x3 | lowerEffortTOS
		case (h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TOS || h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_TCLASS) && len(data) == 4:
			v := binary.NativeEndian.Uint32(data)
			binary.NativeEndian.PutUint32(data, v&0x3|lowerEffortTOS)
		}
		oob = oob[min(len(oob), unix.CmsgSpace(end-unix.CmsgLen(0))):]
	}
}

// markSocket sets the socket's own mark. The option of the other family fails, which
// does not matter: nothing depends on a mark.
func markSocket(c syscall.Conn, on bool) {
	tos := 0
	if on {
		tos = lowerEffortTOS
	}
	control(c, func(fd int) {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS, tos)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, tos)
	})
}

// setUserTimeout ends a connection whose data is not acknowledged for so long.
func setUserTimeout(c *net.TCPConn, d time.Duration) {
	control(c, func(fd int) {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
}

func control(c syscall.Conn, f func(fd int)) {
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}
