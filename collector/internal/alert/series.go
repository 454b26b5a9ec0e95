package alert

import (
	"time"

	"sidetone/shared/telemetry"
)

// series is one rule at one subject.
type series struct {
	rule *compiled
	key  Key
	src  Source
	subj Subject
	m    machine
	// observed is the agent's clock of the newest observation.
	observed telemetry.UnixMS
	fields   []Field // of the newest observation while not inactive
	roll     *roll   // only for rules that look at a time, not at an instant

	severity               Severity
	title, summary, advice string
	evidence               []Evidence
}

// outOfOrder tells an observation that was overtaken by a newer one. A larger step
// back is a clock that was set.
func (s *series) outOfOrder(observed telemetry.UnixMS) bool {
	const window = telemetry.UnixMS(90 * time.Second / time.Millisecond)
	back := s.observed - observed
	return observed != 0 && s.observed != 0 && back > 0 && back <= window
}

// take keeps what the texts are made of.
func (s *series) take(o *Observation, rolled *Field) {
	s.src, s.subj = o.Source, o.Subject
	s.fields = append(s.fields[:0], o.Fields...)
	if rolled == nil {
		return
	}
	for i := range s.fields {
		if s.fields[i].Name == rolled.Name {
			s.fields[i] = *rolled
		}
	}
}

// describe words the firing; the words stay until the series ends.
func (s *series) describe() {
	s.severity = s.rule.Severity
	s.title, s.summary, s.advice = s.rule.wording(s.fields)
	s.evidence = s.rule.evidence(s.fields)
}

func (s *series) state() State {
	return State{
		Key: s.key, Source: s.src, Subject: s.subj, Phase: s.m.phase,
		Since: s.m.since, Fired: s.m.fired, Last: s.m.last,
		Severity: s.severity, Title: s.title, Summary: s.summary, Advice: s.advice, Evidence: s.evidence,
	}
}

// transition words a change of phase at an instant.
func (s *series) transition(from, to Phase, at time.Time, since time.Time, why Reason) Transition {
	t := Transition{
		Key: s.key, Source: s.src, Subject: s.subj, From: from, To: to, At: at, Since: since,
		Severity: s.severity, Title: s.title, Summary: s.summary, Advice: s.advice, Evidence: s.evidence, Reason: why,
	}
	if to == Resolved {
		t.Summary, t.Evidence = s.resolution(why), s.rule.evidence(s.fields)
	}
	return t
}

func (s *series) resolution(why Reason) string {
	switch why {
	case ReasonRemoved:
		return s.subj.Name + " was removed."
	case ReasonGone:
		return s.subj.Name + " is not reported any more."
	case ReasonNotRelevant:
		return "The rule is no longer about " + s.subj.Name + "."
	}
	list := s.fields
	if len(list) == 0 { // restored, and not observed since
		list = []Field{{Name: "name", Text: s.subj.Name}, {Name: "title", Text: s.subj.Name}}
	}
	return s.rule.render(s.rule.Cleared, list)
}

// maxPoints bounds the memory of a rolling ratio; windows are 10 s and longer.
const maxPoints = 64

// roll is the counts of the last while.
type roll struct {
	points []point
}

type point struct {
	at          time.Time
	part, whole float64
}

// add takes the counts of an observation in and returns the ratio over the time that
// ends with it.
func (r *roll) add(at time.Time, part, whole float64, over time.Duration) float64 {
	keep := r.points[:0]
	for _, p := range r.points {
		if at.Sub(p.at) < over {
			keep = append(keep, p)
		}
	}
	if len(keep) == maxPoints {
		keep = append(keep[:0], keep[1:]...)
	}
	r.points = append(keep, point{at, part, whole})
	var a, b float64
	for _, p := range r.points {
		a += p.part
		b += p.whole
	}
	if b == 0 {
		return 0
	}
	return a / b
}
