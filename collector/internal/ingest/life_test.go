package ingest

import (
	"errors"
	"testing"
	"time"

	"sidetone/shared/link"
	"sidetone/shared/wire"
)

func TestExpiryClosesALiveConnection(t *testing.T) {
	b := newBench(t, Config{})
	// Certificates count in seconds.
	ends := time.Now().Add(3 * time.Second).Truncate(time.Second)
	conn := b.dial(agentID, ends)
	b.send(conn, wire.Hello{Capability: 1})
	recv[*wire.Welcome](b, conn)
	c := b.closed(conn)
	if c.Code != wire.CloseExpired {
		t.Errorf("closed with %v", c)
	}
	if time.Now().Before(ends) {
		t.Error("closed too early")
	}
}

func TestEnrolmentIsLimited(t *testing.T) {
	b := newBench(t, Config{EnrolsPerMinute: 2})
	enrol := func() wire.EnrolResponse {
		resp, err := link.Enrol(b.ctx, b.addr, b.ca.Stranger(), wire.EnrolRequest{Hostname: "pbx"})
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	for range 2 {
		if r := enrol(); r.Agent != 7 || r.Site != "site of pbx" {
			t.Errorf("response = %+v", r)
		}
	}
	if r := enrol(); r.Code != wire.EnrolBusy || r.Agent != 0 {
		t.Errorf("response = %+v; want busy", r)
	}
	if s := b.srv.Stats(); s.Enrols != 3 || s.EnrolsLimited != 1 {
		t.Errorf("stats = %+v", s)
	}
}

func TestRenewal(t *testing.T) {
	b := newBench(t, Config{})
	conn := b.connect()
	b.send(conn, wire.RenewRequest{CSR: []byte("csr")})
	if m := recv[*wire.RenewResponse](b, conn); string(m.Chain[0]) != "csr" || m.Generation != 2 || m.Error != "" {
		t.Errorf("response = %+v", m)
	}
	b.control.set(func() { b.control.renew = errors.New("the CA is locked") })
	b.send(conn, wire.RenewRequest{CSR: []byte("csr")})
	if m := recv[*wire.RenewResponse](b, conn); m.Error != "the CA is locked" || m.Chain != nil {
		t.Errorf("response = %+v", m)
	}
	for range renewBurst - 2 {
		b.send(conn, wire.RenewRequest{})
		recv[*wire.RenewResponse](b, conn)
	}
	b.send(conn, wire.RenewRequest{})
	if m := recv[*wire.RenewResponse](b, conn); m.Error == "" || m.Error == "the CA is locked" {
		t.Errorf("response = %+v; want too many", m)
	}
}

func TestRenewalOfARevokedAgent(t *testing.T) {
	b := newBench(t, Config{})
	conn := b.connect()
	b.control.set(func() { b.control.renew = ErrStaleGeneration })
	b.send(conn, wire.RenewRequest{CSR: []byte("csr")})
	if c := b.closed(conn); c.Code != wire.CloseRevoked {
		t.Errorf("closed with %v", c)
	}
}

func TestDrainAndStop(t *testing.T) { overAll(t, testDrainAndStop) }

func testDrainAndStop(t *testing.T, transport string) {
	b := newBench(t, Config{})
	b.over = transport
	conn := b.connect()
	b.send(conn, frame(t, 1, 1))
	d := b.delivery()
	b.srv.Drain(30*time.Second, "update")
	if m := recv[*wire.Drain](b, conn); m.MaxDelayMS != 30_000 || m.Reason != "update" {
		t.Errorf("drain = %+v", m)
	}
	// An ack that is due when Run ends is still sent.
	d.Done(nil)
	go b.stop()
	recv[*wire.Ack](b, conn)
	if c := b.closed(conn); c.Code != wire.CloseShutdown {
		t.Errorf("closed with %v", c)
	}
	b.stop()
}
