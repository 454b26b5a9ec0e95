package xapi

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"sidetone/agent/internal/threecx"
	"sidetone/shared/backoff"
)

// Sources disagree on how long a token lives (a minute, an hour) and on how an
// ended one is refused. The numbers below are careful towards all of them.
const (
	// oldToken: a 403 on an older token may mean that the token has ended.
	oldToken = 50 * time.Second
	// leastLife: a token refused younger than this was not old, it was ended by
	// another program that signed in with the same client id.
	leastLife = 40 * time.Second
	// renewBefore is how long before its end a token is no longer used.
	renewBefore = 10 * time.Second
	// signInSpacing is the least time between two token requests.
	signInSpacing = 10 * time.Second
	// pauseMin and pauseMax bound the growing pause after a refused token request.
	pauseMin = 30 * time.Second
	pauseMax = 15 * time.Minute
	// distrustAfter limits the use of a token whose rights were too small.
	distrustAfter = 5 * time.Minute
	// wrongMax refused sign-ins stop us for good: the PBX would block our address,
	// and with it perhaps the phones behind it.
	wrongMax = 3
	// unlearnAfter tokens without a refusal are a reason to try a longer life.
	unlearnAfter = 10
	// takenMax tokens lost to another program start the pause.
	takenMax = 3
)

// token is an access token in use.
type token struct {
	access string
	role   string
	issued time.Time // monotonic
	life   time.Duration
}

func (t token) age() time.Duration { return time.Since(t.issued) }

// SignInState is how signing in stands.
type SignInState struct {
	// Stopped: the PBX refused the credentials three times. Nothing is tried until a
	// new client is made, from a changed configuration or at a restart.
	Stopped bool
	// Wrong counts refused credentials since the last success.
	Wrong int
	// Role is the MaxRole of the token; "system_owners" is the full one.
	Role string
	// LastError is the last failure, for a person; empty after a success.
	LastError string
	// NextTry is the end of the current pause; zero when there is none.
	NextTry time.Time
	// LearnedLife is how long tokens of this PBX live when it refused one before
	// its stated end; else zero.
	LearnedLife time.Duration
	// Requests counts token requests of both kinds.
	Requests uint64
}

// session owns the token of one PBX.
type session struct {
	client *Client
	log    zerolog.Logger
	// turn holds one entry; who took it may read and change the fields below.
	turn      chan struct{}
	current   token
	refresh   string
	last      time.Time // of the last token request
	notBefore time.Time
	lastErr   error
	pause     backoff.Backoff
	taken     int
	served    int // tokens in a row that were used up without a refusal

	mu     sync.Mutex
	state  SignInState // guarded by mu
	worked string      // the last token that the PBX honoured; guarded by mu
}

func newSession(c *Client) *session {
	s := &session{
		client: c, log: c.log, turn: make(chan struct{}, 1),
		pause: backoff.Backoff{Min: pauseMin, Max: pauseMax},
	}
	s.turn <- struct{}{}
	return s
}

// SignIn tells how signing in stands.
func (c *Client) SignIn() SignInState {
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	return c.session.state
}

func (s *session) publish(change func(*SignInState)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.state)
}

func (s *session) roleText() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Role == "" {
		return "role not told"
	}
	return "role " + s.state.Role
}

// enter waits for the turn; the caller calls the returned function to leave.
func (s *session) enter(ctx context.Context) (func(), error) {
	select {
	case <-s.turn:
		return func() { s.turn <- struct{}{} }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// token gives a usable token and signs in when there is none.
func (s *session) token(ctx context.Context) (token, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return token{}, err
	}
	defer leave()
	if s.current.access != "" && s.current.age() < s.usable(s.current) {
		return s.current, nil
	}
	if s.current.access != "" {
		s.unlearn()
	}
	return s.signIn(ctx)
}

// unlearn makes the learned life longer again after a while without refusals: the
// refusal that taught it may have had another reason, such as a restart of the PBX.
func (s *session) unlearn() {
	if s.served++; s.served < unlearnAfter {
		return
	}
	s.served = 0
	s.publish(func(st *SignInState) { st.LearnedLife += st.LearnedLife / 2 })
}

// usable is how long t is used.
func (s *session) usable(t token) time.Duration {
	life := t.life - min(renewBefore, t.life/4)
	if learned := s.learned(); learned > 0 {
		life = min(life, learned)
	}
	return life
}

func (s *session) learned() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.LearnedLife
}

// replace gives a token other than the refused one.
func (s *session) replace(ctx context.Context, refused token) (token, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return token{}, err
	}
	defer leave()
	if s.current.access != "" && s.current.access != refused.access {
		return s.current, nil
	}
	s.current = token{}
	return s.signIn(ctx)
}

// replaced notes what came of the repeated request: status is its answer, age that
// of the token that was refused before.
func (s *session) replaced(age time.Duration, status int) {
	<-s.turn
	defer func() { s.turn <- struct{}{} }()
	switch {
	case status == 403:
		return // the path is forbidden, the token was not the reason
	case status != 401 && age >= leastLife:
		s.served = 0
		learned := max(age-renewBefore, leastLife)
		if old := s.learned(); old == 0 || learned < old {
			s.publish(func(st *SignInState) { st.LearnedLife = learned })
		}
		return
	case status == 401:
		s.current = token{}
	}
	s.taken++
	if s.taken >= takenMax || status == 401 {
		s.hold(s.pause.Next(), threecx.Errorf(threecx.ErrBusy, nil,
			"tokens end as soon as they are given: another program uses the same client id; give Sidetone its own"))
	}
}

// refuses tells whether status means that t has ended: 401 on some boxes, 403 on
// others. A 403 on a token that never worked is about its rights.
func (s *session) refuses(status int, t token) bool {
	if status == 403 && t.age() > oldToken {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.worked == t.access
	}
	return status == 401
}

// accepted notes that the PBX honours the current token.
func (s *session) accepted(t token) {
	s.mu.Lock()
	s.worked = t.access
	s.mu.Unlock()
	if t.age() < leastLife {
		return
	}
	<-s.turn
	defer func() { s.turn <- struct{}{} }()
	s.taken = 0
	s.pause.Reset()
}

// distrust makes a token with too few rights be replaced soon, so that rights given
// meanwhile are noticed.
func (s *session) distrust() {
	<-s.turn
	defer func() { s.turn <- struct{}{} }()
	s.current.life = min(s.current.life, distrustAfter)
	s.client.caps.forget()
}

// hold keeps us from signing in for d and says why.
func (s *session) hold(d time.Duration, why error) {
	s.notBefore, s.lastErr = time.Now().Add(d), why
	s.publish(func(st *SignInState) { st.NextTry, st.LastError = s.notBefore, why.Error() })
}

// signIn gets a new token, within all the rules of politeness. The turn is held.
func (s *session) signIn(ctx context.Context) (token, error) {
	for {
		if s.stopped() {
			return token{}, s.lastErr
		}
		if time.Now().Before(s.notBefore) {
			return token{}, s.waiting()
		}
		if wait := signInSpacing - time.Since(s.last); !s.last.IsZero() && wait > 0 {
			if err := backoff.Sleep(ctx, wait); err != nil {
				return token{}, err
			}
		}
		refreshing := s.refresh != ""
		g, err := s.client.askToken(ctx, s.refresh)
		if ctx.Err() != nil {
			s.last = time.Now()
			return token{}, ctx.Err()
		}
		if err == nil || !errors.Is(err, threecx.ErrUnreachable) || errors.Is(err, context.DeadlineExceeded) {
			s.last = time.Now()
			s.publish(func(st *SignInState) { st.Requests++ })
		}
		if err == nil {
			return s.signedIn(g), nil
		}
		if refreshing && (errors.Is(err, threecx.ErrCredentials) || errors.Is(err, threecx.ErrAnswer)) {
			s.refresh = "" // it has ended; sign in with the password
			continue
		}
		return token{}, s.failed(err)
	}
}

func (s *session) stopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Stopped
}

// waiting repeats the last failure with the time of the next try.
func (s *session) waiting() error {
	kind, text := threecx.ErrBusy, "waiting before the next sign-in"
	var e *threecx.Error
	if errors.As(s.lastErr, &e) {
		kind, text = e.Kind, e.Text
	}
	return threecx.Errorf(kind, nil, "%s; next sign-in at %s", text, s.notBefore.UTC().Format("15:04:05 UTC"))
}

func (s *session) signedIn(g grant) token {
	s.current = token{access: g.access, role: g.role, issued: g.at, life: g.life}
	s.refresh = g.refresh
	s.lastErr = nil
	s.notBefore = time.Time{}
	if s.taken == 0 {
		s.pause.Reset()
	}
	var before string
	s.publish(func(st *SignInState) {
		before = st.Role
		st.Role, st.Wrong, st.LastError, st.NextTry = g.role, 0, "", time.Time{}
	})
	if before != g.role {
		s.client.caps.forget()
		if g.role != "" && g.role != fullRole {
			s.log.Warn().Str("reason", "role "+g.role).
				Msg("the PBX gave a token with reduced rights: some data may be missing")
		}
	}
	return s.current
}

// failed notes a refused or failed sign-in and decides on the pause.
func (s *session) failed(err error) error {
	var pause time.Duration
	switch {
	case errors.Is(err, threecx.ErrCredentials):
		wrong := 0
		s.publish(func(st *SignInState) { st.Wrong++; wrong = st.Wrong })
		if wrong >= wrongMax {
			stop := threecx.Errorf(threecx.ErrCredentials, err,
				"refused %d times: not trying again, so that the PBX does not block this address. Correct the credentials in the agent's file and restart the agent", wrong)
			s.lastErr = stop
			s.publish(func(st *SignInState) { st.Stopped, st.LastError, st.NextTry = true, stop.Error(), time.Time{} })
			s.log.Error().Err(stop).Msg("signing in to the PBX is stopped")
			return stop
		}
		pause = s.pause.Next()
	case errors.Is(err, threecx.ErrSecondFactor):
		pause = pauseMax
	case errors.Is(err, threecx.ErrUnreachable):
		// No sign-in took place; trying to connect harms nobody.
		s.lastErr = err
		s.publish(func(st *SignInState) { st.LastError = err.Error() })
		return err
	case errors.Is(err, errStarting), errors.Is(err, threecx.ErrNot3CX):
		pause = pauseMin // a box in restart; there is nothing yet that we could overload
	default:
		pause = s.pause.Next()
	}
	s.hold(pause, err)
	return err
}
