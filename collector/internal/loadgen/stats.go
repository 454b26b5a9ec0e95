package loadgen

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"sidetone/shared/link"
)

// histogram counts durations in buckets 1/32 wide, as HDR histograms do. It is safe for
// concurrent use.
type histogram struct {
	buckets [(64 - subBits) << subBits]atomic.Uint64 // of microseconds
	max     atomic.Int64
}

const subBits = 5

func bucketOf(us uint64) int {
	if us < 1<<subBits {
		return int(us)
	}
	shift := bits.Len64(us) - 1 - subBits
	return shift<<subBits + int(us>>shift)
}

// upperOf is the largest value of bucket i.
func upperOf(i int) uint64 {
	if i < 2<<subBits {
		return uint64(i)
	}
	shift := i>>subBits - 1
	return (uint64(i&(1<<subBits-1)|1<<subBits)+1)<<shift - 1
}

func (h *histogram) add(d time.Duration) {
	us := max(d.Microseconds(), 0)
	h.buckets[bucketOf(uint64(us))].Add(1)
	for {
		old := h.max.Load()
		if us <= old || h.max.CompareAndSwap(old, us) {
			return
		}
	}
}

// Latencies are percentiles in milliseconds.
type Latencies struct {
	Count uint64  `json:"count"`
	P50   float64 `json:"p50_ms"`
	P95   float64 `json:"p95_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
}

func (h *histogram) latencies() Latencies {
	var total uint64
	for i := range h.buckets {
		total += h.buckets[i].Load()
	}
	l := Latencies{Count: total, Max: float64(h.max.Load()) / 1000}
	at := func(q float64) float64 {
		rank, n := uint64(q*float64(total)+0.999999), uint64(0)
		for i := range h.buckets {
			if n += h.buckets[i].Load(); n >= max(rank, 1) {
				return min(float64(upperOf(i))/1000, l.Max)
			}
		}
		return 0
	}
	l.P50, l.P95, l.P99 = at(.50), at(.95), at(.99)
	return l
}

// stats is what the whole fleet does.
type stats struct {
	total                 int
	began, stopped, ended time.Time

	ack, age, dial                             histogram
	frames, rows, values, bytes                atomic.Uint64 // made
	sent, bundles, ackedFrames, ackedRows      atomic.Uint64
	deferred, rejected, renewed                atomic.Uint64
	connects, dialFails, lost, closed, drained atomic.Uint64
	live                                       atomic.Int64

	// now is the acks of the last while; it is put into curve each curveEvery.
	now atomic.Pointer[histogram]

	mu     sync.Mutex
	curve  []Latencies       // guarded by mu
	storms []Storm           // guarded by mu
	inside bool              // the last storm goes on; guarded by mu
	allUp  time.Time         // when all were connected first; guarded by mu
	fails  map[string]uint64 // how often, by reason; guarded by mu
	peak   uint64            // connects in one second; guarded by mu
}

// Storm is a loss of connections, and what followed until all were back.
type Storm struct {
	LostAt      time.Time `json:"lost_at"`
	Down        int       `json:"down"` // most that were without a connection
	FirstBackAt time.Time `json:"first_back_at"`
	AllBackAt   time.Time `json:"all_back_at"`
	// Seconds from the loss, and from the first agent that was back.
	AllBackS     float64 `json:"all_back_s"`
	AfterFirstS  float64 `json:"all_back_after_first_s"`
	BacklogGoneS float64 `json:"backlog_gone_s"` // 0: it was not seen to be gone
}

func (s *stats) begin(agents int) {
	s.total, s.began, s.fails = agents, time.Now(), map[string]uint64{}
	s.now.Store(&histogram{})
}
func (s *stats) producingEnded() { s.stopped = time.Now() }
func (s *stats) end()            { s.ended = time.Now() }

func (s *stats) made(r *record) {
	s.frames.Add(1)
	s.rows.Add(r.rows.sum())
	s.values.Add(uint64(r.values))
	s.bytes.Add(uint64(len(r.payload)))
}

func (s *stats) acked(r *record, now time.Time) {
	s.ack.add(now.Sub(r.sent))
	s.now.Load().add(now.Sub(r.sent))
	s.age.add(now.Sub(r.made))
	s.ackedFrames.Add(1)
	s.ackedRows.Add(r.rows.sum())
}

func (s *stats) up(took time.Duration) {
	s.connects.Add(1)
	s.dial.add(took)
	live := int(s.live.Add(1))
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if live == s.total && s.allUp.IsZero() {
		s.allUp = now
	}
	if !s.inside {
		return
	}
	st := &s.storms[len(s.storms)-1]
	if st.FirstBackAt.IsZero() {
		st.FirstBackAt = now
	}
	if live == s.total {
		st.AllBackAt, s.inside = now, false
		st.AllBackS, st.AfterFirstS = now.Sub(st.LostAt).Seconds(), now.Sub(st.FirstBackAt).Seconds()
	}
}

func (s *stats) down(now time.Time, err error) {
	live := int(s.live.Add(-1))
	if errors.Is(err, errDone) || errors.Is(err, context.Canceled) {
		return // the end of the run
	}
	var closed *link.ClosedError
	var drained *drainError
	switch {
	case errors.As(err, &drained):
		s.drained.Add(1)
	case errors.As(err, &closed):
		s.closed.Add(1)
	default:
		s.lost.Add(1)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(err)
	if s.allUp.IsZero() {
		return
	}
	down := s.total - live
	if !s.inside {
		if len(s.storms) == maxStorms {
			s.storms = s.storms[1:]
		}
		s.storms, s.inside = append(s.storms, Storm{LostAt: now}), true
	}
	st := &s.storms[len(s.storms)-1]
	st.Down = max(st.Down, down)
}

func (s *stats) dialFailed(err error) {
	s.dialFails.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(err)
}

// maxStorms bounds the storms that are told: a fleet that loses single connections all
// the time has many.
const maxStorms = 32

// maxReasons bounds the reasons that are told.
const maxReasons = 32

// note counts a reason; it has mu.
func (s *stats) note(err error) {
	var d *link.DialError
	var c *link.ClosedError
	var l *link.LostError
	reason := err.Error()
	switch {
	case errors.As(err, &d):
		reason = "dial: " + d.Kind
	case errors.As(err, &c):
		reason = "closed: " + c.Code
	case errors.As(err, &l):
		reason = "lost: " + l.Reason
	}
	if _, ok := s.fails[reason]; ok || len(s.fails) < maxReasons {
		s.fails[reason]++
	}
}

// observe looks at the fleet until ctx ends: progress, processes, and storms' ends.
func (f *Fleet) observe(ctx context.Context, w *watcher) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var before uint64
	told, ready := time.Now(), false
	for n := 1; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		w.tick(time.Since(f.stats.began), f.cfg.Duration)
		if n%curveEvery == 0 {
			f.stats.bend()
		}
		c := f.stats.connects.Load()
		f.stats.watchStorm(f.backlog(), c-before)
		before = c
		if !ready && f.stats.everUp() {
			ready = true
			if f.deps.Ready != nil {
				f.deps.Ready()
			}
		}
		if f.deps.Progress != nil && time.Since(told) >= 10*time.Second-tickSlack {
			told = time.Now()
			f.progress()
		}
	}
}

const (
	tickSlack = 100 * time.Millisecond
	// curveEvery and maxCurve: a point each 30 s, at most a week of them.
	curveEvery = 30
	maxCurve   = 7 * 24 * 3600 / curveEvery
)

// bend ends a part of the curve of acks.
func (s *stats) bend() {
	l := s.now.Swap(&histogram{}).latencies()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.curve) < maxCurve {
		s.curve = append(s.curve, l)
	}
}

func (s *stats) everUp() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.allUp.IsZero()
}

// backlogAge is from when on a record that waits is backlog: longer than an ack takes.
const backlogAge = 10 * time.Second

// backlog tells whether any agent has some.
func (f *Fleet) backlog() bool {
	now := time.Now()
	for _, a := range f.agents {
		if a.spool.status(now).oldest > backlogAge {
			return true
		}
	}
	return false
}

func (s *stats) watchStorm(backlog bool, connects uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peak = max(s.peak, connects)
	if n := len(s.storms); n > 0 && !s.inside && !backlog && s.storms[n-1].BacklogGoneS == 0 {
		s.storms[n-1].BacklogGoneS = time.Since(s.storms[n-1].LostAt).Seconds()
	}
}

func (f *Fleet) progress() {
	s := &f.stats
	l := s.ack.latencies()
	fmt.Fprintf(f.deps.Progress, "%6.0f s  %d of %d connected  %d frames, %d acked, %d deferred  ack p50 %.0f p99 %.0f max %.0f ms\n",
		time.Since(s.began).Seconds(), s.live.Load(), s.total, s.frames.Load(), s.ackedFrames.Load(), s.deferred.Load(), l.P50, l.P99, l.Max)
}
