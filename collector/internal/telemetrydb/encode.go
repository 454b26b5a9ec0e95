package telemetrydb

import (
	"encoding/binary"
	"math"
	"strings"
)

// encodeNative writes a block in ClickHouse's Native format, revision 0: what the
// embedded engine takes. The driver's own columns cost an allocation for each element
// of an array, and a copy of everything; here a column is one loop. ok is false for a
// type that this function does not know; the driver then decides.
//
// The form: the numbers of columns and rows, then each column with name, type and its
// values one after the other, little-endian; a string behind its length.
func encodeNative(buf []byte, b *Block) (_ []byte, ok bool) {
	buf = binary.AppendUvarint(buf, uint64(len(b.Columns)))
	buf = binary.AppendUvarint(buf, uint64(b.Rows))
	for _, c := range b.Columns {
		buf = appendText(buf, c.Name)
		buf = appendText(buf, c.Type)
		if buf, ok = appendColumn(buf, c, b.Rows); !ok {
			return buf, false
		}
	}
	return buf, true
}

func appendText(buf []byte, s string) []byte {
	return append(binary.AppendUvarint(buf, uint64(len(s))), s...)
}

// appendColumn appends the values if there are rows of them, of the column's type.
func appendColumn(buf []byte, c Column, rows int) ([]byte, bool) {
	switch v := c.Values.(type) {
	case []uint8:
		return append(buf, v...), c.Type == "UInt8" && len(v) == rows
	case []bool:
		for _, x := range v {
			buf = append(buf, byte(flag(x)))
		}
		return buf, c.Type == "Bool" && len(v) == rows
	case []uint32:
		return appendUint32s(buf, v), c.Type == "UInt32" && len(v) == rows
	case []uint64:
		return appendUint64s(buf, v), c.Type == "UInt64" && len(v) == rows
	case []int64:
		for _, x := range v {
			buf = binary.LittleEndian.AppendUint64(buf, uint64(x))
		}
		return buf, (c.Type == "Int64" || c.Type == instantType) && len(v) == rows
	case []string:
		if c.Type == "LowCardinality(String)" && len(v) == rows {
			return appendLowCardinality(buf, v), true
		}
		for _, x := range v {
			buf = appendText(buf, x)
		}
		return buf, c.Type == "String" && len(v) == rows
	case [][]uint32:
		var end uint64
		for _, x := range v {
			end += uint64(len(x))
			buf = binary.LittleEndian.AppendUint64(buf, end)
		}
		for _, x := range v {
			buf = appendUint32s(buf, x)
		}
		return buf, c.Type == "Array(UInt32)" && len(v) == rows
	}
	return appendNullable(buf, c, rows)
}

// appendNullable appends a mark for each row, then a value for each, zero where there
// is none.
func appendNullable(buf []byte, c Column, rows int) ([]byte, bool) {
	t, ok := strings.CutPrefix(c.Type, "Nullable(")
	t = strings.TrimSuffix(t, ")")
	if !ok {
		return buf, false
	}
	switch v := c.Values.(type) {
	case []*uint32:
		return appendMarked(buf, v, binary.LittleEndian.AppendUint32), t == "UInt32" && len(v) == rows
	case []*uint64:
		return appendMarked(buf, v, binary.LittleEndian.AppendUint64), t == "UInt64" && len(v) == rows
	case []*int64:
		return appendMarked(buf, v, func(b []byte, x int64) []byte { return binary.LittleEndian.AppendUint64(b, uint64(x)) }), (t == "Int64" || t == instantType) && len(v) == rows
	case []*bool:
		return appendMarked(buf, v, func(b []byte, x bool) []byte { return append(b, byte(flag(x))) }), t == "Bool" && len(v) == rows
	}
	return buf, false
}

func appendMarked[T any](buf []byte, v []*T, put func([]byte, T) []byte) []byte {
	for _, x := range v {
		buf = append(buf, byte(flag(x == nil)))
	}
	var zero T
	for _, x := range v {
		if x == nil {
			buf = put(buf, zero)
		} else {
			buf = put(buf, *x)
		}
	}
	return buf
}

func appendUint32s(buf []byte, v []uint32) []byte {
	for _, x := range v {
		buf = binary.LittleEndian.AppendUint32(buf, x)
	}
	return buf
}

func appendUint64s(buf []byte, v []uint64) []byte {
	for _, x := range v {
		buf = binary.LittleEndian.AppendUint64(buf, x)
	}
	return buf
}

// Parts of a dictionary column: the version of its form, and the flags that its own keys
// follow and are all there are.
const (
	dictionaryVersion = 1
	dictionaryKeys    = 1<<9 | 1<<10
)

// appendLowCardinality appends the distinct values, and for each row which one it has.
func appendLowCardinality(buf []byte, v []string) []byte {
	index := map[string]uint32{}
	var keys []string
	for _, x := range v {
		if _, ok := index[x]; !ok {
			index[x] = uint32(len(keys))
			keys = append(keys, x)
		}
	}
	width := uint64(0) // of an index: 1, 2 or 4 bytes
	switch {
	case len(keys) > math.MaxUint16:
		width = 2
	case len(keys) > math.MaxUint8:
		width = 1
	}
	buf = binary.LittleEndian.AppendUint64(buf, dictionaryVersion)
	buf = binary.LittleEndian.AppendUint64(buf, dictionaryKeys|width)
	buf = binary.LittleEndian.AppendUint64(buf, uint64(len(keys)))
	for _, k := range keys {
		buf = appendText(buf, k)
	}
	buf = binary.LittleEndian.AppendUint64(buf, uint64(len(v)))
	for _, x := range v {
		switch i := index[x]; width {
		case 0:
			buf = append(buf, byte(i))
		case 1:
			buf = binary.LittleEndian.AppendUint16(buf, uint16(i))
		default:
			buf = binary.LittleEndian.AppendUint32(buf, i)
		}
	}
	return buf
}
