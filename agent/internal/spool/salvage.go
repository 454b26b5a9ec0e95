package spool

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	// rescueTime bounds what opening spends on records of a damaged database; the rest
	// stays in quarantine, for `spool salvage`.
	rescueTime = 2500 * time.Millisecond
	// A transaction of Badger's takes 15 % of a memtable.
	perPutBytes   = 100 << 10
	perPutRecords = 200
	// salvagedName marks a quarantined database of which everything readable was taken.
	salvagedName = "salvaged"
)

// Salvaged is what became of the records in the files of one database.
type Salvaged struct {
	From string `json:"from"`
	// Restored records wait again, under their own epoch and seq.
	Restored uint64 `json:"restored"`
	// Present ones wait already; Done ones were acked, or dropped with a gap that says so.
	Present uint64 `json:"present"`
	Done    uint64 `json:"done"`
	// Old ones are beyond the spool's age, for Room there was no room, and the numbers of
	// Taken belong to other records by now.
	Old   uint64 `json:"too_old"`
	Room  uint64 `json:"no_room"`
	Taken uint64 `json:"number_taken"`
	// Damaged places were met in the files: blocks, log entries, records.
	Damaged uint64 `json:"damaged"`
	// Complete says that nothing is left there that could be taken.
	Complete bool `json:"complete"`
}

type recordKey struct{ epoch, seq uint64 }

// taker puts records from files back into an open spool.
type taker struct {
	s      *Spool
	live   func(seq uint64) bool // nil = not known: all that were not deleted
	until  time.Time             // zero = no bound
	latest map[recordKey]uint64  // version<<1, and 1 when that is a deletion
	bounds map[uint64]span       // of the seqs that an epoch may have
	batch  []write
	bytes  int
	back   []entry
	epochs []epochStart
	cause  error
	Salvaged
}

// takeBack reads what is left of the database in dir and puts back what waits. The
// spool's own database is open.
func (s *Spool) takeBack(dir string, live func(uint64) bool, until time.Time) (Salvaged, error) {
	t := &taker{s: s, live: live, until: until, latest: map[recordKey]uint64{}, bounds: map[uint64]span{}}
	t.From = filepath.Base(dir)
	t.Damaged = uint64(scanFiles(dir, t.note))
	scanFiles(dir, t.take)
	t.flush()
	s.adopt(t.back, t.epochs)
	t.Complete = t.cause == nil && t.Room == 0
	return t.Salvaged, t.cause
}

// id gives the record that an entry is a version of.
func (t *taker) id(e rawEntry) (recordKey, bool) {
	if e.key[0] != prefixRecord {
		return recordKey{}, false
	}
	n, ok := splitKey(e.key, 2)
	if !ok || n[1] == 0 || n[1] > maxSeq {
		return recordKey{}, false
	}
	return recordKey{n[0], n[1]}, true
}

// note finds the newest version of each record.
func (t *taker) note(e rawEntry) bool {
	if id, ok := t.id(e); ok {
		v := e.version << 1
		if e.deleted {
			v |= 1
		}
		t.latest[id] = max(t.latest[id], v)
	}
	return t.inTime()
}

func (t *taker) inTime() bool {
	if !t.until.IsZero() && time.Now().After(t.until) {
		t.cause = errors.Join(t.cause, errTime)
		return false
	}
	return t.cause == nil
}

var errTime = errors.New("there was no more time")

// take puts the newest version of a record back if it waits.
func (t *taker) take(e rawEntry) bool {
	id, ok := t.id(e)
	if !ok || t.latest[id] != e.version<<1 {
		if ok && e.deleted && t.latest[id] == e.version<<1|1 {
			t.Done++
			delete(t.latest, id)
		}
		return t.cause == nil
	}
	delete(t.latest, id) // a compaction that was interrupted leaves the same version twice
	r, err := t.s.decode(id.epoch, id.seq, e.value)
	switch {
	case errors.Is(err, errDamaged) && !errors.Is(err, errNoKey):
		t.Damaged++
	case t.live != nil && !t.live(id.seq):
		t.Done++
	case t.s.has(id.epoch, id.seq):
		t.Present++
	case r.Created.UnixMilli() >= saneCreated && t.s.deps.Now().Sub(r.Created) > t.s.cfg.MaxAge:
		t.Old++
	case !t.fits(id):
		t.Taken++
	case !t.room(len(e.value)):
		t.Room++
	default:
		t.put(id, &r, e.value)
	}
	return t.inTime()
}

func (t *taker) room(size int) bool {
	s := t.s
	free, appends, _ := s.space()
	return !s.degraded && s.db != nil && free >= appends &&
		s.idx.bytes+uint64(t.bytes+size+overhead) <= s.cfg.MaxBytes &&
		s.idx.count()+len(t.back)+1 < s.cfg.MaxRecords
}

func (t *taker) put(id recordKey, r *Record, value []byte) {
	e := entryOf(r)
	e.size = uint32(len(value) + overhead)
	if t.bytes+len(value) > perPutBytes {
		t.flush()
	}
	t.batch = append(t.batch,
		write{key(prefixRecord, id.epoch, id.seq), append([]byte(nil), value...)},
		write{key(prefixIndex, id.epoch, id.seq), indexValue(e)})
	t.bytes += len(value) + overhead
	t.back = append(t.back, e)
	i := slices.IndexFunc(t.epochs, func(s epochStart) bool { return s.Epoch == id.epoch })
	if i < 0 {
		t.epochs = append(t.epochs, epochStart{id.epoch, id.seq})
	} else {
		t.epochs[i].From = min(t.epochs[i].From, id.seq)
	}
	if len(t.batch) >= 2*perPutRecords {
		t.flush()
	}
}

// flush makes the batch durable; what then is in the database but not in the sentinel is
// found by the next start, should this one end here.
func (t *taker) flush() {
	if len(t.batch) == 0 {
		return
	}
	if err := t.s.db.write(t.batch); err != nil {
		t.cause = fmt.Errorf("put records back: %w", err)
		t.back = t.back[:len(t.back)-len(t.batch)/2]
	} else {
		t.Restored += uint64(len(t.batch) / 2)
		t.s.idx.bytes += uint64(t.bytes) // so that the cap sees them; adopt counts anew
	}
	t.batch, t.bytes = nil, 0
}

// fits tells whether a seq may belong to that epoch: seq grows over the epochs of a
// spool, and a number that another epoch has must not come back as this one's.
func (t *taker) fits(id recordKey) bool {
	b, ok := t.bounds[id.epoch]
	if !ok {
		b = span{1, t.s.next}
		for _, e := range t.s.epochs {
			if e.Epoch > id.epoch {
				b.to = min(b.to, e.From-1)
			}
			if e.Epoch < id.epoch {
				b.from = max(b.from, e.From)
			}
		}
		t.s.idx.each(0, func(e entry) bool {
			switch epoch := t.s.epochOf(e.seq); {
			case epoch < id.epoch:
				b.from = max(b.from, e.seq+1)
			case epoch > id.epoch:
				b.to = min(b.to, e.seq-1)
				return false
			}
			return true
		})
		if n := len(t.s.epochs); n > 0 && t.s.epochs[n-1].Epoch < id.epoch {
			b = span{1, 0} // an epoch of the future is not one of ours
		}
		t.bounds[id.epoch] = b
	}
	return b.from <= id.seq && id.seq <= b.to
}

func (s *Spool) has(epoch, seq uint64) bool {
	_, ok := s.idx.find(seq)
	return ok && s.epochOf(seq) == epoch
}

// adopt takes records into the index that are in the database already, and ends the
// gaps that named them and were not told yet.
func (s *Spool) adopt(back []entry, epochs []epochStart) {
	if len(back) == 0 {
		return
	}
	all := slices.Clone(back)
	s.idx.each(0, func(e entry) bool { all = append(all, e); return true })
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.seq, b.seq) })
	s.idx = index{}
	for _, e := range all {
		s.idx.add(e)
	}
	s.next = max(s.next, s.idx.last()+1)
	s.mergeEpochs(epochs)
	var ws []write
	for _, sp := range s.idx.disk {
		ws = append(ws, s.gaps.fill(sp, s.epochOf)...)
	}
	s.forget(nil, ws)
}

// fill takes live numbers out of the gaps that wait.
func (l *gapList) fill(sp span, epochOf func(uint64) uint64) []write {
	var ws []write
	var kept []*gap
	for _, g := range l.list {
		from, to := max(g.From, sp.from), min(g.To, sp.to)
		if g.taken || g.carrier != 0 || from > to || epochOf(from) != g.Epoch {
			kept = append(kept, g)
			continue
		}
		ws = append(ws, write{key: g.key()})
		for _, rest := range []span{{g.From, from - 1}, {to + 1, g.To}} {
			if rest.from <= rest.to {
				n := &gap{Gap: g.Gap, tries: g.tries}
				n.From, n.To = rest.from, rest.to
				kept = append(kept, n)
				ws = append(ws, n.write())
			}
		}
	}
	l.list = kept
	return ws
}

// rescue puts back what opening lost, from the files as they were before.
func (s *Spool) rescue(dir string) {
	if s.db == nil {
		return
	}
	started := time.Now()
	res, err := s.takeBack(dir, s.promised.livesIn(), started.Add(rescueTime))
	if res.Restored > 0 || err != nil {
		s.deps.Log.Warn().Err(err).Uint64("records", res.Restored).Dur("dur_ms", time.Since(started)).
			Str("path", res.From).Msg("records put back from damaged files")
	}
	if res.Complete {
		_ = os.WriteFile(filepath.Join(dir, salvagedName), nil, 0o600)
	}
}

// livesIn tells which seqs a promise counts as waiting; nil when there is none.
func (p *promise) livesIn() func(uint64) bool {
	if p == nil {
		return nil
	}
	var live spans
	for _, l := range p.Live {
		if l[0] <= l[1] {
			live = append(live, span{l[0], l[1]})
		}
	}
	return live.has
}

// Quarantined lists the databases that were set aside, the newest first, as directories.
func Quarantined(dir string) []string { return matches(dir, quarantinePrefix+"*") }

// Salvage reads what can be read of databases that were set aside, or of a copy of a
// spool or of its database, and puts the records back that still wait to be delivered,
// under their own epoch and seq: the collector stores each once, also when it had some.
// Without from, all quarantined ones that were not read to the end before. The files
// stay where they are.
func (s *Spool) Salvage(from ...string) ([]Salvaged, error) {
	defer s.tellEvents()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if s.db == nil || s.degraded {
		return nil, fmt.Errorf("salvage into %s: the spool cannot be written now: %s", s.cfg.Dir, s.why)
	}
	if len(from) == 0 {
		for _, q := range Quarantined(s.cfg.Dir) {
			if _, err := os.Stat(filepath.Join(q, salvagedName)); errors.Is(err, fs.ErrNotExist) {
				from = append(from, q)
			}
		}
	}
	var out []Salvaged
	for _, dir := range from {
		db := dir
		if _, err := os.Stat(filepath.Join(dir, dbName)); err == nil {
			db = filepath.Join(dir, dbName)
		}
		if _, err := os.Stat(db); err != nil {
			return out, fmt.Errorf("salvage: %w", err)
		}
		p, _ := readSentinel(filepath.Join(dir, sentinelName)) // without one, all that was not deleted
		res, err := s.takeBack(db, p.livesIn(), time.Time{})
		res.From = dir
		out = append(out, res)
		s.saveSentinel()
		if err != nil {
			return out, fmt.Errorf("salvage %s: %w", dir, err)
		}
		if res.Complete && filepath.Dir(dir) == filepath.Clean(s.cfg.Dir) {
			if err := os.WriteFile(filepath.Join(dir, salvagedName), nil, 0o600); err != nil {
				s.deps.Log.Warn().Err(err).Str("path", dir).Msg("salvaged spool cannot be marked: it would be read again")
			}
		}
	}
	return out, nil
}
