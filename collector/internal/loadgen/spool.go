package loadgen

import (
	"slices"
	"sync"
	"time"

	"sidetone/shared/telemetry"
	"sidetone/shared/wire"
)

// record is a payload that waits for its ack.
type record struct {
	seq     uint64
	class   wire.Class
	payload []byte
	crc     uint32
	rows    rowCounts
	values  uint32
	made    time.Time
	sent    time.Time // last; zero when it was not
	due     time.Time // deferred: not to be sent before
	flying  bool      // sent on this connection, without an answer
}

// spool is one agent's records that are not acked, in memory and bounded, and the
// account of all that ever were.
type spool struct {
	epoch              uint64
	maxCount, maxBytes int
	wake               chan struct{} // has room for one: there is something to send

	mu      sync.Mutex
	next    uint64    // seq of the next record; guarded by mu
	waiting []*record // ascending; guarded by mu
	bytes   int       // of waiting; guarded by mu
	made    AgentLedger
	untold  []telemetry.Gap // gaps that no record tells yet; guarded by mu
}

// maxUntold bounds the gaps that wait to be told; beyond it neighbours are joined.
const maxUntold = 256

func newSpool(epoch uint64, maxCount, maxBytes int) *spool {
	return &spool{epoch: epoch, maxCount: maxCount, maxBytes: maxBytes, wake: make(chan struct{}, 1), next: 1}
}

// add appends a record. When there is no room, the oldest go that are not on the way.
func (s *spool) add(r *record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.seq = s.next
	s.next++
	s.made.Rows.add(&r.rows)
	s.made.Records++
	s.made.Values += uint64(r.values)
	s.made.Bytes += uint64(len(r.payload))
	s.waiting = append(s.waiting, r)
	s.bytes += len(r.payload)
	for len(s.waiting) > s.maxCount || s.bytes > s.maxBytes {
		i := slices.IndexFunc(s.waiting, func(r *record) bool { return !r.flying })
		if i < 0 || len(s.waiting) == 1 {
			break
		}
		s.lose(i, telemetry.GapEvicted)
	}
	s.signal()
}

func (s *spool) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// lose takes record i out for good. It has mu.
func (s *spool) lose(i int, reason string) {
	r := s.waiting[i]
	s.remove(i)
	s.made.Lost.add(&r.rows)
	s.made.addGap(r.seq, reason)
	n := len(s.untold)
	if n > 0 && s.untold[n-1].Reason == reason && s.untold[n-1].To+1 == r.seq || n >= maxUntold {
		s.untold[n-1].To = r.seq
		return
	}
	s.untold = append(s.untold, telemetry.Gap{Epoch: s.epoch, From: r.seq, To: r.seq, Reason: reason})
}

func (s *spool) remove(i int) {
	s.bytes -= len(s.waiting[i].payload)
	s.waiting = slices.Delete(s.waiting, i, i+1)
}

// gaps hands out the gaps that no record tells yet, at most n.
func (s *spool) gaps(n int) []telemetry.Gap {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = min(n, len(s.untold))
	out := slices.Clone(s.untold[:n])
	s.untold = slices.Delete(s.untold, 0, n)
	return out
}

// take gives up to n records that may be sent now, marked as on the way. again is when
// the next deferred one may, if there is one. At most window are on the way.
func (s *spool) take(now time.Time, n, window int) (out []*record, again time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	flying := 0
	for _, r := range s.waiting {
		if r.flying {
			flying++
		}
	}
	for _, r := range s.waiting {
		switch {
		case r.flying:
		case r.due.After(now):
			if again.IsZero() || r.due.Before(again) {
				again = r.due
			}
		case len(out) < n && flying < window:
			r.flying, r.sent = true, now
			flying++
			out = append(out, r)
		}
	}
	return out, again
}

// landed makes everything that was on the way wait again: its connection is over.
func (s *spool) landed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.waiting {
		r.flying = false
	}
}

// answered calls f with each record of the ranges that is on the way, and takes it off
// the way; those that f is done with are removed.
func (s *spool) answered(epoch uint64, ranges []wire.Range, f func(*record) (done bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if epoch != s.epoch {
		return
	}
	for i := 0; i < len(s.waiting); {
		r := s.waiting[i]
		if r.flying && slices.ContainsFunc(ranges, func(x wire.Range) bool { return x.From <= r.seq && r.seq <= x.To }) {
			r.flying = false
			if f(r) {
				s.remove(i)
				continue
			}
		}
		i++
	}
	s.signal()
}

// ack notes that ClickHouse has these.
func (s *spool) ack(epoch uint64, ranges []wire.Range, seen func(*record)) {
	s.answered(epoch, ranges, func(r *record) bool {
		s.made.addAck(r.seq)
		s.made.AckedRows.add(&r.rows)
		seen(r)
		return true
	})
}

// postpone lets these wait until due.
func (s *spool) postpone(epoch uint64, ranges []wire.Range, due time.Time, seen func()) {
	s.answered(epoch, ranges, func(r *record) bool {
		r.due = due
		seen()
		return false
	})
}

// reject sets a record aside for good.
func (s *spool) reject(epoch, seq uint64) (ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, found := slices.BinarySearchFunc(s.waiting, seq, func(r *record, seq uint64) int { return int(int64(r.seq) - int64(seq)) })
	if epoch != s.epoch || !found || !s.waiting[i].flying {
		return false
	}
	s.lose(i, telemetry.GapRejected)
	s.signal()
	return true
}

// spoolStatus is what the agent tells of its spool.
type spoolStatus struct {
	next, lowest, records, bytes uint64
	oldest                       time.Duration
}

func (s *spool) status(now time.Time) spoolStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := spoolStatus{next: s.next, lowest: s.next, records: uint64(len(s.waiting)), bytes: uint64(s.bytes)}
	if len(s.waiting) > 0 {
		st.lowest, st.oldest = s.waiting[0].seq, max(now.Sub(s.waiting[0].made), 0)
	}
	return st
}

// ledger is the account so far.
func (s *spool) ledger(agent, tenant uint32) AgentLedger {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.made
	l.Agent, l.Tenant, l.Epoch, l.Highest = agent, tenant, s.epoch, s.next-1
	l.Acked, l.Gaps = slices.Clone(l.Acked), slices.Clone(l.Gaps)
	l.Pending = uint64(len(s.waiting))
	return l
}
