package spool

import (
	"bytes"
	"math/rand/v2"
	"os"
	"testing"

	"sidetone/shared/wire"
)

// TestDiskStaysSmall appends and acks for a long time: what is acked must not pile up.
func TestDiskStaysSmall(t *testing.T) {
	const cycles = 20_000
	each := 50 // records a flush, to be quicker
	if os.Getenv("SIDETONE_SOAK") != "" {
		each = 1
	}
	cfg := Config{Dir: t.TempDir()}
	s := open(t, cfg, testDeps(t))
	r := rand.New(rand.NewPCG(1, 2))
	payload := make([]byte, 1500)
	var most uint64
	for n := 0; n < cycles; n += each {
		for i := range payload {
			payload[i] = byte(r.Uint32())
		}
		epoch, first, err := s.AppendBatch(wire.ClassSample, slicesOf(payload, each))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Ack(epoch, []wire.Range{{From: first, To: first + uint64(each) - 1}}); err != nil {
			t.Fatal(err)
		}
		if n%500 == 0 {
			most = max(most, dirSize(cfg.Dir))
		}
	}
	if most > 24e6 {
		t.Errorf("%.1f MB on disk for an empty spool, want at most 24", float64(most)/1e6)
	}
	if st := s.Status(); st.Records != 0 || st.NextSeq != cycles+1 {
		t.Errorf("status %+v", st)
	}
	t.Logf("at most %.1f MB on disk, %.1f at the end", float64(most)/1e6, float64(dirSize(cfg.Dir))/1e6)
}

func slicesOf(p []byte, n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = bytes.Clone(p)
	}
	return out
}
