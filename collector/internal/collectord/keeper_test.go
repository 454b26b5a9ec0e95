package collectord

import (
	"testing"
	"time"

	"sidetone/collector/internal/chengine/enginetest"
	"sidetone/collector/internal/config"
	"sidetone/collector/internal/telemetrydb"
	"sidetone/shared/telemetry"
)

// TestKeeper holds that a running collector rolls up, and keeps what it is told to keep.
func TestKeeper(t *testing.T) {
	sup, _ := enginetest.Start(t, t.TempDir())
	cfg := freshConfig(t)
	cfg.Retention = telemetrydb.Retention{RawDays: 20}
	cfg.Tenants = []config.Tenant{{Name: "T", Retention: telemetrydb.Retention{RawDays: 10}}, {Name: "not there yet", Retention: telemetrydb.Retention{RawDays: 50}}}
	d := overEngine(t, cfg, sup.Socket())
	defer d.close()
	src := (&started{Daemon: d, t: t}).admit()
	if err := d.telemetry.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	put := func(b *telemetrydb.Block) {
		t.Helper()
		if err := d.telemetry.InsertBlock(t.Context(), b, "t"+b.Table+b.Salt); err != nil {
			t.Fatal(err)
		}
	}
	blocks := telemetrydb.NewBlocks(telemetrydb.NewKnown())
	for i, age := range []time.Duration{30 * time.Minute, 15 * 24 * time.Hour} {
		at := now.Add(-age)
		blocks.Add(src, 1, uint64(i), at, &telemetry.Set{ProbeWindows: []telemetry.ProbeWindow{{Target: 1, Observed: telemetry.MS(at), Sent: 5, Received: 5, RTTUS: []uint32{1, 2, 3, 4, 5}}}})
	}
	for _, b := range blocks.Blocks() {
		put(b)
	}
	put(&telemetrydb.Block{Table: "rollup_state", Rows: 1, Columns: []telemetrydb.Column{
		{Name: "job", Type: "LowCardinality(String)", Values: []string{"rollup"}}, {Name: "since", Type: "DateTime64(3, 'UTC')", Values: []int64{now.Add(-time.Hour).UnixMilli()}},
		{Name: "done_to", Type: "DateTime64(3, 'UTC')", Values: []int64{now.Add(-time.Hour).UnixMilli()}}}})
	stop := run(t, d.runMigrate, d.runKeeper)
	until(t, d.telemetry, "SELECT count(), sum(sent) FROM sidetone.probe_minute", "1\t5")
	until(t, d.telemetry, "SELECT extract(create_table_query, 'TTL .*toIntervalDay\\\\((\\\\d+)\\\\)') FROM system.tables WHERE database = 'sidetone' AND name = 'probe_window_raw'", "20")
	until(t, d.telemetry, "SELECT count() FROM sidetone.probe_window", "1")
	stop()
}
