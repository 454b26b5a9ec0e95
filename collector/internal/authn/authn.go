// Package authn finds out who asks: passwords (argon2id), login sessions behind a
// cookie, and the one-time code with which the first owner is made. Guessing is
// bounded by account and by address; nothing locks an account for good. Passwords,
// codes and session tokens are kept only as hashes.
package authn

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/throttle"
)

// Answers that a caller tells apart.
var (
	ErrBadLogin    = errors.New("email or password is wrong")
	ErrNotSignedIn = errors.New("not signed in")
	ErrBadCode     = errors.New("setup code is wrong")
	ErrSetupDone   = errors.New("the first owner exists already")
	ErrNoUser      = errors.New("no such user") // of the store; never shown
)

// TooManyError says that tries have run out.
type TooManyError struct{ RetryAfter time.Duration }

func (e *TooManyError) Error() string {
	return fmt.Sprintf("too many tries: wait %s", e.RetryAfter.Round(time.Second))
}

// User is a stored account.
type User struct {
	ID           int64
	Email        string // lower case
	Name         string
	Role         authz.Role
	PasswordHash string // PHC form
}

// Session is a stored login session.
type Session struct {
	User              User
	Created, LastSeen time.Time
}

// Store keeps users and sessions.
type Store interface {
	HasUsers(ctx context.Context) (bool, error)
	// CreateFirstUser returns ErrSetupDone when any user exists.
	CreateFirstUser(ctx context.Context, u User, now time.Time) (User, error)
	// UserByEmail returns ErrNoUser.
	UserByEmail(ctx context.Context, email string) (User, error)
	SetPasswordHash(ctx context.Context, userID int64, hash string) error
	// CreateSession keeps a session, deletes those that ended before the two times,
	// and of the user's others all but the newest keep.
	CreateSession(ctx context.Context, hash []byte, userID int64, remote string, now time.Time, ended SessionEnds, keep int) error
	// SessionByHash returns ErrNotSignedIn.
	SessionByHash(ctx context.Context, hash []byte) (Session, error)
	TouchSession(ctx context.Context, hash []byte, now time.Time) error
	DeleteSession(ctx context.Context, hash []byte) error
}

// SessionEnds says which sessions are over.
type SessionEnds struct {
	SeenBefore    time.Time // idle too long
	CreatedBefore time.Time // too old
}

// Lives of a session (NIST SP 800-63B, reauthentication).
const (
	idleLife     = 8 * time.Hour
	absoluteLife = 24 * time.Hour
	// touchEvery keeps a busy page from writing at each request.
	touchEvery = time.Minute
	// maxSessions of one user; the oldest end.
	maxSessions = 32
)

// Limits against guessing.
const (
	accountBurst  = 10
	accountRefill = 30 * time.Second
	addrBurst     = 20
	addrRefill    = 10 * time.Second
	tableLimit    = 10_000
)

// Deps is what the service works with.
type Deps struct {
	Store Store
	Dir   string // data directory; the setup code lies here until it is used
	Log   zerolog.Logger
	Now   func() time.Time // time.Now when nil
}

// Service knows who asks. It is safe for concurrent use.
type Service struct {
	store    Store
	log      zerolog.Logger
	now      func() time.Time
	codeFile string
	hasher   *hasher
	accounts *throttle.Table
	addrs    *throttle.Table

	setup sync.Mutex // one Setup or SetupCode at a time; guards nothing else
}

// New builds the service.
func New(d Deps) (*Service, error) {
	if d.Now == nil {
		d.Now = time.Now
	}
	h, err := newHasher(defaultParams)
	if err != nil {
		return nil, err
	}
	return &Service{
		store: d.Store, log: d.Log, now: d.Now, codeFile: codePath(d.Dir), hasher: h,
		accounts: throttle.New(accountBurst, accountRefill, tableLimit, d.Now),
		addrs:    throttle.New(addrBurst, addrRefill, tableLimit, d.Now),
	}, nil
}

// SignIn checks a password and starts a session; the token goes into the cookie. An
// unknown account costs the same work and gives the same answer as a wrong password.
func (s *Service) SignIn(ctx context.Context, email, password, remote string) (string, authz.Principal, error) {
	email = normalEmail(email)
	account, addr := accountKey(email), throttle.AddrKey(remote)
	if wait, ok := s.addrs.Take(addr); !ok {
		return "", authz.Principal{}, &TooManyError{RetryAfter: wait}
	}
	if wait, ok := s.accounts.Take(account); !ok {
		s.addrs.Return(addr)
		return "", authz.Principal{}, &TooManyError{RetryAfter: wait}
	}
	user, err := s.checkPassword(ctx, email, password)
	if err != nil {
		if errors.Is(err, ErrBadLogin) {
			s.log.Warn().Str("addr", remote).Str("reason", "bad_login").Msg("sign-in refused")
			return "", authz.Principal{}, err
		}
		s.addrs.Return(addr) // not a guess: our own trouble, or the caller went away
		s.accounts.Return(account)
		return "", authz.Principal{}, err
	}
	s.addrs.Return(addr)
	s.accounts.Return(account)
	token, err := s.StartSession(ctx, user.principal(), remote)
	if err != nil {
		return "", authz.Principal{}, err
	}
	return token, user.principal(), nil
}

func (s *Service) checkPassword(ctx context.Context, email, password string) (User, error) {
	user, err := s.store.UserByEmail(ctx, email)
	unknown := errors.Is(err, ErrNoUser)
	if err != nil && !unknown {
		return User{}, fmt.Errorf("sign in: %w", err)
	}
	stored := user.PasswordHash
	if unknown {
		stored = s.hasher.dummy
	}
	if len(password) > maxPasswordBytes {
		password, unknown = "", true
	}
	good, old, err := s.hasher.verify(ctx, stored, password)
	if err != nil {
		return User{}, fmt.Errorf("sign in: %w", err)
	}
	if !good || unknown {
		return User{}, ErrBadLogin
	}
	if old {
		s.rehash(ctx, user, password)
	}
	return user, nil
}

// rehash brings a hash of older parameters up to date. Its failure is no reason to
// refuse the login.
func (s *Service) rehash(ctx context.Context, user User, password string) {
	hash, err := s.hasher.hash(ctx, password)
	if err == nil {
		err = s.store.SetPasswordHash(ctx, user.ID, hash)
	}
	if err != nil {
		s.log.Warn().Err(err).Msg("password hash not renewed")
	}
}

// StartSession starts a session for a principal that was just authenticated, and
// returns its token: 256 bits, of which the store keeps the hash.
func (s *Service) StartSession(ctx context.Context, p authz.Principal, remote string) (string, error) {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails, by its documentation
	token := base64.RawURLEncoding.EncodeToString(b)
	now := s.now()
	ended := SessionEnds{SeenBefore: now.Add(-idleLife), CreatedBefore: now.Add(-absoluteLife)}
	if len(remote) > 64 {
		remote = remote[:64]
	}
	if err := s.store.CreateSession(ctx, tokenHash(token), p.UserID, remote, now, ended, maxSessions); err != nil {
		return "", fmt.Errorf("start session: %w", err)
	}
	return token, nil
}

// Session returns who holds the token, or ErrNotSignedIn.
func (s *Service) Session(ctx context.Context, token string) (authz.Principal, error) {
	if len(token) != base64.RawURLEncoding.EncodedLen(32) {
		return authz.Principal{}, ErrNotSignedIn
	}
	hash := tokenHash(token)
	sess, err := s.store.SessionByHash(ctx, hash)
	if errors.Is(err, ErrNotSignedIn) {
		return authz.Principal{}, ErrNotSignedIn
	}
	if err != nil {
		return authz.Principal{}, fmt.Errorf("read session: %w", err)
	}
	now := s.now()
	if now.Sub(sess.LastSeen) >= idleLife || now.Sub(sess.Created) >= absoluteLife {
		if err := s.store.DeleteSession(ctx, hash); err != nil {
			s.log.Warn().Err(err).Msg("ended session not deleted")
		}
		return authz.Principal{}, ErrNotSignedIn
	}
	if now.Sub(sess.LastSeen) >= touchEvery {
		if err := s.store.TouchSession(ctx, hash, now); err != nil {
			return authz.Principal{}, fmt.Errorf("touch session: %w", err)
		}
	}
	return sess.User.principal(), nil
}

// SignOut ends the session of the token, if there is one.
func (s *Service) SignOut(ctx context.Context, token string) error {
	if err := s.store.DeleteSession(ctx, tokenHash(token)); err != nil {
		return fmt.Errorf("sign out: %w", err)
	}
	return nil
}

func (u User) principal() authz.Principal {
	return authz.Principal{UserID: u.ID, Email: u.Email, Name: u.Name, Role: u.Role}
}

func tokenHash(token string) []byte {
	h := sha256.Sum256([]byte(token))
	return h[:]
}

// accountKey bounds the size of what a stranger types.
func accountKey(email string) string {
	h := sha256.Sum256([]byte(email))
	return string(h[:])
}
