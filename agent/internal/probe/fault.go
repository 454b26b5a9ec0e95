package probe

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxDetail is the limit of telemetry.ProbeWindow.Detail.
const maxDetail = 200

// FaultOf sorts an error of a socket.
func FaultOf(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return FaultTimeout
	case isRefused(err):
		return FaultRefused
	case errors.Is(err, fs.ErrPermission):
		return FaultPermission
	case errors.As(err, &timeout) && timeout.Timeout():
		return FaultTimeout
	}
	return FaultUnreachable
}

// LostBy is Lost for an error of a socket.
func LostBy(err error) Attempt {
	fault := FaultOf(err)
	if fault == FaultTimeout {
		return Lost(fault, "")
	}
	return Lost(fault, err.Error())
}

// cleanDetail makes text from outside fit for a row: one line, bounded, valid UTF-8.
func cleanDetail(s string) string {
	if len(s) > 4*maxDetail {
		s = s[:4*maxDetail]
	}
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	for len(s) > maxDetail {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}
