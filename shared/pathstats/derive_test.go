package pathstats

import (
	"math"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sidetone/shared/telemetry"
)

// TestDeriveAgrees: what Derive finds in the RTTs is what Window found in the attempts.
func TestDeriveAgrees(t *testing.T) {
	var scratch []uint32
	rapid.Check(t, func(t *rapid.T) {
		rtts := rapid.SliceOfN(rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(1, 1e8), rapid.Int64Range(1, math.MaxUint32*1000)), 0, 60).Draw(t, "rtts")
		attempts := make([]Attempt, len(rtts))
		for i, ns := range rtts {
			attempts[i] = Attempt{Seq: uint32(i), RTT: time.Duration(ns), Received: time.Duration(i) * time.Second}
		}
		var c Calc
		var want telemetry.ProbeWindow
		c.Window(attempts, nil, &want)
		// Left alone: they do not follow from the list of RTTs.
		got := telemetry.ProbeWindow{RTTUS: want.RTTUS, JitterUS: want.JitterUS, IPDVP95US: want.IPDVP95US, Reordered: want.Reordered,
			LostForward: want.LostForward, LostReverse: want.LostReverse}
		got.Sent, got.RTTP50US, got.BurstRatioMilli = 7, 7, 7
		scratch = Derive(&got, scratch)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
	})
}
