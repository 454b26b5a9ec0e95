package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"sidetone/agent/internal/spool"
	"sidetone/shared/certid"
	"sidetone/shared/wire"
)

// program is the built binary.
var program string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "sidetone-agent")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		program = filepath.Join(dir, "sidetone-agent")
		if runtime.GOOS == "windows" {
			program += ".exe"
		}
		// As the Makefile builds it, so that what is compiled serves both.
		build := exec.Command("go", "build", "-trimpath", "-tags", "nethttpomithttp2", "-o", program, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// run starts the program and gives what it said and its exit status.
func run(t *testing.T, args ...string) (out, errs string, status int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	cmd.Env = append(os.Environ(), "SIDETONE_CONFIG=", "SIDETONE_STATE_DIR="+t.TempDir())
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

func wantAll(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q is not in:\n%s", w, text)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"--help"}, []string{"sidetone-agent enrol TOKEN", "sidetone-agent doctor", "[pbx]", "client_id", "spool status", "version"}},
		{[]string{"run", "--help"}, []string{"--state-dir", "--config", "--ready-file", "--ledger", "--log-level"}},
		{[]string{"enrol", "--help"}, []string{"TOKEN", "--state-dir", "--force", "--proxy"}},
		{[]string{"doctor", "--help"}, []string{"--state-dir", "--config", "--format"}},
		{[]string{"spool", "status", "--help"}, []string{"--format"}},
		{[]string{"spool", "salvage", "--help"}, []string{"--from", "quarantine", "stopped"}},
		{[]string{"spool", "discard", "--help"}, []string{"--backlog", "--before", "--yes", "stopped"}},
	} {
		out, errs, status := run(t, c.args...)
		if status != 0 || errs != "" {
			t.Errorf("%v: status %d, %s", c.args, status, errs)
		}
		wantAll(t, out, c.want...)
	}
	if out, _, status := run(t, "version"); status != 0 || !strings.HasPrefix(out, "sidetone-agent ") {
		t.Errorf("version: status %d, %q", status, out)
	}
	if _, errs, status := run(t, "frobnicate"); status == 0 || !strings.Contains(errs, "frobnicate") {
		t.Errorf("unknown command: status %d, %q", status, errs)
	}
}

func TestBrokenConfigurationNamesAllMistakes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agent.toml")
	text := "[pbx]\nurl = \"ftp://x\"\nclient_secret = \"hunter2\"\nclientid = \"a\"\ninterval = \"1ms\"\n\n" +
		"[[target]]\nname = \"a\"\nkind = \"pigeon\"\naddress = \"\"\n\n[spool]\nmax_bytes = 5\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, errs, status := run(t, "run", "--config", file)
	if status != exitConfig {
		t.Errorf("status %d, want %d", status, exitConfig)
	}
	wantAll(t, errs, "agent.toml:2: pbx.url", "agent.toml:4: pbx.clientid", "agent.toml:5: pbx.interval",
		"agent.toml:9: target[0].kind", "agent.toml:10: target[0].address", "agent.toml:13: spool.max_bytes")
	out, _, status := run(t, "doctor", "--config", file)
	if status != 1 {
		t.Errorf("doctor: status %d, want 1", status)
	}
	wantAll(t, out, "FAIL  configuration", "pbx.url", "target[0].kind")
	if strings.Contains(errs+out, "hunter2") {
		t.Error("a secret is shown")
	}
}

func TestNotEnrolled(t *testing.T) {
	_, errs, status := run(t, "run")
	if status != exitNotEnrolled {
		t.Errorf("status %d, want %d", status, exitNotEnrolled)
	}
	wantAll(t, errs, "not enrolled", "sidetone-agent enrol TOKEN")
	if n := strings.Count(strings.TrimSpace(errs), "\n"); n != 0 {
		t.Errorf("more than one line: %s", errs)
	}
}

func TestEnrolMistakes(t *testing.T) {
	// A port that was free a moment ago: nobody listens there.
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	addr := c.LocalAddr().String()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	token := certid.Token{Addr: addr, ID: "abc", Secret: strings.Repeat("s", 32), RootSPKI: [32]byte{1}}.String()
	for _, tc := range []struct {
		name, token string
		want        []string
	}{
		{"not a token", "hello", []string{"token"}},
		{"half a token", token[:20], []string{"token"}},
		{"unreachable collector", token, []string{addr, "cannot be reached"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			state := t.TempDir()
			_, errs, status := run(t, "enrol", tc.token, "--state-dir", state)
			if status != 1 {
				t.Errorf("status %d, want 1", status)
			}
			wantAll(t, strings.ToLower(errs), tc.want...)
			if strings.Contains(errs, strings.Repeat("s", 32)) || strings.Contains(errs, "goroutine") {
				t.Errorf("shows a secret or a stack:\n%s", errs)
			}
			if _, err := os.Stat(filepath.Join(state, "identity", "identity.json")); err == nil {
				t.Error("an identity was made")
			}
			t.Log(strings.TrimSpace(errs))
		})
	}
	if _, errs, status := run(t, "enrol"); status == 0 || !strings.Contains(errs, "TOKEN") {
		t.Errorf("no token: status %d, %s", status, errs)
	}
}

func TestSpoolCommands(t *testing.T) {
	state := t.TempDir()
	for _, what := range []string{"status", "verify"} {
		_, errs, status := run(t, "spool", what, "--state-dir", state)
		if status != 1 || !strings.Contains(errs, "has not run yet") {
			t.Errorf("%s of nothing: status %d, %s", what, status, errs)
		}
	}
	s, err := spool.Open(spool.Config{Dir: filepath.Join(state, "spool")}, spool.Deps{Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, _, err := s.Append(wire.ClassSample, []byte("payload")); err != nil {
			t.Fatal(err)
		}
	}
	if _, errs, status := run(t, "spool", "verify", "--state-dir", state); status != 1 || !strings.Contains(errs, "in use") {
		t.Errorf("verify of an open spool: status %d, %s", status, errs)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	out, errs, status := run(t, "spool", "status", "--state-dir", state)
	if status != 0 {
		t.Errorf("status: %d, %s", status, errs)
	}
	wantAll(t, out, "3 waiting", "no agent has it open")
	out, _, status = run(t, "spool", "status", "--state-dir", state, "--format", "json")
	var r spool.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil || status != 0 || r.Records != 3 || r.Running {
		t.Errorf("status as JSON: %v, %+v", err, r)
	}
	out, _, status = run(t, "spool", "verify", "--state-dir", state)
	if status != 0 {
		t.Errorf("verify: status %d", status)
	}
	wantAll(t, out, "3 records", "0 damaged, 0 missing")
}

func TestSpoolSalvageAndDiscard(t *testing.T) {
	state := t.TempDir()
	dir := filepath.Join(state, "spool")
	for _, args := range [][]string{{"salvage"}, {"discard", "--backlog", "--yes"}} {
		if _, errs, status := run(t, append([]string{"spool", "--state-dir", state}, args...)...); status == 0 || errs == "" {
			t.Errorf("%v of nothing: status %d, %s", args, status, errs)
		}
	}
	s, err := spool.Open(spool.Config{Dir: dir}, spool.Deps{Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, _, err := s.Append(wire.ClassSample, []byte("payload")); err != nil {
			t.Fatal(err)
		}
	}
	discard := []string{"spool", "discard", "--state-dir", state, "--backlog"}
	if _, errs, status := run(t, append(discard, "--yes")...); status != 1 || !strings.Contains(errs, "stop the agent first") {
		t.Errorf("discard of an open spool: status %d, %s", status, errs)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, errs, status := run(t, "spool", "check", "--dir", filepath.Join(dir, "db")); status != 0 {
		t.Errorf("check: status %d, %s", status, errs)
	}
	out, errs, status := run(t, discard...)
	if status != 1 || !strings.Contains(out, "nothing was thrown away") {
		t.Errorf("discard without an answer: status %d, %s%s", status, out, errs)
	}
	// A copy from before is a database to salvage from.
	old := filepath.Join(t.TempDir(), "old")
	if err := os.CopyFS(old, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	out, errs, status = run(t, append(discard, "--before", "0s", "--yes")...)
	if status != 0 || !strings.Contains(out, "thrown away: 5 records") {
		t.Errorf("discard: status %d, %s%s", status, out, errs)
	}
	out, errs, status = run(t, "spool", "salvage", "--state-dir", state, "--from", old)
	if status != 0 || !strings.Contains(out, "5 records put back") {
		t.Errorf("salvage: status %d, %s%s", status, out, errs)
	}
	out, _, status = run(t, "spool", "verify", "--state-dir", state)
	if status != 0 || !strings.Contains(out, "5 records") {
		t.Errorf("verify: status %d, %s", status, out)
	}
	out, _, status = run(t, append(discard, "--before", "tomorrow", "--yes")...)
	if status != 1 {
		t.Errorf("discard before tomorrow: status %d, %s", status, out)
	}
}

func TestDoctorOfAFreshMachine(t *testing.T) {
	out, _, status := run(t, "doctor")
	if status != 1 {
		t.Errorf("status %d, want 1 as the agent is not enrolled", status)
	}
	wantAll(t, out, "configuration", "FAIL  identity", "sidetone-agent enrol TOKEN", "collector", "DNS", "clock", "spool", "ICMP", "PBX")
	out, _, status = run(t, "doctor", "--format", "json")
	var list []struct{ Check, Verdict, Detail, Advice string }
	if err := json.Unmarshal([]byte(out), &list); err != nil || status != 1 || len(list) < 8 {
		t.Errorf("as JSON: %v, status %d, %d findings", err, status, len(list))
	}
	for _, f := range list {
		if f.Verdict == "fail" && f.Advice == "" {
			t.Errorf("%s fails without advice: %s", f.Check, f.Detail)
		}
	}
}
