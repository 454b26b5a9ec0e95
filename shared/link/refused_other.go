//go:build !windows

package link

import (
	"errors"
	"syscall"
)

// isRefused tells whether err reports an ICMP "port unreachable".
func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
