package telemetry

// Set is the rows of one payload, by type. Targets lists at least the targets that
// ProbeWindows refers to, so that each payload can be read by itself.
type Set struct {
	Targets      []Target
	ProbeWindows []ProbeWindow
	PBXStatuses  []PBXStatus
	Trunks       []Trunk
	SBCs         []SBC
	Services     []Service
	Extensions   []ExtensionSummary
	Backups      []Backup
	Licences     []Licence
	EventLog     []EventLogEntry
	StateChanges []StateChange
	AgentHealth  []AgentHealth
	LinkEvents   []LinkEvent
	Gaps         []Gap
}

// Len is the number of rows, targets apart: they describe, they are not observed.
func (s *Set) Len() int {
	return len(s.ProbeWindows) + len(s.PBXStatuses) + len(s.Trunks) + len(s.SBCs) +
		len(s.Services) + len(s.Extensions) + len(s.Backups) + len(s.Licences) +
		len(s.EventLog) + len(s.StateChanges) + len(s.AgentHealth) + len(s.LinkEvents) + len(s.Gaps)
}

// Append adds the rows of o; a target already listed is not listed again.
func (s *Set) Append(o *Set) {
	for _, t := range o.Targets {
		if !s.hasTarget(t.ID) {
			s.Targets = append(s.Targets, t)
		}
	}
	s.ProbeWindows = append(s.ProbeWindows, o.ProbeWindows...)
	s.PBXStatuses = append(s.PBXStatuses, o.PBXStatuses...)
	s.Trunks = append(s.Trunks, o.Trunks...)
	s.SBCs = append(s.SBCs, o.SBCs...)
	s.Services = append(s.Services, o.Services...)
	s.Extensions = append(s.Extensions, o.Extensions...)
	s.Backups = append(s.Backups, o.Backups...)
	s.Licences = append(s.Licences, o.Licences...)
	s.EventLog = append(s.EventLog, o.EventLog...)
	s.StateChanges = append(s.StateChanges, o.StateChanges...)
	s.AgentHealth = append(s.AgentHealth, o.AgentHealth...)
	s.LinkEvents = append(s.LinkEvents, o.LinkEvents...)
	s.Gaps = append(s.Gaps, o.Gaps...)
}

func (s *Set) hasTarget(id ItemID) bool {
	for i := range s.Targets {
		if s.Targets[i].ID == id {
			return true
		}
	}
	return false
}
