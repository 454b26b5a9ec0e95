package alert

import "time"

// verdict is what one observation says of a rule's subject.
type verdict int

const (
	neither verdict = iota // between the levels, or not known
	bad                    // the condition holds
	good                   // the clear condition holds
)

// hold is the durations of a rule.
type hold struct {
	fireFor, clearFor, noDataAfter time.Duration
	// ticks says that a state lasts until something else is observed, so that time
	// alone can complete a duration.
	ticks bool
}

// machine is the state machine of one series. It knows no clock; times that run
// backwards are taken as standing still.
//
//	inactive --bad--> pending --bad for fireFor--> firing --good for clearFor--> (resolved) inactive
//	            pending --anything else, or not observed for noDataAfter--> inactive
type machine struct {
	phase Phase
	since time.Time // pending, firing: when the condition began to hold
	fired time.Time // firing: since when
	clear time.Time // firing: when the clear condition began to hold; zero when it does not
	last  time.Time // newest observation
}

// observe takes one observation in and returns the phases passed: from and to are
// equal when nothing changed, and to is Resolved when the series ended.
func (m *machine) observe(h hold, at time.Time, v verdict) (from, to Phase) {
	if at.Before(m.last) {
		at = m.last
	}
	unseen := h.noDataAfter > 0 && !m.last.IsZero() && at.Sub(m.last) > h.noDataAfter
	m.last = at
	from = m.phase
	if unseen { // a hold that nobody watched does not count
		m.clear = time.Time{}
		if m.phase == Pending {
			m.phase = Inactive
		}
	}
	switch {
	case m.phase == Firing && v == good:
		if m.clear.IsZero() {
			m.clear = at
		}
		if at.Sub(m.clear) >= h.clearFor {
			return from, m.end()
		}
	case m.phase == Firing:
		m.clear = time.Time{}
	case v != bad:
		m.phase = Inactive
	case m.phase == Inactive:
		m.phase, m.since = Pending, at
		fallthrough
	default: // pending, and bad
		if at.Sub(m.since) >= h.fireFor {
			m.phase, m.fired, m.clear = Firing, at, time.Time{}
		}
	}
	return from, m.phase
}

// tick completes durations by time alone.
func (m *machine) tick(h hold, now time.Time) (from, to Phase) {
	from = m.phase
	switch {
	case m.phase == Pending && h.noDataAfter > 0 && now.Sub(m.last) > h.noDataAfter:
		m.phase = Inactive
	case m.phase == Pending && h.ticks && now.Sub(m.since) >= h.fireFor:
		m.phase, m.fired, m.clear = Firing, now, time.Time{}
	case m.phase == Firing && h.ticks && !m.clear.IsZero() && now.Sub(m.clear) >= h.clearFor:
		return from, m.end()
	}
	return from, m.phase
}

// end makes the series inactive and says what that is called.
func (m *machine) end() Phase {
	m.phase = Inactive
	m.since, m.fired, m.clear = time.Time{}, time.Time{}, time.Time{}
	return Resolved
}
