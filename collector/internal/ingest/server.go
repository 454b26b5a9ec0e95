package ingest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"sidetone/shared/buildinfo"
	"sidetone/shared/certid"
	"sidetone/shared/link"
	"sidetone/shared/telemetry"
	"sidetone/shared/wire"
)

// Deps are the parts that ingest works with.
type Deps struct {
	Listener  *link.Listener
	Sink      Sink
	Observers []Observer
	Agents    Agents
	Enroller  Enroller
	Presence  Presence // may be nil
	Log       zerolog.Logger
}

// Server accepts agents.
type Server struct {
	cfg    Config
	deps   Deps
	log    zerolog.Logger
	count  counters
	enrols *addrLimiter
	quotas *quotas

	mu       sync.Mutex
	sessions map[telemetry.AgentID]*session // the newest of each agent; guarded by mu
	tenants  map[telemetry.TenantID]int     // how many of sessions each has; guarded by mu
}

// New makes a Server; Run starts it.
func New(cfg Config, deps Deps) *Server {
	cfg = cfg.withDefaults()
	return &Server{cfg: cfg, deps: deps, log: deps.Log, enrols: newAddrLimiter(cfg.EnrolsPerMinute),
		quotas: newQuotas(cfg), sessions: map[telemetry.AgentID]*session{}, tenants: map[telemetry.TenantID]int{}}
}

// Run accepts connections until ctx ends or the listener closes; then it sends the
// answers that are due, closes every connection and returns when all are gone. It
// does not close the listener. For an orderly stop call Drain before.
func (s *Server) Run(ctx context.Context) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if r, ok := s.deps.Agents.(Revoker); ok {
		conns.Go(func() { s.revoke(ctx, r) })
	}
	for {
		conn, err := s.deps.Listener.Accept(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept agents: %w", err)
		}
		conns.Go(func() { s.serve(ctx, conn) })
	}
}

func (s *Server) serve(ctx context.Context, conn *link.Conn) {
	if conn.ALPN() == wire.ALPNEnrol {
		s.serveEnrol(ctx, conn)
		return
	}
	sess, err := s.admit(ctx, conn)
	if err != nil {
		s.count.turnedAway.Add(1)
		s.log.Info().Str("addr", conn.RemoteAddr().String()).Err(err).Msg("agent turned away")
		return
	}
	sess.run(ctx)
}

// admit decides who the peer is and whether it may stay; if not, it has closed the
// connection and says why.
func (s *Server) admit(ctx context.Context, conn *link.Conn) (*session, error) {
	refuse := func(code, reason string, err error) (*session, error) {
		_ = conn.CloseWith(code, reason)
		return nil, err
	}
	id, err := certid.FromCert(conn.PeerCert())
	if err != nil {
		return refuse(wire.CloseProtocol, "the certificate is not that of an agent", err)
	}
	lctx, cancel := context.WithTimeout(ctx, lookupTime)
	info, err := s.deps.Agents.Lookup(lctx, id)
	cancel()
	if err == nil && info.Revoked {
		err = ErrRevoked
	}
	switch {
	case errors.Is(err, ErrRevoked), errors.Is(err, ErrUnknown), errors.Is(err, ErrStaleGeneration):
		return refuse(wire.CloseRevoked, err.Error(), fmt.Errorf("%s: %w", id, err))
	case err != nil:
		return refuse(link.CloseBusy, "the collector cannot look the agent up, try later", fmt.Errorf("look up %s: %w", id, err))
	}
	hctx, cancel := context.WithTimeout(ctx, helloTime)
	defer cancel()
	msg, err := conn.Recv(hctx)
	if err != nil {
		return refuse(wire.CloseProtocol, "no hello", fmt.Errorf("hello of %s: %w", id, err))
	}
	hello, ok := msg.(*wire.Hello)
	if !ok || hello.Capability == 0 {
		return refuse(wire.CloseProtocol, "no hello", fmt.Errorf("%s began with %T", id, msg))
	}
	return newSession(s, conn, id, info.Source, *hello), nil
}

// revoke closes the connections of agents that were revoked, until ctx ends.
func (s *Server) revoke(ctx context.Context, r Revoker) {
	tick := time.NewTicker(revokeEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		agents := slices.Collect(maps.Keys(s.sessions))
		s.mu.Unlock()
		if len(agents) == 0 {
			continue
		}
		lctx, cancel := context.WithTimeout(ctx, lookupTime)
		revoked, err := r.Revoked(lctx, agents)
		cancel()
		if err != nil && ctx.Err() == nil { // the next tick asks again
			s.log.Debug().Err(err).Msg("ask which agents are revoked")
		}
		for _, a := range revoked {
			s.Disconnect(a, wire.CloseRevoked, ErrRevoked.Error())
		}
	}
}

// enter makes the session the agent's current one, unless its tenant has too many. An
// older connection of the agent is closed, and gone when enter returns.
func (s *Server) enter(ctx context.Context, sess *session) bool {
	s.mu.Lock()
	old := s.sessions[sess.src.Agent]
	if old == nil {
		if most := s.cfg.MaxConnsPerTenant; most > 0 && s.tenants[sess.src.Tenant] >= most {
			s.mu.Unlock()
			s.count.overTenant.Add(1)
			return false
		}
		s.tenants[sess.src.Tenant]++
	}
	s.sessions[sess.src.Agent] = sess
	s.mu.Unlock()
	if old == nil {
		return true
	}
	s.count.replaced.Add(1)
	old.close(wire.CloseReplaced, "a newer connection of this agent took over")
	select {
	case <-old.done:
	case <-ctx.Done():
		<-old.done // ends with the same ctx
	}
	return true
}

func (s *Server) leave(sess *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[sess.src.Agent] == sess {
		delete(s.sessions, sess.src.Agent)
		if s.tenants[sess.src.Tenant]--; s.tenants[sess.src.Tenant] == 0 {
			delete(s.tenants, sess.src.Tenant)
		}
	}
}

// Disconnect closes the agent's connection, if it has one: after a revocation, for
// example, with wire.CloseRevoked. It reports whether there was one.
func (s *Server) Disconnect(agent telemetry.AgentID, code, reason string) bool {
	s.mu.Lock()
	sess := s.sessions[agent]
	s.mu.Unlock()
	if sess == nil {
		return false
	}
	sess.close(code, reason)
	return true
}

// Drain asks all agents to leave and to come back after a random delay of at most
// maxDelay. It does not wait for them.
func (s *Server) Drain(maxDelay time.Duration, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sess := range s.sessions {
		sess.drain(wire.Drain{MaxDelayMS: uint32(min(maxDelay, time.Hour).Milliseconds()), Reason: reason})
	}
}

func (s *Server) serveEnrol(ctx context.Context, conn *link.Conn) {
	defer func() { _ = conn.CloseWith(wire.CloseShutdown, "") }()
	hctx, cancel := context.WithTimeout(ctx, helloTime)
	defer cancel()
	msg, err := conn.Recv(hctx)
	req, ok := msg.(*wire.EnrolRequest)
	if err != nil || !ok {
		s.log.Debug().Str("addr", conn.RemoteAddr().String()).Err(err).Msg("no enrolment request")
		return
	}
	s.count.enrols.Add(1)
	var resp wire.EnrolResponse
	if s.enrols.allow(conn.RemoteAddr(), time.Now()) {
		ectx, cancel := context.WithTimeout(ctx, enrolTime)
		defer cancel()
		resp = s.deps.Enroller.Enrol(ectx, conn.RemoteAddr(), *req)
	} else {
		s.count.enrolsLimited.Add(1)
		resp = wire.EnrolResponse{Code: wire.EnrolBusy, Error: "too many enrolments from this address: wait a minute and try again"}
	}
	if err := conn.Send(ctx, resp); err != nil {
		s.log.Info().Str("addr", conn.RemoteAddr().String()).Err(err).Msg("enrolment answered to nobody")
		return
	}
	// The agent closes when it has the answer.
	pctx, cancel := context.WithTimeout(ctx, partTime)
	defer cancel()
	_, _ = conn.Recv(pctx)
}

func (s *Server) welcome(conn *link.Conn) wire.Welcome {
	return wire.Welcome{
		Capability: wire.Capability, Version: buildinfo.Version(), NowMS: time.Now().UnixMilli(),
		ReflectorPort: s.cfg.ReflectorPort, Window: s.cfg.Window, Observed: conn.RemoteAddr().String(),
	}
}
