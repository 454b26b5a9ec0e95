package wire

import (
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
)

// bitWriter packs numbers of any width, the lowest bit first.
type bitWriter struct {
	b   []byte
	acc uint64
	n   uint // bits in acc, below 64
}

// put appends the lowest width bits of v, at most 32; v has no others.
func (w *bitWriter) put(v uint64, width uint) {
	w.acc |= v << w.n
	w.n += width
	if w.n >= 32 {
		w.b = binary.LittleEndian.AppendUint32(w.b, uint32(w.acc))
		w.acc >>= 32
		w.n -= 32
	}
}

func (w *bitWriter) flush() {
	for ; w.n > 0; w.n -= min(w.n, 8) {
		w.b = append(w.b, byte(w.acc))
		w.acc >>= 8
	}
	w.acc = 0
}

// rice appends v with parameter k: v >> k in unary, then its lowest k bits. What
// would become too long is written in full.
func (w *bitWriter) rice(v uint32, k uint) {
	if q := v >> k; q < riceEscape {
		w.put(uint64(1)<<q, uint(q)+1)
		w.put(uint64(v)&(1<<k-1), k)
		return
	}
	w.put(0, riceEscape)
	w.put(uint64(v), 32)
}

const riceEscape = 24

// riceParameter is the k that makes n numbers with this sum short.
func riceParameter(sum uint64, n int) uint {
	if n == 0 || sum == 0 {
		return 0
	}
	// log2 of ln 2 times the mean is the best k of a geometric distribution.
	mean := sum * 11 / (16 * uint64(n))
	return uint(min(bits.Len64(mean), 31))
}

// wide appends width bits of v, which has no others.
func (w *bitWriter) wide(v uint64, width uint) {
	if width > 32 {
		w.put(v&math.MaxUint32, 32)
		v, width = v>>32, width-32
	}
	w.put(v, width)
}

// golomb appends v with parameter k, at most 64, in the exponential Golomb code: how
// many bits v>>k has beyond the first in unary, these bits, then the lowest k bits.
func (w *bitWriter) golomb(v uint64, k uint) {
	x := v >> k // a shift by 64 gives zero
	n := uint(bits.Len64(x))
	// The usual code writes x+1, which could overflow: the length of x itself instead.
	if n < 32 {
		w.put(uint64(1)<<n, n+1)
	} else {
		w.put(0, 32)
		w.put(uint64(n-32), 6)
	}
	if n > 1 {
		w.wide(x&^(1<<(n-1)), n-1)
	}
	w.wide(v&(1<<k-1), k)
}

// bitReader reads what bitWriter wrote. Past the end it reads zeros and notes it.
type bitReader struct {
	b    []byte
	acc  uint64
	n    uint
	over uint // bits that were read but were not there
}

// fill makes at least 32 bits available.
func (r *bitReader) fill() {
	if r.n >= 32 {
		return
	}
	if len(r.b) >= 4 {
		r.acc |= uint64(binary.LittleEndian.Uint32(r.b)) << r.n
		r.b = r.b[4:]
		r.n += 32
		return
	}
	for r.n < 32 {
		if len(r.b) > 0 {
			r.acc |= uint64(r.b[0]) << r.n
			r.b = r.b[1:]
		} else {
			r.over += 8
		}
		r.n += 8
	}
}

// left is how many bits are there at most.
func (r *bitReader) left() int { return 8*len(r.b) + int(r.n) }

func (r *bitReader) take(width uint) uint64 {
	r.fill()
	v := r.acc & (1<<width - 1)
	r.acc >>= width
	r.n -= width
	return v
}

func (r *bitReader) rice(k uint) uint32 {
	r.fill()
	q := uint(bits.TrailingZeros64(r.acc | 1<<riceEscape))
	if q == riceEscape {
		r.acc >>= riceEscape
		r.n -= riceEscape
		return uint32(r.take(32))
	}
	r.acc >>= q + 1
	r.n -= q + 1
	return uint32(uint64(q)<<k | r.take(k))
}

func (r *bitReader) wide(width uint) uint64 {
	if width <= 32 {
		return r.take(width)
	}
	low := r.take(32)
	return low | r.take(width-32)<<32
}

func (r *bitReader) golomb(k uint) uint64 {
	r.fill()
	n := uint(bits.TrailingZeros64(r.acc | 1<<32))
	if n < 32 {
		r.acc >>= n + 1
		r.n -= n + 1
	} else {
		r.acc >>= 32
		r.n -= 32
		n += uint(r.take(6))
	}
	x := uint64(min(n, 1))
	if n > 1 {
		n = min(n, 64)
		x = r.wide(n-1) | 1<<(n-1)
	}
	return x<<k | r.wide(min(k, 64))
}

var errBits = errors.New("bits end early or are too many")

// end tells whether the bits were read to their end and not further.
func (r *bitReader) end() error {
	if left := r.n + 8*uint(len(r.b)); r.over > left || left-r.over >= 8 || r.acc != 0 {
		return errBits
	}
	return nil
}
