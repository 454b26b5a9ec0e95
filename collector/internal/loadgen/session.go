package loadgen

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sidetone/shared/link"
	"sidetone/shared/wire"
)

const (
	maxWindow = 4096
	// atOnce is how many records are sent before answers are looked at.
	atOnce = 32
	// bundleOver is how many records wait before they go in bundles, as backlog does.
	bundleOver = 4
	// bundleBytes bounds a bundle.
	bundleBytes = 128 << 10
	drainTime   = 5 * time.Second
	stallTime   = 3 * time.Minute
	renewRetry  = 5 * time.Minute
	idleCheck   = 30 * time.Second
	maxRetry    = time.Hour
	// maxTold bounds the rejections in the log: a thousand agents make the same mistake.
	maxTold = 10
)

// errDone says that all is produced and answered.
var errDone = errors.New("all is answered")

// drainError is the end of a connection that the collector asked for.
type drainError struct{ limit time.Duration }

func (e *drainError) Error() string { return "the collector drains" }

// serve sends and receives until the connection ends; the error is never nil.
func (a *agent) serve(ctx context.Context, conn *welcomed) error {
	rctx, hangUp := context.WithCancel(ctx)
	messages, ended := make(chan any, 16), make(chan error, 1)
	go receive(rctx, conn.Conn, messages, ended)
	err := a.talk(ctx, conn, messages, ended)
	reason := err.Error()
	hangUp()
	_ = conn.CloseWith(wire.CloseShutdown, reason)
	for range messages { // until the receiver has ended
	}
	return err
}

func receive(ctx context.Context, conn *link.Conn, messages chan<- any, ended chan<- error) {
	defer close(messages)
	for {
		msg, err := conn.Recv(ctx)
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

func (a *agent) talk(ctx context.Context, conn *welcomed, messages <-chan any, ended <-chan error) error {
	t := time.NewTimer(idleCheck)
	defer t.Stop()
	var leave *drainError
	var leaveAt, heard time.Time
	heard = time.Now()
	for {
		if err := a.renewIfDue(ctx, conn); err != nil {
			return err
		}
		wait := idleCheck
		if leave == nil {
			again, err := a.send(ctx, conn)
			if err != nil {
				return err
			}
			if !again.IsZero() {
				wait = min(wait, max(time.Until(again), time.Millisecond))
			}
		} else if wait = time.Until(leaveAt); wait <= 0 || !a.waits() {
			return leave
		}
		t.Reset(wait)
		settled := a.fleet.settled
		if a.waits() {
			settled = nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-settled:
			if !a.waits() {
				return errDone
			}
		case msg, ok := <-messages:
			if !ok {
				return <-ended
			}
			heard = time.Now()
			if d, ok := msg.(*wire.Drain); ok {
				leave = &drainError{min(time.Duration(d.MaxDelayMS)*time.Millisecond, maxDrain)}
				leaveAt = heard.Add(drainTime)
			} else if err := a.handle(msg, heard); err != nil {
				return err
			}
		case <-a.spool.wake:
		case <-t.C:
			if time.Since(heard) > stallTime && a.waits() {
				return &link.LostError{Reason: fmt.Sprintf("no answer to anything for %s", stallTime)}
			}
		}
	}
}

// waits tells whether any record has no answer yet.
func (a *agent) waits() bool { return a.spool.status(time.Now()).records > 0 }

// send sends what may be sent now; again is when more may.
func (a *agent) send(ctx context.Context, conn *welcomed) (again time.Time, err error) {
	for {
		now := time.Now()
		records, again := a.spool.take(now, atOnce, conn.window)
		if len(records) == 0 {
			return again, nil
		}
		frames := make([]wire.Frame, len(records))
		for i, r := range records {
			frames[i] = wire.Frame{Epoch: a.spool.epoch, Seq: r.seq, Class: r.class, CRC: r.crc, Payload: r.payload,
				AgeMS: uint64(max(now.Sub(r.made), 0).Milliseconds())}
		}
		for len(frames) > 0 {
			var msg any = &frames[0]
			n := 1
			if len(frames) > bundleOver {
				var b wire.Bundle
				if b, n, err = wire.PackBundle(frames, bundleBytes); err != nil {
					return again, err
				}
				msg = b
				a.fleet.stats.bundles.Add(1)
			}
			if err := conn.Send(ctx, msg); err != nil {
				return again, err
			}
			a.fleet.stats.sent.Add(uint64(n))
			frames = frames[n:]
		}
	}
}

// handle acts on a message of the collector.
func (a *agent) handle(msg any, now time.Time) error {
	st := &a.fleet.stats
	switch m := msg.(type) {
	case *wire.Ack:
		a.spool.ack(m.Epoch, m.Ranges, func(r *record) { st.acked(r, now) })
	case *wire.Defer:
		retry := min(max(time.Duration(m.RetryMS)*time.Millisecond, minDelay), maxRetry)
		a.spool.postpone(m.Epoch, m.Ranges, now.Add(retry), func() { st.deferred.Add(1) })
	case *wire.Reject:
		if a.spool.reject(m.Epoch, m.Seq) && st.rejected.Add(1) <= maxTold {
			a.fleet.deps.Log.Warn().Uint32("agent", a.id.Agent).Uint64("epoch", m.Epoch).Uint64("seq", m.Seq).Str("reason", m.Reason).Msg("frame rejected")
		}
	case *wire.RenewResponse:
		return a.renewed(m)
	default:
		return fmt.Errorf("collector sent a %T, which it must not", msg)
	}
	return nil
}
