package uplink

import (
	"maps"
	"slices"
	"time"

	"sidetone/shared/wire"
)

// flight is what a connection knows about records: which are on the way, which the
// collector deferred, how far sending has come in each lane. It touches neither net nor
// disk. A record is in exactly one place: on the way, deferred, in a list of the
// backlog, or behind next.
type flight struct {
	window   int
	sent     map[uint64]flying // by seq
	next     uint64            // live records are those behind it, and none before is one
	states   []run             // backlog of the dear class that was not sent, ascending
	samples  []run             // backlog of the other
	deferred []span            // ascending, not touching each other unless their due differs
	// backlog and its bytes are what is on the way of that lane.
	backlog, bytes int
	// storing: the collector's last word on any frame was not "later".
	storing bool
}

// flying is a record without an answer.
type flying struct {
	epoch   uint64
	backlog bool
	bytes   int
	at      time.Time
}

// run is seqs from…to, ends included.
type run struct{ from, to uint64 }

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
)

func newFlight(window int) *flight {
	return &flight{window: window, sent: map[uint64]flying{}, storing: true}
}

// room is how many records may be sent.
func (f *flight) room() int { return max(f.window-len(f.sent), 0) }

// backlogRoom is how many records of the backlog may be sent: it has half of the window.
func (f *flight) backlogRoom() int {
	return max(min(f.room(), max(f.window/2, 1)-f.backlog), 0)
}

// took notes that a record was sent.
func (f *flight) took(epoch, seq uint64, backlog bool, bytes int, now time.Time) {
	f.gone(seq)
	f.sent[seq] = flying{epoch, backlog, bytes, now}
	if backlog {
		f.backlog++
		f.bytes += bytes
	}
}

// gone takes a record off the way.
func (f *flight) gone(seq uint64) {
	if r, ok := f.sent[seq]; ok && r.backlog {
		f.backlog--
		f.bytes -= r.bytes
	}
	delete(f.sent, seq)
}

// age makes backlog of the live records below split that were not sent.
func (f *flight) age(split uint64) {
	if split <= f.next+1 {
		return
	}
	r := run{f.next + 1, split - 1}
	f.states, f.samples = append(f.states, r), append(f.samples, r)
	f.next = split - 1
}

// pass notes that a list of the backlog was sent up to seq.
func pass(list *[]run, seq uint64) {
	for len(*list) > 0 && (*list)[0].to <= seq {
		*list = (*list)[1:]
	}
	if len(*list) > 0 && (*list)[0].from <= seq {
		(*list)[0].from = seq + 1
	}
}

// recall takes all that is on the way back, to be sent again at once: its connection
// has been left.
func (f *flight) recall(now time.Time) {
	for _, seq := range slices.Sorted(maps.Keys(f.sent)) {
		f.gone(seq)
		f.postpone(seq, seq, now)
	}
}

// oldest is when the record was sent that waits longest for its answer.
func (f *flight) oldest() (at time.Time, ok bool) {
	for _, r := range f.sent {
		if !ok || r.at.Before(at) {
			at, ok = r.at, true
		}
	}
	return at, ok
}

// answered removes and returns, as ranges, those of the ranges that are on the way:
// the collector has no say about others. took is the longest time that one of the
// backlog has waited.
func (f *flight) answered(epoch uint64, ranges []wire.Range, now time.Time) (out []wire.Range, took time.Duration) {
	var seqs []uint64
	take := func(seq uint64) {
		r, ok := f.sent[seq]
		if !ok || r.epoch != epoch {
			return
		}
		if r.backlog {
			took = max(took, now.Sub(r.at))
		}
		seqs = append(seqs, seq)
		f.gone(seq)
	}
	for _, r := range ranges {
		if r.To-r.From < uint64(len(f.sent)) {
			for i := uint64(0); i <= r.To-r.From; i++ { // seqs may end at the largest number
				take(r.From + i)
			}
			continue
		}
		for seq := range f.sent {
			if r.From <= seq && seq <= r.To {
				take(seq)
			}
		}
	}
	slices.Sort(seqs)
	for _, s := range seqs {
		if n := len(out); n > 0 && out[n-1].To+1 == s {
			out[n-1].To = s
		} else {
			out = append(out, wire.Range{From: s, To: s})
		}
	}
	return out, took
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

// nextDue is when the first deferred record with a seq of from…to may be sent again.
func (f *flight) nextDue(from, to uint64) (at time.Time, ok bool) {
	for _, s := range f.deferred {
		if s.to >= from && s.from <= to && (!ok || s.due.Before(at)) {
			at, ok = s.due, true
		}
	}
	return at, ok
}

// takeDue takes up to n seqs in a row that are due and within lo…hi, out of the list.
func (f *flight) takeDue(now time.Time, n int, lo, hi uint64) (from, to uint64, ok bool) {
	i := slices.IndexFunc(f.deferred, func(s span) bool { return !s.due.After(now) && s.to >= lo && s.from <= hi })
	if i < 0 || n <= 0 {
		return 0, 0, false
	}
	s := f.deferred[i]
	from, to = max(s.from, lo), min(s.to, hi)
	if to-from >= uint64(n) {
		to = from + uint64(n) - 1
	}
	var rest []span
	if s.from < from {
		rest = append(rest, span{s.from, from - 1, s.due})
	}
	if to < s.to {
		rest = append(rest, span{to + 1, s.to, s.due})
	}
	f.deferred = slices.Replace(f.deferred, i, i+1, rest...)
	return from, to, true
}

// putOff lets all deferred records up to hi that are due wait until then.
func (f *flight) putOff(now time.Time, hi uint64, until time.Time) {
	for j := range f.deferred {
		if d := &f.deferred[j]; d.from <= hi && !d.due.After(now) {
			d.due = until
		}
	}
	for j := len(f.deferred) - 2; j >= 0; j-- {
		f.join(j)
	}
}

// waiting is how many deferred seqs there are.
func (f *flight) waiting() uint64 {
	var n uint64
	for _, s := range f.deferred {
		n += s.to - s.from + 1
	}
	return n
}
