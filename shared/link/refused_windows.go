package link

import (
	"errors"

	"golang.org/x/sys/windows"
)

// isRefused tells whether err reports an ICMP "port unreachable".
func isRefused(err error) bool {
	return errors.Is(err, windows.WSAECONNRESET) || errors.Is(err, windows.WSAECONNREFUSED)
}
