package uplink

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"sidetone/shared/link"
	"sidetone/shared/wire"
)

const (
	// tcpAfter and proxyAfter are the head starts of the rungs above: long enough for a
	// handshake that loses a packet, short against a person's patience.
	tcpAfter   = 2 * time.Second
	proxyAfter = 4 * time.Second
	// knownAfter is QUIC's head start before the rung that worked last on this network.
	knownAfter = 300 * time.Millisecond
	// quicLast is when QUIC joins while it is held back, at the latest.
	quicLast = 10 * time.Second

	// turnTime is how long a hello may take while another connection waits to say its own.
	turnTime = 3 * time.Second
	// welcomeTime is how long it may take when none does.
	welcomeTime = 10 * time.Second
	// findTime bounds the search, dials and hellos together.
	findTime = 25 * time.Second
	dialTime = 20 * time.Second

	// Tries to climb back: soon at first, climbMax apart at most.
	climbMin   = 45 * time.Second
	climbMax   = 10 * time.Minute
	climbPause = 5 * time.Second // between tries whatever happens
)

// ladder finds a way to the collector: QUIC, TCP a little later, and a tunnel through
// the proxy if there is one. It belongs to Run's goroutine.
type ladder struct {
	addr   string
	dial   DialFunc
	proxy  func() (*url.URL, error)
	greet  func(context.Context, Conn) (*wire.Welcome, error)
	local  func() string // this machine's address on the way to the collector
	memory *memory
	bin    func(func()) // runs what ends by itself soon; Run waits for it
	log    zerolog.Logger

	climbs   int       // since the last connection
	silentAt time.Time // when a hello of ours was not answered, but perhaps heard
}

// found is an open way.
type found struct {
	conn    Conn
	welcome *wire.Welcome
	reason  string // why no higher rung, "" on QUIC
	// quic is the dial over QUIC that still goes on, nil when there is none.
	quic *dialling
}

// rung is one transport and when its turn comes.
type rung struct {
	transport string
	after     time.Duration
	proxy     *url.URL
}

// order is what to try on this network.
func (l *ladder) order(now time.Time) []rung {
	list := []rung{{transport: link.TransportQUIC}, {transport: link.TransportTCP, after: tcpAfter}}
	p, err := l.proxy()
	if err != nil {
		l.log.Warn().Err(err).Msg("the proxy's address cannot be used")
	}
	if p != nil {
		list = append(list, rung{link.TransportProxy, proxyAfter, p})
	}
	n := l.memory.at(l.local())
	if n.held(now) {
		list = append(list[1:], list[0])
		for i := range list {
			list[i].after = max(list[i].after-tcpAfter, 0)
		}
		list[len(list)-1].after = quicLast
	}
	for i := range list {
		if i > 0 && list[i].transport == n.Rung {
			list[i].after = min(list[i].after, knownAfter)
		}
	}
	return list
}

// dialling is a dial that goes on; conn and err are there when done is closed.
type dialling struct {
	transport string
	cancel    context.CancelFunc
	done      chan struct{}
	conn      Conn
	err       error
}

func (l *ladder) start(ctx context.Context, r rung) *dialling {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	d := &dialling{transport: r.transport, cancel: cancel, done: make(chan struct{})}
	l.bin(func() {
		defer cancel()
		d.conn, d.err = l.dial(ctx, r.transport, r.proxy)
		close(d.done)
	})
	return d
}

// abandon ends a dial whose result nobody wants.
func (l *ladder) abandon(d *dialling) {
	d.cancel()
	l.bin(func() {
		<-d.done
		if d.conn != nil {
			_ = d.conn.CloseWith(wire.CloseShutdown, "another way was faster")
		}
	})
}

// race is one search: all rungs together, one hello at a time.
type race struct {
	l       *ladder
	ctx     context.Context
	began   time.Time
	rungs   []rung
	dials   []*dialling // of each rung, nil until it is started
	results chan *dialling
	ready   []*dialling // handshake done, hello not said
	fails   []failure

	turn     *dialling // that says its hello now
	turnAt   time.Time
	turnOver context.CancelFunc
	greeted  chan answer
}

type answer struct {
	welcome *wire.Welcome
	err     error
}

// find returns the first connection whose hello was answered. The error is final's, a
// *NoWayError, or that of ctx.
func (l *ladder) find(ctx context.Context) (*found, error) {
	fctx, cancel := context.WithTimeout(ctx, findTime)
	defer cancel()
	now := time.Now()
	r := &race{l: l, ctx: ctx, began: now, rungs: l.order(now), greeted: make(chan answer, 1)}
	r.results, r.dials = make(chan *dialling, len(r.rungs)), make([]*dialling, len(r.rungs))
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		r.startDue(time.Now())
		r.nextTurn()
		if r.turn == nil && len(r.fails) == len(r.rungs) {
			return nil, r.noWay()
		}
		timer.Reset(r.untilNext())
		select {
		case <-fctx.Done():
			r.leave()
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, r.noWay()
		case d := <-r.results:
			if d.err != nil {
				r.fail(d.transport, d.err)
			} else {
				r.ready = append(r.ready, d)
			}
		case a := <-r.greeted:
			d := r.turn
			r.turn = nil
			r.turnOver()
			if a.err == nil {
				return r.won(d, a.welcome), nil
			}
			if r.lost(d, a.err) {
				r.leave()
				return nil, a.err
			}
		case <-timer.C:
			if r.turn != nil && len(r.ready) > 0 && time.Since(r.turnAt) >= turnTime {
				r.turnOver()
				r.turnAt = time.Now().Add(findTime) // once
			}
		}
	}
}

// startDue starts the rungs whose time has come, or whose forerunner has failed.
func (r *race) startDue(now time.Time) {
	for i, g := range r.rungs {
		if r.dials[i] != nil || now.Sub(r.began) < g.after && (i == 0 || !r.failed(r.rungs[i-1].transport)) {
			continue
		}
		d := r.l.start(r.ctx, g)
		r.dials[i] = d
		r.l.bin(func() {
			<-d.done
			r.results <- d
		})
	}
}

func (r *race) failed(transport string) bool {
	return slices.ContainsFunc(r.fails, func(f failure) bool { return f.transport == transport })
}

func (r *race) fail(transport string, err error) {
	r.fails = append(r.fails, failure{transport, err})
	r.l.log.Debug().Str("reason", why(transport, err)).Err(err).Msg("one way to the collector failed")
}

// nextTurn has the next finished handshake say its hello, if none does.
func (r *race) nextTurn() {
	if r.turn != nil || len(r.ready) == 0 {
		return
	}
	r.turn, r.ready = r.ready[0], r.ready[1:]
	r.turnAt = time.Now()
	var ctx context.Context
	ctx, r.turnOver = context.WithTimeout(r.ctx, welcomeTime)
	conn := r.turn.conn
	r.l.bin(func() {
		w, err := r.l.greet(ctx, conn)
		if err != nil { // closed before another says hello: the newest wins
			_ = conn.CloseWith(wire.CloseShutdown, "no welcome")
		}
		r.greeted <- answer{w, err}
	})
}

func (r *race) untilNext() time.Duration {
	wait := findTime
	for i, g := range r.rungs {
		if r.dials[i] == nil {
			wait = min(wait, g.after-time.Since(r.began))
		}
	}
	if r.turn != nil && len(r.ready) > 0 {
		wait = min(wait, turnTime-time.Since(r.turnAt))
	}
	return max(wait, 0)
}

// lost takes note of a hello without welcome; it reports whether the search is over.
func (r *race) lost(d *dialling, err error) bool {
	if final(err) || r.ctx.Err() != nil {
		return true
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		err, r.l.silentAt = errSilent, time.Now()
		if d.transport == link.TransportQUIC {
			r.l.memory.at(r.l.local()).hold(time.Now())
		}
	}
	r.fail(d.transport, err)
	return false
}

// won makes d the way. A dial over QUIC goes on beside it.
func (r *race) won(d *dialling, w *wire.Welcome) *found {
	f := &found{conn: d.conn, welcome: w}
	n := r.l.memory.at(r.l.local())
	if d.transport != link.TransportQUIC {
		f.reason = r.reason(d.transport, n)
		for _, o := range r.dials {
			if o != nil && o.transport == link.TransportQUIC && !r.failed(o.transport) {
				f.quic = o
			}
		}
	}
	r.leave(f.quic, d)
	r.l.learn(n, d.transport, f.reason)
	r.l.climbs = 0
	return f
}

// reason says what is wrong with the rungs above the one that won.
func (r *race) reason(won string, n *network) string {
	if n.held(r.began) && !r.failed(link.TransportQUIC) && n.Reason != "" {
		return n.Reason
	}
	var above []failure
	for _, t := range []string{link.TransportQUIC, link.TransportTCP} {
		if t == won {
			break
		}
		i := slices.IndexFunc(r.fails, func(f failure) bool { return f.transport == t })
		switch {
		case i >= 0:
			above = append(above, r.fails[i])
		case n.Rung == won && n.Reason != "":
			return n.Reason // it won by its head start, and for the old reason
		default:
			above = append(above, failure{t, nil})
		}
	}
	return reasons(above)
}

// noWay is the error when no rung is left.
func (r *race) noWay() error {
	e := &NoWayError{addr: r.l.addr, fails: slices.Clone(r.fails)}
	for _, g := range r.rungs {
		if !r.failed(g.transport) {
			e.fails = append(e.fails, failure{g.transport, nil})
		}
	}
	rank := map[string]int{link.TransportQUIC: 0, link.TransportTCP: 1, link.TransportProxy: 2}
	slices.SortStableFunc(e.fails, func(a, b failure) int { return rank[a.transport] - rank[b.transport] })
	return e
}

// leave ends all dials but those that are kept, and a hello that is under way.
func (r *race) leave(keep ...*dialling) {
	if r.turn != nil {
		r.turnOver()
	}
	for _, d := range r.dials {
		if d != nil && !slices.Contains(keep, d) {
			r.l.abandon(d)
		}
	}
}

// close closes a connection without waiting for it.
func (l *ladder) close(c Conn, reason string) {
	l.bin(func() { _ = c.CloseWith(wire.CloseShutdown, reason) })
}

// learn remembers what worked.
func (l *ladder) learn(n *network, transport, reason string) {
	if n.won(transport, reason) {
		l.save()
	}
}

func (l *ladder) save() {
	if err := l.memory.save(); err != nil {
		l.log.Warn().Err(err).Msg("what was learnt about this network is forgotten at a restart")
	}
}

// lost takes note of a connection that ended with err after a time.
func (l *ladder) lost(transport string, err error, lived time.Duration) {
	if transport != link.TransportQUIC {
		return
	}
	now, n := time.Now(), l.memory.at(l.local())
	if lived > lostWithin {
		n.lived()
	}
	var gone *link.LostError
	if errors.As(err, &gone) && n.died(now) {
		l.log.Warn().Str("reason", n.Reason).Msg("the link takes another way for a while")
		l.save()
	}
}
