// Package enrolment admits agents: it makes enrolment tokens, trades a token and a
// certificate request for an identity, renews identities and revokes them.
//
// Generations reveal a copied identity. The collector stores the newest generation
// it has given and whether that one was used yet. Until it is used, its predecessor
// stays good, because the answer to a renewal may get lost; from then on the
// predecessor is a copy's. See Agent.Judge.
package enrolment

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/rs/zerolog"

	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/throttle"
	"sidetone/shared/certid"
	"sidetone/shared/telemetry"
)

// Reasons for which an identity or a request is refused.
var (
	ErrUnknown         = errors.New("agent is not known here")
	ErrRevoked         = errors.New("agent was revoked")
	ErrStaleGeneration = errors.New("certificate was superseded: a copy of this agent's identity is in use")
	ErrForbidden       = errors.New("not allowed in this tenant")
	ErrTokenSpent      = errors.New("enrolment token has no use left")
	ErrTokenExpired    = errors.New("enrolment token has expired")
	ErrDuplicate       = errors.New("enrolment id is taken")
)

// Signer is the certificate authority.
type Signer interface {
	CheckCSR(der []byte) error
	SignAgent(csrDER []byte, id certid.ID) (chain [][]byte, notAfter time.Time, err error)
	RootDER() []byte
	RootSPKI() [32]byte
}

// Store keeps tokens and agents. Methods that change rows are transactions.
type Store interface {
	// CreateToken finds or creates tenant, customer and site by name and keeps the
	// token. ErrForbidden when the scope does not cover the tenant.
	CreateToken(ctx context.Context, scope authz.Scope, place Place, t Token) error
	// Token returns ErrUnknown for an id that does not exist.
	Token(ctx context.Context, id string) (Token, error)
	// Admit spends one use and creates PBX and agent: all or nothing. ErrTokenSpent,
	// ErrTokenExpired, or ErrDuplicate when the enrolment id exists.
	Admit(ctx context.Context, tokenID string, who Applicant, now time.Time) (Agent, error)
	AgentByEnrolment(ctx context.Context, enrolmentID string) (Agent, error)
	Agent(ctx context.Context, id telemetry.AgentID) (Agent, error)
	// SetGeneration stores generation and used if the stored pair is still as in a.
	// It reports whether it was.
	SetGeneration(ctx context.Context, a Agent, generation uint64, used bool) (bool, error)
	// Revoke returns ErrUnknown when the agent does not exist in the scope.
	Revoke(ctx context.Context, scope authz.Scope, id telemetry.AgentID, now time.Time) error
}

// Place names where in the tree a new agent goes.
type Place struct{ Tenant, Customer, Site string }

// Token is a kept enrolment token; the secret itself is not kept.
type Token struct {
	ID         string
	SecretHash []byte // SHA-256
	UsesLeft   int
	Created    time.Time
	Expires    time.Time
}

// Applicant is what an agent says of itself when it enrols; cut to size and cleaned.
type Applicant struct {
	EnrolmentID                 string
	Hostname, OS, Arch, Version string
}

// Agent is an admitted agent.
type Agent struct {
	Source     telemetry.Source
	TokenID    string // the token that admitted it
	SiteName   string
	Generation uint64 // the newest one given out
	Used       bool   // the newest one has been seen
	Revoked    bool
}

// Judge decides whether a certificate of the given generation is the agent's own.
func (a Agent) Judge(generation uint64) error {
	switch {
	case a.Revoked:
		return ErrRevoked
	case generation >= a.Generation:
		// Greater: this store was restored from a backup. Our CA signed it, so it counts.
		return nil
	case generation == a.Generation-1 && !a.Used:
		return nil
	}
	return ErrStaleGeneration
}

// Deps is what the service works with.
type Deps struct {
	Store Store
	CA    Signer
	Log   zerolog.Logger
	Now   func() time.Time // time.Now when nil
}

// Limits against guessing, by address. Good tries are given back, so hundreds of
// agents may be installed behind one address; the burst is how many at once.
const (
	guessBurst  = 50
	guessRefill = 10 * time.Second
	guessTable  = 10_000
)

// Service is the enrolment of one collector. It is safe for concurrent use.
type Service struct {
	store   Store
	ca      Signer
	log     zerolog.Logger
	now     func() time.Time
	guesses *throttle.Table
}

// New builds the service.
func New(d Deps) *Service {
	if d.Now == nil {
		d.Now = time.Now
	}
	return &Service{
		store: d.Store, ca: d.CA, log: d.Log, now: d.Now,
		guesses: throttle.New(guessBurst, guessRefill, guessTable, d.Now),
	}
}

// Limits of a token.
const (
	maxUses    = 10_000
	maxTTL     = 90 * 24 * time.Hour
	defaultTTL = 24 * time.Hour
	maxName    = 200 // characters of a tenant's, customer's or site's name
)

// TokenSpec says what a new token is for.
type TokenSpec struct {
	Tenant, Customer, Site string        // names; created when missing
	Uses                   int           // 1 when 0
	TTL                    time.Duration // 24 h when 0
	Addr                   string        // host:port under which agents reach this collector
}

// clean trims names and fills defaults; it returns all mistakes.
func (s *TokenSpec) clean() error {
	var errs []error
	if s.Customer == "" {
		s.Customer = s.Tenant // an operator who watches only himself has no customers
	}
	for _, f := range []struct {
		field string
		value *string
	}{{"tenant", &s.Tenant}, {"customer", &s.Customer}, {"site", &s.Site}} {
		if err := cleanName(f.value); err != nil {
			errs = append(errs, &FieldError{Field: f.field, Err: err})
		}
	}
	if s.Uses == 0 {
		s.Uses = 1
	}
	if s.Uses < 1 || s.Uses > maxUses {
		errs = append(errs, &FieldError{Field: "uses", Err: fmt.Errorf("must be 1 to %d", maxUses)})
	}
	if s.TTL == 0 {
		s.TTL = defaultTTL
	}
	if s.TTL < time.Second || s.TTL > maxTTL {
		errs = append(errs, &FieldError{Field: "hours", Err: fmt.Errorf("must be above 0 and at most %d", int(maxTTL/time.Hour))})
	}
	if _, port, err := net.SplitHostPort(s.Addr); err != nil || port == "0" {
		errs = append(errs, &FieldError{Field: "address", Err: fmt.Errorf("%q is not host:port of the agents' address", s.Addr)})
	}
	return errors.Join(errs...)
}

// FieldError is a mistake in one field of a TokenSpec.
type FieldError struct {
	Field string
	Err   error
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }
func (e *FieldError) Unwrap() error { return e.Err }

// CreateToken makes a token for a place in the tree. Its text is shown once: only
// the hash of its 256-bit secret is kept.
func (s *Service) CreateToken(ctx context.Context, scope authz.Scope, spec TokenSpec) (certid.Token, time.Time, error) {
	if err := spec.clean(); err != nil {
		return certid.Token{}, time.Time{}, fmt.Errorf("create token: %w", err)
	}
	id, secret := random(9), random(32)
	hash := sha256.Sum256([]byte(secret))
	now := s.now().UTC().Truncate(time.Millisecond)
	t := Token{ID: id, SecretHash: hash[:], UsesLeft: spec.Uses, Created: now, Expires: now.Add(spec.TTL)}
	text := certid.Token{Addr: spec.Addr, ID: id, Secret: secret, RootSPKI: s.ca.RootSPKI()}
	if _, err := certid.ParseToken(text.String()); err != nil {
		return certid.Token{}, time.Time{}, fmt.Errorf("create token: %w",
			&FieldError{Field: "address", Err: fmt.Errorf("%q cannot stand in a token", spec.Addr)})
	}
	place := Place{Tenant: spec.Tenant, Customer: spec.Customer, Site: spec.Site}
	if err := s.store.CreateToken(ctx, scope, place, t); err != nil {
		return certid.Token{}, time.Time{}, fmt.Errorf("create token for %s: %w", spec.Site, err)
	}
	return text, t.Expires, nil
}

// Revoke ends an agent: its certificate is refused from now on.
func (s *Service) Revoke(ctx context.Context, scope authz.Scope, id telemetry.AgentID) error {
	if err := s.store.Revoke(ctx, scope, id, s.now()); err != nil {
		return fmt.Errorf("revoke agent %d: %w", id, err)
	}
	s.log.Info().Uint32("agent", uint32(id)).Msg("agent revoked")
	return nil
}

// random is n random bytes as base64url.
func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, by its documentation
	return base64.RawURLEncoding.EncodeToString(b)
}
