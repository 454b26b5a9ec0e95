//go:build !windows

package identity

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// syncDir makes a new directory entry survive a power loss.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// inheritOwner gives what root has just made to the owner of its directory: root
// enrols, and the service, which runs as a user of its own, must be able to read it.
func inheritOwner(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Uid == 0 {
		return nil
	}
	return os.Lchown(path, int(st.Uid), int(st.Gid))
}
