//go:build !windows

package identity_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestRootEnrolsForTheService(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	c := newCollector(t).serve(t)
	dir := t.TempDir()
	check(t, os.Chown(dir, 4711, 4712))
	i := enrol(t, dir, c.token("one"))
	csr, err := i.NewCSR()
	check(t, err)
	check(t, i.Install(c.agentChain(t, csr, id(2)), 2))
	seen := 0
	check(t, filepath.Walk(filepath.Join(dir, "identity"), func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		seen++
		if st := info.Sys().(*syscall.Stat_t); st.Uid != 4711 || st.Gid != 4712 {
			t.Errorf("%s belongs to %d:%d", path, st.Uid, st.Gid)
		}
		return nil
	}))
	if seen != 12 { // two slots of four files, the switch, three directories
		t.Errorf("%d files seen, want 12", seen)
	}
	privateFiles(t, dir)
}
