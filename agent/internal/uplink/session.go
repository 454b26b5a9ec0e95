package uplink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"sidetone/shared/link"
	"sidetone/shared/wire"
)

const (
	// readRecords and readBytes bound one look into the spool.
	readRecords = 32
	readBytes   = 256 << 10
	// liveTail: while the collector cannot store, older records than this many newest
	// ones are not sent just to be deferred.
	liveTail = 128
	// maxWindow bounds what a collector can make us keep track of.
	maxWindow = 4096
	// retryTime and maxRetry: when the collector names no time, and at most.
	retryTime = 15 * time.Second
	maxRetry  = time.Hour
	// spoolRetry is the pause after the spool could not be read.
	spoolRetry = 5 * time.Second
	// drainTime is how long a drain waits for the answers that are due.
	drainTime = 5 * time.Second

	renewCheck = time.Minute
	renewRetry = 5 * time.Minute
	maxStrikes = 3
)

// session is one connection after its welcome. All its state belongs to run's
// goroutine; a second one only receives.
type session struct {
	u      *Uplink
	conn   *link.Conn
	flight *flight
	retry  time.Duration // the collector's last word on deferred records

	pauseUntil time.Time // the spool could not be read
	renewAt    time.Time // no renewal before
	drain      *wire.Drain
	drainUntil time.Time
}

func newSession(u *Uplink, conn *link.Conn, w *wire.Welcome) *session {
	return &session{u: u, conn: conn, flight: newFlight(int(min(w.Window, maxWindow))), retry: retryTime}
}

// run serves the connection to its end; the error, never nil, says why it ended.
func (s *session) run(ctx context.Context) error {
	rctx, cancel := context.WithCancel(ctx)
	messages, ended := make(chan any, 16), make(chan error, 1)
	go s.receive(rctx, messages, ended)
	err := s.serve(ctx, messages, ended)
	cancel()
	code, reason := wire.CloseShutdown, "the agent stops"
	if ctx.Err() == nil {
		reason = err.Error()
	}
	_ = s.conn.CloseWith(code, reason)
	for range messages { // until the receiver has ended
	}
	return err
}

// receive hands messages on; ended gets its last error after the last message.
func (s *session) receive(ctx context.Context, messages chan<- any, ended chan<- error) {
	defer close(messages)
	strikes := 0
	for {
		msg, err := s.conn.Recv(ctx)
		var mal *wire.MalformedError
		if errors.As(err, &mal) && !mal.Fatal && strikes < maxStrikes-1 {
			strikes++
			s.u.log.Warn().Err(err).Msg("malformed message from the collector")
			continue
		}
		if err != nil {
			ended <- err
			return
		}
		select {
		case messages <- msg:
		case <-ctx.Done():
			ended <- ctx.Err()
			return
		}
	}
}

func (s *session) serve(ctx context.Context, messages <-chan any, ended <-chan error) error {
	renew := time.NewTicker(renewCheck)
	defer renew.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	if err := s.renewIfDue(ctx); err != nil {
		return err
	}
	at := make(chan struct{})
	close(at)
	for {
		more, err := s.send(ctx)
		if err != nil {
			return err
		}
		var again <-chan struct{} // ready when there is more to send at once
		if more {
			again = at
		}
		timer.Reset(s.untilDue())
		s.show()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case msg, ok := <-messages:
			if !ok {
				return <-ended
			}
			if err := s.handle(msg); err != nil {
				return err
			}
		case <-s.u.deps.Spool.Appended():
		case <-timer.C:
		case <-renew.C:
			if err := s.renewIfDue(ctx); err != nil {
				return err
			}
		case <-again:
		}
		if s.drain != nil && (len(s.flight.sent) == 0 || !time.Now().Before(s.drainUntil)) {
			return s.leave()
		}
	}
}

// untilDue is the time to the next thing that no message announces.
func (s *session) untilDue() time.Duration {
	next := time.Now().Add(renewCheck)
	consider := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	if due, ok := s.flight.nextDue(); ok && s.flight.room() > 0 {
		consider(due)
	}
	if !s.pauseUntil.IsZero() {
		consider(s.pauseUntil)
	}
	if s.drain != nil {
		consider(s.drainUntil)
	}
	return max(time.Until(next), time.Millisecond)
}

func (s *session) show() {
	s.u.update(func(st *State) { st.InFlight, st.Deferred = len(s.flight.sent), s.flight.waiting() })
}

// send sends a few records, deferred ones that are due first, and reports whether
// there may be more to send at once.
func (s *session) send(ctx context.Context) (more bool, err error) {
	now := time.Now()
	if s.drain != nil || now.Before(s.pauseUntil) || s.flight.room() == 0 {
		return false, nil
	}
	s.pauseUntil = time.Time{}
	st := s.u.deps.Spool.Status()
	s.u.ages.note(now, st.NextSeq)
	if from, to, ok := s.flight.takeDue(now, min(s.flight.room(), readRecords), s.retry); ok {
		return true, s.resend(ctx, from, to)
	}
	if !s.flight.storing && st.NextSeq > s.flight.next+1+liveTail {
		// Alerts need the newest records now; the rest waits for the storage.
		s.flight.postpone(s.flight.next+1, st.NextSeq-1-liveTail, now.Add(s.retry))
		s.flight.next = st.NextSeq - 1 - liveTail
	}
	records, ok := s.read(s.flight.next, min(s.flight.room(), readRecords))
	if !ok {
		return false, nil
	}
	for _, r := range records {
		if err := s.sendOne(ctx, r); err != nil {
			return false, err
		}
	}
	return len(records) > 0, nil
}

// resend sends the deferred records from…to, those that are still in the spool.
func (s *session) resend(ctx context.Context, from, to uint64) error {
	for from <= to {
		records, ok := s.read(from-1, int(min(to-from+1, readRecords)))
		if !ok {
			s.flight.postpone(from, to, s.pauseUntil)
			return nil
		}
		if len(records) == 0 {
			return nil
		}
		for _, r := range records {
			if r.Seq > to {
				return nil
			}
			if _, sent := s.flight.sent[r.Seq]; !sent {
				if err := s.sendOne(ctx, r); err != nil {
					return err
				}
			}
			from = r.Seq + 1
		}
	}
	return nil
}

// read looks into the spool. A spool that cannot be read now is asked again later.
func (s *session) read(after uint64, n int) ([]Record, bool) {
	records, err := s.u.deps.Spool.Read(after, n, readBytes)
	if err != nil {
		s.u.log.Warn().Err(err).Msg("spool cannot be read now")
		s.pauseUntil = time.Now().Add(spoolRetry)
		return nil, false
	}
	return records, true
}

func (s *session) sendOne(ctx context.Context, r Record) error {
	if len(r.Payload) > wire.MaxPayload || r.Class == 0 {
		s.flight.next = max(s.flight.next, r.Seq)
		s.drop(r.Epoch, r.Seq, "record does not fit a frame")
		return nil
	}
	err := s.conn.Send(ctx, wire.Frame{
		Epoch: r.Epoch, Seq: r.Seq, Class: r.Class, CRC: r.CRC, Payload: r.Payload,
		AgeMS: uint64(s.u.ages.age(time.Now(), r.Seq, r.Created).Milliseconds()),
	})
	if err != nil {
		return err
	}
	s.flight.took(r.Epoch, r.Seq)
	return nil
}

// drop sets a record aside that can never be delivered.
func (s *session) drop(epoch, seq uint64, reason string) {
	s.u.log.Warn().Uint64("epoch", epoch).Uint64("seq", seq).Str("reason", reason).Msg("record cannot be delivered, it is set aside")
	s.u.update(func(st *State) { st.Rejected++ })
	if err := s.u.deps.Spool.Drop(epoch, seq, reason); err != nil {
		s.u.log.Error().Err(err).Msg("spool did not take the record out")
	}
}

// handle acts on a message of the collector.
func (s *session) handle(msg any) error {
	switch m := msg.(type) {
	case *wire.Ack:
		ranges := s.flight.answered(m.Epoch, m.Ranges)
		if len(ranges) == 0 {
			return nil
		}
		s.flight.storing = true
		if err := s.u.deps.Spool.Ack(m.Epoch, ranges); err != nil {
			// They stay, and go out again on the next connection: at least once.
			s.u.log.Warn().Err(err).Msg("spool did not take an ack")
		}
		s.u.update(func(st *State) {
			for _, r := range ranges {
				st.Acked += r.To - r.From + 1
			}
		})
	case *wire.Defer:
		s.retry = min(max(time.Duration(m.RetryMS)*time.Millisecond, minDelay), maxRetry)
		due := time.Now().Add(s.retry)
		for _, r := range s.flight.answered(m.Epoch, m.Ranges) {
			s.flight.storing = false
			s.flight.postpone(r.From, r.To, due)
		}
	case *wire.Reject:
		if len(s.flight.answered(m.Epoch, []wire.Range{{From: m.Seq, To: m.Seq}})) > 0 {
			s.drop(m.Epoch, m.Seq, m.Reason)
		}
	case *wire.Drain:
		s.drain, s.drainUntil = m, time.Now().Add(drainTime)
	case *wire.RenewResponse:
		s.renewed(m)
	default:
		return fmt.Errorf("collector sent a %T, which it must not", msg)
	}
	return nil
}

// leave answers a drain.
func (s *session) leave() error {
	limit := min(time.Duration(s.drain.MaxDelayMS)*time.Millisecond, maxDrain)
	return &drainError{delay: minDelay + rand.N(limit+1), reason: s.drain.Reason}
}

func (s *session) renewIfDue(ctx context.Context) error {
	now := time.Now()
	if now.Before(s.renewAt) || s.drain != nil || !s.u.deps.Identity.RenewalDue(now) {
		return nil
	}
	s.renewAt = now.Add(renewRetry)
	csr, err := s.u.deps.Identity.NewCSR()
	if err != nil {
		s.u.log.Error().Err(err).Msg("certificate not renewed")
		return nil
	}
	return s.conn.Send(ctx, wire.RenewRequest{CSR: csr})
}

func (s *session) renewed(m *wire.RenewResponse) {
	if m.Error != "" {
		s.u.log.Error().Str("reason", m.Error).Msg("collector did not renew the certificate")
		return
	}
	if err := s.u.deps.Identity.Install(m.Chain, m.Generation); err != nil {
		s.u.log.Error().Err(err).Msg("renewed certificate not installed")
		return
	}
	s.u.log.Info().Msg(fmt.Sprintf("certificate renewed, generation %d", m.Generation))
}
