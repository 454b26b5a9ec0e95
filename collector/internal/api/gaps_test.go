package api

import (
	"fmt"
	"testing"
	"time"

	"sidetone/collector/internal/telemetrydb"
	"sidetone/shared/telemetry"
)

// TestGaps reads the gap ledger from the real engine.
func TestGaps(t *testing.T) {
	db := engine(t)
	b := newBench(t, db)
	c := b.owner()
	src, other := b.admit("T", "C", "S"), b.admit("T2", "C", "other")
	start := time.Now().Add(-time.Hour)
	epoch := uint64(start.UnixMilli()) << 10
	var frames []telemetrydb.Frame
	for seq := uint64(1); seq <= 20; seq++ {
		made := start.Add(time.Duration(seq) * 10 * time.Second)
		if seq < 8 || seq > 10 {
			frames = append(frames, telemetrydb.Frame{Source: src, Epoch: epoch, Seq: seq, ReceivedAt: made, Rows: 1})
		}
		if seq < 18 {
			frames = append(frames, telemetrydb.Frame{Source: other, Epoch: epoch, Seq: seq, ReceivedAt: made, Rows: 1})
		}
	}
	blocks := telemetrydb.NewBlocks(telemetrydb.NewKnown())
	now := telemetry.MS(time.Now())
	blocks.Add(src, epoch, 20, time.Now(), &telemetry.Set{
		Gaps:        []telemetry.Gap{{Observed: now, Epoch: epoch, From: 8, To: 9, Reason: telemetry.GapEvicted}},
		AgentHealth: []telemetry.AgentHealth{{Observed: now, SpoolEpoch: epoch, SpoolFirst: 1, SpoolNext: 31, SpoolLowest: 10}},
	})
	for _, blk := range append(blocks.Blocks(), telemetrydb.FrameBlock(frames)) {
		if err := db.InsertBlock(t.Context(), blk, "test"+blk.Table+blk.Salt); err != nil {
			t.Fatal(err)
		}
	}

	var g Gaps
	a := b.want(b.do(c, "GET", sitePath(src)+"/gaps", nil), 200)
	a.into(t, &g)
	if len(g.Gaps) != 3 || g.More {
		t.Fatalf("%s", a.body)
	}
	for i, want := range []struct {
		label    string
		from, to uint64
		ended    bool
	}{{"late", 21, 30, false}, {"late", 10, 10, true}, {"evicted", 8, 9, true}} {
		got := g.Gaps[i]
		if got.Label != want.label || *got.FromSeq != want.from || *got.ToSeq != want.to || *got.Records != want.to-want.from+1 || (got.To != 0) != want.ended || got.AgentID != src.Agent {
			t.Errorf("%d: %+v", i, got)
		}
	}
	b.want(b.do(c, "GET", sitePath(src)+"/gaps?limit=1", nil), 200).into(t, &g)
	if len(g.Gaps) != 1 || !g.More {
		t.Errorf("one of three: %+v", g)
	}
	a = b.want(b.do(c, "GET", sitePath(other)+"/gaps", nil), 200)
	a.into(t, &g)
	if string(a.body) == "" || len(g.Gaps) != 0 || g.More {
		t.Errorf("a site that is complete: %s", a.body)
	}
	for _, q := range []string{"?from_ms=5&to_ms=4", fmt.Sprintf("?from_ms=1&to_ms=%d", (31 * 24 * time.Hour).Milliseconds()), "?from_ms=-1", "?limit=1001", "?from_ms=x"} {
		b.want(b.do(c, "GET", sitePath(src)+"/gaps"+q, nil), 422)
	}
	b.want(b.do(c, "GET", "/api/v1/sites/4000000/gaps", nil), 404)
}
