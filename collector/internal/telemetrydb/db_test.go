package telemetrydb_test

import (
	"context"
	"testing"

	"go.uber.org/goleak"

	"sidetone/collector/internal/chengine/enginetest"
	"sidetone/collector/internal/telemetrydb"
)

func TestMain(m *testing.M) {
	enginetest.Child()
	goleak.VerifyTestMain(m)
}

// open gives a migrated database on a fresh embedded engine.
func open(t testing.TB) *telemetrydb.DB {
	t.Helper()
	s, _ := enginetest.Start(t, t.TempDir())
	db, err := telemetrydb.Open(context.Background(), telemetrydb.Config{Socket: s.Socket()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}

func TestMigrate(t *testing.T) {
	db := open(t)
	if err := db.Migrate(t.Context()); err != nil {
		t.Errorf("a second time: %v", err)
	}
}
