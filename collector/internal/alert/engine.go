package alert

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"sidetone/shared/telemetry"
)

// Limits. A real site stays far below; a broken or hostile agent is cut off and
// counted.
const (
	maxSeriesPerAgent = 4000
	maxSeries         = 400000
	// sweepEvery is how often series that have nothing to say are forgotten, idleAfter
	// how long they stay.
	sweepEvery = time.Minute
	idleAfter  = 10 * time.Minute
	// storeTimeout bounds one write of states, loadTimeout their reading at the start.
	storeTimeout = 5 * time.Second
	loadTimeout  = 30 * time.Second
)

// Deps is handed in by code.
type Deps struct {
	Store Store // nil: states do not survive a restart
	Log   zerolog.Logger
}

// Stats counts what the engine holds and what it passed over.
type Stats struct {
	Series, Active, Firing int
	// Observed, Late and OutOfOrder count observations; Refused those that found no
	// room for a series.
	Observed, Late, OutOfOrder, Refused uint64
	SaveErrors                          uint64
}

// feed is one agent's stream of one data set.
type feed struct {
	agent telemetry.AgentID
	data  DataSet
}

// span is the first and the newest instant heard of a feed since the start.
type span struct{ first, newest time.Time }

// Engine judges observations. Its methods may be called from several goroutines.
type Engine struct {
	deps  Deps
	rules map[string]*compiled
	data  map[DataSet][]*compiled

	saveMu sync.Mutex // held while states are written, so that the newest is written last

	mu       sync.Mutex
	clock    time.Time                 // newest instant told; guarded by mu, as all below
	series   map[Key]*series           // every series with memory
	active   map[Key]*series           // those that are not inactive
	perAgent map[telemetry.AgentID]int // number of series
	feeds    map[feed]span
	orphans  []State          // restored, but their rule is gone
	dirty    map[Key]struct{} // to be written or deleted in the Store
	swept    time.Time
	stats    Stats
}

// New checks the rules, reports all their mistakes together, and restores what fired.
func New(rules []Rule, deps Deps) (*Engine, error) {
	e := &Engine{
		deps: deps, rules: map[string]*compiled{}, data: map[DataSet][]*compiled{},
		series: map[Key]*series{}, active: map[Key]*series{}, perAgent: map[telemetry.AgentID]int{},
		feeds: map[feed]span{}, dirty: map[Key]struct{}{},
	}
	var errs []error
	for i := range rules {
		r := rules[i]
		if err := r.Validate(); err != nil {
			errs = append(errs, err)
			continue
		}
		if e.rules[r.ID] != nil {
			errs = append(errs, fmt.Errorf("rule %q exists twice", r.ID))
			continue
		}
		c := compile(r)
		e.rules[r.ID] = c
		e.data[r.DataSet] = append(e.data[r.DataSet], c)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if deps.Store == nil {
		return e, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), loadTimeout)
	defer cancel()
	states, err := deps.Store.LoadAlertStates(ctx)
	if err != nil {
		return nil, fmt.Errorf("load alert states: %w", err)
	}
	for _, s := range states {
		e.restore(s)
	}
	return e, nil
}

func (e *Engine) restore(st State) {
	rule := e.rules[st.Key.Rule]
	if rule == nil {
		e.orphans = append(e.orphans, st)
		return
	}
	s := e.ensure(rule, st.Key)
	if s == nil {
		return
	}
	s.src, s.subj = st.Source, st.Subject
	// The newest observation is not restored: times of another run of the collector are
	// labels, durations begin anew.
	s.m = machine{phase: Firing, since: st.Since, fired: st.Fired}
	s.severity, s.title, s.summary, s.advice, s.evidence = st.Severity, st.Title, st.Summary, st.Advice, st.Evidence
	e.active[s.key] = s
}

// Observe judges observations in their order and returns what changed. States that
// begin or cease to fire are in the Store when it returns, unless the Store fails:
// then the transitions stand all the same, and writing is tried again at each tick.
func (e *Engine) Observe(list []Observation) []Transition {
	e.mu.Lock()
	var out []Transition
	for i := range list {
		out = e.observe(out, &list[i])
	}
	e.mu.Unlock()
	e.save()
	return out
}

// Tick lets durations end that time alone completes. Call it about once a second.
func (e *Engine) Tick(now time.Time) []Transition {
	e.mu.Lock()
	if now.After(e.clock) {
		e.clock = now
	}
	var out []Transition
	for _, st := range e.orphans {
		t := st.transition()
		t.From, t.To, t.At, t.Reason = Firing, Resolved, e.clock, ReasonRuleGone
		t.Summary = "The rule does not exist any more."
		out = append(out, t)
		e.dirty[st.Key] = struct{}{}
	}
	e.orphans = nil
	for _, s := range e.active {
		out = e.tick(out, s)
	}
	e.sweep()
	e.mu.Unlock()
	e.save()
	sortTransitions(out)
	return out
}

// Forget resolves and drops everything about an agent that was revoked or deleted.
func (e *Engine) Forget(agent telemetry.AgentID) []Transition {
	e.mu.Lock()
	var out []Transition
	for key, s := range e.series {
		if key.Agent == agent {
			out = e.drop(out, s, ReasonRemoved)
		}
	}
	for f := range e.feeds {
		if f.agent == agent {
			delete(e.feeds, f)
		}
	}
	e.mu.Unlock()
	e.save()
	sortTransitions(out)
	return out
}

// Snapshot lists the series that are not inactive.
func (e *Engine) Snapshot() []State {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]State, 0, len(e.active))
	for _, s := range e.active {
		out = append(out, s.state())
	}
	slices.SortFunc(out, func(a, b State) int { return cmp.Compare(a.Key.String(), b.Key.String()) })
	return out
}

// Firings lists what fires now as transitions to Firing, so that whoever acts on
// transitions can catch up after a crash.
func (e *Engine) Firings() []Transition {
	var out []Transition
	for _, s := range e.Snapshot() {
		if s.Phase == Firing {
			out = append(out, s.transition())
		}
	}
	return out
}

// Stats returns the counters.
func (e *Engine) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	st := e.stats
	st.Series, st.Active = len(e.series), len(e.active)
	for _, s := range e.active {
		if s.m.phase == Firing {
			st.Firing++
		}
	}
	return st
}

// save writes the states that began or ceased to fire. It takes the newest state of
// each, so that concurrent callers cannot write an older one over it.
func (e *Engine) save() {
	e.saveMu.Lock()
	defer e.saveMu.Unlock()
	e.mu.Lock()
	if len(e.dirty) == 0 {
		e.mu.Unlock()
		return
	}
	var write []State
	var remove []Key
	for key := range e.dirty {
		if s := e.active[key]; s != nil && s.m.phase == Firing {
			write = append(write, s.state())
		} else {
			remove = append(remove, key)
		}
	}
	clear(e.dirty)
	e.mu.Unlock()
	if e.deps.Store == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	err := e.deps.Store.SaveAlertStates(ctx, write, remove)
	if err == nil {
		return
	}
	e.mu.Lock()
	for _, s := range write {
		e.dirty[s.Key] = struct{}{}
	}
	for _, k := range remove {
		e.dirty[k] = struct{}{}
	}
	e.stats.SaveErrors++
	e.mu.Unlock()
	e.deps.Log.Warn().Err(err).Msg("alert states are not saved; trying again")
}

func sortTransitions(list []Transition) {
	slices.SortStableFunc(list, func(a, b Transition) int { return cmp.Compare(a.Key.String(), b.Key.String()) })
}
