package telemetrydb_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"sidetone/collector/internal/telemetrydb"
)

func result(t *testing.T, db *telemetrydb.DB, format, sql string) string {
	t.Helper()
	r, err := db.Query(context.Background(), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	defer r.Close()
	var b bytes.Buffer
	if err := telemetrydb.WriteResult(&b, format, r); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return b.String()
}

func TestFormats(t *testing.T) {
	db := open(t)
	const hostile = `SELECT 1 AS n, concat('a"b,c', char(10), char(9), char(27), '[31m', char(92)) AS s, NULL AS x,
		toDateTime64('2026-01-02 03:04:05.678', 3, 'UTC') AS t, toDate('2026-01-02') AS d, [1, 2] AS l, ['it\'s', 'b'] AS ls, 0.25 AS f, nan AS q, true AS b,
		toUInt64(18446744073709551615) AS u, toDecimal64(1.50, 2) AS m, toLowCardinality('lc') AS lc, map('k', 1) AS mp, tuple(1, 'z') AS tu`
	t.Run("every format", func(t *testing.T) {
		for _, tc := range []struct{ format, want string }{
			{"TSV", `1	a"b,c\n\t` + "\x1b[31m" + `\\	\N	2026-01-02 03:04:05.678	2026-01-02	[1,2]	['it\'s','b']	0.25	nan	true	18446744073709551615	1.5	lc	{'k':1}	(1,'z')` + "\n"},
			{"CSV", "1,\"a\"\"b,c\n\t\x1b[31m\\\",\\N,\"2026-01-02 03:04:05.678\",\"2026-01-02\",\"[1,2]\",\"['it\\'s','b']\",0.25,nan,true,18446744073709551615,1.5,\"lc\",\"{'k':1}\",\"(1,'z')\"\n"},
			{"jsonl", `{"n":1,"s":"a\"b,c\n\t\u001b[31m\\","x":null,"t":"2026-01-02 03:04:05.678","d":"2026-01-02","l":[1,2],"ls":["it's","b"],"f":0.25,"q":null,"b":true,"u":18446744073709551615,"m":1.5,"lc":"lc","mp":{"k":1},"tu":[1,"z"]}` + "\n"},
		} {
			if got := result(t, db, tc.format, hostile); got != tc.want {
				t.Errorf("%s\n got %q\nwant %q", tc.format, got, tc.want)
			}
		}
	})
	t.Run("programs can read them", func(t *testing.T) {
		rows, err := csv.NewReader(strings.NewReader(result(t, db, "csvwithnames", hostile))).ReadAll()
		if err != nil || len(rows) != 2 || rows[0][1] != "s" || rows[1][1] != "a\"b,c\n\t\x1b[31m\\" {
			t.Errorf("csv: %q, %v", rows, err)
		}
		var doc struct {
			Meta []struct{ Name, Type string }
			Data []map[string]any
			Rows int
		}
		if err := json.Unmarshal([]byte(result(t, db, "json", "SELECT number, toString(number) AS s FROM numbers(3)")), &doc); err != nil || doc.Rows != 3 || doc.Meta[0].Type != "UInt64" || doc.Data[2]["s"] != "2" {
			t.Errorf("json: %+v, %v", doc, err)
		}
	})
	t.Run("terminals are safe", func(t *testing.T) {
		for _, format := range []string{"", "Vertical"} {
			got := result(t, db, format, hostile)
			if strings.Contains(got, "\x1b") || !strings.Contains(got, `\x1b[31m`) {
				t.Errorf("%q lets control characters through: %q", format, got)
			}
		}
	})
	t.Run("table", func(t *testing.T) {
		want := "┌───┬────┐\n│ n │ s  │\n├───┼────┤\n│ 0 │ é0 │\n│ 1 │ é1 │\n└───┴────┘\n2 rows\n"
		if got := result(t, db, "", "SELECT number AS n, concat('é', toString(number)) AS s FROM numbers(2)"); got != want {
			t.Errorf("got\n%s", got)
		}
		if got := result(t, db, "pretty", "SELECT number FROM numbers(1201)"); strings.Count(got, "┌") != 3 || !strings.HasSuffix(got, "1201 rows\n") {
			t.Errorf("a long table: %d parts", strings.Count(got, "┌"))
		}
	})
	t.Run("no rows", func(t *testing.T) {
		if got := result(t, db, "TSVWithNames", "SELECT tenant, sent FROM sidetone.probe_window"); got != "tenant\tsent\n" {
			t.Errorf("names are lost: %q", got)
		}
		if got := result(t, db, "json", "SELECT 1 AS x WHERE 0"); !json.Valid([]byte(got)) || !strings.Contains(got, `"x"`) {
			t.Errorf("json: %q", got)
		}
	})
	t.Run("FORMAT in the statement", func(t *testing.T) {
		if got := result(t, db, "", "SELECT 1 AS x FORMAT JSONEachRow ;\n"); got != "{\"x\":1}\n" {
			t.Errorf("got %q", got)
		}
		if got := result(t, db, "TSV", "SELECT 1 AS x FORMAT JSONEachRow"); got != "1\n" {
			t.Errorf("the flag wins: %q", got)
		}
	})
	t.Run("other statements that read", func(t *testing.T) {
		if got := result(t, db, "TSV", "SHOW TABLES FROM sidetone LIKE 'probe_window%'"); got != "probe_window\nprobe_window_raw\n" {
			t.Errorf("got %q", got)
		}
		if got := result(t, db, "TSV", "SELECT currentDatabase()"); got != "sidetone\n" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("mistakes", func(t *testing.T) {
		for _, sql := range []string{"SELECT nope", "SELEC 1", "", "INSERT INTO sidetone.gap_raw (seq) VALUES (1)", "SELECT 1; DROP TABLE sidetone.gap_raw", "SELECT * FROM file('/etc/passwd')"} {
			if r, err := db.Query(t.Context(), sql); err == nil {
				r.Close()
				t.Errorf("%q runs", sql)
			}
		}
		r, err := db.Query(t.Context(), "SELECT throwIf(number = 200000) FROM numbers(300000)")
		if err == nil {
			err = telemetrydb.WriteResult(&bytes.Buffer{}, "TSV", r)
			r.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "395") {
			t.Errorf("an error in the middle of a result: %v", err)
		}
		r, err = db.Query(t.Context(), "SELECT 1")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if err := telemetrydb.WriteResult(&bytes.Buffer{}, "xml", r); err == nil || !strings.Contains(err.Error(), "JSONEachRow") {
			t.Errorf("unknown format: %v", err)
		}
	})
	t.Run("a reader that goes away", func(t *testing.T) {
		r, err := db.Query(t.Context(), "SELECT number FROM numbers(1000000)")
		if err != nil {
			t.Fatal(err)
		}
		if err := telemetrydb.WriteResult(closedPipe{}, "TSV", r); !errors.Is(err, errClosedPipe) {
			t.Errorf("got %v", err)
		}
		r.Close()
		if got := result(t, db, "TSV", "SELECT 1"); got != "1\n" {
			t.Errorf("afterwards %q", got)
		}
	})
}

var errClosedPipe = errors.New("closed")

type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) { return 0, errClosedPipe }
