package spool

import (
	"encoding/binary"

	"sidetone/shared/telemetry"
)

// maxGaps bounds the gaps that wait; beyond it, eviction takes whole ranges whatever
// their class, which joins gaps instead of making new ones.
const maxGaps = 4096

// maxGapTries bounds how often a gap is told again after the collector rejected the
// record that told it: a gap must not make the collector reject for ever.
const maxGapTries = 3

// gap is a range of numbers that will never arrive, until the collector has stored
// that. Its road: waiting -> taken (in a set on its way to the spool) -> carried by
// the record `carrier` -> settled when that record is acked. When the carrier is
// dropped, it waits again.
type gap struct {
	telemetry.Gap
	carrier uint64 // seq of the record that tells it; 0 = none
	taken   bool
	tries   uint8
}

// gapList is kept in the database (key space g) and in memory. Methods return the
// changes to write.
type gapList struct{ list []*gap }

func (l *gapList) len() int { return len(l.list) }

func (g *gap) key() []byte { return key(prefixGap, g.Epoch, g.From, g.To) }

func (g *gap) write() write {
	v := make([]byte, 17, 17+len(g.Reason))
	binary.BigEndian.PutUint64(v, uint64(g.Observed))
	binary.BigEndian.PutUint64(v[8:], g.carrier)
	v[16] = g.tries
	return write{g.key(), append(v, g.Reason...)}
}

func decodeGap(k, v []byte) (*gap, bool) {
	n, ok := splitKey(k, 3)
	if !ok || len(v) < 17 || n[1] > n[2] {
		return nil, false
	}
	g := &gap{carrier: binary.BigEndian.Uint64(v[8:]), tries: v[16]}
	g.Gap = telemetry.Gap{
		Observed: telemetry.UnixMS(binary.BigEndian.Uint64(v)),
		Epoch:    n[0], From: n[1], To: n[2], Reason: string(v[17:]),
	}
	return g, true
}

// add records a gap, joining it to a waiting one that it touches.
func (l *gapList) add(n telemetry.Gap) []write {
	for i := len(l.list) - 1; i >= 0; i-- {
		g := l.list[i]
		if g.Epoch == n.Epoch && g.From <= n.From && n.To <= g.To {
			return nil // known: a crash interrupted its first recording
		}
		if g.taken || g.carrier != 0 || g.Epoch != n.Epoch || g.Reason != n.Reason {
			continue
		}
		if g.To+1 == n.From || n.To+1 == g.From {
			old := write{key: g.key()}
			g.From, g.To = min(g.From, n.From), max(g.To, n.To)
			ws := append([]write{old}, l.join(g)...)
			return append(ws, g.write())
		}
	}
	g := &gap{Gap: n}
	l.list = append(l.list, g)
	return []write{g.write()}
}

// join merges another waiting gap that g now touches.
func (l *gapList) join(g *gap) []write {
	for i, o := range l.list {
		if o == g || o.taken || o.carrier != 0 || o.Epoch != g.Epoch || o.Reason != g.Reason {
			continue
		}
		if g.To+1 == o.From || o.To+1 == g.From {
			g.From, g.To = min(g.From, o.From), max(g.To, o.To)
			l.list = append(l.list[:i], l.list[i+1:]...)
			return []write{{key: o.key()}}
		}
	}
	return nil
}

// each calls f with the gaps that ride on one of these records.
func (l *gapList) each(records []entry, f func(*gap)) {
	if len(l.list) == 0 {
		return
	}
	seqs := make(map[uint64]bool, len(records))
	for _, e := range records {
		seqs[e.seq] = true
	}
	for _, g := range l.list {
		if g.carrier != 0 && seqs[g.carrier] {
			f(g)
		}
	}
}

// settle ends the gaps that these acked records told.
func (l *gapList) settle(acked []entry) []write {
	var ws []write
	told := map[*gap]bool{}
	l.each(acked, func(g *gap) {
		told[g] = true
		ws = append(ws, write{key: g.key()})
	})
	l.drop(told)
	return ws
}

// release lets the gaps wait again that these dropped records told.
func (l *gapList) release(gone []entry, rejected bool) []write {
	var ws []write
	hopeless := map[*gap]bool{}
	l.each(gone, func(g *gap) {
		g.carrier, g.taken = 0, false
		if rejected {
			g.tries++
		}
		if g.tries >= maxGapTries {
			hopeless[g] = true
			ws = append(ws, write{key: g.key()})
			return
		}
		ws = append(ws, g.write())
	})
	l.drop(hopeless)
	return ws
}

func (l *gapList) drop(set map[*gap]bool) {
	if len(set) == 0 {
		return
	}
	kept := l.list[:0]
	for _, g := range l.list {
		if !set[g] {
			kept = append(kept, g)
		}
	}
	clear(l.list[len(kept):])
	l.list = kept
}

func (l *gapList) find(n telemetry.Gap) *gap {
	for _, g := range l.list {
		if g.Epoch == n.Epoch && g.From == n.From && g.To == n.To {
			return g
		}
	}
	return nil
}

// TakeGaps returns at most limit gaps that wait to be told to the collector. Each must
// be given to CarryGaps when a record that tells it was appended, or to ReturnGaps; a
// restart returns it too.
func (s *Spool) TakeGaps(limit int) []telemetry.Gap {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []telemetry.Gap
	for _, g := range s.gaps.list {
		if len(out) >= limit {
			break
		}
		if !g.taken && g.carrier == 0 {
			g.taken = true
			out = append(out, g.Gap)
		}
	}
	return out
}

// CarryGaps says that record seq tells these gaps. They are settled when it is acked,
// and wait again when it is dropped.
func (s *Spool) CarryGaps(seq uint64, gaps []telemetry.Gap) {
	defer s.tellEvents()
	s.mu.Lock()
	defer s.mu.Unlock()
	_, live := s.idx.find(seq)
	var ws []write
	for _, n := range gaps {
		g := s.gaps.find(n)
		if g == nil {
			continue
		}
		g.taken = false
		if live {
			g.carrier = seq
			ws = append(ws, g.write())
		}
	}
	s.forget(nil, ws)
}

// ReturnGaps lets taken gaps wait again.
func (s *Spool) ReturnGaps(gaps []telemetry.Gap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range gaps {
		if g := s.gaps.find(n); g != nil {
			g.taken = false
		}
	}
}
