package uplink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/rs/zerolog"

	"sidetone/shared/link"
	"sidetone/shared/wire"
)

const (
	// readRecords and readBytes bound one look into the spool.
	readRecords = 32
	readBytes   = 64 << 10
	// maxWindow bounds what a collector can make us keep track of.
	maxWindow = 4096
	// trial is how many deferred records of the backlog are sent again at once while the
	// collector cannot store.
	trial = 16
	// retryTime and maxRetry: when the collector names no time, and at most.
	retryTime = 15 * time.Second
	maxRetry  = time.Hour
	// spoolRetry is the pause after the spool could not be read.
	spoolRetry = 5 * time.Second
	// drainTime is how long a drain waits for the answers that are due.
	drainTime = 5 * time.Second
	// pingAfter is how long nothing may come before the collector is asked for a sign of
	// life, and pongTime how long that may take: together less than half a minute, and on
	// a slow line more than a bundle needs.
	pingAfter = 10 * time.Second
	pongTime  = 12 * time.Second
	// stallTime is how long a connection may be without any message while answers are
	// due. It is for collectors that know no ping, and for a path that lets only small
	// packets pass: to the transport, and to a ping, that looks alive.
	stallTime = 3 * time.Minute

	renewCheck = time.Minute
	renewRetry = 5 * time.Minute
	maxStrikes = 3
)

// session is one connection after its welcome. All its state belongs to run's
// goroutine; a second one only receives. A move to another connection keeps the session.
type session struct {
	u          *Uplink
	conn       Conn
	capability uint32 // of the collector
	effort     bool   // packets are marked as of lower effort
	flight     *flight
	lanes      *lanes
	climber    *climber
	retry      time.Duration // the collector's last word on deferred records

	messages chan any
	ended    chan error
	hangUp   context.CancelFunc // ends the receiving

	since      time.Time // on this connection
	heard      time.Time // last message of the collector
	answer     time.Time // last message that was no pong
	pinged     time.Time // a ping waits for its answer since; zero: none does
	pauseUntil time.Time // the spool could not be read
	renewAt    time.Time // no renewal before
	drain      *wire.Drain
	next       Conn      // a better way, handshake done
	stopUntil  time.Time // draining or moving: nothing is sent, answers are waited for
}

func newSession(u *Uplink, f *found) *session {
	s := &session{u: u, retry: retryTime, lanes: u.lanes}
	s.use(f.conn, f.welcome)
	s.flight = newFlight(window(f.welcome))
	s.lanes.begin()
	s.climber = u.ladder.newClimber(f, u.correct)
	return s
}

func window(w *wire.Welcome) int { return int(min(w.Window, maxWindow)) }

// use makes conn the connection of the session.
func (s *session) use(conn Conn, w *wire.Welcome) {
	s.conn, s.capability, s.effort = conn, w.Capability, false
	now := time.Now()
	s.since, s.heard, s.answer, s.pinged = now, now, now, time.Time{}
}

// run serves until the connection ends; the error, never nil, says why it ended.
func (s *session) run(ctx context.Context) error {
	s.listen(ctx)
	var err error
	for {
		if err = s.serve(ctx); !errors.Is(err, errMove) {
			break
		}
		next := s.next
		s.next, s.stopUntil = nil, time.Time{}
		if err = s.u.move(ctx, s, next); err != nil {
			break
		}
	}
	s.climber.stop()
	if s.next != nil {
		s.u.ladder.close(s.next, "the former way has ended")
	}
	reason := "the agent stops"
	if ctx.Err() == nil {
		reason = err.Error()
	}
	s.hangUp()
	_ = s.conn.CloseWith(wire.CloseShutdown, reason)
	for range s.messages { // until the receiver has ended
	}
	return err
}

// listen starts receiving from the session's connection.
func (s *session) listen(ctx context.Context) {
	var rctx context.Context
	rctx, s.hangUp = context.WithCancel(ctx)
	s.messages, s.ended = make(chan any, 16), make(chan error, 1)
	go receive(rctx, s.conn, s.messages, s.ended, s.u.log)
}

// leaveFor goes on with another connection. Answers that have come on the former one
// count; what has none is sent again.
func (s *session) leaveFor(ctx context.Context, conn Conn, w *wire.Welcome) {
	s.hangUp()
	for msg := range s.messages {
		_ = s.handle(msg) // that connection is over, whatever it was
	}
	s.drain, s.stopUntil = nil, time.Time{}
	s.use(conn, w)
	s.flight.window = window(w)
	s.flight.recall(time.Now())
	s.listen(ctx)
}

// receive hands messages on; ended gets its last error after the last message.
func receive(ctx context.Context, conn Conn, messages chan<- any, ended chan<- error, log zerolog.Logger) {
	defer close(messages)
	strikes := 0
	for {
		msg, err := conn.Recv(ctx)
		var mal *wire.MalformedError
		if errors.As(err, &mal) && !mal.Fatal && strikes < maxStrikes-1 {
			strikes++
			log.Warn().Err(err).Msg("malformed message from the collector")
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

// serve sends and receives until the connection ends, or until it may be left for a
// better one.
func (s *session) serve(ctx context.Context) error {
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
		s.climber.due(ctx, time.Now())
		timer.Reset(s.untilDue())
		s.show()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case msg, ok := <-s.messages:
			if !ok {
				return <-s.ended
			}
			if err := s.handle(msg); err != nil {
				return err
			}
		case <-s.u.deps.Spool.Appended():
		case <-s.u.roamed:
			s.climber.roamed()
		case <-s.climber.done():
			s.better(s.climber.take())
		case <-timer.C:
		case <-renew.C:
			if err := s.renewIfDue(ctx); err != nil {
				return err
			}
		case <-again:
		}
		if err := s.finished(time.Now()); err != nil {
			return err
		}
		if err := s.ping(ctx, time.Now()); err != nil {
			return err
		}
	}
}

// better makes ready for the move to conn, if there is one.
func (s *session) better(conn Conn) {
	if conn == nil {
		return
	}
	if s.drain != nil {
		s.u.ladder.close(conn, "the collector drains")
		return
	}
	s.next, s.stopUntil = conn, time.Now().Add(moveTime)
}

// finished tells whether the connection is to be left now.
func (s *session) finished(now time.Time) error {
	if !s.stopUntil.IsZero() && (len(s.flight.sent) == 0 || !now.Before(s.stopUntil)) {
		if s.drain != nil {
			return s.leave()
		}
		return errMove
	}
	if now.Sub(s.answer) < stallTime {
		return nil
	}
	if at, ok := s.flight.oldest(); ok && now.Sub(at) >= stallTime {
		return &link.LostError{Reason: fmt.Sprintf("no answer to anything for %s", stallTime)}
	}
	return nil
}

// ping asks for a sign of life when nothing was heard for a while; no sign means that the
// path is dead, whatever the transport believes.
func (s *session) ping(ctx context.Context, now time.Time) error {
	switch {
	case s.capability < pingCapability || now.Sub(s.heard) < pingAfter:
		return nil
	case s.pinged.IsZero():
		s.pinged = now
		return s.conn.Send(ctx, wire.Ping{Number: uint64(now.Sub(s.since).Milliseconds())})
	case now.Sub(s.pinged) >= pongTime:
		return &link.LostError{Reason: fmt.Sprintf("no sign of life for %s", pingAfter+pongTime)}
	}
	return nil
}

// nextPing is when ping has something to do.
func (s *session) nextPing() time.Time {
	switch {
	case s.capability < pingCapability:
		return time.Time{}
	case s.pinged.IsZero():
		return s.heard.Add(pingAfter)
	}
	return s.pinged.Add(pongTime)
}

// untilDue is the time to the next thing that no message announces.
func (s *session) untilDue() time.Duration {
	next := time.Now().Add(renewCheck)
	consider := func(t time.Time) {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	if s.flight.room() > 0 {
		if due, ok := s.flight.nextDue(s.lanes.split, forever); ok {
			consider(due)
		}
	}
	consider(s.lanes.due)
	consider(s.pauseUntil)
	consider(s.stopUntil)
	consider(s.climber.at)
	consider(s.nextPing())
	return max(time.Until(next), time.Millisecond)
}

// show tells how the session stands.
func (s *session) show() {
	now, st, l := time.Now(), s.u.deps.Spool.Status(), s.lanes
	live := st.NextSeq - min(l.split, st.NextSeq) // at most, of the records that wait
	s.u.update(func(o *State) {
		o.InFlight, o.Deferred = len(s.flight.sent), s.flight.waiting()
		o.Backlog = st.Records - min(live, st.Records)
		o.LiveKbit, o.BacklogKbit, o.PausedReason = l.live.kbit(now), l.backlog.kbit(now), l.paused
	})
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
	now := time.Now()
	s.heard, s.pinged = now, time.Time{}
	if _, pong := msg.(*wire.Pong); pong {
		return nil
	}
	s.answer = now
	switch m := msg.(type) {
	case *wire.Ack:
		ranges, took := s.flight.answered(m.Epoch, m.Ranges, now)
		if len(ranges) == 0 {
			return nil
		}
		s.lanes.answered(took)
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
		ranges, _ := s.flight.answered(m.Epoch, m.Ranges, now)
		for _, r := range ranges {
			s.flight.storing = false
			s.flight.postpone(r.From, r.To, now.Add(s.retry))
		}
	case *wire.Reject:
		if ranges, _ := s.flight.answered(m.Epoch, []wire.Range{{From: m.Seq, To: m.Seq}}, now); len(ranges) > 0 {
			s.drop(m.Epoch, m.Seq, m.Reason)
		}
	case *wire.Drain:
		s.drain, s.stopUntil = m, now.Add(drainTime)
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
