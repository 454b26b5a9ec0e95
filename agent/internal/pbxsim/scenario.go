package pbxsim

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/pelletier/go-toml/v2"

	"sidetone/shared/backoff"
)

//go:embed scenarios/*.toml
var embedded embed.FS

const (
	maxScenario = 1 << 20
	maxEvents   = 1000
	leastEvery  = time.Second
)

// Scenario is a timeline of what happens to the box by itself.
type Scenario struct {
	Events []Event
}

// Event is one entry: At after the start, and again each Every when that is not zero.
type Event struct {
	At, Every time.Duration
	Action
}

// LoadScenario reads a file, or an embedded scenario by name ("demo"). "" and
// "default" have no scripted events.
func LoadScenario(name string) (*Scenario, error) {
	if name == "" || name == "default" {
		return &Scenario{}, nil
	}
	raw, err := embedded.ReadFile("scenarios/" + name + ".toml")
	if err != nil {
		info, serr := os.Stat(name)
		if serr != nil {
			return nil, fmt.Errorf("open scenario (a file, or the word demo): %w", serr)
		}
		if info.Size() > maxScenario {
			return nil, fmt.Errorf("open scenario %s: larger than %d bytes", name, maxScenario)
		}
		if raw, err = os.ReadFile(name); err != nil {
			return nil, fmt.Errorf("open scenario: %w", err)
		}
	}
	sc, err := ParseScenario(raw)
	if err != nil {
		return nil, fmt.Errorf("open scenario %s: %w", name, err)
	}
	return sc, nil
}

// ParseScenario reads a timeline in TOML and lists all its mistakes.
func ParseScenario(raw []byte) (*Scenario, error) {
	var file struct {
		Event []struct {
			At     string `toml:"at"`
			Every  string `toml:"every"`
			Name   string `toml:"action"`
			Target string `toml:"target"`
			Value  string `toml:"value"`
		} `toml:"event"`
	}
	d := toml.NewDecoder(bytes.NewReader(raw)).DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		var strict *toml.StrictMissingError
		if errors.As(err, &strict) {
			return nil, fmt.Errorf("unknown key:\n%s", strict.String())
		}
		return nil, err
	}
	if len(file.Event) > maxEvents {
		return nil, fmt.Errorf("%d events are more than %d", len(file.Event), maxEvents)
	}
	known := actions()
	var sc Scenario
	var errs []error
	for i, f := range file.Event {
		e := Event{Action: Action{Name: f.Name, Target: f.Target, Value: f.Value}}
		var err error
		if e.At, err = time.ParseDuration(f.At); err != nil || e.At < 0 {
			errs = append(errs, fmt.Errorf("event[%d].at: %q is not a time such as 90s", i, f.At))
		}
		if f.Every != "" {
			if e.Every, err = time.ParseDuration(f.Every); err != nil || e.Every < leastEvery {
				errs = append(errs, fmt.Errorf("event[%d].every: %q is not a time of at least %s", i, f.Every, leastEvery))
			}
		}
		if _, ok := known[f.Name]; !ok {
			errs = append(errs, fmt.Errorf("event[%d].action: %q is unknown", i, f.Name))
		}
		sc.Events = append(sc.Events, e)
	}
	return &sc, errors.Join(errs...)
}

// play makes the timeline happen.
func (s *Sim) play(ctx context.Context, sc *Scenario) {
	start := time.Now()
	due := slices.Clone(sc.Events)
	for len(due) > 0 {
		slices.SortStableFunc(due, func(a, b Event) int { return cmp.Compare(a.At, b.At) })
		e := due[0]
		if backoff.Sleep(ctx, max(e.At-time.Since(start), 0)) != nil {
			return
		}
		if err := s.Do(e.Action); err != nil {
			s.opt.Log.Error().Err(err).Msg("an event of the scenario")
		}
		if e.Every == 0 {
			due = due[1:]
			continue
		}
		due[0].At += e.Every
	}
}
