package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"sidetone/shared/telemetry"
)

// Schema is the newest payload schema that this program writes and reads. The first
// byte of a payload is its schema; it stands outside so that a reader knows what to
// do with the rest. DESIGN.md has the forms.
//
//	1: zstd of a CBOR map of row types; probe windows by column, other rows as maps
//	2: a byte for the form, bits, and columns of all row types, compressed by the form
const Schema = 2

// Forms of the columns of schema 2, and of a bundle's data: how they are compressed.
// Forms up to formLast are for dictionaries to come; a reader without one can only wait.
const (
	formRaw   = 0
	formZstd  = 1
	formDict1 = 2 // zstd with dictionary 1
	formLast  = 15
)

// EncodePayload encodes the rows of set, which it does not change. Texts longer
// than MaxText are cut. More rows or attempts than the limits allow give a
// *TooLargeError; split the set.
func EncodePayload(set *telemetry.Set) ([]byte, error) {
	if err := checkCounts(set); err != nil {
		return nil, err
	}
	c := coders.Get().(*coder)
	defer c.release()
	noise, columns, err := c.encode(set)
	if err == nil && c.texts.unfit { // seldom, so that it pays to look only here
		noise, columns, err = c.encode(clipSet(set))
	}
	if err != nil {
		return nil, err
	}
	if n := len(noise) + len(columns); n > MaxDecoded {
		return nil, &TooLargeError{What: "bytes of a payload before compression", Has: n, Limit: MaxDecoded}
	}
	out := pack([]byte{2}, noise, columns)
	if len(out) > MaxPayload {
		return nil, &TooLargeError{What: "bytes of a payload", Has: len(out), Limit: MaxPayload}
	}
	return out, nil
}

// maxHead2 is what stands before bits and columns of schema 2, at most.
const maxHead2 = 2 + binary.MaxVarintLen32

// pack appends a form, the length of the bits, the bits, and the columns compressed
// if that gains something.
func pack(dst, noise, columns []byte) []byte {
	out := slices.Grow(dst, 64+len(noise)+len(columns))
	form := len(out)
	out = binary.AppendUvarint(append(out, formDict1), uint64(len(noise)))
	out = append(out, noise...)
	n := len(out)
	if out = deflate(dense(), out, columns); len(out)-n < len(columns) {
		return out
	}
	out[form] = formRaw
	return append(out[:n], columns...)
}

// unpack undoes pack; both parts together have most bytes at most.
func unpack(p []byte, most int) (noise, columns []byte, err error) {
	if len(p) == 0 {
		return nil, nil, errors.New("no form")
	}
	form := p[0]
	size, n := binary.Uvarint(p[1:])
	if n <= 0 || size > uint64(len(p)-1-n) || size > uint64(most) {
		return nil, nil, errors.New("bits end early")
	}
	noise, columns = p[1+n:1+n+int(size)], p[1+n+int(size):]
	switch form {
	case formRaw:
		_ = decompressor() // made at the first payload of any form, as callers' tests rely on
		return noise, columns, nil
	case formZstd, formDict1:
		columns, err = inflate(columns, most-len(noise))
		return noise, columns, err
	}
	return nil, nil, fmt.Errorf("compressed in the unknown way %d", form)
}

// uncompressedLen is the length of a sound payload of schema 2 without compression.
func uncompressedLen(p []byte) (int, bool) {
	if p[0] != 2 {
		return 0, false
	}
	noise, n := binary.Uvarint(p[2:])
	if p[1] == formRaw || n <= 0 {
		return len(p), n > 0
	}
	size, err := inflatedLen(p[2+n+int(noise):])
	return maxHead2 + int(noise) + size, err == nil
}

// stored2 is a payload of schema 2 that is not compressed.
func stored2(noise, columns []byte) []byte {
	out := append(make([]byte, 0, maxHead2+len(noise)+len(columns)), 2, formRaw)
	out = binary.AppendUvarint(out, uint64(len(noise)))
	return append(append(out, noise...), columns...)
}

func checkCounts(set *telemetry.Set) error {
	if n := set.Len(); n > MaxRows {
		return &TooLargeError{What: "rows", Has: n, Limit: MaxRows}
	}
	total := 0
	for i := range set.ProbeWindows {
		n := len(set.ProbeWindows[i].RTTUS)
		if n > MaxWindowRTTs {
			return &TooLargeError{What: "attempts in a window", Has: n, Limit: MaxWindowRTTs}
		}
		total += n
	}
	if total > MaxRTTs {
		return &TooLargeError{What: "attempts", Has: total, Limit: MaxRTTs}
	}
	return nil
}

// DecodePayload decodes what EncodePayload made, of this and every older schema. The
// error is a *SchemaError when the payload was written by a newer program, else a
// *MalformedError.
func DecodePayload(p []byte) (*telemetry.Set, error) {
	const what = "payload"
	if len(p) == 0 || len(p) > MaxPayload {
		return nil, malformed(what, "%d bytes", len(p))
	}
	var set *telemetry.Set
	var err error
	switch {
	case p[0] == 1:
		if set, err = decode1(p[1:]); err == nil {
			err = checkSet(set)
		}
	case p[0] == 2 && len(p) > 1 && p[1] > formDict1 && p[1] <= formLast:
		return nil, &SchemaError{Schema: 2, Form: p[1]}
	case p[0] == 2:
		set, err = decode2(p[1:])
	case p[0] > Schema:
		return nil, &SchemaError{Schema: p[0]}
	default:
		err = fmt.Errorf("schema %d", p[0])
	}
	if err != nil {
		return nil, &MalformedError{What: what, Cause: err}
	}
	return set, nil
}

func decode2(p []byte) (*telemetry.Set, error) {
	noise, columns, err := unpack(p, MaxDecoded)
	if err != nil {
		return nil, err
	}
	c := coders.Get().(*coder)
	defer c.release()
	return c.decode(noise, columns)
}

// Rows decodes the frame's payload, see DecodePayload. A frame out of a bundle has its
// rows already.
func (m *Frame) Rows() (*telemetry.Set, error) {
	if m.rows != nil {
		return m.rows, nil
	}
	return DecodePayload(m.Payload)
}

// PayloadFor gives a payload that a peer of this capability can read: p itself, or the
// same rows in an older schema. An error is of the kinds of DecodePayload, or a
// *TooLargeError when the older form does not fit.
func PayloadFor(capability uint32, p []byte) ([]byte, error) {
	if capability >= 2 || len(p) > 0 && p[0] == 1 {
		return p, nil
	}
	set, err := DecodePayload(p)
	if err != nil {
		return nil, err
	}
	return encode1(set)
}
