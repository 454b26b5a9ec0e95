package loadgen

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"sidetone/collector/internal/ingest"
	"sidetone/shared/certid"
	"sidetone/shared/link"
	"sidetone/shared/link/linktest"
	"sidetone/shared/telemetry"
	"sidetone/shared/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sink stores what is offered, in memory. It is Query's other end too.
type sink struct {
	mu      sync.Mutex
	frames  map[place]*stored // guarded by mu
	offered int               // guarded by mu
	// deferEvery makes each such offer be deferred, rejectSeq that seq be refused.
	deferEvery int
	rejectSeq  uint64
	want       chan struct{} // gets one when so many frames are stored
	at         int
}

type place struct {
	agent uint32
	epoch uint64
	seq   uint64
}

type stored struct {
	kinds rowCounts
	times int
}

func newSink() *sink { return &sink{frames: map[place]*stored{}, want: make(chan struct{}, 1)} }

func (s *sink) Offer(d *ingest.Delivery) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offered++
	if s.deferEvery > 0 && s.offered%s.deferEvery == 0 {
		d.Done(ingest.ErrDefer)
		return true
	}
	if s.rejectSeq == d.Seq {
		d.Done(&ingest.RejectError{Reason: "a test"})
		return true
	}
	p := place{uint32(d.Source.Agent), d.Epoch, d.Seq}
	f := s.frames[p]
	if f == nil {
		f = &stored{}
		s.frames[p] = f
	}
	f.times++
	f.kinds = rowCounts{
		kindWindow: uint64(len(d.Rows.ProbeWindows)), kindStatus: uint64(len(d.Rows.PBXStatuses)), kindTrunk: uint64(len(d.Rows.Trunks)),
		kindService: uint64(len(d.Rows.Services)), kindHealth: uint64(len(d.Rows.AgentHealth)), kindGap: uint64(len(d.Rows.Gaps)),
	}
	if len(s.frames) == s.at {
		s.want <- struct{}{}
	}
	d.Done(nil)
	return true
}

// after gives a channel that gets one when n more frames are stored.
func (s *sink) after(n int) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = len(s.frames) + n
	return s.want
}

// snapshot is what a collector's database would say.
func (s *sink) snapshot() *Stored {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &Stored{agents: map[key]*storedAgent{}}
	seqs := map[key][]uint64{}
	for p, f := range s.frames {
		k := key{p.agent, p.epoch}
		seqs[k] = append(seqs[k], p.seq)
		a := out.agent([]uint64{uint64(p.agent), p.epoch})
		for i, n := range f.kinds {
			a.kinds[i].rows += n
			a.kinds[i].identities += n
		}
		out.Repeated += uint64(f.times - 1)
	}
	for k, list := range seqs {
		slices.Sort(list)
		for _, seq := range list {
			a := out.agents[k]
			if n := len(a.frames); n > 0 && a.frames[n-1].To+1 == seq {
				a.frames[n-1].To = seq
			} else {
				a.frames = append(a.frames, wire.Range{From: seq, To: seq})
			}
		}
	}
	return out
}

// agents is the control store: all are known; renewals are signed by the test's root.
type agents struct {
	ca    *linktest.CA
	token string

	mu    sync.Mutex
	asked int // enrolments; guarded by mu
}

func (*agents) Lookup(_ context.Context, id certid.ID) (ingest.AgentInfo, error) {
	return ingest.AgentInfo{Source: telemetry.Source{Tenant: id.Tenant, Customer: 1, Site: 1, PBX: 1, Agent: id.Agent}}, nil
}

func (a *agents) Renew(_ context.Context, id certid.ID, csr []byte) ([][]byte, uint64, error) {
	req, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, 0, err
	}
	id.Generation++
	return [][]byte{a.ca.Sign(id, req.PublicKey, time.Now().Add(24*time.Hour)).Raw}, id.Generation, nil
}

// Enrol is busy once.
func (a *agents) Enrol(_ context.Context, _ net.Addr, req wire.EnrolRequest) wire.EnrolResponse {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	if a.asked == 3 {
		return wire.EnrolResponse{Code: wire.EnrolBusy, Error: "not now"}
	}
	csr, err := x509.ParseCertificateRequest(req.CSR)
	if err != nil || req.Token != a.token {
		return wire.EnrolResponse{Code: wire.EnrolBadToken, Error: "not known"}
	}
	id := certid.ID{Tenant: 3, Agent: telemetry.AgentID(a.asked), Generation: 1}
	return wire.EnrolResponse{Chain: [][]byte{a.ca.Sign(id, csr.PublicKey, time.Now().Add(time.Hour)).Raw}, Root: a.ca.Cert.Raw,
		Tenant: 3, Agent: uint32(a.asked), Generation: 1}
}

// fleetFile makes n identities that end at notAfter.
func fleetFile(t *testing.T, ca *linktest.CA, n int, notAfter time.Time) *File {
	t.Helper()
	f := &File{Root: ca.Cert.Raw}
	for i := range n {
		k, _, err := newCSR()
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		id := certid.ID{Tenant: 3, Agent: telemetry.AgentID(i + 1), Generation: 1}
		f.Agents = append(f.Agents, Identity{Tenant: 3, Agent: uint32(i + 1), Generation: 1, Key: der,
			Chain: [][]byte{ca.Sign(id, k.Public(), notAfter).Raw}})
	}
	return f
}

// serve runs a collector's side on addr until stop is called: kill ends it without a word.
func serve(t *testing.T, ca *linktest.CA, addr string, s ingest.Sink) (where string, stop func(kill bool), srv *ingest.Server) {
	t.Helper()
	return serveOn(t, ca.Listen(addr), &agents{ca: ca}, s)
}

func serveOn(t *testing.T, ln *link.Listener, known *agents, s ingest.Sink) (where string, stop func(kill bool), srv *ingest.Server) {
	t.Helper()
	srv = ingest.New(ingest.Config{Retry: 500 * time.Millisecond}, ingest.Deps{Listener: ln, Sink: s, Agents: known, Enroller: known, Log: zerolog.Nop()})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Run(ctx)
	}()
	var once sync.Once
	stop = func(kill bool) {
		once.Do(func() {
			if kill {
				_ = ln.Close()
			}
			cancel()
			<-done
			_ = ln.Close()
		})
	}
	t.Cleanup(func() { stop(false) })
	return ln.Addr().String(), stop, srv
}

// run starts a fleet; the result comes when ctx has ended and all is answered.
func run(t *testing.T, ctx context.Context, cfg Config, f *File) (<-chan result, *Fleet) {
	t.Helper()
	fleet, err := New(cfg, f, Deps{Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan result, 1)
	go func() {
		l, r, err := fleet.Run(ctx)
		out <- result{l, r, err}
	}()
	return out, fleet
}

type result struct {
	ledger *Ledger
	report *Report
	err    error
}

func check(t *testing.T, r result, s *sink) {
	t.Helper()
	if r.err != nil {
		t.Fatal(r.err)
	}
	for _, d := range Compare(r.ledger, s.snapshot()) {
		t.Error(d)
	}
	if r.report.Pending != 0 || r.report.Acked+r.report.Gaps != r.report.Frames {
		t.Errorf("%d frames, %d acked, %d pending, %d lost", r.report.Frames, r.report.Acked, r.report.Pending, r.report.Gaps)
	}
}

func wait(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(time.Minute):
		t.Fatal("waited a minute")
	}
}

func TestLedgerIsWhatTheSinkHas(t *testing.T) {
	for _, transport := range []string{link.TransportQUIC, link.TransportTCP} {
		t.Run(transport, func(t *testing.T) {
			ca, s := linktest.NewCA(t, "root"), newSink()
			s.deferEvery = 17
			addr, stop, _ := serve(t, ca, "", s)
			ctx, end := context.WithCancel(t.Context())
			defer end()
			out, _ := run(t, ctx, Config{Addr: addr, Transport: transport, Interval: 200 * time.Millisecond}, fleetFile(t, ca, 20, time.Now().Add(time.Hour)))
			wait(t, s.after(200))
			stop(true) // in the middle of it
			_, _, _ = serve(t, ca, addr, s)
			wait(t, s.after(200))
			end()
			r := <-out
			check(t, r, s)
			if r.report.Agents != 20 || r.report.Connects < 21 || r.report.Defers == 0 || r.report.Lost+r.report.Closed < 1 {
				t.Errorf("report = %+v", r.report)
			}
			if r.report.Ack.Count != r.report.Acked || r.report.Ack.P50 <= 0 || r.report.Ack.Max < r.report.Ack.P50 {
				t.Errorf("latencies = %+v", r.report.Ack)
			}
		})
	}
}

func TestRejectedRecordsAreGaps(t *testing.T) {
	ca, s := linktest.NewCA(t, "root"), newSink()
	s.rejectSeq = 2
	addr, _, _ := serve(t, ca, "", s)
	ctx, end := context.WithCancel(t.Context())
	defer end()
	out, _ := run(t, ctx, Config{Addr: addr, Interval: 100 * time.Millisecond}, fleetFile(t, ca, 3, time.Now().Add(time.Hour)))
	wait(t, s.after(60))
	end()
	r := <-out
	check(t, r, s)
	if r.report.Rejects != 3 || r.report.Gaps != 3 {
		t.Errorf("%d rejected, %d lost", r.report.Rejects, r.report.Gaps)
	}
	var told uint64
	for i := range r.ledger.Agents {
		told += r.ledger.Agents[i].Rows[kindGap]
	}
	if told != 3 {
		t.Errorf("%d gaps were told to the collector", told)
	}
}

func TestDrainAndRenewal(t *testing.T) {
	ca, s := linktest.NewCA(t, "root"), newSink()
	addr, _, srv := serve(t, ca, "", s)
	ctx, end := context.WithCancel(t.Context())
	defer end()
	file := fleetFile(t, ca, 5, time.Now().Add(10*time.Minute)) // over two thirds of its life: an hour has gone
	out, fleet := run(t, ctx, Config{Addr: addr, Interval: 100 * time.Millisecond}, file)
	wait(t, s.after(50))
	srv.Drain(time.Millisecond, "a test")
	wait(t, s.after(100))
	end()
	r := <-out
	check(t, r, s)
	if r.report.Drained != 5 || r.report.Renewed != 5 || !fleet.Renewed() {
		t.Errorf("%d drained, %d renewed", r.report.Drained, r.report.Renewed)
	}
	path := filepath.Join(t.TempDir(), "agents.json")
	if err := file.Write(path); err != nil {
		t.Fatal(err)
	}
	again, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range again.Agents {
		if _, err := id.pair(); err != nil || id.Generation != 2 {
			t.Errorf("generation %d, %v", id.Generation, err)
		}
	}
}

func TestSpoolIsBounded(t *testing.T) {
	ca := linktest.NewCA(t, "root")
	ctx, end := context.WithCancel(t.Context())
	defer end()
	// Nobody listens there.
	dead, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := dead.LocalAddr().String()
	_ = dead.Close()
	out, fleet := run(t, ctx, Config{Addr: addr, Interval: 50 * time.Millisecond, SpoolRecords: 10, Settle: time.Millisecond}, fleetFile(t, ca, 1, time.Now().Add(time.Hour)))
	for fleet.agents[0].spool.status(time.Now()).next < 40 {
		select {
		case <-fleet.agents[0].spool.wake:
		case <-time.After(time.Minute):
			t.Fatal("nothing is produced")
		}
	}
	end()
	r := <-out
	a := r.ledger.Agents[0]
	if a.Pending != 10 || len(a.Gaps) != 1 || a.Gaps[0] != (GapRange{1, a.Highest - 10, telemetry.GapEvicted}) || r.report.DialFailures == 0 {
		t.Errorf("ledger = %+v, report = %+v", a, r.report)
	}
	if d := Compare(r.ledger, &Stored{agents: map[key]*storedAgent{}}); len(d) != 1 || !strings.Contains(d[0], fmt.Sprintf("neither acked nor stored nor a gap: %d-%d", a.Highest-9, a.Highest)) {
		t.Errorf("differences = %q", d)
	}
}

func TestEnrol(t *testing.T) {
	ca := linktest.NewCA(t, "root")
	server := ca.Server()
	ln, err := link.Listen(link.ListenConfig{Addr: "127.0.0.1:0", TLS: func(alpn string) (*tls.Config, error) {
		c, err := server(alpn)
		if err == nil { // an agent that enrols knows the root by its hash alone
			c.Certificates[0].Certificate = [][]byte{c.Certificates[0].Certificate[0], ca.Cert.Raw}
		}
		return c, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	token := certid.Token{Addr: ln.Addr().String(), ID: "one", Secret: "secret", RootSPKI: certid.SPKIHash(ca.Cert)}
	serveOn(t, ln, &agents{ca: ca, token: token.String()}, newSink())
	f, err := Enrol(t.Context(), []string{token.String()}, 5, link.TransportQUIC, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{}, f, Deps{Log: zerolog.Nop()}); err != nil || len(f.Agents) != 5 || f.Addr != token.Addr {
		t.Errorf("%d agents of %s: %v", len(f.Agents), f.Addr, err)
	}
	token.Secret = "wrong"
	if _, err := Enrol(t.Context(), []string{token.String()}, 1, link.TransportQUIC, nil); err == nil || !strings.Contains(err.Error(), wire.EnrolBadToken) {
		t.Errorf("err = %v", err)
	}
	token.RootSPKI[0]++
	if _, err := exchange(t.Context(), token, link.TransportQUIC, wire.EnrolRequest{}); err == nil {
		t.Error("a collector of another root was believed")
	}
}

func TestConfig(t *testing.T) {
	f := fleetFile(t, linktest.NewCA(t, "root"), 1, time.Now().Add(time.Hour))
	for name, c := range map[string]Config{"interval": {Interval: time.Millisecond}, "transport": {Transport: "smoke"}, "spool": {SpoolRecords: -1}} {
		if _, err := New(c, f, Deps{}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(Config{}, &File{Root: f.Root}, Deps{}); err == nil {
		t.Error("a fleet of nobody")
	}
	f.Agents[0].Agent = 99
	if _, err := New(Config{}, f, Deps{}); err == nil {
		t.Error("an identity with the certificate of another agent was taken")
	}
}
