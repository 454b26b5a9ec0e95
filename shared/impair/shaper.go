package impair

import (
	"math/rand/v2"
	"time"
)

// shaper decides the fate of the packets of one direction. It is pure: time comes in as
// an argument, chance from a seed. Each kind of chance has a stream of its own, drawn from
// once for each packet that gets so far, so the same packets meet the same fate however
// else the profile changes.
type shaper struct {
	profile                         Profile
	loss, burst, dup, delay, behind *rand.Rand
	bad                             bool          // state of Bursts
	busy                            time.Duration // until when the line is sending
	last                            time.Duration // when the last packet that keeps the order leaves
}

func newShaper(seed uint64, d Direction, p Profile) *shaper {
	stream := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(d)<<8|n)) }
	return &shaper{profile: p, loss: stream(1), burst: stream(2), dup: stream(3), delay: stream(4), behind: stream(5)}
}

// fate is what becomes of a packet: dropped, or sent once or twice.
type fate struct {
	drop      Reason
	due       [2]time.Duration // when it leaves
	copies    int
	reordered bool
}

// packet decides about a packet of size bytes that arrives now.
func (s *shaper) packet(now time.Duration, size int) fate {
	p := &s.profile
	lost, burst, twice := s.loss.Float64() < p.Loss, s.inBurst(), s.dup.Float64() < p.Duplicate
	late := s.behind.Float64() < p.Reorder
	switch {
	case p.MTU > 0 && size > p.MTU:
		return fate{drop: DropMTU}
	case p.Blackhole:
		return fate{drop: DropBlackhole}
	case lost:
		return fate{drop: DropLoss}
	case burst:
		return fate{drop: DropBurst}
	case p.Rate > 0 && s.busy-now > p.queue():
		return fate{drop: DropQueue}
	}
	f := fate{copies: 1, reordered: late}
	if twice {
		f.copies = 2
	}
	for i := range f.copies {
		f.due[i] = s.leaves(now, size, late)
	}
	return f
}

// leaves gives the time at which something of size bytes leaves that arrives now.
func (s *shaper) leaves(now time.Duration, size int, late bool) time.Duration {
	p := &s.profile
	due := now
	if p.Rate > 0 {
		s.busy = max(s.busy, now) + time.Duration(float64(size)*8*float64(time.Second)/float64(p.Rate))
		due = s.busy
	}
	due += max(0, p.Delay+s.jitter())
	if late {
		return max(due, s.last) + p.reorderBy()
	}
	s.last = max(s.last, due)
	return s.last
}

// waiting is how long the line is busy with what came before now.
func (s *shaper) waiting(now time.Duration) time.Duration {
	if s.profile.Rate == 0 {
		return 0
	}
	return max(0, s.busy-now)
}

func (s *shaper) jitter() time.Duration {
	j := s.profile.Jitter
	if j == 0 {
		return 0
	}
	if s.profile.Normal {
		return time.Duration(s.delay.NormFloat64() * float64(j))
	}
	return time.Duration((2*s.delay.Float64() - 1) * float64(j))
}

// inBurst moves the model of Gilbert and Elliott by one packet.
func (s *shaper) inBurst() bool {
	b := &s.profile.Bursts
	change, loss := s.burst.Float64(), s.burst.Float64()
	if s.bad {
		s.bad = change >= b.BadToGood
	} else {
		s.bad = change < b.GoodToBad
	}
	if s.bad {
		return loss < b.LossBad
	}
	return loss < b.LossGood
}

// set changes the profile. What is under way stays as it was decided.
func (s *shaper) set(now time.Duration, p Profile) {
	if p.Rate == 0 || s.profile.Rate == 0 {
		s.busy = now
	}
	if p.Bursts == (Bursts{}) {
		s.bad = false
	}
	s.profile = p
}
