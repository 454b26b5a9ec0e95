package batch

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sidetone/collector/internal/chengine/enginetest"
	"sidetone/collector/internal/ingest"
	"sidetone/collector/internal/telemetrydb"
	"sidetone/shared/telemetry"
)

// openDB gives a migrated database on an engine of its own.
func openDB(t testing.TB) (*telemetrydb.DB, func()) {
	t.Helper()
	sup, _ := enginetest.Start(t, t.TempDir())
	db, err := telemetrydb.Open(context.Background(), telemetrydb.Config{Socket: sup.Socket()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Migrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return db, func() { enginetest.Kill(t, sup) }
}

func sql(t testing.TB, db *telemetrydb.DB, statement string) string {
	t.Helper()
	r, err := db.Query(context.Background(), statement)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	defer r.Close()
	var b bytes.Buffer
	if err := telemetrydb.WriteResult(&b, "TSV", r); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return strings.TrimSpace(b.String())
}

// TestKillEngine kills the engine while an agent sends, several times. Each record
// that was acknowledged must be there once; each that was not is sent again until it is.
func TestKillEngine(t *testing.T) {
	db, kill := openDB(t)
	b := New(Config{MaxWait: 20 * time.Millisecond, RetryMin: 20 * time.Millisecond, RetryMax: 200 * time.Millisecond}, quiet(db))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { b.Run(ctx) })
	defer wg.Wait()
	defer cancel()

	const records, perRecord, kills = 400, 5, 3
	acked := make(chan uint64, records)
	send := func(seq uint64) {
		set := &telemetry.Set{LinkEvents: []telemetry.LinkEvent{{Observed: telemetry.MS(time.Now()), Event: "up"}}}
		for i := range perRecord {
			set.ProbeWindows = append(set.ProbeWindows, telemetry.ProbeWindow{Target: telemetry.ItemID(i + 1), Observed: telemetry.MS(time.Now()), Sent: 2, Received: 2, RTTUS: []uint32{1, 2}})
		}
		ok := b.Offer(&ingest.Delivery{Source: telemetry.Source{Tenant: 1, Site: 1, Agent: 1}, Epoch: 1, Seq: seq, ReceivedAt: time.Now(), Rows: set, Done: func(err error) {
			if err != nil {
				t.Errorf("seq %d: %v", seq, err)
			}
			acked <- seq
		}})
		if !ok {
			t.Fatalf("seq %d found no room", seq)
		}
	}
	got := map[uint64]bool{}
	deadline := time.After(3 * time.Minute)
	wait := func(n int) {
		for len(got) < n {
			select {
			case seq := <-acked:
				if got[seq] {
					t.Fatalf("seq %d answered twice", seq)
				}
				got[seq] = true
			case <-deadline:
				t.Fatalf("%d of %d acknowledged: %+v", len(got), n, b.Stats())
			}
		}
	}
	next := uint64(0)
	for range kills {
		for range records / (kills + 1) {
			send(next)
			next++
		}
		wait(int(next) - records/(kills+1) + 1) // the batch is on its way or in
		kill()
	}
	for ; next < records; next++ {
		send(next)
	}
	wait(records)
	want := fmt.Sprintf("%d\t%d", records*perRecord, records)
	if got := sql(t, db, "SELECT count(), uniqExact(seq) FROM sidetone.probe_window"); got != want {
		t.Errorf("windows: %q, want %q", got, want)
	}
	if got := sql(t, db, "SELECT count(), uniqExact(seq) FROM sidetone.link_event"); got != fmt.Sprintf("%d\t%d", records, records) {
		t.Errorf("events: %q", got)
	}
	if got := sql(t, db, "SELECT count(), uniqExact(seq), sum(rows), countIf(dead_letter) FROM sidetone.frame"); got != fmt.Sprintf("%d\t%d\t%d\t0", records, records, records*(perRecord+1)) {
		t.Errorf("frame ledger: %q", got)
	}
	// under the same token nothing was stored twice, not even in the raw table
	if got := sql(t, db, "SELECT count() - uniqExact(agent_id, epoch, seq, idx) FROM sidetone.probe_window_raw"); got != "0" {
		t.Errorf("%s rows are in the raw table twice", got)
	}
	if b.Stats().Retries == 0 {
		t.Error("no insert was ever tried again: the kills came at the wrong time")
	}
}

// TestPoisonInTheEngine has a table refuse a value by a constraint.
func TestPoisonInTheEngine(t *testing.T) {
	db, _ := openDB(t)
	if err := db.Exec(t.Context(), "ALTER TABLE sidetone.gap_raw ADD CONSTRAINT known CHECK reason != 'poison'"); err != nil {
		t.Fatal(err)
	}
	b := New(Config{}, quiet(db))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	l := newLedger()
	for i := range uint64(20) {
		reason := telemetry.GapEvicted
		if i == 13 {
			reason = "poison"
		}
		b.Offer(l.delivery(i, &telemetry.Set{
			Gaps:       []telemetry.Gap{{Observed: telemetry.MS(time.Now()), From: i, To: i, Reason: reason}},
			LinkEvents: []telemetry.LinkEvent{{Observed: telemetry.MS(time.Now()), Event: "up"}},
		}))
	}
	cancel() // flushes
	go func() { defer close(done); b.Run(ctx) }()
	<-done
	if acked, _, _ := l.count(); acked != 20 {
		t.Fatalf("%d acked: %+v", acked, b.Stats())
	}
	if got := sql(t, db, "SELECT count(), countIf(seq = 13) FROM sidetone.gap"); got != "19\t0" {
		t.Errorf("gaps %q", got)
	}
	if got := sql(t, db, "SELECT count() FROM sidetone.link_event"); got != "20" {
		t.Errorf("events %q", got)
	}
	if got := sql(t, db, "SELECT count(), sumIf(seq, dead_letter) FROM sidetone.frame"); got != "20\t13" {
		t.Errorf("frame ledger %q", got)
	}
	if got := sql(t, db, "SELECT agent_id, epoch, seq, rows, reason LIKE '%CONSTRAINT%' OR reason LIKE '%onstraint%', content LIKE '%poison%' FROM sidetone.dead_letter"); got != "3\t9\t13\t2\t1\t1" {
		t.Errorf("dead letter %q", got)
	}
}

// BenchmarkStore measures whole batches: building the blocks and storing them in the
// embedded engine.
func BenchmarkStore(b *testing.B) {
	db, _ := openDB(b)
	timed := &timedStore{DB: db}
	bt := New(Config{MaxRows: 100_000}, quiet(timed))
	const perSet, sets = 100, 1000
	seq := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		var batch []held
		for range sets {
			seq++
			set := &telemetry.Set{}
			for i := range perSet {
				set.ProbeWindows = append(set.ProbeWindows, window(i, seq))
			}
			batch = append(batch, held{&ingest.Delivery{Source: telemetry.Source{Tenant: 1, Site: 1, Agent: telemetry.AgentID(seq % 50)}, Epoch: 1, Seq: seq, ReceivedAt: time.Now(), Rows: set, Done: func(error) {}}, perSet, 1})
		}
		bt.store(context.Background(), batch)
	}
	b.ReportMetric(float64(b.N*perSet*sets)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(100*timed.ledger.Seconds()/b.Elapsed().Seconds(), "%ledger")
}

// timedStore measures what the frame ledger costs.
type timedStore struct {
	*telemetrydb.DB
	ledger time.Duration
}

func (s *timedStore) InsertBlock(ctx context.Context, b *telemetrydb.Block, token string) error {
	start := time.Now()
	err := s.DB.InsertBlock(ctx, b, token)
	if b.Table == telemetrydb.FrameTable {
		s.ledger += time.Since(start)
	}
	return err
}

func window(i int, seq uint64) telemetry.ProbeWindow {
	w := telemetry.ProbeWindow{Target: telemetry.ItemID(i + 1), Observed: telemetry.MS(time.Now()), LengthMS: 10000, Sent: 10, Received: 10, RTTUS: make([]uint32, 10),
		RTTMinUS: 1000, RTTP10US: 1000, RTTP50US: 1100, RTTP90US: 1200, RTTP99US: 1300, RTTMaxUS: 1300, RTTMeanUS: 1100, JitterUS: 20}
	for j := range w.RTTUS {
		w.RTTUS[j] = 1000 + uint32(seq*uint64(j)%300)
	}
	return w
}
