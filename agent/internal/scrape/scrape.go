// Package scrape decides when to ask a PBX what, and turns the answers into rows.
// Differences between two readings become state changes, in the same set as the
// rows that show them.
//
// Two lanes run side by side, so that a slow list never delays news of a trunk:
// status, trunks and services in the first; everything else in the second, which
// rests while the first finds the PBX not well. A failed reading of the status is a
// row of its own with the reason: "no data" and "unreachable" differ.
package scrape

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"sidetone/agent/internal/threecx"
	"sidetone/shared/backoff"
	"sidetone/shared/telemetry"
)

const (
	// stagger spreads the first readings after a start.
	stagger = 400 * time.Millisecond
	// recheck is how often the second lane looks whether the PBX is well again.
	recheck = time.Second
	// retryMax bounds the wait after a failed reading of the second lane.
	retryMax = time.Minute
	// busyMax bounds the pause towards a busy PBX.
	busyMax = 2 * time.Minute
)

// Client reads one PBX; xapi.Client is one.
type Client interface {
	SystemStatus(context.Context) (telemetry.PBXStatus, error)
	Trunks(context.Context) ([]telemetry.Trunk, error)
	Services(context.Context) ([]telemetry.Service, error)
	SBCs(context.Context) ([]telemetry.SBC, error)
	ActiveCalls(ctx context.Context, trunks []string) (threecx.Calls, error)
	EventLogs(context.Context, threecx.EventCursor) (threecx.Events, error)
	Extensions(context.Context) (telemetry.ExtensionSummary, error)
	Backups(context.Context) (telemetry.Backup, error)
	Licence(context.Context) (telemetry.Licence, error)
}

// Deps is what the program hands in.
type Deps struct {
	Client Client
	// Emit takes the rows over. It is called from two goroutines.
	Emit func(*telemetry.Set)
	Log  zerolog.Logger
}

// Scraper reads one PBX for as long as it runs.
type Scraper struct {
	cfg  Config
	deps Deps

	// Owned by the first lane.
	pbx      pbxTracker
	trunks   *tracker
	services *tracker
	busy     int       // successive busy answers
	askAfter time.Time // the PBX is left alone until then
	lastErr  error

	// Owned by the second lane.
	sbcs   *tracker
	cursor cursor

	mu           sync.Mutex
	well         bool            // the last status was read; guarded by mu
	trunkNumbers []string        // guarded by mu
	calls        *threecx.Calls  // the last reading; guarded by mu
	callsAt      time.Time       // guarded by mu
	failing      map[string]bool // readings that fail, to log each once; guarded by mu
}

// New makes a Scraper of a cfg that Validate finds good.
func New(cfg Config, deps Deps) *Scraper {
	return &Scraper{
		cfg: cfg.WithDefaults(), deps: deps,
		trunks: newTracker(telemetry.SubjectTrunk), services: newTracker(telemetry.SubjectService),
		sbcs: newTracker(telemetry.SubjectSBC), cursor: cursor{file: cfg.CursorFile},
		failing: map[string]bool{},
	}
}

// Run reads until ctx ends.
func (s *Scraper) Run(ctx context.Context) error {
	if err := s.cursor.load(); err != nil {
		s.deps.Log.Warn().Err(err).Msg("the place in the PBX's event log is not known: reading its newest entries")
	}
	var g errgroup.Group
	g.Go(func() error { s.firstLane(ctx); return nil })
	g.Go(func() error { s.secondLane(ctx); return nil })
	err := g.Wait()
	if cerr := s.cursor.close(); cerr != nil {
		s.deps.Log.Warn().Err(cerr).Msg("keeping the place in the PBX's event log")
	}
	return err
}

func (s *Scraper) firstLane(ctx context.Context) {
	next := time.Now()
	for ctx.Err() == nil {
		s.round(ctx)
		next = following(next, s.cfg.Interval)
		if backoff.Sleep(ctx, time.Until(next)) != nil {
			return
		}
	}
}

// following is the next instant of a rhythm that lies ahead: what was missed is not
// made up for.
func following(last time.Time, every time.Duration) time.Time {
	next := last.Add(every)
	if late := time.Since(next); late > 0 {
		next = next.Add(late.Truncate(every) + every)
	}
	return next
}

// job is one kind of reading of the second lane.
type job struct {
	name  string
	every time.Duration
	read  func(context.Context) error
	next  time.Time
}

func (s *Scraper) secondLane(ctx context.Context) {
	jobs := []*job{
		{name: "sbcs", every: s.cfg.SBCs, read: s.readSBCs},
		{name: "calls", every: s.cfg.Calls, read: s.readCalls},
		{name: "licence", every: s.cfg.Licence, read: s.readLicence},
		{name: "backups", every: s.cfg.Backups, read: s.readBackups},
		{name: "extensions", every: s.cfg.Extensions, read: s.readExtensions},
		{name: "events", every: s.cfg.Events, read: s.readEvents},
	}
	start := time.Now()
	for i, j := range jobs {
		j.next = start.Add(time.Duration(i+1) * stagger)
	}
	for {
		j := jobs[0]
		for _, other := range jobs[1:] {
			if other.next.Before(j.next) {
				j = other
			}
		}
		if backoff.Sleep(ctx, max(time.Until(j.next), 0)) != nil {
			return
		}
		if !s.isWell() {
			if backoff.Sleep(ctx, recheck) != nil {
				return
			}
			continue
		}
		err := j.read(ctx)
		if ctx.Err() != nil {
			return
		}
		s.note(j.name, err)
		j.next = following(j.next, j.every)
		if err != nil && !errors.Is(err, threecx.ErrUnsupported) {
			if retry := time.Now().Add(min(j.every, retryMax)); retry.Before(j.next) {
				j.next = retry
			}
		}
	}
}

// note logs a reading that begins or ends to fail.
func (s *Scraper) note(name string, err error) {
	s.mu.Lock()
	was := s.failing[name]
	s.failing[name] = err != nil
	s.mu.Unlock()
	switch {
	case err != nil && !was && errors.Is(err, threecx.ErrUnsupported):
		s.deps.Log.Info().Str("reason", err.Error()).Msgf("the PBX does not offer its %s", name)
	case err != nil && !was:
		s.deps.Log.Warn().Err(err).Msgf("reading the PBX's %s", name)
	case err == nil && was:
		s.deps.Log.Info().Msgf("reading the PBX's %s works again", name)
	}
}

func (s *Scraper) isWell() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.well
}

func (s *Scraper) setWell(well bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.well = well
}

// freshCalls is the last reading of the calls, unless it is too old to be shown.
func (s *Scraper) freshCalls() *threecx.Calls {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls == nil || time.Since(s.callsAt) > 2*s.cfg.Calls+s.cfg.Interval {
		return nil
	}
	return s.calls
}
