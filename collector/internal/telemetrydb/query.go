package telemetrydb

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// ResultColumn is a column of a result.
type ResultColumn struct{ Name, Type string }

// Result is the rows of a statement, read one after the other.
type Result struct {
	Columns []ResultColumn
	Format  string // the statement's own FORMAT clause; empty when it has none

	rows  driver.Rows
	types []reflect.Type
	err   error
}

const codeReadOnly = 164

// Query runs one statement of an administrator, without regard to tenants. It may
// only read; a FORMAT clause at its end chooses how WriteResult writes.
func (db *DB) Query(ctx context.Context, sql string) (*Result, error) {
	sql, format := splitFormat(sql)
	rows, err := db.conn.Query(clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"readonly": 2})), sql)
	if code(err) == codeReadOnly && !db.http {
		// a user that is read-only already may not even say so
		if rows2, err2 := db.conn.Query(ctx, "SELECT getSetting('readonly') > 0"); err2 == nil && isTrue(rows2) {
			rows, err = db.conn.Query(ctx, sql)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("run the statement: %w", cause(err))
	}
	res := &Result{Format: format, rows: rows}
	for _, t := range rows.ColumnTypes() {
		res.Columns = append(res.Columns, ResultColumn{t.Name(), t.DatabaseTypeName()})
		res.types = append(res.types, t.ScanType())
	}
	if len(res.Columns) == 0 && startsSelect.MatchString(sql) {
		res.Columns = db.describe(ctx, sql) // no rows over HTTP: not even the names came
	}
	return res, nil
}

// Exec runs a statement that changes something and has no rows: for administration
// and tests.
func (db *DB) Exec(ctx context.Context, sql string) error {
	if err := db.conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("run the statement: %w", cause(err))
	}
	return nil
}

func isTrue(rows driver.Rows) bool {
	defer rows.Close()
	var v uint8
	return rows.Next() && rows.Scan(&v) == nil && v == 1
}

var (
	startsSelect = regexp.MustCompile(`(?is)^\s*(SELECT|WITH)\b`)
	endsFormat   = regexp.MustCompile(`(?is)^(.*?)\s+FORMAT\s+([A-Za-z0-9]+)\s*$`)
)

// splitFormat takes a FORMAT clause and semicolons off the end of a statement.
func splitFormat(sql string) (statement, format string) {
	sql = strings.TrimRight(sql, "; \t\r\n")
	if m := endsFormat.FindStringSubmatch(sql); m != nil {
		return m[1], m[2]
	}
	return sql, ""
}

// describe asks for the columns of a statement; it is a courtesy and may fail.
func (db *DB) describe(ctx context.Context, sql string) []ResultColumn {
	rows, err := db.conn.Query(ctx, "DESCRIBE TABLE ("+sql+")")
	if err != nil {
		return nil
	}
	defer rows.Close()
	var out []ResultColumn
	for rows.Next() {
		dest := make([]any, len(rows.Columns()))
		text := make([]string, len(dest))
		for i := range dest {
			dest[i] = &text[i]
		}
		if rows.Scan(dest...) != nil || len(text) < 2 {
			return nil
		}
		out = append(out, ResultColumn{text[0], text[1]})
	}
	return out
}

// Next reads a row: a value for each column. It returns nil at the end, and on an
// error, which Err then has.
func (r *Result) Next() []any {
	if !r.rows.Next() {
		return nil
	}
	dest := make([]any, len(r.types))
	for i, t := range r.types {
		dest[i] = reflect.New(t).Interface()
	}
	if r.err = r.rows.Scan(dest...); r.err != nil {
		return nil
	}
	for i := range dest {
		dest[i] = reflect.ValueOf(dest[i]).Elem().Interface()
	}
	return dest
}

// Err is why the rows ended early, or nil.
func (r *Result) Err() error {
	if err := cmp.Or(r.err, r.rows.Err()); err != nil {
		return fmt.Errorf("read the result: %w", err)
	}
	return nil
}

// Close ends the statement.
func (r *Result) Close() error { return r.rows.Close() }

// isNoRows tells that a query for one row found none.
func isNoRows(err error) bool { return errors.Is(err, sql.ErrNoRows) }
