//go:build !linux

package reflector

import (
	"net"

	"sidetone/shared/stamp"
)

const oobLen = 0

func askTTL(*net.UDPConn) error { return nil }

func ttlOf([]byte) uint8 { return stamp.UnknownTTL }
