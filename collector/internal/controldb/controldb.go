// Package controldb is the control store: it keeps the records that other parts
// own (tree, agents, tokens, users, incidents, outbox) in a relational database
// with constraints. Each part declares the store it needs in its own types; the
// methods here implement those interfaces, one file a part. SQL is written so
// that SQLite and PostgreSQL run the same text: $1 placeholders, RETURNING,
// times as integer milliseconds, {{id}} for an identity column.
package controldb

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"sidetone/collector/internal/authz"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Dialect is what differs between the databases.
type Dialect struct {
	Name string
	// IDColumn replaces {{id}} in migrations, BlobType replaces {{blob}}.
	IDColumn string
	BlobType string
	// IsUnique tells whether an error is a violated unique constraint.
	IsUnique func(error) bool
}

// DB is an open control store.
type DB struct {
	sql     *sql.DB
	dialect Dialect
}

// New wraps an open database; the child packages call it.
func New(db *sql.DB, d Dialect) *DB { return &DB{sql: db, dialect: d} }

// Close closes the database.
func (d *DB) Close() error { return d.sql.Close() }

// Migrate brings the schema up to this program's version. Each migration is one
// transaction. A schema newer than the program is refused. Two programs may start
// at once: the name is claimed in the transaction of its migration.
func (d *DB) Migrate(ctx context.Context) error {
	const table = `CREATE TABLE IF NOT EXISTS schema_migration (name TEXT PRIMARY KEY, applied_ms BIGINT NOT NULL)`
	if _, err := d.sql.ExecContext(ctx, table); err != nil {
		return fmt.Errorf("create schema_migration: %w", err)
	}
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	done, err := d.applied(ctx)
	if err != nil {
		return err
	}
	for name := range done {
		if !slices.Contains(names, name) {
			return &NewerSchemaError{Migration: name}
		}
	}
	for _, name := range names { // Glob sorts
		if done[name] {
			continue
		}
		if err := d.apply(ctx, name); err != nil {
			return fmt.Errorf("migration %s: %w", name, err)
		}
	}
	return nil
}

// NewerSchemaError says that a later version of the collector has used the store.
type NewerSchemaError struct{ Migration string }

func (e *NewerSchemaError) Error() string {
	return fmt.Sprintf("control store has migration %s, which this version does not know: use the newer collector, or restore the backup made before the upgrade", e.Migration)
}

func (d *DB) applied(ctx context.Context) (map[string]bool, error) {
	rows, err := d.sql.QueryContext(ctx, `SELECT name FROM schema_migration`)
	if err != nil {
		return nil, fmt.Errorf("read schema_migration: %w", err)
	}
	defer rows.Close()
	done := map[string]bool{}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("read schema_migration: %w", err)
		}
		done[name] = true
	}
	return done, rows.Err()
}

func (d *DB) apply(ctx context.Context, name string) error {
	text, err := migrations.ReadFile(name)
	if err != nil {
		return err
	}
	body := strings.NewReplacer("{{id}}", d.dialect.IDColumn, "{{blob}}", d.dialect.BlobType).Replace(string(text))
	return d.inTx(ctx, func(tx *sql.Tx) error {
		const claim = `INSERT INTO schema_migration (name, applied_ms) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`
		if n, err := affected(tx.ExecContext(ctx, claim, name, time.Now().UnixMilli())); err != nil || n == 0 {
			return err // no row: another program was faster
		}
		_, err := tx.ExecContext(ctx, body)
		return err
	})
}

// inTx runs fn in a transaction and commits when it returns nil.
func (d *DB) inTx(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := d.sql.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := fn(tx); err != nil {
		_ = tx.Rollback() // the error of fn is the one that matters
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// affected is the number of rows that a statement changed.
func affected(r sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// each runs fn on every row of a query; fn scans.
func (d *DB) each(ctx context.Context, query string, args []any, fn func(scan func(...any) error) error) error {
	rows, err := d.sql.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// inScope is the condition that keeps a query inside the scope; column is the one
// with the tenant's id. The arguments it needs are appended to args.
func inScope(scope authz.Scope, column string, args []any) (string, []any) {
	if scope.All() {
		return "1 = 1", args
	}
	ids := scope.TenantIDs()
	if len(ids) == 0 {
		return "1 = 0", args
	}
	marks := make([]string, len(ids))
	for i, id := range ids {
		args = append(args, int64(id))
		marks[i] = fmt.Sprintf("$%d", len(args))
	}
	return column + " IN (" + strings.Join(marks, ", ") + ")", args
}

// ms is how times are stored; the zero time is 0.
func ms(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// fromMS reads a stored time, in UTC.
func fromMS(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMilli(n).UTC()
}
