package telemetrydb

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// RollUpConfig bounds rolling up; zero values mean the defaults.
type RollUpConfig struct {
	// Keep is how long single readings are kept, 30 days: an older interval is never made
	// anew, as its rows may be gone.
	Keep time.Duration
	// Settle is how long after its end an interval is made, 90 s: longer than an insert
	// may take, so that what has an earlier stored_at is there.
	Settle time.Duration
}

func (c *RollUpConfig) setDefaults() {
	if c.Keep <= 0 {
		c.Keep = 30 * 24 * time.Hour
	}
	if c.Settle <= 0 {
		c.Settle = 90 * time.Second
	}
}

// RollUp does a bounded piece of rolling up: it makes the intervals that have closed
// since, and those closed before for which rows arrived late. How far it is stands in
// ClickHouse, so that any collector goes on after a stop; a piece that is done twice, or
// by two at once, does no harm, as the newest row of an interval counts. more says that
// another piece is due at once.
func (db *DB) RollUp(ctx context.Context, cfg RollUpConfig) (more bool, err error) {
	cfg.setDefaults()
	piece, err := db.nextPiece(ctx, cfg)
	if err != nil || piece == nil {
		return false, err
	}
	for _, sql := range piece.statements() {
		if err := db.rollExec(ctx, sql); err != nil {
			return false, fmt.Errorf("roll up %s to %s: %w", piece.from.Format(time.RFC3339), piece.to.Format(time.RFC3339), err)
		}
	}
	b := &Block{Table: "rollup_state", Rows: 1, Columns: []Column{
		{"job", "LowCardinality(String)", []string{rollJob}}, {"since", instantType, []int64{piece.since.UnixMilli()}},
		{"done_to", instantType, []int64{piece.to.UnixMilli()}},
	}}
	if err := db.InsertBlock(ctx, b, ""); err != nil {
		return false, fmt.Errorf("note how far the roll-ups are: %w", err)
	}
	return piece.more, nil
}

const (
	rollJob = "rollup"
	// rollPiece bounds one piece by the time in which its rows were stored.
	rollPiece = 10 * time.Minute
)

// piece is what was stored in (from, to].
type piece struct {
	since    time.Time
	from, to time.Time
	oldest   time.Time // no interval before is made anew
	late     lateMinutes
	more     bool
}

// lateMinutes spans the minutes, closed at from, for which rows came.
type lateMinutes struct{ frames, first, last uint64 }

// rolledTo tells from when and to when roll-ups are made; both are zero before the first.
func (db *DB) rolledTo(ctx context.Context) (since, to time.Time, err error) {
	row := db.conn.QueryRow(ctx, "SELECT min(since), max(done_to) FROM sidetone.rollup_state WHERE job = '"+rollJob+"' HAVING count() > 0")
	switch err := row.Scan(&since, &to); {
	case isNoRows(err):
		return time.Time{}, time.Time{}, nil
	case err != nil:
		return since, to, fmt.Errorf("read how far the roll-ups are: %w", cause(err))
	}
	return since, to, nil
}

func (db *DB) nextPiece(ctx context.Context, cfg RollUpConfig) (*piece, error) {
	var now time.Time
	if err := db.conn.QueryRow(ctx, "SELECT now64(3, 'UTC')").Scan(&now); err != nil {
		return nil, fmt.Errorf("roll up: %w", cause(err))
	}
	p := &piece{to: now.Add(-cfg.Settle), oldest: now.Add(-cfg.Keep + 24*time.Hour)}
	var err error
	if p.since, p.from, err = db.rolledTo(ctx); err != nil {
		return nil, err
	}
	if p.from.IsZero() {
		var first time.Time
		row := db.conn.QueryRow(ctx, "SELECT min(stored_at) FROM sidetone.frame_raw HAVING count() > 0")
		if err := row.Scan(&first); isNoRows(err) {
			return nil, nil // nothing was ever stored
		} else if err != nil {
			return nil, fmt.Errorf("roll up: %w", cause(err))
		}
		p.from = first.Add(-time.Millisecond)
		p.since = p.from.Truncate(time.Hour)
	}
	if limit := p.from.Add(rollPiece); p.to.After(limit) {
		p.to, p.more = limit, true
	}
	if !p.to.After(p.from) {
		return nil, nil
	}
	row := db.conn.QueryRow(ctx, "SELECT count(), min(m), max(m) FROM (SELECT arrayJoin(minutes) AS m FROM sidetone.frame_raw WHERE "+p.stored()+") WHERE "+p.isLate("m"))
	var first, last uint32
	if err := row.Scan(&p.late.frames, &first, &last); err != nil {
		return nil, fmt.Errorf("look for late rows: %w", cause(err))
	}
	p.late.first, p.late.last = uint64(first), uint64(last)
	return p, nil
}

func instantSQL(t time.Time) string {
	return fmt.Sprintf("fromUnixTimestamp64Milli(%d, 'UTC')", t.UnixMilli())
}

// stored is the condition of frames of the piece.
func (p *piece) stored() string {
	return "NOT dead_letter AND stored_at > " + instantSQL(p.from) + " AND stored_at <= " + instantSQL(p.to)
}

// isLate is the condition of a minute that was closed when the piece before ended.
func (p *piece) isLate(m string) string {
	return fmt.Sprintf("%s < %d AND %s >= %d", m, p.from.Unix()/60, m, max(0, p.oldest.Unix()/60))
}

// lateOnes is the condition of the agents' intervals of so many minutes that rows came
// late for.
func (p *piece) lateOnes(start string, minutes int64) string {
	return fmt.Sprintf("(agent_id, intDiv(toUInt32(toUnixTimestamp(%s)), %d)) IN (SELECT agent_id, intDiv(m, %d) FROM (SELECT agent_id, arrayJoin(minutes) AS m FROM sidetone.frame_raw WHERE %s) WHERE %s)",
		start, 60*minutes, minutes, p.stored(), p.isLate("m"))
}

func (p *piece) statements() []string {
	var out []string
	add := func(minutes int64, from, to time.Time, also string) {
		if to.After(from) {
			out = append(out, rollStatements(minutes, from, to, also)...)
		}
	}
	minute, hour := p.from.Truncate(time.Minute), p.from.Truncate(time.Hour)
	if p.since.Equal(hour) { // the first piece: what is late is all there is
		minute = hour
	}
	add(1, minute, p.to.Truncate(time.Minute), "")
	if p.late.frames > 0 {
		first, last := time.Unix(int64(p.late.first)*60, 0).UTC(), time.Unix(int64(p.late.last)*60, 0).UTC()
		add(1, first, last.Add(time.Minute), p.lateOnes("observed", 1))
		lateTo := last.Truncate(time.Hour).Add(time.Hour)
		if lateTo.After(hour) {
			lateTo = hour // not closed yet
		}
		add(60, first.Truncate(time.Hour), lateTo, p.lateOnes("start", 60))
	}
	add(60, hour, p.to.Truncate(time.Hour), "")
	return out
}

const (
	probeKey = "tenant_id, agent_id, target_id, start"
	pbxKey   = "tenant_id, agent_id, start"
)

// rollStatements make the intervals of so many minutes that begin in [from, to): minutes
// out of single rows, hours out of minutes.
func rollStatements(minutes int64, from, to time.Time, also string) []string {
	if also == "" {
		also = "1"
	}
	if minutes == 1 {
		cond := fmt.Sprintf("NOT clock_flag AND day >= toDate(%[1]s, 'UTC') AND day <= toDate(%[2]s, 'UTC') AND observed >= %[1]s AND observed < %[2]s AND %[3]s", instantSQL(from), instantSQL(to), also)
		return []string{rollInsert("probe_minute_raw", probeKey, probeOfRows, "(SELECT *, toStartOfMinute(toDateTime(observed, 'UTC')) AS start FROM sidetone.probe_window_raw FINAL WHERE "+cond+")"),
			rollInsert("pbx_minute_raw", pbxKey, pbxOfRows, "(SELECT *, toStartOfMinute(toDateTime(observed, 'UTC')) AS start FROM sidetone.pbx_status_raw FINAL WHERE "+cond+")")}
	}
	cond := fmt.Sprintf("start >= toDateTime(%d, 'UTC') AND start < toDateTime(%d, 'UTC') AND %s", from.Unix(), to.Unix(), also)
	return []string{rollInsert("probe_hour_raw", probeKey, probeOfMinutes, "(SELECT * REPLACE(toStartOfHour(start) AS start) FROM (SELECT * FROM sidetone.probe_minute_raw FINAL WHERE "+cond+"))"),
		rollInsert("pbx_hour_raw", pbxKey, pbxOfMinutes, "(SELECT * REPLACE(toStartOfHour(start) AS start) FROM (SELECT * FROM sidetone.pbx_minute_raw FINAL WHERE "+cond+"))")}
}

// column is a column of a roll-up and what it is made of.
type rollColumn struct{ name, of string }

func rollInsert(table, key string, columns []rollColumn, from string) string {
	names, values := make([]string, len(columns)), make([]string, len(columns))
	for i, c := range columns {
		names[i], values[i] = c.name, c.of
	}
	return fmt.Sprintf("INSERT INTO sidetone.%s (%s, customer_id, site_id, pbx_id, %s, rolled_at)\nSELECT %s, any(w.customer_id), any(w.site_id), any(w.pbx_id), %s, now64(3, 'UTC')\nFROM %s AS w GROUP BY %s ORDER BY ALL",
		table, key, strings.Join(names, ", "), key, strings.Join(values, ", "), from, key)
}

// rttHistogram counts RTTs in buckets of 2^(1/32): merging two adds their counts, and a
// quantile is off by at most 1.1 %.
const rttHistogram = "sumMap(arrayMap(x -> toUInt16(round(32 * log2(x))), arrayFilter(x -> x > 0, w.rtt_us)), arrayMap(x -> toUInt64(1), arrayFilter(x -> x > 0, w.rtt_us)))"

var probeOfRows = []rollColumn{
	{"windows", "toUInt32(count())"}, {"sent", "sum(w.sent)"}, {"received", "sum(w.received)"}, {"lost", "sum(w.lost)"}, {"late", "sum(w.late)"},
	{"duplicated", "sum(w.duplicated)"}, {"reordered", "sum(w.reordered)"},
	{"sent_directed", "sumIf(w.sent, w.lost_forward IS NOT NULL AND w.lost_reverse IS NOT NULL)"},
	{"lost_forward", "sumIf(assumeNotNull(w.lost_forward), w.lost_forward IS NOT NULL AND w.lost_reverse IS NOT NULL)"},
	{"lost_reverse", "sumIf(assumeNotNull(w.lost_reverse), w.lost_forward IS NOT NULL AND w.lost_reverse IS NOT NULL)"},
	{"rtt_min_us", "minIf(w.rtt_min_us, w.received > 0)"}, {"rtt_max_us", "maxIf(w.rtt_max_us, w.received > 0)"}, {"rtt_sum_us", "sum(arraySum(w.rtt_us))"},
	{"rtt_bucket", rttHistogram + ".1"}, {"rtt_count", rttHistogram + ".2"},
	{"jitter_windows", "toUInt32(countIf(w.received > 1))"}, {"jitter_sum_us", "sumIf(w.jitter_us, w.received > 1)"},
	{"jitter_max_us", "maxIf(w.jitter_us, w.received > 1)"}, {"loss_run_max", "max(w.loss_run_max)"},
}

var probeOfMinutes = []rollColumn{
	{"windows", "toUInt32(sum(w.windows))"}, {"sent", "sum(w.sent)"}, {"received", "sum(w.received)"}, {"lost", "sum(w.lost)"}, {"late", "sum(w.late)"},
	{"duplicated", "sum(w.duplicated)"}, {"reordered", "sum(w.reordered)"},
	{"sent_directed", "sum(w.sent_directed)"}, {"lost_forward", "sum(w.lost_forward)"}, {"lost_reverse", "sum(w.lost_reverse)"},
	{"rtt_min_us", "minIf(w.rtt_min_us, w.received > 0)"}, {"rtt_max_us", "max(w.rtt_max_us)"}, {"rtt_sum_us", "sum(w.rtt_sum_us)"},
	{"rtt_bucket", "sumMap(w.rtt_bucket, w.rtt_count).1"}, {"rtt_count", "sumMap(w.rtt_bucket, w.rtt_count).2"},
	{"jitter_windows", "toUInt32(sum(w.jitter_windows))"}, {"jitter_sum_us", "sum(w.jitter_sum_us)"},
	{"jitter_max_us", "max(w.jitter_max_us)"}, {"loss_run_max", "max(w.loss_run_max)"},
}

var pbxOfRows = []rollColumn{
	{"readings", "toUInt32(count())"}, {"readings_ok", "toUInt32(countIf(w.state = 'ok'))"}, {"answer_max_ms", "max(w.answer_ms)"},
	{"calls_readings", "toUInt32(count(w.calls_active))"}, {"calls_sum", "toUInt64(coalesce(sum(w.calls_active), 0))"},
	{"calls_active_max", "max(w.calls_active)"}, {"calls_max", "max(w.calls_max)"},
	{"trunks_registered_min", "min(w.trunks_registered)"}, {"trunks_total", "max(w.trunks_total)"},
	{"extensions_registered_min", "min(w.extensions_registered)"}, {"disk_used_percent_max", "max(w.disk_used_percent)"},
}

var pbxOfMinutes = []rollColumn{
	{"readings", "toUInt32(sum(w.readings))"}, {"readings_ok", "toUInt32(sum(w.readings_ok))"}, {"answer_max_ms", "max(w.answer_max_ms)"},
	{"calls_readings", "toUInt32(sum(w.calls_readings))"}, {"calls_sum", "sum(w.calls_sum)"},
	{"calls_active_max", "max(w.calls_active_max)"}, {"calls_max", "max(w.calls_max)"},
	{"trunks_registered_min", "min(w.trunks_registered_min)"}, {"trunks_total", "max(w.trunks_total)"},
	{"extensions_registered_min", "min(w.extensions_registered_min)"}, {"disk_used_percent_max", "max(w.disk_used_percent_max)"},
}

// rollExec runs a statement that may take long and must not be taken for a repetition.
func (db *DB) rollExec(ctx context.Context, sql string) error {
	settings, err := db.insertSettings(ctx, "")
	if err != nil {
		return err
	}
	return cause(db.conn.Exec(clickhouse.Context(ctx, clickhouse.WithSettings(settings)), sql))
}
