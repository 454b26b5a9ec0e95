package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

const (
	// Opening in a child process takes some ten milliseconds for an ordinary spool; the
	// bound is for a hang. It grows with the size, for slow disks.
	checkTimeBase = 4 * time.Second
	checkTimeMost = 20 * time.Second
	checkPerByte  = time.Second / (32 << 20)
	// checkMemory is the child's soft limit.
	checkMemory = "GOMEMLIMIT=64MiB"
	// fullCheck bounds the tables of which every block is read, the newest first; of the
	// rest, only what Badger reads. On a disk of 100 MB/s it is 0.6 s.
	fullCheck    = 64 << 20
	maxChildSays = 2 << 10
)

// ExitNotChecked is the exit status of a child that could not check: that says nothing
// of the database.
const ExitNotChecked = 75

// ErrNotChecked says that a check could not be made, which says nothing of the database.
var ErrNotChecked = errors.New("the spool could not be checked")

// CheckDir opens the Badger database in dir for trial, in a view of it, so that nothing
// in dir changes, and reads the checksums of its blocks. It is to run in a process that
// may die of it.
func CheckDir(dir string) error {
	if err := checkTables(dir, fullCheck); err != nil {
		return err
	}
	view, err := viewOf(filepath.Dir(filepath.Clean(dir)), dir, viewPrefix, false)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotChecked, err)
	}
	defer func() { _ = os.RemoveAll(view) }()
	db, err := openStore(view, zerolog.Nop())
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	_, _, _, err = loadAll(db)
	return errors.Join(err, db.close())
}

// ExecChecker gives a Deps.Precheck that runs a program on the directory, which is added
// to the arguments. Exit status 0 means that the database opens; everything else, dying
// and taking too long too, that it does not. Only a check that could not be made gives
// ErrNotChecked.
func ExecChecker(exe string, args ...string) func(ctx context.Context, dir string) error {
	return func(ctx context.Context, dir string) error {
		cmd := exec.CommandContext(ctx, exe, append(args[:len(args):len(args)], dir)...)
		cmd.Env = append(os.Environ(), checkMemory)
		cmd.WaitDelay = time.Second
		says := &tail{}
		cmd.Stderr = says
		err := cmd.Run()
		var exit *exec.ExitError
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("check in a child process: %w", ctx.Err())
		case !errors.As(err, &exit):
			return fmt.Errorf("%w: %w", ErrNotChecked, err)
		case exit.ExitCode() == ExitNotChecked || terminated(exit):
			return fmt.Errorf("%w: %w: %s", ErrNotChecked, err, says)
		}
		return fmt.Errorf("check in a child process: %w: %s", err, says)
	}
}

// terminated tells whether the child was asked to end, as all of a service is that stops.
func terminated(e *exec.ExitError) bool {
	ws, ok := e.Sys().(syscall.WaitStatus)
	return ok && ws.Signaled() && (ws.Signal() == syscall.SIGTERM || ws.Signal() == syscall.SIGINT)
}

// tail keeps the beginning of what a child says: a panic says first what it is.
type tail struct{ bytes.Buffer }

func (t *tail) Write(b []byte) (int, error) {
	if room := maxChildSays - t.Len(); room > 0 {
		t.Buffer.Write(b[:min(len(b), room)])
	}
	return len(b), nil
}

func (t *tail) String() string { return clip(strings.TrimSpace(t.Buffer.String())) }

// precheck has the database opened in a child process first, if the agent gave a way.
func (s *Spool) precheck(dir string) error {
	if s.deps.Precheck == nil || !holdsData(dir) {
		return nil
	}
	limit := min(checkTimeMost, checkTimeBase+time.Duration(dirSize(dir))*checkPerByte)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	started := time.Now()
	err := s.deps.Precheck(ctx, dir)
	if errors.Is(err, ErrNotChecked) {
		s.deps.Log.Warn().Err(err).Msg("spool is opened without a check in a child process")
		return nil
	}
	s.deps.Log.Debug().Err(err).Dur("dur_ms", time.Since(started)).Msg("spool checked in a child process")
	return err
}
