package telemetrydb_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sidetone/collector/internal/telemetrydb"
	"sidetone/shared/telemetry"
)

func TestRetention(t *testing.T) {
	db := open(t)
	ttls := func() string {
		return one(t, db, "SELECT groupUniqArray(extract(create_table_query, 'TTL .*toIntervalDay\\\\((\\\\d+)\\\\)')) FROM system.tables WHERE database = 'sidetone' AND name IN ('probe_window_raw', 'agent_health_raw')")
	}
	alters := func() string {
		return one(t, db, "SELECT count() FROM system.mutations WHERE database = 'sidetone' AND command LIKE '%TTL%'")
	}
	now := time.Now()
	store := func(tenant telemetry.TenantID, days int) {
		at := now.Add(-time.Duration(days) * 24 * time.Hour)
		b := telemetrydb.NewBlocks(telemetrydb.NewKnown())
		b.Add(telemetry.Source{Tenant: tenant, Agent: telemetry.AgentID(tenant)}, 1, uint64(days), at, &telemetry.Set{
			ProbeWindows: []telemetry.ProbeWindow{{Target: 1, Observed: telemetry.MS(at)}},
			StateChanges: []telemetry.StateChange{{Subject: "x", Observed: telemetry.MS(at)}},
		})
		insert(t, db, b, fmt.Sprint(tenant, days))
	}
	windows := func() string {
		return one(t, db, "SELECT arrayStringConcat(groupArray(concat(toString(tenant_id), ':', toString(seq))), ' ') FROM (SELECT tenant_id, seq FROM sidetone.probe_window ORDER BY tenant_id, seq)")
	}
	if err := db.ApplyRetention(t.Context(), telemetrydb.Kept{}); err != nil {
		t.Fatal(err)
	}
	if ttls() != "['30']" || alters() != "0" {
		t.Fatalf("the defaults are not what the migrations have: %s, %s changes", ttls(), alters())
	}
	kept := telemetrydb.Kept{All: telemetrydb.Retention{RawDays: 10}, Tenants: map[telemetry.TenantID]telemetrydb.Retention{2: {RawDays: 20}, 3: {RawDays: 5}}}
	if got := kept.RawDays(); got != 5 {
		t.Errorf("shortest time of readings: %d days", got)
	}
	for range 2 {
		if err := db.ApplyRetention(t.Context(), kept); err != nil {
			t.Fatal(err)
		}
	}
	if ttls() != "['20']" {
		t.Errorf("TTL is not the longest of any tenant: %s", ttls())
	}
	for tenant := range telemetry.TenantID(3) {
		for _, days := range []int{1, 4, 7, 15, 19} {
			store(tenant+1, days)
		}
	}
	for range 2 {
		if err := db.Expire(t.Context(), kept); err != nil {
			t.Fatal(err)
		}
		if got, want := windows(), "1:1 1:4 1:7 2:1 2:4 2:7 2:15 2:19 3:1 3:4"; got != want {
			t.Errorf("left: %s, want %s", got, want)
		}
	}
	if got := one(t, db, "SELECT count() FROM sidetone.state_change"); got != "15" {
		t.Errorf("%s of 15 state changes left", got)
	}
	// back to one time for all, and the TTL takes what it says
	if err := db.ApplyRetention(t.Context(), telemetrydb.Kept{All: telemetrydb.Retention{RawDays: 10}}); err != nil {
		t.Fatal(err)
	}
	if ttls() != "['10']" {
		t.Errorf("TTL: %s", ttls())
	}
	if err := db.Exec(t.Context(), "OPTIMIZE TABLE sidetone.probe_window_raw FINAL"); err != nil {
		t.Fatal(err)
	}
	if got, want := windows(), "1:1 1:4 1:7 2:1 2:4 2:7 3:1 3:4"; got != want {
		t.Errorf("left by the TTL: %s, want %s", got, want)
	}
}

func TestRetentionValidate(t *testing.T) {
	if err := (telemetrydb.Retention{}).Validate(); err != nil {
		t.Error(err)
	}
	if err := (telemetrydb.Retention{RawDays: 2, MinuteDays: 3660, LedgerDays: 33}).Validate(); err != nil {
		t.Error(err)
	}
	errs := telemetrydb.Retention{RawDays: 1, HourDays: -5, IncidentDays: 4000, LedgerDays: 32}.Validate()
	if len(errs) != 4 || !strings.HasPrefix(errs[0].Error(), "raw_days: ") {
		t.Errorf("%v", errs)
	}
}
