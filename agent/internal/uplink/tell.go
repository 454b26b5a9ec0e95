package uplink

import (
	"errors"
	"time"

	"sidetone/shared/link"
	"sidetone/shared/telemetry"
)

func (u *Uplink) up(f *found) {
	now, transport, reason := time.Now(), f.conn.Transport(), because(f.conn.Transport(), f.reason)
	u.update(func(s *State) {
		s.Connected, s.Transport, s.Reason, s.Version, s.Since, s.RetryAt = true, transport, reason, f.welcome.Version, now, time.Time{}
	})
	u.log.Info().Str("addr", f.conn.RemoteAddr().String()).Str("version", f.welcome.Version).Str("reason", reason).
		Msg("link is up over " + name(transport))
	u.event("up", transport, reason)
	u.deps.OnWelcome(*f.welcome, u.host)
}

// correct takes note of what is wrong with QUIC, when a try has shown it, while the link
// is on another rung.
func (u *Uplink) correct(quic string) {
	st := u.State()
	if st.Transport != link.TransportTCP { // behind a proxy, more than QUIC is wrong
		return
	}
	reason := because(st.Transport, quic)
	if reason == st.Reason {
		return
	}
	u.update(func(s *State) { s.Reason = reason })
	u.ladder.learn(u.ladder.memory.at(u.ladder.local()), st.Transport, quic)
	u.event("moved", st.Transport, reason)
}

func (u *Uplink) down(conn Conn, reason string) {
	u.update(func(s *State) {
		s.Connected, s.Transport, s.Reason, s.Since, s.InFlight, s.Deferred = false, "", "", time.Now(), 0, 0
		s.PausedReason, s.LiveKbit, s.BacklogKbit = "", 0, 0
	})
	u.event("down", conn.Transport(), reason)
}

// tellRefused tells of a connection that could not be made: once an hour for each of a
// few reasons, for a collector that is down for a week must not fill the spool with it.
func (u *Uplink) tellRefused(err error) {
	reason := err.Error()
	var none *NoWayError
	if errors.As(err, &none) {
		reason = none.Reason() // without the changing details
	}
	at, told := u.refused[reason]
	if told && time.Since(at) < refusedEvery || !told && len(u.refused) >= maxRefused {
		return
	}
	u.refused[reason] = time.Now()
	u.event("refused", "", reason)
}

func (u *Uplink) event(event, transport, reason string) {
	u.deps.Events(telemetry.LinkEvent{Observed: telemetry.MS(time.Now()), Event: event,
		Transport: transport, Collector: u.cfg.Addr, Reason: reason})
}
