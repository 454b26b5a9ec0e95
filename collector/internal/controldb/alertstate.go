package controldb

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"sidetone/collector/internal/alert"
)

var _ alert.Store = (*DB)(nil)

// LoadAlertStates reads the states that fire.
func (d *DB) LoadAlertStates(ctx context.Context) ([]alert.State, error) {
	var out []alert.State
	err := d.each(ctx, `SELECT state_json FROM alert_state ORDER BY rule, agent_id, subject_kind, item_id`, nil,
		func(scan func(...any) error) error {
			var text string
			if err := scan(&text); err != nil {
				return err
			}
			var s alert.State
			if err := json.Unmarshal([]byte(text), &s); err != nil {
				return fmt.Errorf("alert state %.80q: %w", text, err)
			}
			out = append(out, s)
			return nil
		})
	return out, err
}

// SaveAlertStates writes and deletes states in one transaction.
func (d *DB) SaveAlertStates(ctx context.Context, write []alert.State, remove []alert.Key) error {
	return d.inTx(ctx, func(tx *sql.Tx) error {
		for _, s := range write {
			text, err := json.Marshal(s)
			if err != nil {
				return fmt.Errorf("alert state %s: %w", s.Key, err)
			}
			_, err = tx.ExecContext(ctx, `INSERT INTO alert_state (rule, agent_id, subject_kind, item_id, state_json)
				VALUES ($1, $2, $3, $4, $5)
				ON CONFLICT (rule, agent_id, subject_kind, item_id) DO UPDATE SET state_json = excluded.state_json`,
				append(causeArgs(s.Key), string(text))...)
			if err != nil {
				return fmt.Errorf("write alert state %s: %w", s.Key, err)
			}
		}
		for _, k := range remove {
			_, err := tx.ExecContext(ctx, `DELETE FROM alert_state
				WHERE rule = $1 AND agent_id = $2 AND subject_kind = $3 AND item_id = $4`, causeArgs(k)...)
			if err != nil {
				return fmt.Errorf("delete alert state %s: %w", k, err)
			}
		}
		return nil
	})
}

// causeArgs is the columns of a key. Item ids use all 64 bits, the column is signed.
func causeArgs(k alert.Key) []any {
	return []any{k.Rule, int64(k.Agent), k.Kind, int64(k.Item)}
}
