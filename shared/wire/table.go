package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"sidetone/shared/telemetry"
)

// table writes or reads the rows of one type, column by column. One description of
// the columns serves both directions: it calls a method for each column, always in
// the same order, and new columns only at the end.
//
// Every column is numbers: differences to what the row before of the same series had
// (of the same trunk, say), or when there is none, the row before. A column of zeros
// is left out, so constant columns cost nothing, and neither do columns that a writer
// does not know.
type table struct {
	encoding bool
	rows     int
	before   []int32 // for each row, the row that it is compared with; -1 for none
	own      []int32 // what before was, while it is another; see alike
	number   int     // of the next column
	mask     uint64  // the columns that are there

	bitsOut bitWriter // where noisy columns go
	bitsIn  bitReader
	noise   bool // the column at hand is noisy

	deltas []uint64 // the column at hand, as it is written
	values []uint64 // and as it is meant
	there  []bool   // whether a value is there at all
	out    []byte
	in     []byte
	err    error
}

// begin makes the table ready for rows, each to be compared with the one before.
func (t *table) begin(rows int) {
	t.rows, t.number, t.mask, t.err = rows, 0, 0, nil
	t.before = sized(t.before, rows)
	for i := range t.before {
		t.before[i] = int32(i) - 1
	}
	t.deltas = sized(t.deltas, rows)
	t.values = sized(t.values, rows)
	t.there = sized(t.there, rows)
	t.out = t.out[:0]
}

func sized[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// alike makes rows be compared with a near one that is the same in some respect, if
// the row that they are compared with is not, until series is called.
func alike[T any](t *table, rows []T, same func(a, b *T) bool) {
	const near = 16
	t.own = append(t.own[:0], t.before...)
	for i, b := range t.own {
		if b < 0 || same(&rows[b], &rows[i]) {
			continue
		}
		for j := i - 1; j >= max(0, i-near); j-- {
			if same(&rows[j], &rows[i]) {
				t.before[i] = int32(j)
				break
			}
		}
	}
}

func (t *table) series() { copy(t.before, t.own) }

// noisy says that the next column's numbers have nothing that a compressor could use:
// they go to the bits.
func (t *table) noisy() *table {
	t.noise = true
	return t
}

// emitNoise writes a column that is not zero to the bits.
func (t *table) emitNoise(shift uint) {
	var widths [65]int
	for _, d := range t.deltas {
		widths[bits.Len64(d)]++
	}
	// Each step of k costs the numbers that are not wider one bit, and saves the others
	// one: the median is best.
	k := uint(0)
	for n := widths[0]; 2*n < t.rows; n += widths[k] {
		k++
	}
	if shift == 0 {
		t.bitsOut.put(0, 1)
	} else {
		t.bitsOut.put(1|uint64(shift)<<1, 7)
	}
	t.bitsOut.put(uint64(k), 7)
	for _, d := range t.deltas {
		t.bitsOut.golomb(d, k)
	}
}

func (t *table) loadNoise() (shift uint) {
	if t.bitsIn.take(1) == 1 {
		shift = uint(t.bitsIn.take(6))
	}
	k := uint(t.bitsIn.take(7))
	for i := range t.deltas {
		t.deltas[i] = t.bitsIn.golomb(k)
	}
	return shift
}

// A column begins with a byte: how its numbers are written.
const (
	modeRuns  = 1 // a zero is followed by how many more zeros follow
	modeShift = 1 // from this bit on: numbers are shifted left by so much
)

// emit writes the column in deltas, unless it is zero.
func (t *table) emit(shift uint) {
	zeros, runs := 0, 0
	inside := false
	for _, d := range t.deltas {
		if d != 0 {
			inside = false
			continue
		}
		zeros++
		if !inside {
			runs++
		}
		inside = true
	}
	number, noise := t.number, t.noise
	t.number++
	t.noise = false
	if zeros == t.rows {
		return
	}
	t.mask |= 1 << number
	if noise {
		t.emitNoise(shift)
		return
	}
	mode := byte(shift << modeShift)
	if 2*runs < zeros {
		mode |= modeRuns
	}
	out := append(t.out, mode)
	for i := 0; i < len(t.deltas); i++ {
		d := t.deltas[i]
		if d < 0x80 {
			out = append(out, byte(d))
		} else {
			out = binary.AppendUvarint(out, d)
		}
		if d == 0 && mode&modeRuns != 0 {
			n := i + 1
			for n < len(t.deltas) && t.deltas[n] == 0 {
				n++
			}
			out = binary.AppendUvarint(out, uint64(n-i-1))
			i = n - 1
		}
	}
	t.out = out
}

// load reads the next column into deltas; there is false when it is zero.
func (t *table) load() (shift uint, there bool) {
	there = t.mask&(1<<t.number) != 0
	noise := t.noise
	t.number++
	t.noise = false
	if !there {
		return 0, false
	}
	if noise {
		return t.loadNoise(), true
	}
	if len(t.in) == 0 {
		t.fail(errors.New("table ends early"))
		return 0, false
	}
	mode := t.in[0]
	in := t.in[1:]
	for i := 0; i < t.rows; i++ {
		var v uint64
		if len(in) > 0 && in[0] < 0x80 {
			v, in = uint64(in[0]), in[1:]
		} else {
			var n int
			if v, n = binary.Uvarint(in); n <= 0 {
				t.fail(errors.New("column ends early"))
				return 0, false
			}
			in = in[n:]
		}
		t.deltas[i] = v
		if v != 0 || mode&modeRuns == 0 {
			continue
		}
		more, n := binary.Uvarint(in)
		if n <= 0 || more > uint64(t.rows-i-1) {
			t.fail(errors.New("run of zeros that is too long"))
			return 0, false
		}
		in = in[n:]
		clear(t.deltas[i+1 : i+1+int(more)])
		i += int(more)
	}
	t.in = in
	return uint(mode >> modeShift), true
}

func (t *table) fail(err error) {
	if t.err == nil {
		t.err = fmt.Errorf("column %d: %w", t.number-1, err)
	}
}

// end tells whether all was sound. Columns of a newer writer stand behind ours.
func (t *table) end() error {
	if t.err == nil && len(t.in) > 0 && t.mask>>t.number == 0 {
		return fmt.Errorf("%d bytes too many", len(t.in))
	}
	return t.err
}

// The kinds of columns. f gives the place of the value in a row.

// integer is a column of numbers. Differences may wrap; adding them again wraps back.
// The zeros at the end that all of them have are not written: sizes come in pages.
func integer[T any, V ~uint32 | ~uint64 | ~int64](t *table, rows []T, f func(*T) *V) {
	if t.encoding {
		for i := range rows {
			t.values[i] = uint64(*f(&rows[i]))
		}
		t.differences()
		return
	}
	if !t.sums() {
		return
	}
	for i := range rows {
		v := V(t.values[i])
		if uint64(v) != t.values[i] {
			t.fail(errRange)
			return
		}
		*f(&rows[i]) = v
	}
}

var errRange = errors.New("number leaves its range")

// differences writes the column in values.
func (t *table) differences() {
	var all uint64
	for i, v := range t.values {
		if b := t.before[i]; b >= 0 {
			v -= t.values[b]
		}
		t.deltas[i] = v
		all |= v
	}
	if all == 0 {
		t.number++
		t.noise = false
		return
	}
	shift := uint(bits.TrailingZeros64(all))
	for i, d := range t.deltas {
		t.deltas[i] = zigzag(int64(d) >> shift)
	}
	t.emit(shift)
}

// sums reads a column into values; false when all are zero.
func (t *table) sums() bool {
	shift, there := t.load()
	if !there {
		return false
	}
	for i, d := range t.deltas {
		v := uint64(unzigzag(d)) << shift
		if b := t.before[i]; b >= 0 {
			v += t.values[b]
		}
		t.values[i] = v
	}
	return true
}

// instant is a time near the payload's, which the row above is nearest to.
func instant[T any](t *table, rows []T, near telemetry.UnixMS, f func(*T) *telemetry.UnixMS) {
	if t.encoding {
		for i := range rows {
			v := *f(&rows[i])
			t.deltas[i] = zigzag(int64(v - near))
			near = v
		}
		t.emit(0)
		return
	}
	if _, there := t.load(); !there {
		clear(t.deltas)
	}
	for i := range rows {
		near += telemetry.UnixMS(unzigzag(t.deltas[i]))
		*f(&rows[i]) = near
	}
}

// truth is a truth that is usual or not.
func truth[T any](t *table, rows []T, usual bool, f func(*T) *bool) {
	if t.encoding {
		for i := range rows {
			expect := usual
			if b := t.before[i]; b >= 0 {
				expect = *f(&rows[b])
			}
			t.deltas[i] = 0
			if *f(&rows[i]) != expect {
				t.deltas[i] = 1
			}
		}
		t.emit(0)
		return
	}
	if _, there := t.load(); !there {
		if !usual {
			return
		}
		clear(t.deltas)
	}
	for i := range rows {
		v := usual
		if b := t.before[i]; b >= 0 {
			v = *f(&rows[b])
		}
		*f(&rows[i]) = v != (t.deltas[i] != 0)
	}
}
