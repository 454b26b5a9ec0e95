//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// openFiles changes how many files a running process may have open.
func openFiles(t *testing.T, pid int, limit uint64) {
	t.Helper()
	set := func(to, was *syscall.Rlimit) {
		_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), syscall.RLIMIT_NOFILE,
			uintptr(unsafe.Pointer(to)), uintptr(unsafe.Pointer(was)), 0, 0)
		if errno != 0 {
			t.Fatal(errno)
		}
	}
	var l syscall.Rlimit
	set(nil, &l)
	l.Cur = limit
	set(&l, nil)
}

// A starved host: no file descriptor to spare, a name that does not resolve, a name
// server that does not answer. The agent goes on, says what is wrong, and everything it
// produced arrives.
func TestStarvedHost(t *testing.T) {
	t.Parallel()
	s := newSite(t, "")
	s.startAgent("\n[[target]]\nname = \"nowhere\"\nkind = \"tcp\"\naddress = \"no-such-host.invalid:443\"\n" +
		"\n[[target]]\nname = \"no resolver\"\nkind = \"dns\"\naddress = \"127.0.0.1:9\"\nquery = \"example.com\"\n")
	pid := s.agent.pid()
	eventually(t, 60*time.Second, "first windows", func() bool {
		return s.count("SELECT count() FROM sidetone.probe_window") > 0
	})
	open, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "fd"))
	if err != nil {
		t.Fatal(err)
	}
	openFiles(t, pid, uint64(len(open)+2))
	records := func() int { return len(readLedger(t, s.ledgerFile()).records) }
	before := records()
	eventually(t, 60*time.Second, "records with no descriptor to spare", func() bool { return records() > before+5 })
	openFiles(t, pid, 1024)

	eventually(t, 60*time.Second, "the window of the name that does not resolve", func() bool {
		return s.count("SELECT count() FROM sidetone.probe_window WHERE fault = 'resolve' AND lost > 0") > 0
	})
	eventually(t, 60*time.Second, "the window of the resolver that does not answer", func() bool {
		return s.count("SELECT count() FROM sidetone.probe_window WHERE target = 'no resolver' AND lost > 0") > 0
	})
	if s.agent.pid() != pid || syscall.Kill(pid, 0) != nil {
		t.Error("the agent ended")
	}
	s.account(60 * time.Second)
}
