package telemetrydb

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migration is one file. It may run again: each of its statements changes nothing the
// second time, so two collectors may migrate at once and a crash in the middle is no harm.
type migration struct {
	version    uint32
	name       string
	checksum   string
	statements []string
}

func migrations() ([]migration, error) {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var out []migration
	for _, path := range names {
		text, err := migrationFiles.ReadFile(path)
		if err != nil {
			return nil, err
		}
		name := strings.TrimPrefix(path, "migrations/")
		number, _, _ := strings.Cut(name, "_")
		v, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("migration %s does not begin with a number", name)
		}
		sum := sha256.Sum256(text)
		out = append(out, migration{uint32(v), name, hex.EncodeToString(sum[:]), statements(string(text))})
	}
	return out, nil
}

// statements splits a file at the semicolons that end a line.
func statements(text string) []string {
	var out []string
	for s := range strings.SplitSeq(text, ";\n") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

const createVersions = `CREATE TABLE IF NOT EXISTS sidetone.schema_migration
(
    version UInt32 COMMENT 'Number of the migration.',
    name String COMMENT 'File.',
    checksum String COMMENT 'SHA-256 of the file.',
    applied_at DateTime('UTC') DEFAULT now() COMMENT 'When, clock of the server.'
)
ENGINE = ReplacingMergeTree(applied_at)
ORDER BY version
COMMENT 'Migrations that were applied.'`

// Migrate brings the database to this version's schema. It refuses a database that a
// newer version has changed.
func (db *DB) Migrate(ctx context.Context) error {
	all, err := migrations()
	if err != nil {
		return err
	}
	for _, sql := range []string{"CREATE DATABASE IF NOT EXISTS sidetone", createVersions} {
		if err := db.conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("migrate ClickHouse: %w", cause(err))
		}
	}
	applied, err := db.applied(ctx)
	if err != nil {
		return err
	}
	last := all[len(all)-1].version
	for v := range applied {
		if v > last {
			return fmt.Errorf("migrate ClickHouse: the database is at migration %d, this program knows %d: use the newer program", v, last)
		}
	}
	for _, m := range all {
		if applied[m.version] == m.checksum {
			continue
		}
		for _, sql := range m.statements {
			if err := db.conn.Exec(ctx, sql); err != nil {
				return fmt.Errorf("migration %s: %w\nin: %s", m.name, cause(err), firstLine(sql))
			}
		}
		b := &Block{Table: "schema_migration", Rows: 1, Columns: []Column{
			{"version", "UInt32", []uint32{m.version}}, {"name", "String", []string{m.name}}, {"checksum", "String", []string{m.checksum}},
		}}
		if err := db.InsertBlock(ctx, b, ""); err != nil {
			return fmt.Errorf("record migration %s: %w", m.name, err)
		}
	}
	return nil
}

func (db *DB) applied(ctx context.Context) (map[uint32]string, error) {
	rows, err := db.conn.Query(ctx, "SELECT version, checksum FROM sidetone.schema_migration FINAL")
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	defer rows.Close()
	out := map[uint32]string{}
	for rows.Next() {
		var v uint32
		var sum string
		if err := rows.Scan(&v, &sum); err != nil {
			return nil, fmt.Errorf("read migrations: %w", err)
		}
		out[v] = sum
	}
	return out, rows.Err()
}

func firstLine(s string) string {
	for line := range strings.SplitSeq(s, "\n") {
		if line != "" && !strings.HasPrefix(line, "--") {
			return line
		}
	}
	return s
}
