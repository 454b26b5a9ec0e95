package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"

	"sidetone/shared/telemetry"
)

// texts is the table of a payload's texts, each once, in the order of their first use.
type texts struct {
	all   []string
	index map[string]int // when encoding
	used  int            // of all, when decoding
	unfit bool           // one of them is too long or not UTF-8
	path  path
}

func (x *texts) reset() {
	clear(x.all)
	x.all = x.all[:0]
	clear(x.index)
	x.used, x.unfit = 0, false
}

// A text is written as 0 when it is the one expected, 1 when it is new, else 2 and
// its place in the table.

func (x *texts) code(s string) uint64 {
	if at, ok := x.index[s]; ok {
		return uint64(at) + 2
	}
	x.index[s] = len(x.all)
	x.all = append(x.all, s)
	x.unfit = x.unfit || len(s) > MaxText || !utf8.ValidString(s)
	return 1
}

// at is the place that a code other than 0 means, or below zero.
func (x *texts) at(code uint64) int {
	if code == 1 && x.used < len(x.all) {
		x.used++
		return x.used - 1
	}
	if code >= 2 && code-2 < uint64(x.used) {
		return int(code - 2)
	}
	return -1
}

var errNoText = errors.New("text that is not in the table")

// text is a column of texts. A column of codes begins as if the row before had brought
// a new text (fresh) or the one expected, and 0 means: again. Of the two, the other is
// then 1.
func text[T any, S ~string](t *table, x *texts, rows []T, fresh bool, f func(*T) *S) {
	if !t.encoding {
		if _, there := t.load(); !there {
			if !fresh {
				return
			}
			clear(t.deltas)
		}
	}
	swap := func(code uint64) uint64 {
		if fresh && code < 2 {
			return 1 - code
		}
		return code
	}
	for i := range rows {
		var expect S
		if b := t.before[i]; b >= 0 {
			expect = *f(&rows[b])
		}
		p := f(&rows[i])
		var code uint64
		if t.encoding {
			if *p != expect {
				code = x.code(string(*p))
			}
			t.deltas[i] = swap(code)
		} else {
			code = swap(t.deltas[i])
			*p = expect
			if code != 0 {
				at := x.at(code)
				if at < 0 {
					t.fail(errNoText)
					return
				}
				*p = S(x.all[at])
			}
		}
		if code < 2 {
			fresh = code == 1
		}
	}
	if t.encoding {
		t.emit(0)
	}
}

// key is a column of texts that tell which series a row belongs to. The series mostly
// come in the same order again and again, which costs nothing; at first, all are new.
func key[T any](t *table, x *texts, rows []T, f func(*T) *string) {
	if !t.encoding {
		if _, there := t.load(); !there {
			clear(t.deltas)
		}
	}
	p := &x.path
	p.begin()
	for i := range rows {
		expect := p.next()
		var at int
		if t.encoding {
			s := *f(&rows[i])
			known, ok := expect, expect >= 0 && x.all[expect] == s
			if !ok {
				known, ok = x.index[s]
			}
			switch {
			case ok && known == expect, !ok && expect < 0:
				t.deltas[i] = 0
			case ok:
				t.deltas[i] = uint64(known) + 2
			default:
				t.deltas[i] = 1
			}
			if at = known; !ok {
				at = len(x.all)
				x.code(s)
			}
		} else {
			code := t.deltas[i]
			switch {
			case code == 0 && expect < 0:
				at = x.at(1)
			case code == 0:
				at = expect
			default:
				at = x.at(code)
			}
			if at < 0 {
				t.fail(errNoText)
				return
			}
			*f(&rows[i]) = x.all[at]
		}
		t.before[i] = p.visit(at, i)
	}
	if t.encoding {
		t.emit(0)
	}
}

// path follows the keys of a table from row to row.
type path struct {
	from int     // the key of the row before; -1 at first
	succ []int32 // which key followed this key, the last time; -1 for none
	last []int32 // the row that had this key, the last time; -1 for none
}

func (p *path) begin() {
	p.from, p.succ, p.last = -1, p.succ[:0], p.last[:0]
}

// next is the key that followed the one before, the last time; -1 for the first time.
func (p *path) next() int {
	if p.from < 0 {
		return -1
	}
	return int(p.succ[p.from])
}

// visit notes that row i has the key, and gives the row that had it before; the row
// above when none had.
func (p *path) visit(at, i int) int32 {
	for len(p.succ) <= at {
		p.succ, p.last = append(p.succ, -1), append(p.last, -1)
	}
	if p.from >= 0 {
		p.succ[p.from] = int32(at)
	}
	p.from = at
	b := p.last[at]
	p.last[at] = int32(i)
	if b < 0 {
		return int32(i) - 1
	}
	return b
}

// itemID is a column of ids that follow from the rows' names: only others are written.
func itemID[T any](t *table, rows []T, same func(a, b *T) bool, derive func(*T) telemetry.ItemID, f func(*T) *telemetry.ItemID) {
	if !t.encoding {
		if _, there := t.load(); !there {
			clear(t.deltas)
		}
	}
	for i := range rows {
		r := &rows[i]
		var expect telemetry.ItemID
		if b := t.before[i]; b >= 0 && same(&rows[b], r) {
			expect = *f(&rows[b])
		} else {
			expect = derive(r)
		}
		if t.encoding {
			t.deltas[i] = uint64(*f(r) ^ expect)
		} else {
			*f(r) = expect ^ telemetry.ItemID(t.deltas[i])
		}
	}
	if t.encoding {
		t.emit(0)
	}
}

// deriveID is telemetry.MakeItemID without its allocations; a test compares them.
func deriveID(kind string, parts ...string) telemetry.ItemID {
	h := fnv1a(fnvOffset, kind)
	for _, p := range parts {
		h = fnv1a(h, p)
	}
	return telemetry.ItemID(h)
}

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// fnv1a goes on with a part and the zero byte behind it.
func fnv1a(h uint64, part string) uint64 {
	for i := range len(part) {
		h = (h ^ uint64(part[i])) * fnvPrime
	}
	return h * fnvPrime
}

// append writes the table: how many, all lengths, all bytes.
func (x *texts) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(x.all)))
	for _, s := range x.all {
		dst = binary.AppendUvarint(dst, uint64(len(s)))
	}
	for _, s := range x.all {
		dst = append(dst, s...)
	}
	return dst
}

// pinned is how many bytes of other texts a text may keep from being freed.
const pinned = 4 << 10

// read reads what append wrote and gives what stands behind.
func (x *texts) read(b []byte) ([]byte, error) {
	c := column{b: b}
	n := c.take()
	if c.err != nil || n > uint64(len(c.b)) {
		return nil, fmt.Errorf("%d texts in %d bytes", n, len(b))
	}
	lengths := c
	total := uint64(0)
	for range n {
		v := c.take()
		if v > MaxText {
			return nil, errText
		}
		total += v
	}
	if c.err != nil || total > uint64(len(c.b)) {
		return nil, fmt.Errorf("%d bytes of texts in %d", total, len(c.b))
	}
	raw := c.b[:total]
	if !utf8.Valid(raw) {
		return nil, errors.New("text is not UTF-8")
	}
	var block string // texts are cut from it; raw[:len(block)] is what is left of it
	for range n {
		k := int(lengths.take())
		if k > len(block) {
			block = string(raw[:max(k, min(len(raw), pinned))])
		}
		if k < len(raw) && !utf8.RuneStart(raw[k]) {
			return nil, errors.New("text is not UTF-8")
		}
		x.all = append(x.all, block[:k])
		block, raw = block[k:], raw[k:]
	}
	return c.b[total:], nil
}
