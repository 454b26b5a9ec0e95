package collectord

import (
	"context"
	"sync"
	"time"

	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/inventory"
	"sidetone/collector/internal/telemetrydb"
	"sidetone/shared/backoff"
	"sidetone/shared/telemetry"
)

// mirrorAtLeast is how often names are copied to ClickHouse although nothing is known
// to have changed: another process (token create) may have changed them.
const mirrorAtLeast = 5 * time.Minute

// mirror copies the names of the tree to ClickHouse, whose views join them, and keeps
// what the judge needs of them at hand.
type mirror struct {
	inventory *inventory.Inventory
	dirty     chan struct{}

	mu    sync.Mutex
	names map[telemetry.AgentID]string    // guarded by mu
	facts map[telemetry.AgentID][2]string // FQDN and version of the PBX; guarded by mu
}

func newMirror(inv *inventory.Inventory) *mirror {
	return &mirror{
		inventory: inv, dirty: make(chan struct{}, 1),
		names: map[telemetry.AgentID]string{}, facts: map[telemetry.AgentID][2]string{},
	}
}

// touch asks for a copy soon.
func (m *mirror) touch() {
	select {
	case m.dirty <- struct{}{}:
	default:
	}
}

func (m *mirror) hostname(id telemetry.AgentID) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.names[id]
}

// newPBXFacts reports whether they differ from those of the last call.
func (m *mirror) newPBXFacts(id telemetry.AgentID, fqdn, version string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := [2]string{fqdn, version}
	if m.facts[id] == now {
		return false
	}
	m.facts[id] = now
	return true
}

// load reads the tree and remembers the names.
func (m *mirror) load(ctx context.Context) ([]telemetrydb.AgentDim, error) {
	paths, err := m.inventory.Dimensions(ctx, authz.System())
	if err != nil {
		return nil, err
	}
	dims := make([]telemetrydb.AgentDim, 0, len(paths))
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range paths {
		name := p.Hostname
		if name == "" {
			name = p.PBX
		}
		m.names[p.Source.Agent] = name
		dims = append(dims, telemetrydb.AgentDim{
			Source: p.Source, Tenant: p.Tenant, Customer: p.Customer, Site: p.Site, PBX: p.PBX, PBXFQDN: p.PBXFQDN,
			Hostname: p.Hostname, OS: p.OS, Arch: p.Arch, Version: p.AgentVersion,
		})
	}
	return dims, nil
}

// runMirror copies at every touch, at least every mirrorAtLeast, and again after a
// failure.
func (d *Daemon) runMirror(ctx context.Context) error {
	retry := backoff.Backoff{Min: time.Second, Max: time.Minute}
	wait := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.mirror.dirty:
			// gather a burst of arrivals into one copy
			if backoff.Sleep(ctx, 200*time.Millisecond) != nil {
				return nil
			}
		case <-time.After(wait):
		}
		wait = mirrorAtLeast
		dims, err := d.mirror.load(ctx)
		if err == nil {
			err = d.knowFleet(ctx)
		}
		if err == nil && d.migrated.isSet() {
			err = d.telemetry.PutAgents(ctx, dims)
		}
		if err != nil && ctx.Err() == nil {
			d.log.Warn().Err(err).Msg("copy names to ClickHouse")
			wait = retry.Next()
			continue
		}
		retry.Reset()
	}
}
