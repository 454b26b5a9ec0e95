package telemetrydb

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"sidetone/collector/internal/authz"
)

// where builds the condition of every query that serves a person. It begins with the
// tenants of the scope, so no query of this package can leave them out; values are
// bound in the engine, never written into the text.
type where struct {
	terms []string
	args  []any
}

// within starts a condition. The zero scope matches nothing.
func within(scope authz.Scope) *where {
	w := &where{}
	switch ids := scope.TenantIDs(); {
	case scope.All():
		w.terms = []string{"1"}
	case len(ids) == 0:
		w.terms = []string{"0"}
	default:
		tenants := make([]uint32, len(ids))
		for i, id := range ids {
			tenants[i] = uint32(id)
		}
		w.and("tenant_id IN {tenants:Array(UInt32)}").bind("tenants", tenants)
	}
	return w
}

func (w *where) and(term string) *where {
	w.terms = append(w.terms, term)
	return w
}

func (w *where) bind(name string, value any) *where {
	w.args = append(w.args, clickhouse.Named(name, value))
	return w
}

// is adds "column = value" unless the value is zero.
func is[T ~uint32 | ~uint64](w *where, column string, value T) *where {
	if value != 0 {
		w.and(fmt.Sprintf("%s = {%s:UInt64}", column, column)).bind(column, uint64(value))
	}
	return w
}

const observedBetween = "observed >= fromUnixTimestamp64Milli({from_ms:Int64}) AND observed < fromUnixTimestamp64Milli({to_ms:Int64})" +
	" AND day >= toDate(fromUnixTimestamp64Milli({from_ms:Int64}), 'UTC') AND day <= toDate(fromUnixTimestamp64Milli({to_ms:Int64}), 'UTC')"

// between limits the time of observation and, with it, the partitions; rows of a
// clock that is not believed are left out.
func (w *where) between(from, to time.Time) *where {
	return w.and(observedBetween).bind("from_ms", from.UnixMilli()).bind("to_ms", to.UnixMilli())
}

func (w *where) String() string { return strings.Join(w.terms, " AND ") }

// ask runs a query with the condition's values.
func (db *DB) ask(ctx context.Context, what, sql string, w *where) (driver.Rows, error) {
	rows, err := db.conn.Query(ctx, sql, w.args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, cause(err))
	}
	return rows, nil
}
