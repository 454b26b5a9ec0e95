// Package batch gathers deliveries into immutable insert blocks and stores them, one
// batch after the other. A delivery is answered when all its rows are in ClickHouse.
//
// Errors of the server are retried for ever, with the same blocks under the same
// tokens; meanwhile new deliveries wait, up to a bound, and then Offer says no, so that
// the agents keep the data. A block that ClickHouse refuses for its content is bisected;
// the deliveries at fault go to the dead-letter table and hold nothing up. See DESIGN.md.
package batch

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"sidetone/collector/internal/ingest"
	"sidetone/collector/internal/telemetrydb"
	"sidetone/shared/backoff"
)

// Config bounds the work; zero values mean the defaults.
type Config struct {
	MaxRows         int           // of a batch: 100,000
	MaxWait         time.Duration // of the first delivery of a batch: 1 s
	MaxPendingRows  int           // gathered and in work: 1,000,000
	MaxPendingBytes int           // in memory, estimated: 64 MB
	FlushTimeout    time.Duration // for what is pending at the stop: 10 s
	InsertTimeout   time.Duration // of one try: 60 s
	RetryMin        time.Duration // 250 ms
	RetryMax        time.Duration // 10 s
}

func (c *Config) setDefaults() {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	defd := func(p *time.Duration, v time.Duration) {
		if *p == 0 {
			*p = v
		}
	}
	def(&c.MaxRows, 100_000)
	defd(&c.MaxWait, time.Second)
	def(&c.MaxPendingRows, 1_000_000)
	def(&c.MaxPendingBytes, 64<<20)
	defd(&c.FlushTimeout, 10*time.Second)
	defd(&c.InsertTimeout, time.Minute)
	defd(&c.RetryMin, 250*time.Millisecond)
	defd(&c.RetryMax, 10*time.Second)
}

// Store takes blocks. An error that telemetrydb.IsPoison knows is about the content;
// any other is worth a retry.
type Store interface {
	InsertBlock(ctx context.Context, b *telemetrydb.Block, token string) error
	PutDeadLetter(ctx context.Context, d telemetrydb.DeadLetter) error
}

// Deps is what a Batcher works with.
type Deps struct {
	Store Store
	Log   zerolog.Logger
}

// Stats is what happened since the start.
type Stats struct {
	Rows         uint64 // stored
	Batches      uint64 // stored
	Retries      uint64 // inserts tried again
	DeadLetters  uint64 // deliveries that went to the dead-letter table
	Rejected     uint64 // deliveries that not even the dead-letter table took
	Refused      uint64 // deliveries that found no room
	PendingRows  int
	PendingBytes int
	StorageOK    bool
	Since        time.Time // of StorageOK
	LastError    string    // of storage; empty while it is ok
	LastBatch    time.Duration
}

// held is a delivery and what it costs to hold it.
type held struct {
	*ingest.Delivery
	rows, bytes int
}

// Batcher implements ingest.Sink.
type Batcher struct {
	cfg   Config
	deps  Deps
	known *telemetrydb.Known
	// arrived has room for one: it says that waiting changed.
	arrived chan struct{}

	mu      sync.Mutex
	waiting []held // not in a batch yet; guarded by mu
	rows    int    // of waiting; guarded by mu
	closed  bool   // guarded by mu
	stats   Stats  // guarded by mu
}

// New makes a Batcher; it stores nothing until Run.
func New(cfg Config, deps Deps) *Batcher {
	cfg.setDefaults()
	return &Batcher{
		cfg: cfg, deps: deps, known: telemetrydb.NewKnown(), arrived: make(chan struct{}, 1),
		stats: Stats{StorageOK: true, Since: time.Now()},
	}
}

// Offer takes d if there is room; it never blocks.
func (b *Batcher) Offer(d *ingest.Delivery) bool {
	h := held{d, d.Rows.Len(), sizeOf(d)}
	b.mu.Lock()
	full := b.stats.PendingRows+h.rows > b.cfg.MaxPendingRows || b.stats.PendingBytes+h.bytes > b.cfg.MaxPendingBytes
	if b.closed || full && b.stats.PendingBytes > 0 {
		b.stats.Refused++
		b.mu.Unlock()
		return false
	}
	b.waiting = append(b.waiting, h)
	b.rows += h.rows
	b.stats.PendingRows += h.rows
	b.stats.PendingBytes += h.bytes
	b.mu.Unlock()
	select {
	case b.arrived <- struct{}{}:
	default:
	}
	return true
}

// Stats says how it goes.
func (b *Batcher) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stats
}

// Run stores batches until ctx ends, then what is pending, for at most
// Config.FlushTimeout; the rest is deferred, and the agents still have it.
func (b *Batcher) Run(ctx context.Context) error {
	// Inserts outlive ctx by FlushTimeout: an insert that is broken off may be stored
	// all the same, and its rows would be sent once more.
	ictx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		b.close()
		if backoff.Sleep(ictx, b.cfg.FlushTimeout) == nil {
			cancel()
		}
	})
	defer stop()
	for b.gather(ctx) {
		for {
			batch := b.cut()
			if len(batch) == 0 {
				break
			}
			b.store(ictx, batch)
			if !b.more(ctx) {
				break
			}
		}
	}
	return nil
}

func (b *Batcher) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

// gather waits until a batch is due: full, or old enough, or the last one. It returns
// false when nothing is left and nothing will come.
func (b *Batcher) gather(ctx context.Context) bool {
	var due <-chan time.Time
	for {
		b.mu.Lock()
		n, rows, closed := len(b.waiting), b.rows, b.closed
		b.mu.Unlock()
		switch {
		case rows >= b.cfg.MaxRows, n > 0 && closed:
			return true
		case closed:
			return false
		case n > 0 && due == nil:
			t := time.NewTimer(b.cfg.MaxWait)
			defer t.Stop()
			due = t.C
		}
		select {
		case <-b.arrived:
		case <-due:
			return true
		case <-ctx.Done():
			b.close()
		}
	}
}

// more reports whether the next batch is due at once.
func (b *Batcher) more(ctx context.Context) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rows >= b.cfg.MaxRows || ctx.Err() != nil
}

// cut takes the oldest deliveries, up to a batch full of rows. The batch does not
// change any more.
func (b *Batcher) cut() []held {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, rows := 0, 0
	for n < len(b.waiting) && (n == 0 || rows+b.waiting[n].rows <= b.cfg.MaxRows) {
		rows += b.waiting[n].rows
		n++
	}
	batch := make([]held, n)
	copy(batch, b.waiting)
	rest := copy(b.waiting, b.waiting[n:])
	clear(b.waiting[rest:])
	b.waiting = b.waiting[:rest]
	b.rows -= rows
	return batch
}

// release gives back the room of deliveries that are answered.
func (b *Batcher) release(batch []held) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range batch {
		b.stats.PendingRows -= h.rows
		b.stats.PendingBytes -= h.bytes
	}
}

// Costs of holding a row, in bytes: the struct, its share of strings and slices. They
// only have to be near the truth: the bound they serve is no exact one.
const (
	perDelivery = 300
	perWindow   = 420
	perStatus   = 700
	perRow      = 250
)

func sizeOf(d *ingest.Delivery) int {
	s := d.Rows
	n := perDelivery + perWindow*len(s.ProbeWindows) + perStatus*len(s.PBXStatuses) +
		perRow*(s.Len()-len(s.ProbeWindows)-len(s.PBXStatuses)+len(s.Targets))
	for i := range s.ProbeWindows {
		n += 4*len(s.ProbeWindows[i].RTTUS) + len(s.ProbeWindows[i].Detail)
	}
	for i := range s.StateChanges {
		n += len(s.StateChanges[i].Detail)
	}
	return n
}

var errStopped = errors.New("stopped before the rows were stored")
