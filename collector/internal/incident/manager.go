package incident

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"sidetone/collector/internal/alert"
	"sidetone/collector/internal/authz"
	"sidetone/shared/telemetry"
)

// Defaults of Config.
const (
	DefaultFlapWindow = 5 * time.Minute
	DefaultReopenHold = 2 * time.Minute
)

// maxRetry bounds the transitions that wait for the store to work again.
const maxRetry = 10000

// Config is chosen by an operator; zero values mean the defaults.
type Config struct {
	// FlapWindow is how long after its end a cause that comes back reopens its incident.
	FlapWindow time.Duration
	// ReopenHold is how long the message of a reopening is held back; when the cause
	// ends before, neither that message nor another resolution is sent.
	ReopenHold time.Duration
}

// Deps is handed in by code.
type Deps struct {
	Store     Store
	Names     Names
	Announcer Announcer
	// OnChange hears of every incident that was opened, reopened or resolved; may be nil.
	// It must not call the Manager.
	OnChange func(Incident)
	Log      zerolog.Logger
	// Now is the wall clock; nil means time.Now.
	Now func() time.Time
}

// Manager turns transitions into incidents.
type Manager struct {
	cfg  Config
	deps Deps

	mu      sync.Mutex
	waiting []alert.Transition // the store failed; guarded by mu, which also keeps transitions in order
	stats   Stats              // guarded by mu
}

// Stats counts what happened.
type Stats struct {
	Opened, Reopened, Resolved uint64
	Waiting                    int    // transitions that wait for the store
	Dropped                    uint64 // transitions that found no room to wait; Reconcile mends them
	StoreErrors                uint64
}

// New returns a Manager.
func New(cfg Config, deps Deps) *Manager {
	if cfg.FlapWindow <= 0 {
		cfg.FlapWindow = DefaultFlapWindow
	}
	if cfg.ReopenHold <= 0 {
		cfg.ReopenHold = DefaultReopenHold
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	return &Manager{cfg: cfg, deps: deps}
}

// Handle acts on transitions in their order. When the store fails they wait, and the
// next call (also one without transitions) tries again; call it about once a second.
func (m *Manager) Handle(ctx context.Context, list []alert.Transition) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range list {
		if t.To != alert.Firing && t.To != alert.Resolved {
			continue
		}
		if len(m.waiting) >= maxRetry {
			m.stats.Dropped++
			continue
		}
		m.waiting = append(m.waiting, t)
	}
	if len(m.waiting) == 0 {
		return nil
	}
	work := m.waiting
	if err := m.apply(ctx, work); err != nil {
		if len(work) == 1 {
			return err
		}
		// One transition may be at fault: take them one by one, so that it stops none
		// of the others.
		return m.singly(ctx, err)
	}
	m.waiting = nil
	return nil
}

// maxFailures ends a round of single tries: the store is down, not one transition at fault.
const maxFailures = 5

// singly applies what waits one by one. What fails goes to the end, with everything of
// the same cause behind it, so that it does not block the others.
func (m *Manager) singly(ctx context.Context, first error) error {
	var rest, failed []alert.Transition
	stuck := map[alert.Key]bool{}
	for _, t := range m.waiting {
		switch {
		case stuck[t.Key]:
			failed = append(failed, t)
		case ctx.Err() != nil || len(stuck) >= maxFailures:
			rest = append(rest, t)
		case m.apply(ctx, []alert.Transition{t}) != nil:
			stuck[t.Key] = true
			failed = append(failed, t)
		}
	}
	m.waiting = append(rest, failed...)
	if len(m.waiting) == 0 {
		return nil
	}
	return first
}

// apply does everything in one transaction and tells afterwards; mu is held.
func (m *Manager) apply(ctx context.Context, list []alert.Transition) error {
	paths := make([]Path, len(list))
	for i, t := range list {
		if t.To == alert.Firing {
			paths[i] = m.path(ctx, t.Source)
		}
	}
	var done []step
	err := m.deps.Store.InIncidentTx(ctx, func(tx Tx) error {
		done = done[:0]
		for i, t := range list {
			s, err := m.one(tx, t, paths[i])
			if err != nil {
				return fmt.Errorf("incident of %s: %w", t.Key, err)
			}
			if s.what != nothing {
				done = append(done, s)
			}
		}
		return nil
	})
	if err != nil {
		m.stats.StoreErrors++
		return err
	}
	m.tell(done)
	return nil
}

// path asks for the names; an incident without names is better than none.
func (m *Manager) path(ctx context.Context, src alert.Source) Path {
	p, err := m.deps.Names.IncidentPath(ctx, src)
	if err == nil {
		return p
	}
	m.deps.Log.Warn().Err(err).Uint32("site", uint32(src.Site)).Msg("names of a site are not known")
	return Path{
		Tenant:   fmt.Sprintf("tenant %d", src.Tenant),
		Customer: fmt.Sprintf("customer %d", src.Customer),
		Site:     fmt.Sprintf("site %d", src.Site),
	}
}

// what a step did.
type what int

const (
	nothing what = iota
	opened
	reopened
	resolved
)

type step struct {
	what what
	inc  Incident
}

func (m *Manager) one(tx Tx, t alert.Transition, p Path) (step, error) {
	inc, found, err := tx.LatestIncident(t.Key)
	if err != nil {
		return step{}, err
	}
	switch {
	case t.To == alert.Firing && found && inc.Phase == Open:
		return step{}, nil
	case t.To == alert.Firing && found && t.At.Sub(inc.Resolved) < m.cfg.FlapWindow:
		return m.reopen(tx, inc, t)
	case t.To == alert.Firing:
		return m.open(tx, t, p)
	case found && inc.Phase == Open:
		return m.resolve(tx, inc, t)
	}
	return step{}, nil
}

func (m *Manager) open(tx Tx, t alert.Transition, p Path) (step, error) {
	inc := Incident{
		Key: makeKey(t.Key, t.At), Cause: t.Key, Source: t.Source, Path: p,
		Severity: t.Severity, Title: t.Title, Subject: t.Subject.Name, Summary: t.Summary,
		Advice: t.Advice, Evidence: t.Evidence, Phase: Open, Opened: t.At,
	}
	if err := tx.InsertIncident(&inc); err != nil {
		return step{}, err
	}
	return step{opened, inc}, m.announce(tx, inc, KindOpened, time.Time{}, nil)
}

func (m *Manager) reopen(tx Tx, inc Incident, t alert.Transition) (step, error) {
	inc.Phase, inc.Resolved, inc.Resolution = Open, time.Time{}, ""
	inc.Reopened++
	inc.ReopenedAt = t.At
	inc.Summary, inc.Evidence = t.Summary, t.Evidence
	if err := tx.UpdateIncident(inc); err != nil {
		return step{}, err
	}
	return step{reopened, inc}, m.announce(tx, inc, KindOpened, m.deps.Now().Add(m.cfg.ReopenHold), nil)
}

func (m *Manager) resolve(tx Tx, inc Incident, t alert.Transition) (step, error) {
	inc.Phase, inc.Resolved, inc.Resolution = Resolved, t.At, t.Summary
	if !inc.Resolved.After(inc.Opened) {
		inc.Resolved = inc.Opened.Add(time.Millisecond) // clocks of two runs may differ
	}
	if err := tx.UpdateIncident(inc); err != nil {
		return step{}, err
	}
	told, err := tx.WithdrawHeld(inc.ID, m.deps.Now())
	if err != nil {
		return step{}, err
	}
	return step{resolved, inc}, m.announce(tx, inc, KindResolved, time.Time{}, func(a Announcement) bool {
		return slices.Contains(told, Recipient{a.Channel, a.Recipient})
	})
}

// announce puts the messages into the outbox; due, when not nil, picks among them.
func (m *Manager) announce(tx Tx, inc Incident, kind Kind, notBefore time.Time, due func(Announcement) bool) error {
	for _, a := range m.deps.Announcer.Announce(inc, kind) {
		if due != nil && !due(a) {
			continue
		}
		a.NotBefore = notBefore
		if err := tx.Enqueue(inc.ID, a, m.deps.Now()); err != nil {
			return fmt.Errorf("enqueue message to %s: %w", a.Channel, err)
		}
	}
	return nil
}

// tell counts, logs and hands on what was committed.
func (m *Manager) tell(done []step) {
	if len(done) == 0 {
		return
	}
	m.deps.Announcer.Wake()
	for _, s := range done {
		event := "incident opened"
		switch s.what {
		case opened:
			m.stats.Opened++
		case reopened:
			m.stats.Reopened++
			event = "incident reopened"
		case resolved:
			m.stats.Resolved++
			event = "incident resolved"
		}
		m.deps.Log.Info().Int64("incident", s.inc.ID).Str("rule", s.inc.Cause.Rule).
			Uint32("site", uint32(s.inc.Source.Site)).Uint32("agent", uint32(s.inc.Source.Agent)).
			Str("reason", s.inc.Subject).Msg(event)
		if m.deps.OnChange != nil {
			m.deps.OnChange(s.inc)
		}
	}
}

// Reconcile makes the open incidents agree with what fires. A crash between the saving
// of an alert state and the opening of its incident leaves one without the other; call
// it once at the start, before the first Handle.
func (m *Manager) Reconcile(ctx context.Context, firing []alert.Transition) error {
	fires := make(map[alert.Key]bool, len(firing))
	for _, t := range firing {
		fires[t.Key] = true
	}
	var list []alert.Transition
	err := m.deps.Store.InIncidentTx(ctx, func(tx Tx) error {
		open, err := tx.OpenCauses()
		if err != nil {
			return err
		}
		isOpen := make(map[alert.Key]bool, len(open))
		for _, inc := range open {
			isOpen[inc.Cause] = true
			if !fires[inc.Cause] {
				list = append(list, alert.Transition{
					Key: inc.Cause, Source: inc.Source, From: alert.Firing, To: alert.Resolved,
					At: m.deps.Now(), Summary: "It ended while the collector was being restarted.",
				})
			}
		}
		for _, t := range firing {
			if !isOpen[t.Key] {
				list = append(list, t)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read open incidents: %w", err)
	}
	return m.Handle(ctx, list)
}

// List returns the incidents in scope, open ones first, then the newest.
func (m *Manager) List(ctx context.Context, scope authz.Scope, f Filter) ([]Incident, error) {
	return m.deps.Store.Incidents(ctx, scope, f)
}

// OpenBySite counts the open incidents in scope.
func (m *Manager) OpenBySite(ctx context.Context, scope authz.Scope) (map[telemetry.SiteID]int, error) {
	return m.deps.Store.OpenIncidents(ctx, scope)
}

// Stats returns the counters.
func (m *Manager) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stats
	s.Waiting = len(m.waiting)
	return s
}
