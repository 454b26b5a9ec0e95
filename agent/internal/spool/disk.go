package spool

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	// maxReserve bounds the 5 % of the disk that are kept free: on a large disk they
	// are far more than the spool and its compactions can ever use.
	maxReserve = 2 << 30
	// floorFree is the space below which not even deletions are written and the
	// database is not opened: three times what Badger maps, logs of memtables, value log
	// and the tables of a compaction, as they are mapped sparse and a full disk then ends
	// the process with SIGBUS.
	floorFree = 72 << 20
	// retryDisk is the time between tries to return to the disk.
	retryDisk = 2 * time.Second
	// retryOpen is the time between tries to open a database that would not.
	retryOpen = time.Minute
)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

func randomBits(n uint) uint64 { return rand.Uint64() >> (64 - n) }

// clip bounds text from outside for a log line or a file name.
func clip(s string) string {
	if len(s) > 200 {
		s = s[:200]
	}
	return strings.ToValidUTF8(s, "?")
}

// limits gives the free space that appends need, and the one that anything needs.
func (s *Spool) limits(total uint64) (appends, floor uint64) {
	appends = max(s.cfg.MinFreeBytes, min(total/20, maxReserve))
	return appends, min(appends, floorFree)
}

// space asks the filesystem; when it does not answer, the guard stays open.
func (s *Spool) space() (free, appends, floor uint64) {
	free, total, err := s.deps.FreeSpace(s.cfg.Dir)
	if err != nil {
		return 1, 0, 0
	}
	appends, floor = s.limits(total)
	return free, appends, floor
}

func (s *Spool) mayOpen() bool {
	free, _, floor := s.space()
	return free >= floor
}

func (s *Spool) mayDelete() bool {
	free, _, floor := s.space()
	return s.db != nil && free >= floor
}

// checkDisk is called before each append and by the upkeep: it leaves the disk when
// space is short and returns to it when there is enough again.
func (s *Spool) checkDisk() {
	free, appends, _ := s.space()
	if free < appends && s.dropBallast() {
		free, appends, _ = s.space()
	}
	if !s.degraded {
		if free < appends {
			s.degrade(fmt.Sprintf("%d MB free on disk, %d MB are kept free for the PBX", free>>20, appends>>20))
		}
		return
	}
	now := s.deps.Now()
	if free < appends+appends/16 || now.Before(s.retryAt) && s.retryAt.Sub(now) <= retryOpen {
		return
	}
	s.retryAt = now.Add(retryDisk)
	s.recover()
}

const (
	// retryReclaim is the time between two compactions for want of space.
	retryReclaim = 10 * time.Minute
	// reclaimWorth is what must be there to be won.
	reclaimWorth = 16 << 20
)

// reclaim frees what deleted records still take. Badger does so when it writes; while
// appends are stopped for want of space it does not write, and would never give back the
// space that the appends wait for.
func (s *Spool) reclaim() {
	free, appends, floor := s.space()
	if !s.degraded || s.db == nil || free >= appends+appends/16 || free < floor {
		return
	}
	now := s.deps.Now()
	if !s.reclaimAt.IsZero() && now.Sub(s.reclaimAt).Abs() < retryReclaim {
		return
	}
	dir := s.cfg.path(dbName)
	if dirSize(dir) < 2*(s.idx.bytes-s.idx.memBytes)+reclaimWorth {
		return
	}
	s.reclaimAt = now
	// Closing writes the deletions to a table, without which there is nothing to compact.
	err := s.db.close()
	s.db = nil
	if err == nil {
		s.db, err = openStore(dir, s.deps.Log)
	}
	if err == nil {
		err = s.db.compact()
	}
	after, _, _ := s.space()
	s.deps.Log.Info().Err(err).Dur("dur_ms", s.deps.Now().Sub(now)).
		Msgf("spool compacted for want of space: %d MB free, %d MB before", after>>20, free>>20)
	if s.db == nil {
		s.loseDB()
		s.retryAt = now.Add(retryOpen)
	}
}

// loseDB makes the spool one whose database is not open: what it holds is a promise again.
func (s *Spool) loseDB() {
	memory := index{}
	s.idx.each(0, func(e entry) bool {
		if e.state == inMemory {
			memory.add(e)
		}
		return true
	})
	s.idx = memory
	if p, err := readSentinel(s.cfg.path(sentinelName)); err == nil && p != nil {
		p.Memory = nil // those are here
		s.promised = p
	}
}

// degrade goes on in memory.
func (s *Spool) degrade(why string) {
	s.retryAt = s.deps.Now().Add(retryDisk)
	if s.degraded {
		return
	}
	s.degraded, s.why = true, clip(why)
	s.deps.Log.Warn().Str("reason", s.why).Msg("spool keeps new records in memory only")
	s.note(StateOK, StateDegraded, s.why)
}

// recover returns to the disk: opens the database if need be, makes the changes that
// wait, and writes the records that are only in memory.
func (s *Spool) recover() {
	if s.sentinel == nil {
		snt, _, err := openSentinel(s.cfg.path(sentinelName))
		if err != nil {
			return
		}
		s.sentinel = snt
	}
	if s.cfg.Encrypt && s.keys.fresh == nil {
		ring, err := loadKeys(s.cfg)
		if ring.fresh == nil {
			s.why = clip(fmt.Sprint(err))
			return
		}
		s.keys = ring
	}
	if s.db == nil && !s.openDB() {
		return
	}
	s.settlePromise()
	s.dropBefore()
	if !s.bury() {
		return
	}
	for _, sp := range slices.Clone(s.idx.memory) {
		for seq := sp.from; seq <= sp.to; seq++ {
			e, _ := s.idx.find(seq)
			r, _ := s.load(e)
			if err := s.put(&r, e); err != nil {
				return
			}
			s.idx.stored(seq)
			delete(s.payloads, seq)
		}
	}
	s.degraded = false
	s.saveSentinel()
	if s.degraded {
		return
	}
	s.deps.Log.Info().Msg("spool is back on disk")
	s.note(StateDegraded, StateOK, s.why)
	s.why = ""
}

// lazyAppends bounds the appends that only an unflushed promise knows of; the upkeep
// flushes it too. In memory there is no lazy way: the promise is all that tells of them.
const lazyAppends = 256

// promiseAppend makes an append part of the promise. It is flushed later: should the
// machine end before, the database still has the record, and the promise is known to be
// stale.
func (s *Spool) promiseAppend() {
	lazy := s.deps.boot != "" && !s.degraded && s.sentinel != nil && s.sentinel.lazy < lazyAppends
	s.writeSentinel(!lazy, false)
}

// saveSentinel makes the present state the promise, durably.
func (s *Spool) saveSentinel() { s.writeSentinel(true, false) }

func (s *Spool) writeSentinel(flush, clean bool) {
	if s.sentinel == nil || len(s.epochs) == 0 {
		return
	}
	p := promise{Epoch: s.epoch(), Next: s.next, Epochs: s.epochs, Volatile: s.degraded, Boot: s.deps.boot, Clean: clean}
	if n := len(p.Epochs); n > maxEpochsKept {
		p.Epochs = p.Epochs[n-maxEpochsKept:]
	}
	p.keep(s.idx.disk, s.idx.memory)
	p.keepGaps(s.gaps.list)
	if o := s.promised; o != nil { // not compared yet: it stays promised
		p.Live, p.Loose, p.LooseCount = o.Live, o.Loose, o.LooseCount
		p.Gaps = append(o.Gaps, p.Gaps...)
		p.Gaps = p.Gaps[max(0, len(p.Gaps)-maxGapsKept):]
	}
	if err := s.sentinel.write(p, flush); err != nil {
		s.degrade("write sentinel: " + err.Error())
		// A stale promise could give a number twice; none means a new epoch.
		_ = s.sentinel.close()
		_ = os.Remove(s.cfg.path(sentinelName))
		s.sentinel = nil
	}
}
