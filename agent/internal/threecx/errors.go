package threecx

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"sidetone/shared/telemetry"
)

// Kinds of failure of talking to a PBX. An Error wraps exactly one of them.
var (
	// ErrUnreachable: no connection, no TLS, or no answer in time.
	ErrUnreachable = errors.New("PBX unreachable")
	// ErrCredentials: the PBX refuses the credentials. After three refusals the
	// client stops signing in until it is made anew: the PBX would block our address.
	ErrCredentials = errors.New("wrong credentials")
	// ErrSecondFactor: the user has two-factor sign-in, which a service cannot do.
	ErrSecondFactor = errors.New("second factor wanted")
	// ErrRights: signed in, but the role is too small (or console restrictions made it so).
	ErrRights = errors.New("too few rights")
	// ErrBusy: the PBX answers with server errors, throttles us, or another client
	// keeps ending our token.
	ErrBusy = errors.New("PBX busy")
	// ErrNot3CX: something answers, but not the API of a 3CX of this generation.
	ErrNot3CX = errors.New("not a 3CX v20")
	// ErrUnsupported: this build does not have the path, or not for us.
	ErrUnsupported = errors.New("not offered by this PBX")
	// ErrAnswer: the answer cannot be understood or is too large.
	ErrAnswer = errors.New("answer not understood")
)

// Error is a failure in words for a person. It never holds a secret.
type Error struct {
	Kind error  // one of the Err values
	Text string // what happened, and what to do
	Err  error  // the cause, may be nil
}

// Errorf makes an Error.
func Errorf(kind, cause error, format string, args ...any) *Error {
	return &Error{Kind: kind, Text: fmt.Sprintf(format, args...), Err: cause}
}

func (e *Error) Error() string { return e.Kind.Error() + ": " + e.Text }

// Unwrap makes errors.Is find the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// State is what a failed reading of the PBX's status means.
func State(err error) telemetry.PBXState {
	switch {
	case err == nil:
		return telemetry.PBXOK
	case errors.Is(err, ErrCredentials), errors.Is(err, ErrSecondFactor), errors.Is(err, ErrRights):
		return telemetry.PBXAuthFailed
	case errors.Is(err, ErrBusy), errors.Is(err, ErrAnswer), errors.Is(err, ErrUnsupported):
		return telemetry.PBXBusy
	}
	return telemetry.PBXUnreachable
}

// maxDetail is the limit of telemetry.PBXStatus.Detail, bytes.
const maxDetail = 300

// Detail is the text of err for a row: at most 300 bytes of clean UTF-8.
func Detail(err error) string {
	if err == nil {
		return ""
	}
	return Clean(err.Error(), maxDetail)
}

// Clean makes hostile text fit for a row: control characters become spaces,
// broken UTF-8 becomes U+FFFD, and it is cut at a rune to at most limit bytes.
func Clean(s string, limit int) string {
	out := make([]byte, 0, min(len(s), limit))
	for _, r := range s {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			r = ' '
		}
		if len(out)+utf8.RuneLen(r) > limit {
			break
		}
		out = utf8.AppendRune(out, r)
	}
	return string(out)
}
