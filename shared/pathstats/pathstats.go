// Package pathstats computes the statistics of a window of attempts: quantiles of
// the RTT, interarrival jitter, delay variation, loss runs and burst ratio,
// reordering, and the direction of losses. It is arithmetic only: no clock, no I/O.
//
// Inputs of the two that are often mixed up:
//   - Interarrival jitter (RFC 3550, 6.4.1) takes the transit times of answers in
//     the order of arrival and goes on from window to window.
//   - IPDV (RFC 3393) takes pairs of attempts that were sent one after the other and
//     both came back; a loss between two attempts leaves no pair.
//
// A transit time is the one-way delay plus an unknown but constant clock offset,
// when the far end gave timestamps (STAMP); both directions are computed and the
// worse one is reported, because a call suffers from either. Without timestamps of
// the far end the RTT stands in for the transit time and covers both directions.
package pathstats

import (
	"math"
	"slices"
	"time"

	"sidetone/shared/telemetry"
)

// Attempt is one try as the statistics need it. The zero RTT means lost.
type Attempt struct {
	// Seq rises by one for each attempt at the target.
	Seq uint32
	// Received is the instant of arrival, counted from any origin that all attempts
	// share; only meaningful when RTT is not zero.
	Received time.Duration
	RTT      time.Duration
	// Unsent marks a lost attempt that never left this host.
	Unsent bool
	// Late marks a lost attempt whose answer came after its timeout.
	Late bool
	// Far is what the far end told in its answer.
	Far Far
}

// Far is what an answer of a STAMP reflector tells beyond the RTT.
type Far struct {
	// Valid says that Session, SenderSeq and Seq are filled.
	Valid bool
	// Timed says that Forward and Reverse are filled.
	Timed bool
	// Session changes when either end begins to count anew by our doing.
	Session uint32
	// SenderSeq is the number that we sent, Seq the reflector's own number.
	SenderSeq, Seq uint32
	// Forward and Reverse are transit times, each with a constant clock offset.
	Forward, Reverse time.Duration
}

// Calc turns windows of one target into rows. It keeps its buffers and what goes on
// from window to window, so that only what the row itself keeps is allocated: the
// list of RTTs, and the two counts by direction. The zero value is ready; it is not
// safe for concurrent use.
type Calc struct {
	rtt, fwd, rev Jitter
	lastArrived   Attempt // of the arrivals, for the bound of a clock step
	lastSent      Attempt // the last attempt of the window before, for IPDV
	hasSent       bool
	dir           directions

	order        []int32
	sorted       []uint32
	ipdv, ipdvRe []uint32
}

// Window fills the counts and statistics of w from the attempts of one window, in
// the order of sending. later holds attempts sent after the window as far as their
// outcome is known; it completes the count of reordering and the direction of
// losses at the window's end. Fields that the attempts do not tell (target, times,
// duplicates, fault, detail) are left alone.
func (c *Calc) Window(attempts, later []Attempt, w *telemetry.ProbeWindow) {
	c.counts(attempts, w)
	c.quantiles(w)
	w.Reordered = reordered(attempts, later)
	w.LossRunMax, w.BurstRatioMilli = lossRuns(attempts)
	w.LostForward, w.LostReverse = c.dir.window(attempts, later)
	w.JitterUS = c.jitter(attempts)
	w.IPDVP95US = c.delayVariation(attempts)
}

func (c *Calc) counts(attempts []Attempt, w *telemetry.ProbeWindow) {
	w.Sent, w.Received, w.Lost, w.Late = uint32(len(attempts)), 0, 0, 0
	w.RTTUS = make([]uint32, len(attempts))
	c.sorted = c.sorted[:0]
	var sum uint64
	for i := range attempts {
		a := &attempts[i]
		if a.RTT <= 0 {
			w.Lost++
			if a.Late {
				w.Late++
			}
			continue
		}
		us := micros(a.RTT)
		w.Received++
		w.RTTUS[i] = us
		c.sorted = append(c.sorted, us)
		sum += uint64(us)
	}
	w.RTTMeanUS = 0
	if w.Received > 0 {
		n := uint64(w.Received)
		w.RTTMeanUS = uint32((sum + n/2) / n)
	}
}

func (c *Calc) quantiles(w *telemetry.ProbeWindow) {
	slices.Sort(c.sorted)
	setQuantiles(w, c.sorted)
}

// Quantile is the nearest-rank quantile of sorted values: the smallest value that
// at least the share q of all values does not exceed. It is always an observed
// value; of none it is zero.
func Quantile(sorted []uint32, q float64) uint32 {
	if len(sorted) == 0 {
		return 0
	}
	// The subtrahend absorbs the rounding of q × n: 0.1 × 10 must have rank 1.
	rank := int(math.Ceil(q*float64(len(sorted)) - 1e-9))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// micros rounds to microseconds; an answer is never zero, zero means lost.
func micros(d time.Duration) uint32 {
	us := (d + time.Microsecond/2) / time.Microsecond
	return uint32(min(max(us, 1), math.MaxUint32))
}

// reordered counts the answers that arrived after the answer to a later attempt
// (type-P-reordered, RFC 4737, 3.2).
func reordered(attempts, later []Attempt) uint32 {
	first, have := time.Duration(0), false // the earliest arrival of what was sent later
	see := func(a *Attempt) bool {
		if a.RTT <= 0 {
			return false
		}
		if have && first < a.Received {
			return true
		}
		first, have = a.Received, true
		return false
	}
	for i := len(later) - 1; i >= 0; i-- {
		see(&later[i])
	}
	var n uint32
	for i := len(attempts) - 1; i >= 0; i-- {
		if see(&attempts[i]) {
			n++
		}
	}
	return n
}

// lossRuns gives the longest run of successive losses and the burst ratio of G.107:
// the mean length of the runs that were observed over the mean length under random
// loss of the same ratio, 1 / (1 - loss ratio). It is 0 when nothing was lost, and
// when everything was, where it has no meaning.
func lossRuns(attempts []Attempt) (longest, burstMilli uint32) {
	var lost, runs, run uint32
	for i := range attempts {
		if attempts[i].RTT > 0 {
			run = 0
			continue
		}
		if run == 0 {
			runs++
		}
		lost++
		run++
		longest = max(longest, run)
	}
	return longest, burstRatio(uint32(len(attempts)), lost, runs)
}
