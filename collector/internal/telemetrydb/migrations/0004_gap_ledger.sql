-- The gap ledger: what an agent has not delivered, in contiguous ranges, each with one
-- label. DESIGN.md tells how it is found out. The marked conditions are where queries of
-- this program put the agents and the time they ask for; the view judges 30 days.

CREATE OR REPLACE VIEW sidetone.gap_ledger AS
WITH
    /*since*/ (toStartOfDay(now('UTC')) - INTERVAL 30 DAY) AS since,
    9007199254740992 AS no_seq, -- 2^53: numbers from here on are not believed
    stored AS
    (
        SELECT tenant_id, agent_id, epoch, seq, toUnixTimestamp64Milli(observed) AS at
        FROM sidetone.frame_raw
        WHERE (/*within*/ 1) AND (day >= toDate(since, 'UTC') OR clock_flag) AND NOT dead_letter AND seq < no_seq
    ),
    -- runs of stored numbers; a repetition has the same rank and so the same run
    runs AS
    (
        SELECT tenant_id, agent_id, epoch, min(seq) AS a, max(seq) AS b, argMin(at, seq) AS a_at, argMax(at, seq) AS b_at
        FROM (SELECT *, toInt64(seq) - toInt64(dense_rank() OVER (PARTITION BY tenant_id, agent_id, epoch ORDER BY seq)) AS run FROM stored)
        GROUP BY tenant_id, agent_id, epoch, run
    ),
    placed AS
    (
        SELECT *, lagInFrame(b_at, 1, toInt64(0)) OVER w AS before_at, leadInFrame(a_at, 1, toInt64(0)) OVER w AS after_at
        FROM runs
        WINDOW w AS (PARTITION BY tenant_id, agent_id ORDER BY epoch, a ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
    ),
    -- what agents say of numbers that will not come; a refused frame is one of them
    told AS
    (
        SELECT tenant_id, agent_id, gap_epoch AS epoch, from_seq AS a, toUInt64(least(to_seq, no_seq - 1)) AS b, toString(reason) AS label
        FROM sidetone.gap_raw
        WHERE (/*within*/ 1) AND (day >= toDate(since, 'UTC') OR clock_flag) AND from_seq <= to_seq AND from_seq < no_seq
        UNION ALL
        SELECT tenant_id, agent_id, epoch, seq, seq, 'rejected'
        FROM sidetone.frame_raw
        WHERE (/*within*/ 1) AND (day >= toDate(since, 'UTC') OR clock_flag) AND dead_letter AND seq < no_seq
    ),
    health AS
    (
        SELECT tenant_id, agent_id, spool_epoch, spool_first, spool_next, spool_lowest, epoch AS own_epoch, seq AS own_seq
        FROM sidetone.agent_health_raw
        WHERE (/*within*/ 1) AND (day >= toDate(since, 'UTC') OR clock_flag) AND spool_epoch > 0
            AND spool_first <= spool_next AND spool_next < no_seq AND spool_lowest <= spool_next
    ),
    newest AS
    (
        SELECT tenant_id, agent_id, argMax(spool_epoch, (own_epoch, own_seq)) AS now_epoch, argMax(spool_lowest, (own_epoch, own_seq)) AS now_lowest
        FROM health GROUP BY tenant_id, agent_id
    ),
    known AS
    (
        SELECT tenant_id, agent_id, epoch, min(low) AS stored_from, max(high) AS given_to, max(told_first) AS first, min(told_lowest) AS lowest,
            argMin(low_before_at, low) AS first_before_at, argMin(low_at, low) AS first_at
        FROM
        (
            SELECT tenant_id, agent_id, epoch, a AS low, b AS high, toUInt64(0) AS told_first, toUInt64(no_seq) AS told_lowest, before_at AS low_before_at, a_at AS low_at
            FROM placed
            UNION ALL
            SELECT tenant_id, agent_id, epoch, toUInt64(no_seq), b, 0, no_seq, 0, 0 FROM told
            UNION ALL
            SELECT tenant_id, agent_id, spool_epoch, toUInt64(no_seq), toUInt64(max(spool_next) - 1), max(spool_first), greatest(min(spool_lowest), max(spool_first)), 0, 0
            FROM health GROUP BY tenant_id, agent_id, spool_epoch HAVING max(spool_next) > max(spool_first)
        )
        GROUP BY tenant_id, agent_id, epoch
    ),
    -- numbers go on from one epoch of a spool to the next; a spool that lost all begins anew
    lives AS
    (
        SELECT *,
            if(first > 0 AND bitShiftRight(epoch, 10) >= toUnixTimestamp(since) * 1000, least(first, stored_from), least(stored_from, lowest)) AS given_from,
            min(if(first > 0, least(first, stored_from), least(stored_from, lowest))) OVER
                (PARTITION BY tenant_id, agent_id ORDER BY epoch DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS later_first,
            count() OVER (PARTITION BY tenant_id, agent_id ORDER BY epoch DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS later
        FROM known
    ),
    spans AS
    (
        SELECT l.tenant_id AS tenant_id, l.agent_id AS agent_id, l.epoch AS epoch, l.given_from AS given_from, l.given_to AS given_to,
            l.first_before_at AS first_before_at, l.first_at AS first_at,
            if(n.now_epoch > 0 AND (l.later = 0 OR l.given_to < l.later_first), greatest(n.now_lowest, l.given_from), toUInt64(no_seq)) AS late_from
        FROM lives AS l
        LEFT ANY JOIN newest AS n ON n.tenant_id = l.tenant_id AND n.agent_id = l.agent_id
        WHERE l.given_from <= l.given_to
    ),
    -- every edge of every range: what begins or ends there, and what was stored on either side
    edges AS
    (
        SELECT tenant_id, agent_id, epoch, arrayJoin([(a, 1, 0), (b + 1, -1, 1)]) AS e, e.1 AS pos, 'stored' AS what, toInt64(e.2) AS change,
            if(e.3 = 1, b_at, NULL) AS edge_before, if(e.3 = 1, after_at, NULL) AS edge_after
        FROM placed
        UNION ALL
        SELECT tenant_id, agent_id, epoch, arrayJoin([(given_from, 1, 1), (given_to + 1, -1, 0)]) AS e, e.1, 'given', toInt64(e.2),
            if(e.3 = 1, first_before_at, NULL), if(e.3 = 1, first_at, NULL)
        FROM spans
        UNION ALL
        SELECT tenant_id, agent_id, epoch, arrayJoin([(late_from, 1, 0), (given_to + 1, -1, 0)]) AS e, e.1, 'late', toInt64(e.2), NULL, NULL
        FROM spans WHERE late_from <= given_to
        UNION ALL
        SELECT tenant_id, agent_id, epoch, arrayJoin([(a, 1, 0), (b + 1, -1, 0)]) AS e, e.1, if(label IN ('rejected', 'discarded', 'damaged', 'evicted'), label, 'other'), toInt64(e.2), NULL, NULL
        FROM told
    ),
    pieces AS
    (
        SELECT tenant_id, agent_id, epoch, pos AS a, leadInFrame(pos, 1, pos) OVER w AS next_pos,
            sum(stored_) OVER r AS is_stored, sum(given_) OVER r AS is_given, sum(late_) OVER r AS is_late,
            sum(rejected_) OVER r AS is_rejected, sum(discarded_) OVER r AS is_discarded, sum(damaged_) OVER r AS is_damaged,
            sum(evicted_) OVER r AS is_evicted, sum(other_) OVER r AS is_other,
            anyLast(edge_before) OVER r AS before_at, anyLast(edge_after) OVER r AS after_at
        FROM
        (
            SELECT tenant_id, agent_id, epoch, pos,
                sumIf(change, what = 'stored') AS stored_, sumIf(change, what = 'given') AS given_, sumIf(change, what = 'late') AS late_,
                sumIf(change, what = 'rejected') AS rejected_, sumIf(change, what = 'discarded') AS discarded_, sumIf(change, what = 'damaged') AS damaged_,
                sumIf(change, what = 'evicted') AS evicted_, sumIf(change, what = 'other') AS other_,
                argMaxIf(edge_before, what = 'stored', edge_before IS NOT NULL) AS edge_before,
                argMaxIf(edge_after, what = 'stored', edge_after IS NOT NULL) AS edge_after
            FROM edges GROUP BY tenant_id, agent_id, epoch, pos
        )
        WINDOW w AS (PARTITION BY tenant_id, agent_id, epoch ORDER BY pos ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING),
            r AS (PARTITION BY tenant_id, agent_id, epoch ORDER BY pos ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
    ),
    labelled AS
    (
        SELECT tenant_id, agent_id, epoch, a, toUInt64(next_pos - 1) AS b, before_at, after_at,
            multiIf(is_rejected > 0, 'rejected', is_discarded > 0, 'discarded', is_damaged > 0, 'damaged', is_evicted > 0, 'evicted',
                is_other > 0, 'never_collected', is_late > 0, 'late', 'never_collected') AS label
        FROM pieces
        WHERE next_pos > a AND is_stored = 0 AND (is_given > 0 OR is_rejected + is_discarded + is_damaged + is_evicted + is_other > 0)
    ),
    seq_ranges AS
    (
        SELECT tenant_id, agent_id, epoch, min(a) AS from_seq, max(b) AS to_seq, any(label) AS label, any(before_at) AS before_at, any(after_at) AS after_at
        FROM
        (
            SELECT *, sum(begins) OVER (PARTITION BY tenant_id, agent_id, epoch ORDER BY a ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS range
            FROM
            (
                SELECT *, NOT (lagInFrame(label, 1, '') OVER p = label AND lagInFrame(b, 1, toUInt64(0)) OVER p + 1 = a) AS begins
                FROM labelled
                WINDOW p AS (PARTITION BY tenant_id, agent_id, epoch ORDER BY a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
            )
        )
        GROUP BY tenant_id, agent_id, epoch, range
    ),
    -- silence: over a minute between two records with no number missing in between
    silences AS
    (
        SELECT tenant_id, agent_id, epoch, prev_at AS before_at, at AS after_at
        FROM
        (
            SELECT tenant_id, agent_id, epoch, at, lagInFrame(at, 1, toInt64(0)) OVER t AS prev_at
            FROM
            (
                SELECT tenant_id, agent_id, epoch, seq, at FROM stored WHERE at > 0
                UNION ALL
                SELECT tenant_id, agent_id, epoch, seq, toUnixTimestamp64Milli(observed) FROM sidetone.frame_raw
                WHERE (/*within*/ 1) AND dead_letter AND day >= toDate(since, 'UTC')
                UNION ALL
                SELECT tenant_id, agent_id, argMax(epoch, observed), argMax(seq, observed), toUnixTimestamp64Milli(max(observed)) FROM sidetone.frame_raw
                WHERE (/*within*/ 1) AND day < toDate(since, 'UTC') AND day >= toDate(since, 'UTC') - 30
                GROUP BY tenant_id, agent_id
            )
            WINDOW t AS (PARTITION BY tenant_id, agent_id ORDER BY at, epoch, seq ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
        )
        WHERE prev_at > 0 AND at - prev_at > 60000
    )
SELECT
    x.tenant_id AS tenant_id, a.tenant AS tenant, a.customer_id AS customer_id, a.customer AS customer, a.site_id AS site_id, a.site AS site,
    a.pbx_id AS pbx_id, a.pbx AS pbx, x.agent_id AS agent_id, a.agent AS agent, x.label AS label, x.epoch AS epoch,
    x.from_seq AS from_seq, x.to_seq AS to_seq, x.to_seq - x.from_seq + 1 AS records,
    fromUnixTimestamp64Milli(if(x.after_ms < x.before_ms, x.after_ms, x.before_ms), 'UTC') AS from_time,
    fromUnixTimestamp64Milli(if(x.after_ms < x.before_ms, x.before_ms, x.after_ms), 'UTC') AS to_time
FROM
(
    SELECT *, sum(numbered) OVER (PARTITION BY tenant_id, agent_id, before_ms) AS told_already
    FROM
    (
        SELECT tenant_id, agent_id, label, epoch, CAST(from_seq, 'Nullable(UInt64)') AS from_seq, CAST(to_seq, 'Nullable(UInt64)') AS to_seq, 1 AS numbered,
            nullIf(before_at, 0) AS before_ms, nullIf(after_at, 0) AS after_ms
        FROM seq_ranges
        UNION ALL
        SELECT tenant_id, agent_id, 'never_collected', epoch, NULL, NULL, 0, CAST(before_at, 'Nullable(Int64)'), CAST(after_at, 'Nullable(Int64)')
        FROM silences
    )
) AS x
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = x.agent_id
WHERE x.numbered = 1 OR x.told_already = 0;
