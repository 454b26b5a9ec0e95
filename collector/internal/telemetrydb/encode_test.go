package telemetrydb

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sidetone/shared/telemetry"
)

// TestEncodeNative: each kind of column comes back from the engine as it went in,
// dictionaries of every width among them, and what is uneven is not encoded.
func TestEncodeNative(t *testing.T) {
	db := openSchema(t)
	if err := db.Exec(t.Context(), `CREATE TABLE sidetone.every (n UInt64, u8 UInt8, b Bool, u32 UInt32, i64 Int64, at DateTime64(3, 'UTC'), s String, lc LowCardinality(String),
		a Array(UInt32), nu32 Nullable(UInt32), nu64 Nullable(UInt64), ni64 Nullable(Int64), nb Nullable(Bool), nat Nullable(DateTime64(3, 'UTC'))) ENGINE = MergeTree ORDER BY n`); err != nil {
		t.Fatal(err)
	}
	for _, distinct := range []int{1, 200, 300, 70_000} { // one, two and four bytes for the number of a text
		rows := max(distinct, 1000)
		b := &Block{Table: "every", Rows: rows}
		var n []uint64
		var u8 []uint8
		var bo []bool
		var u32 []uint32
		var i64, at []int64
		var s, lc []string
		var a [][]uint32
		var nu32 []*uint32
		var nu64 []*uint64
		var ni64, nat []*int64
		var nb []*bool
		for i := range rows {
			n = append(n, uint64(i))
			u8, bo, u32 = append(u8, uint8(i)), append(bo, i%3 == 0), append(u32, uint32(i)*61_000)
			i64, at = append(i64, -int64(i)), append(at, int64(i)*1000+7)
			s, lc = append(s, strings.Repeat("\x00é'", i%5)), append(lc, fmt.Sprintf("v%d", i%distinct))
			a = append(a, u32[max(0, i-i%4):i])
			if i%2 == 0 {
				nu32, nu64, ni64, nb, nat = append(nu32, nil), append(nu64, nil), append(ni64, nil), append(nb, nil), append(nat, nil)
				continue
			}
			nu32, nu64, ni64, nb, nat = append(nu32, &u32[i]), append(nu64, &n[i]), append(ni64, &i64[i]), append(nb, &bo[i]), append(nat, &at[i])
		}
		b.Columns = []Column{{"n", "UInt64", n}, {"u8", "UInt8", u8}, {"b", "Bool", bo}, {"u32", "UInt32", u32}, {"i64", "Int64", i64}, {"at", instantType, at}, {"s", "String", s},
			{"lc", "LowCardinality(String)", lc}, {"a", "Array(UInt32)", a}, {"nu32", "Nullable(UInt32)", nu32}, {"nu64", "Nullable(UInt64)", nu64}, {"ni64", "Nullable(Int64)", ni64},
			{"nb", "Nullable(Bool)", nb}, {"nat", nullableInstantType, nat}}
		if _, ok := encodeNative(nil, b); !ok {
			t.Fatal("not encoded")
		}
		if err := db.Exec(t.Context(), "TRUNCATE TABLE sidetone.every"); err != nil {
			t.Fatal(err)
		}
		if err := db.InsertBlock(t.Context(), b, ""); err != nil {
			t.Fatal(err)
		}
		var good, all uint64
		row := db.conn.QueryRow(t.Context(), fmt.Sprintf(`SELECT countIf(u8 = n %% 256 AND b = (n %% 3 = 0) AND u32 = toUInt32(n * 61000) AND i64 = -toInt64(n) AND toUnixTimestamp64Milli(at) = toInt64(n) * 1000 + 7
			AND s = repeat('\0é\'', n %% 5) AND lc = concat('v', toString(n %% %d)) AND a = arrayMap(x -> toUInt32(x * 61000), range(toUInt64(n - n %% 4), n))
			AND if(n %% 2 = 0, nu32 IS NULL AND nu64 IS NULL AND ni64 IS NULL AND nb IS NULL AND nat IS NULL, nu32 = u32 AND nu64 = n AND ni64 = i64 AND nb = b AND nat = at)), count() FROM sidetone.every`, distinct))
		if err := row.Scan(&good, &all); err != nil || good != uint64(rows) || all != good {
			t.Errorf("%d distinct texts: %d of %d rows are right, %v", distinct, good, all, err)
		}
	}
	for _, bad := range []Column{{"n", "UInt64", []uint64{1}}, {"n", "UInt64", []uint32{1, 2}}, {"n", "Nullable(UInt64)", []uint64{1, 2}}, {"n", "Float64", []float64{1, 2}}, {"n", "UInt8", []string{"", ""}}, {"n", "UInt64", nil}} {
		if _, ok := encodeNative(nil, &Block{Rows: 2, Columns: []Column{bad}}); ok {
			t.Errorf("encoded: %+v", bad)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	blocks := NewBlocks(NewKnown())
	set := everyKind()
	for i := range uint64(10_000) {
		blocks.Add(telemetry.Source{}, 1, i, time.Now(), set)
	}
	list := blocks.Blocks()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		for _, blk := range list {
			var ok bool
			if buf, ok = encodeNative(buf[:0], blk); !ok {
				b.Fatal(blk.Table)
			}
		}
	}
}
