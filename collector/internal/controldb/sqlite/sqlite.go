// Package sqlite opens the control store as one SQLite file (modernc, no cgo).
package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"sidetone/collector/internal/controldb"
)

// Open opens or creates the file at path: write-ahead log, full sync, foreign keys on,
// writers wait for each other instead of failing. Call Migrate before use.
func Open(path string) (*controldb.DB, error) {
	if err := private(path); err != nil {
		return nil, fmt.Errorf("open control store %s: %w", path, err)
	}
	q := url.Values{}
	for _, p := range []string{"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"} {
		q.Add("_pragma", p)
	}
	q.Set("_txlock", "immediate")
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return nil, fmt.Errorf("open control store %s: %w", path, err)
	}
	db.SetMaxOpenConns(4)
	if err := db.Ping(); err != nil {
		db.Close()
		return nil, fmt.Errorf("open control store %s: %w", path, err)
	}
	return controldb.New(db, controldb.Dialect{
		Name:     "sqlite",
		IDColumn: "INTEGER PRIMARY KEY AUTOINCREMENT",
		BlobType: "BLOB",
		IsUnique: isUnique,
	}), nil
}

// private creates the file or takes it from other users: hashes of passwords and
// tokens lie in it. SQLite gives its side files (-wal, -shm) the same mode.
func private(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o600), f.Close())
}

func isUnique(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) &&
		(e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || e.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
}
