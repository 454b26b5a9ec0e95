//go:build !windows

package link

import (
	"errors"
	"syscall"
)

// isRefused tells whether err reports that nobody listens on the port.
func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// isReset tells whether err reports a connection that the far side cut.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
