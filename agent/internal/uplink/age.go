package uplink

import (
	"sync"
	"time"
)

const (
	// markEvery and maxMarks: an hour of marks.
	markEvery = 5 * time.Second
	maxMarks  = 720
)

// ages tells how old a record is although the wall clock may jump: it remembers,
// on the monotonic clock, which sequence numbers had been given when. The record's
// own time only decides within what that leaves open.
type ages struct {
	mu    sync.Mutex
	marks []mark // ascending in both fields; guarded by mu
}

// mark says that at this instant all records below next existed, and no other.
type mark struct {
	at   time.Time // with the monotonic reading
	next uint64
}

func newAges() *ages { return &ages{} }

// note remembers the spool's next seq at now.
func (a *ages) note(now time.Time, next uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := len(a.marks)
	if n > 0 && now.Sub(a.marks[n-1].at) < markEvery {
		return
	}
	if n == maxMarks {
		a.marks = append(a.marks[:0], a.marks[1:]...)
	}
	a.marks = append(a.marks, mark{now, next})
}

// age is never negative.
func (a *ages) age(now time.Time, seq uint64, created time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	age := max(now.Round(0).Sub(created), 0) // by the wall clock
	for i := len(a.marks) - 1; i >= 0; i-- {
		if m := a.marks[i]; m.next <= seq {
			return min(age, now.Sub(m.at)) // did not exist then
		} else if i == 0 || a.marks[i-1].next <= seq {
			age = max(age, now.Sub(m.at)) // the first mark that it existed at
		}
	}
	return age
}

// split is the seq from which on records may be younger than limit. What waited when the
// first mark was made is older.
func (a *ages) split(now time.Time, limit time.Duration) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := len(a.marks) - 1; i > 0; i-- {
		if now.Sub(a.marks[i].at) >= limit {
			return a.marks[i].next
		}
	}
	if len(a.marks) == 0 {
		return 0
	}
	return a.marks[0].next
}
