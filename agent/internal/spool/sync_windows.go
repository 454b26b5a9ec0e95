package spool

import (
	"os"

	"golang.org/x/sys/windows"
)

// flushesLog says that the store flushes Badger's log itself; here a flush of the file
// need not cover what was written by way of a mapping.
const flushesLog = false

// bootID is not known here: every promise is flushed.
func bootID() string { return "" }

// syncData makes what was written to f durable.
func syncData(f *os.File) error { return f.Sync() }

// freeSpace gives the bytes that this user may still write at path, and the size of
// the filesystem.
func freeSpace(path string) (free, total uint64, err error) {
	p, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, 0, err
	}
	var all uint64
	err = windows.GetDiskFreeSpaceEx(p, &free, &total, &all)
	return free, total, err
}

// lockFile takes the exclusive lock, or says that another process has it.
func lockFile(f *os.File) error {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
		0, 1, 0, new(windows.Overlapped))
	if err == windows.ERROR_LOCK_VIOLATION {
		return ErrLocked
	}
	return err
}

// allocated is what a file takes on disk, at most.
func allocated(info os.FileInfo) uint64 { return uint64(info.Size()) }

// syncDir does nothing: a directory cannot be flushed here.
func syncDir(string) error { return nil }
