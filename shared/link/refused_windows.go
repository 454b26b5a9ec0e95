package link

import (
	"errors"

	"golang.org/x/sys/windows"
)

// isRefused tells whether err reports that nobody listens on the port.
func isRefused(err error) bool {
	return errors.Is(err, windows.WSAECONNREFUSED) || errors.Is(err, windows.WSAECONNRESET)
}

// isReset tells whether err reports a connection that the far side cut.
func isReset(err error) bool {
	return errors.Is(err, windows.WSAECONNRESET) || errors.Is(err, windows.WSAECONNABORTED)
}
