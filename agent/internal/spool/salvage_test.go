package spool

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sidetone/shared/telemetry"
	"sidetone/shared/wire"
)

// TestSalvage: what a quarantined database still holds comes back under its own epoch
// and seq, once, without what was acked, and its gaps that were not told yet go.
func TestSalvage(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	want := filled(t, cfg, 60)
	s := open(t, cfg, testDeps(t))
	old := s.Status().Epoch
	if err := s.Ack(old, []wire.Range{{From: 1, To: 10}}); err != nil {
		t.Fatal(err)
	}
	closeIt(t, s)
	aside := filepath.Join(cfg.Dir, quarantinePrefix+"20260101T000000.000Z")
	if err := copyOnce(filepath.Join(cfg.Dir, dbName), aside); err != nil {
		t.Fatal(err)
	}
	if err := copyFile(filepath.Join(cfg.Dir, sentinelName), filepath.Join(aside, sentinelName)); err != nil {
		t.Fatal(err)
	}
	remove(t, filepath.Join(cfg.Dir, dbName))

	s = open(t, cfg, testDeps(t))
	fresh, seq := add(t, s, wire.ClassSample, "fresh")
	if fresh == old || seq != 61 || s.Status().Gaps != 1 {
		t.Fatalf("record %d of epoch %d, status %+v", seq, fresh, s.Status())
	}
	res, err := s.Salvage()
	if err != nil || len(res) != 1 || res[0].Restored != 50 || res[0].Done != 10 || !res[0].Complete || res[0].Damaged != 0 {
		t.Fatalf("%+v %v", res, err)
	}
	check := func(when string) {
		t.Helper()
		rs := readAll(t, s)
		if len(rs) != 51 || rs[50].Epoch != fresh {
			t.Fatalf("%s: %d records", when, len(rs))
		}
		for i, r := range rs[:50] {
			if r.Epoch != old || r.Seq != uint64(i+11) || string(r.Payload) != want[r.Seq] {
				t.Errorf("%s: record %d/%d", when, r.Epoch, r.Seq)
			}
		}
		if st := s.Status(); st.Gaps != 0 || st.LowestSeq != 11 || st.EpochFirst != 61 || st.NextSeq != 62 {
			t.Errorf("%s: status %+v", when, st)
		}
	}
	check("after salvage")
	if res, err = s.Salvage(); err != nil || len(res) != 0 {
		t.Errorf("a second time: %+v %v", res, err)
	}
	if res, err = s.Salvage(aside); err != nil || len(res) != 1 || res[0].Present != 50 || res[0].Restored != 0 {
		t.Errorf("a second time, by name: %+v %v", res, err)
	}
	closeIt(t, s)
	s = open(t, cfg, testDeps(t))
	check("after reopening")
	if err := s.Ack(old, []wire.Range{{From: 1, To: 60}}); err != nil {
		t.Fatal(err)
	}
	if got := seqs(readAll(t, s)); got != "61" {
		t.Errorf("after acks: %s", got)
	}
}

// TestSalvageKeepsOrder: a number that belongs to another epoch by now does not come back.
func TestSalvageKeepsOrder(t *testing.T) {
	other := Config{Dir: t.TempDir()}
	filled(t, other, 5)
	cfg := Config{Dir: t.TempDir()}
	s := open(t, cfg, testDeps(t))
	for range 3 {
		add(t, s, wire.ClassSample, "mine")
	}
	res, err := s.Salvage(other.Dir)
	if err != nil || len(res) != 1 || res[0].Restored != 0 || res[0].Taken != 5 || !res[0].Complete {
		t.Fatalf("%+v %v", res, err)
	}
	if rs := readAll(t, s); len(rs) != 3 || string(rs[0].Payload) != "mine" {
		t.Errorf("records %+v", rs)
	}
}

func TestSalvageWithinLimits(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	deps := testDeps(t)
	deps.Now = func() time.Time { return now }
	s := open(t, cfg, deps)
	add(t, s, wire.ClassSample, "old")
	now = now.Add(10 * 24 * time.Hour)
	for range 30 {
		add(t, s, wire.ClassSample, strings.Repeat("x", 100_000))
	}
	copied := copyDir(t, cfg.Dir)
	if _, err := s.Discard(time.Time{}); err != nil {
		t.Fatal(err)
	}
	closeIt(t, s)
	now = now.Add(5 * 24 * time.Hour)
	cfg.MaxBytes = 2 << 20
	s = open(t, cfg, deps)
	res, err := s.Salvage(copied)
	if err != nil || len(res) != 1 || res[0].Old != 1 || res[0].Restored < 15 || res[0].Restored+res[0].Room != 30 || res[0].Complete {
		t.Fatalf("%+v %v", res, err)
	}
	if st := s.Status(); st.Records != res[0].Restored || st.Bytes > cfg.MaxBytes {
		t.Errorf("status %+v", st)
	}
}

func TestDiscard(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	deps := testDeps(t)
	deps.Now = func() time.Time { return now }
	s := open(t, cfg, deps)
	for range 1200 {
		add(t, s, wire.ClassSample, "x")
		now = now.Add(time.Minute)
	}
	before := now.Add(-100 * time.Minute)
	b := s.Backlog(before)
	if b.Records != 1100 || b.From != 1 || b.To != 1100 || !b.Newest.Before(before) {
		t.Errorf("backlog %+v", b)
	}
	if got, err := s.Discard(before); err != nil || got != b {
		t.Errorf("discarded %+v, %v", got, err)
	}
	closeIt(t, s)
	s = open(t, cfg, deps)
	if st := s.Status(); st.Records != 100 || st.LowestSeq != 1101 {
		t.Errorf("status %+v", st)
	}
	if gs := s.TakeGaps(9); gapText(gs) != "1-1100 "+telemetry.GapDiscarded {
		t.Errorf("gaps %s", gapText(gs))
	}
}
