package spool

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sidetone/shared/telemetry"
	"sidetone/shared/wire"
)

// TestModel drives the spool by random actions against a simple model. What must hold
// after each: a record that was appended and not acked is readable byte for byte or in
// a gap; nothing is invented; no number is given twice.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newModel(t)
		defer m.close()
		rt.Repeat(map[string]func(*rapid.T){
			"append": m.append, "ack": m.ack, "drop": m.drop, "gaps": m.gaps,
			"reopen": m.reopen, "crash": m.crash, "damage": m.damage,
			"power": m.power, "torn": m.torn, "space": m.space, "age": m.age, "encrypt": m.encrypt,
			"": func(rt *rapid.T) { m.check(rt) },
		})
	})
}

type recordID struct{ epoch, seq uint64 }

type model struct {
	t     testing.TB
	cfg   Config
	s     *Spool
	given map[recordID]string
	// acked records may come back after a crash; gone ones are in a gap that was told.
	acked, gone map[recordID]bool
	carried     map[recordID][]telemetry.Gap
	// maybe were being appended when the power went: told to nobody, so they may be there,
	// and their numbers may be given again.
	maybe   map[recordID]string
	damaged bool
	keys    string // directory of the key file
	now     time.Time
	free    uint64
	boots   int
	flushed []byte // the sentinel as it is durable
}

func newModel(t testing.TB) *model {
	dir, err := os.MkdirTemp(scratch(), "spool-model")
	if err != nil {
		t.Fatal(err)
	}
	m := &model{t: t, cfg: Config{Dir: dir, MaxRecords: 80, NoBallast: true}, now: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), free: 100 << 30,
		maybe: map[recordID]string{}, keys: t.TempDir(), given: map[recordID]string{}, acked: map[recordID]bool{},
		gone: map[recordID]bool{}, carried: map[recordID][]telemetry.Gap{}}
	m.open()
	return m
}

func (m *model) open() {
	deps := testDeps(m.t)
	deps.Now = func() time.Time { return m.now }
	deps.FreeSpace = func(string) (uint64, uint64, error) { return m.free, 200 << 30, nil }
	deps.boot = fmt.Sprint("boot ", m.boots)
	s, err := Open(m.cfg, deps)
	if err != nil {
		m.t.Fatal(err)
	}
	m.s = s
}

// sentinel reads the file as it is.
func (m *model) sentinel() []byte {
	b, err := os.ReadFile(filepath.Join(m.cfg.Dir, sentinelName))
	if err != nil {
		m.t.Fatal(err)
	}
	return b
}

func (m *model) close() {
	_ = m.s.Close()
	_ = os.RemoveAll(m.cfg.Dir)
}

func (m *model) append(rt *rapid.T) {
	m.give(rt, m.given)
}

// give appends, one by one or as a batch, and notes the numbers in a book.
func (m *model) give(rt *rapid.T, book map[recordID]string) {
	class := wire.Class(rapid.IntRange(1, 2).Draw(rt, "class"))
	var batch [][]byte
	for range rapid.IntRange(1, 8).Draw(rt, "n") {
		p := strings.Repeat(rapid.StringN(1, 4, -1).Draw(rt, "payload"), rapid.IntRange(1, 300).Draw(rt, "times"))
		batch = append(batch, []byte(p))
	}
	if rapid.Bool().Draw(rt, "one by one") {
		for _, p := range batch {
			m.note(rt, book, class, [][]byte{p})
		}
		return
	}
	m.note(rt, book, class, batch)
}

func (m *model) note(rt *rapid.T, book map[recordID]string, class wire.Class, batch [][]byte) {
	e, q, err := m.s.AppendBatch(class, batch)
	if err != nil {
		rt.Fatal(err)
	}
	for i, p := range batch {
		id := recordID{e, q + uint64(i)}
		if _, twice := m.given[id]; twice {
			rt.Fatalf("number %v was given twice", id)
		}
		delete(m.maybe, id)
		book[id] = string(p)
	}
}

func (m *model) pick(rt *rapid.T) (Record, bool) {
	rs, err := m.s.Read(0, 100, 1<<20)
	if err != nil {
		rt.Fatal(err)
	}
	if len(rs) == 0 {
		return Record{}, false
	}
	return rs[rapid.IntRange(0, len(rs)-1).Draw(rt, "record")], true
}

func (m *model) ack(rt *rapid.T) {
	r, ok := m.pick(rt)
	if !ok {
		return
	}
	to := r.Seq + uint64(rapid.IntRange(0, 5).Draw(rt, "more"))
	if err := m.s.Ack(r.Epoch, []wire.Range{{From: r.Seq, To: to}}); err != nil {
		rt.Fatal(err)
	}
	for id := range m.given {
		if id.epoch == r.Epoch && id.seq >= r.Seq && id.seq <= to {
			m.acked[id] = true
			m.tell(m.carried[id])
		}
	}
}

// tell marks what a gap that reached the collector says.
func (m *model) tell(gs []telemetry.Gap) {
	for _, g := range gs {
		for q := g.From; q <= g.To; q++ {
			m.gone[recordID{g.Epoch, q}] = true
		}
	}
}

func (m *model) drop(rt *rapid.T) {
	if r, ok := m.pick(rt); ok {
		if err := m.s.Drop(r.Epoch, r.Seq, "rejected"); err != nil {
			rt.Fatal(err)
		}
		if len(m.carried[recordID{r.Epoch, r.Seq}]) > 0 {
			m.tell(m.carried[recordID{r.Epoch, r.Seq}]) // may have been the last try
		}
	}
}

func (m *model) gaps(rt *rapid.T) {
	gs := m.s.TakeGaps(rapid.IntRange(1, 5).Draw(rt, "limit"))
	if len(gs) == 0 {
		return
	}
	if rapid.Bool().Draw(rt, "return") {
		m.s.ReturnGaps(gs)
		return
	}
	e, q, err := m.s.Append(wire.ClassState, []byte("gaps"))
	if err != nil {
		rt.Fatal(err)
	}
	m.given[recordID{e, q}] = "gaps"
	delete(m.maybe, recordID{e, q})
	m.s.CarryGaps(q, gs)
	m.carried[recordID{e, q}] = gs
}

func (m *model) reopen(rt *rapid.T) {
	if err := m.s.Close(); err != nil {
		rt.Fatal(err)
	}
	m.open()
}

func (m *model) crash(rt *rapid.T) {
	m.goOnIn(copyDir(m.t, m.cfg.Dir))
}

// goOnIn is a process that opens what another one left.
func (m *model) goOnIn(dir string) {
	m.close()
	m.cfg.Dir = dir
	m.open()
}

// power goes: what was not flushed is gone.
func (m *model) power(rt *rapid.T) {
	dir := copyDir(m.t, m.cfg.Dir)
	m.write(filepath.Join(dir, sentinelName), m.flushed)
	m.boots++
	m.goOnIn(dir)
}

func (m *model) write(path string, b []byte) {
	if err := os.WriteFile(path, b, 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// torn is the power going during an append or an ack: of what was being written, some
// pages are on the disk. An append writes the database, then the sentinel; an ack the
// other way round; the second is not begun before the first is flushed.
func (m *model) torn(rt *rapid.T) {
	if m.s.Status().Degraded {
		return
	}
	before := copyDir(m.t, m.cfg.Dir)
	first, second := dbName, sentinelName
	if rapid.Bool().Draw(rt, "ack") {
		first, second = second, first
		m.ack(rt)
	} else {
		if rapid.Bool().Draw(rt, "not flushed") {
			m.write(filepath.Join(before, sentinelName), m.flushed)
		}
		m.give(rt, m.maybe)
	}
	after := copyDir(m.t, m.cfg.Dir)
	begun := first
	if rapid.Bool().Draw(rt, "second begun") {
		begun = second
	} else {
		m.mix(rt, before, after, second, 0)
	}
	m.mix(rt, before, after, begun, rapid.IntRange(1, 9).Draw(rt, "tenths"))
	m.boots++
	m.goOnIn(after)
}

// mix leaves that many tenths of the pages of after, and puts those of before in the
// place of the rest.
func (m *model) mix(rt *rapid.T, before, after, name string, tenths int) {
	rnd := rand.New(rand.NewPCG(uint64(rapid.IntRange(0, 1<<20).Draw(rt, "pages")), 1))
	for _, path := range fileList(m.t, filepath.Join(after, name)) {
		rel, err := filepath.Rel(after, path)
		if err != nil {
			m.t.Fatal(err)
		}
		was, err := os.ReadFile(filepath.Join(before, rel))
		if err != nil { // a directory, or a file that is new
			continue
		}
		is, err := os.ReadFile(path)
		if err != nil {
			m.t.Fatal(err)
		}
		was = append(was, make([]byte, max(0, len(is)-len(was)))...)
		for at := 0; at < len(is); at += pageSize {
			if rnd.IntN(10) >= tenths {
				copy(is[at:min(at+pageSize, len(is))], was[at:])
			}
		}
		m.write(path, is)
	}
}

// space runs out, or comes back.
func (m *model) space(rt *rapid.T) {
	m.free = map[bool]uint64{true: 1 << 30, false: 100 << 30}[rapid.Bool().Draw(rt, "full")]
	m.now = m.now.Add(2 * retryOpen)
	m.s.upkeep()
}

func (m *model) age(rt *rapid.T) {
	m.now = m.now.Add(5 * 24 * time.Hour)
	m.s.upkeep()
}

func (m *model) encrypt(rt *rapid.T) {
	m.cfg.KeyFile = filepath.Join(m.keys, KeyFileName)
	m.cfg.Encrypt = !m.cfg.Encrypt
	m.reopen(rt)
}

func (m *model) damage(rt *rapid.T) {
	// What is in memory is known to the sentinel alone: both at once is one too many.
	m.free = 100 << 30
	m.now = m.now.Add(2 * retryOpen)
	m.s.upkeep()
	if rapid.Bool().Draw(rt, "crash first") {
		m.crash(rt)
	}
	if err := m.s.Close(); err != nil {
		rt.Fatal(err)
	}
	files := append(dbFiles(m.t, m.cfg.Dir, "*"), filepath.Join(m.cfg.Dir, sentinelName), filepath.Join(m.cfg.Dir, statusName))
	f := files[rapid.IntRange(0, len(files)-1).Draw(rt, "file")]
	corrupt(m.t, f, damageKind(rapid.IntRange(0, int(damageKinds)-1).Draw(rt, "kind")),
		rapid.IntRange(0, 1<<20).Draw(rt, "at"), rapid.IntRange(1, 32).Draw(rt, "bytes"))
	m.damaged = true
	m.open()
}

type damageKind int

const (
	damageFlip damageKind = iota
	damageTruncate
	damageZero
	damageKinds
)

// corrupt damages the used part of a file; at counts round it.
func corrupt(t testing.TB, path string, kind damageKind, at, n int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used := len(bytes.TrimRight(b, "\x00"))
	if used == 0 {
		return
	}
	at %= used
	switch kind {
	case damageFlip:
		flip(t, path, n, func(int) int { return at })
	case damageTruncate:
		truncate(t, path, int64(at))
	case damageZero:
		clear(b[at:min(at+64*n, len(b))])
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (m *model) check(rt *rapid.T) {
	if m.s.sentinel != nil && m.s.sentinel.lazy == 0 {
		m.flushed = m.sentinel()
	}
	live := map[recordID]bool{}
	after := uint64(0)
	for {
		rs, err := m.s.Read(after, 50, 1<<20)
		if err != nil {
			rt.Fatal(err)
		}
		if len(rs) == 0 {
			break
		}
		for _, r := range rs {
			id := recordID{r.Epoch, r.Seq}
			if r.Seq <= after {
				rt.Fatalf("record %d after %d", r.Seq, after)
			}
			after = r.Seq
			p, ok := m.given[id]
			if q, unsure := m.maybe[id]; unsure && !ok {
				m.given[id], p, ok = q, q, true // it was taken after all
				delete(m.maybe, id)
			}
			if !ok || p != string(r.Payload) {
				rt.Fatalf("record %v is invented or different", id)
			}
			live[id] = true
		}
	}
	lost := map[recordID]bool{}
	m.s.mu.Lock()
	for _, g := range m.s.gaps.list {
		for q := g.From; q <= g.To; q++ {
			lost[recordID{g.Epoch, q}] = true
		}
	}
	m.s.mu.Unlock()
	for id := range m.given {
		if !live[id] && !lost[id] && !m.acked[id] && !m.gone[id] {
			rt.Fatalf("record %v is neither there nor in a gap; live %v gaps %v epochs %v next %d", id, live, lost, m.s.epochs, m.s.next)
		}
		if live[id] && lost[id] && !m.damaged {
			rt.Fatalf("record %v is there and in a gap", id)
		}
	}
	st := m.s.Status()
	if st.Records != uint64(len(live)) {
		rt.Fatalf("status says %d records, %d are there", st.Records, len(live))
	}
}
