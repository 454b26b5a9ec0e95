package framer

import "sidetone/shared/telemetry"

// split cuts set after its first n rows, in the order of its kinds. Targets go with
// the windows that refer to them; those that no window refers to stay with the first.
func split(set *telemetry.Set, n int) (first, second *telemetry.Set) {
	first, second = &telemetry.Set{}, &telemetry.Set{}
	cut(&n, set.ProbeWindows, &first.ProbeWindows, &second.ProbeWindows)
	cut(&n, set.PBXStatuses, &first.PBXStatuses, &second.PBXStatuses)
	cut(&n, set.Trunks, &first.Trunks, &second.Trunks)
	cut(&n, set.SBCs, &first.SBCs, &second.SBCs)
	cut(&n, set.Services, &first.Services, &second.Services)
	cut(&n, set.Extensions, &first.Extensions, &second.Extensions)
	cut(&n, set.Backups, &first.Backups, &second.Backups)
	cut(&n, set.Licences, &first.Licences, &second.Licences)
	cut(&n, set.EventLog, &first.EventLog, &second.EventLog)
	cut(&n, set.StateChanges, &first.StateChanges, &second.StateChanges)
	cut(&n, set.AgentHealth, &first.AgentHealth, &second.AgentHealth)
	cut(&n, set.LinkEvents, &first.LinkEvents, &second.LinkEvents)
	cut(&n, set.Gaps, &first.Gaps, &second.Gaps)
	targets(set.Targets, first, second)
	return first, second
}

// cut shares rows out: as many as n still allows to first.
func cut[T any](n *int, rows []T, first, second *[]T) {
	k := min(*n, len(rows))
	*n -= k
	if k > 0 {
		*first = rows[:k:k]
	}
	if k < len(rows) {
		*second = rows[k:]
	}
}

func targets(all []telemetry.Target, first, second *telemetry.Set) {
	needs := func(s *telemetry.Set) map[telemetry.ItemID]bool {
		m := make(map[telemetry.ItemID]bool)
		for i := range s.ProbeWindows {
			m[s.ProbeWindows[i].Target] = true
		}
		return m
	}
	a, b := needs(first), needs(second)
	for _, t := range all {
		if a[t.ID] || !b[t.ID] {
			first.Targets = append(first.Targets, t)
		}
		if b[t.ID] {
			second.Targets = append(second.Targets, t)
		}
	}
}
