package enrolment

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"time"

	"sidetone/collector/internal/throttle"
	"sidetone/shared/certid"
	"sidetone/shared/telemetry"
	"sidetone/shared/wire"
)

// refusal is an answer that is not an identity.
type refusal struct {
	code, text string
	err        error // for our log only
}

// Enrol trades a token and a certificate request for an identity. A repeated request
// (same enrolment id, same token) gets the same agent with the next generation, also
// when the token has no use left: the first answer may have got lost.
func (s *Service) Enrol(ctx context.Context, remote net.Addr, req wire.EnrolRequest) wire.EnrolResponse {
	from := remoteText(remote)
	resp, no := s.enrol(ctx, throttle.AddrKey(from), req)
	if no != nil {
		s.log.Warn().Str("addr", from).Str("reason", no.code).AnErr("err", no.err).Msg("enrolment refused")
		return wire.EnrolResponse{Code: no.code, Error: no.text}
	}
	s.log.Info().Str("addr", from).Uint32("tenant", resp.Tenant).Uint32("agent", resp.Agent).
		Str("site", resp.Site).Msg("agent enrolled")
	return *resp
}

func (s *Service) enrol(ctx context.Context, from string, req wire.EnrolRequest) (*wire.EnrolResponse, *refusal) {
	if wait, ok := s.guesses.Take(from); !ok {
		return nil, busy(fmt.Errorf("too many wrong tokens from this address"),
			fmt.Sprintf("too many wrong tokens came from this address: try again in %s", max(wait, time.Second).Round(time.Second)))
	}
	who, err := applicant(req)
	if err == nil {
		err = s.ca.CheckCSR(req.CSR)
	}
	if err != nil {
		return nil, &refusal{code: wire.EnrolBadRequest, text: "the request cannot be understood: install the agent's newest version", err: err}
	}
	token, no := s.checkToken(ctx, req.Token)
	if no != nil {
		return nil, no
	}
	s.guesses.Return(from)
	agent, generation, no := s.admit(ctx, token, who)
	if no != nil {
		return nil, no
	}
	id := certid.ID{Tenant: agent.Source.Tenant, Agent: agent.Source.Agent, Generation: generation}
	chain, _, err := s.ca.SignAgent(req.CSR, id)
	if err != nil {
		return nil, busy(fmt.Errorf("sign %s: %w", id, err), "the collector could not sign the certificate: its log says why")
	}
	return &wire.EnrolResponse{
		Chain: chain, Root: s.ca.RootDER(), Tenant: uint32(id.Tenant), Agent: uint32(id.Agent),
		Generation: id.Generation, Site: agent.SiteName,
	}, nil
}

func busy(err error, text string) *refusal {
	return &refusal{code: wire.EnrolBusy, text: text, err: err}
}

var noHash [sha256.Size]byte

// checkToken finds the token and compares its secret in constant time. An unknown id
// does the same work and gets the same answer as a wrong secret.
func (s *Service) checkToken(ctx context.Context, text string) (Token, *refusal) {
	bad := &refusal{code: wire.EnrolBadToken, text: "this token is not known here: copy the whole token again or make a new one"}
	parsed, err := certid.ParseToken(text)
	if err != nil {
		bad.err = err
		return Token{}, bad
	}
	token, err := s.store.Token(ctx, parsed.ID)
	unknown := errors.Is(err, ErrUnknown)
	if err != nil && !unknown {
		return Token{}, storeRefusal(err)
	}
	stored := token.SecretHash
	if unknown || len(stored) != sha256.Size {
		stored = noHash[:]
	}
	given := sha256.Sum256([]byte(parsed.Secret))
	if subtle.ConstantTimeCompare(given[:], stored) != 1 || unknown {
		return Token{}, bad
	}
	if !s.now().Before(token.Expires) {
		return Token{}, expired()
	}
	return token, nil
}

func expired() *refusal {
	return &refusal{code: wire.EnrolExpiredToken, text: "this token has expired: make a new one"}
}

func storeRefusal(err error) *refusal {
	return busy(err, "the collector cannot read its control store now: try again in a minute")
}

// admit finds the agent of an earlier try or creates it. It returns the generation
// to sign.
func (s *Service) admit(ctx context.Context, token Token, who Applicant) (Agent, uint64, *refusal) {
	agent, err := s.store.AgentByEnrolment(ctx, who.EnrolmentID)
	if errors.Is(err, ErrUnknown) {
		agent, err = s.store.Admit(ctx, token.ID, who, s.now())
		if err == nil {
			return agent, agent.Generation, nil
		}
		if errors.Is(err, ErrDuplicate) { // its own other try was faster
			agent, err = s.store.AgentByEnrolment(ctx, who.EnrolmentID)
		}
	}
	switch {
	case errors.Is(err, ErrTokenSpent):
		return Agent{}, 0, &refusal{code: wire.EnrolUsedToken, text: "this token was used already: make a new one"}
	case errors.Is(err, ErrTokenExpired):
		return Agent{}, 0, expired()
	case err != nil:
		return Agent{}, 0, storeRefusal(err)
	case agent.TokenID != token.ID:
		return Agent{}, 0, &refusal{code: wire.EnrolBadRequest,
			text: "this machine's enrolment was begun with another token: enrol with --force", err: ErrDuplicate}
	case agent.Revoked:
		return Agent{}, 0, &refusal{code: wire.EnrolUsedToken, text: "this agent was revoked: make a new token and enrol with --force", err: ErrRevoked}
	}
	// A repeat counts as a renewal, so that two machines with one enrolment id (a
	// cloned image) expose each other.
	next := agent.Generation + 1
	ok, err := s.store.SetGeneration(ctx, agent, next, false)
	if err != nil {
		return Agent{}, 0, storeRefusal(err)
	}
	if !ok {
		return Agent{}, 0, busy(errors.New("two enrolments with one enrolment id at once"), "another try of this machine is under way: try again")
	}
	return agent, next, nil
}

// Lookup says who presents a certificate. It returns ErrUnknown, ErrRevoked or
// ErrStaleGeneration; the agent comes with the last two, for the log.
func (s *Service) Lookup(ctx context.Context, id certid.ID) (Agent, error) {
	for range storeTries {
		a, err := s.store.Agent(ctx, id.Agent)
		if err == nil && a.Source.Tenant != id.Tenant {
			err = ErrUnknown
		}
		if err != nil {
			return Agent{}, fmt.Errorf("look up %s: %w", id, err)
		}
		if err := a.Judge(id.Generation); err != nil {
			return a, err
		}
		if id.Generation < a.Generation || id.Generation == a.Generation && a.Used {
			return a, nil
		}
		ok, err := s.store.SetGeneration(ctx, a, id.Generation, true)
		if err != nil {
			return Agent{}, fmt.Errorf("look up %s: %w", id, err)
		}
		if ok {
			a.Generation, a.Used = id.Generation, true
			return a, nil
		}
	}
	return Agent{}, fmt.Errorf("look up %s: its record keeps changing", id)
}

// storeTries bounds the repeats when others change the same agent's record.
const storeTries = 4

// Renew gives the next certificate to the holder of a current one. While the newest
// generation has not been used, its predecessor gets that same generation again.
func (s *Service) Renew(ctx context.Context, id certid.ID, csr []byte) (chain [][]byte, generation uint64, err error) {
	if err := s.ca.CheckCSR(csr); err != nil {
		return nil, 0, fmt.Errorf("renew %s: %w", id, err)
	}
	for range storeTries {
		a, err := s.Lookup(ctx, id)
		if err != nil {
			return nil, 0, fmt.Errorf("renew %s: %w", id, err)
		}
		next := max(a.Generation, id.Generation+1)
		ok, err := s.store.SetGeneration(ctx, a, next, false)
		if err != nil {
			return nil, 0, fmt.Errorf("renew %s: %w", id, err)
		}
		if !ok {
			continue
		}
		signed := certid.ID{Tenant: a.Source.Tenant, Agent: a.Source.Agent, Generation: next}
		if chain, _, err = s.ca.SignAgent(csr, signed); err != nil {
			return nil, 0, fmt.Errorf("renew %s: %w", id, err)
		}
		return chain, next, nil
	}
	return nil, 0, fmt.Errorf("renew %s: other renewals of this agent keep overtaking", id)
}

// Known reports whether the agent exists and is not revoked, for the regular check
// of live connections.
func (s *Service) Known(ctx context.Context, id telemetry.AgentID) (bool, error) {
	a, err := s.store.Agent(ctx, id)
	if errors.Is(err, ErrUnknown) {
		return false, nil
	}
	return err == nil && !a.Revoked, err
}

func remoteText(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}
