package wire

import (
	"testing"

	"sidetone/shared/telemetry"
)

// frames1 and frames2 are the same rows as frames of either schema.
func framesOf(t testing.TB, s *site, rounds, perFrame int, encode func(*telemetry.Set) ([]byte, error)) (frames []Frame, n int) {
	t.Helper()
	for i := range rounds / perFrame {
		set := s.gather(perFrame)
		k, _ := samples(set)
		n += k
		p, err := encode(set)
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, sealed(1, uint64(i), p))
	}
	return frames, n
}

func bundleBytes(t testing.TB, frames []Frame, most int) (n int) {
	for len(frames) > 0 {
		b, k, err := PackBundle(frames, most)
		if err != nil {
			t.Fatal(err)
		}
		n += len(b.Data) + bundleOverhead
		frames = frames[k:]
	}
	return n
}

func TestBundleSizes(t *testing.T) {
	for _, per := range []int{1, 6} {
		for _, most := range []int{8 << 10, 32 << 10, 256 << 10} {
			a, n := framesOf(t, newSite(2000, 10), 360, per, encode1)
			b, _ := framesOf(t, newSite(2000, 10), 360, per, EncodePayload)
			t.Logf("%d rounds a frame, %d: schema 1 %.3f, schema 2 %.3f", per, most, float64(bundleBytes(t, a, most))/float64(n), float64(bundleBytes(t, b, most))/float64(n))
		}
	}
}

func TestSizes(t *testing.T) {
	for _, rounds := range []int{1, 6} {
		n1, n2, ns, nv, nn, nc := 0, 0, 0, 0, 0, 0
		for seed := uint64(1000); seed < 1020; seed++ {
			s := newSite(seed, 10)
			s.gather(3)
			set := s.gather(rounds)
			a, err := encode1(set)
			if err != nil {
				t.Fatal(err)
			}
			b := payloadOf(t, set)
			n, v := samples(set)
			n1, n2, ns, nv = n1+len(a), n2+len(b), ns+n, nv+v
			noise, columns, _ := unpack(b[1:], MaxDecoded)
			nn += len(noise)
			nc += len(columns)
		}
		t.Logf("rounds %d: schema 1 %.3f, schema 2 %.3f B/sample; noise %.3f columns %.3f->%.3f; %.3f B/value; %d samples", rounds, float64(n1)/float64(ns), float64(n2)/float64(ns),
			float64(nn)/float64(ns), float64(nc)/float64(ns), float64(n2-nn)/float64(ns), float64(n2)/float64(nv), ns/20)
	}
}
