//go:build e2e

package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// small mounts a file system of its own size, so that a disk can be filled without
// harm to others.
func small(t *testing.T, dir string, size string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
}

// fill takes all space of the file system but leave bytes; the returned function gives
// it back.
func fill(t *testing.T, dir string, leave int64) func() {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n := int64(st.Bavail)*st.Bsize - leave; n > 0 {
		if err := syscall.Fallocate(int(f.Fd()), 0, 0, n); err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

// The agent's disk is full: it goes on in memory, says so, and comes back when there is
// space, in the same process.
func TestAgentDiskFull(t *testing.T) {
	t.Parallel()
	s := newSite(t, "")
	small(t, s.agentState(), "700m")
	s.startAgent("")
	eventually(t, 60*time.Second, "first rows", func() bool { return s.count("SELECT count() FROM sidetone.frame") > 0 })
	pid := s.agent.pid()
	state := func(to string) bool {
		return s.count("SELECT count() FROM sidetone.state_change WHERE name = 'spool' AND to_state = '"+to+"'") > 0
	}
	for i, leave := range []int64{8 << 20, 0}[:bounded(1, 2)] {
		free := fill(t, s.agentState(), leave)
		records := len(readLedger(t, s.ledgerFile()).records)
		if i == 0 {
			eventually(t, 60*time.Second, "the spool says that it is degraded", func() bool { return state("spool_degraded") })
		}
		eventually(t, 30*time.Second, "records with a full disk", func() bool {
			return len(readLedger(t, s.ledgerFile()).records) > records+2
		})
		free()
		took := eventually(t, 60*time.Second, "the spool is back on disk", func() bool { return state("spool_ok") })
		t.Logf("back on disk %v after space came back", took.Round(time.Second))
	}
	if s.agent.pid() != pid {
		t.Error("the agent was started again")
	}
	s.account(60 * time.Second)
}

// The collector's disk is full: nothing is acked that is not stored, and nothing is lost.
func TestCollectorDiskFull(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "small")
	small(t, dir, "400m")
	s := newSiteAt(t, t.TempDir(), filepath.Join(dir, "collector"), "")
	s.startAgent("")
	eventually(t, 60*time.Second, "first rows", func() bool { return s.count("SELECT count() FROM sidetone.frame") > 0 })
	free := fill(t, dir, 0)
	before := len(readLedger(t, s.ledgerFile()).records)
	eventually(t, 60*time.Second, "records while the collector's disk is full", func() bool {
		return len(readLedger(t, s.ledgerFile()).records) > before+4
	})
	pid := s.collector.pid()
	free()
	s.account(90 * time.Second)
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("the collector ended on its full disk: %v", err)
	}
}
