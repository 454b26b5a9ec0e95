//go:build !linux

package link

import (
	"net"
	"syscall"
	"time"
)

// markedConn marks nothing on this system.
type markedConn struct{ *net.UDPConn }

func markable(c *net.UDPConn) *markedConn { return &markedConn{c} }

func (c *markedConn) lowerEffort(bool) {}

func markSocket(syscall.Conn, bool) {}

// setUserTimeout does nothing here: keep-alive, and the deadline of each message,
// notice a peer that is gone.
func setUserTimeout(*net.TCPConn, time.Duration) {}
