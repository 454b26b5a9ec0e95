package notify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
)

// Times and limits of sending.
const (
	// sendTimeout bounds one try, whatever its sender does; leaseTime is longer, so that
	// nobody else takes a message that is still being sent.
	sendTimeout = 45 * time.Second
	leaseTime   = 90 * time.Second
	// giveUpAfter is the age at which a message that cannot be delivered fails.
	giveUpAfter = 24 * time.Hour
	// Delay before a retry: doubling from minDelay to maxDelay.
	minDelay = time.Second
	maxDelay = 5 * time.Minute
	// maxLater bounds what a receiver may ask for.
	maxLater = time.Hour
	// parallel is how many messages of one channel are sent at the same time.
	parallel = 4
	// lookEvery bounds the wait for work that nobody announced.
	lookEvery = time.Second
	// storeDelay follows an error of the store.
	storeDelay = 2 * time.Second
	// storeTimeout bounds one call of the store while stopping.
	storeTimeout = 10 * time.Second
	// pruneEvery is how often old incidents are deleted, keepFor how long they stay.
	pruneEvery = time.Hour
	keepFor    = 366 * 24 * time.Hour
	maxError   = 300
)

// Channel is a configured channel with the sender of its kind.
type Channel struct {
	Config ChannelConfig
	Sender Sender
}

// Deps is handed in by code.
type Deps struct {
	Store Store
	Log   zerolog.Logger
	// Holder names this collector in claims. It must be the same after a restart, so
	// that a killed collector's claims end at once; empty means "collector".
	Holder string
	// Now is the wall clock; nil means time.Now.
	Now func() time.Time
}

// Stats counts tries by outcome, for each channel.
type Stats struct{ Sent, Retried, Failed uint64 }

// Dispatcher puts messages through the channels.
type Dispatcher struct {
	channels []Channel
	deps     Deps
	wake     map[string]chan struct{}

	mu    sync.Mutex
	stats map[string]Stats // by channel; guarded by mu
}

// New returns a Dispatcher for the channels. Their configurations are expected to be
// valid and their names different.
func New(channels []Channel, deps Deps) (*Dispatcher, error) {
	if deps.Holder == "" {
		deps.Holder = "collector"
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	d := &Dispatcher{channels: channels, deps: deps, wake: map[string]chan struct{}{}, stats: map[string]Stats{}}
	for _, c := range channels {
		if errs := c.Config.Validate(); len(errs) > 0 {
			return nil, fmt.Errorf("channel %q: %w", c.Config.Name, errors.Join(errs...))
		}
		if d.wake[c.Config.Name] != nil {
			return nil, fmt.Errorf("channel %q exists twice", c.Config.Name)
		}
		d.wake[c.Config.Name] = make(chan struct{}, 1)
	}
	return d, nil
}

// Wake tells that messages were put into the outbox. It never blocks.
func (d *Dispatcher) Wake() {
	for _, ch := range d.wake {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// Stats returns the counters by channel.
func (d *Dispatcher) Stats() map[string]Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make(map[string]Stats, len(d.stats))
	for k, v := range d.stats {
		out[k] = v
	}
	return out
}

// Run sends until ctx ends; then it waits for the tries under way.
func (d *Dispatcher) Run(ctx context.Context) error {
	d.tidy(ctx)
	g, ctx := errgroup.WithContext(ctx)
	for _, c := range d.channels {
		g.Go(func() error { return d.runChannel(ctx, c) })
	}
	g.Go(func() error { return d.runPrune(ctx) })
	return g.Wait()
}

// tidy ends what an earlier life left behind.
func (d *Dispatcher) tidy(ctx context.Context) {
	if err := d.deps.Store.ReleaseMessages(ctx, d.deps.Holder); err != nil {
		d.deps.Log.Warn().Err(err).Msg("claims of an earlier run are not released; they end by themselves")
	}
	names := make([]string, len(d.channels))
	for i, c := range d.channels {
		names[i] = c.Config.Name
	}
	n, err := d.deps.Store.FailStrays(ctx, names, d.deps.Now())
	if err != nil {
		d.deps.Log.Warn().Err(err).Msg("messages of removed channels are not tidied up")
	} else if n > 0 {
		d.deps.Log.Warn().Int("messages", n).Str("reason", "channel was removed").Msg("messages are not sent")
	}
}

// runPrune deletes old incidents now and then.
func (d *Dispatcher) runPrune(ctx context.Context) error {
	t := time.NewTicker(pruneEvery)
	defer t.Stop()
	for {
		if _, err := d.deps.Store.PruneIncidents(ctx, d.deps.Now().Add(-keepFor)); err != nil && ctx.Err() == nil {
			d.deps.Log.Warn().Err(err).Msg("old incidents are not deleted")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// runChannel keeps up to parallel messages of one channel under way.
func (d *Dispatcher) runChannel(ctx context.Context, c Channel) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	done := make(chan struct{}, parallel)
	busy := 0
	for {
		list, wait := d.claim(ctx, c, parallel-busy)
		for _, m := range list {
			busy++
			wg.Go(func() {
				d.deliver(ctx, c, m)
				done <- struct{}{}
			})
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-done:
			busy--
		case <-d.wake[c.Config.Name]:
		case <-t.C:
		}
		t.Stop()
	}
}

// claim takes work for the free places, and says how long to wait for more.
func (d *Dispatcher) claim(ctx context.Context, c Channel, free int) ([]Message, time.Duration) {
	if free <= 0 || ctx.Err() != nil {
		return nil, lookEvery
	}
	now := d.deps.Now()
	list, err := d.deps.Store.ClaimMessages(ctx, Claim{
		Channel: c.Config.Name, Holder: d.deps.Holder, Now: now, Lease: now.Add(leaseTime), Limit: free,
	})
	if err != nil {
		if ctx.Err() == nil {
			d.deps.Log.Warn().Err(err).Str("addr", c.Config.Name).Msg("outbox cannot be read; trying again")
		}
		return nil, storeDelay
	}
	if len(list) == free {
		return list, lookEvery
	}
	due, err := d.deps.Store.NextDue(ctx, c.Config.Name)
	if err != nil || due.IsZero() {
		return list, lookEvery
	}
	return list, min(lookEvery, max(due.Sub(now), 5*time.Millisecond))
}

// deliver tries one message and records how it went. The record is written even when
// the collector is stopping: a message that was taken should not be sent twice.
func (d *Dispatcher) deliver(ctx context.Context, c Channel, m Message) {
	start := time.Now()
	tctx, cancel := context.WithTimeout(ctx, sendTimeout)
	err := c.Sender.Send(tctx, m)
	cancel()
	took := time.Since(start)
	del := d.outcome(m, err, took)
	if del.Outcome == Retry && ctx.Err() != nil {
		del.Next = d.deps.Now() // the stop ended the try; the next run begins with it
	}
	d.count(c.Config.Name, del.Outcome)
	d.log(c, m, del)
	sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := d.deps.Store.FinishMessage(sctx, m, d.deps.Holder, del); err != nil {
		d.deps.Log.Error().Err(err).Int64("incident", m.IncidentID).Str("addr", c.Config.Name).
			Msg("outcome of a message is not recorded; it is sent once more when its claim ends")
	}
}

func (d *Dispatcher) outcome(m Message, err error, took time.Duration) Delivery {
	now := d.deps.Now()
	what, after := classify(err)
	del := Delivery{Outcome: what, At: now, Took: took}
	if err == nil {
		return del
	}
	del.Error = oneLine(err.Error(), maxError)
	if what != Retry {
		return del
	}
	if now.Sub(m.Created) >= giveUpAfter {
		del.Outcome = Failed
		del.Error = oneLine(fmt.Sprintf("given up after %s: %s", giveUpAfter, err), maxError)
		return del
	}
	del.Next = now.Add(max(delay(m.Attempt), min(after, maxLater)))
	return del
}

// delay before the next try: doubling, with up to a quarter more at random.
func delay(attempt int) time.Duration {
	d := maxDelay
	if shift := attempt - 1; shift < 12 {
		d = min(maxDelay, minDelay<<max(0, shift))
	}
	return d + rand.N(d/4)
}

func (d *Dispatcher) count(channel string, o Outcome) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.stats[channel]
	switch o {
	case Sent:
		s.Sent++
	case Retry:
		s.Retried++
	case Failed:
		s.Failed++
	}
	d.stats[channel] = s
}

func (d *Dispatcher) log(c Channel, m Message, del Delivery) {
	e := d.deps.Log.Info()
	switch del.Outcome {
	case Retry:
		e = d.deps.Log.Warn()
	case Failed:
		e = d.deps.Log.Error()
	}
	e.Int64("incident", m.IncidentID).Str("addr", c.Config.Name).Str("reason", string(m.Kind)).
		Int64("dur_ms", del.Took.Milliseconds())
	if del.Error != "" {
		e.Str("err", del.Error)
	}
	e.Msg("message " + string(del.Outcome))
}
