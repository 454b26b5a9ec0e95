package telemetrydb

import (
	"context"
	"fmt"
	"time"

	"sidetone/collector/internal/authz"
	"sidetone/shared/telemetry"
)

// SeriesQuery asks for the curve of one target.
type SeriesQuery struct {
	Site  telemetry.SiteID  // zero: any
	Agent telemetry.AgentID // zero: any; naming it makes the query fast
	Item  telemetry.ItemID
	From  time.Time
	To    time.Time
	Step  time.Duration // zero: chosen, for at most MaxPoints points
}

// MaxPoints bounds a series.
const MaxPoints = 600

// exactRange is how long a range may be for quantiles over every single RTT; beyond
// it the median of the windows' quantiles stands in.
const exactRange = 48 * time.Hour

// minStep is the usual length of a window: a finer step only makes holes.
const minStep = 10 * time.Second

// Series is a curve on an even grid. All columns have the length of T; nil is "no
// data". Loss and Sent are nil where no window began.
type Series struct {
	From, To   telemetry.UnixMS
	StepMS     int64
	T          []telemetry.UnixMS // start of each step
	RTTMinUS   []*uint32
	RTTP10US   []*uint32
	RTTP50US   []*uint32
	RTTP90US   []*uint32
	RTTMaxUS   []*uint32
	JitterUS   []*uint32
	LossRatio  []*float64
	Sent       []*uint32
	LostTotal  uint64
	SentTotal  uint64
	ExactStats bool // quantiles are over single RTTs
}

// steps are the widths that a chosen step is rounded up to.
var steps = []time.Duration{
	10 * time.Second, 20 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute,
	10 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
}

func (q *SeriesQuery) normalise() error {
	switch {
	case q.Item == 0:
		return fmt.Errorf("series: no target given")
	case !q.To.After(q.From):
		return fmt.Errorf("series: the end %s is not after the start %s", q.To.UTC().Format(time.RFC3339), q.From.UTC().Format(time.RFC3339))
	case q.To.Sub(q.From) > 400*24*time.Hour:
		return fmt.Errorf("series: more than 400 days asked for")
	}
	need := q.To.Sub(q.From) / MaxPoints
	if q.Step < need || q.Step < minStep {
		q.Step = max(q.Step, need, minStep)
		for _, s := range steps {
			if s >= q.Step {
				q.Step = s
				break
			}
		}
	}
	q.From = time.UnixMilli(q.From.UnixMilli() / q.Step.Milliseconds() * q.Step.Milliseconds())
	return nil
}

// Series returns the curve: out of single rows for a short range, out of roll-ups for a
// long one. Steps without a window are nil, so that a gap stays a gap.
func (db *DB) Series(ctx context.Context, scope authz.Scope, q SeriesQuery) (*Series, error) {
	if err := q.normalise(); err != nil {
		return nil, err
	}
	exact := q.To.Sub(q.From) <= exactRange
	var w *where
	var from string
	if unit, since, to, err := db.rolledFor(ctx, q); err != nil {
		return nil, err
	} else if unit != 0 {
		w, from = q.rolled(scope, unit, since, to)
	} else {
		w, from = q.single(scope, exact)
	}
	rows, err := db.ask(ctx, "series", `SELECT bucket, toUInt32(sent_sum), toUInt64(received_sum), toUInt64(lost_sum), toUInt32(lo), toUInt32(p10), toUInt32(p50), toUInt32(p90), toUInt32(hi), toUInt32(jitter), jittered
FROM (`+from+`)`, w)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	s := newSeries(q, exact)
	for rows.Next() {
		var bucket int64
		var received, lost, jittered uint64
		var sent, lo, p10, p50, p90, hi, jitter uint32
		if err := rows.Scan(&bucket, &sent, &received, &lost, &lo, &p10, &p50, &p90, &hi, &jitter, &jittered); err != nil {
			return nil, fmt.Errorf("series: %w", err)
		}
		if bucket < 0 || bucket >= int64(len(s.T)) {
			continue
		}
		s.SentTotal += uint64(sent)
		s.LostTotal += lost
		s.Sent[bucket] = &sent
		if sent > 0 {
			ratio := float64(lost) / float64(sent)
			s.LossRatio[bucket] = &ratio
		}
		if received > 0 {
			s.RTTMinUS[bucket], s.RTTP10US[bucket], s.RTTP50US[bucket] = &lo, &p10, &p50
			s.RTTP90US[bucket], s.RTTMaxUS[bucket] = &p90, &hi
		}
		if jittered > 0 {
			s.JitterUS[bucket] = &jitter
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("series: %w", err)
	}
	return s, nil
}

// where is the condition of the target's rows.
func (q *SeriesQuery) where(scope authz.Scope) *where {
	w := within(scope)
	is(w, "target_id", q.Item)
	is(w, "agent_id", q.Agent)
	is(w, "site_id", q.Site)
	return w.bind("from_ms", q.From.UnixMilli()).bind("to_ms", q.To.UnixMilli()).bind("step_ms", q.Step.Milliseconds())
}

const windowColumns = "observed, sent, received, lost, rtt_us, rtt_min_us, rtt_p10_us, rtt_p50_us, rtt_p90_us, rtt_max_us, jitter_us"

// single makes the steps out of single rows.
func (q *SeriesQuery) single(scope authz.Scope, exact bool) (*where, string) {
	w := q.where(scope).and(observedBetween)
	quantiles := "medianExactIf(rtt_p10_us, w.received > 0) AS p10, medianExactIf(rtt_p50_us, w.received > 0) AS p50, medianExactIf(rtt_p90_us, w.received > 0) AS p90"
	if exact {
		quantiles = "quantilesExactArray(0.1, 0.5, 0.9)(arrayFilter(x -> x > 0, rtt_us)) AS q, q[1] AS p10, q[2] AS p50, q[3] AS p90"
	}
	return w, `SELECT intDiv(toUnixTimestamp64Milli(observed) - {from_ms:Int64}, {step_ms:Int64}) AS bucket,
    ` + quantiles + `,
    sum(w.sent) AS sent_sum, sum(w.received) AS received_sum, sum(w.lost) AS lost_sum,
    minIf(rtt_min_us, w.received > 0) AS lo, maxIf(rtt_max_us, w.received > 0) AS hi,
    countIf(w.received > 1) AS jittered, if(jittered = 0, 0, round(sumIf(jitter_us, w.received > 1) / jittered)) AS jitter
  FROM (SELECT ` + windowColumns + ` FROM sidetone.probe_window_raw FINAL WHERE ` + w.String() + `) AS w
  GROUP BY bucket`
}

// minuteRange is how long a range may be for roll-ups of a minute; hours serve longer ones.
const minuteRange = 30 * 24 * time.Hour

// rolledFor tells which roll-ups serve q, and from when to when there are any; zero
// means single rows do.
func (db *DB) rolledFor(ctx context.Context, q SeriesQuery) (unit time.Duration, since, to time.Time, err error) {
	length := q.To.Sub(q.From)
	if length <= exactRange {
		return 0, since, to, nil
	}
	unit = time.Minute
	if length > minuteRange {
		unit = time.Hour
	}
	since, to, err = db.rolledTo(ctx)
	if err != nil || to.IsZero() || q.Step%unit != 0 {
		return 0, since, to, err
	}
	return unit, since, to.Truncate(unit), nil
}

// rolled makes the steps out of roll-ups, and out of single rows where there are none:
// before the first, and what is not rolled up yet.
func (q *SeriesQuery) rolled(scope authz.Scope, unit time.Duration, since, to time.Time) (*where, string) {
	table := "probe_minute_raw"
	if unit == time.Hour {
		table = "probe_hour_raw"
	}
	w := q.where(scope).bind("since_ms", since.UnixMilli()).bind("rolled_ms", to.UnixMilli())
	target := w.String()
	quantile := func(name, q string) string {
		return "if(empty(h.2), 0, least(greatest(round(exp2(h.1[arrayFirstIndex(c -> c >= " + q + " * arraySum(h.2), arrayCumSum(h.2))] / 32)), lo), hi)) AS " + name
	}
	return w, `SELECT intDiv(w.at - {from_ms:Int64}, {step_ms:Int64}) AS bucket,
    sum(w.sent) AS sent_sum, sum(w.received) AS received_sum, sum(w.lost) AS lost_sum,
    minIf(w.rtt_min_us, w.received > 0) AS lo, maxIf(w.rtt_max_us, w.received > 0) AS hi, sumMap(w.buckets, w.counts) AS h,
    ` + quantile("p10", "0.1") + ", " + quantile("p50", "0.5") + ", " + quantile("p90", "0.9") + `,
    toUInt64(sum(w.jitter_n)) AS jittered, if(jittered = 0, 0, round(sum(w.jitter_sum) / jittered)) AS jitter
  FROM (
    SELECT toInt64(toUnixTimestamp(start)) * 1000 AS at, sent, received, lost, rtt_min_us, rtt_max_us, rtt_bucket AS buckets, rtt_count AS counts, jitter_windows AS jitter_n, jitter_sum_us AS jitter_sum
    FROM sidetone.` + table + ` FINAL WHERE ` + target + ` AND start >= fromUnixTimestamp64Milli(greatest({from_ms:Int64}, {since_ms:Int64})) AND start < fromUnixTimestamp64Milli(least({to_ms:Int64}, {rolled_ms:Int64}))
    UNION ALL
    SELECT toUnixTimestamp64Milli(observed), toUInt64(sent), toUInt64(received), toUInt64(lost), rtt_min_us, rtt_max_us,
      arrayMap(x -> toUInt16(round(32 * log2(x))), arrayFilter(x -> x > 0, rtt_us)), arrayMap(x -> toUInt64(1), arrayFilter(x -> x > 0, rtt_us)), toUInt32(received > 1), toUInt64(if(received > 1, jitter_us, 0))
    FROM sidetone.probe_window_raw FINAL WHERE ` + target + " AND " + observedBetween + ` AND (observed < fromUnixTimestamp64Milli({since_ms:Int64}) OR observed >= fromUnixTimestamp64Milli({rolled_ms:Int64}))
  ) AS w
  GROUP BY bucket`
}

func newSeries(q SeriesQuery, exact bool) *Series {
	step := q.Step.Milliseconds()
	from := q.From.UnixMilli()
	n := int((q.To.UnixMilli() - from + step - 1) / step)
	s := &Series{
		From: telemetry.UnixMS(from), To: telemetry.MS(q.To), StepMS: step, ExactStats: exact,
		T: make([]telemetry.UnixMS, n), RTTMinUS: make([]*uint32, n), RTTP10US: make([]*uint32, n), RTTP50US: make([]*uint32, n),
		RTTP90US: make([]*uint32, n), RTTMaxUS: make([]*uint32, n), JitterUS: make([]*uint32, n),
		LossRatio: make([]*float64, n), Sent: make([]*uint32, n),
	}
	for i := range s.T {
		s.T[i] = telemetry.UnixMS(from + int64(i)*step)
	}
	return s
}
