package wire

import (
	"testing"

	"sidetone/shared/telemetry"
)

func bothSchemas(t testing.TB, set *telemetry.Set) (one, two []byte) {
	t.Helper()
	one, err := encode1(set)
	if err != nil {
		t.Fatal(err)
	}
	return one, payloadOf(t, set)
}

func TestSizes(t *testing.T) {
	for _, rounds := range []int{1, 6} {
		n1, n2, ns, nv, nn, nc := 0, 0, 0, 0, 0, 0
		for seed := uint64(1000); seed < 1020; seed++ {
			s := newSite(seed, 10)
			s.gather(3)
			set := s.gather(rounds)
			a, b := bothSchemas(t, set)
			n, v := samples(set)
			n1, n2, ns, nv = n1+len(a), n2+len(b), ns+n, nv+v
			noise, columns, _ := unpack2(b[1:])
			nn += len(noise)
			nc += len(columns)
		}
		t.Logf("rounds %d: schema 1 %.3f, schema 2 %.3f B/sample; noise %.3f columns %.3f->%.3f; %.3f B/value; %d samples", rounds, float64(n1)/float64(ns), float64(n2)/float64(ns),
			float64(nn)/float64(ns), float64(nc)/float64(ns), float64(n2-nn)/float64(ns), float64(n2)/float64(nv), ns/20)
	}
}
