// Package live keeps the freshest state of every agent's surroundings in memory and
// tells open dashboards what changed. It is a view, not a store: after a restart it
// is seeded from ClickHouse, and everything in it can be asked there again.
package live

import (
	"maps"
	"sync"
	"time"

	"sidetone/shared/telemetry"
)

// Limits of what one agent may occupy. A real PBX stays far below; a broken or
// hostile one is cut off and counted.
const (
	maxItemsPerAgent = 2000
	maxAgents        = 20000
)

// Dated is a value with the instant since when it is what it is (agent's clock).
type Dated[T any] struct {
	Value T
	Since telemetry.UnixMS
}

// Agent is the fresh state around one agent. The maps are owned by the Hub; what
// leaves it is a copy.
type Agent struct {
	Source     telemetry.Source
	Received   time.Time // of the newest delivery
	Status     *telemetry.PBXStatus
	LastOK     *telemetry.PBXStatus // newest status with State ok
	Extensions *telemetry.ExtensionSummary
	Backup     *telemetry.Backup
	Licence    *telemetry.Licence
	Health     *telemetry.AgentHealth
	Trunks     map[telemetry.ItemID]Dated[telemetry.Trunk]
	SBCs       map[telemetry.ItemID]Dated[telemetry.SBC]
	Services   map[telemetry.ItemID]Dated[telemetry.Service]
	Targets    map[telemetry.ItemID]telemetry.Target
	Windows    map[telemetry.ItemID]telemetry.ProbeWindow
}

// Hub is the state of all agents and the list of who listens.
type Hub struct {
	mu      sync.Mutex
	agents  map[telemetry.AgentID]*Agent // guarded by mu
	subs    map[*Subscription]struct{}   // guarded by mu
	refused uint64                       // items not taken for want of room; guarded by mu
}

// New returns an empty Hub.
func New() *Hub {
	return &Hub{agents: map[telemetry.AgentID]*Agent{}, subs: map[*Subscription]struct{}{}}
}

// Deliver takes the rows of one delivery. Rows older than what is held are passed
// over: back-filled data belongs to the charts, not to the present. Listeners hear
// of the windows and, when anything else came, that the site changed.
func (h *Hub) Deliver(src telemetry.Source, set *telemetry.Set, received time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := h.agent(src)
	if a == nil {
		h.refused++
		return
	}
	if received.After(a.Received) {
		a.Received = received
	}
	windows := h.takeWindows(a, set)
	changed := h.takePBX(a, set)
	h.publish(src, windows, changed)
}

// Touch tells listeners that something about the site changed elsewhere: presence of
// an agent, an incident.
func (h *Hub) Touch(src telemetry.Source) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.publish(src, nil, true)
}

// Agent returns a copy of the state around one agent.
func (h *Hub) Agent(id telemetry.AgentID) (Agent, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a, ok := h.agents[id]
	if !ok {
		return Agent{}, false
	}
	c := *a
	c.Trunks = maps.Clone(a.Trunks)
	c.SBCs = maps.Clone(a.SBCs)
	c.Services = maps.Clone(a.Services)
	c.Targets = maps.Clone(a.Targets)
	c.Windows = maps.Clone(a.Windows)
	return c, true
}

// Refused counts rows that found no room.
func (h *Hub) Refused() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.refused
}

// agent finds or makes the entry; nil when there are too many.
func (h *Hub) agent(src telemetry.Source) *Agent {
	if a, ok := h.agents[src.Agent]; ok {
		a.Source = src
		return a
	}
	if len(h.agents) >= maxAgents {
		return nil
	}
	a := &Agent{
		Source:   src,
		Trunks:   map[telemetry.ItemID]Dated[telemetry.Trunk]{},
		SBCs:     map[telemetry.ItemID]Dated[telemetry.SBC]{},
		Services: map[telemetry.ItemID]Dated[telemetry.Service]{},
		Targets:  map[telemetry.ItemID]telemetry.Target{},
		Windows:  map[telemetry.ItemID]telemetry.ProbeWindow{},
	}
	h.agents[src.Agent] = a
	return a
}

func (h *Hub) takeWindows(a *Agent, set *telemetry.Set) []telemetry.ProbeWindow {
	for _, t := range set.Targets {
		if put(a.Targets, t.ID, t) {
			continue
		}
		h.refused++
	}
	var fresh []telemetry.ProbeWindow
	for i := range set.ProbeWindows {
		w := &set.ProbeWindows[i]
		if old, ok := a.Windows[w.Target]; ok && old.Observed >= w.Observed {
			continue
		}
		if !put(a.Windows, w.Target, *w) {
			h.refused++
			continue
		}
		fresh = append(fresh, *w)
	}
	return fresh
}

// takePBX takes everything that is not a probe window and reports whether the
// picture changed.
func (h *Hub) takePBX(a *Agent, set *telemetry.Set) bool {
	changed := false
	for i := range set.PBXStatuses {
		s := &set.PBXStatuses[i]
		if newer(a.Status, s, func(x *telemetry.PBXStatus) telemetry.UnixMS { return x.Observed }) {
			a.Status, changed = s, true
			if s.State == telemetry.PBXOK {
				a.LastOK = s
			}
		}
	}
	for _, t := range set.Trunks {
		same := func(o telemetry.Trunk) bool { return o.Registered == t.Registered }
		changed = h.item(putDated(a.Trunks, t.ID, t, t.Observed, a.Trunks[t.ID].Value.Observed, same)) || changed
	}
	for _, s := range set.SBCs {
		same := func(o telemetry.SBC) bool { return o.Connected == s.Connected }
		changed = h.item(putDated(a.SBCs, s.ID, s, s.Observed, a.SBCs[s.ID].Value.Observed, same)) || changed
	}
	for _, s := range set.Services {
		same := func(o telemetry.Service) bool { return o.Status == s.Status }
		changed = h.item(putDated(a.Services, s.ID, s, s.Observed, a.Services[s.ID].Value.Observed, same)) || changed
	}
	changed = latest(&a.Extensions, set.Extensions, func(x *telemetry.ExtensionSummary) telemetry.UnixMS { return x.Observed }) || changed
	changed = latest(&a.Backup, set.Backups, func(x *telemetry.Backup) telemetry.UnixMS { return x.Observed }) || changed
	changed = latest(&a.Licence, set.Licences, func(x *telemetry.Licence) telemetry.UnixMS { return x.Observed }) || changed
	changed = latest(&a.Health, set.AgentHealth, func(x *telemetry.AgentHealth) telemetry.UnixMS { return x.Observed }) || changed
	for _, c := range set.StateChanges {
		changed = true
		if c.To == "removed" {
			delete(a.Trunks, c.Item)
			delete(a.SBCs, c.Item)
			delete(a.Services, c.Item)
		}
	}
	return changed
}

// outcome of putting an item.
type outcome int

const (
	kept    outcome = iota // what was there is newer
	taken                  // the new one stands
	refused                // no room
)

func (h *Hub) item(o outcome) bool {
	if o == refused {
		h.refused++
	}
	return o == taken
}

// putDated stores v; while same holds for the old value, its Since stays.
func putDated[T any](m map[telemetry.ItemID]Dated[T], id telemetry.ItemID, v T, at, oldAt telemetry.UnixMS, same func(T) bool) outcome {
	old, ok := m[id]
	switch {
	case ok && oldAt >= at:
		return kept
	case ok && same(old.Value):
		m[id] = Dated[T]{Value: v, Since: old.Since}
		return taken
	case !ok && len(m) >= maxItemsPerAgent:
		return refused
	default:
		m[id] = Dated[T]{Value: v, Since: at}
		return taken
	}
}

func put[T any](m map[telemetry.ItemID]T, id telemetry.ItemID, v T) bool {
	if _, ok := m[id]; !ok && len(m) >= maxItemsPerAgent {
		return false
	}
	m[id] = v
	return true
}

func newer[T any](old, now *T, at func(*T) telemetry.UnixMS) bool {
	return old == nil || at(now) > at(old)
}

func latest[T any](dst **T, rows []T, at func(*T) telemetry.UnixMS) bool {
	changed := false
	for i := range rows {
		if newer(*dst, &rows[i], at) {
			*dst, changed = &rows[i], true
		}
	}
	return changed
}
