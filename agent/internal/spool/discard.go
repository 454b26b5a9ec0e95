package spool

import (
	"fmt"
	"time"

	"sidetone/shared/telemetry"
)

// Backlog is what waits, or what was thrown away.
type Backlog struct {
	Records uint64    `json:"records"`
	Bytes   uint64    `json:"size_bytes"`
	From    uint64    `json:"from_seq"`
	To      uint64    `json:"to_seq"`
	Oldest  time.Time `json:"oldest,omitzero"`
	Newest  time.Time `json:"newest,omitzero"`
}

// Backlog tells what waits and is older than before; the zero time means all.
func (s *Spool) Backlog(before time.Time) Backlog {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, _ := s.backlog(before)
	return b
}

func (s *Spool) backlog(before time.Time) (b Backlog, list []entry) {
	s.idx.each(0, func(e entry) bool {
		created := time.UnixMilli(e.created).UTC()
		if !before.IsZero() && !created.Before(before) {
			return true
		}
		if b.Records == 0 {
			b.From, b.Oldest, b.Newest = e.seq, created, created
		}
		b.Records++
		b.Bytes += uint64(e.size)
		b.To = e.seq
		if created.Before(b.Oldest) {
			b.Oldest = created
		}
		if created.After(b.Newest) {
			b.Newest = created
		}
		list = append(list, e)
		return true
	})
	return b, list
}

// Discard throws away what waits and is older than before (the zero time means all),
// with gaps that say so.
func (s *Spool) Discard(before time.Time) (Backlog, error) {
	defer s.tellEvents()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return Backlog{}, ErrClosed
	}
	if !s.mayDelete() {
		return Backlog{}, fmt.Errorf("discard in %s: the spool cannot be written now: %s", s.cfg.Dir, s.why)
	}
	b, list := s.backlog(before)
	for i := 0; i < len(list); i += perTxn {
		s.retire(list[i:min(i+perTxn, len(list))], telemetry.GapDiscarded)
	}
	if len(s.doomed) > 0 || s.gapsOld {
		return b, fmt.Errorf("discard in %s: %s", s.cfg.Dir, s.why)
	}
	return b, nil
}
