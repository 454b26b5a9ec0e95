package controldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"sidetone/collector/internal/authn"
)

var _ authn.Store = (*DB)(nil)

// HasUsers reports whether there is any user.
func (d *DB) HasUsers(ctx context.Context) (bool, error) {
	var has bool
	err := d.sql.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM app_user)`).Scan(&has)
	return has, err
}

// CreateFirstUser creates a user if there is none.
func (d *DB) CreateFirstUser(ctx context.Context, u authn.User, now time.Time) (authn.User, error) {
	err := d.inTx(ctx, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `INSERT INTO app_user (email, name, role, password_hash, created_ms)
			SELECT $1, $2, $3, $4, $5 WHERE NOT EXISTS (SELECT 1 FROM app_user) RETURNING id`,
			u.Email, u.Name, u.Role, u.PasswordHash, ms(now)).Scan(&u.ID)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return authn.User{}, authn.ErrSetupDone
	}
	return u, err
}

// UserByEmail reads a user; the address is in lower case.
func (d *DB) UserByEmail(ctx context.Context, email string) (authn.User, error) {
	u := authn.User{Email: email}
	err := d.sql.QueryRowContext(ctx, `SELECT id, name, role, password_hash FROM app_user WHERE email = $1`, email).
		Scan(&u.ID, &u.Name, &u.Role, &u.PasswordHash)
	if errors.Is(err, sql.ErrNoRows) {
		return authn.User{}, authn.ErrNoUser
	}
	return u, err
}

// SetPasswordHash replaces a user's password hash.
func (d *DB) SetPasswordHash(ctx context.Context, userID int64, hash string) error {
	n, err := affected(d.sql.ExecContext(ctx, `UPDATE app_user SET password_hash = $1 WHERE id = $2`, hash, userID))
	if err == nil && n == 0 {
		return authn.ErrNoUser
	}
	return err
}

// CreateSession keeps a session and removes those that are over.
func (d *DB) CreateSession(ctx context.Context, hash []byte, userID int64, remote string, now time.Time, ended authn.SessionEnds, keep int) error {
	return d.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM login_session WHERE last_seen_ms <= $1 OR created_ms <= $2`,
			ms(ended.SeenBefore), ms(ended.CreatedBefore)); err != nil {
			return fmt.Errorf("delete ended sessions: %w", err)
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM login_session WHERE user_id = $1 AND id_hash NOT IN (
			SELECT id_hash FROM login_session WHERE user_id = $1 ORDER BY created_ms DESC, last_seen_ms DESC LIMIT $2)`,
			userID, keep-1); err != nil {
			return fmt.Errorf("delete the oldest sessions: %w", err)
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO login_session (id_hash, user_id, created_ms, last_seen_ms, remote)
			VALUES ($1, $2, $3, $3, $4)`, hash, userID, ms(now), remote)
		return err
	})
}

// SessionByHash reads a session with its user.
func (d *DB) SessionByHash(ctx context.Context, hash []byte) (authn.Session, error) {
	var s authn.Session
	var created, seen int64
	u := &s.User
	err := d.sql.QueryRowContext(ctx, `SELECT u.id, u.email, u.name, u.role, u.password_hash, l.created_ms, l.last_seen_ms
		FROM login_session l JOIN app_user u ON u.id = l.user_id WHERE l.id_hash = $1`, hash).
		Scan(&u.ID, &u.Email, &u.Name, &u.Role, &u.PasswordHash, &created, &seen)
	if errors.Is(err, sql.ErrNoRows) {
		return authn.Session{}, authn.ErrNotSignedIn
	}
	s.Created, s.LastSeen = fromMS(created), fromMS(seen)
	return s, err
}

// TouchSession notes that a session is in use.
func (d *DB) TouchSession(ctx context.Context, hash []byte, now time.Time) error {
	_, err := d.sql.ExecContext(ctx, `UPDATE login_session SET last_seen_ms = $1 WHERE id_hash = $2`, ms(now), hash)
	return err
}

// DeleteSession removes a session if it is there.
func (d *DB) DeleteSession(ctx context.Context, hash []byte) error {
	_, err := d.sql.ExecContext(ctx, `DELETE FROM login_session WHERE id_hash = $1`, hash)
	return err
}
