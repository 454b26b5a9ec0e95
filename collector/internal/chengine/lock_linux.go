package chengine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sidetone/shared/backoff"
)

// lockDir takes the directory for this process. The kernel gives it back at the end
// of the process, whatever ends it.
func lockDir(ctx context.Context, dir string, patience time.Duration) (unlock func(), err error) {
	path := filepath.Join(dir, "engine.lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the engine's directory: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) || backoff.Sleep(ctx, 100*time.Millisecond) != nil {
			break
		}
	}
	if err != nil {
		owner, _ := os.ReadFile(path)
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: process %s holds %s; stop that collector or give this one another --data-dir",
				ErrInUse, strings.TrimSpace(string(owner)), dir)
		}
		return nil, fmt.Errorf("lock the engine's directory %s: %w", dir, err)
	}
	if err := f.Truncate(0); err == nil && patience > 0 {
		f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0) // for people only
	}
	return func() { f.Close() }, nil
}

func narrowUmask() (restore func()) {
	old := syscall.Umask(0o177)
	return func() { syscall.Umask(old) }
}

// bindToParent makes the child end with the thread that started it, and keeps Ctrl-C
// of a terminal to the parent, which stops the child when its own queues are empty.
func bindToParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
}

func ownedByUs(fi os.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Getuid()
}
