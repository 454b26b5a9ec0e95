package alert

import "time"

// observe judges one observation; mu is held.
func (e *Engine) observe(out []Transition, o *Observation) []Transition {
	if o.Late {
		e.stats.Late++
		return out
	}
	e.stats.Observed++
	at := o.At
	if at.IsZero() && e.clock.IsZero() {
		return out // before the first tick there is no "now"
	}
	if at.IsZero() {
		at = e.clock
	} else if at.After(e.clock) {
		e.clock = at
	}
	if o.Removed {
		for _, r := range e.rules {
			if s := e.series[keyOf(r, o)]; s != nil {
				out = e.drop(out, s, ReasonRemoved)
			}
		}
		return out
	}
	f := feed{o.Source.Agent, o.DataSet}
	sp, heard := e.feeds[f]
	if !heard {
		sp.first = at
	}
	if at.After(sp.newest) {
		sp.newest = at
	}
	e.feeds[f] = sp
	for _, r := range e.data[o.DataSet] {
		out = e.judge(out, r, o, at)
	}
	return out
}

func keyOf(r *compiled, o *Observation) Key {
	return Key{Rule: r.ID, Agent: o.Source.Agent, Kind: o.Subject.Kind, Item: o.Subject.Item}
}

// judge takes one observation to one rule. A series without memory is not kept while
// it is inactive.
func (e *Engine) judge(out []Transition, r *compiled, o *Observation, at time.Time) []Transition {
	s := e.series[keyOf(r, o)]
	if s != nil && s.outOfOrder(o.Observed) {
		e.stats.OutOfOrder++
		return out
	}
	if t := r.all(r.Where, o.Fields, nil); t != yes {
		if s != nil && t == no {
			out = e.drop(out, s, ReasonNotRelevant)
		}
		return out
	}
	var rolled *Field
	if r.Rolling != nil {
		if s == nil {
			if s = e.ensure(r, keyOf(r, o)); s == nil {
				return out
			}
		}
		part, _ := field(o.Fields, r.Rolling.Part)
		whole, _ := field(o.Fields, r.Rolling.Whole)
		rolled = &Field{Name: r.Rolling.Field, Num: s.roll.add(at, part.Num, whole.Num, r.Rolling.Over)}
	}
	v := r.judge(o.Fields, rolled)
	if s == nil {
		if v != bad {
			return out
		}
		if s = e.ensure(r, keyOf(r, o)); s == nil {
			return out
		}
	}
	s.observed = o.Observed
	if v == bad || s.m.phase != Inactive {
		s.take(o, rolled)
	}
	since := s.m.since
	from, to := s.m.observe(r.hold, at, v)
	return e.changed(out, s, change{from, to, since, s.m.last})
}

// tick lets time act on one active series; mu is held.
func (e *Engine) tick(out []Transition, s *series) []Transition {
	since := s.m.since
	sp := e.feeds[feed{s.key.Agent, s.rule.DataSet}]
	last := s.m.last
	if sp.first.After(last) {
		last = sp.first
	}
	if n := s.rule.NoDataAfter; n > 0 && s.m.phase == Firing && sp.newest.Sub(last) > n {
		return e.drop(out, s, ReasonGone)
	}
	from, to := s.m.tick(s.rule.hold, e.clock)
	return e.changed(out, s, change{from, to, since, e.clock})
}

// change is a step of a series' machine: since is when the condition that ends, or
// began, held; at is the instant of the step.
type change struct {
	from, to  Phase
	since, at time.Time
}

// changed notes a step and keeps or forgets the series accordingly.
func (e *Engine) changed(out []Transition, s *series, c change) []Transition {
	if c.from != c.to {
		switch c.to {
		case Firing:
			s.describe()
			c.since = s.m.since
			e.dirty[s.key] = struct{}{}
		case Resolved:
			e.dirty[s.key] = struct{}{}
		case Pending:
			s.describe()
			c.since = s.m.since
		}
		out = append(out, s.transition(c.from, c.to, c.at, c.since, ReasonCleared))
	}
	if s.m.phase != Inactive {
		e.active[s.key] = s
		return out
	}
	delete(e.active, s.key)
	s.fields = nil
	if s.roll == nil {
		e.remove(s)
	}
	return out
}

// drop ends a series for another reason than its clear condition.
func (e *Engine) drop(out []Transition, s *series, why Reason) []Transition {
	switch s.m.phase {
	case Firing:
		since := s.m.since
		s.m.end()
		e.dirty[s.key] = struct{}{}
		out = append(out, s.transition(Firing, Resolved, e.clock, since, why))
	case Pending:
		since := s.m.since
		s.m.end()
		out = append(out, s.transition(Pending, Inactive, e.clock, since, why))
	}
	e.remove(s)
	return out
}

// ensure makes a series, or returns nil when there is no room.
func (e *Engine) ensure(r *compiled, key Key) *series {
	if len(e.series) >= maxSeries || e.perAgent[key.Agent] >= maxSeriesPerAgent {
		e.stats.Refused++
		return nil
	}
	s := &series{rule: r, key: key, m: machine{phase: Inactive}}
	if r.Rolling != nil {
		s.roll = &roll{}
	}
	e.series[key] = s
	e.perAgent[key.Agent]++
	return s
}

func (e *Engine) remove(s *series) {
	if e.series[s.key] != s {
		return
	}
	delete(e.active, s.key)
	delete(e.series, s.key)
	if e.perAgent[s.key.Agent]--; e.perAgent[s.key.Agent] <= 0 {
		delete(e.perAgent, s.key.Agent)
	}
}

// sweep forgets inactive series of subjects that are not observed any more.
func (e *Engine) sweep() {
	if e.clock.Sub(e.swept) < sweepEvery {
		return
	}
	e.swept = e.clock
	for key, s := range e.series {
		if e.active[key] == nil && e.clock.Sub(s.m.last) > idleAfter {
			e.remove(s)
		}
	}
}
