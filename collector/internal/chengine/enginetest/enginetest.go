// Package enginetest runs the real embedded engine for tests: the test binary starts
// itself again as the engine's child process.
package enginetest

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"sidetone/collector/internal/chengine"
)

const (
	childEnv   = "SIDETONE_ENGINETEST_CHILD"
	requireEnv = "SIDETONE_REQUIRE_ENGINE"
)

// Child serves the engine and exits, when this process was started as the engine.
// Call it first in TestMain.
func Child() {
	if os.Getenv(childEnv) == "" {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := chengine.Serve(ctx, chengine.ServeConfig{
		Lib: os.Args[1], DataDir: os.Args[2], Socket: os.Args[3], Log: zerolog.New(os.Stderr),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Lib finds the library, or skips the test; with SIDETONE_REQUIRE_ENGINE it fails.
func Lib(t testing.TB) string {
	t.Helper()
	lib, err := chengine.FindLib("")
	if err == nil {
		return lib
	}
	if root := moduleRoot(); root != "" {
		if lib, err2 := chengine.FindLib(filepath.Join(root, "build", "engine", "libchdb.so")); err2 == nil {
			return lib
		}
	}
	if os.Getenv(requireEnv) != "" {
		t.Fatalf("%s is set, but: %v", requireEnv, err)
	}
	t.Skipf("the engine is not here: %v", err)
	return ""
}

// moduleRoot is the folder of go.work, upwards from here.
func moduleRoot() string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			return ""
		}
		dir = up
	}
}

// Config is a supervisor's configuration for an engine in dir.
func Config(t testing.TB, dir string) chengine.SuperConfig {
	t.Helper()
	lib := Lib(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sock := filepath.Join(shortDir(t), "s")
	return chengine.SuperConfig{
		Exe: exe, Lib: lib, DataDir: dir, Socket: sock, Log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel),
		Args: []string{lib, dir, sock}, Env: []string{childEnv + "=1"},
	}
}

// shortDir is a directory whose path leaves room for a socket's name.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "eng")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Start runs an engine in dir until the test ends, or until stop, which waits.
func Start(t testing.TB, dir string) (s *chengine.Supervisor, stop func()) {
	t.Helper()
	s, err := chengine.New(Config(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			t.Errorf("supervisor: %v", err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	select {
	case <-s.Ready():
	case <-time.After(90 * time.Second):
		t.Fatalf("the engine did not become ready: %+v", s.State())
	}
	return s, stop
}

// Kill ends the child as kill -9 does.
func Kill(t testing.TB, s *chengine.Supervisor) {
	t.Helper()
	pid := s.State().PID
	if pid == 0 {
		t.Fatal("the engine has no process to kill")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}
