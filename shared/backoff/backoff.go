// Package backoff gives bounded retry delays with randomness. Retrying is bounded
// in rate, never in time: there is no "give up".
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff grows its delay from Min to Max with decorrelated jitter: each delay is
// drawn from [Min, 3 × the last delay]. The zero value is not usable; it is not
// safe for concurrent use.
type Backoff struct {
	Min, Max time.Duration
	last     time.Duration
}

// Next returns the next delay.
func (b *Backoff) Next() time.Duration {
	if b.last < b.Min {
		b.last = b.Min
	}
	hi := min(3*b.last, b.Max)
	d := b.Min
	if hi > b.Min {
		d += time.Duration(rand.Int64N(int64(hi - b.Min)))
	}
	b.last = d
	return d
}

// Reset starts again from Min, after a success.
func (b *Backoff) Reset() { b.last = 0 }

// Wait sleeps for the next delay, or until ctx ends, whose error it then returns.
func (b *Backoff) Wait(ctx context.Context) error { return Sleep(ctx, b.Next()) }

// Sleep waits d or until ctx ends, whose error it then returns.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
