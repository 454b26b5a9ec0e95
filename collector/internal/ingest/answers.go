package ingest

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"sidetone/shared/wire"
)

// position names a frame of a connection.
type position struct{ epoch, seq uint64 }

func (a position) compare(b position) int {
	return cmp.Or(cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.seq, b.seq))
}

// answers gathers what is to be said about frames. At most one answer waits for
// each frame of the window, so it is bounded as the window is.
type answers struct {
	wake chan struct{} // capacity 1: there is something to take

	mu       sync.Mutex
	acks     []position                   // guarded by mu
	later    map[time.Duration][]position // guarded by mu
	rejected []wire.Reject                // guarded by mu
	drain    *wire.Drain                  // guarded by mu
	pong     *wire.Pong                   // guarded by mu; the last one answers for those before
}

func (a *answers) note(f func()) {
	a.mu.Lock()
	f()
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

func (a *answers) ack(p position) { a.note(func() { a.acks = append(a.acks, p) }) }

func (a *answers) postpone(p position, retry time.Duration) {
	a.note(func() {
		if a.later == nil {
			a.later = map[time.Duration][]position{}
		}
		a.later[retry] = append(a.later[retry], p)
	})
}

func (a *answers) reject(p position, reason string) {
	a.note(func() { a.rejected = append(a.rejected, wire.Reject{Epoch: p.epoch, Seq: p.seq, Reason: reason}) })
}

func (a *answers) leave(d wire.Drain) { a.note(func() { a.drain = &d }) }

func (a *answers) ping(p wire.Ping) { a.note(func() { a.pong = &wire.Pong{Number: p.Number} }) }

// take returns the messages that are due and how many frames they answer.
func (a *answers) take() (msgs []any, frames int) {
	a.mu.Lock()
	acks, later, rejected, drain, pong := a.acks, a.later, a.rejected, a.drain, a.pong
	a.acks, a.later, a.rejected, a.drain, a.pong = nil, nil, nil, nil, nil
	a.mu.Unlock()

	frames = len(acks) + len(rejected)
	for _, g := range ranges(acks) {
		msgs = append(msgs, wire.Ack{Epoch: g.epoch, Ranges: g.ranges})
	}
	for retry, ps := range later {
		frames += len(ps)
		for _, g := range ranges(ps) {
			msgs = append(msgs, wire.Defer{Epoch: g.epoch, Ranges: g.ranges, RetryMS: uint32(retry.Milliseconds())})
		}
	}
	for _, r := range rejected {
		msgs = append(msgs, r)
	}
	if pong != nil {
		msgs = append(msgs, *pong)
	}
	if drain != nil {
		msgs = append(msgs, *drain)
	}
	return msgs, frames
}

type group struct {
	epoch  uint64
	ranges []wire.Range
}

// ranges joins positions to ranges, at most wire.MaxRanges in a group.
func ranges(ps []position) []group {
	slices.SortFunc(ps, position.compare)
	var out []group
	for _, p := range ps {
		g := len(out) - 1
		if g < 0 || out[g].epoch != p.epoch {
			out = append(out, group{epoch: p.epoch, ranges: []wire.Range{{From: p.seq, To: p.seq}}})
			continue
		}
		last := &out[g].ranges[len(out[g].ranges)-1]
		switch {
		case p.seq == last.To: // the same frame twice
		case p.seq == last.To+1:
			last.To = p.seq
		case len(out[g].ranges) == wire.MaxRanges:
			out = append(out, group{epoch: p.epoch, ranges: []wire.Range{{From: p.seq, To: p.seq}}})
		default:
			out[g].ranges = append(out[g].ranges, wire.Range{From: p.seq, To: p.seq})
		}
	}
	return out
}
