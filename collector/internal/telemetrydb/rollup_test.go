package telemetrydb_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/telemetrydb"
	"sidetone/shared/telemetry"
)

// record is a set of windows and a PBX reading, as one frame has them.
func record(r *rand.Rand, at time.Time) *telemetry.Set {
	set := &telemetry.Set{PBXStatuses: []telemetry.PBXStatus{{Observed: telemetry.MS(at), State: telemetry.PBXOK, AnswerMS: uint32(r.IntN(50))}}}
	if r.IntN(3) > 0 {
		p := &set.PBXStatuses[0]
		p.CallsActive, p.TrunksRegistered, p.TrunksTotal = ptr(uint32(r.IntN(9))), ptr(uint32(r.IntN(3))), ptr(uint32(3))
	} else {
		set.PBXStatuses[0].State = telemetry.PBXUnreachable
	}
	for target := range telemetry.ItemID(3) {
		w := telemetry.ProbeWindow{Target: target + 1, Observed: telemetry.MS(at.Add(time.Duration(target) * time.Second)), LengthMS: 10000, Sent: 10}
		for range 10 {
			rtt := uint32(0)
			if r.IntN(4) > 0 {
				rtt = 500 + uint32(r.IntN(100_000))
			}
			w.RTTUS = append(w.RTTUS, rtt)
			if rtt == 0 {
				w.Lost++
				continue
			}
			w.Received++
			w.RTTMaxUS = max(w.RTTMaxUS, rtt)
			if w.RTTMinUS == 0 || rtt < w.RTTMinUS {
				w.RTTMinUS = rtt
			}
		}
		w.JitterUS, w.LossRunMax = uint32(r.IntN(1000)), w.Lost
		if target == 0 {
			w.LostForward, w.LostReverse = ptr(w.Lost), ptr(uint32(0))
		}
		set.ProbeWindows = append(set.ProbeWindows, w)
	}
	return set
}

// store puts records and their frames, as batch does, under a token of its own.
func storeRecords(t *testing.T, db *telemetrydb.DB, token string, agent telemetry.AgentID, seqs []uint64, sets map[uint64]*telemetry.Set) {
	t.Helper()
	src := telemetry.Source{Tenant: 1, Customer: 2, Site: 3, PBX: 4, Agent: agent}
	b := telemetrydb.NewBlocks(telemetrydb.NewKnown())
	var frames []telemetrydb.Frame
	now := time.Now()
	for _, seq := range seqs {
		b.Add(src, 9, seq, now, sets[seq])
		frames = append(frames, telemetrydb.Frame{Source: src, Epoch: 9, Seq: seq, ReceivedAt: now, Minutes: telemetrydb.MinutesOf(sets[seq], now)})
	}
	for _, blk := range append(b.Blocks(), telemetrydb.FrameBlock(frames)) {
		if err := db.InsertBlock(t.Context(), blk, token+blk.Table+blk.Salt); err != nil {
			t.Fatal(err)
		}
	}
}

// rollAll rolls up until nothing is due.
func rollAll(t *testing.T, db *telemetrydb.DB) (pieces int) {
	t.Helper()
	for more := true; more; pieces++ {
		var err error
		if more, err = db.RollUp(t.Context(), telemetrydb.RollUpConfig{Settle: time.Millisecond}); err != nil {
			t.Fatal(err)
		}
	}
	return pieces
}

// rolled holds a unit's roll-ups against what the exact rows say, for intervals that have
// closed before now; it returns how many there are.
func rolled(t *testing.T, db *telemetrydb.DB, unit, start string, before time.Time) string {
	t.Helper()
	hist := "sumMap(arrayMap(x -> toUInt16(round(32 * log2(x))), arrayFilter(x -> x > 0, rtt_us)), arrayMap(x -> toUInt64(1), arrayFilter(x -> x > 0, rtt_us)))"
	want := fmt.Sprintf(`SELECT %s(toDateTime(observed, 'UTC')) AS start, tenant_id, agent_id, target_id, count() AS n, sum(sent) AS s, sum(received) AS r, sum(lost) AS l, countIf(lost_forward IS NOT NULL) * 10 AS d, coalesce(sum(lost_forward), 0) AS f,
 minIf(rtt_min_us, received > 0) AS lo, max(rtt_max_us) AS hi, sum(arraySum(rtt_us)) AS sum_us, %s AS hist, sumIf(jitter_us, received > 1) AS j, max(loss_run_max) AS run
 FROM (SELECT * FROM sidetone.probe_window_raw LIMIT 1 BY agent_id, epoch, seq, idx) GROUP BY ALL HAVING start < toDateTime(%d, 'UTC')`, start, hist, before.Unix())
	got := fmt.Sprintf(`SELECT start, tenant_id, agent_id, target_id, windows, sent, received, lost, sent_directed, lost_forward, rtt_min_us, rtt_max_us, rtt_sum_us, (rtt_bucket, rtt_count), jitter_sum_us, loss_run_max
 FROM sidetone.probe_%s_raw FINAL`, unit)
	for _, q := range []string{want + " EXCEPT " + got, got + " EXCEPT " + want} {
		if n := one(t, db, "SELECT count() FROM ("+q+")"); n != "0" {
			t.Errorf("%s: %s intervals differ, as %.300s", unit, n, one(t, db, "SELECT * FROM ("+q+") LIMIT 1"))
		}
	}
	pbxWant := fmt.Sprintf(`SELECT %s(toDateTime(observed, 'UTC')) AS start, agent_id, count(), countIf(state = 'ok'), sum(calls_active), max(calls_active), min(trunks_registered) FROM sidetone.pbx_status GROUP BY ALL HAVING start < toDateTime(%d, 'UTC')`, start, before.Unix())
	pbxGot := fmt.Sprintf(`SELECT start, agent_id, readings, readings_ok, if(calls_readings = 0, NULL, calls_sum), calls_active_max, trunks_registered_min FROM sidetone.pbx_%s_raw FINAL`, unit)
	for _, q := range []string{pbxWant + " EXCEPT " + pbxGot, pbxGot + " EXCEPT " + pbxWant} {
		if n := one(t, db, "SELECT count() FROM ("+q+")"); n != "0" {
			t.Errorf("%s: %s PBX intervals differ: %s", unit, n, one(t, db, "SELECT * FROM ("+q+") LIMIT 1"))
		}
	}
	return one(t, db, "SELECT count() FROM sidetone.probe_"+unit)
}

// TestRollUp: roll-ups are what the exact rows say, whatever came twice, late, or was
// interrupted.
func TestRollUp(t *testing.T) {
	db := open(t)
	if n := rollAll(t, db); n != 1 {
		t.Fatalf("%d pieces of nothing", n)
	}
	r := rand.New(rand.NewPCG(1, 2))
	now := time.Now().UTC()
	start := now.Add(-3 * time.Hour)
	done := now.Add(-2 * time.Hour)
	if err := db.InsertBlock(t.Context(), &telemetrydb.Block{Table: "rollup_state", Rows: 1, Columns: []telemetrydb.Column{
		{Name: "job", Type: "LowCardinality(String)", Values: []string{"rollup"}}, {Name: "since", Type: "DateTime64(3, 'UTC')", Values: []int64{start.Add(-24 * time.Hour).UnixMilli()}},
		{Name: "done_to", Type: "DateTime64(3, 'UTC')", Values: []int64{done.UnixMilli()}}}}, ""); err != nil {
		t.Fatal(err)
	}
	sets, others := map[uint64]*telemetry.Set{}, map[uint64]*telemetry.Set{}
	var seqs, late []uint64
	n := uint64(now.Sub(start) / (10 * time.Second))
	for seq := range n {
		sets[seq] = record(r, start.Add(time.Duration(seq)*10*time.Second))
		others[seq] = record(r, start.Add(time.Duration(seq)*10*time.Second))
		if seq%7 == 3 {
			late = append(late, seq)
		} else {
			seqs = append(seqs, seq)
		}
	}
	storeRecords(t, db, "first", 5, seqs, sets)
	storeRecords(t, db, "second", 5, seqs[100:400], sets) // as after a restart: other batches, other tokens
	storeRecords(t, db, "other", 6, seqs, others)
	if pieces := rollAll(t, db); pieces < 12 {
		t.Errorf("two hours were caught up in %d pieces", pieces)
	}
	closed := now.Truncate(time.Hour)
	t.Run("all that was there", func(t *testing.T) {
		t.Logf("%s minutes", rolled(t, db, "minute", "toStartOfMinute", time.Now().UTC().Truncate(time.Minute)))
		if hours := rolled(t, db, "hour", "toStartOfHour", closed); hours == "0" {
			t.Error("no hours")
		}
	})
	t.Run("late rows make their intervals anew", func(t *testing.T) {
		before := one(t, db, "SELECT max(rolled_at) FROM sidetone.probe_minute_raw WHERE agent_id = 6 AND start < toStartOfMinute(toDateTime("+fmt.Sprint(done.Unix())+"))")
		storeRecords(t, db, "late", 5, late, sets)
		rollAll(t, db)
		rolled(t, db, "minute", "toStartOfMinute", time.Now().UTC().Truncate(time.Minute))
		rolled(t, db, "hour", "toStartOfHour", closed)
		if after := one(t, db, "SELECT max(rolled_at) FROM sidetone.probe_minute_raw WHERE agent_id = 6 AND start < toStartOfMinute(toDateTime("+fmt.Sprint(done.Unix())+"))"); after != before {
			t.Error("an agent with nothing late was made anew, too")
		}
	})
	t.Run("series", func(t *testing.T) {
		for _, length := range []time.Duration{50 * time.Hour, 40 * 24 * time.Hour} {
			var totals [2][2]uint64
			var medians [2]map[telemetry.UnixMS]uint32
			for i := range 2 { // with roll-ups, and without
				s, err := db.Series(t.Context(), authz.System(), telemetrydb.SeriesQuery{Agent: 5, Item: 1, From: time.Now().Add(-length), To: time.Now().Add(time.Minute)})
				if err != nil {
					t.Fatal(err)
				}
				totals[i], medians[i] = [2]uint64{s.SentTotal, s.LostTotal}, map[telemetry.UnixMS]uint32{}
				for at, v := range s.RTTP50US {
					if v != nil {
						medians[i][s.T[at]] = *v
					}
				}
				if i == 0 {
					if err := db.Exec(t.Context(), "RENAME TABLE sidetone.rollup_state TO sidetone.rollup_aside"); err != nil {
						t.Fatal(err)
					}
					if err := db.Exec(t.Context(), "CREATE TABLE sidetone.rollup_state AS sidetone.rollup_aside"); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := db.Exec(t.Context(), "EXCHANGE TABLES sidetone.rollup_state AND sidetone.rollup_aside"); err != nil {
				t.Fatal(err)
			}
			if err := db.Exec(t.Context(), "DROP TABLE sidetone.rollup_aside"); err != nil {
				t.Fatal(err)
			}
			if totals[0] != totals[1] || totals[0][0] != n*10 {
				t.Errorf("%s: sent and lost are %d with roll-ups, %d without, of %d", length, totals[0], totals[1], n*10)
			}
			if len(medians[0]) != len(medians[1]) || len(medians[0]) == 0 {
				t.Errorf("%s: %d steps with roll-ups, %d without", length, len(medians[0]), len(medians[1]))
			}
		}
	})
	t.Run("interrupted and done again", func(t *testing.T) {
		// the state goes back, as if the collector had died before noting it
		if err := db.Exec(t.Context(), "TRUNCATE TABLE sidetone.rollup_state"); err != nil {
			t.Fatal(err)
		}
		rollAll(t, db)
		rollAll(t, db)
		rolled(t, db, "minute", "toStartOfMinute", time.Now().UTC().Truncate(time.Minute))
		rolled(t, db, "hour", "toStartOfHour", closed)
	})
	t.Run("views", func(t *testing.T) {
		if got := one(t, db, `SELECT count(), countIf(abs(rtt_p50_us / want - 1) > 0.012), countIf(rtt_p10_us > rtt_p50_us OR rtt_p50_us > rtt_p90_us OR rtt_p99_us > rtt_max_us OR rtt_min_us > rtt_p10_us) FROM sidetone.probe_minute
 INNER JOIN (SELECT toStartOfMinute(toDateTime(observed, 'UTC')) AS start, agent_id, target_id, quantileExactLowArray(0.5)(arrayFilter(x -> x > 0, rtt_us)) AS want FROM sidetone.probe_window GROUP BY ALL) AS e USING (start, agent_id, target_id)`); got == "0\t0\t0" || got[len(got)-4:] != "\t0\t0" {
			t.Errorf("medians of minutes: %s", got)
		}
		one(t, db, "SELECT * FROM sidetone.pbx_hour")
		one(t, db, "SELECT * FROM sidetone.probe_hour")
	})
}

func TestMinutesOf(t *testing.T) {
	now := time.Now()
	at := func(d time.Duration) telemetry.UnixMS { return telemetry.MS(now.Add(d)) }
	set := &telemetry.Set{ProbeWindows: []telemetry.ProbeWindow{{Observed: at(0)}, {Observed: at(-time.Hour)}, {Observed: at(0)}, {Observed: at(-31 * 24 * time.Hour)}, {Observed: at(25 * time.Hour)}, {Observed: -5}, {Observed: 1 << 62}},
		PBXStatuses: []telemetry.PBXStatus{{Observed: at(-2 * time.Hour)}}}
	got := telemetrydb.MinutesOf(set, now)
	m := uint32(now.Unix() / 60)
	if len(got) != 3 || got[0] != m-120 || got[1] != m-60 || got[2] != m {
		t.Errorf("%v, now is %d", got, m)
	}
	if got := telemetrydb.MinutesOf(&telemetry.Set{}, now); len(got) != 0 {
		t.Errorf("minutes of nothing: %v", got)
	}
}
