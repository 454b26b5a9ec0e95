package uplink

import (
	"context"
	"crypto/tls"
	"errors"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"sidetone/shared/certid"
	"sidetone/shared/link"
	"sidetone/shared/link/linktest"
	"sidetone/shared/telemetry"
	"sidetone/shared/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// queue is a spool in memory.
type queue struct {
	mu       sync.Mutex
	records  map[uint64]Record
	low      uint64 // none waits below it
	next     uint64
	dropped  map[uint64]string
	appended chan struct{}
	readErr  error
}

func newQueue() *queue {
	return &queue{records: map[uint64]Record{}, low: 1, next: 1, dropped: map[uint64]string{}, appended: make(chan struct{}, 1)}
}

func (q *queue) add(n int) { q.put(n, wire.ClassSample, 20, time.Now()) }

func (q *queue) put(n int, class wire.Class, size int, created time.Time) {
	q.mu.Lock()
	for range n {
		p := []byte("\x01payload of " + time.Duration(q.next).String()) // schema 1, which every collector reads
		p = append(p, make([]byte, max(size-len(p), 0))...)
		q.records[q.next] = Record{Epoch: 1, Seq: q.next, Class: class, Created: created,
			CRC: crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)), Payload: p}
		q.next++
	}
	q.mu.Unlock()
	select {
	case q.appended <- struct{}{}:
	default:
	}
}

func (q *queue) ReadRange(from, to uint64, class wire.Class, maxRecords, maxBytes int) ([]Record, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.readErr != nil {
		err := q.readErr
		q.readErr = nil
		return nil, err
	}
	var out []Record
	bytes := 0
	for seq := max(from, q.low); seq <= to && seq < q.next; seq++ {
		r, ok := q.records[seq]
		if !ok || class != 0 && r.Class != class {
			continue
		}
		if bytes += len(r.Payload); len(out) >= maxRecords || len(out) > 0 && bytes > maxBytes {
			break
		}
		out = append(out, r)
	}
	return out, nil
}

func (q *queue) Ack(epoch uint64, ranges []wire.Range) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range ranges {
		for seq := max(r.From, q.low); seq <= r.To && seq < q.next; seq++ {
			if epoch == 1 {
				delete(q.records, seq)
			}
		}
	}
	for ; q.low < q.next; q.low++ {
		if _, ok := q.records[q.low]; ok {
			break
		}
	}
	return nil
}

func (q *queue) Drop(epoch, seq uint64, reason string) error {
	_ = q.Ack(epoch, []wire.Range{{From: seq, To: seq}})
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dropped[seq] = reason
	return nil
}

func (q *queue) Appended() <-chan struct{} { return q.appended }

func (q *queue) Status() Status {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Status{Epoch: 1, EpochFirst: 1, LowestSeq: q.low, NextSeq: q.next, Records: uint64(len(q.records))}
}

// left is the seqs that are still in the spool.
func (q *queue) left() []uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Sorted(maps.Keys(q.records))
}

// waits is how many they are.
func (q *queue) waits() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.records)
}

// identity is that of a test.
type identity struct {
	tls       *tls.Config
	mu        sync.Mutex
	due       bool
	installed chan uint64
}

func (i *identity) TLS() *tls.Config { return i.tls.Clone() }
func (i *identity) RenewalDue(time.Time) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.due
}
func (i *identity) NewCSR() ([]byte, error) { return []byte("csr"), nil }
func (i *identity) Install(chain [][]byte, generation uint64) error {
	if string(chain[0]) != "cert for csr" {
		return errors.New("not for me")
	}
	i.mu.Lock()
	i.due = false
	i.mu.Unlock()
	i.installed <- generation
	return nil
}

type bench struct {
	t       *testing.T
	ctx     context.Context
	ca      *linktest.CA
	ln      *link.Listener
	addr    string
	q       *queue
	id      *identity
	up      *Uplink
	events  chan telemetry.LinkEvent
	welcome chan string
	stop    func()
}

// newBench has a listener and an uplink that is not started.
func newBench(t *testing.T) *bench {
	t.Helper()
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	ca := linktest.NewCA(t, "root")
	b := &bench{t: t, ctx: ctx, ca: ca, ln: ca.Listen(""), q: newQueue(),
		events: make(chan telemetry.LinkEvent, 100), welcome: make(chan string, 100)}
	b.addr = b.ln.Addr().String()
	b.id = &identity{tls: ca.Agent(certid.ID{Tenant: 1, Agent: 2}, time.Now().Add(time.Hour)), installed: make(chan uint64, 9)}
	b.up = New(Config{Addr: b.addr}, Deps{
		Spool: b.q, Identity: b.id, Host: Host{Version: "1.0", Hostname: "pbx"}, Log: zerolog.Nop(),
		Events:    func(e telemetry.LinkEvent) { b.events <- e },
		LocalAddr: func() string { return "127.0.0.1" },
		OnWelcome: func(_ wire.Welcome, host string) { b.welcome <- host },
	})
	return b
}

func (b *bench) start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.up.Run(ctx) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Errorf("Run: %v", err)
		}
	})
	b.t.Cleanup(b.stop)
}

// accept takes the uplink's next connection and its hello.
func (b *bench) accept() (*collector, *wire.Hello) {
	b.t.Helper()
	conn, err := b.ln.Accept(b.ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.CloseWith(wire.CloseShutdown, "test over") })
	c := &collector{b, conn}
	return c, recv[*wire.Hello](c)
}

// greet accepts and welcomes.
func (b *bench) greet(window uint32) *collector {
	b.t.Helper()
	c, _ := b.accept()
	c.send(wire.Welcome{Capability: 1, Version: "9.9", Window: window})
	return c
}

func (b *bench) event(want string) telemetry.LinkEvent {
	b.t.Helper()
	select {
	case e := <-b.events:
		if e.Event != want {
			b.t.Fatalf("event %+v; want %s", e, want)
		}
		return e
	case <-b.ctx.Done():
		b.t.Fatalf("no event %s", want)
		return telemetry.LinkEvent{}
	}
}

// until waits for a condition that no channel tells.
func (b *bench) until(what string, f func() bool) {
	b.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-b.ctx.Done():
			b.t.Fatalf("never: %s; state %+v", what, b.up.State())
		}
	}
}

// collector is the far end of one connection.
type collector struct {
	b    *bench
	conn *link.Conn
}

func (c *collector) send(msg any) {
	c.b.t.Helper()
	if err := c.conn.Send(c.b.ctx, msg); err != nil {
		c.b.t.Fatal(err)
	}
}

func recv[T any](c *collector) T {
	c.b.t.Helper()
	msg, err := c.conn.Recv(c.b.ctx)
	if err != nil {
		c.b.t.Fatal(err)
	}
	m, ok := msg.(T)
	if !ok {
		c.b.t.Fatalf("got %#v", msg)
	}
	return m
}

// frames receives n frames and returns their seqs.
func (c *collector) frames(n int) []uint64 {
	c.b.t.Helper()
	var out []uint64
	for range n {
		f := recv[*wire.Frame](c)
		if crc32.Checksum(f.Payload, crc32.MakeTable(crc32.Castagnoli)) != f.CRC || f.Epoch != 1 {
			c.b.t.Errorf("frame %d is damaged", f.Seq)
		}
		out = append(out, f.Seq)
	}
	return out
}

func (c *collector) ack(from, to uint64) {
	c.b.t.Helper()
	c.send(wire.Ack{Epoch: 1, Ranges: []wire.Range{{From: from, To: to}}})
}

func seqs(from, to uint64) (out []uint64) {
	for s := from; s <= to; s++ {
		out = append(out, s)
	}
	return out
}

func TestDeliverAndDelete(t *testing.T) {
	b := newBench(t)
	b.q.add(50)
	b.start()
	c, hello := b.accept()
	if hello.Version != "1.0" || hello.Hostname != "pbx" || hello.Pending != 50 || hello.NextSeq != 51 || hello.Epoch != 1 || hello.NowMS == 0 ||
		hello.EpochFirst != 1 || hello.LowestSeq != 1 {
		t.Errorf("hello = %+v", hello)
	}
	c.send(wire.Welcome{Capability: 1, Version: "9.9", Window: 256})
	if got := c.frames(50); !slices.Equal(got, seqs(1, 50)) {
		t.Errorf("frames %v", got)
	}
	if e := b.event("up"); e.Transport != "quic" || e.Collector != b.addr || e.Observed == 0 {
		t.Errorf("event %+v", e)
	}
	if host := <-b.welcome; host != "127.0.0.1" {
		t.Errorf("welcomed by %q", host)
	}
	c.ack(2, 50)
	b.until("2…50 deleted", func() bool { return slices.Equal(b.q.left(), []uint64{1}) })
	c.ack(1, 1)
	b.until("all deleted", func() bool { return len(b.q.left()) == 0 })
	b.q.add(1) // new ones follow at once
	if got := c.frames(1); got[0] != 51 {
		t.Errorf("frame %v", got)
	}
	if s := b.up.State(); !s.Connected || s.Acked != 50 || s.Version != "9.9" || s.Collector != b.addr {
		t.Errorf("state %+v", s)
	}
	b.stop()
	if e := b.event("down"); e.Reason != "the agent stops" {
		t.Errorf("event %+v", e)
	}
	var closed *link.ClosedError
	if _, err := c.conn.Recv(b.ctx); !errors.As(err, &closed) || closed.Code != wire.CloseShutdown {
		t.Errorf("Recv = %v", err)
	}
}

func TestWindowIsKept(t *testing.T) {
	b := newBench(t)
	b.q.add(10) // backlog: half of the window
	b.start()
	c := b.greet(4)
	if got := c.frames(2); !slices.Equal(got, seqs(1, 2)) {
		t.Errorf("frames %v", got)
	}
	b.q.add(10) // live: what is left of it
	if got := c.frames(2); !slices.Equal(got, seqs(11, 12)) {
		t.Errorf("frames %v", got)
	}
	b.until("window full", func() bool { return b.up.State().InFlight == 4 })
	c.ack(11, 11)
	c.ack(1, 1)
	if got := c.frames(2); !slices.Equal(got, seqs(13, 14)) { // live goes first
		t.Errorf("frames %v", got)
	}
	b.until("window full again", func() bool { return b.up.State().InFlight == 4 })
}

func TestAnswersForOthersAreIgnored(t *testing.T) {
	b := newBench(t)
	b.start()
	c := b.greet(3)
	b.q.add(6)
	c.frames(3)
	c.ack(4, 1<<62) // never sent
	c.send(wire.Ack{Epoch: 2, Ranges: []wire.Range{{From: 1, To: 3}}})
	c.send(wire.Reject{Epoch: 1, Seq: 5, Reason: "x"})
	c.send(wire.Defer{Epoch: 1, Ranges: []wire.Range{{From: 6, To: 6}}})
	c.ack(1, 1)
	if got := c.frames(1); got[0] != 4 {
		t.Errorf("frame %v", got)
	}
	if left := b.q.left(); !slices.Equal(left, seqs(2, 6)) || len(b.q.dropped) != 0 {
		t.Errorf("left %v, dropped %v", left, b.q.dropped)
	}
}

func TestDeferredIsSentAgain(t *testing.T) {
	b := newBench(t)
	b.q.add(5)
	b.start()
	c := b.greet(256)
	c.frames(5)
	c.send(wire.Defer{Epoch: 1, Ranges: []wire.Range{{From: 2, To: 3}, {From: 5, To: 5}}, RetryMS: 600})
	start := time.Now()
	c.ack(1, 1)
	c.ack(4, 4)
	if got := c.frames(3); !slices.Equal(got, []uint64{2, 3, 5}) {
		t.Errorf("sent again: %v", got)
	}
	if d := time.Since(start); d < 300*time.Millisecond {
		t.Errorf("sent again after %v already", d)
	}
	c.ack(2, 5)
	b.until("all deleted", func() bool { return len(b.q.left()) == 0 })
}

func TestNewRecordsPassDeferredOnes(t *testing.T) {
	b := newBench(t)
	b.q.add(2000)
	b.start()
	c := b.greet(64)
	// The collector stores nothing. It sees a few of the backlog, not two thousand frames
	// for nothing; and each live record, for it judges what it cannot store.
	later := func(f *wire.Frame) {
		c.send(wire.Defer{Epoch: 1, Ranges: []wire.Range{{From: f.Seq, To: f.Seq}}, RetryMS: 3_600_000})
	}
	later(recv[*wire.Frame](c))
	for want := uint64(2001); want <= 2010; want++ {
		b.q.add(1)
		seen := 0
		f := recv[*wire.Frame](c)
		for ; f.Seq != want; f = recv[*wire.Frame](c) {
			later(f)
			if seen++; seen > 64 {
				t.Fatalf("%d frames were sent to be deferred", seen)
			}
		}
		later(f)
	}
	b.until("all answered", func() bool { s := b.up.State(); return s.InFlight == 0 && s.Deferred > 10 })
	if left := b.q.left(); len(left) != 2010 {
		t.Errorf("%d of 2010 records left", len(left))
	}
}

func TestRejectedIsSetAside(t *testing.T) {
	b := newBench(t)
	b.q.add(2)
	b.start()
	c := b.greet(256)
	c.frames(2)
	c.send(wire.Reject{Epoch: 1, Seq: 1, Reason: "malformed"})
	b.until("dropped", func() bool { return slices.Equal(b.q.left(), []uint64{2}) })
	b.until("counted", func() bool { return b.up.State().Rejected == 1 })
	if b.q.dropped[1] != "malformed" {
		t.Errorf("dropped %v", b.q.dropped)
	}
}

func TestRestartOfTheCollector(t *testing.T) {
	b := newBench(t)
	b.q.add(10)
	b.start()
	c := b.greet(256)
	c.frames(10)
	c.send(wire.Ack{Epoch: 1, Ranges: []wire.Range{{From: 1, To: 3}, {From: 6, To: 6}}})
	c.send(wire.Defer{Epoch: 1, Ranges: []wire.Range{{From: 8, To: 8}}, RetryMS: 3_600_000})
	b.until("acks arrived", func() bool { return len(b.q.left()) == 6 })
	b.event("up")
	_ = c.conn.CloseWith(wire.CloseShutdown, "restart")
	b.ln.Close()
	b.event("down")
	b.q.add(1)
	if e := b.event("refused"); !strings.HasPrefix(e.Reason, "no way to the collector: QUIC rejected; TCP rejected") {
		t.Errorf("event %+v", e)
	}
	b.ln = b.ca.Listen(b.addr)
	c = b.greet(256)
	if got, want := c.frames(7), []uint64{11, 4, 5, 7, 8, 9, 10}; !slices.Equal(got, want) {
		t.Errorf("sent again: %v; want %v", got, want)
	}
	b.event("up") // and the refusals in between were told once
	c.ack(1, 11)
	b.until("all deleted", func() bool { return len(b.q.left()) == 0 })
}

func TestSpoolThatCannotBeRead(t *testing.T) {
	b := newBench(t)
	b.q.add(1)
	b.q.readErr = errors.New("disk sleeps")
	b.start()
	c := b.greet(256)
	if got := c.frames(1); got[0] != 1 {
		t.Errorf("frame %v", got)
	}
}

func TestDrain(t *testing.T) {
	b := newBench(t)
	b.q.add(2)
	b.start()
	c := b.greet(256)
	c.frames(2)
	c.send(wire.Drain{MaxDelayMS: 1, Reason: "update"})
	c.ack(1, 2) // still taken
	var closed *link.ClosedError
	if _, err := c.conn.Recv(b.ctx); !errors.As(err, &closed) || closed.Code != wire.CloseShutdown {
		t.Errorf("Recv = %v", err)
	}
	if left := b.q.left(); len(left) != 0 {
		t.Errorf("left %v", left)
	}
	b.q.add(1)
	c = b.greet(256)
	if got := c.frames(1); got[0] != 3 {
		t.Errorf("frame %v", got)
	}
}

func TestLongWaits(t *testing.T) {
	cases := []struct {
		code     string
		min, max time.Duration
	}{
		{wire.CloseRevoked, 59 * time.Minute, time.Hour},
		{wire.CloseReplaced, 25 * time.Second, time.Minute},
		{wire.CloseShutdown, 0, 30 * time.Second},
	}
	for _, c := range cases {
		for _, welcomed := range []bool{false, true} {
			name := c.code
			if welcomed {
				name += " after the welcome"
			}
			t.Run(name, func(t *testing.T) {
				b := newBench(t)
				b.start()
				var conn *collector
				if welcomed {
					conn = b.greet(8)
					b.event("up")
				} else {
					conn, _ = b.accept()
				}
				_ = conn.conn.CloseWith(c.code, "by the operator")
				if welcomed {
					b.event("down")
				} else if e := b.event("refused"); !strings.Contains(e.Reason, "by the operator") {
					t.Errorf("event %+v", e)
				}
				b.until("waiting", func() bool { return !b.up.State().RetryAt.IsZero() })
				s := b.up.State()
				if wait := time.Until(s.RetryAt); s.Connected || wait > c.max || wait < c.min-5*time.Second || !strings.Contains(s.LastError, c.code) {
					t.Errorf("waits %v, state %+v", wait, s)
				}
				b.stop() // does not wait for it
			})
		}
	}
}

func TestRenewal(t *testing.T) {
	b := newBench(t)
	b.id.due = true
	b.start()
	c := b.greet(256)
	if m := recv[*wire.RenewRequest](c); string(m.CSR) != "csr" {
		t.Errorf("request %+v", m)
	}
	c.send(wire.RenewResponse{Chain: [][]byte{[]byte("cert for csr")}, Generation: 5})
	if g := <-b.id.installed; g != 5 {
		t.Errorf("installed generation %d", g)
	}
	// A refusal, or a certificate that does not fit, leaves the link up.
	c.send(wire.RenewResponse{Error: "the CA is locked"})
	c.send(wire.RenewResponse{Chain: [][]byte{[]byte("other")}})
	b.q.add(1)
	c.frames(1)
}

func TestHostileCollector(t *testing.T) {
	t.Run("no window", func(t *testing.T) {
		b := newBench(t)
		b.start()
		for range 2 { // over QUIC and over TCP
			c, _ := b.accept()
			c.send(wire.Welcome{Capability: 1})
		}
		b.event("refused")
	})
	t.Run("no welcome", func(t *testing.T) {
		b := newBench(t)
		b.start()
		for range 2 {
			c, _ := b.accept()
			c.send(wire.Ack{})
		}
		b.event("refused")
	})
	t.Run("a message of agents", func(t *testing.T) {
		b := newBench(t)
		b.start()
		c := b.greet(8)
		b.event("up")
		c.send(wire.Hello{})
		if e := b.event("down"); !strings.Contains(e.Reason, "Hello") {
			t.Errorf("event %+v", e)
		}
	})
}
