package telemetrydb

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sidetone/shared/telemetry"
)

// Retention is how many days each class of data is kept; zero means the default.
type Retention struct {
	RawDays        int `toml:"raw_days"`         // single readings: 30
	MinuteDays     int `toml:"minute_days"`      // roll-ups of a minute: 90
	HourDays       int `toml:"hour_days"`        // roll-ups of an hour: 396 (13 months)
	ChangeDays     int `toml:"change_days"`      // state changes, link events, gaps, backups, licences: 396
	IncidentDays   int `toml:"incident_days"`    // incidents: 365
	DeadLetterDays int `toml:"dead_letter_days"` // records that ClickHouse refused: 90
	LedgerDays     int `toml:"ledger_days"`      // one row for each frame: 45
}

// Bounds of a time of keeping, in days.
const (
	minDays       = 2 // today and yesterday: an interval is rolled up before its rows go
	maxDays       = 3660
	minLedgerDays = 33 // the gap ledger judges 30 days, and looks two further back
)

// class ties a setting to its tables.
type class struct {
	name   string
	days   func(*Retention) *int
	usual  int
	least  int
	tables []string
}

var classes = []class{
	{"raw_days", func(r *Retention) *int { return &r.RawDays }, 30, minDays, []string{"probe_window_raw", "pbx_status_raw", "trunk_state_raw", "sbc_state_raw",
		"service_state_raw", "extension_summary_raw", "event_log_raw", "agent_health_raw"}},
	{"minute_days", func(r *Retention) *int { return &r.MinuteDays }, 90, minDays, []string{"probe_minute_raw", "pbx_minute_raw"}},
	{"hour_days", func(r *Retention) *int { return &r.HourDays }, 396, minDays, []string{"probe_hour_raw", "pbx_hour_raw"}},
	{"change_days", func(r *Retention) *int { return &r.ChangeDays }, 396, minDays, []string{"state_change_raw", "link_event_raw", "gap_raw", "backup_raw", "licence_raw"}},
	{"incident_days", func(r *Retention) *int { return &r.IncidentDays }, 365, minDays, []string{"incident_raw"}},
	{"dead_letter_days", func(r *Retention) *int { return &r.DeadLetterDays }, 90, minDays, []string{"dead_letter"}},
	{"ledger_days", func(r *Retention) *int { return &r.LedgerDays }, 45, minLedgerDays, []string{FrameTable}},
}

// Validate returns what is wrong, each with its key.
func (r Retention) Validate() []error {
	var out []error
	for _, c := range classes {
		if v := *c.days(&r); v != 0 && (v < c.least || v > maxDays) {
			out = append(out, fmt.Errorf("%s: %d is not between %d and %d days", c.name, v, c.least, maxDays))
		}
	}
	return out
}

// over is r with the settings of other where it has none, and the defaults after them.
func (r Retention) over(other Retention) Retention {
	for _, c := range classes {
		v := c.days(&r)
		if *v == 0 {
			*v = *c.days(&other)
		}
		if *v == 0 {
			*v = c.usual
		}
	}
	return r
}

// Kept is how long data is kept: for all, and for tenants of their own.
type Kept struct {
	All     Retention
	Tenants map[telemetry.TenantID]Retention // what is zero is as for all
}

// RawDays is the shortest time that single readings of any tenant are kept.
func (k Kept) RawDays() int {
	days := k.All.over(Retention{}).RawDays
	for _, r := range k.Tenants {
		days = min(days, r.over(k.All).RawDays)
	}
	return days
}

// localSuffix ends the name of a replicated table on a cluster.
const localSuffix = "_local"

// ttlEnd is the end of a table's TTL as ClickHouse prints it.
var ttlEnd = regexp.MustCompile(`\bTTL (.+?) \+ toIntervalDay\((\d+)\)`)

// ApplyRetention sets the tables' TTL to the longest time that any tenant's rows are
// kept. It changes nothing where that is so already.
func (db *DB) ApplyRetention(ctx context.Context, k Kept) error {
	made, err := db.tableDefinitions(ctx)
	if err != nil {
		return fmt.Errorf("retention: %w", err)
	}
	all := k.All.over(Retention{})
	for _, c := range classes {
		want := *c.days(&all)
		for _, r := range k.Tenants {
			r = r.over(all)
			want = max(want, *c.days(&r))
		}
		for _, table := range c.tables {
			if made[table+localSuffix] != "" {
				continue // on a cluster the TTL is the migrating user's matter
			}
			m := ttlEnd.FindStringSubmatch(made[table])
			if m == nil {
				return fmt.Errorf("retention: table %s has no TTL that this program knows", table)
			}
			if has, _ := strconv.Atoi(m[2]); has == want {
				continue
			}
			if err := db.conn.Exec(ctx, fmt.Sprintf("ALTER TABLE sidetone.%s MODIFY TTL %s + toIntervalDay(%d)", table, m[1], want)); err != nil {
				return fmt.Errorf("retention of %s: %w", table, cause(err))
			}
		}
	}
	return nil
}

func (db *DB) tableDefinitions(ctx context.Context) (map[string]string, error) {
	rows, err := db.conn.Query(ctx, "SELECT name, create_table_query FROM system.tables WHERE database = 'sidetone' AND engine LIKE '%MergeTree'")
	if err != nil {
		return nil, cause(err)
	}
	defer rows.Close()
	out := map[string]string{}
	for rows.Next() {
		var name, sql string
		if err := rows.Scan(&name, &sql); err != nil {
			return nil, err
		}
		out[name] = sql
	}
	return out, rows.Err()
}

// Expire deletes rows of tenants that are kept for a shorter time than the tables' TTL
// has it; it is for once a day. Tables without such rows are left alone.
func (db *DB) Expire(ctx context.Context, k Kept) error {
	if len(k.Tenants) == 0 {
		return nil
	}
	made, err := db.tableDefinitions(ctx)
	if err != nil {
		return fmt.Errorf("expire: %w", err)
	}
	all := k.All.over(Retention{})
	for _, c := range classes {
		old := expired(c, all, k.Tenants)
		for _, table := range c.tables {
			on, within := "sidetone."+table, "sidetone."+table
			if made[table+localSuffix] != "" {
				made[table] = made[table+localSuffix]
				on = "sidetone." + table + localSuffix + " ON CLUSTER '{cluster}'"
			}
			m := ttlEnd.FindStringSubmatch(made[table])
			if m == nil {
				return fmt.Errorf("expire: table %s has no TTL that this program knows", table)
			}
			cond := strings.ReplaceAll(old, "{at}", m[1])
			var found uint64
			if err := db.conn.QueryRow(ctx, "SELECT count() FROM (SELECT 1 FROM "+within+" WHERE "+cond+" LIMIT 1)").Scan(&found); err != nil {
				return fmt.Errorf("look for expired rows of %s: %w", table, cause(err))
			}
			if found == 0 {
				continue
			}
			if err := db.conn.Exec(ctx, "DELETE FROM "+on+" WHERE "+cond); err != nil {
				return fmt.Errorf("delete expired rows of %s: %w", table, cause(err))
			}
		}
	}
	return nil
}

// expired is the condition of a class's rows that are too old; {at} stands for the day
// that a row counts from.
func expired(c class, all Retention, tenants map[telemetry.TenantID]Retention) string {
	ids := make([]string, 0, len(tenants))
	terms := make([]string, 0, len(tenants)+1)
	for _, id := range slices.Sorted(maps.Keys(tenants)) {
		r := tenants[id].over(all)
		ids = append(ids, strconv.FormatUint(uint64(id), 10))
		terms = append(terms, fmt.Sprintf("(tenant_id = %d AND {at} + toIntervalDay(%d) <= today())", id, *c.days(&r)))
	}
	terms = append(terms, fmt.Sprintf("(tenant_id NOT IN (%s) AND {at} + toIntervalDay(%d) <= today())", strings.Join(ids, ", "), *c.days(&all)))
	return strings.Join(terms, " OR ")
}
