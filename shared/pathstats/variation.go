package pathstats

import (
	"slices"
	"time"
)

// Jitter is the running interarrival jitter of RFC 3550, 6.4.1: with D the
// difference of the transit times of two answers in the order of arrival,
// J += (|D| - J) / 16. The zero value is ready.
type Jitter struct {
	last time.Duration
	has  bool
	j    float64 // nanoseconds
}

// Add takes the transit time of the next arrival. A difference above limit cannot
// come from the network, see [Calc]: the pair is skipped.
func (j *Jitter) Add(transit, limit time.Duration) {
	d := (transit - j.last).Abs()
	if j.has && d <= limit {
		j.j += (float64(d) - j.j) / 16
	}
	j.last, j.has = transit, true
}

// Value is the jitter now.
func (j *Jitter) Value() time.Duration { return time.Duration(j.j) }

// jitter feeds the arrivals of a window to the running estimates.
//
// The delay of one direction lies between zero and the RTT, so between two answers
// it cannot change by more than the larger RTT. A bigger change is a step of the
// far end's clock.
func (c *Calc) jitter(attempts []Attempt) uint32 {
	c.order = c.order[:0]
	for i := range attempts {
		if attempts[i].RTT > 0 {
			c.order = append(c.order, int32(i))
		}
	}
	// Insertion sort: answers are nearly always in order already.
	for i := 1; i < len(c.order); i++ {
		for k := i; k > 0 && attempts[c.order[k]].Received < attempts[c.order[k-1]].Received; k-- {
			c.order[k], c.order[k-1] = c.order[k-1], c.order[k]
		}
	}
	timed := false
	for _, i := range c.order {
		a := &attempts[i]
		limit := stepLimit(a, &c.lastArrived)
		c.rtt.Add(a.RTT, limit)
		if a.Far.Timed {
			if !c.lastArrived.Far.Timed || c.lastArrived.Far.Session != a.Far.Session {
				c.fwd.has, c.rev.has = false, false // another origin of the clocks: no pair
			}
			timed = true
			c.fwd.Add(a.Far.Forward, limit)
			c.rev.Add(a.Far.Reverse, limit)
		}
		c.lastArrived = *a
	}
	if len(c.order) == 0 {
		return 0
	}
	if timed {
		return microsOrZero(max(c.fwd.Value(), c.rev.Value()))
	}
	return microsOrZero(c.rtt.Value())
}

// stepLimit is the largest change of a one-way delay that two answers allow.
func stepLimit(a, b *Attempt) time.Duration { return max(a.RTT, b.RTT) }

// delayVariation is the 95th percentile of |IPDV| of the window's pairs; the first
// pair is made with the last attempt of the window before.
func (c *Calc) delayVariation(attempts []Attempt) uint32 {
	c.ipdv, c.ipdvRe = c.ipdv[:0], c.ipdvRe[:0]
	for i := range attempts {
		b := &attempts[i]
		if c.hasSent {
			c.pair(&c.lastSent, b)
		}
		c.lastSent, c.hasSent = *b, true
	}
	slices.Sort(c.ipdv)
	slices.Sort(c.ipdvRe)
	return max(Quantile(c.ipdv, 0.95), Quantile(c.ipdvRe, 0.95))
}

func (c *Calc) pair(a, b *Attempt) {
	if a.RTT <= 0 || b.RTT <= 0 || b.Seq != a.Seq+1 {
		return
	}
	if !a.Far.Timed || !b.Far.Timed || a.Far.Session != b.Far.Session {
		c.ipdv = append(c.ipdv, microsOrZero((b.RTT - a.RTT).Abs()))
		return
	}
	fwd, rev := (b.Far.Forward - a.Far.Forward).Abs(), (b.Far.Reverse - a.Far.Reverse).Abs()
	if limit := stepLimit(a, b); fwd > limit || rev > limit {
		return
	}
	c.ipdv = append(c.ipdv, microsOrZero(fwd))
	c.ipdvRe = append(c.ipdvRe, microsOrZero(rev))
}

func microsOrZero(d time.Duration) uint32 {
	if d < time.Microsecond/2 {
		return 0
	}
	return micros(d)
}
