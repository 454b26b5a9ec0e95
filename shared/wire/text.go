package wire

import (
	"slices"
	"unicode/utf8"

	"sidetone/shared/telemetry"
)

// eachText calls f with every text of the set, until f returns false. A test
// compares it with the types, so that no field is forgotten.
func eachText(s *telemetry.Set, f func(*string) bool) bool {
	all := func(texts ...*string) bool {
		for _, t := range texts {
			if !f(t) {
				return false
			}
		}
		return true
	}
	return each(s.Targets, func(r *telemetry.Target) bool {
		return f((*string)(&r.Method)) && all(&r.Name, &r.Address)
	}) && each(s.ProbeWindows, func(r *telemetry.ProbeWindow) bool {
		return all(&r.Fault, &r.Detail)
	}) && each(s.PBXStatuses, func(r *telemetry.PBXStatus) bool {
		return f((*string)(&r.State)) && all(&r.Detail, &r.FQDN, &r.Version, &r.OS)
	}) && each(s.Trunks, func(r *telemetry.Trunk) bool {
		return all(&r.Number, &r.Name, &r.Host, &r.Kind, &r.Template, &r.FailCode)
	}) && each(s.SBCs, func(r *telemetry.SBC) bool {
		return all(&r.Name, &r.Version)
	}) && each(s.Services, func(r *telemetry.Service) bool {
		return all(&r.Name, &r.Title, &r.Status)
	}) && each(s.Backups, func(r *telemetry.Backup) bool {
		return all(&r.Repository)
	}) && each(s.Licences, func(r *telemetry.Licence) bool {
		return all(&r.ProductCode)
	}) && each(s.EventLog, func(r *telemetry.EventLogEntry) bool {
		return all(&r.Severity, &r.Source)
	}) && each(s.StateChanges, func(r *telemetry.StateChange) bool {
		return all(&r.Subject, &r.Name, &r.From, &r.To, &r.Detail)
	}) && each(s.AgentHealth, func(r *telemetry.AgentHealth) bool {
		return all(&r.Version)
	}) && each(s.LinkEvents, func(r *telemetry.LinkEvent) bool {
		return all(&r.Event, &r.Transport, &r.Collector, &r.Reason)
	}) && each(s.Gaps, func(r *telemetry.Gap) bool {
		return all(&r.Reason)
	})
}

func each[T any](rows []T, f func(*T) bool) bool {
	for i := range rows {
		if !f(&rows[i]) {
			return false
		}
	}
	return true
}

// checkSet tells whether every text is within its limit. That it is valid UTF-8
// the CBOR decoder has seen to.
func checkSet(s *telemetry.Set) error {
	if !eachText(s, func(t *string) bool { return len(*t) <= MaxText }) {
		return errText
	}
	return nil
}

// clipSet gives the set with every text valid and within its limit: s itself when
// it is so already, else a copy.
func clipSet(s *telemetry.Set) *telemetry.Set {
	if eachText(s, func(t *string) bool { return len(*t) <= MaxText && utf8.ValidString(*t) }) {
		return s
	}
	c := telemetry.Set{
		Targets: slices.Clone(s.Targets), ProbeWindows: slices.Clone(s.ProbeWindows),
		PBXStatuses: slices.Clone(s.PBXStatuses), Trunks: slices.Clone(s.Trunks), SBCs: slices.Clone(s.SBCs),
		Services: slices.Clone(s.Services), Extensions: s.Extensions, Backups: slices.Clone(s.Backups),
		Licences: slices.Clone(s.Licences), EventLog: slices.Clone(s.EventLog),
		StateChanges: slices.Clone(s.StateChanges), AgentHealth: slices.Clone(s.AgentHealth),
		LinkEvents: slices.Clone(s.LinkEvents), Gaps: slices.Clone(s.Gaps),
	}
	eachText(&c, func(t *string) bool {
		*t = clip(*t, MaxText)
		return true
	})
	return &c
}
