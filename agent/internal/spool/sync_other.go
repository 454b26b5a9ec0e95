//go:build !linux && !windows

package spool

import (
	"errors"
	"math"
	"os"
	"syscall"
)

// flushesLog says that the store flushes Badger's log itself; here a flush of the file
// need not cover what was written by way of a mapping.
const flushesLog = false

// bootID is not known here: every promise is flushed.
func bootID() string { return "" }

// syncData makes what was written to f durable.
func syncData(f *os.File) error { return f.Sync() }

// freeSpace is not known here; the guard then never closes.
func freeSpace(string) (free, total uint64, err error) { return math.MaxInt64, math.MaxInt64, nil }

// lockFile takes the exclusive lock, or says that another process has it.
func lockFile(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == syscall.EWOULDBLOCK {
		return ErrLocked
	}
	return err
}

// allocated is what a file takes on disk, at most.
func allocated(info os.FileInfo) uint64 { return uint64(info.Size()) }

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}
