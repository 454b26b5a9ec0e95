package controldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/enrolment"
	"sidetone/shared/telemetry"
)

var _ enrolment.Store = (*DB)(nil)

// CreateToken keeps an enrolment token, and creates the place it is for if missing.
func (d *DB) CreateToken(ctx context.Context, scope authz.Scope, place enrolment.Place, t enrolment.Token) error {
	return d.inTx(ctx, func(tx *sql.Tx) error {
		site, err := ensureSite(ctx, tx, scope, place, ms(t.Created))
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO enrolment_token (id, secret_hash, site_id, uses_left, created_ms, expires_ms)
			VALUES ($1, $2, $3, $4, $5, $6)`, t.ID, t.SecretHash, site, t.UsesLeft, ms(t.Created), ms(t.Expires))
		return err
	})
}

func ensureSite(ctx context.Context, tx *sql.Tx, scope authz.Scope, place enrolment.Place, now int64) (int64, error) {
	var tenant int64
	err := tx.QueryRowContext(ctx, `SELECT id FROM tenant WHERE name = $1`, place.Tenant).Scan(&tenant)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		if !scope.All() {
			return 0, enrolment.ErrForbidden
		}
		if err := tx.QueryRowContext(ctx, `INSERT INTO tenant (name, created_ms) VALUES ($1, $2) RETURNING id`,
			place.Tenant, now).Scan(&tenant); err != nil {
			return 0, fmt.Errorf("create tenant: %w", err)
		}
	case err != nil:
		return 0, fmt.Errorf("look for tenant: %w", err)
	case !scope.Allows(telemetry.TenantID(tenant)):
		return 0, enrolment.ErrForbidden
	}
	// The update of a name by itself makes RETURNING answer for rows that exist.
	var customer, site int64
	if err := tx.QueryRowContext(ctx, `INSERT INTO customer (tenant_id, name, created_ms) VALUES ($1, $2, $3)
		ON CONFLICT (tenant_id, name) DO UPDATE SET name = excluded.name RETURNING id`,
		tenant, place.Customer, now).Scan(&customer); err != nil {
		return 0, fmt.Errorf("create customer: %w", err)
	}
	if err := tx.QueryRowContext(ctx, `INSERT INTO site (customer_id, name, created_ms) VALUES ($1, $2, $3)
		ON CONFLICT (customer_id, name) DO UPDATE SET name = excluded.name RETURNING id`,
		customer, place.Site, now).Scan(&site); err != nil {
		return 0, fmt.Errorf("create site: %w", err)
	}
	return site, nil
}

// Token reads an enrolment token.
func (d *DB) Token(ctx context.Context, id string) (enrolment.Token, error) {
	t := enrolment.Token{ID: id}
	var created, expires int64
	err := d.sql.QueryRowContext(ctx, `SELECT secret_hash, uses_left, created_ms, expires_ms FROM enrolment_token WHERE id = $1`, id).
		Scan(&t.SecretHash, &t.UsesLeft, &created, &expires)
	if errors.Is(err, sql.ErrNoRows) {
		return enrolment.Token{}, enrolment.ErrUnknown
	}
	if err != nil {
		return enrolment.Token{}, fmt.Errorf("read token: %w", err)
	}
	t.Created, t.Expires = fromMS(created), fromMS(expires)
	return t, nil
}

// Admit spends one use of the token and creates the PBX and its agent.
func (d *DB) Admit(ctx context.Context, tokenID string, who enrolment.Applicant, now time.Time) (enrolment.Agent, error) {
	var id int64
	err := d.inTx(ctx, func(tx *sql.Tx) error {
		site, name, err := spendUse(ctx, tx, tokenID, ms(now))
		if err != nil {
			return err
		}
		var count int
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM pbx WHERE site_id = $1`, site).Scan(&count); err != nil {
			return fmt.Errorf("count PBXs: %w", err)
		}
		if count > 0 {
			name = fmt.Sprintf("%s %d", name, count+1)
		}
		var pbx int64
		if err := tx.QueryRowContext(ctx, `INSERT INTO pbx (site_id, name, created_ms) VALUES ($1, $2, $3) RETURNING id`,
			site, name, ms(now)).Scan(&pbx); err != nil {
			return fmt.Errorf("create PBX: %w", err)
		}
		return tx.QueryRowContext(ctx, `INSERT INTO agent (pbx_id, enrolment_id, token_id, hostname, os, arch, version, created_ms)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id`,
			pbx, who.EnrolmentID, tokenID, who.Hostname, who.OS, who.Arch, who.Version, ms(now)).Scan(&id)
	})
	if err != nil && d.dialect.IsUnique(err) { // the only unique column a stranger fills
		return enrolment.Agent{}, enrolment.ErrDuplicate
	}
	if err != nil {
		return enrolment.Agent{}, fmt.Errorf("admit agent: %w", err)
	}
	return d.Agent(ctx, telemetry.AgentID(id))
}

// spendUse takes one use of a token and returns its site.
func spendUse(ctx context.Context, tx *sql.Tx, tokenID string, now int64) (site int64, name string, err error) {
	n, err := affected(tx.ExecContext(ctx, `UPDATE enrolment_token SET uses_left = uses_left - 1
		WHERE id = $1 AND uses_left > 0 AND expires_ms > $2`, tokenID, now))
	if err != nil {
		return 0, "", fmt.Errorf("spend token: %w", err)
	}
	var expires int64
	err = tx.QueryRowContext(ctx, `SELECT s.id, s.name, t.expires_ms FROM enrolment_token t JOIN site s ON s.id = t.site_id
		WHERE t.id = $1`, tokenID).Scan(&site, &name, &expires)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return 0, "", enrolment.ErrUnknown
	case err != nil:
		return 0, "", fmt.Errorf("read token: %w", err)
	case n == 0 && expires <= now:
		return 0, "", enrolment.ErrTokenExpired
	case n == 0:
		return 0, "", enrolment.ErrTokenSpent
	}
	return site, name, nil
}

const selectAgent = `SELECT c.tenant_id, c.id, s.id, p.id, a.id, a.token_id, s.name, a.generation, a.used, a.revoked_ms IS NOT NULL
	FROM agent a JOIN pbx p ON p.id = a.pbx_id JOIN site s ON s.id = p.site_id JOIN customer c ON c.id = s.customer_id `

// Agent reads an agent by its id.
func (d *DB) Agent(ctx context.Context, id telemetry.AgentID) (enrolment.Agent, error) {
	return scanAgent(d.sql.QueryRowContext(ctx, selectAgent+`WHERE a.id = $1`, int64(id)))
}

// AgentByEnrolment reads an agent by the id it chose when it enrolled.
func (d *DB) AgentByEnrolment(ctx context.Context, enrolmentID string) (enrolment.Agent, error) {
	return scanAgent(d.sql.QueryRowContext(ctx, selectAgent+`WHERE a.enrolment_id = $1`, enrolmentID))
}

func scanAgent(row *sql.Row) (enrolment.Agent, error) {
	var a enrolment.Agent
	src := &a.Source
	err := row.Scan(&src.Tenant, &src.Customer, &src.Site, &src.PBX, &src.Agent, &a.TokenID, &a.SiteName, &a.Generation, &a.Used, &a.Revoked)
	if errors.Is(err, sql.ErrNoRows) {
		return enrolment.Agent{}, enrolment.ErrUnknown
	}
	if err != nil {
		return enrolment.Agent{}, fmt.Errorf("read agent: %w", err)
	}
	return a, nil
}

// SetGeneration stores a new generation if the stored one is still as in a.
func (d *DB) SetGeneration(ctx context.Context, a enrolment.Agent, generation uint64, used bool) (bool, error) {
	n, err := affected(d.sql.ExecContext(ctx, `UPDATE agent SET generation = $1, used = $2
		WHERE id = $3 AND generation = $4 AND used = $5 AND revoked_ms IS NULL`,
		int64(generation), number(used), int64(a.Source.Agent), int64(a.Generation), number(a.Used)))
	if err != nil {
		return false, fmt.Errorf("store generation: %w", err)
	}
	return n == 1, nil
}

// Revoke marks an agent as revoked; a repeat keeps the first time.
func (d *DB) Revoke(ctx context.Context, scope authz.Scope, id telemetry.AgentID, now time.Time) error {
	where, args := inScope(scope, "c.tenant_id", []any{ms(now), int64(id)})
	n, err := affected(d.sql.ExecContext(ctx, `UPDATE agent SET revoked_ms = COALESCE(revoked_ms, $1) WHERE id = $2 AND pbx_id IN (
		SELECT p.id FROM pbx p JOIN site s ON s.id = p.site_id JOIN customer c ON c.id = s.customer_id WHERE `+where+`)`, args...))
	if err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	if n == 0 {
		return enrolment.ErrUnknown
	}
	return nil
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}
