package wire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Type is the byte that tells messages apart.
type Type uint8

// Types of messages. A number is never given twice.
const (
	TypeHello         Type = 1
	TypeWelcome       Type = 2
	TypeFrame         Type = 3
	TypeAck           Type = 4
	TypeDefer         Type = 5
	TypeReject        Type = 6
	TypeDrain         Type = 7
	TypeRenewRequest  Type = 8
	TypeRenewResponse Type = 9
	TypeClose         Type = 10
	TypeEnrolRequest  Type = 11
	TypeEnrolResponse Type = 12
	TypeBundle        Type = 13
	TypePing          Type = 14
	TypePong          Type = 15
)

// HeaderLen is the length of what stands before the body of a message: the number
// of bytes that follow (type and body), big-endian in four bytes, and the type.
const HeaderLen = 5

// Codec options: everything that a hostile peer could use to cost us memory or to
// say two things at once is refused; an unknown field is ignored.
var (
	encMode = must(cbor.EncOptions{
		IndefLength: cbor.IndefLengthForbidden,
		TagsMd:      cbor.TagsForbidden,
	}.EncMode())
	decMode = must(cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:  8,
		MaxArrayElements: MaxRows,
		MaxMapPairs:      64,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		UTF8:             cbor.UTF8RejectInvalid,
		NaN:              cbor.NaNDecodeForbidden,
		Inf:              cbor.InfDecodeForbidden,
	}.DecMode())
)

// must serves the options above, which no input reaches.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// AppendMessage appends the whole message, header and body, to dst. msg is one of
// the message types, by value or by pointer; texts longer than MaxText are cut.
func AppendMessage(dst []byte, msg any) ([]byte, error) {
	typ, m, err := outgoing(msg)
	if err != nil {
		return dst, err
	}
	body, err := encMode.Marshal(m)
	if err != nil {
		return dst, fmt.Errorf("encode message %d: %w", typ, err)
	}
	if len(body) > limit(typ) {
		return dst, &TooLargeError{What: fmt.Sprintf("bytes of message %d", typ), Has: len(body), Limit: limit(typ)}
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(body))+1)
	dst = append(dst, byte(typ))
	return append(dst, body...), nil
}

func limit(t Type) int {
	if t == TypeFrame || t == TypeBundle {
		return MaxFrame
	}
	return MaxMessage
}

// ParseHeader reads the header of a message: its type and the length of the body
// that follows. A length over the limit is refused, and fatal.
func ParseHeader(h [HeaderLen]byte) (Type, int, error) {
	n, typ := binary.BigEndian.Uint32(h[:4]), Type(h[4])
	fatal := func(format string, args ...any) error {
		e := malformed("message header", format, args...)
		e.Fatal = true
		return e
	}
	if n < 1 {
		return 0, 0, fatal("no type")
	}
	if int64(n)-1 > int64(limit(typ)) {
		return 0, 0, fatal("body of %d bytes, message %d may have %d", n-1, typ, limit(typ))
	}
	return typ, int(n) - 1, nil
}

// DecodeMessage reads the body of a message and returns a pointer to the message,
// within its limits. Every error is a *MalformedError.
func DecodeMessage(t Type, body []byte) (any, error) {
	what := fmt.Sprintf("message %d", t)
	if len(body) > limit(t) {
		return nil, malformed(what, "%d bytes, limit %d", len(body), limit(t))
	}
	m := blank(t)
	if m == nil {
		return nil, malformed(what, "unknown type")
	}
	if err := decMode.Unmarshal(body, m); err != nil {
		return nil, &MalformedError{What: what, Cause: err}
	}
	if err := m.check(); err != nil {
		return nil, &MalformedError{What: what, Cause: err}
	}
	return m, nil
}

// message is what every message type can do, through its pointer.
type message interface {
	// check tells whether the message is within its limits.
	check() error
	// texts lists the texts, to be cut when sending and checked when reading.
	texts() []*string
}

func blank(t Type) message {
	switch t {
	case TypeHello:
		return new(Hello)
	case TypeWelcome:
		return new(Welcome)
	case TypeFrame:
		return new(Frame)
	case TypeAck:
		return new(Ack)
	case TypeDefer:
		return new(Defer)
	case TypeReject:
		return new(Reject)
	case TypeDrain:
		return new(Drain)
	case TypeRenewRequest:
		return new(RenewRequest)
	case TypeRenewResponse:
		return new(RenewResponse)
	case TypeClose:
		return new(Close)
	case TypeEnrolRequest:
		return new(EnrolRequest)
	case TypeEnrolResponse:
		return new(EnrolResponse)
	case TypeBundle:
		return new(Bundle)
	case TypePing:
		return new(Ping)
	case TypePong:
		return new(Pong)
	}
	return nil
}

// outgoing copies msg, so that cutting its texts does not touch the caller's.
func outgoing(msg any) (Type, message, error) {
	t, m := copyOf(msg)
	if m == nil {
		return 0, nil, fmt.Errorf("encode message: %T is none", msg)
	}
	for _, s := range m.texts() {
		*s = clip(*s, MaxText)
	}
	if err := m.check(); err != nil {
		return 0, nil, fmt.Errorf("encode message %d: %w", t, err)
	}
	return t, m, nil
}

func copyOf(msg any) (Type, message) {
	switch v := msg.(type) {
	case Hello:
		return TypeHello, &v
	case *Hello:
		return TypeHello, ptr(*v)
	case Welcome:
		return TypeWelcome, &v
	case *Welcome:
		return TypeWelcome, ptr(*v)
	case Frame:
		return TypeFrame, &v
	case *Frame:
		return TypeFrame, v // no texts, nothing to cut: not copied
	case Ack:
		return TypeAck, &v
	case *Ack:
		return TypeAck, v
	case Defer:
		return TypeDefer, &v
	case *Defer:
		return TypeDefer, v
	case Reject:
		return TypeReject, &v
	case *Reject:
		return TypeReject, ptr(*v)
	case Drain:
		return TypeDrain, &v
	case *Drain:
		return TypeDrain, ptr(*v)
	case RenewRequest:
		return TypeRenewRequest, &v
	case *RenewRequest:
		return TypeRenewRequest, v
	case RenewResponse:
		return TypeRenewResponse, &v
	case *RenewResponse:
		return TypeRenewResponse, ptr(*v)
	case Close:
		return TypeClose, &v
	case *Close:
		return TypeClose, ptr(*v)
	case EnrolRequest:
		return TypeEnrolRequest, &v
	case *EnrolRequest:
		return TypeEnrolRequest, ptr(*v)
	case EnrolResponse:
		return TypeEnrolResponse, &v
	case *EnrolResponse:
		return TypeEnrolResponse, ptr(*v)
	case Bundle:
		return TypeBundle, &v
	case *Bundle:
		return TypeBundle, v
	case Ping:
		return TypePing, &v
	case *Ping:
		return TypePing, v
	case Pong:
		return TypePong, &v
	case *Pong:
		return TypePong, v
	}
	return 0, nil
}

func ptr[T any](v T) *T { return &v }

var errText = errors.New("text is too long")

func checkTexts(texts []*string) error {
	for _, s := range texts {
		if len(*s) > MaxText {
			return errText
		}
	}
	return nil
}
