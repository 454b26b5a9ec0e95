package scrape

import (
	"cmp"
	"slices"

	"sidetone/shared/telemetry"
)

// Words of states, beside the PBX's own words for its services.
const (
	stateRegistered   = "registered"
	stateUnregistered = "unregistered"
	stateConnected    = "connected"
	stateDisconnected = "disconnected"
	stateRemoved      = "removed"
)

// missingMax: an item is taken as removed when so many readings in a row lack it;
// a list read while the PBX restarts can be short.
const missingMax = 2

// item is one trunk, SBC or service in one reading.
type item struct {
	id     telemetry.ItemID
	name   string
	state  string
	bad    bool // worth a change already in the first reading
	detail string
}

// tracker turns successive readings of one kind into changes.
type tracker struct {
	subject string
	began   bool
	known   map[telemetry.ItemID]*known
}

type known struct {
	name, state string
	missing     int
}

func newTracker(subject string) *tracker {
	return &tracker{subject: subject, known: map[telemetry.ItemID]*known{}}
}

// observe takes a complete reading. The first one makes changes only of what is
// bad: what was before is not known.
func (t *tracker) observe(at telemetry.UnixMS, items []item) []telemetry.StateChange {
	var out []telemetry.StateChange
	seen := make(map[telemetry.ItemID]bool, len(items))
	for _, it := range items {
		seen[it.id] = true
		change := telemetry.StateChange{
			Observed: at, Subject: t.subject, Item: it.id, Name: it.name, To: it.state, Detail: it.detail,
		}
		k, ok := t.known[it.id]
		switch {
		case !ok:
			t.known[it.id] = &known{name: it.name, state: it.state}
			if t.began && change.Detail == "" {
				change.Detail = "added"
			}
			if t.began || it.bad {
				out = append(out, change)
			}
		case k.state != it.state:
			change.From = k.state
			out = append(out, change)
			fallthrough
		default:
			k.name, k.state, k.missing = it.name, it.state, 0
		}
	}
	t.began = true
	return append(out, t.removed(at, seen)...)
}

func (t *tracker) removed(at telemetry.UnixMS, seen map[telemetry.ItemID]bool) []telemetry.StateChange {
	var out []telemetry.StateChange
	for id, k := range t.known {
		if seen[id] {
			continue
		}
		if k.missing++; k.missing < missingMax {
			continue
		}
		delete(t.known, id)
		out = append(out, telemetry.StateChange{
			Observed: at, Subject: t.subject, Item: id, Name: k.name, From: k.state, To: stateRemoved,
		})
	}
	slices.SortFunc(out, func(a, b telemetry.StateChange) int { return cmp.Compare(a.Item, b.Item) })
	return out
}

// pbxTracker does the same for the PBX as a whole.
type pbxTracker struct {
	state   telemetry.PBXState
	version string
	name    string // FQDN
}

func (t *pbxTracker) observe(st *telemetry.PBXStatus) []telemetry.StateChange {
	var out []telemetry.StateChange
	if st.FQDN != "" {
		t.name = st.FQDN
	}
	if st.State != t.state && (t.state != "" || st.State != telemetry.PBXOK) {
		out = append(out, telemetry.StateChange{
			Observed: st.Observed, Subject: telemetry.SubjectPBX, Name: t.name,
			From: string(t.state), To: string(st.State), Detail: st.Detail,
		})
	}
	t.state = st.State
	if st.Version != "" {
		if t.version != "" && t.version != st.Version {
			out = append(out, telemetry.StateChange{
				Observed: st.Observed, Subject: telemetry.SubjectPBX, Name: t.name,
				From: t.version, To: st.Version, Detail: "version",
			})
		}
		t.version = st.Version
	}
	return out
}
