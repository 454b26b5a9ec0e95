package spool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"
)

// Status is what the spool says of itself.
type Status struct {
	Epoch    uint64 `json:"epoch"`
	FirstSeq uint64 `json:"first_seq"` // of the oldest live record; NextSeq when there is none
	NextSeq  uint64 `json:"next_seq"`
	// EpochFirst is the first seq of the current epoch.
	EpochFirst uint64 `json:"epoch_first"`
	// LowestSeq is the lowest seq that still waits, of whatever epoch; NextSeq when none
	// does. A number below it that is not stored will not come, unless it is salvaged.
	LowestSeq uint64 `json:"lowest_seq"`

	Records uint64    `json:"records"`
	Bytes   uint64    `json:"size_bytes"`
	Oldest  time.Time `json:"oldest,omitzero"`

	// Degraded says that new records are kept in memory only, and Reason why.
	Degraded      bool   `json:"degraded"`
	Reason        string `json:"reason,omitempty"`
	MemoryRecords uint64 `json:"memory_records,omitempty"`

	// Gaps is the number of gaps that the collector has not confirmed yet.
	Gaps uint64 `json:"gaps"`
	// DroppedTotal counts records dropped since the start: evicted, damaged, rejected.
	DroppedTotal uint64 `json:"dropped_total"`
	MaxBytes     uint64 `json:"max_bytes"`
}

// Status takes a look.
func (s *Spool) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status()
}

func (s *Spool) status() Status {
	st := Status{
		Epoch: s.epoch(), FirstSeq: s.next, NextSeq: s.next, EpochFirst: s.epochs[len(s.epochs)-1].From, LowestSeq: s.next,
		Records: uint64(s.idx.count()), Bytes: s.idx.bytes,
		Degraded: s.degraded, Reason: s.why, MemoryRecords: s.idx.memory.count(),
		Gaps: uint64(s.gaps.len()), DroppedTotal: s.dropped, MaxBytes: s.cfg.MaxBytes,
	}
	if e, ok := s.idx.oldest(); ok {
		st.FirstSeq, st.LowestSeq, st.Oldest = e.seq, e.seq, time.UnixMilli(e.created).UTC()
	}
	return st
}

const (
	upkeepEvery = 2 * time.Second
	// statusEvery is how often the status file is written when nothing changes, so
	// that its age tells whether the agent lives.
	statusEvery = 10 * time.Second
)

// Run does the upkeep until ctx ends: returning to the disk, expiry, deletions that
// wait, the status file.
func (s *Spool) Run(ctx context.Context) error {
	t := time.NewTicker(upkeepEvery)
	defer t.Stop()
	for {
		s.upkeep()
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func (s *Spool) upkeep() {
	if s.tend() {
		// A memtable that becomes a table leaves some MB of garbage, at an agent's rate once
		// in half an hour: give them back rather than wait for the heap to grow.
		debug.FreeOSMemory()
	}
	s.tellEvents()
}

// tend does the upkeep and tells whether memory was left behind.
func (s *Spool) tend() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.expire()
	s.bury()
	s.reclaim()
	s.checkDisk()
	s.tendBallast()
	if s.sentinel != nil && s.sentinel.lazy > 0 {
		s.saveSentinel()
	}
	if st := s.status(); st != s.lastStat || s.deps.Now().Sub(s.statusAt).Abs() >= statusEvery {
		s.writeStatus(true)
	}
	return s.db != nil && s.db.turnedOver()
}

// maxEvents bounds the events that wait to be told.
const maxEvents = 32

// note remembers an event; damage is told once a minute at most.
func (s *Spool) note(from, to, detail string) {
	if to == StateDamaged {
		now := s.deps.Now()
		if !s.damageAt.IsZero() && now.Sub(s.damageAt).Abs() < time.Minute {
			return
		}
		s.damageAt = now
	}
	if len(s.events) < maxEvents {
		s.events = append(s.events, Event{From: from, To: to, Detail: clip(detail)})
	}
}

// tellEvents hands on what was noted. It must be called without the lock.
func (s *Spool) tellEvents() {
	s.mu.Lock()
	events := s.events
	s.events = nil
	s.mu.Unlock()
	if s.deps.Event == nil {
		return
	}
	for _, e := range events {
		s.deps.Event(e)
	}
}

// Report is the content of the status file.
type Report struct {
	Written time.Time `json:"written"`
	PID     int       `json:"pid"`
	// Running says that a process has the spool open. In the file it is what the
	// writer meant; ReadStatus finds out.
	Running bool `json:"running"`
	Status
}

func (s *Spool) writeStatus(running bool) {
	st := s.status()
	s.lastStat, s.statusAt = st, s.deps.Now()
	b, err := json.MarshalIndent(Report{Written: s.statusAt.UTC(), PID: os.Getpid(), Running: running, Status: st}, "", "  ")
	if err != nil {
		return
	}
	tmp := s.cfg.path(statusName + ".tmp")
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err == nil {
		err = os.Rename(tmp, s.cfg.path(statusName))
		if err != nil {
			s.deps.Log.Debug().Err(err).Msg("status file cannot be written")
		}
	}
}

// ErrNoSpool says that there is no spool in a directory.
var ErrNoSpool = errors.New("no spool here: the agent has not run yet")

// ReadStatus reads what the spool in dir last said of itself, also while an agent has
// it open.
func ReadStatus(dir string) (Report, error) {
	var r Report
	b, err := os.ReadFile(filepath.Join(dir, statusName))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(dir, dbName)); errors.Is(err, fs.ErrNotExist) {
			return r, ErrNoSpool
		}
	} else if err != nil {
		return r, err
	} else if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("read %s: %w", filepath.Join(dir, statusName), err)
	}
	r.Running = inUse(dir)
	if p, err := readSentinel(filepath.Join(dir, sentinelName)); !r.Running && err == nil && p != nil {
		r.fromPromise(p) // newer than the file when the agent was killed
	}
	return r, nil
}

func (r *Report) fromPromise(p *promise) {
	r.Epoch, r.NextSeq, r.FirstSeq = p.Epoch, p.Next, p.Next
	if n := len(p.Epochs); n > 0 {
		r.EpochFirst = p.Epochs[n-1].From
	}
	r.Records = 0
	for i, l := range p.Live {
		if i == 0 {
			r.FirstSeq = l[0]
		}
		if i == 0 && p.Loose {
			r.Records += p.LooseCount
			continue
		}
		r.Records += l[1] - l[0] + 1
	}
	r.LowestSeq = r.FirstSeq
}

// inUse tells whether another process holds the lock.
func inUse(dir string) bool {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(lockFile(f), ErrLocked)
}
