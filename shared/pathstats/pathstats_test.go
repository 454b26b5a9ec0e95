package pathstats_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"sidetone/shared/pathstats"
	"sidetone/shared/telemetry"
)

const ms = time.Millisecond

// sent builds attempts one second apart; 0 is a loss, other values are RTTs.
func sent(first uint32, rtts ...time.Duration) []pathstats.Attempt {
	as := make([]pathstats.Attempt, len(rtts))
	for i, rtt := range rtts {
		seq := first + uint32(i)
		as[i] = pathstats.Attempt{Seq: seq, RTT: rtt, Received: time.Duration(seq)*time.Second + rtt}
	}
	return as
}

func window(as ...pathstats.Attempt) telemetry.ProbeWindow {
	var c pathstats.Calc
	var w telemetry.ProbeWindow
	c.Window(as, nil, &w)
	return w
}

func TestQuantile(t *testing.T) {
	ten := []uint32{15, 20, 35, 40, 50, 60, 70, 80, 90, 100}
	cases := []struct {
		name   string
		sorted []uint32
		q      float64
		want   uint32
	}{
		{"none", nil, 0.5, 0},
		{"one", []uint32{7}, 0.99, 7},
		{"minimum", ten, 0, 15},
		{"p10 of ten has rank 1", ten, 0.10, 15},
		{"p50 of ten has rank 5", ten, 0.50, 50},
		{"p90 of ten has rank 9", ten, 0.90, 90},
		{"p99 of ten has rank 10", ten, 0.99, 100},
		{"maximum", ten, 1, 100},
		// The common example of the nearest rank: 15 20 35 40 50.
		{"p5 of five", ten[:5], 0.05, 15},
		{"p30 of five", ten[:5], 0.30, 20},
		{"p40 of five", ten[:5], 0.40, 20},
		{"p50 of five", ten[:5], 0.50, 35},
	}
	for _, c := range cases {
		if got := pathstats.Quantile(c.sorted, c.q); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// By hand from RFC 3550, A.8: J += (|D| - J) / 16.
func TestJitter(t *testing.T) {
	var j pathstats.Jitter
	want := 0.0
	last := 0
	for i, transit := range []int{100, 116, 100, 100, 260} {
		j.Add(time.Duration(transit)*ms, time.Hour)
		if i > 0 {
			want += (math.Abs(float64(transit-last)) - want) / 16
		}
		last = transit
		if got := float64(j.Value()) / float64(ms); math.Abs(got-want) > 1e-4 {
			t.Errorf("after %d: %v ms, want %v", i, got, want)
		}
	}
	if want < 10 { // 16/16 = 1, then 1.9375, 1.8164…, 11.70…
		t.Fatalf("the vector itself is wrong: %v", want)
	}
}

func TestJitterConverges(t *testing.T) {
	var c pathstats.Calc
	var w telemetry.ProbeWindow
	for n := range uint32(20) { // RTT alternates between 20 and 30 ms
		as := sent(n*10, 20*ms, 30*ms, 20*ms, 30*ms, 20*ms, 30*ms, 20*ms, 30*ms, 20*ms, 30*ms)
		c.Window(as, nil, &w)
	}
	if w.JitterUS < 9990 || w.JitterUS > 10000 {
		t.Errorf("jitter %d µs after 200 answers 10 ms apart; it must go on from window to window", w.JitterUS)
	}
	if w.IPDVP95US != 10000 {
		t.Errorf("IPDV %d µs", w.IPDVP95US)
	}
}

func TestJitterFollowsArrival(t *testing.T) {
	// The first answer overtakes nobody, the second arrives last: order 20, 21, 1900.
	as := sent(0, 20*ms, 1900*ms, 21*ms)
	w := window(as...)
	want := 1.0 / 16
	want += (1879 - want) / 16
	if got := float64(w.JitterUS) / 1000; math.Abs(got-want) > 0.001 {
		t.Errorf("jitter %v ms, want %v: it takes answers in the order of arrival", got, want)
	}
}

func TestCountsAndQuantiles(t *testing.T) {
	w := window(sent(0, 10*ms, 0, 30*ms, 20*ms, 400*time.Nanosecond)...)
	if w.Sent != 5 || w.Received != 4 || w.Lost != 1 {
		t.Errorf("counts: %+v", w)
	}
	if want := []uint32{10000, 0, 30000, 20000, 1}; !slices.Equal(w.RTTUS, want) {
		t.Errorf("RTTs %v, want %v: an answer is at least 1 µs", w.RTTUS, want)
	}
	if w.RTTMinUS != 1 || w.RTTP50US != 10000 || w.RTTMaxUS != 30000 || w.RTTMeanUS != 15000 {
		t.Errorf("quantiles: %+v", w)
	}
}

func TestAllLost(t *testing.T) {
	w := window(sent(0, 0, 0, 0)...)
	if w.Sent != 3 || w.Lost != 3 || w.Received != 0 || w.LossRunMax != 3 {
		t.Errorf("%+v", w)
	}
	if w.RTTMinUS != 0 || w.RTTMeanUS != 0 || w.JitterUS != 0 || w.IPDVP95US != 0 || w.BurstRatioMilli != 0 {
		t.Errorf("statistics of nothing: %+v", w)
	}
}

func TestLossRunsAndBurstRatio(t *testing.T) {
	const r = 20 * ms
	cases := []struct {
		name  string
		rtts  []time.Duration
		run   uint32
		burst uint32
	}{
		{"none lost", []time.Duration{r, r, r}, 0, 0},
		// one run of 1 in 10: expected under random loss 1/(1-0.1); 1 × 0.9
		{"single", []time.Duration{r, r, 0, r, r, r, r, r, r, r}, 1, 900},
		// runs of 3 and 1: mean 2, loss ratio 0.4; 2 × 0.6
		{"two runs", []time.Duration{0, 0, 0, r, r, 0, r, r, r, r}, 3, 1200},
		// one run of 4 in 8: 4 × 0.5
		{"one long run", []time.Duration{r, r, 0, 0, 0, 0, r, r}, 4, 2000},
		{"at both ends", []time.Duration{0, r, r, 0}, 1, 500},
	}
	for _, c := range cases {
		w := window(sent(0, c.rtts...)...)
		if w.LossRunMax != c.run || w.BurstRatioMilli != c.burst {
			t.Errorf("%s: run %d, burst %d; want %d, %d", c.name, w.LossRunMax, w.BurstRatioMilli, c.run, c.burst)
		}
	}
}

func TestIPDVNeedsNeighbours(t *testing.T) {
	// Pairs: (10,12), then a loss leaves (12,·) and (·,50) without one, then (50,53).
	w := window(sent(0, 10*ms, 12*ms, 0, 50*ms, 53*ms)...)
	if w.IPDVP95US != 3000 {
		t.Errorf("IPDV %d µs, want 3000", w.IPDVP95US)
	}
	t.Run("across windows", func(t *testing.T) {
		var c pathstats.Calc
		var w telemetry.ProbeWindow
		c.Window(sent(0, 10*ms), nil, &w)
		c.Window(sent(1, 17*ms), nil, &w)
		if w.IPDVP95US != 7000 {
			t.Errorf("neighbours in two windows: %d µs, want 7000", w.IPDVP95US)
		}
		c.Window(sent(3, 30*ms), nil, &w)
		if w.IPDVP95US != 0 {
			t.Errorf("not neighbours: %d µs, want 0", w.IPDVP95US)
		}
	})
}

func TestReordered(t *testing.T) {
	at := func(arrivals ...time.Duration) []pathstats.Attempt {
		as := make([]pathstats.Attempt, len(arrivals))
		for i, a := range arrivals {
			as[i] = pathstats.Attempt{Seq: uint32(i), Received: a}
			if a > 0 {
				as[i].RTT = ms
			}
		}
		return as
	}
	// RFC 4737, 4.2.1 and its examples: a packet is reordered when a later one came before.
	cases := []struct {
		name   string
		as     []pathstats.Attempt
		within int // attempts of the window; the rest is later
		want   uint32
	}{
		{"in order", at(1, 2, 3, 4), 4, 0},
		{"one late", at(1, 9, 3, 4), 4, 1},
		{"one early: only those it overtook count", at(2, 3, 4, 1), 4, 3},
		{"a lost one says nothing", at(1, 0, 3, 4), 4, 0},
		{"overtaken by the next window", at(1, 2, 9, 4), 3, 1},
		{"not overtaken by a lost one", at(1, 2, 9, 0), 3, 0},
	}
	for _, c := range cases {
		var calc pathstats.Calc
		var w telemetry.ProbeWindow
		calc.Window(c.as[:c.within], c.as[c.within:], &w)
		if w.Reordered != c.want {
			t.Errorf("%s: %d, want %d", c.name, w.Reordered, c.want)
		}
	}
}

func TestFarTimestamps(t *testing.T) {
	timed := func(seq uint32, fwd, rev, offset time.Duration) pathstats.Attempt {
		return pathstats.Attempt{Seq: seq, RTT: fwd + rev, Received: time.Duration(seq)*time.Second + fwd + rev,
			Far: pathstats.Far{Valid: true, Timed: true, SenderSeq: seq + 1, Seq: seq, Forward: fwd + offset, Reverse: rev - offset}}
	}
	const off = 3 * time.Hour // the clocks need not agree
	t.Run("the worse direction counts", func(t *testing.T) {
		w := window(timed(0, 10*ms, 10*ms, off), timed(1, 10*ms, 26*ms, off))
		if w.JitterUS != 1000 || w.IPDVP95US != 16000 {
			t.Errorf("jitter %d, IPDV %d; want 1000, 16000", w.JitterUS, w.IPDVP95US)
		}
	})
	t.Run("opposite changes do not cancel", func(t *testing.T) {
		w := window(timed(0, 10*ms, 26*ms, off), timed(1, 26*ms, 10*ms, off)) // same RTT
		if w.JitterUS != 1000 || w.IPDVP95US != 16000 {
			t.Errorf("jitter %d, IPDV %d; want 1000, 16000", w.JitterUS, w.IPDVP95US)
		}
	})
	t.Run("a step of the far clock is no jitter", func(t *testing.T) {
		w := window(timed(0, 10*ms, 10*ms, off), timed(1, 10*ms, 10*ms, off+time.Second), timed(2, 10*ms, 10*ms, off+time.Second))
		if w.JitterUS != 0 || w.IPDVP95US != 0 {
			t.Errorf("jitter %d, IPDV %d; want 0", w.JitterUS, w.IPDVP95US)
		}
	})
}

func BenchmarkWindow(b *testing.B) {
	as := make([]pathstats.Attempt, 10)
	for i := range as {
		as[i] = pathstats.Attempt{Seq: uint32(i), RTT: time.Duration(20+i%3) * ms, Received: time.Duration(i)*time.Second + 20*ms,
			Far: pathstats.Far{Valid: true, Timed: true, SenderSeq: uint32(i + 1), Seq: uint32(i), Forward: 10 * ms, Reverse: time.Duration(10+i%3) * ms}}
	}
	var c pathstats.Calc
	var w telemetry.ProbeWindow
	b.ReportAllocs()
	for b.Loop() {
		c.Window(as, nil, &w)
	}
}

func TestWindowAllocatesOnlyTheRow(t *testing.T) {
	as := sent(0, 20*ms, 21*ms, 0, 20*ms, 25*ms)
	var c pathstats.Calc
	var w telemetry.ProbeWindow
	c.Window(as, nil, &w)
	if got := testing.AllocsPerRun(100, func() { c.Window(as, nil, &w) }); got > 1 {
		t.Errorf("%v allocations, want 1: the list of RTTs", got)
	}
}
