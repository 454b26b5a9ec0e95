package ingest

import (
	"context"
	"errors"
	"hash/crc32"
	"net"
	"runtime"
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

var (
	agentID = certid.ID{Tenant: 3, Agent: 7, Generation: 1}
	source  = Source{Tenant: 3, Customer: 4, Site: 5, PBX: 6, Agent: 7}
)

// control is the control store of a test.
type control struct {
	mu     sync.Mutex
	info   AgentInfo
	err    error // of Lookup
	renew  error
	events []string // of Presence
	last   ConnInfo // of Presence
	sess   chan string
}

func (c *control) set(f func()) { c.mu.Lock(); defer c.mu.Unlock(); f() }

func (c *control) Lookup(_ context.Context, id certid.ID) (AgentInfo, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id.Tenant != agentID.Tenant || id.Agent != agentID.Agent {
		return AgentInfo{}, ErrUnknown
	}
	return c.info, c.err
}

func (c *control) Renew(_ context.Context, id certid.ID, csr []byte) ([][]byte, uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return [][]byte{csr}, id.Generation + 1, c.renew
}

func (c *control) Enrol(_ context.Context, _ net.Addr, req wire.EnrolRequest) wire.EnrolResponse {
	return wire.EnrolResponse{Agent: 7, Site: "site of " + req.Hostname}
}

func (c *control) Connected(_ Source, info ConnInfo) {
	c.set(func() { c.last = info })
	c.event("connected")
}
func (c *control) Disconnected(_ Source, reason string) { c.event("disconnected: " + reason) }
func (c *control) event(e string) {
	c.set(func() { c.events = append(c.events, e) })
	c.sess <- e
}

// store is a sink whose deliveries the test settles itself.
type store struct {
	full bool
	got  chan *Delivery
}

func (s *store) Offer(d *Delivery) bool {
	if s.full {
		return false
	}
	s.got <- d
	return true
}

type watcher struct{ seen chan uint64 }

func (w watcher) Delivered(d *Delivery) { w.seen <- d.Seq }

type bench struct {
	t       *testing.T
	ctx     context.Context
	ca      *linktest.CA
	srv     *Server
	control *control
	store   *store
	seen    chan uint64
	addr    string
	over    string // transport of its agents
	stop    func() // ends Run and waits
}

func newBench(t *testing.T, cfg Config) *bench {
	t.Helper()
	return newBenchWith(t, cfg, nil)
}

// newBenchWith lets the test put its own control store before the bench's.
func newBenchWith(t *testing.T, cfg Config, wrap func(*control) Agents) *bench {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	b := &bench{
		t: t, ctx: ctx, ca: linktest.NewCA(t, "root"),
		control: &control{info: AgentInfo{Source: source}, sess: make(chan string, 64)},
		store:   &store{got: make(chan *Delivery, 1024)},
		seen:    make(chan uint64, 1024),
	}
	ln := b.ca.Listen("")
	b.addr = ln.Addr().String()
	agents := Agents(b.control)
	if wrap != nil {
		agents = wrap(b.control)
	}
	b.srv = New(cfg, Deps{Listener: ln, Sink: b.store, Observers: []Observer{watcher{b.seen}},
		Agents: agents, Enroller: b.control, Presence: b.control, Log: zerolog.Nop()})
	runCtx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.srv.Run(runCtx) }()
	b.stop = sync.OnceFunc(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(b.stop)
	return b
}

// dial connects an agent whose certificate ends at notAfter.
func (b *bench) dial(id certid.ID, notAfter time.Time) *link.Conn {
	b.t.Helper()
	conn, err := link.Dial(b.ctx, link.DialConfig{Addr: b.addr, Transport: b.over, TLS: b.ca.Agent(id, notAfter)})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.CloseWith(wire.CloseShutdown, "test over") })
	return conn
}

// connect is an agent that was welcomed.
func (b *bench) connect() *link.Conn {
	b.t.Helper()
	conn := b.dial(agentID, time.Now().Add(time.Hour))
	b.send(conn, wire.Hello{Capability: 1, Version: "test", Epoch: 1, NextSeq: 1, NowMS: time.Now().UnixMilli()})
	recv[*wire.Welcome](b, conn)
	return conn
}

func (b *bench) send(conn *link.Conn, msg any) {
	b.t.Helper()
	if err := conn.Send(b.ctx, msg); err != nil {
		b.t.Fatal(err)
	}
}

func recv[T any](b *bench, conn *link.Conn) T {
	b.t.Helper()
	msg, err := conn.Recv(b.ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	m, ok := msg.(T)
	if !ok {
		b.t.Fatalf("got %#v", msg)
	}
	return m
}

// closed waits for the collector to close the connection.
func (b *bench) closed(conn *link.Conn) *link.ClosedError {
	b.t.Helper()
	for {
		_, err := conn.Recv(b.ctx)
		var closed *link.ClosedError
		if errors.As(err, &closed) {
			return closed
		}
		if err != nil {
			b.t.Fatalf("Recv = %v; want a close", err)
		}
	}
}

// event waits for the next word of Presence.
func (b *bench) event() string {
	b.t.Helper()
	select {
	case e := <-b.control.sess:
		return e
	case <-b.ctx.Done():
		b.t.Fatal("no event")
		return ""
	}
}

func (b *bench) delivery() *Delivery {
	b.t.Helper()
	select {
	case d := <-b.store.got:
		return d
	case <-b.ctx.Done():
		b.t.Fatal("no delivery")
		return nil
	}
}

// frame is a sound frame with one row.
func frame(t *testing.T, epoch, seq uint64) wire.Frame {
	t.Helper()
	p, err := wire.EncodePayload(&telemetry.Set{Gaps: []telemetry.Gap{{Epoch: epoch, From: seq, To: seq, Reason: telemetry.GapEvicted}}})
	if err != nil {
		t.Fatal(err)
	}
	return sealed(epoch, seq, p)
}

func sealed(epoch, seq uint64, payload []byte) wire.Frame {
	return wire.Frame{Epoch: epoch, Seq: seq, Class: wire.ClassState, AgeMS: 1500, CRC: crc32.Checksum(payload, castagnoli), Payload: payload}
}

// zstdRaw is a payload that decompresses to these bytes: a frame with one raw block.
func zstdRaw(b ...byte) []byte {
	n := len(b)
	p := []byte{wire.Schema, 0x28, 0xb5, 0x2f, 0xfd, 0x20, byte(n), byte(n<<3 | 1), byte(n >> 5), 0}
	return append(p, b...)
}

// overAll runs a test over each transport that the collector tells apart.
func overAll(t *testing.T, f func(t *testing.T, transport string)) {
	for _, transport := range []string{link.TransportQUIC, link.TransportTCP} {
		t.Run(transport, func(t *testing.T) { f(t, transport) })
	}
}

func TestFrameIsDeliveredAndAckedWhenStored(t *testing.T) {
	overAll(t, testFrameIsDeliveredAndAckedWhenStored)
}

func testFrameIsDeliveredAndAckedWhenStored(t *testing.T, transport string) {
	b := newBench(t, Config{ReflectorPort: 862})
	b.over = transport
	conn := b.dial(agentID, time.Now().Add(time.Hour))
	b.send(conn, wire.Hello{Capability: 1, Epoch: 9, NextSeq: 5, NowMS: time.Now().UnixMilli()})
	w := recv[*wire.Welcome](b, conn)
	if w.Window != 256 || w.ReflectorPort != 862 || w.Observed != conn.LocalAddr().String() && w.Observed == "" || w.Capability != wire.Capability {
		t.Errorf("welcome = %+v", w)
	}
	b.send(conn, frame(t, 9, 5))
	d := b.delivery()
	if d.Source != source || d.Epoch != 9 || d.Seq != 5 || d.Age != 1500*time.Millisecond || d.Class != wire.ClassState || len(d.Rows.Gaps) != 1 || d.Bytes == 0 {
		t.Errorf("delivery = %+v", d)
	}
	if seq := <-b.seen; seq != 5 {
		t.Errorf("the observer saw %d", seq)
	}
	d.Done(nil)
	d.Done(&RejectError{Reason: "second call"}) // must change nothing
	ack := recv[*wire.Ack](b, conn)
	if ack.Epoch != 9 || len(ack.Ranges) != 1 || ack.Ranges[0] != (wire.Range{From: 5, To: 5}) {
		t.Errorf("ack = %+v", ack)
	}
	b.control.set(func() {
		if b.control.last.Transport != transport {
			t.Errorf("connected over %q, want %s", b.control.last.Transport, transport)
		}
	})
	if s := b.srv.Stats(); s.LiveQUIC+s.LiveTCP != 1 || (s.LiveTCP == 1) != (transport == link.TransportTCP) {
		t.Errorf("stats = %+v", s)
	}
	if s := b.srv.Stats(); s.Frames != 1 || s.Acked != 1 || s.RejectedStorage != 0 || s.Live != 1 || s.Bytes == 0 {
		t.Errorf("stats = %+v", s)
	}
}

// A ping is answered while a frame still waits for the storage.
func TestPing(t *testing.T) {
	b := newBench(t, Config{})
	conn := b.connect()
	b.send(conn, frame(t, 1, 1))
	d := b.delivery()
	b.send(conn, wire.Ping{Number: 7})
	if p := recv[*wire.Pong](b, conn); p.Number != 7 {
		t.Errorf("pong = %+v", p)
	}
	d.Done(nil)
	recv[*wire.Ack](b, conn)
}

func TestAcksAreCoalesced(t *testing.T) {
	b := newBench(t, Config{})
	conn := b.connect()
	const n = 100
	var all []*Delivery
	for seq := uint64(1); seq <= n; seq++ {
		b.send(conn, frame(t, 1, seq))
		all = append(all, b.delivery())
	}
	for i := len(all) - 1; i >= 0; i-- { // in any order
		all[i].Done(nil)
	}
	acked, messages := map[uint64]bool{}, 0
	for len(acked) < n {
		ack := recv[*wire.Ack](b, conn)
		messages++
		for _, r := range ack.Ranges {
			for seq := r.From; seq <= r.To; seq++ {
				acked[seq] = true
			}
		}
	}
	if messages > n/4 {
		t.Errorf("%d messages for %d acks", messages, n)
	}
}

func TestSinkDecides(t *testing.T) {
	b := newBench(t, Config{Retry: 7 * time.Second})
	conn := b.connect()
	b.send(conn, frame(t, 1, 1))
	b.delivery().Done(ErrDefer)
	if m := recv[*wire.Defer](b, conn); m.RetryMS != 7000 || m.Ranges[0].From != 1 {
		t.Errorf("defer = %+v", m)
	}
	b.send(conn, frame(t, 1, 2))
	b.delivery().Done(errors.New("no idea"))
	recv[*wire.Defer](b, conn)
	b.send(conn, frame(t, 1, 3))
	b.delivery().Done(&RejectError{Reason: "bad row"})
	if m := recv[*wire.Reject](b, conn); m.Seq != 3 || m.Reason != "storage: bad row" {
		t.Errorf("reject = %+v", m)
	}
	if s := b.srv.Stats(); s.Deferred != 2 || s.RejectedStorage != 1 || s.Malformed != 0 {
		t.Errorf("stats = %+v", s)
	}
}

func TestFullSinkDefersButObserversSee(t *testing.T) {
	b := newBench(t, Config{})
	b.store.full = true
	conn := b.connect()
	b.send(conn, frame(t, 1, 1))
	if m := recv[*wire.Defer](b, conn); m.RetryMS != 15000 {
		t.Errorf("defer = %+v", m)
	}
	if seq := <-b.seen; seq != 1 {
		t.Errorf("the observer saw %d", seq)
	}
}

func TestMalformedFrames(t *testing.T) {
	cases := map[string]wire.Frame{
		"not zstd":       sealed(1, 1, []byte("\x01rubbish")),
		"not CBOR":       sealed(1, 1, zstdRaw(0xff, 0xff, 0xff)),
		"nested deep":    sealed(1, 1, zstdRaw(0xa1, 0x18, 99, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0)),
		"duplicate keys": sealed(1, 1, zstdRaw(0xa2, 1, 0x80, 1, 0x80)),
		"indefinite":     sealed(1, 1, zstdRaw(0xbf, 0xff)),
		"empty":          sealed(1, 1, nil),
	}
	for name, bad := range cases {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, Config{})
			conn := b.connect()
			b.send(conn, bad)
			if m := recv[*wire.Reject](b, conn); m.Epoch != 1 || m.Seq != 1 || m.Reason == "" {
				t.Errorf("reject = %+v", m)
			}
			// One mistake is forgiven: the connection carries on.
			b.send(conn, frame(t, 1, 2))
			b.delivery().Done(nil)
			recv[*wire.Ack](b, conn)
			if s := b.srv.Stats(); s.RejectedMalformed != 1 || s.Malformed != 1 || s.Live != 1 {
				t.Errorf("stats = %+v", s)
			}
		})
	}
}

func TestThreeStrikes(t *testing.T) { overAll(t, testThreeStrikes) }

func testThreeStrikes(t *testing.T, transport string) {
	b := newBench(t, Config{})
	b.over = transport
	conn := b.connect()
	wrong := frame(t, 1, 1)
	wrong.CRC++
	b.send(conn, wrong)                      // checksum
	b.send(conn, sealed(1, 2, []byte{1, 2})) // payload
	b.send(conn, wire.Ack{Epoch: 1})         // what agents do not send
	rejects := map[uint64]string{}
	for range 2 {
		m := recv[*wire.Reject](b, conn)
		rejects[m.Seq] = m.Reason
	}
	if rejects[1] != "checksum" || rejects[2] == "" {
		t.Errorf("rejects = %v", rejects)
	}
	if c := b.closed(conn); c.Code != wire.CloseProtocol {
		t.Errorf("closed with %v", c)
	}
	if s := b.srv.Stats(); s.Malformed != 3 || s.RejectedChecksum != 1 || s.RejectedMalformed != 1 {
		t.Errorf("stats = %+v", s)
	}
	b.connect() // and it may come back
}

func TestNewerSchemaWaits(t *testing.T) {
	b := newBench(t, Config{})
	conn := b.connect()
	for seq := uint64(1); seq <= 4; seq++ { // no strike, however often
		b.send(conn, sealed(1, seq, []byte{wire.Schema + 1, 1, 2, 3}))
		if m := recv[*wire.Defer](b, conn); m.RetryMS < 60_000 {
			t.Errorf("defer = %+v", m)
		}
	}
	if s := b.srv.Stats(); s.NewerSchema != 4 || s.Malformed != 0 {
		t.Errorf("stats = %+v", s)
	}
}

func TestWindowIsEnforced(t *testing.T) { overAll(t, testWindowIsEnforced) }

func testWindowIsEnforced(t *testing.T, transport string) {
	b := newBench(t, Config{Window: 3})
	b.over = transport
	conn := b.connect()
	for seq := uint64(1); seq <= 3; seq++ {
		b.send(conn, frame(t, 1, seq))
	}
	for range 3 {
		b.delivery().Done(nil)
	}
	for n := uint64(0); n < 3; {
		for _, r := range recv[*wire.Ack](b, conn).Ranges {
			n += r.To - r.From + 1
		}
	}
	for seq := uint64(4); seq <= 7; seq++ { // one too many
		b.send(conn, frame(t, 1, seq))
	}
	if c := b.closed(conn); c.Code != wire.CloseProtocol {
		t.Errorf("closed with %v", c)
	}
	if s := b.srv.Stats(); s.OverWindow != 1 {
		t.Errorf("stats = %+v", s)
	}
}

func TestWhoMayConnect(t *testing.T) {
	cases := []struct {
		name string
		id   certid.ID
		set  func(*control)
		msg  any
		code string
	}{
		{"unknown agent", certid.ID{Tenant: 3, Agent: 99}, func(*control) {}, wire.Hello{Capability: 1}, wire.CloseRevoked},
		{"other tenant", certid.ID{Tenant: 4, Agent: 7}, func(*control) {}, wire.Hello{Capability: 1}, wire.CloseRevoked},
		{"revoked", agentID, func(c *control) { c.info.Revoked = true }, wire.Hello{Capability: 1}, wire.CloseRevoked},
		{"copied machine", agentID, func(c *control) { c.err = ErrStaleGeneration }, wire.Hello{Capability: 1}, wire.CloseRevoked},
		{"store is down", agentID, func(c *control) { c.err = errors.New("disk I/O error") }, wire.Hello{Capability: 1}, link.CloseBusy},
		{"no hello", agentID, func(*control) {}, wire.RenewRequest{}, wire.CloseProtocol},
		{"no capability", agentID, func(*control) {}, wire.Hello{}, wire.CloseProtocol},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, Config{})
			b.control.set(func() { c.set(b.control) })
			conn := b.dial(c.id, time.Now().Add(time.Hour))
			b.send(conn, c.msg)
			if got := b.closed(conn); got.Code != c.code {
				t.Errorf("closed with %v; want %s", got, c.code)
			}
			b.stop()
			if s := b.srv.Stats(); s.TurnedAway != 1 || s.Accepted != 0 || len(b.control.events) != 0 {
				t.Errorf("stats = %+v, presence %v", s, b.control.events)
			}
		})
	}
}

func TestNewestConnectionWins(t *testing.T) { overAll(t, testNewestConnectionWins) }

func testNewestConnectionWins(t *testing.T, transport string) {
	b := newBench(t, Config{})
	b.over = transport
	first := b.connect()
	b.send(first, frame(t, 1, 1))
	waiting := b.delivery()
	second := b.connect()
	if c := b.closed(first); c.Code != wire.CloseReplaced {
		t.Errorf("closed with %v", c)
	}
	waiting.Done(nil) // for a connection that is gone
	b.send(second, frame(t, 1, 1))
	b.delivery().Done(nil)
	recv[*wire.Ack](b, second)
	if a, z, e := b.event(), b.event(), b.event(); a != "connected" || z == "connected" || e != "connected" {
		t.Errorf("presence: %s, %s, %s", a, z, e)
	}
	if s := b.srv.Stats(); s.Replaced != 1 || s.Live != 1 {
		t.Errorf("stats = %+v", s)
	}
}

func TestRevocationOfALiveConnection(t *testing.T) { overAll(t, testRevocationOfALiveConnection) }

func testRevocationOfALiveConnection(t *testing.T, transport string) {
	b := newBench(t, Config{})
	b.over = transport
	conn := b.connect()
	b.event()
	if !b.srv.Disconnect(agentID.Agent, wire.CloseRevoked, "revoked by an operator") {
		t.Fatal("Disconnect found no connection")
	}
	if c := b.closed(conn); c.Code != wire.CloseRevoked || c.Reason != "revoked by an operator" {
		t.Errorf("closed with %v", c)
	}
	if e := b.event(); e != "disconnected: revoked by an operator" {
		t.Errorf("presence: %s", e)
	}
	for b.srv.Disconnect(agentID.Agent, wire.CloseRevoked, "") || b.srv.Stats().Live > 0 { // a moment later
		if b.ctx.Err() != nil {
			t.Fatal("the connection is still there")
		}
		runtime.Gosched()
	}
}
