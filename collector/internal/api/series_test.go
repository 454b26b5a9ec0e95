package api

import (
	"fmt"
	"testing"
	"time"

	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/chengine/enginetest"
	"sidetone/collector/internal/telemetrydb"
	"sidetone/shared/telemetry"
)

// engine is a migrated database on the real embedded engine.
func engine(t *testing.T) *telemetrydb.DB {
	t.Helper()
	sup, _ := enginetest.Start(t, t.TempDir())
	db, err := telemetrydb.Open(t.Context(), telemetrydb.Config{Socket: sup.Socket()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}

// TestHistory reads curves and changes from the real engine.
func TestHistory(t *testing.T) {
	db := engine(t)
	b := newBench(t, db)
	c := b.owner()
	src, other := b.admit("T", "C", "S"), b.admit("T", "C", "other")
	start := time.Now().Truncate(time.Minute).Add(-10 * time.Minute)
	blocks := telemetrydb.NewBlocks(telemetrydb.NewKnown())
	put := func(s telemetry.Source, seq uint64, set *telemetry.Set) { blocks.Add(s, 1, seq, time.Now(), set) }
	put(src, 1, window(start, 0))
	put(src, 2, window(start.Add(10*time.Second), 5))
	put(src, 3, window(start.Add(60*time.Second), 0)) // after a gap of four windows
	put(other, 1, window(start.Add(20*time.Second), 10))
	put(src, 4, &telemetry.Set{StateChanges: []telemetry.StateChange{{
		Observed: telemetry.MS(start), Subject: telemetry.SubjectTrunk, Item: 9, Name: "<b>trunk</b>", From: "registered", To: "unregistered", Detail: "403",
	}}})
	for _, blk := range blocks.Blocks() {
		if err := db.InsertBlock(t.Context(), blk, "test"+blk.Table+blk.Salt); err != nil {
			t.Fatal(err)
		}
	}
	b.Live.Deliver(src, window(start, 0), time.Now())

	var s Series
	q := fmt.Sprintf("/series?target=%s&from_ms=%d&to_ms=%d&step_ms=10000", itemText(targetID), start.UnixMilli(), start.Add(70*time.Second).UnixMilli())
	a := b.want(b.do(c, "GET", sitePath(src)+q, nil), 200)
	a.into(t, &s)
	n := len(s.T)
	if n < 7 || len(s.RTTMinUS) != n || len(s.RTTP10US) != n || len(s.RTTP50US) != n || len(s.RTTP90US) != n || len(s.RTTMaxUS) != n || len(s.JitterUS) != n || len(s.LossRatio) != n || len(s.Sent) != n {
		t.Fatalf("columns of different lengths: %s", a.body)
	}
	if s.Target.Name != "collector" || s.Target.AgentID != src.Agent || s.StepMS != 10000 || s.T[0] != telemetry.MS(start) {
		t.Errorf("%s", a.body)
	}
	if s.LossRatio[0] == nil || *s.LossRatio[0] != 0 || *s.LossRatio[1] != 0.5 || s.LossRatio[6] == nil {
		t.Errorf("loss: %s", a.body)
	}
	for i := 2; i < 6; i++ {
		if s.LossRatio[i] != nil || s.RTTP50US[i] != nil || s.Sent[i] != nil {
			t.Errorf("the gap at %d holds data: %s", i, a.body)
		}
	}

	s = Series{}
	b.want(b.do(c, "GET", sitePath(other)+q, nil), 200).into(t, &s)
	if s.LossRatio[0] != nil || s.LossRatio[2] == nil || *s.LossRatio[2] != 1 || s.RTTP50US[2] != nil {
		t.Errorf("the other site: %+v", s)
	}
	b.want(b.do(c, "GET", sitePath(src)+fmt.Sprintf("/series?target=5&from_ms=1&to_ms=%d", (300*24*time.Hour).Milliseconds()), nil), 200).into(t, &s)
	if len(s.T) > telemetrydb.MaxPoints+1 || s.Target.ItemID != "5" || s.Target.Name != "" {
		t.Errorf("%d points of an unknown target %+v", len(s.T), s.Target)
	}

	b.want(b.do(c, "GET", sitePath(src)+"/series?target=5&from_ms=0&to_ms=1000", nil), 422)

	var d SiteDetail
	b.want(b.do(c, "GET", sitePath(src), nil), 200).into(t, &d)
	if len(d.Changes) != 1 || d.Changes[0].Name != "<b>trunk</b>" || d.Changes[0].To != "unregistered" {
		t.Errorf("changes: %+v", d.Changes)
	}
	if got, err := db.Changes(t.Context(), authz.Tenants(src.Tenant+1), src.Site, 10); err != nil || len(got) != 0 {
		t.Errorf("another tenant sees %+v, %v", got, err)
	}
}
