package telemetrydb

import (
	"fmt"
	"regexp"
	"strings"
)

// clusterHead stands before the generated schema.
const clusterHead = `-- The schema for a cluster, made from the migrations; do not edit. To make it anew:
-- go test ./internal/telemetrydb -run TestClusterSchema -update (in collector/).
--
-- Run it once, before the first collector and after each upgrade, as the user that may
-- migrate. The servers must define the macros cluster, shard and replica. Each table has
-- replicas (…_local) and a table over all shards; an agent's rows stay on one shard, where
-- a row and its repetition meet. The last statement tells collectors that the schema is
-- there, so that they change nothing.
`

// ClusterSchema is the migrations as statements for a cluster: replicated tables, tables
// over all shards, views.
func ClusterSchema() (string, error) {
	all, err := migrations()
	if err != nil {
		return "", err
	}
	var local, over, views, versions []string
	for _, sql := range []string{createVersions} {
		l, o, err := clusterTable(sql)
		if err != nil {
			return "", err
		}
		local, over = append(local, l), append(over, o)
	}
	for _, m := range all {
		versions = append(versions, fmt.Sprintf("(%d, '%s', '%s')", m.version, m.name, m.checksum))
		for _, sql := range m.statements {
			sql = withoutComments(sql)
			switch {
			case strings.HasPrefix(sql, "CREATE TABLE"):
				l, o, err := clusterTable(sql)
				if err != nil {
					return "", fmt.Errorf("%s: %w", m.name, err)
				}
				local, over = append(local, l), append(over, o)
			case strings.HasPrefix(sql, "ALTER TABLE"):
				local = append(local, alterHead.ReplaceAllString(sql, "ALTER TABLE sidetone.${1}_local ON CLUSTER '{cluster}'"))
			case strings.HasPrefix(sql, "CREATE OR REPLACE VIEW"):
				views = append(views, viewHead.ReplaceAllString(sql, "CREATE OR REPLACE VIEW sidetone.$1 ON CLUSTER '{cluster}' AS"))
			default:
				return "", fmt.Errorf("%s: no form for a cluster is known of: %s", m.name, firstLine(sql))
			}
		}
	}
	out := append([]string{"CREATE DATABASE IF NOT EXISTS sidetone ON CLUSTER '{cluster}'"}, local...)
	out = append(append(out, over...), views...)
	out = append(out, "INSERT INTO sidetone.schema_migration (version, name, checksum) VALUES\n    "+strings.Join(versions, ",\n    "))
	return clusterHead + "\n" + strings.Join(out, ";\n\n") + ";\n", nil
}

var (
	tableHead   = regexp.MustCompile(`^CREATE TABLE IF NOT EXISTS sidetone\.(\w+)( AS sidetone\.(\w+))?\n`)
	alterHead   = regexp.MustCompile(`^ALTER TABLE sidetone\.(\w+)`)
	viewHead    = regexp.MustCompile(`^CREATE OR REPLACE VIEW sidetone\.(\w+) AS`)
	engine      = regexp.MustCompile(`(?m)^ENGINE = ReplacingMergeTree(?:\((\w+)\))?$`)
	dedupWindow = regexp.MustCompile(`non_replicated_deduplication_window = (\d+)`)
	commentLine = regexp.MustCompile(`(?m)^--.*\n`)
)

// weekSeconds is how long replicas remember tokens: an agent that was cut off sends
// again what it has no answer for.
const weekSeconds = 604_800

func withoutComments(sql string) string {
	return strings.TrimSpace(commentLine.ReplaceAllString(sql, ""))
}

// clusterTable is the replicated table and the one over all shards.
func clusterTable(sql string) (local, over string, err error) {
	m, e := tableHead.FindStringSubmatch(sql), engine.FindStringSubmatch(sql)
	if m == nil || e == nil {
		return "", "", fmt.Errorf("the table has no form that is known: %s", firstLine(sql))
	}
	name := m[1]
	like := ""
	if m[3] != "" {
		like = " AS sidetone." + m[3] + "_local"
	}
	version := ""
	if e[1] != "" {
		version = ", " + e[1]
	}
	local = strings.Replace(sql, m[0], fmt.Sprintf("CREATE TABLE IF NOT EXISTS sidetone.%s_local ON CLUSTER '{cluster}'%s\n", name, like), 1)
	local = strings.Replace(local, e[0], "ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}'"+version+")", 1)
	local = dedupWindow.ReplaceAllString(local, fmt.Sprintf("replicated_deduplication_window = $1, replicated_deduplication_window_seconds = %d", weekSeconds))
	key := "cityHash64(tenant_id, agent_id)"
	switch name {
	case "schema_migration":
		key = "cityHash64(version)"
	case "rollup_state":
		key = "cityHash64(job)"
	}
	over = fmt.Sprintf("CREATE TABLE IF NOT EXISTS sidetone.%[1]s ON CLUSTER '{cluster}' AS sidetone.%[1]s_local\nENGINE = Distributed('{cluster}', sidetone, %[1]s_local, %[2]s)", name, key)
	return local, over, nil
}
