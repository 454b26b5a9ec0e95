package probe

import (
	"errors"

	"golang.org/x/sys/windows"
)

// isRefused knows both forms: TCP says refused, UDP says that the port answered
// with an ICMP message by resetting.
func isRefused(err error) bool {
	return errors.Is(err, windows.WSAECONNREFUSED) || errors.Is(err, windows.WSAECONNRESET)
}
