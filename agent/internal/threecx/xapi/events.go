package xapi

import (
	"context"
	"fmt"

	"sidetone/agent/internal/threecx"
	"sidetone/shared/telemetry"
)

const (
	// eventColumns leaves Message and Params at the PBX: they quote numbers,
	// addresses and sometimes keys.
	eventColumns = "$select=Id,EventId,Type,Source,TimeGenerated"
	// eventPages bounds one reading of the event log; the next goes on from there.
	eventPages = 10
	// eventFirst is how many entries the first reading takes.
	eventFirst = 50
)

type eventAnswer struct {
	Id            num //nolint:revive // the vendor's spelling
	EventId       num //nolint:revive // the vendor's spelling
	Type, Source  text
	TimeGenerated instant
}

// EventLogs reads the entries that came after the cursor, oldest first; without a
// known cursor, the newest ones.
//
// It asks for the last known entry too. When that is missing the log was purged:
// ids then go on, or start again from one.
func (c *Client) EventLogs(ctx context.Context, after threecx.EventCursor) (threecx.Events, error) {
	if !after.Known {
		return c.newestEvents(ctx, after)
	}
	out := threecx.Events{Next: after}
	seenLast := after.Last == 0 // the log was empty: nothing to miss
	for range eventPages {
		q := fmt.Sprintf("%s&$filter=Id%%20ge%%20%d&$orderby=Id&$top=%d", eventColumns, out.Next.Last, pageSize)
		rows, err := readPage[eventAnswer](ctx, c, threecx.PathEventLogs, q)
		if err != nil {
			return threecx.Events{}, err
		}
		before := out.Next.Last
		for i := range rows {
			id := rows[i].Id.i64()
			if id == after.Last {
				seenLast = true
			}
			if rows[i].Id.ok && id > out.Next.Last {
				out.Entries = append(out.Entries, rows[i].row())
				out.Next.Last = id
			}
		}
		if len(rows) < pageSize || out.Next.Last == before {
			break
		}
		out.More = true
	}
	out.More = out.More && len(out.Entries) >= eventPages*(pageSize-1)
	out.Purged = !seenLast
	if out.Purged && len(out.Entries) == 0 {
		return c.newestEvents(ctx, after)
	}
	return out, nil
}

// newestEvents reads one page from the end of the log.
func (c *Client) newestEvents(ctx context.Context, after threecx.EventCursor) (threecx.Events, error) {
	n := eventFirst
	if after.Known {
		n = pageSize
	}
	q := fmt.Sprintf("%s&$orderby=Id%%20desc&$top=%d", eventColumns, n)
	rows, err := readPage[eventAnswer](ctx, c, threecx.PathEventLogs, q)
	if err != nil {
		return threecx.Events{}, err
	}
	out := threecx.Events{Next: threecx.EventCursor{Known: true}, Purged: after.Known}
	for i := len(rows) - 1; i >= 0; i-- {
		if !rows[i].Id.ok {
			continue
		}
		out.Entries = append(out.Entries, rows[i].row())
		out.Next.Last = max(out.Next.Last, rows[i].Id.i64())
	}
	return out, nil
}

func (r *eventAnswer) row() telemetry.EventLogEntry {
	e := telemetry.EventLogEntry{
		Observed: r.TimeGenerated.ms(), EntryID: r.Id.i64(),
		Severity: r.Type.clean(maxWord), Source: r.Source.clean(maxName),
	}
	if id := r.EventId.u32(); id != nil {
		e.EventID = *id
	}
	return e
}
