package telemetrydb

import (
	"time"

	"sidetone/shared/telemetry"
)

// field is a column of a table in terms of a telemetry row: how it is gathered for an
// insert and how it is read back.
type field[R any] struct {
	name, typ string
	gather    func(capacity int) cells[R]
	scan      func(r *R) (dest any, done func())
}

// cells gathers the values of one column.
type cells[R any] interface {
	add(r *R)
	values() any // a slice that the driver takes
}

type cellsOf[R, V any] struct {
	get func(*R) V
	v   []V
}

func (c *cellsOf[R, V]) add(r *R)    { c.v = append(c.v, c.get(r)) }
func (c *cellsOf[R, V]) values() any { return c.v }

// converted is a field that the row and the driver hold in different types.
func converted[R, F, V any](name, typ string, at func(*R) *F, to func(F) V, from func(V) F) field[R] {
	return field[R]{
		name: name, typ: typ,
		gather: func(n int) cells[R] {
			return &cellsOf[R, V]{get: func(r *R) V { return to(*at(r)) }, v: make([]V, 0, n)}
		},
		scan: func(r *R) (any, func()) {
			v := new(V)
			return v, func() { *at(r) = from(*v) }
		},
	}
}

// raw is a field that both hold in the same type.
func raw[R, V any](name, typ string, at func(*R) *V) field[R] {
	return field[R]{
		name: name, typ: typ,
		gather: func(n int) cells[R] {
			return &cellsOf[R, V]{get: func(r *R) V { return *at(r) }, v: make([]V, 0, n)}
		},
		scan: func(r *R) (any, func()) { return at(r), func() {} },
	}
}

func item[R any](name string, at func(*R) *telemetry.ItemID) field[R] {
	return converted(name, "UInt64", at,
		func(id telemetry.ItemID) uint64 { return uint64(id) },
		func(v uint64) telemetry.ItemID { return telemetry.ItemID(v) })
}

func state[R any](name string, at func(*R) *telemetry.PBXState) field[R] {
	return converted(name, "LowCardinality(String)", at,
		func(s telemetry.PBXState) string { return string(s) },
		func(v string) telemetry.PBXState { return telemetry.PBXState(v) })
}

const (
	instantType         = "DateTime64(3, 'UTC')"
	nullableInstantType = "Nullable(" + instantType + ")"
)

// instant is a wall-clock time that may be unknown: zero is NULL.
func instant[R any](name string, at func(*R) *telemetry.UnixMS) field[R] {
	return field[R]{
		name: name, typ: nullableInstantType,
		gather: func(n int) cells[R] {
			return &cellsOf[R, *int64]{v: make([]*int64, 0, n), get: func(r *R) *int64 {
				if *at(r) == 0 {
					return nil
				}
				v := clampMS(*at(r))
				return &v
			}}
		},
		scan: func(r *R) (any, func()) {
			v := new(*time.Time)
			return v, func() {
				if *v != nil {
					*at(r) = telemetry.MS(**v)
				}
			}
		},
	}
}

// maxMS is the end of the year 2262, near the end of what DateTime64 prints.
const maxMS = 9_214_646_400_000

// clampMS keeps an instant inside what the database can hold; a clock that is this
// far off is flagged there.
func clampMS(m telemetry.UnixMS) int64 { return min(max(int64(m), 0), maxMS) }
