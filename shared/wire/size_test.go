package wire

import (
	"testing"

	"sidetone/shared/telemetry"
)

// framesOf is what a site measures in some rounds, as frames.
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
