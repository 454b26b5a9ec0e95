package hoststate

import (
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func (s *State) read(diskPath string) {
	s.RSS = rss()
	var ru unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &ru) == nil {
		s.CPU = time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
	}
	s.Load1 = parseLoad(readSmall("/proc/loadavg"))
	s.MemoryFree = parseAvailable(readSmall("/proc/meminfo"))
	var st unix.Statfs_t
	if unix.Statfs(diskPath, &st) == nil {
		s.DiskFree = st.Bavail * uint64(st.Bsize)
	}
}

// rss reads resident pages, the second number of /proc/self/statm.
func rss() uint64 {
	f := strings.Fields(readSmall("/proc/self/statm"))
	if len(f) < 2 {
		return 0
	}
	n, err := strconv.ParseUint(f[1], 10, 64)
	if err != nil {
		return 0
	}
	return n * uint64(os.Getpagesize())
}

func parseLoad(text string) float64 {
	first, _, _ := strings.Cut(text, " ")
	v, err := strconv.ParseFloat(first, 64)
	if err != nil || v < 0 {
		return 0
	}
	return v
}

// parseAvailable finds "MemAvailable:   123 kB".
func parseAvailable(text string) uint64 {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			f := strings.Fields(rest)
			if len(f) == 0 {
				return 0
			}
			n, err := strconv.ParseUint(f[0], 10, 54)
			if err != nil {
				return 0
			}
			return n << 10
		}
	}
	return 0
}

// BootID is new at each start of the machine.
func BootID() string {
	id := strings.TrimSpace(readSmall("/proc/sys/kernel/random/boot_id"))
	if len(id) > 64 {
		return ""
	}
	return id
}

func readSmall(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(b)
}
