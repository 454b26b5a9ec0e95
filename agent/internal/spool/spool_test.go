package spool

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"sidetone/shared/telemetry"
	"sidetone/shared/wire"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == checkMode {
		os.Exit(checkChild(os.Args[2], os.Args[3]))
	}
	if os.Getenv(memoryDir) != "" {
		memoryChild()
		return
	}
	if os.Getenv(childDir) != "" {
		child()
		return
	}
	flag.Parse()
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		checks := "4"
		if os.Getenv("SIDETONE_SOAK") != "" {
			checks = "100"
		}
		if err := f.Value.Set(checks); err != nil { // each opens Badger some ten times
			panic(err)
		}
	}
	goleak.VerifyTestMain(m,
		// Badger leaves these behind when it fails to open.
		goleak.IgnoreTopFunction("github.com/dgraph-io/ristretto/v2/z.(*AllocatorPool).freeupAllocators"),
		goleak.IgnoreTopFunction("github.com/dgraph-io/badger/v4.(*DB).monitorCache"))
}

// plenty is a disk with room.
func plenty(string) (uint64, uint64, error) { return 100 << 30, 200 << 30, nil }

func testDeps(t testing.TB) Deps {
	log := zerolog.Nop()
	if testing.Verbose() && os.Getenv("SPOOL_LOG") != "" {
		log = zerolog.New(zerolog.NewTestWriter(t))
	}
	return Deps{Log: log, FreeSpace: plenty}
}

func open(t testing.TB, cfg Config, deps Deps) *Spool {
	t.Helper()
	s, err := Open(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func closeIt(t testing.TB, s *Spool) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func add(t testing.TB, s *Spool, class wire.Class, payload string) (epoch, seq uint64) {
	t.Helper()
	epoch, seq, err := s.Append(class, []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return epoch, seq
}

func readAll(t testing.TB, s *Spool) []Record {
	t.Helper()
	var all []Record
	after := uint64(0)
	for {
		rs, err := s.Read(after, 7, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(rs) == 0 {
			return all
		}
		for _, r := range rs {
			if r.Seq <= after {
				t.Fatalf("record %d after %d: not ascending", r.Seq, after)
			}
			after = r.Seq
		}
		all = append(all, rs...)
	}
}

func seqs(rs []Record) string {
	var out []string
	for _, r := range rs {
		out = append(out, fmt.Sprint(r.Seq))
	}
	return strings.Join(out, " ")
}

func gapText(gs []telemetry.Gap) string {
	var out []string
	for _, g := range gs {
		out = append(out, fmt.Sprintf("%d-%d %s", g.From, g.To, g.Reason))
	}
	return strings.Join(out, ", ")
}

func TestAppendReadAckOverReopen(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	s := open(t, cfg, testDeps(t))
	epoch, _ := add(t, s, wire.ClassSample, "one")
	add(t, s, wire.ClassState, "two")
	add(t, s, wire.ClassSample, "three")
	select {
	case <-s.Appended():
	default:
		t.Error("no signal after appends")
	}
	if err := s.Ack(epoch, []wire.Range{{From: 2, To: 2}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Ack(epoch+1, []wire.Range{{From: 0, To: math.MaxUint64}}); err != nil {
		t.Fatal(err)
	}
	closeIt(t, s)

	s = open(t, cfg, testDeps(t))
	rs := readAll(t, s)
	if got := seqs(rs); got != "1 3" {
		t.Fatalf("after reopen: records %s, want 1 3", got)
	}
	if string(rs[1].Payload) != "three" || rs[1].Class != wire.ClassSample || rs[1].CRC != checksum([]byte("three")) || rs[1].Epoch != epoch {
		t.Errorf("record came back as %+v", rs[1])
	}
	if e, q := add(t, s, wire.ClassSample, "four"); e != epoch || q != 4 {
		t.Errorf("next record is %d/%d, want %d/4", e, q, epoch)
	}
	if err := s.Ack(epoch, []wire.Range{{From: 0, To: math.MaxUint64}}); err != nil {
		t.Fatal(err)
	}
	closeIt(t, s)

	s = open(t, cfg, testDeps(t))
	st := s.Status()
	if st.Records != 0 || st.Bytes != 0 || st.NextSeq != 5 || st.FirstSeq != 5 || st.Epoch != epoch {
		t.Errorf("emptied spool: %+v", st)
	}
	if gs := s.TakeGaps(10); len(gs) != 0 {
		t.Errorf("gaps of nothing: %v", gs)
	}
}

func TestReadLimits(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()}, testDeps(t))
	for range 5 {
		add(t, s, wire.ClassSample, strings.Repeat("x", 1000))
	}
	for _, c := range []struct {
		name    string
		after   uint64
		records int
		bytes   int
		want    string
	}{
		{"by number", 0, 2, 1 << 20, "1 2"},
		{"by bytes", 1, 9, 2000, "2 3"},
		{"at least one", 3, 9, 10, "4"},
		{"from the end", 5, 9, 1 << 20, ""},
		{"beyond the last number", math.MaxUint64, 9, 1 << 20, ""},
		{"none wanted", 0, 0, 1 << 20, ""},
	} {
		rs, err := s.Read(c.after, c.records, c.bytes)
		if err != nil || seqs(rs) != c.want {
			t.Errorf("%s: %q %v, want %q", c.name, seqs(rs), err, c.want)
		}
	}
}

func TestReadRange(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()}, testDeps(t))
	for q := 1; q <= 20; q++ {
		class := wire.ClassSample
		if q%5 == 0 {
			class = wire.ClassState
		}
		add(t, s, class, strings.Repeat("p", 100))
	}
	epoch := s.Status().Epoch
	if err := s.Ack(epoch, []wire.Range{{From: 1, To: 3}, {From: 7, To: 8}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name                string
		from, to            uint64
		class               wire.Class
		maxRecords, maxByte int
		want                string
	}{
		{"ends included", 5, 9, 0, 100, 1 << 20, "5 6 9"},
		{"one", 6, 6, 0, 100, 1 << 20, "6"},
		{"gone", 7, 8, 0, 100, 1 << 20, ""},
		{"nothing above", 21, math.MaxUint64, 0, 100, 1 << 20, ""},
		{"upside down", 9, 5, 0, 100, 1 << 20, ""},
		{"only states", 0, math.MaxUint64, wire.ClassState, 100, 1 << 20, "5 10 15 20"},
		{"only samples, by number", 4, 20, wire.ClassSample, 3, 1 << 20, "4 6 9"},
		{"by bytes", 0, 20, 0, 100, 250, "4 5"},
		{"one is always given", 0, 20, wire.ClassState, 100, 1, "5"},
	} {
		rs, err := s.ReadRange(c.from, c.to, c.class, c.maxRecords, c.maxByte)
		if err != nil || seqs(rs) != c.want {
			t.Errorf("%s: %q, want %q (%v)", c.name, seqs(rs), c.want, err)
		}
	}
	if st := s.Status(); st.LowestSeq != 4 || st.EpochFirst != 1 || st.NextSeq != 21 {
		t.Errorf("status %+v", st)
	}
	if err := s.Ack(epoch, []wire.Range{{From: 1, To: 30}}); err != nil {
		t.Fatal(err)
	}
	if st := s.Status(); st.LowestSeq != 21 || st.EpochFirst != 1 {
		t.Errorf("status of an empty spool %+v", st)
	}
}

func TestAppendBatch(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	s := open(t, cfg, testDeps(t))
	add(t, s, wire.ClassSample, "first")
	var batch [][]byte
	for i := range 700 {
		batch = append(batch, []byte(strings.Repeat(fmt.Sprint(i%10), 1+i*3)))
	}
	epoch, first, err := s.AppendBatch(wire.ClassState, batch)
	if err != nil || first != 2 {
		t.Fatal(first, err)
	}
	if _, _, err := s.AppendBatch(wire.ClassState, [][]byte{[]byte("good"), nil}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a batch with nothing in it: %v", err)
	}
	cfg.Dir = copyDir(t, cfg.Dir)
	s = open(t, cfg, testDeps(t))
	rs := readAll(t, s)
	if len(rs) != 701 {
		t.Fatalf("%d records", len(rs))
	}
	for i, r := range rs[1:] {
		if r.Epoch != epoch || r.Seq != first+uint64(i) || !bytes.Equal(r.Payload, batch[i]) || r.Class != wire.ClassState {
			t.Fatalf("record %d is not what was appended", r.Seq)
		}
	}
}

func TestPayloadLimits(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()}, testDeps(t))
	for _, n := range []int{0, MaxPayload + 1} {
		if _, _, err := s.Append(wire.ClassSample, make([]byte, n)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	big := bytes.Repeat([]byte("b"), MaxPayload)
	if _, _, err := s.Append(wire.ClassSample, big); err != nil {
		t.Fatal(err)
	}
	if s.Status().Degraded {
		t.Fatal("the largest payload does not fit on disk")
	}
	if rs := readAll(t, s); len(rs) != 1 || !bytes.Equal(rs[0].Payload, big) {
		t.Error("the largest payload came back different")
	}
}

func TestSecondOpenIsRefused(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	s := open(t, cfg, testDeps(t))
	if _, err := Open(cfg, testDeps(t)); !errors.Is(err, ErrLocked) {
		t.Errorf("second open: %v", err)
	}
	if _, err := Verify(cfg.Dir, zerolog.Nop()); !errors.Is(err, ErrLocked) {
		t.Errorf("verify of an open spool: %v", err)
	}
	add(t, s, wire.ClassSample, "still fine")
	closeIt(t, s)
	if _, _, err := s.Append(wire.ClassSample, []byte("x")); !errors.Is(err, ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
}

func TestEvictionKeepsStatesLongest(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), MaxBytes: 1 << 20}
	s := open(t, cfg, testDeps(t))
	body := strings.Repeat("z", 10<<10)
	for i := 1; i <= 300; i++ {
		class := wire.ClassSample
		if i%50 == 0 {
			class = wire.ClassState
		}
		add(t, s, class, body)
		if b := s.Status().Bytes; b > cfg.MaxBytes {
			t.Fatalf("%d bytes after record %d, cap %d", b, i, cfg.MaxBytes)
		}
	}
	live := map[uint64]bool{}
	for _, r := range readAll(t, s) {
		live[r.Seq] = true
	}
	for i := uint64(50); i <= 300; i += 50 {
		if !live[i] {
			t.Errorf("state record %d was evicted before samples", i)
		}
	}
	gaps := s.TakeGaps(100)
	var lost uint64
	for _, g := range gaps {
		if g.Reason != telemetry.GapEvicted {
			t.Errorf("gap %+v", g)
		}
		for q := g.From; q <= g.To; q++ {
			if live[q] {
				t.Errorf("record %d is both live and in a gap", q)
			}
			lost++
		}
	}
	if lost+uint64(len(live)) != 300 || s.Status().DroppedTotal != lost {
		t.Errorf("%d live and %d in gaps of 300, %d counted", len(live), lost, s.Status().DroppedTotal)
	}
	if len(gaps) > 6 {
		t.Errorf("%d gaps for evictions between 6 states: %s", len(gaps), gapText(gaps))
	}
	// States give way too when there is nothing else.
	for range 200 {
		add(t, s, wire.ClassState, body)
	}
	if b := s.Status().Bytes; b > cfg.MaxBytes {
		t.Errorf("%d bytes of states, cap %d", b, cfg.MaxBytes)
	}
}

func TestEvictionByNumberAndAge(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	deps := testDeps(t)
	deps.Now = func() time.Time { return now }
	s := open(t, Config{Dir: t.TempDir(), MaxRecords: 20, MaxAge: time.Hour}, deps)
	for range 25 {
		add(t, s, wire.ClassSample, "x")
		now = now.Add(time.Minute)
	}
	if n := s.Status().Records; n > 20 {
		t.Fatalf("%d records, at most 20", n)
	}
	now = now.Add(40 * time.Minute)
	s.upkeep()
	rs := readAll(t, s)
	if len(rs) == 0 || len(rs) > 20 || now.Sub(rs[0].Created) > time.Hour {
		t.Errorf("%d records, the oldest of %s at %s", len(rs), rs[0].Created, now)
	}
	now = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	_, seq := add(t, s, wire.ClassSample, "made before the clock was set")
	now = time.Date(2026, 3, 1, 1, 30, 0, 0, time.UTC)
	s.upkeep()
	if rs := readAll(t, s); rs[len(rs)-1].Seq != seq {
		t.Error("a record with the time of a wrong clock was dropped for its age")
	}
}

func TestDegradedAndBack(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	free := uint64(10 << 30)
	deps := testDeps(t)
	deps.Now = func() time.Time { return now }
	deps.FreeSpace = func(string) (uint64, uint64, error) { return free, 20 << 30, nil }
	var events []string
	deps.Event = func(e Event) { events = append(events, e.From+">"+e.To) }
	cfg := Config{Dir: t.TempDir(), MaxMemoryBytes: 64 << 10}
	s := open(t, cfg, deps)
	epoch, _ := add(t, s, wire.ClassSample, "on disk")

	free = 200 << 20 // below 256 MB
	body := strings.Repeat("m", 8<<10)
	for i := range 12 {
		class := wire.ClassSample
		if i == 0 {
			class = wire.ClassState
		}
		add(t, s, class, body)
	}
	st := s.Status()
	if !st.Degraded || st.MemoryRecords == 0 || st.MemoryRecords > 8 {
		t.Fatalf("no degraded mode within its bound: %+v", st)
	}
	if got := seqs(readAll(t, s)); !strings.HasPrefix(got, "1 2 ") || !strings.HasSuffix(got, " 13") {
		t.Errorf("records from disk and memory: %s", got)
	}
	// Deletions are small and free space: they still happen.
	if err := s.Ack(epoch, []wire.Range{{From: 1, To: 1}}); err != nil {
		t.Fatal(err)
	}

	free, now = 10<<30, now.Add(time.Minute)
	s.upkeep()
	st = s.Status()
	if st.Degraded || st.MemoryRecords != 0 {
		t.Fatalf("not back on disk: %+v", st)
	}
	before := seqs(readAll(t, s))
	closeIt(t, s)
	s = open(t, cfg, deps)
	if after := seqs(readAll(t, s)); after != before {
		t.Errorf("records %s after the reopen, %s before", after, before)
	}
	if gs := s.TakeGaps(10); len(gs) != 1 || gs[0].From != 3 || gs[0].Reason != telemetry.GapEvicted {
		t.Errorf("gaps of the overflow: %s", gapText(gs))
	}
	if got := strings.Join(events, " "); got != "spool_ok>spool_degraded spool_degraded>spool_ok" {
		t.Errorf("events: %s", got)
	}
	if st := s.Status(); st.Epoch != epoch {
		t.Error("the epoch changed though nothing was lost")
	}
}

func TestCrashWhileDegraded(t *testing.T) {
	free := uint64(10 << 30)
	deps := testDeps(t)
	deps.FreeSpace = func(string) (uint64, uint64, error) { return free, 20 << 30, nil }
	cfg := Config{Dir: t.TempDir()}
	s := open(t, cfg, deps)
	epoch, _ := add(t, s, wire.ClassSample, "on disk")
	free = 200 << 20
	add(t, s, wire.ClassSample, "memory only")
	add(t, s, wire.ClassSample, "memory only")

	free = 10 << 30
	cfg.Dir = copyDir(t, cfg.Dir)
	s = open(t, cfg, deps)
	if got := seqs(readAll(t, s)); got != "1" {
		t.Errorf("records %s, want 1", got)
	}
	if gs := s.TakeGaps(9); gapText(gs) != "2-3 evicted" || gs[0].Epoch != epoch {
		t.Errorf("gaps %s", gapText(gs))
	}
	if e, q := add(t, s, wire.ClassSample, "next"); e == epoch || q <= 3 {
		t.Errorf("number %d/%d was perhaps given before", e, q)
	}
}

// TestDatabaseCloses: a database that could not be opened again after a compaction is
// opened later, and nothing is counted as lost meanwhile.
func TestDatabaseCloses(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	free := uint64(10 << 30)
	deps := testDeps(t)
	deps.Now = func() time.Time { return now }
	deps.FreeSpace = func(string) (uint64, uint64, error) { return free, 20 << 30, nil }
	s := open(t, Config{Dir: t.TempDir()}, deps)
	for range 5 {
		add(t, s, wire.ClassSample, "on disk")
	}
	free = 200 << 20
	add(t, s, wire.ClassSample, "in memory")
	s.mu.Lock()
	err := s.db.close()
	s.db = nil
	s.loseDB()
	s.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	add(t, s, wire.ClassSample, "in memory")
	if got := seqs(readAll(t, s)); got != "6 7" {
		t.Errorf("without the database: %s", got)
	}
	free = 10 << 30
	now = now.Add(2 * retryOpen)
	s.upkeep()
	if got := seqs(readAll(t, s)); got != "1 2 3 4 5 6 7" || s.Status().Degraded {
		t.Errorf("with it again: %s, %+v", got, s.Status())
	}
	if gs := s.TakeGaps(9); len(gs) != 0 {
		t.Errorf("gaps though nothing was lost: %s", gapText(gs))
	}
}

func TestStartOnFullDisk(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	free := uint64(10 << 30)
	deps := testDeps(t)
	deps.Now = func() time.Time { return now }
	deps.FreeSpace = func(string) (uint64, uint64, error) { return free, 20 << 30, nil }
	cfg := Config{Dir: t.TempDir()}
	s := open(t, cfg, deps)
	old, _ := add(t, s, wire.ClassSample, "old")
	closeIt(t, s)

	free = 1 << 20
	s = open(t, cfg, deps)
	if !s.Status().Degraded {
		t.Fatal("the database was opened on a full disk")
	}
	fresh, seq := add(t, s, wire.ClassSample, "fresh")
	if fresh == old || seq < 2 {
		t.Errorf("record %d/%d", fresh, seq)
	}
	free, now = 10<<30, now.Add(2*time.Minute)
	s.upkeep()
	rs := readAll(t, s)
	if len(rs) != 2 || rs[0].Epoch != old || string(rs[0].Payload) != "old" || rs[1].Epoch != fresh {
		t.Errorf("after space came back: %+v", rs)
	}
	if gs := s.TakeGaps(9); len(gs) != 0 {
		t.Errorf("gaps though nothing was lost: %s", gapText(gs))
	}
}

// TestFullFilesystem fills a real, small filesystem to the last byte, in which Badger
// alone dies of SIGBUS: the spool goes on in memory, deletes when there is room for that,
// and is back on disk when there is enough.
func TestFullFilesystem(t *testing.T) {
	dir := smallFilesystem(t, "192m")
	now := time.Now()
	deps := testDeps(t)
	deps.FreeSpace = nil
	deps.Now = func() time.Time { return now }
	cfg := Config{Dir: filepath.Join(dir, "spool"), MinFreeBytes: 80 << 20, BallastBytes: 1 << 20}
	s := open(t, cfg, deps)
	s.upkeep()
	if !exists(filepath.Join(cfg.Dir, ballastName)) {
		t.Error("no ballast")
	}
	body := strings.Repeat("f", 64<<10)
	n := 0
	for ; n < 5000 && !s.Status().Degraded; n++ {
		add(t, s, wire.ClassSample, body)
	}
	if n == 5000 || exists(filepath.Join(cfg.Dir, ballastName)) {
		t.Fatalf("%d records of 64 KB in 192 MB, or the ballast is still there", n)
	}
	quiet(t, s) // the space that is kept free is there for what was begun to be finished
	other := filepath.Join(dir, "other")
	fillUp(t, other)
	if free, _, err := freeSpace(dir); err != nil || free > 0 {
		t.Fatalf("%d bytes free on a full filesystem (%v)", free, err)
	}
	for range 50 {
		add(t, s, wire.ClassSample, body)
		n++
	}
	rs := readAll(t, s)
	if len(rs) != n {
		t.Fatalf("%d of %d records on a full filesystem", len(rs), n)
	}
	if err := s.Ack(rs[0].Epoch, []wire.Range{{From: 1, To: uint64(n - 60)}}); err != nil {
		t.Fatal(err)
	}
	remove(t, other)
	now = now.Add(time.Minute)
	s.upkeep()
	if st := s.Status(); st.Degraded || st.Records != 60 || st.MemoryRecords != 0 {
		t.Errorf("after space came back: %+v", st)
	}
	closeIt(t, s)
	s = open(t, cfg, deps)
	if rs := readAll(t, s); len(rs) != 60 || rs[59].Seq != uint64(n) || string(rs[59].Payload) != body {
		t.Errorf("%d records after reopening", len(rs))
	}
	// Full at the next start too.
	closeIt(t, s)
	fillUp(t, other)
	s = open(t, cfg, deps)
	if !s.Status().Degraded {
		t.Error("opened on a full disk")
	}
	add(t, s, wire.ClassSample, body)
	remove(t, other)
	now = now.Add(2 * retryOpen)
	s.upkeep()
	if st := s.Status(); st.Degraded || st.Records != 61 {
		t.Errorf("after the second time: %+v", st)
	}
	if gs := s.TakeGaps(9); len(gs) != 0 {
		t.Errorf("gaps though nothing was lost: %s", gapText(gs))
	}
}

// quiet waits until Badger has written what it was going to write.
func quiet(t *testing.T, s *Spool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-tick.C {
		busy := len(dbFiles(t, s.cfg.Dir, "*.mem")) > 1
		for _, l := range s.db.db.Levels() {
			busy = busy || l.Score >= 1 && l.NumTables > 0
		}
		if !busy {
			return
		}
	}
	t.Fatal("badger does not come to rest")
}

// smallFilesystem mounts one of this size, or skips the test.
func smallFilesystem(t *testing.T, size string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a small filesystem needs root")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("mounting a small filesystem is not allowed here: %s", out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Logf("umount: %s", out)
		}
	})
	return dir
}

// fillUp writes until nothing goes any more.
func fillUp(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	_ = f.Close() // it is full
}

func TestGapsAreToldAtLeastOnce(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	s := open(t, cfg, testDeps(t))
	epoch, bad := add(t, s, wire.ClassSample, "bad")
	if err := s.Drop(epoch, bad, "schema 9 \x00 is not known"); err != nil {
		t.Fatal(err)
	}
	reopen := func() {
		closeIt(t, s)
		s = open(t, cfg, testDeps(t))
	}
	take := func(want string) []telemetry.Gap {
		t.Helper()
		gs := s.TakeGaps(10)
		if gapText(gs) != want {
			t.Fatalf("gaps %q, want %q", gapText(gs), want)
		}
		return gs
	}
	take("1-1 rejected")
	take("") // taken
	reopen() // whoever took it is gone
	gs := take("1-1 rejected")
	s.ReturnGaps(gs)
	gs = take("1-1 rejected")
	_, carrier := add(t, s, wire.ClassState, "tells the gap")
	s.CarryGaps(carrier, gs)
	reopen()
	take("") // still carried
	if err := s.Drop(epoch, carrier, "rejected too"); err != nil {
		t.Fatal(err)
	}
	gs = take("1-1 rejected, 2-2 rejected")
	_, carrier = add(t, s, wire.ClassState, "tells both")
	s.CarryGaps(carrier, gs)
	if err := s.Ack(epoch, []wire.Range{{From: carrier, To: carrier}}); err != nil {
		t.Fatal(err)
	}
	take("")
	reopen()
	take("")
	if n := s.Status().Gaps; n != 0 {
		t.Errorf("%d gaps left after the ack", n)
	}
	if list := matches(filepath.Join(cfg.Dir, "aside"), "*.record"); len(list) != 2 {
		t.Errorf("%d records set aside, want 2", len(list))
	}
}

func TestGapThatIsRejectedForEver(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()}, testDeps(t))
	epoch, seq := add(t, s, wire.ClassSample, "bad")
	if err := s.Drop(epoch, seq, "no"); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		gs := s.TakeGaps(100)
		if len(gs) > maxGapTries+1 {
			t.Fatalf("round %d: %d gaps", i, len(gs))
		}
		_, carrier := add(t, s, wire.ClassState, "tells")
		s.CarryGaps(carrier, gs)
		if err := s.Drop(epoch, carrier, "no"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStatusFileAndVerify(t *testing.T) {
	cfg := Config{Dir: filepath.Join(t.TempDir(), "spool")}
	if _, err := ReadStatus(cfg.Dir); !errors.Is(err, ErrNoSpool) {
		t.Errorf("status of nothing: %v", err)
	}
	if _, err := Verify(cfg.Dir, zerolog.Nop()); !errors.Is(err, ErrNoSpool) {
		t.Errorf("verify of nothing: %v", err)
	}
	s := open(t, cfg, testDeps(t))
	for range 3 {
		add(t, s, wire.ClassSample, "abc")
	}
	s.upkeep()
	r, err := ReadStatus(cfg.Dir)
	if err != nil || !r.Running || r.Records != 3 || r.PID != os.Getpid() || r.Written.IsZero() {
		t.Errorf("status while running: %+v %v", r, err)
	}
	add(t, s, wire.ClassSample, "abc")
	cfg.Dir = copyDir(t, cfg.Dir) // killed before the next status file
	r, err = ReadStatus(cfg.Dir)
	if err != nil || r.Running || r.Records != 4 || r.NextSeq != 5 {
		t.Errorf("status after a kill: %+v %v", r, err)
	}
	c, err := Verify(cfg.Dir, zerolog.Nop())
	if err != nil || !c.OK() || c.Records != 4 || c.Bytes != 12 {
		t.Errorf("verify after a kill: %+v %v", c, err)
	}
	again, err := Verify(cfg.Dir, zerolog.Nop())
	if err != nil || !again.OK() {
		t.Errorf("second verify: %+v %v", again, err)
	}
}

// scratch is where the tests work that end a spool by copying it: in memory where there
// is a place for that, as no flush of theirs needs a disk.
func scratch() string {
	const shm = "/dev/shm"
	if free, _, err := freeSpace(shm); err == nil && free > 256<<20 && exists(shm) {
		return shm
	}
	return ""
}

// copyDir is what a crash leaves: the files as they are while the spool is open. A copy
// takes time, which a crash does not: it is made again when Badger changed its list of
// files meanwhile. Holes stay holes, which most of Badger's files are.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	to, err := os.MkdirTemp(scratch(), "spool-copy")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(to) })
	for range 100 {
		before := fileList(t, from)
		if err := copyOnce(from, to); err == nil && slices.Equal(before, fileList(t, from)) {
			return to
		}
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("%s does not hold still", from)
	return ""
}

func fileList(t testing.TB, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		list = append(list, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func copyOnce(from, to string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, rel), bytes.TrimRight(b, "\x00"), 0o600); err != nil {
			return err
		}
		return os.Truncate(filepath.Join(to, rel), int64(len(b)))
	})
}

func BenchmarkReadAck(b *testing.B) {
	s := open(b, Config{Dir: b.TempDir()}, testDeps(b))
	payload := bytes.Repeat([]byte("p"), 4<<10)
	b.ReportAllocs()
	for b.Loop() {
		epoch, seq, err := s.Append(wire.ClassSample, payload)
		if err != nil {
			b.Fatal(err)
		}
		if rs, err := s.Read(seq-1, 1, 1<<20); err != nil || len(rs) != 1 {
			b.Fatal(len(rs), err)
		}
		if err := s.Ack(epoch, []wire.Range{{From: seq, To: seq}}); err != nil {
			b.Fatal(err)
		}
	}
}
