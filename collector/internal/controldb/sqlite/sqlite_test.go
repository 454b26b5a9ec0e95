package sqlite_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/controldb"
	"sidetone/collector/internal/controldb/controldbtest"
	"sidetone/collector/internal/controldb/sqlite"
)

func open(t *testing.T, path string) *controldb.DB {
	t.Helper()
	db, err := sqlite.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func migrated(t *testing.T, path string) *controldb.DB {
	t.Helper()
	db := open(t, path)
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}

func TestContract(t *testing.T) {
	controldbtest.Run(t, func(t *testing.T) *controldb.DB {
		return migrated(t, filepath.Join(t.TempDir(), "control.db"))
	})
}

// Paths with characters that mean something in a URI must still be paths.
func TestStrangePath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b?c#d%41")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	migrated(t, filepath.Join(dir, "control.db"))
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		t.Errorf("the database lies elsewhere: %v, %v", entries, err)
	}
}

func TestModeOfFiles(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes mean nothing on Windows")
	}
	path := filepath.Join(t.TempDir(), "control.db")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	migrated(t, path)
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) < 2 {
		t.Fatalf("files %v, %v: expected the database and its log", files, err)
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %04o, want 0600", filepath.Base(f), info.Mode().Perm())
		}
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.db")
	db := migrated(t, path)
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatalf("a second migration: %v", err)
	}
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Exec(`INSERT INTO schema_migration (name, applied_ms) VALUES ('migrations/9999_future.sql', 1)`); err != nil {
		t.Fatal(err)
	}
	var newer *controldb.NewerSchemaError
	if err := db.Migrate(t.Context()); !errors.As(err, &newer) || newer.Migration != "migrations/9999_future.sql" {
		t.Errorf("a newer schema was accepted: %v", err)
	}
}

// `serve` and `token create` may start at the same moment on a fresh directory.
func TestMigrateTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.db")
	var wg sync.WaitGroup
	for range 4 {
		db := open(t, path)
		wg.Go(func() {
			if err := db.Migrate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := open(t, path).Places(t.Context(), authz.System()); err != nil {
		t.Error(err)
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	if _, err := sqlite.Open(filepath.Join(t.TempDir(), "missing", "control.db")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	path := filepath.Join(t.TempDir(), "control.db")
	if err := os.WriteFile(path, []byte("this is not a database, whatever its name says"), 0o600); err != nil {
		t.Fatal(err)
	}
	if db, err := sqlite.Open(path); err == nil {
		db.Close()
		t.Error("a text file was opened as a control store")
	}
}
