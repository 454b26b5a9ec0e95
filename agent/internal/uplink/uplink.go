// Package uplink drains the spool over the link: it finds a way to the collector and
// keeps it, sends records, deletes what the collector has stored, sends again what it
// deferred, sets aside what it rejected, and renews the agent's certificate. It
// reconnects for ever. A record leaves the spool by the collector's answer only, so
// that whatever ends a connection, the next one sends again exactly what was not
// answered.
//
// The ladder (ladder.go, climb.go): QUIC at once, TCP 2 s later, a tunnel through the
// proxy after that; the first whose hello is answered wins, and one hello is out at a
// time, for the collector lets the newest connection of an agent win. On a lower rung
// it tries to climb back, at most 10 minutes apart, and moves between two frames. QUIC
// connections that die three times within 5 minutes have QUIC tried last for up to 10
// minutes. What worked on a network is remembered (memory.go) as a head start, never
// as a rule.
//
// The lanes (lanes.go, sending.go): a record is live while it is younger than a minute,
// and goes first and at once; the rest is backlog and goes in between, in bundles,
// under a cap, marked as of lower effort, and not while the path measures poor.
package uplink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
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
	Epoch      uint64
	EpochFirst uint64 // first seq of Epoch
	LowestSeq  uint64 // that still waits; NextSeq when none does
	NextSeq    uint64 // of the next record
	Records    uint64
}

// Spool is the queue that uplink drains.
type Spool interface {
	// ReadRange returns records with a seq of from…to of one class (0: any), ascending.
	ReadRange(from, to uint64, class wire.Class, maxRecords, maxBytes int) ([]Record, error)
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

// Host describes this machine in the hello.
type Host struct {
	Version, BootID, Hostname, OS, Arch string
}

// Deps is handed in by code. Events, OnWelcome and Quality must not block.
type Deps struct {
	Spool    Spool
	Identity Identity
	Host     Host
	// MemoryFile is where to keep what was learnt about networks; "" is nowhere.
	MemoryFile string
	// Events is told when the link comes up, goes down, moves to another rung, or is
	// refused for a new reason, and when the backlog pauses and resumes.
	Events func(telemetry.LinkEvent)
	// OnWelcome is told what the collector said, and the host that was dialled.
	OnWelcome func(w wire.Welcome, collectorHost string)
	// Quality tells whether this site's path measures poor now; nil: it never does.
	Quality func() (poor bool)
	// Dial connects; nil is link.Dial. LocalAddr is this machine's address on the way to
	// the collector, "" when there is none; nil asks the system.
	Dial      DialFunc
	LocalAddr func() string
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
	// maxRefused is how many reasons are told of between two connections.
	maxRefused = 8
)

// State is how the link stands.
type State struct {
	Connected bool
	Transport string    // while connected
	Reason    string    // why not on a higher rung: "on TCP: QUIC black-holed (no answer on UDP)"
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

	Backlog uint64 // records that wait and are not live
	// Rates of the last ten seconds in kbit/s, headers of packets included.
	LiveKbit, BacklogKbit float64
	PausedReason          string // why the backlog does not go as fast as it may
}

// Uplink is the agent's side of the link.
type Uplink struct {
	cfg    Config
	deps   Deps
	host   string
	log    zerolog.Logger
	ages   *ages
	codec  codec
	roamed chan struct{} // this machine's address has changed
	bin    sync.WaitGroup

	// What follows is used by Run's goroutine only.
	ladder  *ladder
	lanes   *lanes
	refused map[string]time.Time // reasons that were told since the last connection, and when

	mu    sync.Mutex
	state State // guarded by mu
}

// New makes an Uplink; Run starts it.
func New(cfg Config, deps Deps) *Uplink {
	cfg = cfg.withDefaults()
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
	if deps.Quality == nil {
		deps.Quality = func() bool { return false }
	}
	now := time.Now()
	u := &Uplink{cfg: cfg, deps: deps, host: host, log: deps.Log, ages: newAges(), codec: wireCodec(),
		roamed: make(chan struct{}, 1), refused: map[string]time.Time{}, lanes: newLanes(cfg.BackfillKbit, now), state: State{Collector: cfg.Addr, Since: now}}
	if deps.Dial == nil {
		u.deps.Dial = u.dial
	}
	if deps.LocalAddr == nil {
		u.deps.LocalAddr = func() string { return localAddr(cfg.Addr) }
	}
	u.ladder = &ladder{addr: cfg.Addr, dial: u.deps.Dial, proxy: cfg.ProxyURL, greet: u.greet, local: u.deps.LocalAddr,
		memory: openMemory(deps.MemoryFile), bin: u.bin.Go, log: deps.Log}
	return u
}

func (u *Uplink) dial(ctx context.Context, transport string, proxy *url.URL) (Conn, error) {
	conn, err := link.Dial(ctx, link.DialConfig{Addr: u.cfg.Addr, Transport: transport, Proxy: proxy,
		TLS: u.deps.Identity.TLS(), Log: u.log})
	if err != nil {
		return nil, err // not a nil *link.Conn, which would be a Conn
	}
	return conn, nil
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
	defer u.bin.Wait()
	u.ages.note(time.Now(), u.deps.Spool.Status().NextSeq) // what waits now is backlog
	u.bin.Go(func() { u.watch(ctx) })
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
		if !u.sleep(ctx, wait) {
			return nil
		}
	}
}

// sleep waits before the next connection: shorter when this machine has moved to
// another network, unless the collector itself wants us to wait.
func (u *Uplink) sleep(ctx context.Context, wait time.Duration) bool {
	t := time.NewTimer(wait)
	defer t.Stop()
	roamed := u.roamed
	if wait > maxDelay {
		roamed = nil
	}
	select {
	case <-t.C:
	case <-roamed:
		return backoff.Sleep(ctx, min(wait, minDelay)) == nil
	case <-ctx.Done():
		return false
	}
	return true
}

// watchMin and watchMax: how often this machine's address is looked at. Nothing is sent.
const (
	watchMin = 10 * time.Second
	watchMax = 15 * time.Second
)

// watch notices a change of this machine's address, and how records age.
func (u *Uplink) watch(ctx context.Context) {
	last := u.deps.LocalAddr()
	for {
		if backoff.Sleep(ctx, watchMin+rand.N(watchMax-watchMin)) != nil {
			return
		}
		u.ages.note(time.Now(), u.deps.Spool.Status().NextSeq)
		addr := u.deps.LocalAddr()
		if addr == "" || addr == last {
			continue
		}
		u.log.Info().Str("addr", addr).Msg("this machine's address has changed")
		last = addr
		select {
		case u.roamed <- struct{}{}:
		default:
		}
	}
}

// pause decides how long to wait after a connection that ended with err.
func (u *Uplink) pause(err error, delays *backoff.Backoff) time.Duration {
	var (
		drained *drainError
		closed  *link.ClosedError
	)
	if u.ourDoing(err) {
		return minDelay
	}
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

// connection finds a way to the collector and serves it to its end. The error is never
// nil.
func (u *Uplink) connection(ctx context.Context) error {
	select {
	case <-u.roamed: // the search begins on the new network anyhow
	default:
	}
	f, err := u.ladder.find(ctx)
	if err != nil {
		if ctx.Err() == nil {
			u.tellRefused(err)
		}
		return err
	}
	clear(u.refused)
	u.up(f)
	s := newSession(u, f)
	err = s.run(ctx)
	reason := err.Error()
	if ctx.Err() != nil {
		reason = "the agent stops"
	} else {
		u.ladder.lost(s.conn.Transport(), err, time.Since(s.since))
	}
	u.down(s.conn, reason)
	return err
}

// greet says hello and waits for the welcome.
func (u *Uplink) greet(ctx context.Context, conn Conn) (*wire.Welcome, error) {
	st, h := u.deps.Spool.Status(), u.deps.Host
	err := conn.Send(ctx, wire.Hello{
		Capability: wire.Capability, Version: h.Version, Epoch: st.Epoch, NextSeq: st.NextSeq, Pending: st.Records,
		EpochFirst: st.EpochFirst, LowestSeq: st.LowestSeq,
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
