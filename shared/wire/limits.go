package wire

import "fmt"

// Limits of messages. They are checked before anything is allocated.
const (
	// MaxFrame bounds the body of a Frame or Bundle message.
	MaxFrame = 1 << 20
	// MaxMessage bounds the body of every other message.
	MaxMessage = 64 << 10
	// MaxPayload bounds the payload of a frame; the rest of MaxFrame is its header.
	MaxPayload = MaxFrame - 256
	// MaxRanges bounds the ranges of one Ack or Defer.
	MaxRanges = 1024
	// MaxBundleFrames bounds the frames of a bundle, and MaxBundleRatio how well they
	// may be compressed (beyond bundleSlack, a size that harms nobody).
	MaxBundleFrames = 1024
	MaxBundleRatio  = 200
	bundleSlack     = 64 << 10
	// MaxChain bounds the certificates of a chain.
	MaxChain = 4
)

// Limits of a payload.
const (
	// MaxDecoded bounds a payload after decompression.
	MaxDecoded = 8 << 20
	// MaxRows bounds the rows of a payload, and its targets.
	MaxRows = 10_000
	// MaxWindowRTTs bounds the attempts of one probe window: ten seconds at the
	// 20 ms pace of a voice stream are 500.
	MaxWindowRTTs = 1_000
	// MaxRTTs bounds the attempts of one payload.
	MaxRTTs = 100_000
	// MaxText bounds every text, in bytes. Encoding cuts a longer text, decoding
	// refuses it.
	MaxText = 1024
)

// MalformedError says that received bytes are not what they should be. Sending
// them again does not help.
type MalformedError struct {
	What  string // what was read: "frame header", "payload", …
	Cause error
	// Fatal means that the beginning of the next message can no longer be found.
	Fatal bool
}

func (e *MalformedError) Error() string { return "malformed " + e.What + ": " + e.Cause.Error() }

// Unwrap gives the cause.
func (e *MalformedError) Unwrap() error { return e.Cause }

func malformed(what, format string, args ...any) *MalformedError {
	return &MalformedError{What: what, Cause: fmt.Errorf(format, args...)}
}

// SchemaError says that a payload was written by a newer program: it is not
// malformed, only not readable here.
type SchemaError struct {
	Schema uint8
	Form   uint8 // the form within the schema, when that is what is not known
}

func (e *SchemaError) Error() string {
	if e.Form != 0 {
		return fmt.Sprintf("payload schema %d has the form %d, which is newer than this program: update it", e.Schema, e.Form)
	}
	return fmt.Sprintf("payload schema %d is newer than %d: update this program", e.Schema, Schema)
}

// TooLargeError says that something cannot be encoded within the limits: split it.
type TooLargeError struct {
	What       string
	Has, Limit int
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("%d %s are more than the limit of %d", e.Has, e.What, e.Limit)
}
