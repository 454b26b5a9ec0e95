package controldb

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/incident"
	"sidetone/collector/internal/notify"
)

var _ notify.Store = (*DB)(nil)

// States of a message.
const (
	stateQueued  = "queued"
	stateSending = "sending"
)

// free is the condition that no earlier message of the same incident to the same
// recipient is under way: a resolution never overtakes its opening.
const free = `NOT EXISTS (SELECT 1 FROM outbox p WHERE p.incident_id = o.incident_id AND p.channel = o.channel
	AND p.recipient = o.recipient AND p.id < o.id AND p.state IN ('queued', 'sending'))`

// Enqueue puts a message into the outbox.
func (t *incidentTx) Enqueue(incidentID int64, a incident.Announcement, now time.Time) error {
	due := now
	if a.NotBefore.After(now) {
		due = a.NotBefore
	}
	_, err := t.tx.ExecContext(t.ctx, `INSERT INTO outbox (key, incident_id, channel, recipient, kind, subject,
			body_text, body_json, thread, state, created_ms, due_ms)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'queued', $10, $11)`,
		a.Key, incidentID, a.Channel, a.Recipient, string(a.Kind), a.Subject, a.Text, a.Body, a.Thread, toMS(now), toMS(due))
	return err
}

// WithdrawHeld takes back what is held, and lists who is told of the opening.
func (t *incidentTx) WithdrawHeld(incidentID int64, now time.Time) ([]incident.Recipient, error) {
	_, err := t.tx.ExecContext(t.ctx, `UPDATE outbox SET state = 'withdrawn', done_ms = $2
		WHERE incident_id = $1 AND kind = 'opened' AND state = 'queued' AND attempts = 0 AND due_ms > $2`, incidentID, toMS(now))
	if err != nil {
		return nil, fmt.Errorf("withdraw messages: %w", err)
	}
	rows, err := t.tx.QueryContext(t.ctx, `SELECT channel, recipient FROM outbox o
		WHERE incident_id = $1 AND kind = 'opened' AND state IN ('queued', 'sending', 'sent')
		AND NOT EXISTS (SELECT 1 FROM outbox n WHERE n.incident_id = o.incident_id AND n.channel = o.channel
			AND n.recipient = o.recipient AND n.kind = 'opened' AND n.id > o.id)`, incidentID)
	if err != nil {
		return nil, fmt.Errorf("list recipients: %w", err)
	}
	defer rows.Close()
	var told []incident.Recipient
	for rows.Next() {
		var r incident.Recipient
		if err := rows.Scan(&r.Channel, &r.Name); err != nil {
			return nil, err
		}
		told = append(told, r)
	}
	return told, rows.Err()
}

// ClaimMessages takes what is due. The state is asked twice, so that on a database with
// row locks the second of two claimants finds nothing.
func (d *DB) ClaimMessages(ctx context.Context, c notify.Claim) ([]notify.Message, error) {
	const waiting = `(state = 'queued' AND due_ms <= $2 OR state = 'sending' AND lease_until_ms <= $2)`
	var out []notify.Message
	err := d.each(ctx, `UPDATE outbox SET state = 'sending', attempts = attempts + 1, holder = $3, lease_until_ms = $4
		WHERE id IN (SELECT id FROM outbox o WHERE channel = $1 AND `+waiting+` AND `+free+` ORDER BY id LIMIT $5)
			AND `+waiting+`
		RETURNING id, incident_id, key, channel, recipient, kind, subject, body_text, body_json, thread, attempts, created_ms`,
		[]any{c.Channel, toMS(c.Now), c.Holder, toMS(c.Lease), c.Limit},
		func(scan func(...any) error) error {
			var m notify.Message
			var created int64
			err := scan(&m.ID, &m.IncidentID, &m.Key, &m.Channel, &m.Recipient, &m.Kind, &m.Subject, &m.Text, &m.Body,
				&m.Thread, &m.Attempt, &created)
			m.Created = fromMS(created)
			out = append(out, m)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("claim messages: %w", err)
	}
	slices.SortFunc(out, func(a, b notify.Message) int { return int(a.ID - b.ID) })
	return out, nil
}

// FinishMessage records a try.
func (d *DB) FinishMessage(ctx context.Context, m notify.Message, holder string, del notify.Delivery) error {
	return d.inTx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO delivery (message_id, outcome, at_ms, dur_ms, error)
			VALUES ($1, $2, $3, $4, $5)`, m.ID, string(del.Outcome), toMS(del.At), del.Took.Milliseconds(), del.Error)
		if err != nil {
			return fmt.Errorf("record delivery: %w", err)
		}
		state, done := stateQueued, int64(0)
		if del.Outcome != notify.Retry {
			state, done = string(del.Outcome), toMS(del.At)
		}
		// The number of tries tells this claim from a later one by the same holder.
		_, err = tx.ExecContext(ctx, `UPDATE outbox SET state = $4, due_ms = $5, done_ms = $6, error = $7, lease_until_ms = 0
			WHERE id = $1 AND holder = $2 AND attempts = $3 AND state = 'sending'`,
			m.ID, holder, m.Attempt, state, toMS(del.Next), done, del.Error)
		if err != nil {
			return fmt.Errorf("finish message: %w", err)
		}
		return nil
	})
}

// ReleaseMessages ends the claims of a holder.
func (d *DB) ReleaseMessages(ctx context.Context, holder string) error {
	_, err := d.sql.ExecContext(ctx, `UPDATE outbox SET lease_until_ms = 0 WHERE state = 'sending' AND holder = $1`, holder)
	return err
}

// NextDue is when the channel next has something to do.
func (d *DB) NextDue(ctx context.Context, channel string) (time.Time, error) {
	var due sql.Null[int64]
	err := d.sql.QueryRowContext(ctx, `SELECT min(CASE state WHEN 'queued' THEN due_ms ELSE lease_until_ms END)
		FROM outbox o WHERE channel = $1 AND state IN ('queued', 'sending') AND `+free, channel).Scan(&due)
	if err != nil {
		return time.Time{}, fmt.Errorf("next message of %s: %w", channel, err)
	}
	return fromMS(due.V), nil
}

// FailStrays fails what waits for channels that do not exist any more.
func (d *DB) FailStrays(ctx context.Context, channels []string, now time.Time) (int, error) {
	args := []any{toMS(now)}
	marks := make([]string, 0, len(channels))
	for _, c := range channels {
		args = append(args, c)
		marks = append(marks, fmt.Sprintf("$%d", len(args)))
	}
	where := ""
	if len(marks) > 0 {
		where = ` AND channel NOT IN (` + strings.Join(marks, ", ") + `)`
	}
	n, err := affected(d.sql.ExecContext(ctx, `UPDATE outbox SET state = 'failed', done_ms = $1,
		error = 'the channel is not configured any more' WHERE state IN ('queued', 'sending')`+where, args...))
	return int(n), err
}

// Deliveries lists the tries for one incident, oldest first.
func (d *DB) Deliveries(ctx context.Context, scope authz.Scope, incidentID int64) ([]notify.Record, error) {
	where, args := inScope(scope, "i.tenant_id", []any{incidentID})
	var out []notify.Record
	err := d.each(ctx, `SELECT o.id, o.incident_id, o.channel, o.recipient, o.kind, d.outcome, d.at_ms, d.dur_ms, d.error
		FROM delivery d JOIN outbox o ON o.id = d.message_id JOIN incident i ON i.id = o.incident_id
		WHERE o.incident_id = $1 AND `+where+` ORDER BY d.id`, args,
		func(scan func(...any) error) error {
			var r notify.Record
			var at, took int64
			err := scan(&r.MessageID, &r.IncidentID, &r.Channel, &r.Recipient, &r.Kind, &r.Outcome, &at, &took, &r.Error)
			r.At, r.Took = fromMS(at), time.Duration(took)*time.Millisecond
			out = append(out, r)
			return err
		})
	return out, err
}
