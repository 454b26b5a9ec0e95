package ingest

import (
	"context"
	"errors"
	"testing"
	"time"

	"sidetone/shared/certid"
	"sidetone/shared/link"
	"sidetone/shared/telemetry"
	"sidetone/shared/wire"
)

func TestQuota(t *testing.T) {
	qs := newQuotas(Config{BytesPerSecond: 100, BurstBytes: 1000, FramesPerSecond: 2, BurstFrames: 10})
	now := time.Now()
	q := qs.of(1, now)
	steps := []struct {
		name  string
		after time.Duration
		n     int
		retry time.Duration
	}{
		{"half of the burst", 0, 500, 0},
		{"the other half", 0, 500, 0},
		{"no byte is left", 0, 250, 3 * time.Second},
		{"asked too early", time.Second, 250, 2 * time.Second},
		{"after the time that was said", 2 * time.Second, 250, 0},
		{"more than the burst, with nothing left", 0, 5000, 10 * time.Second},
		{"more than the burst", 10 * time.Second, 5000, 0},
	}
	for _, s := range steps {
		now = now.Add(s.after)
		retry, ok := q.take(s.n, now)
		if ok != (s.retry == 0) || retry < s.retry || retry > s.retry+time.Second {
			t.Errorf("%s: %v, %t; want %v", s.name, retry, ok, s.retry)
		}
	}
	now = now.Add(time.Hour)
	for range 10 {
		if _, ok := q.take(1, now); !ok {
			t.Fatal("frames within the burst")
		}
	}
	if retry, ok := q.take(1, now); ok || retry != time.Second {
		t.Errorf("a frame over the burst: %v, %t", retry, ok)
	}
	if qs.of(1, now) != q || qs.of(2, now) == q {
		t.Error("a quota is that of one agent, whatever its connection")
	}
	if q.full(now) || !q.full(now.Add(time.Minute)) {
		t.Error("full")
	}
}

// TestOverQuotaIsDeferred: the frame is not dropped, not delivered, and is told when.
func TestOverQuotaIsDeferred(t *testing.T) {
	b := newBench(t, Config{FramesPerSecond: 1, BurstFrames: 3})
	conn := b.connect()
	for seq := uint64(1); seq <= 5; seq++ {
		b.send(conn, frame(t, 1, seq))
	}
	deferred := uint64(0)
	for deferred < 2 {
		m := recv[*wire.Defer](b, conn)
		if m.RetryMS < 1000 || m.RetryMS > 10_000 {
			t.Errorf("defer = %+v", m)
		}
		for _, r := range m.Ranges {
			deferred += r.To - r.From + 1
		}
	}
	for range 3 {
		b.delivery().Done(nil)
	}
	recv[*wire.Ack](b, conn)
	// A reconnect is no way round.
	conn = b.connect()
	b.send(conn, frame(t, 1, 6))
	b.send(conn, frame(t, 1, 7))
	recv[*wire.Defer](b, conn)
	if s := b.srv.Stats(); s.OverQuota < 3 || s.Deferred != s.OverQuota || s.Malformed != 0 {
		t.Errorf("stats = %+v", s)
	}
}

// fakeBundle stands for the wire's bundle.
type fakeBundle struct {
	frames []wire.Frame
	err    error
}

func (f fakeBundle) Frames() ([]wire.Frame, error) { return f.frames, f.err }

// TestBundleIsItsFrames: each frame is answered by itself, in the bundle's order.
func TestBundleIsItsFrames(t *testing.T) {
	b := newBench(t, Config{})
	conn := b.connect()
	b.event()
	b.srv.mu.Lock()
	s := b.srv.sessions[agentID.Agent]
	b.srv.mu.Unlock()
	bad := frame(t, 1, 3)
	bad.CRC++
	s.handle(b.ctx, fakeBundle{frames: []wire.Frame{frame(t, 2, 9), frame(t, 1, 2), bad, frame(t, 1, 4)}})
	for _, want := range []position{{2, 9}, {1, 2}, {1, 4}} {
		d := b.delivery()
		if (position{d.Epoch, d.Seq}) != want {
			t.Errorf("delivered %d/%d, want %v", d.Epoch, d.Seq, want)
		}
		d.Done(nil)
	}
	acked, rejected := map[position]bool{}, 0
	for len(acked) < 3 || rejected < 1 {
		msg, err := conn.Recv(b.ctx)
		if err != nil {
			t.Fatal(err)
		}
		switch m := msg.(type) {
		case *wire.Ack:
			for _, r := range m.Ranges {
				for q := r.From; q <= r.To; q++ {
					acked[position{m.Epoch, q}] = true
				}
			}
		case *wire.Reject:
			rejected++
			if m.Epoch != 1 || m.Seq != 3 {
				t.Errorf("reject = %+v", m)
			}
		}
	}
	s.handle(b.ctx, fakeBundle{err: errors.New("torn")})
	if st := b.srv.Stats(); st.Bundles != 2 || st.Frames != 4 || st.Malformed != 2 || st.Acked != 3 {
		t.Errorf("stats = %+v", st)
	}
}

func TestBundleCountsItsFramesAgainstTheWindow(t *testing.T) {
	b := newBench(t, Config{Window: 3})
	conn := b.connect()
	b.event()
	b.srv.mu.Lock()
	s := b.srv.sessions[agentID.Agent]
	b.srv.mu.Unlock()
	var frames []wire.Frame
	for seq := uint64(1); seq <= 6; seq++ {
		frames = append(frames, frame(t, 1, seq))
	}
	s.handle(b.ctx, fakeBundle{frames: frames})
	if c := b.closed(conn); c.Code != wire.CloseProtocol {
		t.Errorf("closed with %v", c)
	}
	if st := b.srv.Stats(); st.OverWindow != 1 || st.Frames != 4 {
		t.Errorf("stats = %+v", st)
	}
}

// TestReplayAndDisorder: whatever comes again or late is answered like the first time.
func TestReplayAndDisorder(t *testing.T) {
	b := newBench(t, Config{})
	conn := b.connect()
	order := []uint64{5, 3, 5, 4, 3, 1, 5}
	for _, seq := range order {
		b.send(conn, frame(t, 1, seq))
	}
	for _, seq := range order {
		d := b.delivery()
		if d.Seq != seq {
			t.Errorf("delivered %d, want %d", d.Seq, seq)
		}
		d.Done(nil)
	}
	acked := map[uint64]bool{}
	for len(acked) < 4 {
		for _, r := range recv[*wire.Ack](b, conn).Ranges {
			for q := r.From; q <= r.To; q++ {
				acked[q] = true
			}
		}
	}
	b.send(conn, frame(t, 1, 5)) // again after its ack
	b.delivery().Done(nil)
	if a := recv[*wire.Ack](b, conn); a.Ranges[0] != (wire.Range{From: 5, To: 5}) {
		t.Errorf("ack = %+v", a)
	}
	if acked[2] || b.srv.Stats().Malformed != 0 {
		t.Errorf("acked %v", acked)
	}
}

// fleet is a control store of many agents, with a list of revoked ones.
type fleet struct {
	*control
	revoked chan []telemetry.AgentID
}

func (f fleet) Lookup(_ context.Context, id certid.ID) (AgentInfo, error) {
	return AgentInfo{Source: Source{Tenant: id.Tenant, Agent: id.Agent}}, nil
}

func (f fleet) Revoked(_ context.Context, agents []telemetry.AgentID) ([]telemetry.AgentID, error) {
	select {
	case r := <-f.revoked:
		return r, nil
	default:
		return nil, errors.New("store is busy")
	}
}

func TestConnectionsOfATenant(t *testing.T) {
	b := newBenchWith(t, Config{MaxConnsPerTenant: 2}, func(c *control) Agents { return fleet{control: c} })
	hello := func(tenant telemetry.TenantID, agent telemetry.AgentID) *link.Conn {
		conn := b.dial(certid.ID{Tenant: tenant, Agent: agent, Generation: 1}, time.Now().Add(time.Hour))
		b.send(conn, wire.Hello{Capability: 1})
		return conn
	}
	recv[*wire.Welcome](b, hello(1, 1))
	second := hello(1, 2)
	recv[*wire.Welcome](b, second)
	if c := b.closed(hello(1, 3)); c.Code != link.CloseBusy {
		t.Errorf("the third closed with %v", c)
	}
	recv[*wire.Welcome](b, hello(2, 4)) // another tenant
	again := hello(1, 2)                // replaces its own
	recv[*wire.Welcome](b, again)
	b.closed(second)
	b.srv.Disconnect(2, wire.CloseRevoked, "")
	b.closed(again)
	for !b.srv.room(1, 2) { // the session ends a moment after its close
		if b.ctx.Err() != nil {
			t.Fatal("a place is not given back")
		}
	}
	recv[*wire.Welcome](b, hello(1, 3))
	if s := b.srv.Stats(); s.OverTenant != 1 || s.Live != 3 {
		t.Errorf("stats = %+v", s)
	}
}

// room tells whether a tenant has fewer than n connections.
func (s *Server) room(tenant telemetry.TenantID, n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tenants[tenant] < n
}

func TestRevokerIsAsked(t *testing.T) {
	revoked := make(chan []telemetry.AgentID, 1)
	b := newBenchWith(t, Config{}, func(c *control) Agents { return fleet{control: c, revoked: revoked} })
	conn := b.connect()
	b.send(conn, frame(t, 1, 1)) // it lives
	b.delivery().Done(nil)
	recv[*wire.Ack](b, conn)
	revoked <- []telemetry.AgentID{agentID.Agent, 99}
	if c := b.closed(conn); c.Code != wire.CloseRevoked || c.Reason != ErrRevoked.Error() {
		t.Errorf("closed with %v", c)
	}
}
