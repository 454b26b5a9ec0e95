package chengine_test

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rs/zerolog"

	"sidetone/collector/internal/chengine"
	"sidetone/collector/internal/chengine/enginetest"
)

const parentEnv = "SIDETONE_CHENGINE_TEST_PARENT"

// beParent supervises an engine until somebody kills this process.
func beParent() {
	sup, err := chengine.New(chengine.SuperConfig{
		DataDir: os.Args[2], Socket: os.Args[3], Log: zerolog.Nop(), Args: os.Args[1:4], Env: []string{"SIDETONE_ENGINETEST_CHILD=1"},
	})
	if err != nil {
		panic(err)
	}
	go func() {
		<-sup.Ready()
		os.Stdout.WriteString("ready\n")
	}()
	sup.Run(context.Background())
}

// TestChildDiesWithItsParent kills the parent as kill -9 does; the child must leave the
// directory to the next one.
func TestChildDiesWithItsParent(t *testing.T) {
	dir := t.TempDir()
	cfg := enginetest.Config(t, dir)
	cmd := exec.Command(cfg.Exe, cfg.Args...)
	cmd.Env = append(os.Environ(), parentEnv+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		cmd.Process.Kill()
		t.Fatalf("the parent says %q, %v", line, err)
	}
	owner, err := os.ReadFile(filepath.Join(dir, "engine.lock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	child := "/proc/" + strings.TrimSpace(string(owner))
	waitFor(t, "end of the child", func() bool { _, err := os.Stat(child); return errors.Is(err, os.ErrNotExist) || isZombie(child) })
	s, _ := enginetest.Start(t, dir)
	if got := newClient(t, s.Socket()).sql("SELECT 1"); got != "1" {
		t.Errorf("the next engine says %q", got)
	}
}

// isZombie: an orphan in a container may have nobody who reaps it.
func isZombie(proc string) bool {
	b, err := os.ReadFile(proc + "/stat")
	return err == nil && strings.Contains(string(b), ") Z ")
}

// TestSignalsStillReachGo: loading the library must not take Go's signal handlers, so
// that a stop is orderly.
func TestSignalsStillReachGo(t *testing.T) {
	s, _ := enginetest.Start(t, t.TempDir())
	pid := s.State().PID
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "another child", func() bool { st := s.State(); return st.Ready && st.PID != pid })
	if st := s.State(); st.Restarts != 1 {
		t.Errorf("restarts %d", st.Restarts)
	}
}
