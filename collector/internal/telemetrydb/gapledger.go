package telemetrydb

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"sidetone/collector/internal/authz"
	"sidetone/shared/telemetry"
)

// Labels of a missing range. Where several would fit, the first of this list is given:
// what was refused or thrown away on purpose explains more than what was lost, and an
// explanation more than a guess. What is stored is not missing, whatever else is said.
const (
	GapRejected       = telemetry.GapRejected  // the collector refused its content
	GapDiscarded      = telemetry.GapDiscarded // a person threw the backlog away
	GapDamaged        = telemetry.GapDamaged   // lost to damage of the spool
	GapEvicted        = telemetry.GapEvicted   // dropped at the agent for want of room
	GapLate           = "late"                 // still in the agent's spool
	GapNeverCollected = "never_collected"      // none of these: the agent was not running, or lost it unnoticed
)

// MissingRange is records, or a time, that an agent did not deliver.
type MissingRange struct {
	Agent telemetry.AgentID
	Label string
	Epoch uint64
	// Numbered tells whether numbers are missing, FromSeq to ToSeq with both ends; else
	// the agent made no record between From and To.
	Numbered       bool
	FromSeq, ToSeq uint64
	// From and To are when the records before and after were made; zero when there is none.
	From, To time.Time
}

// Records counts the missing records.
func (r MissingRange) Records() uint64 {
	if !r.Numbered {
		return 0
	}
	return r.ToSeq - r.FromSeq + 1
}

// GapQuery asks what is missing of some agents.
type GapQuery struct {
	Agents   []telemetry.AgentID // empty: all in scope
	From, To time.Time
	Limit    int // at most MaxGaps, which zero means
}

// MaxGaps bounds a list of missing ranges.
const MaxGaps = 1000

// gapRange is how far a question may reach: frames are kept longer than this and
// gapMargin together.
const gapRange = 30 * 24 * time.Hour

// gapMargin is how much older records are looked at, so that a range that began
// before From is seen whole.
const gapMargin = 48 * time.Hour

// gapLedgerSQL is the view's own statement with two holes: conditions and start.
var gapLedgerSQL = sync.OnceValues(func() (string, error) {
	all, err := migrations()
	if err != nil {
		return "", err
	}
	const head = "CREATE OR REPLACE VIEW sidetone.gap_ledger AS\n"
	for _, m := range all {
		for _, sql := range m.statements {
			if _, body, ok := strings.Cut(sql, head); ok {
				return body, nil
			}
		}
	}
	return "", fmt.Errorf("no migration makes the gap ledger")
})

const (
	withinMark = "(/*within*/ 1)"
	sinceMark  = "/*since*/ (toStartOfDay(now('UTC')) - INTERVAL 30 DAY)"
)

// GapLedger lists what is missing between From and To, newest first, and tells whether
// there is more than Limit.
func (db *DB) GapLedger(ctx context.Context, scope authz.Scope, q GapQuery) (list []MissingRange, more bool, err error) {
	if !q.To.After(q.From) || q.To.Sub(q.From) > gapRange {
		return nil, false, fmt.Errorf("gap ledger: %s to %s is no time of at most 30 days", q.From.UTC().Format(time.RFC3339), q.To.UTC().Format(time.RFC3339))
	}
	sql, err := gapLedgerSQL()
	if err != nil {
		return nil, false, fmt.Errorf("gap ledger: %w", err)
	}
	if q.Limit <= 0 || q.Limit > MaxGaps {
		q.Limit = MaxGaps
	}
	w := within(scope)
	if len(q.Agents) > 0 {
		agents := make([]uint32, len(q.Agents))
		for i, a := range q.Agents {
			agents[i] = uint32(a)
		}
		w.and("agent_id IN {agents:Array(UInt32)}").bind("agents", agents)
	}
	w.bind("since_ms", q.From.Add(-gapMargin).UnixMilli()).bind("from_ms", q.From.UnixMilli()).bind("to_ms", q.To.UnixMilli()).
		bind("rows", uint32(q.Limit+1))
	sql = strings.ReplaceAll(sql, withinMark, "("+w.String()+")")
	sql = strings.Replace(sql, sinceMark, "toStartOfDay(fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC'))", 1)
	rows, err := db.ask(ctx, "gap ledger", `SELECT agent_id, label, epoch, from_seq, to_seq, from_time, to_time FROM (`+sql+`)
WHERE (from_time IS NULL OR from_time < fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC')) AND (to_time IS NULL OR to_time >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC'))
ORDER BY coalesce(to_time, toDateTime64('2262-01-01 00:00:00', 3, 'UTC')) DESC, agent_id, epoch DESC, from_seq DESC LIMIT {rows:UInt32}`, w)
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	for rows.Next() {
		var agent uint32
		var r MissingRange
		var fromSeq, toSeq *uint64
		var from, to *time.Time
		if err := rows.Scan(&agent, &r.Label, &r.Epoch, &fromSeq, &toSeq, &from, &to); err != nil {
			return nil, false, fmt.Errorf("gap ledger: %w", err)
		}
		r.Agent = telemetry.AgentID(agent)
		if fromSeq != nil && toSeq != nil {
			r.Numbered, r.FromSeq, r.ToSeq = true, *fromSeq, *toSeq
		}
		if from != nil {
			r.From = *from
		}
		if to != nil {
			r.To = *to
		}
		list = append(list, r)
	}
	if err := rows.Err(); err != nil {
		return nil, false, fmt.Errorf("gap ledger: %w", err)
	}
	if len(list) > q.Limit {
		return list[:q.Limit], true, nil
	}
	return list, false, nil
}
