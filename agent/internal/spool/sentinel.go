package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"slices"

	"sidetone/shared/telemetry"
)

// promise is what the sentinel file says must be in the database. It is outside the
// database because Badger, when a file is damaged, opens with less and says nothing.
type promise struct {
	Counter uint64 `json:"counter"` // the slot with the higher one is valid
	Epoch   uint64 `json:"epoch"`
	// Next is the lowest seq that was never given.
	Next uint64 `json:"next"`
	// Epochs lists where each epoch begins, as long as records of it live.
	Epochs []epochStart `json:"epochs"`
	// Live and Memory are the seqs of records on disk and in memory.
	Live   [][2]uint64 `json:"live,omitempty"`
	Memory [][2]uint64 `json:"memory,omitempty"`
	// Loose says that Live[0] covers several spans, of which LooseCount seqs live.
	Loose      bool   `json:"loose,omitempty"`
	LooseCount uint64 `json:"loose_count,omitempty"`
	// Gaps are those that the collector has not confirmed, the newest maxGapsKept, in
	// case the database is lost with the rest.
	Gaps []keptGap `json:"gaps,omitempty"`
	// Volatile says that seqs may have been given that this file does not know of.
	Volatile bool `json:"volatile,omitempty"`
	// Boot is the life of the machine in which this was written, and Clean says that
	// nothing came after it: what the machine's end may have left out, see stale.
	Boot  string `json:"boot,omitempty"`
	Clean bool   `json:"clean,omitempty"`
	slot  int64
	// torn says that the other slot was being written.
	torn bool
}

// stale tells whether appends may have followed that this promise does not know of:
// they are written without a flush, which only a living machine keeps.
func (p *promise) stale(boot string) bool { return p.torn || !p.Clean && p.Boot != boot }

type keptGap struct {
	Epoch    uint64           `json:"e"`
	From     uint64           `json:"f"`
	To       uint64           `json:"t"`
	Reason   string           `json:"r"`
	Observed telemetry.UnixMS `json:"o"`
}

type epochStart struct {
	Epoch uint64 `json:"epoch"`
	From  uint64 `json:"from"`
}

const (
	slotSize      = 8192 // whole pages: a torn write spoils one slot, not both
	pageSize      = 4096
	slotMagic     = "sidetone-spool-sentinel-1"
	maxSpansKept  = 48
	maxEpochsKept = 8
	maxGapsKept   = 40
)

// sentinel is a file of two slots. Overwriting in place needs no new space, so it works
// on a full disk, and one flush makes it durable. The slot that was flushed last is left
// alone until the other one is.
type sentinel struct {
	f       *os.File
	counter uint64
	flushed int64 // the slot that is durable
	lazy    int   // writes since
	buf     []byte
}

// openSentinel opens or makes the file, and returns the newest valid promise, or nil.
func openSentinel(path string) (*sentinel, *promise, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, err
	}
	s := &sentinel{f: f}
	p := newestPromise(f)
	if p != nil {
		s.counter, s.flushed = p.Counter, p.slot
	}
	if st, err := f.Stat(); err == nil && st.Size() < 2*slotSize {
		// Filled, not only lengthened: a sparse file would need space later.
		pad := make([]byte, 2*slotSize-st.Size())
		if _, err := f.WriteAt(pad, st.Size()); err != nil {
			return nil, nil, errors.Join(err, f.Close())
		}
		if err := f.Sync(); err != nil {
			return nil, nil, errors.Join(err, f.Close())
		}
	}
	return s, p, nil
}

func newestPromise(f *os.File) *promise {
	var newest *promise
	torn := false
	slot := make([]byte, slotSize)
	for i := range int64(2) {
		n, _ := f.ReadAt(slot, i*slotSize)
		p := decodeSlot(slot[:n])
		if p == nil {
			torn = torn || !allZero(slot[:n])
			continue
		}
		if p.slot = i; newest == nil || p.Counter > newest.Counter {
			newest = p
		}
	}
	if newest != nil {
		newest.torn = torn
	}
	return newest
}

// readSentinel reads a promise without opening the spool.
func readSentinel(path string) (*promise, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return newestPromise(f), nil
}

// write writes p and, with flush, makes it durable. Without, it outlives this process,
// but not the machine.
func (s *sentinel) write(p promise, flush bool) error {
	p.Counter = s.counter + 1
	b, err := encodeSlot(s.buf[:0], &p)
	if err != nil {
		return err
	}
	s.buf = b
	slot := 1 - s.flushed
	if _, err := s.f.WriteAt(b, slot*slotSize); err != nil {
		return err
	}
	s.counter = p.Counter
	if s.lazy++; !flush {
		return nil
	}
	if err := syncData(s.f); err != nil {
		return err
	}
	s.flushed, s.lazy = slot, 0
	return nil
}

// encodeSlot lays out a slot in buf: magic, checksum and length on one line, then JSON,
// in whole pages.
func encodeSlot(buf []byte, p *promise) ([]byte, error) {
	body, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	b := fmt.Appendf(buf, "%s %08x %d\n", slotMagic, crc32.Checksum(body, castagnoli), len(body))
	b = append(b, body...)
	if len(b) > slotSize {
		return nil, fmt.Errorf("sentinel needs %d bytes, has %d", len(b), slotSize)
	}
	n := len(b)
	b = slices.Grow(b, slotSize-n)[:(n+pageSize-1)/pageSize*pageSize]
	clear(b[n:])
	return b, nil
}

func decodeSlot(b []byte) *promise {
	head, rest, ok := bytes.Cut(b, []byte("\n"))
	if !ok {
		return nil
	}
	var magic string
	var sum uint32
	var n int
	if _, err := fmt.Sscanf(string(head), "%s %x %d", &magic, &sum, &n); err != nil || magic != slotMagic || n < 0 || n > len(rest) {
		return nil
	}
	body := rest[:n]
	if crc32.Checksum(body, castagnoli) != sum {
		return nil
	}
	var p promise
	if json.Unmarshal(body, &p) != nil {
		return nil
	}
	return &p
}

func (s *sentinel) close() error { return s.f.Close() }

// keep writes spans for the sentinel: the newest exactly, the older ones as one loose
// span when there are too many.
func (p *promise) keep(live, memory spans) {
	p.Live, p.Loose, p.LooseCount = nil, false, 0
	if n := len(live); n > maxSpansKept {
		old := live[:n-maxSpansKept+1]
		p.Loose, p.LooseCount = true, old.count()
		p.Live = append(p.Live, [2]uint64{old[0].from, old[len(old)-1].to})
		live = live[n-maxSpansKept+1:]
	}
	for _, s := range live {
		p.Live = append(p.Live, [2]uint64{s.from, s.to})
	}
	p.Memory = nil
	if n := len(memory); n > maxSpansKept/4 { // what memory held is lost with it: one span says enough
		memory = spans{{memory[0].from, memory[n-1].to}}
	}
	for _, s := range memory {
		p.Memory = append(p.Memory, [2]uint64{s.from, s.to})
	}
}

// keepGaps writes the newest gaps for the sentinel.
func (p *promise) keepGaps(list []*gap) {
	for _, g := range list[max(0, len(list)-maxGapsKept):] {
		p.Gaps = append(p.Gaps, keptGap{g.Epoch, g.From, g.To, g.Reason, g.Observed})
	}
}

// missing lists promised seqs that are not in have.
func (p *promise) missing(have spans) spans {
	var lost spans
	for i, l := range p.Live {
		if l[0] > l[1] {
			continue
		}
		holes := have.holes(span{l[0], l[1]})
		if i == 0 && p.Loose {
			if (l[1]-l[0]+1)-holes.count() >= p.LooseCount {
				continue
			}
		}
		lost = append(lost, holes...)
	}
	return lost
}

// holes lists what of sp is not in s.
func (s spans) holes(sp span) spans {
	var out spans
	at := sp.from
	for i := s.find(sp.from); i < len(s) && s[i].from <= sp.to; i++ {
		if s[i].from > at {
			out = append(out, span{at, s[i].from - 1})
		}
		if s[i].to >= sp.to {
			return out
		}
		at = s[i].to + 1
	}
	return append(out, span{at, sp.to})
}
