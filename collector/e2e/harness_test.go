//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// root is the top of the tree, bin where the programs lie.
var (
	root = findRoot()
	bin  = filepath.Join(root, "bin")
)

func findRoot() string {
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			panic("no go.work above the test")
		}
		dir = up
	}
}

// artifact names a file that is kept after the run.
func artifact(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(root, "artifacts")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// eventually polls until ok or the time is over; it returns how long it took.
func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok() {
			return time.Since(start)
		}
		if time.Since(start) > limit {
			t.Fatalf("%s: not within %v", what, limit)
		}
		<-tick.C
	}
}

// process is a program that a test started.
type process struct {
	t    *testing.T
	name string
	args []string
	env  []string
	log  string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
}

// start runs bin/name; its output goes to a log that is printed when the test fails.
func start(t *testing.T, dir, name string, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, args: args, env: env, log: filepath.Join(dir, name+".log")}
	p.run()
	t.Cleanup(func() {
		p.stop(20 * time.Second)
		if t.Failed() {
			p.printLog()
		}
	})
	return p
}

func (p *process) run() {
	p.t.Helper()
	f, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command(filepath.Join(bin, p.name), p.args...)
	cmd.Stdout, cmd.Stderr = f, f
	cmd.Env = append(os.Environ(), p.env...)
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // the status is in cmd.ProcessState
		close(done)
	}()
	p.mu.Lock()
	p.cmd, p.done = cmd, done
	p.mu.Unlock()
}

func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}

// stop asks the program to end and reports its exit status.
func (p *process) stop(limit time.Duration) int {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.mu.Unlock()
	_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-done:
	case <-time.After(limit):
		_ = cmd.Process.Kill()
		<-done
		p.t.Errorf("%s did not stop within %v", p.name, limit)
	}
	return cmd.ProcessState.ExitCode()
}

func (p *process) printLog() {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) > 60 {
		lines = lines[len(lines)-60:]
	}
	p.t.Logf("last lines of %s:\n%s", p.log, strings.Join(lines, "\n"))
}

// ready waits for a ready file and decodes it.
func ready(t *testing.T, path string, into any) {
	t.Helper()
	eventually(t, 60*time.Second, "ready file "+path, func() bool {
		text, err := os.ReadFile(path)
		return err == nil && json.Unmarshal(text, into) == nil
	})
}

// output runs bin/name to its end and returns what it printed and its exit status.
func output(t *testing.T, name string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, name), args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s %v: %v", name, args, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// freePort finds a port that is free for UDP and TCP. Programs that must come back at
// the same address cannot ask for port 0 each time.
func freePort(t *testing.T) int {
	t.Helper()
	for range 50 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		u, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port))
		l.Close()
		if err == nil {
			u.Close()
			return port
		}
	}
	t.Fatal("no port that is free for UDP and TCP")
	return 0
}

// site is a collector, a simulated 3CX and an enrolled agent.
type site struct {
	t         *testing.T
	dir       string
	data      string // of the collector
	agentsUDP string
	web       string
	collector *process
	pbx       *process
	agent     *process
	pbxURL    string
	pbxCA     string
}

func (s *site) collectorData() string { return s.data }
func (s *site) agentState() string    { return filepath.Join(s.dir, "agent") }
func (s *site) ledgerFile() string    { return filepath.Join(s.dir, "agent.ledger") }
func (s *site) agentConfig() string   { return filepath.Join(s.dir, "agent.toml") }

// newSite starts collector and 3CX; config is the collector's TOML.
func newSite(t *testing.T, config string) *site {
	t.Helper()
	dir := t.TempDir()
	return newSiteAt(t, dir, filepath.Join(dir, "collector"), config)
}

// newSiteAt has the collector's data in a directory of its own.
func newSiteAt(t *testing.T, dir, data, config string) *site {
	t.Helper()
	s := &site{t: t, dir: dir, data: data}
	s.agentsUDP = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	s.web = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	cfg := filepath.Join(s.dir, "collector.toml")
	if err := os.WriteFile(cfg, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	readyFile := filepath.Join(s.dir, "collector.ready")
	s.collector = start(t, s.dir, "sidetone-collector", nil, "serve", "--config", cfg,
		"--data-dir", s.collectorData(), "--agents", s.agentsUDP, "--web", s.web, "--reflector", "127.0.0.1:0",
		"--ready-file", readyFile)
	var r struct {
		Web string `json:"web"`
	}
	ready(t, readyFile, &r)
	s.startPBX()
	return s
}

func (s *site) startPBX() {
	readyFile := filepath.Join(s.dir, "pbxsim.ready")
	s.pbxCA = filepath.Join(s.dir, "pbx-ca.pem")
	s.pbx = start(s.t, s.dir, "pbxsim", nil, "--listen", "127.0.0.1:0", "--generation", "v20",
		"--client-id", "sidetone", "--client-secret", "right-secret", "--user", "100", "--password", "right-password",
		"--ca-out", s.pbxCA, "--ready-file", readyFile)
	var r struct {
		URL string `json:"url"`
	}
	ready(s.t, readyFile, &r)
	s.pbxURL = r.URL
}

// token makes an enrolment token.
func (s *site) token(more ...string) string {
	s.t.Helper()
	args := append([]string{"token", "create", "--data-dir", s.collectorData(), "--agents", s.agentsUDP,
		"--tenant", "Test MSP", "--customer", "Test customer", "--site", "Test site", "--quiet"}, more...)
	out, errs, status := output(s.t, "sidetone-collector", args...)
	if status != 0 {
		s.t.Fatalf("token create: %s", errs)
	}
	return strings.TrimSpace(out)
}

// enrol enrols the agent and starts it with the standard configuration.
func (s *site) startAgent(more string) {
	s.t.Helper()
	if _, errs, status := output(s.t, "sidetone-agent", "enrol", s.token(), "--state-dir", s.agentState()); status != 0 {
		s.t.Fatalf("enrol: %s", errs)
	}
	config := fmt.Sprintf(`
[pbx]
url = %q
client_id = "sidetone"
client_secret = "right-secret"
ca_file = %q

[[target]]
name = "loopback"
kind = "icmp"
address = "127.0.0.1"
%s`, s.pbxURL, s.pbxCA, more)
	if err := os.WriteFile(s.agentConfig(), []byte(config), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.agent = start(s.t, s.dir, "sidetone-agent", nil, "run", "--state-dir", s.agentState(),
		"--config", s.agentConfig(), "--ready-file", filepath.Join(s.dir, "agent.ready"), "--ledger", s.ledgerFile())
	var r map[string]any
	ready(s.t, filepath.Join(s.dir, "agent.ready"), &r)
}

// sqlIn runs a query with the subcommand and decodes the rows.
func sqlIn(t *testing.T, dataDir, query string) ([]map[string]any, error) {
	t.Helper()
	out, errs, status := output(t, "sidetone-collector", "sql", "--data-dir", dataDir, "--format", "jsonl", query)
	if status != 0 {
		return nil, fmt.Errorf("sql %q: %s", query, errs)
	}
	var rows []map[string]any
	dec := json.NewDecoder(strings.NewReader(out))
	dec.UseNumber()
	for {
		var row map[string]any
		if err := dec.Decode(&row); err == io.EOF {
			return rows, nil
		} else if err != nil {
			return nil, fmt.Errorf("sql %q: %w", query, err)
		}
		rows = append(rows, row)
	}
}

func (s *site) sql(query string) []map[string]any {
	s.t.Helper()
	rows, err := sqlIn(s.t, s.collectorData(), query)
	if err != nil {
		s.t.Fatal(err)
	}
	return rows
}

// count runs a query that gives one number; an error counts as not yet.
func (s *site) count(query string) int {
	rows, err := sqlIn(s.t, s.collectorData(), query)
	if err != nil || len(rows) != 1 {
		return -1
	}
	for _, v := range rows[0] {
		var n int
		if _, err := fmt.Sscan(fmt.Sprint(v), &n); err == nil {
			return n
		}
	}
	return -1
}

// sim changes the simulated 3CX.
func (s *site) sim(path string, body any) {
	s.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := httpsClient(s.t, s.pbxCA).Post(s.pbxURL+"/sim/"+path, "application/json", bytes.NewReader(text))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		s.t.Fatalf("POST /sim/%s: %s %s", path, resp.Status, b)
	}
}

// httpsClient trusts one CA.
func httpsClient(t *testing.T, caFile string) *http.Client {
	t.Helper()
	pem, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatalf("no certificate in %s", caFile)
	}
	return &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true},
	}
}
