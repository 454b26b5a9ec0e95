package uplink

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"sidetone/shared/link"
	"sidetone/shared/wire"
)

// moveTime is how long a move to a better rung waits for the answers that are due on
// the old one.
const moveTime = 5 * time.Second

// errMove ends the serving of a connection that another one shall follow.
var errMove = errors.New("moving to a better way")

// climber tries to get from a lower rung back to QUIC, beside a connection that works.
// It belongs to Run's goroutine.
type climber struct {
	l      *ladder
	at     time.Time // of the next try; zero: none
	tried  time.Time
	dial   *dialling // that goes on
	reason func(string)
}

// newClimber starts from what the search left open.
func (l *ladder) newClimber(f *found, reason func(string)) *climber {
	c := &climber{l: l, dial: f.quic, reason: reason, tried: time.Now()}
	if f.conn.Transport() != link.TransportQUIC && c.dial == nil {
		c.schedule()
	}
	return c
}

// schedule sets the next try: soon after the first, then at most climbMax apart.
func (c *climber) schedule() {
	wait := min(climbMin<<min(c.l.climbs, 8), climbMax)
	wait = wait*3/4 + rand.N(wait/4)
	now := time.Now()
	c.at = now.Add(wait)
	if h := c.l.memory.at(c.l.local()).Held; h.After(c.at) {
		c.at = h // at most holdTime away, and so below climbMax
	}
}

// roamed: this machine's address has changed, so that all may be different.
func (c *climber) roamed() {
	if !c.at.IsZero() {
		c.at = time.Now()
		if soonest := c.tried.Add(climbPause); c.at.Before(soonest) {
			c.at = soonest
		}
	}
}

// due starts a try whose time has come.
func (c *climber) due(ctx context.Context, now time.Time) {
	if c.dial != nil || c.at.IsZero() || now.Before(c.at) {
		return
	}
	c.at, c.tried = time.Time{}, now
	c.l.climbs++
	c.dial = c.l.start(ctx, rung{transport: link.TransportQUIC})
}

// done is closed when the try has a result; nil when there is none.
func (c *climber) done() <-chan struct{} {
	if c.dial == nil {
		return nil
	}
	return c.dial.done
}

// take returns the connection of a try that is done, or nil.
func (c *climber) take() Conn {
	d := c.dial
	c.dial = nil
	if d.err != nil {
		c.failed(d.err)
		return nil
	}
	return d.conn
}

func (c *climber) failed(err error) {
	c.reason(reasons([]failure{{link.TransportQUIC, err}}))
	c.schedule()
}

func (c *climber) stop() {
	if c.dial != nil {
		c.l.abandon(c.dial)
		c.dial = nil
	}
}

// anywhere are addresses that the way out of this machine leads to; nobody has them
// (RFC 5737, RFC 3849), and nothing is sent to them.
var anywhere = [...]string{"192.0.2.1:443", "[2001:db8::1]:443"}

// localAddr is this machine's address on the way to the collector, found without sending
// anything, "" when there is none. A name is not looked up for it, since that would send:
// then it is the address on the way out.
func localAddr(collector string) string {
	targets := anywhere[:]
	if _, err := netip.ParseAddrPort(collector); err == nil {
		targets = []string{collector}
	}
	for _, t := range targets {
		c, err := net.Dial("udp", t)
		if err != nil {
			continue
		}
		local := c.LocalAddr().String()
		_ = c.Close()
		if host, _, err := net.SplitHostPort(local); err == nil {
			return host
		}
	}
	return ""
}

// move says hello on next and, once it is welcomed, lets s go on there. When it is not,
// s stays where it is.
func (u *Uplink) move(ctx context.Context, s *session, next Conn) error {
	gctx, cancel := context.WithTimeout(ctx, turnTime)
	w, err := u.greet(gctx, next)
	cancel()
	if err != nil {
		u.ladder.silentAt = time.Now()
		u.ladder.close(next, "no welcome")
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, context.DeadlineExceeded) {
			err = errSilent
		}
		u.ladder.memory.at(u.ladder.local()).hold(time.Now())
		s.climber.failed(err)
		return nil
	}
	old := s.conn
	s.leaveFor(ctx, next, w)
	u.ladder.close(old, "moved to a better way")
	u.ladder.learn(u.ladder.memory.at(u.ladder.local()), next.Transport(), "")
	u.ladder.climbs = 0
	u.update(func(st *State) {
		st.Transport, st.Reason, st.Version, st.Since = next.Transport(), "", w.Version, time.Now()
	})
	u.log.Info().Str("addr", next.RemoteAddr().String()).Str("version", w.Version).Msg("link is back on QUIC")
	u.event("moved", next.Transport(), "back on "+name(next.Transport())+": it works again")
	u.deps.OnWelcome(*w, u.host)
	return nil
}

// ourDoing tells whether err is the end of a connection that a hello of ours on another
// one has brought about, although that had no answer.
func (u *Uplink) ourDoing(err error) bool {
	var closed *link.ClosedError
	return errors.As(err, &closed) && closed.Code == wire.CloseReplaced && time.Since(u.ladder.silentAt) < replacedWait
}
