package telemetrydb

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"sidetone/shared/telemetry"
)

// PoisonError says that ClickHouse will never take this block: something in its
// content is wrong. Any other error of InsertBlock is worth a retry with the same
// block and the same token.
type PoisonError struct {
	Table string
	Err   error
}

func (e *PoisonError) Error() string {
	return fmt.Sprintf("ClickHouse refuses the content of a block for %s: %v", e.Table, e.Err)
}

func (e *PoisonError) Unwrap() error { return e.Err }

// poison lists ClickHouse's errors about the content of a block. What is not here is
// taken for trouble of the server or the schema, which somebody will mend.
var poison = map[int32]string{
	6: "CANNOT_PARSE_TEXT", 27: "CANNOT_PARSE_INPUT_ASSERTION_FAILED", 33: "CANNOT_READ_ALL_DATA",
	38: "CANNOT_PARSE_DATE", 41: "CANNOT_PARSE_DATETIME", 53: "TYPE_MISMATCH", 69: "ARGUMENT_OUT_OF_BOUND",
	70: "CANNOT_CONVERT_TYPE", 72: "CANNOT_PARSE_NUMBER", 117: "INCORRECT_DATA", 131: "TOO_LARGE_STRING_SIZE",
	190: "SIZES_OF_ARRAYS_DOESNT_MATCH", 321: "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE", 349: "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN",
	469: "VIOLATED_CONSTRAINT",
}

// IsPoison reports whether err is about the content of a block.
func IsPoison(err error) bool {
	var p *PoisonError
	return errors.As(err, &p)
}

// maxTokenBytes bounds an insert token; the ones of batch have 64.
const maxTokenBytes = 256

// InsertBlock stores the block. nil means that all its rows are in the database, once,
// however often the same block was sent under this token. An empty token switches
// deduplication of blocks off.
func (db *DB) InsertBlock(ctx context.Context, b *Block, token string) error {
	if len(token) > maxTokenBytes {
		return &PoisonError{b.Table, fmt.Errorf("token of %d bytes", len(token))}
	}
	settings, err := db.insertSettings(ctx, token)
	if err != nil {
		return err
	}
	opts := []clickhouse.QueryOption{clickhouse.WithSettings(settings)}
	names := make([]string, len(b.Columns))
	types := make([]clickhouse.ColumnNameAndType, len(b.Columns))
	for i, c := range b.Columns {
		names[i] = c.Name
		types[i] = clickhouse.ColumnNameAndType{Name: c.Name, Type: c.Type}
	}
	if db.http {
		opts = append(opts, clickhouse.WithColumnNamesAndTypes(types)) // else each insert begins with DESCRIBE
	}
	ctx = clickhouse.Context(ctx, opts...)
	// the columns are named: older servers send their own order
	statement := fmt.Sprintf("INSERT INTO %s.%s (%s)", Database, b.Table, strings.Join(names, ", "))
	if db.http {
		if tried, err := db.insertNative(ctx, statement, b); tried {
			return err
		}
	}
	batch, err := db.conn.PrepareBatch(ctx, statement)
	if err != nil {
		return insertError(b, err)
	}
	defer batch.Close()
	for i, c := range b.Columns {
		if err := batch.Column(i).Append(c.Values); err != nil {
			return &PoisonError{b.Table, fmt.Errorf("column %s: %w", c.Name, err)}
		}
	}
	// Over HTTP the driver answers an encoding error with an empty body and no error,
	// so what it would refuse is refused here.
	for i, col := range batch.Columns() {
		if col.Rows() != b.Rows {
			return &PoisonError{b.Table, fmt.Errorf("column %s has %d values, not %d", names[i], col.Rows(), b.Rows)}
		}
	}
	if err := batch.Send(); err != nil {
		return insertError(b, err)
	}
	return nil
}

// keepBuffer is how large a buffer is kept for the next block.
const keepBuffer = 64 << 20

// insertNative stores a block that this package encodes itself. tried is false when it
// cannot.
func (db *DB) insertNative(ctx context.Context, statement string, b *Block) (tried bool, err error) {
	if b.Rows == 0 {
		return false, nil
	}
	var buf []byte
	if p, ok := db.buffers.Get().(*[]byte); ok {
		buf = (*p)[:0]
	}
	buf, ok := encodeNative(buf, b)
	if !ok {
		return false, nil
	}
	body := bytes.NewReader(buf)
	err = db.conn.InsertFormat(ctx, "Native", statement, body)
	if err != nil {
		return true, insertError(b, err) // somebody may still read from buf
	}
	if cap(buf) <= keepBuffer {
		db.buffers.Put(&buf)
	}
	return true, nil
}

func insertError(b *Block, err error) error {
	if poison[code(err)] != "" {
		return &PoisonError{b.Table, err}
	}
	return fmt.Errorf("insert into %s: %w", b.Table, cause(err))
}

// insertSettings names every setting that decides whether an insert is stored, once,
// before it is answered: the defaults differ between versions.
func (db *DB) insertSettings(ctx context.Context, token string) (clickhouse.Settings, error) {
	dedup := token != ""
	s := clickhouse.Settings{"insert_deduplicate": flag(dedup)}
	for _, v := range []struct {
		major, minor uint64
		set          func()
	}{
		{20, 1, func() { s["deduplicate_blocks_in_dependent_materialized_views"] = flag(dedup) }},
		{20, 1, func() {
			// one block in, one block stored: splitting it would split its token
			s["max_insert_block_size"], s["min_insert_block_size_rows"], s["min_insert_block_size_bytes"] = 1<<20, 1<<20, 256<<20
			s["max_partitions_per_insert_block"] = 1000
		}},
		{21, 11, func() { s["async_insert"], s["wait_for_async_insert"] = 0, 1 }},
		{22, 2, func() {
			if dedup {
				s["insert_deduplication_token"] = token
			}
		}},
		{23, 11, func() {
			if !db.http {
				s["distributed_foreground_insert"] = 1 // into a table over all shards: stored, not queued
			}
		}},
		{26, 2, func() {
			s["deduplicate_insert"] = "disable"
			if dedup {
				s["deduplicate_insert"] = "enable"
			}
		}},
	} {
		ok, err := db.atLeast(ctx, v.major, v.minor)
		if err != nil {
			return nil, err
		}
		if ok {
			v.set()
		}
	}
	return s, nil
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// DeadLetter is a record that ClickHouse refused for its content.
type DeadLetter struct {
	Source     telemetry.Source
	Epoch, Seq uint64
	ReceivedAt time.Time
	Reason     string
	Rows       *telemetry.Set
}

// Limits of a dead letter.
const (
	maxReasonBytes  = 4 << 10
	maxContentBytes = 1 << 20
)

// PutDeadLetter keeps the record where a person can look at it.
func (db *DB) PutDeadLetter(ctx context.Context, d DeadLetter) error {
	content, err := json.Marshal(d.Rows)
	if err != nil {
		content = []byte(err.Error())
	}
	b := &Block{Table: "dead_letter", Rows: 1, Columns: []Column{
		{"tenant_id", "UInt32", []uint32{uint32(d.Source.Tenant)}}, {"customer_id", "UInt32", []uint32{uint32(d.Source.Customer)}},
		{"site_id", "UInt32", []uint32{uint32(d.Source.Site)}}, {"pbx_id", "UInt32", []uint32{uint32(d.Source.PBX)}},
		{"agent_id", "UInt32", []uint32{uint32(d.Source.Agent)}},
		{"epoch", "UInt64", []uint64{d.Epoch}}, {"seq", "UInt64", []uint64{d.Seq}},
		{"received_at", instantType, []int64{d.ReceivedAt.UnixMilli()}},
		{"reason", "String", []string{cut(d.Reason, maxReasonBytes)}}, {"rows", "UInt32", []uint32{uint32(d.Rows.Len())}},
		{"content", "String", []string{cut(string(content), maxContentBytes)}},
	}}
	return db.InsertBlock(ctx, b, fmt.Sprintf("dead:%d:%d:%d", d.Source.Agent, d.Epoch, d.Seq))
}

func cut(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
