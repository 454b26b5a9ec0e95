package agentd

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"sidetone/agent/internal/config"
	"sidetone/agent/internal/identity"
	"sidetone/agent/internal/spool"
	"sidetone/shared/certid"
	"sidetone/shared/link"
	"sidetone/shared/link/linktest"
	"sidetone/shared/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// farEnd is a collector that keeps what it is sent, over the real link.
type farEnd struct {
	ca *linktest.CA
	ln *link.Listener

	mu      sync.Mutex
	silent  bool            // takes nothing and acks nothing; guarded by mu
	records map[string]int  // epoch/seq -> times; guarded by mu
	windows map[string]int  // target/observed -> rows in distinct records; guarded by mu
	kinds   map[string]bool // guarded by mu
	changed chan struct{}
}

func newFarEnd(t *testing.T) *farEnd {
	t.Helper()
	f := &farEnd{ca: linktest.NewCA(t, "root"), records: map[string]int{}, windows: map[string]int{},
		kinds: map[string]bool{}, changed: make(chan struct{}, 1)}
	server := f.ca.Server()
	ln, err := link.Listen(link.ListenConfig{Addr: "127.0.0.1:0", Log: zerolog.Nop(), TLS: func(alpn string) (*tls.Config, error) {
		c, err := server(alpn)
		if err == nil { // an enrolling agent wants to see the root
			c.Certificates[0].Certificate = append(c.Certificates[0].Certificate[:1:1], f.ca.Cert.Raw)
		}
		return c, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	f.ln = ln
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept(ctx)
			if err != nil {
				return
			}
			wg.Go(func() { f.talk(ctx, conn) })
		}
	})
	t.Cleanup(func() {
		cancel()
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
	return f
}

func (f *farEnd) talk(ctx context.Context, conn *link.Conn) {
	for {
		msg, err := conn.Recv(ctx)
		if err != nil {
			_ = conn.CloseWith(wire.CloseShutdown, "")
			return
		}
		switch m := msg.(type) {
		case *wire.EnrolRequest:
			csr, err := x509.ParseCertificateRequest(m.CSR)
			if err != nil {
				return
			}
			cert := f.ca.Sign(certid.ID{Tenant: 3, Agent: 7, Generation: 1}, csr.PublicKey, time.Now().Add(12*time.Hour))
			_ = conn.Send(ctx, wire.EnrolResponse{Chain: [][]byte{cert.Raw}, Root: f.ca.Cert.Raw, Tenant: 3, Agent: 7, Generation: 1, Site: "HQ"})
		case *wire.Hello:
			_ = conn.Send(ctx, wire.Welcome{Capability: wire.Capability, Version: "test", NowMS: time.Now().UnixMilli(), Window: 8})
		case *wire.Ping:
			_ = conn.Send(ctx, wire.Pong{Number: m.Number})
		case *wire.Frame:
			f.answer(ctx, conn, m)
		case *wire.Bundle:
			frames, err := m.Frames()
			if err != nil {
				_ = conn.CloseWith(wire.CloseProtocol, err.Error())
				return
			}
			for i := range frames {
				f.answer(ctx, conn, &frames[i])
			}
		}
	}
}

func (f *farEnd) answer(ctx context.Context, conn *link.Conn, m *wire.Frame) {
	if f.take(m) {
		_ = conn.Send(ctx, wire.Ack{Epoch: m.Epoch, Ranges: []wire.Range{{From: m.Seq, To: m.Seq}}})
	}
}

func (f *farEnd) take(m *wire.Frame) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.silent {
		return false
	}
	id := fmt.Sprintf("%d/%d", m.Epoch, m.Seq)
	f.records[id]++
	set, err := wire.DecodePayload(m.Payload)
	if err != nil {
		return false
	}
	if f.records[id] == 1 {
		for _, w := range set.ProbeWindows {
			f.windows[fmt.Sprintf("%d/%d", w.Target, w.Observed)]++
		}
	}
	for kind, n := range map[string]int{"health": len(set.AgentHealth), "link": len(set.LinkEvents), "window": len(set.ProbeWindows)} {
		if n > 0 {
			f.kinds[kind] = true
		}
	}
	select {
	case f.changed <- struct{}{}:
	default:
	}
	return true
}

func (f *farEnd) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.After(60 * time.Second)
	for {
		f.mu.Lock()
		done := ok()
		f.mu.Unlock()
		if done {
			return
		}
		select {
		case <-f.changed:
		case <-limit:
			t.Fatalf("not seen in time: %s", what)
		}
	}
}

func (f *farEnd) enrol(t *testing.T, dir string) {
	t.Helper()
	tok := certid.Token{Addr: f.ln.Addr().String(), ID: "tok", Secret: "secretsecretsecret", RootSPKI: certid.SPKIHash(f.ca.Cert)}
	if _, err := identity.Enrol(t.Context(), dir, tok.String(), identity.EnrolOptions{}); err != nil {
		t.Fatal(err)
	}
}

// running is an agent in this process.
type running struct {
	stop context.CancelFunc
	done chan error
}

func startAgent(t *testing.T, dir string, opts Options) *running {
	t.Helper()
	file := filepath.Join(dir, "agent.toml")
	text := "[agent]\ndefault_targets = false\n[[target]]\nname = \"closed port\"\nkind = \"tcp\"\naddress = \"127.0.0.1:1\"\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file, CheckConfig)
	if err != nil {
		t.Fatal(err)
	}
	opts.StateDir, opts.Config, opts.Log = dir, cfg, zerolog.Nop()
	a, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{stop: cancel, done: make(chan error, 1)}
	go func() { r.done <- a.Run(ctx) }()
	return r
}

func (r *running) wait(t *testing.T) {
	t.Helper()
	r.stop()
	select {
	case err := <-r.done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the agent does not stop")
	}
}

func readLedger(t *testing.T, path string) (records, windows map[string]bool) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	records, windows = map[string]bool{}, map[string]bool{}
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if strings.TrimSpace(sc.Text()) == "" {
			continue
		}
		var l line
		if err := json.Unmarshal(sc.Bytes(), &l); err != nil {
			t.Fatalf("ledger line %q: %v", sc.Text(), err)
		}
		records[fmt.Sprintf("%d/%d", l.Epoch, l.Seq)] = true
		for _, w := range l.Windows {
			windows[fmt.Sprintf("%d/%d", w[0], w[1])] = true
		}
	}
	return records, windows
}

// TestNothingIsLost runs an agent against a collector that goes deaf for a while, stops
// it, starts it again, and compares what the ledger says with what arrived.
func TestNothingIsLost(t *testing.T) {
	far, dir := newFarEnd(t), t.TempDir()
	far.enrol(t, dir)
	opts := Options{ReadyFile: filepath.Join(dir, "ready"), Ledger: filepath.Join(dir, "ledger")}

	a := startAgent(t, dir, opts)
	far.await(t, "health, link and a window", func() bool { return len(far.kinds) == 3 })
	var ready map[string]any
	if b, err := os.ReadFile(opts.ReadyFile); err != nil || json.Unmarshal(b, &ready) != nil || ready["agent"] != 7.0 || ready["tenant"] != 3.0 {
		t.Errorf("ready file: %v %v", ready, err)
	}
	if c, ok := ReadClock(dir); !ok || c.OffsetMS > 60_000 || c.OffsetMS < -60_000 {
		t.Errorf("comparison of clocks: %+v %v", c, ok)
	}
	far.mu.Lock()
	far.silent = true
	far.mu.Unlock()
	a.wait(t) // with records that nobody acked
	st, err := spool.ReadStatus(filepath.Join(dir, "spool"))
	if err != nil || st.Running || st.Records == 0 {
		t.Fatalf("the stopped agent's spool: %+v %v", st, err)
	}

	far.mu.Lock()
	far.silent = false
	before := len(far.records)
	far.mu.Unlock()
	a = startAgent(t, dir, opts)
	far.await(t, "the backlog", func() bool { return len(far.records) >= before+int(st.Records)+1 })
	a.wait(t)

	records, windows := readLedger(t, opts.Ledger)
	c, err := spool.Verify(filepath.Join(dir, "spool"), zerolog.Nop())
	if err != nil || !c.OK() {
		t.Errorf("verify: %+v %v", c, err)
	}
	far.mu.Lock()
	defer far.mu.Unlock()
	missing := 0
	for r := range records {
		if far.records[r] == 0 {
			missing++ // only what was appended in the last moment and waits for the next start
		}
	}
	if uint64(missing) > c.Records {
		t.Errorf("%d of %d records are neither at the collector nor in the spool (%d there)", missing, len(records), c.Records)
	}
	for r := range far.records {
		if !records[r] {
			t.Errorf("record %s arrived and is not in the ledger", r)
		}
	}
	for w := range far.windows {
		if !windows[w] || far.windows[w] != 1 {
			t.Errorf("window %s: in the ledger %v, arrived in %d records", w, windows[w], far.windows[w])
		}
	}
	if len(records) == 0 || len(windows) == 0 {
		t.Error("nothing was produced")
	}
}

func TestNotEnrolled(t *testing.T) {
	if _, err := Open(Options{StateDir: t.TempDir(), Config: &config.Config{}, Log: zerolog.Nop()}); !errors.Is(err, identity.ErrNotEnrolled) {
		t.Errorf("error %v", err)
	}
}

func TestReadyFileThatCannotBeWritten(t *testing.T) {
	far, dir := newFarEnd(t), t.TempDir()
	far.enrol(t, dir)
	a := startAgent(t, dir, Options{ReadyFile: filepath.Join(dir, "no", "such", "directory")})
	select {
	case err := <-a.done:
		if err == nil || !strings.Contains(err.Error(), "ready file") {
			t.Errorf("error %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("the agent runs though it cannot say so")
	}
	a.stop()
	if _, err := spool.Verify(filepath.Join(dir, "spool"), zerolog.Nop()); err != nil {
		t.Errorf("the spool was not closed: %v", err)
	}
}

func TestLedgerAfterHalfALine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	if err := os.WriteFile(path, []byte(`{"epoch":1,"se`), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := openLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.write(5, 6, wire.ClassSample, healthSet()), l.close()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	last := strings.Split(strings.TrimSpace(string(b)), "\n")[1]
	if last != `{"epoch":5,"seq":6,"class":1,"rows":{"agent_health":1}}` {
		t.Errorf("line %s", last)
	}
}
