package collectord

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/chengine/enginetest"
	"sidetone/collector/internal/config"
	"sidetone/collector/internal/ingest"
	"sidetone/collector/internal/live"
	"sidetone/collector/internal/telemetrydb"
	"sidetone/shared/backoff"
	"sidetone/shared/telemetry"
)

// overEngine is a daemon whose ClickHouse is the engine of a test.
func overEngine(t *testing.T, cfg config.Config, socket string) *Daemon {
	t.Helper()
	d, err := Open(t.Context(), cfg, Options{Log: zerolog.Nop(), Out: &output{}})
	if err != nil {
		t.Fatal(err)
	}
	d.telemetry.Close()
	if d.telemetry, err = telemetrydb.Open(t.Context(), telemetrydb.Config{Socket: socket}); err != nil {
		t.Fatal(err)
	}
	return d
}

// query gives the answer of a statement as text.
func query(t *testing.T, db *telemetrydb.DB, sql string) string {
	t.Helper()
	r, err := db.Query(t.Context(), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	defer r.Close()
	var b bytes.Buffer
	if err := telemetrydb.WriteResult(&b, "TSV", r); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return strings.TrimSpace(b.String())
}

// until asks until the answer is the wanted one.
func until(t *testing.T, db *telemetrydb.DB, sql, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for {
		got := query(t, db, sql)
		if got == want {
			return
		}
		if backoff.Sleep(ctx, 50*time.Millisecond) != nil {
			t.Fatalf("%s\ngave at last %q, not %q", sql, got, want)
		}
	}
}

// run starts some of the daemon's parts; the function returned stops them.
func run(t *testing.T, parts ...func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, len(parts))
	for _, p := range parts {
		go func() { done <- p(ctx) }()
	}
	return func() {
		cancel()
		for range parts {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
}

// TestCopiesAndSeed holds that names and incidents reach ClickHouse, and that the live
// state is there again after a restart.
func TestCopiesAndSeed(t *testing.T) {
	sup, _ := enginetest.Start(t, t.TempDir())
	cfg := freshConfig(t)
	d := overEngine(t, cfg, sup.Socket())
	src := (&started{Daemon: d, t: t}).admit()
	stop := run(t, d.runMigrate, d.runMirror, d.runHistory, d.runJudge)
	<-d.migrated.ch
	if s := d.storage(); !s.OK {
		t.Errorf("storage: %+v", s)
	}
	now := time.Now()
	set := &telemetry.Set{
		Trunks:      []telemetry.Trunk{{Observed: telemetry.MS(now), ID: 5, Number: "10001", Name: "Carrier", Kind: "provider", RegistrationNeeded: true}},
		PBXStatuses: []telemetry.PBXStatus{{Observed: telemetry.MS(now), State: telemetry.PBXOK, FQDN: "pbx.example.com", Version: "20.1"}},
	}
	blocks := telemetrydb.NewBlocks(telemetrydb.NewKnown())
	blocks.Add(src, 1, 1, now, set)
	for _, b := range blocks.Blocks() {
		if err := d.telemetry.InsertBlock(t.Context(), b, "t"+b.Table+b.Salt); err != nil {
			t.Fatal(err)
		}
	}
	observer{d}.Delivered(&ingest.Delivery{Source: src, ReceivedAt: now, Rows: set})
	until(t, d.telemetry, "SELECT rule, state FROM sidetone.incident FINAL", "trunk-unregistered\topen")
	until(t, d.telemetry, "SELECT tenant, site, pbx_fqdn FROM sidetone.agent FINAL", "T\tS\tpbx.example.com")
	stop()
	d.close()

	d = overEngine(t, cfg, sup.Socket())
	defer d.close()
	sub := d.live.Subscribe(authz.System(), 0)
	defer sub.Close()
	stop = run(t, d.runMigrate)
	defer stop()
	var la live.Agent
	select {
	case <-sub.Events():
		la, _ = d.live.Agent(src.Agent)
	case <-time.After(60 * time.Second):
		t.Fatal("nothing was seeded")
	}
	if len(la.Trunks) != 1 || la.Trunks[5].Value.Name != "Carrier" || la.Status == nil || la.Status.FQDN != "pbx.example.com" {
		t.Errorf("seeded: %+v", la)
	}
	if time.Since(la.Received) < time.Since(now)-time.Second {
		t.Errorf("received %s, which is after it was", la.Received)
	}
}

func TestRunSQL(t *testing.T) {
	cfg := freshConfig(t)
	var b bytes.Buffer
	t.Run("engine that serves already", func(t *testing.T) {
		sup, _ := enginetest.Start(t, t.TempDir())
		cfg := cfg
		cfg.ClickHouse = config.DefaultClickHouse
		if err := os.Symlink(sup.Socket(), engineSocket(cfg)); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := RunSQL(t.Context(), cfg, "/none", "SELECT 6*7", "TSV", &b); err != nil || strings.TrimSpace(b.String()) != "42" {
			t.Errorf("%q, %v", b.String(), err)
		}
		if err := RunSQL(t.Context(), cfg, "/none", "SELECT nothing", "TSV", &b); err == nil {
			t.Error("a wrong statement has no error")
		}
	})
	if err := RunSQL(t.Context(), cfg, "", "SELECT 1", "TSV", &b); err == nil {
		t.Errorf("a server that does not answer gave %q", b.String())
	}
	cfg.ClickHouse, cfg.DataDir = config.DefaultClickHouse, cfg.DataDir+"/none"
	if err := RunSQL(t.Context(), cfg, "", "SELECT 1", "TSV", &b); err == nil || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("no data directory: %v", err)
	}
}
