package reflector

import (
	"encoding/binary"
	"net"
	"syscall"

	"sidetone/shared/stamp"
)

// oobLen holds the control messages of TTL and hop limit.
const oobLen = 128

// askTTL asks the kernel to tell the TTL of each packet. A socket for both families
// wants both options; it is an error only when neither holds.
func askTTL(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var v4, v6 error
	if err := raw.Control(func(fd uintptr) {
		v4 = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_RECVTTL, 1)
		v6 = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_RECVHOPLIMIT, 1)
	}); err != nil {
		return err
	}
	if v4 != nil && v6 != nil {
		return v4
	}
	return nil
}

func ttlOf(oob []byte) uint8 {
	msgs, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return stamp.UnknownTTL
	}
	for _, m := range msgs {
		ttl := m.Header.Level == syscall.IPPROTO_IP && m.Header.Type == syscall.IP_TTL
		hops := m.Header.Level == syscall.IPPROTO_IPV6 && m.Header.Type == syscall.IPV6_HOPLIMIT
		if (ttl || hops) && len(m.Data) >= 4 {
			return uint8(binary.NativeEndian.Uint32(m.Data))
		}
	}
	return stamp.UnknownTTL
}
