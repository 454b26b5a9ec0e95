package telemetrydb

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"sidetone/collector/internal/chengine/enginetest"
	"sidetone/shared/telemetry"
)

func openSchema(t *testing.T) *DB {
	t.Helper()
	s, _ := enginetest.Start(t, t.TempDir())
	db, err := Open(t.Context(), Config{Socket: s.Socket()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Migrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return db
}

// everyKind has one empty row of each kind.
func everyKind() *telemetry.Set {
	return &telemetry.Set{
		Targets: make([]telemetry.Target, 1), ProbeWindows: make([]telemetry.ProbeWindow, 1), PBXStatuses: make([]telemetry.PBXStatus, 1),
		Trunks: make([]telemetry.Trunk, 1), SBCs: make([]telemetry.SBC, 1), Services: make([]telemetry.Service, 1),
		Extensions: make([]telemetry.ExtensionSummary, 1), Backups: make([]telemetry.Backup, 1), Licences: make([]telemetry.Licence, 1),
		EventLog: make([]telemetry.EventLogEntry, 1), StateChanges: make([]telemetry.StateChange, 1), AgentHealth: make([]telemetry.AgentHealth, 1),
		LinkEvents: make([]telemetry.LinkEvent, 1), Gaps: make([]telemetry.Gap, 1),
	}
}

// TestSchema holds the tables in the database against the columns that blocks have,
// and against what the design asks of every table.
func TestSchema(t *testing.T) {
	db := openSchema(t)
	b := NewBlocks(NewKnown())
	b.Add(telemetry.Source{}, 0, 0, time.Now(), everyKind())
	if got := len(b.Blocks()); got != 14 {
		t.Fatalf("%d blocks for 13 kinds of rows and their names", got)
	}
	for _, blk := range append(b.Blocks(), FrameBlock(make([]Frame, 1))) {
		want := map[string]string{}
		rows, err := db.conn.Query(t.Context(), "SELECT name, type, default_kind, comment FROM system.columns WHERE database = 'sidetone' AND table = '"+blk.Table+"'")
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var name, typ, kind, comment string
			if err := rows.Scan(&name, &typ, &kind, &comment); err != nil {
				t.Fatal(err)
			}
			if comment == "" {
				t.Errorf("%s.%s has no comment", blk.Table, name)
			}
			if kind != "MATERIALIZED" {
				want[name] = typ
			}
		}
		rows.Close()
		for _, c := range blk.Columns {
			if want[c.Name] != c.Type {
				t.Errorf("%s.%s: the block has %s, the table %q", blk.Table, c.Name, c.Type, want[c.Name])
			}
			delete(want, c.Name)
		}
		if len(want) > 0 {
			t.Errorf("%s: the block lacks %v", blk.Table, want)
		}
	}
	rows, err := db.conn.Query(t.Context(), "SELECT name, engine_full, sorting_key FROM system.tables WHERE database = 'sidetone' AND engine LIKE '%MergeTree' AND name NOT IN ('schema_migration', 'rollup_state')")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		var name, engine, key string
		if err := rows.Scan(&name, &engine, &key); err != nil {
			t.Fatal(err)
		}
		n++
		rolled := strings.HasSuffix(name, "_minute_raw") || strings.HasSuffix(name, "_hour_raw")
		if rolled && !strings.HasSuffix(key, "start") {
			t.Errorf("%s: the interval does not end its key: %s", name, key)
		}
		for _, part := range []string{"ReplacingMergeTree", "fsync_after_insert = 1", "fsync_part_directory = 1", "non_replicated_deduplication_window"} {
			if !strings.Contains(engine, part) {
				t.Errorf("%s is made without %s: %s", name, part, engine)
			}
		}
		if name != "agent_dim" && !strings.HasPrefix(key, "tenant_id") {
			t.Errorf("%s is not sorted by tenant first: %s", name, key)
		}
		if strings.HasSuffix(name, "_raw") && name != "item_raw" && name != "incident_raw" && name != FrameTable && !rolled && !strings.HasSuffix(key, "observed, epoch, seq, idx") {
			t.Errorf("%s: the identity of a row does not end its key: %s", name, key)
		}
	}
	if n != 22 {
		t.Errorf("%d tables", n)
	}
}

func TestMigrateRefusesANewerDatabase(t *testing.T) {
	db := openSchema(t)
	if err := db.InsertBlock(t.Context(), &Block{Table: "schema_migration", Rows: 1, Columns: []Column{
		{"version", "UInt32", []uint32{99}}, {"name", "String", []string{"0099_future.sql"}}, {"checksum", "String", []string{"x"}}}}, ""); err != nil {
		t.Fatal(err)
	}
	if err := db.Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), "newer program") {
		t.Errorf("got %v", err)
	}
}

// TestKnown: a name is written once, again when it changes, again after hours, and not
// forgotten when its insert failed.
func TestKnown(t *testing.T) {
	known := NewKnown()
	src := telemetry.Source{Tenant: 1, Agent: 2}
	now := time.Now()
	names := func(at time.Time, name string, store bool) (out []string) {
		b := NewBlocks(known)
		for range 2 {
			b.Add(src, 1, 1, at, &telemetry.Set{Targets: []telemetry.Target{{ID: 5, Name: name}}})
		}
		for _, blk := range b.Blocks() {
			for _, c := range blk.Columns {
				if c.Name == "name" {
					out = append(out, c.Values.([]string)...)
				}
			}
		}
		if store {
			b.Stored()
		}
		return out
	}
	for _, step := range []struct {
		what  string
		at    time.Time
		name  string
		store bool
		want  []string
	}{
		{"new, insert fails", now, "a", false, []string{"a"}},
		{"new, stored", now, "a", true, []string{"a"}},
		{"known", now.Add(time.Hour), "a", true, nil},
		{"changed", now.Add(time.Hour), "b", true, []string{"b"}},
		{"old", now.Add(8 * time.Hour), "b", true, []string{"b"}},
	} {
		if got := names(step.at, step.name, step.store); !slices.Equal(got, step.want) {
			t.Errorf("%s: %v, want %v", step.what, got, step.want)
		}
	}
	full := NewKnown()
	for i := range telemetry.ItemID(maxKnown + 10) {
		full.put(map[itemKey]knownItem{{item: i}: {}})
	}
	if len(full.items) > maxKnown {
		t.Errorf("remembers %d names", len(full.items))
	}
}
