// Package pbxsim imitates a 3CX v20 phone system: its configuration API with both
// ways of signing in, its habits and faults, and a box that lives (calls come and
// go, the event log grows). A timeline makes things happen by itself, a control API
// under /sim/ on request.
//
// Rows carry bait secrets, so that a test can search for them in what leaves the
// agent. Requests that would change a box or hand out secrets are refused and
// reported. It never reaches a shipped binary.
package pbxsim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
)

// Options choose what is imitated. Zero values give a healthy box of a recent build.
type Options struct {
	Generation string // "v20"; "v18" is not simulated yet
	Version    string // the build, such as 20.0.8.1121; decides which fields there are
	FQDN       string

	ClientID, ClientSecret string
	User, Password         string
	SecondFactor           bool
	// WrongAs200 refuses a user's password with status 200 and AuthFailed.
	WrongAs200 bool
	// MaxRole is the claim of the tokens; other than system_owners, it forbids.
	MaxRole string

	// TokenLife is the real life of a token; its claim always says one hour.
	TokenLife time.Duration
	// RefuseEnded is the status for an ended token, 401 or 403.
	RefuseEnded int

	// Habits that differ between boxes.
	NoServices     bool // Services is not in this build
	ForbidServices bool // Services is forbidden to API clients
	NoValue        bool // collections come without "value"
	NoID           bool // singletons come without Id
	CountLies      bool // $count is 0
	ExpandFails    bool // $expand is refused
	NoSelect       bool // $select is refused
	Drift          bool // nulls, absent and unknown fields, numbers as strings

	Seed     uint64
	Users    int // extensions; 0 = 128
	Scenario *Scenario
	Log      zerolog.Logger
}

// maxPaths bounds the request counters.
const maxPaths = 2000

// Sim is one simulated PBX.
type Sim struct {
	opt  Options
	auth *auth

	mu         sync.Mutex
	box        *box           // guarded by mu
	fault      string         // one of the fault modes; guarded by mu
	requests   map[string]int // by method and path; guarded by mu
	violations []string       // requests that must never be made; guarded by mu
}

// New makes a box.
func New(opt Options) (*Sim, error) {
	switch opt.Generation {
	case "", "v20":
	case "v18":
		return nil, errors.New("generation v18 is not simulated yet: use v20")
	default:
		return nil, fmt.Errorf("generation %q is unknown: use v20", opt.Generation)
	}
	opt = opt.withDefaults()
	if opt.RefuseEnded != http.StatusUnauthorized && opt.RefuseEnded != http.StatusForbidden {
		return nil, fmt.Errorf("status %d for an ended token: use 401 or 403", opt.RefuseEnded)
	}
	a, err := newAuth(opt)
	if err != nil {
		return nil, err
	}
	return &Sim{opt: opt, auth: a, box: newBox(opt), requests: map[string]int{}}, nil
}

func (o Options) withDefaults() Options {
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	set(&o.Version, "20.0.9.1310")
	set(&o.FQDN, "pbx.example.com")
	set(&o.ClientID, "sidetone")
	set(&o.ClientSecret, "sim-secret")
	set(&o.User, "100")
	set(&o.Password, "sim-password")
	set(&o.MaxRole, fullRole)
	if o.TokenLife == 0 {
		o.TokenLife = time.Hour
	}
	if o.RefuseEnded == 0 {
		o.RefuseEnded = http.StatusUnauthorized
	}
	if o.Users == 0 {
		o.Users = 128
	}
	return o
}

// Run lets time pass: calls, events, the timeline. It ends with ctx.
func (s *Sim) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { s.live(ctx); return nil })
	if s.opt.Scenario != nil {
		g.Go(func() error { s.play(ctx, s.opt.Scenario); return nil })
	}
	return g.Wait()
}

// Serve answers on l, over TLS with cert, until ctx ends. It closes l.
func (s *Sim) Serve(ctx context.Context, l net.Listener, cert *Certificate) error {
	srv := &http.Server{
		Handler: s, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, TLSConfig: cert.serverConfig(),
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    silent(),
	}
	var g errgroup.Group
	g.Go(func() error {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if srv.Shutdown(stop) != nil {
			_ = srv.Close()
		}
		return nil
	})
	g.Go(func() error {
		err := srv.ServeTLS(l, "", "")
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	})
	g.Go(func() error { return s.Run(ctx) })
	return g.Wait()
}

func (s *Sim) currentFault() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault
}

// count notes a request; forbidden ones are violations.
func (s *Sim) count(method, path, violation string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := method + " " + path
	if _, known := s.requests[key]; known || len(s.requests) < maxPaths {
		s.requests[key]++
	}
	if violation != "" && len(s.violations) < maxPaths {
		s.violations = append(s.violations, key+": "+violation)
	}
}

// Requests counts the requests so far, by method and path.
func (s *Sim) Requests() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]int, len(s.requests))
	for k, v := range s.requests {
		out[k] = v
	}
	return out
}

// Violations lists the requests that must never be made.
func (s *Sim) Violations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.violations)
}
