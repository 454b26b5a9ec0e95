package notify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sidetone/collector/internal/incident"
	"sidetone/shared/telemetry"
)

// Message is one announcement in the outbox, claimed for a try.
type Message struct {
	incident.Announcement
	ID         int64
	IncidentID int64
	// Attempt counts the tries, this one included.
	Attempt int
	Created time.Time
}

// Outcome of a try.
type Outcome string

// The outcomes.
const (
	Sent   Outcome = "sent"
	Retry  Outcome = "retry"
	Failed Outcome = "failed"
)

// Delivery is one try at one recipient.
type Delivery struct {
	Outcome Outcome
	At      time.Time
	Took    time.Duration
	Error   string
	// Next is when a retry is due.
	Next time.Time
}

// Record is a Delivery with the message it belongs to, for lists.
type Record struct {
	Delivery
	MessageID, IncidentID int64
	Channel, Recipient    string
	Kind                  incident.Kind
}

// Sender sends one message. An error that is not Permanent is tried again.
type Sender interface {
	Send(ctx context.Context, m Message) error
}

// PermanentError says that trying again is of no use.
type PermanentError struct{ Err error }

// Permanent wraps an error that trying again does not mend.
func Permanent(format string, a ...any) error {
	return &PermanentError{fmt.Errorf(format, a...)}
}

func (e *PermanentError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *PermanentError) Unwrap() error { return e.Err }

// LaterError is an error of a receiver that said when to try again.
type LaterError struct {
	Err   error
	After time.Duration
}

func (e *LaterError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *LaterError) Unwrap() error { return e.Err }

// Claim asks the outbox for work.
type Claim struct {
	Channel string
	// Holder names who claims; Lease is until when the claim holds.
	Holder string
	Now    time.Time
	Lease  time.Time
	Limit  int
}

// Store is the outbox.
type Store interface {
	// ClaimMessages returns messages that are due, oldest first, and counts a try of
	// each. It passes over a message while an earlier one of the same incident to the
	// same recipient is not done.
	ClaimMessages(ctx context.Context, c Claim) ([]Message, error)
	// FinishMessage records a try and ends the claim. A claim that was lost meanwhile
	// changes nothing but the record.
	FinishMessage(ctx context.Context, m Message, holder string, d Delivery) error
	// ReleaseMessages ends the claims of a holder that died.
	ReleaseMessages(ctx context.Context, holder string) error
	// NextDue is the earliest instant at which the channel has something to do; zero
	// when there is nothing.
	NextDue(ctx context.Context, channel string) (time.Time, error)
	// FailStrays fails what waits for channels other than these, and returns how many.
	FailStrays(ctx context.Context, channels []string, now time.Time) (int, error)
	// PruneIncidents deletes resolved incidents, with their messages, that ended before.
	PruneIncidents(ctx context.Context, before time.Time) (int, error)
}

// body is the structured form of a message: the JSON of a webhook.
type body struct {
	Version        int           `json:"version"`
	Kind           incident.Kind `json:"kind"`
	IdempotencyKey string        `json:"idempotency_key"`
	Incident       bodyIncident  `json:"incident"`
}

type bodyIncident struct {
	IncidentID int64            `json:"incident_id"`
	Key        string           `json:"key"`
	Tenant     string           `json:"tenant"`
	Customer   string           `json:"customer"`
	Site       string           `json:"site"`
	SiteID     telemetry.SiteID `json:"site_id"`
	PBX        string           `json:"pbx"`
	Rule       string           `json:"rule"`
	Title      string           `json:"title"`
	Severity   string           `json:"severity"`
	Subject    string           `json:"subject"`
	State      string           `json:"state"`
	Opened     telemetry.UnixMS `json:"opened_ms"`
	Resolved   telemetry.UnixMS `json:"resolved_ms,omitempty"`
	Reopened   int              `json:"reopened_total,omitempty"`
	Summary    string           `json:"summary"`
	Resolution string           `json:"resolution,omitempty"`
	Advice     string           `json:"advice,omitempty"`
	Evidence   []bodyEvidence   `json:"evidence"`
}

type bodyEvidence struct {
	Label string `json:"label"`
	Value string `json:"value"`
}

// classify turns a sender's answer into an outcome.
func classify(err error) (Outcome, time.Duration) {
	var p *PermanentError
	var l *LaterError
	switch {
	case err == nil:
		return Sent, 0
	case errors.As(err, &p):
		return Failed, 0
	case errors.As(err, &l):
		return Retry, l.After
	}
	return Retry, 0
}
