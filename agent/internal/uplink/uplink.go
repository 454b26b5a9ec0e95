// Package uplink drains the spool over the link: it keeps a connection to the
// collector, sends records in their order, deletes what the collector has stored,
// sends again what it deferred, sets aside what it rejected, and renews the agent's
// certificate. It reconnects for ever.
//
// A record leaves the spool by the collector's answer only, so that whatever ends
// a connection, the next one sends again exactly what was not answered.
package uplink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"sidetone/shared/backoff"
	"sidetone/shared/link"
	"sidetone/shared/telemetry"
	"sidetone/shared/wire"
)

// Record is one entry of the spool; its fields are those of spool.Record, so that
// one converts to the other.
type Record struct {
	Epoch, Seq uint64
	Class      wire.Class
	Created    time.Time // agent's clock
	CRC        uint32    // CRC-32C of Payload
	Payload    []byte
}

// Status is what uplink asks of the spool's.
type Status struct {
	Epoch   uint64
	NextSeq uint64 // of the next record
	Records uint64
}

// Spool is the queue that uplink drains.
type Spool interface {
	// Read returns records with a seq above afterSeq, ascending.
	Read(afterSeq uint64, maxRecords, maxBytes int) ([]Record, error)
	Ack(epoch uint64, ranges []wire.Range) error
	Drop(epoch, seq uint64, reason string) error
	Appended() <-chan struct{}
	Status() Status
}

// Identity is who the agent is.
type Identity interface {
	TLS() *tls.Config
	RenewalDue(now time.Time) bool
	NewCSR() (der []byte, err error)
	Install(chain [][]byte, generation uint64) error
}

// Config is chosen by the operator.
type Config struct {
	Addr string // host:port of the collector
}

// Host describes this machine in the hello.
type Host struct {
	Version, BootID, Hostname, OS, Arch string
}

// Deps is handed in by code. Events and OnWelcome must not block.
type Deps struct {
	Spool    Spool
	Identity Identity
	Host     Host
	// Events is told when the link comes up, goes down, or is refused for a new reason.
	Events func(telemetry.LinkEvent)
	// OnWelcome is told what the collector said, and the host that was dialled.
	OnWelcome func(w wire.Welcome, collectorHost string)
	Log       zerolog.Logger
}

// Delays between connections.
const (
	minDelay     = 500 * time.Millisecond
	maxDelay     = 30 * time.Second
	replacedWait = 30 * time.Second // at least: the other one would be thrown out again
	revokedWait  = time.Hour
	maxDrain     = 10 * time.Minute
	// stableTime is how long a connection lasts that makes the delays start anew.
	stableTime = 30 * time.Second
	// refusedEvery is how often the same refusal is told again.
	refusedEvery = time.Hour
)

const (
	dialTime    = 20 * time.Second
	welcomeTime = 10 * time.Second
)

// State is how the link stands.
type State struct {
	Connected bool
	Transport string    // while connected
	Collector string    // host:port
	Since     time.Time // of the last change of Connected
	// Version of the collector, from its last welcome.
	Version   string
	LastError string // why the last connection ended or could not be made
	RetryAt   time.Time
	InFlight  int    // records without an answer
	Deferred  uint64 // records that the collector asked to keep for later
	Acked     uint64 // since the start
	Rejected  uint64 // since the start
}

// Uplink is the agent's side of the link.
type Uplink struct {
	cfg  Config
	deps Deps
	host string
	log  zerolog.Logger
	ages *ages // used by Run's goroutine only

	refused   string    // last refusal that was told
	refusedAt time.Time // when

	mu    sync.Mutex
	state State // guarded by mu
}

// New makes an Uplink; Run starts it.
func New(cfg Config, deps Deps) *Uplink {
	host, _, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		host = cfg.Addr
	}
	if deps.Events == nil {
		deps.Events = func(telemetry.LinkEvent) {}
	}
	if deps.OnWelcome == nil {
		deps.OnWelcome = func(wire.Welcome, string) {}
	}
	return &Uplink{cfg: cfg, deps: deps, host: host, log: deps.Log, ages: newAges(),
		state: State{Collector: cfg.Addr, Since: time.Now()}}
}

// State returns how the link stands.
func (u *Uplink) State() State {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.state
}

func (u *Uplink) update(f func(*State)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	f(&u.state)
}

// Run keeps the link up until ctx ends. Its error is always nil: nothing that the
// far side or the network does ends it.
func (u *Uplink) Run(ctx context.Context) error {
	delays := backoff.Backoff{Min: minDelay, Max: maxDelay}
	for {
		start := time.Now()
		err := u.connection(ctx)
		if ctx.Err() != nil {
			u.update(func(s *State) { s.LastError = "stopped" })
			return nil
		}
		if time.Since(start) > stableTime {
			delays.Reset()
		}
		wait := u.pause(err, &delays)
		u.update(func(s *State) { s.LastError, s.RetryAt = err.Error(), time.Now().Add(wait) })
		u.log.Info().Err(err).Int64("dur_ms", wait.Milliseconds()).Msg("no link, will try again")
		if backoff.Sleep(ctx, wait) != nil {
			return nil
		}
	}
}

// pause decides how long to wait after a connection that ended with err.
func (u *Uplink) pause(err error, delays *backoff.Backoff) time.Duration {
	var (
		drained *drainError
		closed  *link.ClosedError
	)
	if errors.As(err, &drained) {
		delays.Reset()
		return drained.delay
	}
	if errors.As(err, &closed) {
		switch closed.Code {
		case wire.CloseRevoked:
			return revokedWait
		case wire.CloseReplaced:
			return replacedWait + rand.N(replacedWait)
		case wire.CloseExpired:
			delays.Reset() // the next handshake shows the renewed certificate
		}
	}
	return delays.Next()
}

// drainError: the collector asked us to go and to come back later.
type drainError struct {
	delay  time.Duration
	reason string
}

func (e *drainError) Error() string {
	return fmt.Sprintf("the collector asked to reconnect in %s: %s", e.delay.Round(time.Millisecond), e.reason)
}

// connection makes one connection and serves it to its end. The error is never nil.
func (u *Uplink) connection(ctx context.Context) error {
	dctx, cancel := context.WithTimeout(ctx, dialTime)
	conn, err := link.Dial(dctx, link.DialConfig{Addr: u.cfg.Addr, TLS: u.deps.Identity.TLS(), Log: u.log})
	cancel()
	if err != nil {
		u.tellRefused(err)
		return err
	}
	welcome, err := u.greet(ctx, conn)
	if err != nil {
		_ = conn.CloseWith(wire.CloseShutdown, "")
		if ctx.Err() == nil {
			u.tellRefused(err)
		}
		return err
	}
	u.refused = ""
	u.up(conn, welcome)
	err = newSession(u, conn, welcome).run(ctx)
	reason := err.Error()
	if ctx.Err() != nil {
		reason = "the agent stops"
	}
	u.down(conn, reason)
	return err
}

// greet says hello and waits for the welcome.
func (u *Uplink) greet(ctx context.Context, conn *link.Conn) (*wire.Welcome, error) {
	ctx, cancel := context.WithTimeout(ctx, welcomeTime)
	defer cancel()
	st, h := u.deps.Spool.Status(), u.deps.Host
	err := conn.Send(ctx, wire.Hello{
		Capability: wire.Capability, Version: h.Version, Epoch: st.Epoch, NextSeq: st.NextSeq, Pending: st.Records,
		BootID: h.BootID, Hostname: h.Hostname, OS: h.OS, Arch: h.Arch, NowMS: time.Now().UnixMilli(),
	})
	if err != nil {
		return nil, err
	}
	msg, err := conn.Recv(ctx)
	if err != nil {
		return nil, err
	}
	w, ok := msg.(*wire.Welcome)
	if !ok || w.Window == 0 {
		return nil, fmt.Errorf("collector at %s answered the hello with %T", u.cfg.Addr, msg)
	}
	return w, nil
}

func (u *Uplink) up(conn *link.Conn, w *wire.Welcome) {
	now := time.Now()
	u.update(func(s *State) {
		s.Connected, s.Transport, s.Version, s.Since, s.RetryAt = true, conn.Transport(), w.Version, now, time.Time{}
	})
	u.log.Info().Str("addr", conn.RemoteAddr().String()).Str("version", w.Version).Msg("link is up")
	u.event("up", conn.Transport(), "")
	u.deps.OnWelcome(*w, u.host)
}

func (u *Uplink) down(conn *link.Conn, reason string) {
	u.update(func(s *State) {
		s.Connected, s.Transport, s.Since, s.InFlight, s.Deferred = false, "", time.Now(), 0, 0
	})
	u.event("down", conn.Transport(), reason)
}

// tellRefused tells of a connection that could not be made: once for each reason,
// for a collector that is down for a week must not fill the spool with it.
func (u *Uplink) tellRefused(err error) {
	reason := err.Error()
	var d *link.DialError
	if errors.As(err, &d) {
		reason = d.Kind + ": " + d.Advice // without the changing details
	}
	if reason == u.refused && time.Since(u.refusedAt) < refusedEvery {
		return
	}
	u.refused, u.refusedAt = reason, time.Now()
	u.event("refused", "", reason)
}

func (u *Uplink) event(event, transport, reason string) {
	u.deps.Events(telemetry.LinkEvent{Observed: telemetry.MS(time.Now()), Event: event,
		Transport: transport, Collector: u.cfg.Addr, Reason: reason})
}
