package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"sidetone/agent/internal/config"
	"sidetone/agent/internal/spool"
	"sidetone/agent/internal/threecx"
	"sidetone/shared/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestClock(t *testing.T) {
	for _, c := range []struct {
		name  string
		clock *Clock
		want  Verdict
		says  string
	}{
		{"never compared", nil, Skip, "not compared yet"},
		{"right", &Clock{Offset: 300 * time.Millisecond, At: time.Now()}, OK, "300ms ahead of"},
		{"a little wrong", &Clock{Offset: -3 * time.Second, At: time.Now()}, Warn, "3s behind"},
		{"wrong by an hour", &Clock{Offset: time.Hour, At: time.Now()}, Fail, "1h0m0s ahead of"},
	} {
		f := checkClock(Options{Clock: c.clock})
		if f.Verdict != c.want || !strings.Contains(f.Detail, c.says) || (f.Verdict == Fail || f.Verdict == Warn) != (f.Advice != "") {
			t.Errorf("%s: %+v", c.name, f)
		}
	}
}

func TestSpoolFindings(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	if f := checkSpool(Options{SpoolDir: dir}); f.Verdict != OK || !strings.Contains(f.Detail, "not run yet") {
		t.Errorf("no spool: %+v", f)
	}
	if f := checkSpool(Options{}); f.Verdict != Skip {
		t.Errorf("no configuration: %+v", f)
	}
	s, err := spool.Open(spool.Config{Dir: dir}, spool.Deps{Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Append(wire.ClassSample, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if f := checkSpool(Options{SpoolDir: dir}); f.Verdict != Warn || !strings.Contains(f.Detail, "1 records wait") || !strings.Contains(f.Detail, "does not run") {
		t.Errorf("stopped agent: %+v", f)
	}
	if err := os.WriteFile(filepath.Join(dir, "status.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f := checkSpool(Options{SpoolDir: dir}); f.Verdict != Fail || f.Advice == "" {
		t.Errorf("broken status file: %+v", f)
	}
}

func TestConfigFindings(t *testing.T) {
	for _, c := range []struct {
		name string
		o    Options
		want Verdict
	}{
		{"fine", Options{Config: &config.Config{}, ConfigFile: "none"}, OK},
		{"mistakes", Options{ConfigError: errors.New("agent.toml:2: pbx.url: empty")}, Fail},
		{"warnings", Options{Config: &config.Config{Warnings: []string{"readable"}}}, Warn},
	} {
		if f := checkConfig(c.o); f.Verdict != c.want || (f.Verdict == Fail && f.Advice == "") {
			t.Errorf("%s: %+v", c.name, f)
		}
	}
}

func TestNames(t *testing.T) {
	dir := t.TempDir()
	byAddress := &config.Config{PBX: &config.PBX{Config: threecx.Config{URL: "https://192.0.2.1:5001"}}}
	if fs := checkNames(t.Context(), Options{StateDir: dir, Config: byAddress}); len(fs) != 1 || fs[0].Verdict != OK || !strings.Contains(fs[0].Detail, "not needed") {
		t.Errorf("addresses only: %+v", fs)
	}
	// .invalid never exists (RFC 6761); without any resolver the answer is another failure.
	unknown := &config.Config{PBX: &config.PBX{Config: threecx.Config{URL: "https://pbx.invalid"}}}
	if fs := checkNames(t.Context(), Options{StateDir: dir, Config: unknown}); len(fs) != 1 || fs[0].Verdict != Fail || fs[0].Advice == "" {
		t.Errorf("a name that does not exist: %+v", fs)
	}
}

func TestPBXFindings(t *testing.T) {
	report := threecx.Report{
		Steps:    []threecx.Step{{Name: "reach", OK: true, Detail: "1 ms"}, {Name: "sign-in", Detail: "wrong credentials", Advice: "look at the key"}},
		Readings: []threecx.Reading{{Path: threecx.PathTrunks, OK: true}, {Path: threecx.PathSBCs, Detail: "too few rights"}},
	}
	fs := pbxFindings(report, errors.New("wrong"))
	if len(fs) != 3 || fs[0].Verdict != OK || fs[1].Verdict != Fail || fs[1].Advice != "look at the key" || fs[2].Verdict != Warn {
		t.Errorf("findings %+v", fs)
	}
	if fs := pbxFindings(threecx.Report{}, errors.New("nothing at all")); len(fs) != 1 || fs[0].Verdict != Fail {
		t.Errorf("an error before the first step: %+v", fs)
	}
}

// TestPBXUnreachable runs the real client against a port where nobody listens.
func TestPBXUnreachable(t *testing.T) {
	cfg := &config.Config{PBX: &config.PBX{Config: threecx.Config{URL: "https://127.0.0.1:1", User: "100", Password: "x"}}}
	fs := checkPBX(t.Context(), Options{Config: cfg})
	if len(fs) != 1 || fs[0].Verdict != Fail || fs[0].Advice == "" {
		t.Errorf("findings %+v", fs)
	}
}

func TestExamineCanBeLeft(t *testing.T) {
	n := 0
	for range Examine(t.Context(), Options{StateDir: t.TempDir(), Config: &config.Config{}, ConfigFile: "none"}) {
		if n++; n == 2 {
			break
		}
	}
	if n != 2 {
		t.Errorf("%d findings", n)
	}
}
