package controldb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"sidetone/collector/internal/alert"
	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/incident"
	"sidetone/shared/telemetry"
)

var _ incident.Store = (*DB)(nil)

const incidentColumns = `id, key, rule, agent_id, subject_kind, item_id,
	tenant_id, customer_id, site_id, pbx_id, tenant_name, customer_name, site_name, pbx_name,
	severity, title, subject, summary, advice, evidence_json,
	opened_ms, resolved_ms, resolution, reopened, reopened_ms, parent_cause`

// Incidents lists incidents with the state of their messages.
func (d *DB) Incidents(ctx context.Context, scope authz.Scope, f incident.Filter) ([]incident.Incident, error) {
	where, args := inScope(scope, "tenant_id", nil)
	if f.Site != 0 {
		args = append(args, int64(f.Site))
		where += fmt.Sprintf(" AND site_id = $%d", len(args))
	}
	switch f.Phase {
	case incident.Open:
		where += " AND resolved_ms IS NULL"
	case incident.Resolved:
		where += " AND resolved_ms IS NOT NULL"
	}
	limit := f.Limit
	if limit <= 0 {
		limit = incident.DefaultLimit
	}
	args = append(args, min(limit, incident.MaxLimit))
	var out []incident.Incident
	err := d.each(ctx, `SELECT `+incidentColumns+` FROM incident WHERE `+where+
		fmt.Sprintf(` ORDER BY (resolved_ms IS NULL) DESC, id DESC LIMIT $%d`, len(args)), args,
		func(scan func(...any) error) error {
			inc, err := scanIncident(scan)
			out = append(out, inc)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("list incidents: %w", err)
	}
	return out, d.addMessages(ctx, out)
}

// addMessages fills Messages of incidents that are in the caller's scope.
func (d *DB) addMessages(ctx context.Context, list []incident.Incident) error {
	if len(list) == 0 {
		return nil
	}
	at := make(map[int64]*incident.Incident, len(list))
	marks := make([]string, len(list))
	args := make([]any, len(list))
	for i := range list {
		at[list[i].ID] = &list[i]
		args[i] = list[i].ID
		marks[i] = fmt.Sprintf("$%d", i+1)
	}
	return d.each(ctx, `SELECT incident_id, channel, recipient, kind, state, done_ms, error FROM outbox
		WHERE state <> 'withdrawn' AND incident_id IN (`+strings.Join(marks, ", ")+`) ORDER BY id`, args,
		func(scan func(...any) error) error {
			var id, done int64
			var m incident.MessageState
			if err := scan(&id, &m.Channel, &m.Recipient, &m.Kind, &m.State, &done, &m.Error); err != nil {
				return err
			}
			if m.State == stateSending {
				m.State = stateQueued
			}
			m.At = fromMS(done)
			at[id].Messages = append(at[id].Messages, m)
			return nil
		})
}

// OpenIncidents counts open incidents by site.
func (d *DB) OpenIncidents(ctx context.Context, scope authz.Scope) (map[telemetry.SiteID]int, error) {
	where, args := inScope(scope, "tenant_id", nil)
	out := map[telemetry.SiteID]int{}
	err := d.each(ctx, `SELECT site_id, count(*) FROM incident WHERE resolved_ms IS NULL AND `+where+` GROUP BY site_id`,
		args, func(scan func(...any) error) error {
			var site telemetry.SiteID
			var n int
			err := scan(&site, &n)
			out[site] = n
			return err
		})
	return out, err
}

// PruneIncidents deletes resolved incidents that ended before; their messages go with them.
func (d *DB) PruneIncidents(ctx context.Context, before time.Time) (int, error) {
	n, err := affected(d.sql.ExecContext(ctx,
		`DELETE FROM incident WHERE resolved_ms IS NOT NULL AND resolved_ms < $1`, before.UnixMilli()))
	return int(n), err
}

// InIncidentTx runs fn in one transaction.
func (d *DB) InIncidentTx(ctx context.Context, fn func(incident.Tx) error) error {
	return d.inTx(ctx, func(tx *sql.Tx) error { return fn(&incidentTx{ctx: ctx, tx: tx}) })
}

// incidentTx lives as long as one transaction, and so keeps its context.
type incidentTx struct {
	ctx context.Context
	tx  *sql.Tx
}

func (t *incidentTx) LatestIncident(cause alert.Key) (incident.Incident, bool, error) {
	row := t.tx.QueryRowContext(t.ctx, `SELECT `+incidentColumns+` FROM incident
		WHERE rule = $1 AND agent_id = $2 AND subject_kind = $3 AND item_id = $4 ORDER BY id DESC LIMIT 1`, causeArgs(cause)...)
	inc, err := scanIncident(row.Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return incident.Incident{}, false, nil
	}
	return inc, err == nil, err
}

func (t *incidentTx) OpenCauses() ([]incident.Incident, error) {
	rows, err := t.tx.QueryContext(t.ctx, `SELECT `+incidentColumns+` FROM incident WHERE resolved_ms IS NULL ORDER BY id`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []incident.Incident
	for rows.Next() {
		inc, err := scanIncident(rows.Scan)
		if err != nil {
			return nil, err
		}
		out = append(out, inc)
	}
	return out, rows.Err()
}

func (t *incidentTx) InsertIncident(inc *incident.Incident) error {
	args, err := incidentArgs(*inc)
	if err != nil {
		return err
	}
	marks := make([]string, len(args))
	for i := range marks {
		marks[i] = fmt.Sprintf("$%d", i+1)
	}
	columns := strings.TrimPrefix(incidentColumns, "id, ")
	return t.tx.QueryRowContext(t.ctx, `INSERT INTO incident (`+columns+`) VALUES (`+strings.Join(marks, ", ")+`)
		RETURNING id`, args...).Scan(&inc.ID)
}

func (t *incidentTx) UpdateIncident(inc incident.Incident) error {
	evidence, err := json.Marshal(inc.Evidence)
	if err != nil {
		return err
	}
	_, err = t.tx.ExecContext(t.ctx, `UPDATE incident SET summary = $2, evidence_json = $3, resolved_ms = $4,
		resolution = $5, reopened = $6, reopened_ms = $7, parent_cause = $8 WHERE id = $1`,
		inc.ID, inc.Summary, string(evidence), nullMS(inc.Resolved), inc.Resolution, inc.Reopened, toMS(inc.ReopenedAt), inc.Parent)
	return err
}

// incidentArgs is the columns after id.
func incidentArgs(inc incident.Incident) ([]any, error) {
	evidence, err := json.Marshal(inc.Evidence)
	if err != nil {
		return nil, err
	}
	s, p := inc.Source, inc.Path
	args := append([]any{inc.Key}, causeArgs(inc.Cause)...)
	return append(args,
		int64(s.Tenant), int64(s.Customer), int64(s.Site), int64(s.PBX), p.Tenant, p.Customer, p.Site, p.PBX,
		string(inc.Severity), inc.Title, inc.Subject, inc.Summary, inc.Advice, string(evidence),
		toMS(inc.Opened), nullMS(inc.Resolved), inc.Resolution, inc.Reopened, toMS(inc.ReopenedAt), inc.Parent), nil
}

func scanIncident(scan func(...any) error) (incident.Incident, error) {
	var inc incident.Incident
	var item, opened, reopened int64
	var resolved sql.Null[int64]
	var evidence string
	s, p := &inc.Source, &inc.Path
	err := scan(&inc.ID, &inc.Key, &inc.Cause.Rule, &inc.Cause.Agent, &inc.Cause.Kind, &item,
		&s.Tenant, &s.Customer, &s.Site, &s.PBX, &p.Tenant, &p.Customer, &p.Site, &p.PBX,
		&inc.Severity, &inc.Title, &inc.Subject, &inc.Summary, &inc.Advice, &evidence,
		&opened, &resolved, &inc.Resolution, &inc.Reopened, &reopened, &inc.Parent)
	if err != nil {
		return inc, err
	}
	if err := json.Unmarshal([]byte(evidence), &inc.Evidence); err != nil {
		return inc, fmt.Errorf("evidence of incident %d: %w", inc.ID, err)
	}
	inc.Cause.Item = telemetry.ItemID(item)
	s.Agent = inc.Cause.Agent
	inc.Opened, inc.Resolved, inc.ReopenedAt = fromMS(opened), fromMS(resolved.V), fromMS(reopened)
	inc.Phase = incident.Open
	if resolved.Valid {
		inc.Phase = incident.Resolved
	}
	return inc, nil
}

func toMS(t time.Time) int64 { return int64(telemetry.MS(t)) }

func nullMS(t time.Time) sql.Null[int64] {
	return sql.Null[int64]{V: toMS(t), Valid: !t.IsZero()}
}
