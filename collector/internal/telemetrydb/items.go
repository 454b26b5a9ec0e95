package telemetrydb

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"sidetone/shared/telemetry"
)

// Limits of what Known remembers.
const (
	maxKnown   = 200_000
	knownFresh = 6 * time.Hour // then a name is written again, with a new seen_at
)

// Known remembers which names are in the database, so that they are not written with
// every window. Forgetting costs a few rows, nothing else. It is safe for concurrent use.
type Known struct {
	mu    sync.Mutex
	items map[itemKey]knownItem // guarded by mu
}

type itemKey struct {
	tenant telemetry.TenantID
	agent  telemetry.AgentID
	item   telemetry.ItemID
}

type knownItem struct {
	hash uint64
	at   int64 // Unix ms
}

// NewKnown remembers nothing yet.
func NewKnown() *Known { return &Known{items: map[itemKey]knownItem{}} }

func (k *Known) has(key itemKey, hash uint64, now int64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	e, ok := k.items[key]
	return ok && e.hash == hash && now-e.at < knownFresh.Milliseconds()
}

func (k *Known) put(keys map[itemKey]knownItem) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.items)+len(keys) > maxKnown {
		clear(k.items)
	}
	for key, e := range keys {
		if len(k.items) < maxKnown {
			k.items[key] = e
		}
	}
}

// itemRow is a row of item_raw.
type itemRow struct {
	kind, name, address, method, number, variety, template string
	intervalMS                                             uint32
}

func (r *itemRow) hash() uint64 {
	h := fnv.New64a()
	for _, s := range []string{r.kind, r.name, r.address, r.method, r.number, r.variety, r.template} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	h.Write(binary.LittleEndian.AppendUint32(nil, r.intervalMS))
	return h.Sum64()
}

type pendingItem struct {
	origin *origin
	row    itemRow
}

// itemBuilder gathers names: from Targets, and from the rows that bring their own.
type itemBuilder struct {
	known *Known
	seen  map[itemKey]knownItem
	rows  map[itemKey]pendingItem
}

func newItemBuilder(known *Known) *itemBuilder {
	return &itemBuilder{known: known, seen: map[itemKey]knownItem{}, rows: map[itemKey]pendingItem{}}
}

func (b *itemBuilder) add(o *origin, set *telemetry.Set) {
	for i := range set.Targets {
		t := &set.Targets[i]
		b.put(o, t.ID, itemRow{kind: telemetry.SubjectTarget, name: t.Name, address: t.Address, method: string(t.Method), intervalMS: t.IntervalMS})
	}
	for i := range set.Trunks {
		t := &set.Trunks[i]
		b.put(o, t.ID, itemRow{kind: telemetry.SubjectTrunk, name: t.Name, address: t.Host, number: t.Number, variety: t.Kind, template: t.Template})
	}
	for i := range set.SBCs {
		b.put(o, set.SBCs[i].ID, itemRow{kind: telemetry.SubjectSBC, name: set.SBCs[i].Name})
	}
	for i := range set.Services {
		s := &set.Services[i]
		b.put(o, s.ID, itemRow{kind: telemetry.SubjectService, name: s.Name, address: s.Title})
	}
}

func (b *itemBuilder) put(o *origin, id telemetry.ItemID, row itemRow) {
	key := itemKey{o.Tenant, o.Agent, id}
	e := knownItem{row.hash(), o.received}
	if had, ok := b.seen[key]; ok && had.hash == e.hash {
		return
	}
	if b.known.has(key, e.hash, o.received) {
		return
	}
	b.seen[key] = e
	b.rows[key] = pendingItem{o, row}
}

func (b *itemBuilder) stored() { b.known.put(b.seen) }

func (b *itemBuilder) block() *Block {
	if len(b.rows) == 0 {
		return nil
	}
	keys := make([]itemKey, 0, len(b.rows))
	for k := range b.rows {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, cmpKeys) // the same rows give the same block
	var tenant, customer, site, agent, interval []uint32
	var id []uint64
	var text [7][]string
	var seen []int64
	salt := sha256.New()
	for _, k := range keys {
		p := b.rows[k]
		tenant = append(tenant, uint32(p.origin.Tenant))
		customer = append(customer, uint32(p.origin.Customer))
		site = append(site, uint32(p.origin.Site))
		agent = append(agent, uint32(k.agent))
		id = append(id, uint64(k.item))
		r := &p.row
		for i, s := range []string{r.kind, r.name, r.address, r.method, r.number, r.variety, r.template} {
			text[i] = append(text[i], s)
		}
		interval = append(interval, r.intervalMS)
		seen = append(seen, p.origin.received)
		binary.Write(salt, binary.LittleEndian, []uint64{uint64(k.item), r.hash(), uint64(p.origin.received)})
	}
	const lc = "LowCardinality(String)"
	return &Block{Table: "item_raw", Rows: len(keys), Salt: hex.EncodeToString(salt.Sum(nil)), Columns: []Column{
		{"tenant_id", "UInt32", tenant}, {"customer_id", "UInt32", customer}, {"site_id", "UInt32", site},
		{"agent_id", "UInt32", agent}, {"item_id", "UInt64", id},
		{"kind", lc, text[0]}, {"name", "String", text[1]}, {"address", "String", text[2]}, {"method", lc, text[3]},
		{"number", "String", text[4]}, {"variety", lc, text[5]}, {"template", lc, text[6]},
		{"interval_ms", "UInt32", interval}, {"seen_at", instantType, seen},
	}}
}

func cmpKeys(x, y itemKey) int {
	if c := cmp.Compare(x.tenant, y.tenant); c != 0 {
		return c
	}
	if c := cmp.Compare(x.agent, y.agent); c != 0 {
		return c
	}
	return cmp.Compare(x.item, y.item)
}
