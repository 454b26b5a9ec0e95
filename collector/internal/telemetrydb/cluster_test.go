package telemetrydb

import (
	goflag "flag"
	"os"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
)

var update = goflag.Bool("update", false, "rewrite generated files")

// TestClusterSchema holds the file in deploy against the migrations, and has the engine's
// parser read it and the file of users.
func TestClusterSchema(t *testing.T) {
	const path = "../../../deploy/clickhouse/schema.sql"
	want, err := ClusterSchema()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the migrations make; its head says how to make it anew", path)
	}
	for _, bad := range []string{"ReplacingMergeTree\n", "= ReplacingMergeTree", "non_replicated"} {
		if strings.Contains(want, bad) {
			t.Errorf("the schema of a cluster has %q", bad)
		}
	}
	users, err := os.ReadFile("../../../deploy/clickhouse/users.sql")
	if err != nil {
		t.Fatal(err)
	}
	db := openSchema(t)
	n := 0
	for _, text := range []string{want, string(users)} {
		for _, sql := range statements(text) {
			sql = withoutComments(sql)
			if sql = strings.TrimSuffix(sql, ";"); sql == "" {
				continue
			}
			n++
			var formatted string
			if err := db.conn.QueryRow(t.Context(), "SELECT formatQuery({sql:String})", clickhouse.Named("sql", sql)).Scan(&formatted); err != nil {
				t.Errorf("%v in: %s", cause(err), firstLine(sql))
			}
		}
	}
	if n < 80 {
		t.Errorf("%d statements", n)
	}
	// every table of the one schema is in the other
	rows, err := db.conn.Query(t.Context(), "SELECT name, engine FROM system.tables WHERE database = 'sidetone'")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name, kind string
		if err := rows.Scan(&name, &kind); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(want, " sidetone."+name+" ON CLUSTER") {
			t.Errorf("%s %s is missing", kind, name)
		}
	}
}
