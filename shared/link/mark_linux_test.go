package link

import (
	"context"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/sys/unix"
)

var _ quic.OOBCapablePacketConn = (*markedConn)(nil)

// TestLowerEffortOverQUIC reads the TOS of the packets where they arrive: between the
// two ends stands a socket that the kernel tells it.
func TestLowerEffortOverQUIC(t *testing.T) {
	for _, network := range []string{"127.0.0.1", "::1"} {
		t.Run(network, func(t *testing.T) {
			sniffer, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(network)})
			if err != nil {
				t.Skipf("no %s on this machine: %v", network, err)
			}
			defer sniffer.Close()
			control(sniffer, func(fd int) {
				_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTOS, 1)
				_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1)
			})
			plain, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(network)})
			if err != nil {
				t.Fatal(err)
			}
			defer plain.Close()
			c := markable(plain)
			to := sniffer.LocalAddr().(*net.UDPAddr)
			for _, step := range []struct {
				lower bool
				oob   []byte // as quic-go gives it
				want  byte
			}{
				{false, ecnMessage(network, 2), 2},
				{true, ecnMessage(network, 2), lowerEffortTOS | 2}, // ECT(0) stays
				{true, ecnMessage(network, 1), lowerEffortTOS | 1},
				{true, nil, lowerEffortTOS}, // a path without ECN
				{false, nil, 0},
				{false, ecnMessage(network, 2), 2},
			} {
				c.lowerEffort(step.lower)
				if _, _, err := c.WriteMsgUDP([]byte("x"), step.oob, to); err != nil {
					t.Fatal(err)
				}
				if got := readTOS(t, sniffer); got != step.want {
					t.Errorf("lower %t, control message %x: TOS %#x, want %#x", step.lower, step.oob, got, step.want)
				}
			}
		})
	}
}

// TestQUICUsesTheMark: a real handshake's packets carry the mark once it is on.
func TestQUICUsesTheMark(t *testing.T) {
	sniffer, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer sniffer.Close()
	control(sniffer, func(fd int) { _ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTOS, 1) })
	for _, lower := range []bool{false, true} {
		plain, err := net.ListenUDP("udp4", nil)
		if err != nil {
			t.Fatal(err)
		}
		c := markable(plain)
		c.lowerEffort(lower)
		tr := &quic.Transport{Conn: c}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = tr.Dial(ctx, sniffer.LocalAddr(), clientTLS(testTLS(), "x"), quicConfig())
		}()
		got := readTOS(t, sniffer) // the Initial
		cancel()
		<-done
		_ = tr.Close()
		_ = plain.Close()
		for drained := false; !drained; { // a second Initial may wait
			_ = sniffer.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			_, _, err := sniffer.ReadFromUDP(make([]byte, 2048))
			drained = err != nil
		}
		want := byte(0)
		if lower {
			want = lowerEffortTOS
		}
		if got&^3 != want {
			t.Errorf("lower %t: TOS %#x", lower, got)
		}
	}
}

func ecnMessage(network string, ecn byte) []byte {
	level, typ, size := unix.IPPROTO_IP, unix.IP_TOS, 1
	if net.ParseIP(network).To4() == nil {
		level, typ, size = unix.IPPROTO_IPV6, unix.IPV6_TCLASS, 4
	}
	b := make([]byte, unix.CmsgSpace(size))
	binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(size)))
	binary.NativeEndian.PutUint32(b[unix.CmsgLen(0)-8:], uint32(level))
	binary.NativeEndian.PutUint32(b[unix.CmsgLen(0)-4:], uint32(typ))
	b[unix.CmsgLen(0)] = ecn // little-endian machines; the others are not built for
	return b
}

func readTOS(t *testing.T, c *net.UDPConn) byte {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	oob := make([]byte, 128)
	_, n, _, _, err := c.ReadMsgUDP(make([]byte, 2048), oob)
	if err != nil {
		t.Fatal(err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range msgs {
		if m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_TOS ||
			m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_TCLASS {
			return m.Data[0]
		}
	}
	t.Fatal("no TOS with the packet")
	return 0
}

func TestLowerEffortOverTCP(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	socket, err := dialSocket(t.Context(), ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	tos := func() (v int) {
		control(socket, func(fd int) { v, _ = unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS) })
		return v
	}
	for _, on := range []bool{true, false} {
		markSocket(socket, on)
		if got := tos() &^ 3; (got == lowerEffortTOS) != on {
			t.Errorf("on %t: TOS %#x", on, got)
		}
	}
	var user, idle, every, count int
	control(socket, func(fd int) {
		user, _ = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		idle, _ = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)
		every, _ = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL)
		count, _ = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT)
	})
	if user != 30_000 || idle != 10 || every != 5 || count != 4 {
		t.Errorf("TCP_USER_TIMEOUT %d ms, keep-alive after %d s, %d times every %d s", user, idle, count, every)
	}
}

// FuzzAddMark: control messages of any form do no harm.
func FuzzAddMark(f *testing.F) {
	f.Add(ecnMessage("127.0.0.1", 2))
	f.Add(append(ecnMessage("::1", 1), 1, 2, 3))
	f.Fuzz(func(t *testing.T, oob []byte) {
		b := append(make([]byte, 0, len(oob)+8), oob...) // aligned as quic-go's
		addMark(b)
	})
}
