// Package alert turns observations into state transitions. Rules are data; one pure
// state machine (inactive, pending, firing, resolved) judges each series, and time is
// always an argument: that of the observation, or that of a tick. Late observations
// never fire and never resolve. What fires is kept through a Store, so that a restart
// neither repeats nor forgets it. See DESIGN.md.
//
// Lock order: saveMu before mu.
package alert

import (
	"context"
	"strconv"
	"strings"
	"time"

	"sidetone/shared/telemetry"
)

// Source says where in the tree an observation comes from.
type Source = telemetry.Source

// Severity is how urgent a firing rule is.
type Severity string

// Severities, least urgent first.
const (
	Info     Severity = "info"
	Warning  Severity = "warning"
	Critical Severity = "critical"
)

// Rank orders severities; an unknown one ranks lowest.
func (s Severity) Rank() int {
	switch s {
	case Critical:
		return 3
	case Warning:
		return 2
	case Info:
		return 1
	}
	return 0
}

// Phase is the state of one series: of one rule at one subject.
type Phase string

// The phases. Resolved only occurs as the end of a transition; the series is
// inactive afterwards.
const (
	Inactive Phase = "inactive"
	Pending  Phase = "pending"
	Firing   Phase = "firing"
	Resolved Phase = "resolved"
)

// Subject is the thing that an observation is about.
type Subject struct {
	Kind string // one of the Subject constants of package telemetry
	Item telemetry.ItemID
	Name string
}

// Key identifies a series, and so the cause of an incident.
type Key struct {
	Rule  string
	Agent telemetry.AgentID
	Kind  string
	Item  telemetry.ItemID
}

// String is the key as one word, stable across restarts.
func (k Key) String() string {
	return strings.Join([]string{k.Rule, strconv.FormatUint(uint64(k.Agent), 10), k.Kind,
		strconv.FormatUint(uint64(k.Item), 16)}, "/")
}

// Evidence is one fact behind a transition, worded for a person.
type Evidence struct {
	Label string `json:"label"`
	Value string `json:"value"`
}

// Transition is a change of phase of one series.
type Transition struct {
	Key      Key
	Source   Source
	Subject  Subject
	From, To Phase
	// At is when it happened, Since when the condition began to hold (collector's clock).
	At, Since time.Time

	Severity Severity
	Title    string
	Summary  string
	Advice   string
	Evidence []Evidence
	// Reason says why a series resolved when it was not by its clear condition.
	Reason Reason
}

// Reason of a resolution.
type Reason string

// The reasons.
const (
	ReasonCleared     Reason = ""             // the clear condition held long enough
	ReasonRemoved     Reason = "removed"      // the subject was removed from the PBX or the configuration
	ReasonGone        Reason = "gone"         // the agent reports its other subjects, this one no longer
	ReasonNotRelevant Reason = "not relevant" // the rule's filters no longer match the subject
	ReasonRuleGone    Reason = "rule gone"    // the rule does not exist any more
)

// State is a series that is not inactive. Those that fire are kept in the Store.
type State struct {
	Key      Key
	Source   Source
	Subject  Subject
	Phase    Phase
	Since    time.Time // when the condition began to hold
	Fired    time.Time // when it began to fire; zero while pending
	Last     time.Time // newest observation
	Severity Severity
	Title    string
	Summary  string
	Advice   string
	Evidence []Evidence
}

// transition is how the state reads as "it fires".
func (s State) transition() Transition {
	return Transition{
		Key: s.Key, Source: s.Source, Subject: s.Subject, From: Inactive, To: Firing,
		At: s.Fired, Since: s.Since, Severity: s.Severity,
		Title: s.Title, Summary: s.Summary, Advice: s.Advice, Evidence: s.Evidence,
	}
}

// Store keeps the states that fire.
type Store interface {
	LoadAlertStates(ctx context.Context) ([]State, error)
	// SaveAlertStates writes and deletes in one transaction.
	SaveAlertStates(ctx context.Context, write []State, remove []Key) error
}
