package spool

import (
	"time"

	"sidetone/shared/telemetry"
	"sidetone/shared/wire"
)

// Badger takes about 1,600 changes in one transaction with our memtable. perTxn bounds
// the records dropped at a time so that their deletions and gaps fit into one.
const (
	changesPerTxn = 1200
	perTxn        = 250
)

// saneCreated is a time before which a "created" only says that the clock was wrong;
// such a record has no age.
var saneCreated = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()

// forget removes records whose fate is known: the sentinel first, so that it never
// promises what is deleted, then the database, together with the changes of gaps that
// belong to it. A crash between the two brings records back, which is harmless.
func (s *Spool) forget(gone []entry, also []write) {
	if len(gone) == 0 && len(also) == 0 {
		return
	}
	var ws []write
	for _, e := range gone {
		s.idx.remove(e.seq)
		if e.state == inMemory {
			delete(s.payloads, e.seq)
			continue
		}
		epoch := s.epochOf(e.seq)
		ws = append(ws, write{key: key(prefixRecord, epoch, e.seq)}, write{key: key(prefixIndex, epoch, e.seq)})
	}
	if len(gone) > 0 {
		s.trimEpochs()
		s.saveSentinel()
	}
	if s.mayDelete() {
		err := s.writeChunks(append(lastOfEach(also), ws...))
		if err == nil {
			return
		}
		s.degrade("delete records: " + err.Error())
	}
	s.doomed = append(s.doomed, ws...)
	s.gapsOld = s.gapsOld || len(also) > 0
}

// writeChunks writes in as few transactions as Badger allows.
func (s *Spool) writeChunks(ws []write) error {
	for len(ws) > 0 {
		n := min(len(ws), changesPerTxn)
		if err := s.db.write(ws[:n]); err != nil {
			return err
		}
		ws = ws[n:]
	}
	return nil
}

// lastOfEach keeps the last change of each key.
func lastOfEach(ws []write) []write {
	at := make(map[string]int, len(ws))
	var out []write
	for _, w := range ws {
		if i, ok := at[string(w.key)]; ok {
			out[i] = w
			continue
		}
		at[string(w.key)] = len(out)
		out = append(out, w)
	}
	return out
}

// bury makes the changes that wait for the disk. Deletions are small and free space,
// so they go on with less of it than appends need. False means that they still wait.
func (s *Spool) bury() bool {
	if len(s.doomed) == 0 && !s.gapsOld {
		return true
	}
	if !s.mayDelete() {
		return false
	}
	ws := s.doomed
	if s.gapsOld {
		err := s.db.scan(prefixGap, func(k, _ []byte) error {
			ws = append(ws, write{key: append([]byte(nil), k...)})
			return nil
		})
		if err != nil {
			s.degrade("read gaps: " + err.Error())
			return false
		}
		for _, g := range s.gaps.list {
			ws = append(ws, g.write())
		}
	}
	if err := s.writeChunks(lastOfEach(ws)); err != nil {
		s.degrade("delete records: " + err.Error())
		return false
	}
	s.doomed, s.gapsOld = nil, false
	return true
}

// trimEpochs forgets epochs of which no record is left; the current one stays.
func (s *Spool) trimEpochs() {
	low := s.next
	if e, ok := s.idx.oldest(); ok {
		low = e.seq
	}
	for len(s.epochs) > 1 && s.epochs[1].From <= low {
		s.epochs = s.epochs[1:]
	}
}

// retire drops live records with a gap for each range of them.
func (s *Spool) retire(gone []entry, reason string) {
	if len(gone) == 0 {
		return
	}
	s.dropped += uint64(len(gone))
	now := telemetry.MS(s.deps.Now())
	var ws []write
	for _, e := range gone {
		ws = append(ws, s.gaps.add(telemetry.Gap{
			Observed: now, Epoch: s.epochOf(e.seq), From: e.seq, To: e.seq, Reason: reason,
		})...)
	}
	ws = append(ws, s.gaps.release(gone, reason == telemetry.GapRejected)...)
	s.forget(gone, ws)
}

// makeRoom evicts until n records of size more bytes fit: the oldest samples first, then
// the oldest of any class. It goes a little further than it must, so that not every
// append evicts.
func (s *Spool) makeRoom(size uint64, n int) {
	if s.idx.bytes+size > s.cfg.MaxBytes {
		s.evict("size", s.cfg.MaxBytes-min(s.cfg.MaxBytes, size+s.cfg.MaxBytes/64), s.cfg.MaxRecords)
	}
	if s.idx.count()+n > s.cfg.MaxRecords {
		s.evict("number", s.cfg.MaxBytes, max(0, s.cfg.MaxRecords-n-s.cfg.MaxRecords/64))
	}
}

// evict drops records until at most keepBytes and keepRecords are left.
func (s *Spool) evict(why string, keepBytes uint64, keepRecords int) {
	total := 0
	for s.idx.bytes > keepBytes || s.idx.count() > keepRecords {
		gone := s.victims(s.idx.bytes-min(s.idx.bytes, keepBytes), s.idx.count()-keepRecords, false)
		if len(gone) == 0 {
			break
		}
		total += len(gone)
		s.retire(gone, telemetry.GapEvicted)
	}
	if total > 0 {
		s.deps.Log.Warn().Int("records", total).Str("reason", why).Msg("spool is full: oldest records dropped")
	}
}

// victims picks the records to drop first, at most perTxn: enough to free so many bytes
// and records. Samples go before states, until there are so many gaps that the list of
// gaps itself needs bounding: then the oldest go, whatever they are.
func (s *Spool) victims(bytes uint64, records int, memoryOnly bool) []entry {
	pick := func(want func(entry) bool) (gone []entry) {
		var freed uint64
		s.idx.each(0, func(e entry) bool {
			if want(e) && (!memoryOnly || e.state == inMemory) {
				gone = append(gone, e)
				freed += uint64(e.size)
			}
			return len(gone) < perTxn && (freed < bytes || len(gone) < records)
		})
		return gone
	}
	if s.gaps.len() < maxGaps {
		if gone := pick(func(e entry) bool { return e.class == wire.ClassSample }); len(gone) > 0 {
			return gone
		}
	}
	return pick(func(entry) bool { return true })
}

// makeRoomInMemory keeps the records in memory within their bound.
func (s *Spool) makeRoomInMemory() {
	for s.idx.memBytes > s.cfg.MaxMemoryBytes {
		s.retire(s.victims(s.idx.memBytes-s.cfg.MaxMemoryBytes+s.cfg.MaxMemoryBytes/64, 1, true), telemetry.GapEvicted)
	}
}

// expire drops records older than MaxAge.
func (s *Spool) expire() {
	limit := s.deps.Now().Add(-s.cfg.MaxAge).UnixMilli()
	for {
		var gone []entry
		s.idx.each(0, func(e entry) bool {
			if e.created >= saneCreated && e.created < limit {
				gone = append(gone, e)
				return len(gone) < perTxn
			}
			return e.created < saneCreated
		})
		if len(gone) == 0 {
			return
		}
		s.retire(gone, telemetry.GapEvicted)
		s.deps.Log.Warn().Int("records", len(gone)).Str("reason", "age").Msg("oldest records dropped from the spool")
	}
}
