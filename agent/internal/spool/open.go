package spool

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"sidetone/shared/telemetry"
)

// open reads the sentinel, opens the database, compares the two and decides whether
// the epoch goes on.
func (s *Spool) open() {
	snt, promised, err := openSentinel(s.cfg.path(sentinelName))
	if err != nil {
		s.deps.Log.Warn().Err(err).Str("path", s.cfg.path(sentinelName)).Msg("spool sentinel cannot be used")
	}
	s.sentinel, s.promised = snt, promised
	_, statErr := os.Stat(s.cfg.path(dbName))
	fresh := errors.Is(statErr, os.ErrNotExist)

	if promised != nil {
		s.next = promised.Next
		s.epochs = knownEpochs(promised)
	}
	s.loadKeys()
	if s.mayOpen() {
		s.openDB()
	} else {
		s.degrade("too little free space to open the database")
	}
	if s.sentinel == nil {
		s.degrade("sentinel file cannot be used")
	}
	lost := s.settlePromise()
	s.dropBefore()
	switch {
	case s.db == nil && promised != nil:
		s.next++ // a crash may have left one record that the sentinel does not know of
	case promised == nil && !fresh && (s.db == nil || s.setAsideDB):
		s.next = max(s.next, s.unknownBase())
	case s.next == 0:
		s.next = 1
	}
	if s.db == nil || promised == nil || lost || promised.Volatile || promised.stale(s.deps.boot) || len(s.epochs) == 0 {
		s.newEpoch()
	}
	s.saveSentinel()
}

// unknownBase is where numbering starts when there are records on disk and neither
// they nor the sentinel can be read. No spool ever gives 256 numbers a millisecond, so it
// is above all that were given, also after the last such start.
func (s *Spool) unknownBase() uint64 {
	return min(uint64(max(0, s.deps.Now().UnixMilli()))<<8|1<<40, maxSeq/2)
}

// maxSeq is above all numbers that are believed; JavaScript counts to 2^53.
const maxSeq = 1 << 53

func knownEpochs(p *promise) []epochStart {
	var out []epochStart
	for _, e := range p.Epochs {
		if n := len(out); n == 0 || e.Epoch > out[n-1].Epoch && e.From >= out[n-1].From {
			out = append(out, e)
		}
	}
	return out
}

// newEpoch starts a new life: Unix milliseconds with ten random bits, so that it is
// new also when everything was lost, ordered, and below 2^53 for JavaScript's sake.
func (s *Spool) newEpoch() {
	e := uint64(s.deps.Now().UnixMilli())<<10 | randomBits(10)
	if n := len(s.epochs); n > 0 {
		e = max(e, s.epochs[n-1].Epoch+1)
	}
	s.epochs = append(s.epochs, epochStart{Epoch: e, From: s.next})
	s.deps.Log.Info().Uint64("epoch", e).Uint64("seq", s.next).Msg("spool starts a new epoch")
}

// openDB opens the database and reads what is in it; one that cannot be opened is
// quarantined and a new one made, with the records that can be read of the old one.
// False means that neither worked.
func (s *Spool) openDB() bool {
	started := time.Now()
	dir := s.cfg.path(dbName)
	err := s.tryOpen(dir)
	if err != nil && !s.setAsideDB { // once: a second time would push out what is worth keeping
		s.setAsideDB = true
		aside := s.quarantine(dir, err)
		err = s.tryOpen(dir)
		if err == nil && aside != "" {
			s.rescue(aside)
		}
	}
	if err != nil {
		s.degrade("open database: " + err.Error())
		s.retryAt = s.deps.Now().Add(retryOpen)
		return false
	}
	s.deps.Log.Debug().Dur("dur_ms", time.Since(started)).Int("records", s.idx.count()).Msg("spool opened")
	return true
}

// tryOpen opens the database and loads index and gaps. Records in memory stay.
func (s *Spool) tryOpen(dir string) error {
	if err := checkTables(dir, 0); err != nil {
		return err
	}
	if err := s.precheck(dir); err != nil {
		return err
	}
	if err := s.mayOpenDB(); err != nil {
		return err
	}
	s.keepBefore(dir)
	db, err := openStore(dir, s.deps.Log)
	s.openedDB()
	if err != nil {
		return err
	}
	idx, epochs, gaps, err := loadAll(db)
	if err == nil && len(s.idx.memory) > 0 && idx.last() >= s.idx.memory[0].from {
		err = errors.New("the database holds numbers that were given again in memory")
	}
	if err != nil {
		return errors.Join(err, db.close())
	}
	s.take(db, idx, epochs, gaps)
	return nil
}

// take makes an open database the spool's.
func (s *Spool) take(db *store, idx index, epochs []epochStart, gaps gapList) {
	s.idx.each(0, func(e entry) bool { idx.add(e); return true })
	s.idx, s.db = idx, db
	s.mergeEpochs(epochs)
	s.next = max(s.next, idx.last()+1)
	for _, g := range s.gaps.list {
		if gaps.find(g.Gap) == nil {
			gaps.list = append(gaps.list, g)
		}
	}
	for _, g := range gaps.list {
		if _, live := s.idx.find(g.carrier); !live {
			g.carrier = 0 // its record is gone without an ack: tell it again
		}
	}
	s.gaps = gaps
}

// loadAll reads index and gaps. Badger gives them in key order, which is that of epoch
// and seq; seq must grow over epochs too.
func loadAll(db *store) (idx index, epochs []epochStart, gaps gapList, err error) {
	err = db.scan(prefixIndex, func(k, v []byte) error {
		n, ok := splitKey(k, 2)
		if !ok {
			return nil
		}
		e, ok := decodeIndex(n[1], v)
		if !ok {
			return nil // the sentinel's promise will name it
		}
		if n[1] <= idx.last() {
			return fmt.Errorf("record %d of epoch %d is out of order", n[1], n[0])
		}
		if len(epochs) == 0 || epochs[len(epochs)-1].Epoch != n[0] {
			epochs = append(epochs, epochStart{Epoch: n[0], From: n[1]})
		}
		idx.add(e)
		return nil
	})
	if err != nil {
		return idx, nil, gaps, err
	}
	err = db.scan(prefixGap, func(k, v []byte) error {
		if g, ok := decodeGap(k, v); ok {
			gaps.list = append(gaps.list, g)
		}
		return nil
	})
	return idx, epochs, gaps, err
}

// mergeEpochs adds epochs found in the database to those of the sentinel.
func (s *Spool) mergeEpochs(found []epochStart) {
	for _, f := range found {
		i := slices.IndexFunc(s.epochs, func(e epochStart) bool { return e.Epoch == f.Epoch })
		if i >= 0 {
			s.epochs[i].From = min(s.epochs[i].From, f.From)
			continue
		}
		s.epochs = append(s.epochs, f)
	}
	slices.SortFunc(s.epochs, func(a, b epochStart) int {
		if a.Epoch < b.Epoch {
			return -1
		}
		return 1
	})
}

// settlePromise compares what the sentinel promised with what is there, once the
// database is open. Missing numbers become gaps, and the answer says that there were
// some.
func (s *Spool) settlePromise() bool {
	p := s.promised
	if s.db == nil {
		return false
	}
	if s.before != "" && (p == nil || len(p.missing(s.idx.disk)) > 0) {
		s.rescue(s.before)
	}
	if p == nil || len(s.epochs) == 0 {
		return false
	}
	s.promised = nil
	s.restoreGaps(p.Gaps)
	lost := p.missing(s.idx.disk)
	for _, sp := range lost {
		s.lose(sp, telemetry.GapDamaged)
	}
	for _, m := range p.Memory {
		for _, sp := range s.idx.disk.holes(span{m[0], m[1]}) {
			s.lose(sp, telemetry.GapEvicted)
		}
	}
	if len(lost) > 0 {
		s.deps.Log.Warn().Uint64("records", lost.count()).Uint64("seq", lost[0].from).Msg("records lost to damage of the spool")
		s.note(StateOK, StateDamaged, fmt.Sprintf("%d records lost to damage", lost.count()))
	}
	return len(lost) > 0
}

// restoreGaps adds gaps that only the sentinel knows. One whose records are there
// after all was interrupted by a crash before anything was dropped.
func (s *Spool) restoreGaps(kept []keptGap) {
	var ws []write
	for _, k := range kept {
		if k.From > k.To {
			continue
		}
		for _, sp := range s.idx.disk.holes(span{k.From, k.To}) {
			ws = append(ws, s.gaps.add(telemetry.Gap{Observed: k.Observed, Epoch: k.Epoch, From: sp.from, To: sp.to, Reason: k.Reason})...)
		}
	}
	s.forget(nil, ws)
}

// lose records gaps for numbers that are gone, split where an epoch begins.
func (s *Spool) lose(sp span, reason string) {
	now := telemetry.MS(s.deps.Now())
	s.dropped += sp.to - sp.from + 1
	var ws []write
	for from := sp.from; from <= sp.to; {
		to := sp.to
		for _, e := range s.epochs {
			if e.From > from && e.From <= to {
				to = e.From - 1
			}
		}
		ws = append(ws, s.gaps.add(telemetry.Gap{Observed: now, Epoch: s.epochOf(from), From: from, To: to, Reason: reason})...)
		from = to + 1
	}
	s.forget(nil, ws)
}
