package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sidetone/shared/wire"
)

// checkMode is the first argument of such a child.
const checkMode = "spool-check-child"

// checkChild is the test binary as the child process of ExecChecker: it checks, or does
// what a child should not.
func checkChild(mode, dir string) int {
	switch mode {
	case "crash":
		panic("badger is unhappy")
	case "hang":
		select {}
	case "not":
		return ExitNotChecked
	}
	if err := CheckDir(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		if errors.Is(err, ErrNotChecked) {
			return ExitNotChecked
		}
		return 1
	}
	return 0
}

func childChecker(t testing.TB, mode string) func(context.Context, string) error {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return ExecChecker(exe, checkMode, mode)
}

// filled makes a closed spool with records.
func filled(t *testing.T, cfg Config, n int) map[uint64]string {
	s := open(t, cfg, testDeps(t))
	want := map[uint64]string{}
	for i := range n {
		p := fmt.Sprint(i, strings.Repeat("d", 700))
		_, q := add(t, s, wire.ClassSample, p)
		want[q] = p
	}
	closeIt(t, s)
	return want
}

func TestCheckInChildProcess(t *testing.T) {
	for _, c := range []struct {
		name, mode  string
		break_      func(t *testing.T, dir string)
		quarantined bool
		lost        int // at most
	}{
		{name: "all is well", mode: "check"},
		{name: "a block in the middle", mode: "check", quarantined: true, lost: 8, break_: func(t *testing.T, dir string) {
			flip(t, dbFiles(t, dir, "*.sst")[0], 16, func(n int) int { return n / 3 })
		}},
		{name: "manifest is garbage", mode: "check", quarantined: true, break_: func(t *testing.T, dir string) {
			garbage(t, filepath.Join(dir, dbName, "MANIFEST"))
		}},
		{name: "the child crashes", mode: "crash", quarantined: true},
		{name: "the child cannot check", mode: "not"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := Config{Dir: t.TempDir()}
			want := filled(t, cfg, 60)
			if c.break_ != nil {
				c.break_(t, cfg.Dir)
			}
			deps := testDeps(t)
			deps.Precheck = childChecker(t, c.mode)
			started := time.Now()
			s := open(t, cfg, deps)
			t.Logf("opened in %s", time.Since(started))
			if got := len(Quarantined(cfg.Dir)) > 0; got != c.quarantined {
				t.Errorf("quarantined: %v", got)
			}
			for _, r := range readAll(t, s) {
				if want[r.Seq] != string(r.Payload) {
					t.Errorf("record %d came back different", r.Seq)
				}
				delete(want, r.Seq)
			}
			if len(want) > c.lost {
				t.Errorf("%d records lost, want at most %d", len(want), c.lost)
			}
			for _, g := range s.TakeGaps(99) {
				for q := g.From; q <= g.To; q++ {
					delete(want, q)
				}
			}
			if len(want) > 0 {
				t.Errorf("%d records are neither there nor in a gap", len(want))
			}
		})
	}
}

func TestCheckThatHangs(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := childChecker(t, "hang")(ctx, t.TempDir())
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrNotChecked) {
		t.Errorf("a child that hangs: %v", err)
	}
	err = ExecChecker(filepath.Join(t.TempDir(), "nothing"))(t.Context(), t.TempDir())
	if !errors.Is(err, ErrNotChecked) {
		t.Errorf("a child that cannot be started: %v", err)
	}
	err = childChecker(t, "crash")(t.Context(), t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "badger is unhappy") {
		t.Errorf("a child that crashes: %v", err)
	}
}

// TestCheckDirChangesNothing also for what was killed.
func TestCheckDirChangesNothing(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	s := open(t, cfg, testDeps(t))
	for range 20 {
		add(t, s, wire.ClassSample, strings.Repeat("x", 500))
	}
	dir := copyDir(t, cfg.Dir)
	closeIt(t, s)
	before := contents(t, dir)
	if err := CheckDir(filepath.Join(dir, dbName)); err != nil {
		t.Fatal(err)
	}
	after := contents(t, dir)
	if len(before) != len(after) {
		t.Errorf("%d files, then %d", len(before), len(after))
	}
	for name, b := range before {
		if after[name] != b {
			t.Errorf("%s changed", name)
		}
	}
}

func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, path := range fileList(t, dir) {
		if st, err := os.Stat(path); err != nil || st.IsDir() {
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		out[path] = string(b)
	}
	return out
}
