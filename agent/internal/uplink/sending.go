package uplink

import (
	"context"
	"errors"
	"hash/crc32"
	"time"

	"sidetone/shared/wire"
)

// send sends a few records, of the live lane before any of the backlog, and reports
// whether there may be more to send at once.
func (s *session) send(ctx context.Context) (more bool, err error) {
	now := time.Now()
	s.u.ages.note(now, s.u.deps.Spool.Status().NextSeq)
	s.lanes.due = time.Time{}
	s.lanes.split = max(s.lanes.split, s.u.ages.split(now, liveFor))
	s.flight.age(s.lanes.split)
	if !s.stopUntil.IsZero() || now.Before(s.pauseUntil) || s.flight.room() == 0 {
		return false, nil
	}
	s.pauseUntil = time.Time{}
	if more, err = s.sendLive(ctx, now); more || err != nil {
		return more, err
	}
	return s.sendBacklog(ctx, now)
}

// sendLive sends live records: new ones, else deferred ones that are due.
func (s *session) sendLive(ctx context.Context, now time.Time) (more bool, err error) {
	n := min(s.flight.room(), readRecords)
	records, ok := s.read(s.flight.next+1, forever, 0, n, readBytes)
	if !ok {
		return false, nil
	}
	if len(records) > 0 {
		for _, r := range records {
			if err := s.sendOne(ctx, r); err != nil {
				return false, err
			}
			s.flight.next = max(s.flight.next, r.Seq)
		}
		return true, nil
	}
	from, to, due := s.flight.takeDue(now, n, s.lanes.split, forever)
	if !due {
		return false, nil
	}
	if records, ok = s.read(from, to, 0, n, readBytes); !ok {
		s.flight.postpone(from, to, s.pauseUntil)
		return false, nil
	}
	for _, r := range records {
		if err := s.sendOne(ctx, r); err != nil {
			return false, err
		}
		from = r.Seq + 1
	}
	if len(records) > 0 && from <= to {
		s.flight.postpone(from, to, now)
	}
	return true, nil
}

// sendOne sends one live record.
func (s *session) sendOne(ctx context.Context, r Record) error {
	f, ok := s.frame(r)
	if !ok {
		return nil
	}
	s.mark(false)
	return s.put(ctx, f, []wire.Frame{f}, len(f.Payload)+frameBytes, false)
}

// put sends msg, which holds the frames.
func (s *session) put(ctx context.Context, msg any, frames []wire.Frame, bytes int, backlog bool) error {
	bytes = onTheWire(bytes)
	s.lanes.sent(time.Now(), bytes, backlog) // before: Send may take its time, and that counts
	if err := s.conn.Send(ctx, msg); err != nil {
		return err
	}
	now := time.Now()
	for _, f := range frames {
		s.flight.took(f.Epoch, f.Seq, backlog, bytes/len(frames), now)
	}
	return nil
}

// frame makes a frame of a record; ok is false when it is on the way already, or
// cannot be sent and was set aside or put off.
func (s *session) frame(r Record) (f wire.Frame, ok bool) {
	if _, sent := s.flight.sent[r.Seq]; sent {
		return f, false
	}
	payload, crc := r.Payload, r.CRC
	if s.capability < payloadCapability {
		p, err := s.u.codec.payloadFor(s.capability, payload)
		var malformed *wire.MalformedError
		switch {
		case errors.As(err, &malformed):
			s.drop(r.Epoch, r.Seq, "payload cannot be read: "+err.Error())
			return f, false
		case err != nil: // it waits for a collector that can take it, or until it is too old
			s.u.log.Warn().Uint64("epoch", r.Epoch).Uint64("seq", r.Seq).Err(err).Msg("record waits for a newer collector")
			s.flight.postpone(r.Seq, r.Seq, time.Now().Add(maxRetry))
			return f, false
		}
		payload, crc = p, crc32.Checksum(p, castagnoli)
	}
	if len(payload) > wire.MaxPayload || r.Class == 0 {
		s.drop(r.Epoch, r.Seq, "record does not fit a frame")
		return f, false
	}
	return wire.Frame{
		Epoch: r.Epoch, Seq: r.Seq, Class: r.Class, CRC: crc, Payload: payload,
		AgeMS: uint64(s.u.ages.age(time.Now(), r.Seq, r.Created).Milliseconds()),
	}, true
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// mark marks packets as of lower effort, or not.
func (s *session) mark(lower bool) {
	if lower != s.effort {
		s.conn.SetLowerEffort(lower)
		s.effort = lower
	}
}

// source is a part of the backlog that may be sent now.
type source struct {
	records []Record
	passed  func(seq uint64) // all up to seq have been dealt with
	left    func()           // no more of it is sent now
}

// sendBacklog sends one bundle of the backlog if it may.
func (s *session) sendBacklog(ctx context.Context, now time.Time) (more bool, err error) {
	l := s.lanes
	if !s.hasBacklog(now) {
		if l.paused != "" {
			s.u.backlogOpen(now)
			l.due = now.Add(qualityEvery)
		}
		return false, nil
	}
	open := s.u.backlogOpen(now)
	n := s.flight.backlogRoom()
	full := n < max(s.flight.window/8, 1) || s.flight.bytes+l.throttle.bundle > l.allow
	if !open || n == 0 || full && s.flight.backlog > 0 { // an answer will come, and then more is sent at once
		l.due = now.Add(qualityEvery)
		return false, nil
	}
	if wait := l.throttle.wait(now); wait > 0 {
		l.due = now.Add(wait)
		return false, nil
	}
	src, ok := s.pick(now, n)
	if !ok || len(src.records) == 0 {
		return ok && s.hasBacklog(now), nil
	}
	s.mark(now.Sub(l.liveAt) >= effortPause)
	err = s.sendSource(ctx, src)
	src.left()
	return true, err
}

// sendSource sends as much of it as a bundle holds, in one message if the collector
// takes bundles.
func (s *session) sendSource(ctx context.Context, src source) error {
	var frames []wire.Frame
	for _, r := range src.records {
		if f, ok := s.frame(r); ok {
			frames = append(frames, f)
		} else if len(frames) == 0 {
			src.passed(r.Seq)
		}
	}
	for room := s.lanes.throttle.bundle; room > 0 && len(frames) > 0; {
		msg, k, bytes, err := s.pack(frames)
		if err != nil {
			s.drop(frames[0].Epoch, frames[0].Seq, err.Error())
			src.passed(frames[0].Seq)
			frames = frames[1:]
			continue
		}
		if err := s.put(ctx, msg, frames[:k], bytes, true); err != nil {
			return err
		}
		src.passed(frames[k-1].Seq)
		frames, room = frames[k:], room-bytes
		if s.capability >= bundleCapability {
			break
		}
	}
	return nil
}

// pack makes one message of the first frames.
func (s *session) pack(frames []wire.Frame) (msg any, n, bytes int, err error) {
	if s.capability < bundleCapability || len(frames) == 1 {
		return frames[0], 1, len(frames[0].Payload) + frameBytes, nil
	}
	return s.u.codec.pack(frames, s.lanes.throttle.bundle)
}

// bundleRead is how many bytes of payload are read for a bundle.
func (s *session) bundleRead() int {
	if s.capability < bundleCapability {
		return s.lanes.throttle.bundle
	}
	return packRatio * s.lanes.throttle.bundle
}

// hasBacklog tells whether there may be backlog to send now; it notes when a deferred
// one will be due.
func (s *session) hasBacklog(now time.Time) bool {
	f := s.flight
	due, deferred := f.nextDue(0, s.lanes.split-1)
	if !f.storing && !deferred && f.backlog == 0 {
		f.storing = true // there is nothing left to try it with
	}
	if deferred && !due.After(now) || f.storing && len(f.states)+len(f.samples) > 0 {
		return true
	}
	if deferred {
		s.lanes.due = due
	}
	return false
}

// pick reads what goes next: states, then what was deferred, then samples, oldest first.
// While the collector cannot store, a few deferred records try whether it can again.
func (s *session) pick(now time.Time, n int) (source, bool) {
	f := s.flight
	if f.storing {
		if src, ok := s.fromList(&f.states, wire.ClassState, n); !ok || len(src.records) > 0 {
			return src, ok
		}
	} else {
		n = min(n, trial)
	}
	if from, to, ok := f.takeDue(now, n, 0, s.lanes.split-1); ok {
		if !f.storing {
			f.putOff(now, s.lanes.split-1, now.Add(s.retry))
		}
		return s.fromDeferred(now, from, to, n)
	}
	if !f.storing {
		return source{}, true
	}
	return s.fromList(&f.samples, wire.ClassSample, n)
}

func (s *session) fromList(list *[]run, class wire.Class, n int) (source, bool) {
	for len(*list) > 0 {
		r := (*list)[0]
		records, ok := s.read(r.from, r.to, class, n, s.bundleRead())
		if !ok {
			return source{}, false
		}
		if len(records) > 0 {
			return source{records, func(seq uint64) { pass(list, seq) }, func() {}}, true
		}
		*list = (*list)[1:]
	}
	return source{}, true
}

// fromDeferred takes the seqs, which are not in the list any more; those that are not
// sent after all go back to it.
func (s *session) fromDeferred(now time.Time, from, to uint64, n int) (source, bool) {
	records, ok := s.read(from, to, 0, n, s.bundleRead())
	if !ok {
		s.flight.postpone(from, to, s.pauseUntil)
	}
	left := func() {
		if from <= to {
			s.flight.postpone(from, to, now)
		}
	}
	return source{records, func(seq uint64) { from = seq + 1 }, left}, ok
}

// read looks into the spool. A spool that cannot be read now is asked again later.
func (s *session) read(from, to uint64, class wire.Class, n, bytes int) ([]Record, bool) {
	records, err := s.u.deps.Spool.ReadRange(from, to, class, n, bytes)
	if err != nil {
		s.u.log.Warn().Err(err).Msg("spool cannot be read now")
		s.pauseUntil = time.Now().Add(spoolRetry)
		return nil, false
	}
	return records, true
}
