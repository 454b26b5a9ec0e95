package uplink

import (
	"slices"
	"time"

	"sidetone/shared/wire"
)

// flight is what a connection knows about records: which are on the way, which the
// collector deferred, how far sending has come. It touches neither net nor disk.
type flight struct {
	window   int
	sent     map[uint64]uint64 // seq to epoch, of records without an answer
	next     uint64            // highest seq that was sent or put off
	deferred []span            // ascending, not touching each other unless their due differs
	// storing: the collector's last word on any frame was not "later".
	storing bool
}

// span is records that wait until due.
type span struct {
	from, to uint64
	due      time.Time
}

const (
	// dueSlack joins neighbours whose times differ by less.
	dueSlack = time.Second
	// maxSpans bounds the list; beyond it, spans are joined across what lies between,
	// which costs a useless look into the spool.
	maxSpans = 1024
	// trial is how many deferred records are sent again at once while the collector
	// cannot store.
	trial = 16
)

func newFlight(window int) *flight {
	return &flight{window: window, sent: map[uint64]uint64{}, storing: true}
}

// room is how many records may be sent.
func (f *flight) room() int { return max(f.window-len(f.sent), 0) }

// took notes that a record was sent.
func (f *flight) took(epoch, seq uint64) {
	f.sent[seq] = epoch
	f.next = max(f.next, seq)
}

// answered removes and returns, as ranges, those of the ranges that are on the way:
// the collector has no say about others.
func (f *flight) answered(epoch uint64, ranges []wire.Range) []wire.Range {
	var seqs []uint64
	for seq, e := range f.sent {
		if e == epoch && slices.ContainsFunc(ranges, func(r wire.Range) bool { return r.From <= seq && seq <= r.To }) {
			seqs = append(seqs, seq)
			delete(f.sent, seq)
		}
	}
	slices.Sort(seqs)
	var out []wire.Range
	for _, s := range seqs {
		if n := len(out); n > 0 && out[n-1].To+1 == s {
			out[n-1].To = s
		} else {
			out = append(out, wire.Range{From: s, To: s})
		}
	}
	return out
}

// postpone puts from…to off until due.
func (f *flight) postpone(from, to uint64, due time.Time) {
	i, _ := slices.BinarySearchFunc(f.deferred, from, func(s span, from uint64) int {
		if s.from < from {
			return -1
		}
		return 1
	})
	f.deferred = slices.Insert(f.deferred, i, span{from, to, due})
	f.join(i)
	if i > 0 {
		f.join(i - 1)
	}
	for len(f.deferred) > maxSpans {
		last := len(f.deferred) - 2
		f.deferred[last].to = max(f.deferred[last].to, f.deferred[last+1].to)
		f.deferred = f.deferred[:last+1]
	}
}

// join joins span i with the one after it, if they touch and are due together.
func (f *flight) join(i int) {
	if i+1 >= len(f.deferred) {
		return
	}
	a, b := &f.deferred[i], f.deferred[i+1]
	if a.to+1 < b.from || a.due.Sub(b.due).Abs() > dueSlack {
		return
	}
	a.to = max(a.to, b.to)
	if b.due.After(a.due) {
		a.due = b.due
	}
	f.deferred = slices.Delete(f.deferred, i+1, i+2)
}

// nextDue is when the first deferred record may be sent again.
func (f *flight) nextDue() (time.Time, bool) {
	if len(f.deferred) == 0 {
		return time.Time{}, false
	}
	return slices.MinFunc(f.deferred, func(a, b span) int { return a.due.Compare(b.due) }).due, true
}

// takeDue takes up to n seqs in a row that are due, out of the list. While the
// collector cannot store, only a few are tried, and all others due wait for retry.
func (f *flight) takeDue(now time.Time, n int, retry time.Duration) (from, to uint64, ok bool) {
	i := slices.IndexFunc(f.deferred, func(s span) bool { return !s.due.After(now) })
	if i < 0 || n == 0 {
		return 0, 0, false
	}
	if !f.storing {
		n = min(n, trial)
	}
	s := &f.deferred[i]
	from, to = s.from, s.to
	if to-from >= uint64(n) {
		to = from + uint64(n) - 1
		s.from = to + 1
	} else {
		f.deferred = slices.Delete(f.deferred, i, i+1)
	}
	if !f.storing {
		for j := range f.deferred {
			if d := &f.deferred[j]; !d.due.After(now) {
				d.due = now.Add(retry)
			}
		}
		for j := len(f.deferred) - 2; j >= 0; j-- {
			f.join(j)
		}
	}
	return from, to, true
}

// waiting is how many deferred seqs there are.
func (f *flight) waiting() uint64 {
	var n uint64
	for _, s := range f.deferred {
		n += s.to - s.from + 1
	}
	return n
}
