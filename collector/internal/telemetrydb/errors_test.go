package telemetrydb

import (
	"errors"
	"fmt"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// TestInsertErrors sorts ClickHouse's errors: trouble of the server is worth a retry,
// content that it refuses is not.
func TestInsertErrors(t *testing.T) {
	b := &Block{Table: "t"}
	for code, poisoned := range map[int32]bool{
		252: false, // TOO_MANY_PARTS
		241: false, // MEMORY_LIMIT_EXCEEDED
		243: false, // NOT_ENOUGH_SPACE
		164: false, // READONLY
		242: false, // TABLE_IS_READ_ONLY
		319: false, // UNKNOWN_STATUS_OF_INSERT
		159: false, // TIMEOUT_EXCEEDED
		202: false, // TOO_MANY_SIMULTANEOUS_QUERIES
		210: false, // NETWORK_ERROR
		285: false, // TOO_FEW_LIVE_REPLICAS
		999: false, // KEEPER_EXCEPTION
		60:  false, // UNKNOWN_TABLE: the migration will make it
		16:  false, // NO_SUCH_COLUMN_IN_TABLE: likewise
		516: false, // AUTHENTICATION_FAILED
		53:  true,  // TYPE_MISMATCH
		6:   true,  // CANNOT_PARSE_TEXT
		27:  true,  // CANNOT_PARSE_INPUT_ASSERTION_FAILED
		321: true,  // VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
		469: true,  // VIOLATED_CONSTRAINT
	} {
		err := insertError(b, fmt.Errorf("send: %w", &clickhouse.Exception{Code: code, Message: "m"}))
		if IsPoison(err) != poisoned {
			t.Errorf("code %d: poison %v", code, !poisoned)
		}
	}
	if IsPoison(insertError(b, errors.New("connection refused"))) {
		t.Error("a lost connection is taken for bad content")
	}
}
