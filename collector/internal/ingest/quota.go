package ingest

import (
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"sidetone/shared/telemetry"
)

// Quotas keep one agent from taking the collector from the others. An agent over its
// quota is asked to send the frame again later: nothing is lost, it waits in its spool.
const (
	defaultBytesPerSecond  = 2 << 20
	defaultBurstBytes      = 16 << 20
	defaultFramesPerSecond = 200
	defaultBurstFrames     = 2000
	// A deferred frame comes again after as long as the quota needs, within these.
	minQuotaRetry = time.Second
	maxQuotaRetry = time.Minute
	// maxQuotas bounds the agents that are remembered after they have gone.
	maxQuotas = 50_000
)

// quota is what one agent may send. It is used by the agent's newest connection.
type quota struct {
	bytes, frames *rate.Limiter
}

// take tells whether a frame of n bytes is within the quota, and if not, when it will
// be.
func (q *quota) take(n int, now time.Time) (retry time.Duration, ok bool) {
	retry = max(lacking(q.frames, 1, now), lacking(q.bytes, n, now))
	if retry > 0 {
		retry = time.Duration(math.Ceil(retry.Seconds())) * time.Second // few values: few answers
		return min(max(retry, minQuotaRetry), maxQuotaRetry), false
	}
	q.frames.AllowN(now, 1)
	q.bytes.AllowN(now, min(n, q.bytes.Burst()))
	return 0, true
}

// lacking is how long l needs until it has n tokens; one frame larger than a burst
// needs the burst.
func lacking(l *rate.Limiter, n int, now time.Time) time.Duration {
	want := min(float64(n), float64(l.Burst()))
	if have := l.TokensAt(now); have < want {
		return time.Duration((want - have) / float64(l.Limit()) * float64(time.Second))
	}
	return 0
}

// full tells whether nothing of it is used: then it need not be remembered.
func (q *quota) full(now time.Time) bool {
	return q.bytes.TokensAt(now) >= float64(q.bytes.Burst()) && q.frames.TokensAt(now) >= float64(q.frames.Burst())
}

// quotas are those of all agents. They outlive a connection: a reconnect gives no new
// allowance.
type quotas struct {
	cfg Config

	mu sync.Mutex
	by map[telemetry.AgentID]*quota // guarded by mu
}

func newQuotas(cfg Config) *quotas {
	return &quotas{cfg: cfg, by: map[telemetry.AgentID]*quota{}}
}

func (qs *quotas) of(agent telemetry.AgentID, now time.Time) *quota {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	if q, ok := qs.by[agent]; ok {
		return q
	}
	q := &quota{
		bytes:  rate.NewLimiter(rate.Limit(qs.cfg.BytesPerSecond), qs.cfg.BurstBytes),
		frames: rate.NewLimiter(rate.Limit(qs.cfg.FramesPerSecond), qs.cfg.BurstFrames),
	}
	if len(qs.by) >= maxQuotas {
		for a, old := range qs.by {
			if old.full(now) {
				delete(qs.by, a)
			}
		}
	}
	if len(qs.by) < maxQuotas { // else it holds for this connection only
		qs.by[agent] = q
	}
	return q
}
