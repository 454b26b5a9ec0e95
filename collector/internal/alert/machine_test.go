package alert

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// step of a timeline: at second, a verdict or a tick, and what is expected to be passed.
type mstep struct {
	sec  int
	v    verdict
	tick bool
	to   Phase // "" = no change
}

func TestMachineTimelines(t *testing.T) {
	base := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	h := hold{fireFor: 30 * time.Second, clearFor: 10 * time.Second, noDataAfter: 60 * time.Second, ticks: true}
	noTicks := h
	noTicks.ticks = false
	at0 := hold{ticks: true}
	cases := []struct {
		name  string
		hold  hold
		steps []mstep
	}{
		{"fires when the condition held long enough", h, []mstep{
			{sec: 0, v: bad, to: Pending}, {sec: 10, v: bad}, {sec: 29, v: bad}, {sec: 30, v: bad, to: Firing}}},
		{"time alone completes the hold", h, []mstep{
			{sec: 0, v: bad, to: Pending}, {sec: 29, tick: true}, {sec: 30, tick: true, to: Firing}, {sec: 31, tick: true}}},
		{"an average waits for observations", noTicks, []mstep{
			{sec: 0, v: bad, to: Pending}, {sec: 40, tick: true}, {sec: 40, v: bad, to: Firing},
			{sec: 50, v: good}, {sec: 70, tick: true}, {sec: 71, v: good, to: Resolved}}},
		{"one good observation breaks the hold", h, []mstep{
			{sec: 0, v: bad, to: Pending}, {sec: 20, v: good, to: Inactive}, {sec: 25, v: bad, to: Pending},
			{sec: 54, tick: true}, {sec: 55, tick: true, to: Firing}}},
		{"between the levels breaks the hold but does not clear", h, []mstep{
			{sec: 0, v: bad, to: Pending}, {sec: 5, v: neither, to: Inactive}, {sec: 6, v: bad, to: Pending},
			{sec: 36, v: bad, to: Firing}, {sec: 40, v: neither}, {sec: 100, v: neither}, {sec: 110, tick: true}}},
		{"a relapse restarts the clearing", h, []mstep{
			{sec: 0, v: bad, to: Pending}, {sec: 30, v: bad, to: Firing}, {sec: 35, v: good}, {sec: 44, tick: true},
			{sec: 44, v: bad}, {sec: 46, v: good}, {sec: 55, tick: true}, {sec: 56, tick: true, to: Resolved}}},
		{"a pending hold that nobody watches is forgotten", h, []mstep{
			{sec: 0, v: bad, to: Pending}, {sec: 20, v: bad}, {sec: 100, v: bad}, {sec: 129, v: bad}, {sec: 130, v: bad, to: Firing}}},
		{"firing outlives missing data", h, []mstep{
			{sec: 0, v: bad, to: Pending}, {sec: 30, v: bad, to: Firing}, {sec: 5000, tick: true}, {sec: 5001, v: bad}}},
		{"without durations one observation is enough", at0, []mstep{
			{sec: 0, v: bad, to: Firing}, {sec: 1, v: good, to: Resolved}, {sec: 2, v: bad, to: Firing}}},
		{"time that runs backwards stands still", h, []mstep{
			{sec: 100, v: bad, to: Pending}, {sec: 10, v: bad}, {sec: 129, v: bad}, {sec: 130, v: bad, to: Firing}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := machine{phase: Inactive}
			for i, s := range c.steps {
				now := base.Add(time.Duration(s.sec) * time.Second)
				var from, to Phase
				if s.tick {
					from, to = m.tick(c.hold, now)
				} else {
					from, to = m.observe(c.hold, now, s.v)
				}
				if got := map[bool]Phase{true: "", false: to}[from == to]; got != s.to {
					t.Fatalf("step %d (second %d): passed to %q, want %q", i, s.sec, got, s.to)
				}
			}
		})
	}
}

// TestMachineModel compares the machine with a model that keeps the whole history and
// derives each phase from it anew.
func TestMachineModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := hold{
			fireFor:  time.Duration(rapid.IntRange(0, 40).Draw(rt, "fireFor")) * time.Second,
			clearFor: time.Duration(rapid.IntRange(0, 40).Draw(rt, "clearFor")) * time.Second,
			ticks:    rapid.Bool().Draw(rt, "ticks"),
		}
		if rapid.Bool().Draw(rt, "limited") {
			h.noDataAfter = time.Duration(rapid.IntRange(5, 60).Draw(rt, "noDataAfter")) * time.Second
		}
		m := machine{phase: Inactive}
		mod := model{hold: h}
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 30).Draw(rt, "wait")) * time.Second)
			var want Phase
			if rapid.Bool().Draw(rt, "tick") {
				m.tick(h, now)
				want = mod.tick(now)
			} else {
				v := rapid.SampledFrom([]verdict{bad, bad, good, neither}).Draw(rt, "verdict")
				m.observe(h, now, v)
				want = mod.observe(now, v)
			}
			if m.phase != want {
				rt.Fatalf("machine is %s, model %s; history %v", m.phase, want, mod.history)
			}
		}
	})
}

// model keeps every observation since the last end of firing.
type model struct {
	hold    hold
	firing  bool
	expired time.Time // observations up to here are forgotten for a pending hold
	history []seen
}

type seen struct {
	at time.Time
	v  verdict
}

// run is the first instant of the unbroken row of v at the end of the history.
func (m *model) run(v verdict) (time.Time, bool) {
	var first time.Time
	found := false
	for i := len(m.history) - 1; i >= 0; i-- {
		s := m.history[i]
		if s.v != v {
			break
		}
		if i < len(m.history)-1 && m.hold.noDataAfter > 0 && m.history[i+1].at.Sub(s.at) > m.hold.noDataAfter {
			break
		}
		if v == bad && !m.expired.IsZero() && !s.at.After(m.expired) {
			break
		}
		first, found = s.at, true
	}
	return first, found
}

func (m *model) observe(at time.Time, v verdict) Phase {
	m.history = append(m.history, seen{at, v})
	return m.judge(at, false)
}

func (m *model) tick(now time.Time) Phase {
	if n := len(m.history); n > 0 && !m.firing && m.hold.noDataAfter > 0 && now.Sub(m.history[n-1].at) > m.hold.noDataAfter {
		m.history = nil
	}
	return m.judge(now, true)
}

func (m *model) judge(now time.Time, tick bool) Phase {
	may := !tick || m.hold.ticks
	if m.firing {
		if since, ok := m.run(good); ok && may && now.Sub(since) >= m.hold.clearFor {
			m.firing, m.history = false, nil
			return Inactive
		}
		return Firing
	}
	since, ok := m.run(bad)
	switch {
	case !ok:
		return Inactive
	case may && now.Sub(since) >= m.hold.fireFor:
		m.firing = true
		m.history = m.history[len(m.history)-1:]
		return Firing
	}
	return Pending
}
