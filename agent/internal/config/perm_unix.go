//go:build !windows

package config

import (
	"fmt"
	"os"
)

// readableByOthers warns of a file with a secret that any user of this machine can read.
func readableByOthers(path string) string {
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm()&0o004 == 0 {
		return ""
	}
	return fmt.Sprintf("%s holds a secret and every user of this machine can read it: chmod o-rwx %s", path, path)
}
