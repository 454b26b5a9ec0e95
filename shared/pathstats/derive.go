package pathstats

import (
	"math"
	"slices"

	"sidetone/shared/telemetry"
)

// Derive fills what follows from w.RTTUS alone, with exactly the numbers that
// [Calc.Window] finds: the counts of sent, received and lost, minimum to maximum and
// mean of the RTT, loss runs and burst ratio. Everything else in w is left alone.
// scratch is room to sort in; it is returned, perhaps grown, for the next call.
func Derive(w *telemetry.ProbeWindow, scratch []uint32) []uint32 {
	sorted := scratch[:0]
	var sum uint64
	var runs, run, longest uint32
	for _, us := range w.RTTUS {
		if us == 0 {
			if run == 0 {
				runs++
			}
			run++
			longest = max(longest, run)
			continue
		}
		run = 0
		sum += uint64(us)
		sorted = append(sorted, us)
	}
	n, got := uint32(len(w.RTTUS)), uint32(len(sorted))
	w.Sent, w.Received, w.Lost = n, got, n-got
	w.LossRunMax, w.BurstRatioMilli = longest, burstRatio(n, n-got, runs)
	w.RTTMeanUS = 0
	if got > 0 {
		w.RTTMeanUS = uint32((sum + uint64(got)/2) / uint64(got))
	}
	slices.Sort(sorted)
	setQuantiles(w, sorted)
	return sorted
}

// setQuantiles sets the quantiles that a row keeps.
func setQuantiles(w *telemetry.ProbeWindow, sorted []uint32) {
	w.RTTMinUS = Quantile(sorted, 0)
	w.RTTP10US = Quantile(sorted, 0.10)
	w.RTTP50US = Quantile(sorted, 0.50)
	w.RTTP90US = Quantile(sorted, 0.90)
	w.RTTP99US = Quantile(sorted, 0.99)
	w.RTTMaxUS = Quantile(sorted, 1)
}

// burstRatio of n attempts, of which lost were lost in runs; see lossRuns.
func burstRatio(n, lost, runs uint32) uint32 {
	if lost == 0 || lost == n {
		return 0
	}
	mean := float64(lost) / float64(runs)
	return uint32(math.Round(mean * float64(n-lost) / float64(n) * 1000))
}
