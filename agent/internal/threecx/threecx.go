// Package threecx says what a read-only client of a 3CX system is: its
// configuration, the fixed list of paths it may ask for, what it answers, and the
// kinds of failure. One API generation each lives in a child package (xapi).
//
// Nothing here can write to a PBX: the only requests that are not GET are the two
// of signing in. Secrets and personal text of an answer are never decoded.
package threecx

import (
	"time"

	"sidetone/shared/telemetry"
)

// Calls is the list of active calls reduced to counts; the party text of a call
// is looked at for its leading DN and forgotten.
type Calls struct {
	Talking uint32
	Ringing uint32
	Other   uint32
	// Longest is the age of the oldest established call, by the PBX's own clock.
	Longest time.Duration
	// ByTrunk counts calls by the number of the trunk they use.
	ByTrunk map[string]uint32
}

// Total is the number of active calls.
func (c Calls) Total() uint32 { return c.Talking + c.Ringing + c.Other }

// EventCursor is the place up to which the event log was read: the highest id seen.
type EventCursor struct {
	Known bool
	Last  int64
}

// Events is one incremental reading of the event log.
type Events struct {
	Entries []telemetry.EventLogEntry
	Next    EventCursor
	// Purged says that the log was emptied since the last reading.
	Purged bool
	// More says that the reading stopped at its limit: ask again.
	More bool
}

// Step is one check of a Report.
type Step struct {
	Name   string // "reach", "tls", "sign-in", "rights", "version"
	OK     bool
	Detail string
	Advice string // what to do when OK is false
}

// Reading says whether one kind of data can be read.
type Reading struct {
	Path   Path
	OK     bool
	Detail string
}

// Report is the diagnosis of the connection to a PBX.
type Report struct {
	Steps    []Step
	Readings []Reading
	FQDN     string
	Version  string
	Role     string // MaxRole of the token
}
