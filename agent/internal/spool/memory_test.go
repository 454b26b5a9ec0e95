package spool

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"sidetone/shared/wire"
)

// memoryDir makes the test binary a small program that only has a spool open.
const memoryDir = "SIDETONE_TEST_SPOOL_MEMORY"

// resident reads what a process takes: all of it, and what is not backed by files.
func resident(pid int) (total, anon int) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0
	}
	defer func() { _ = f.Close() }()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		_, _ = fmt.Sscanf(sc.Text(), "VmRSS: %d kB", &total)
		_, _ = fmt.Sscanf(sc.Text(), "RssAnon: %d kB", &anon)
	}
	return total, anon
}

// memoryChild appends and acks at an edge's rate, faster: 100 records of 1.5 kB a second.
func memoryChild() {
	debug.SetMemoryLimit(64 << 20)
	say := func(what string) {
		total, anon := resident(os.Getpid())
		fmt.Printf("%s: RSS %.1f MiB, anonymous %.1f MiB\n", what, float64(total)/1024, float64(anon)/1024)
	}
	say("nothing open")
	s, err := Open(Config{Dir: os.Getenv(memoryDir), NoBallast: true}, Deps{Log: zerolog.Nop(), FreeSpace: plenty})
	if err != nil {
		fmt.Println("!", err)
		return
	}
	say("open, idle")
	peak := 0
	r := rand.New(rand.NewPCG(1, 2))
	payload := make([]byte, 1500)
	tick := time.NewTicker(10 * time.Millisecond)
	for i := range 3000 {
		<-tick.C
		for j := range payload {
			payload[j] = byte(r.Uint32())
		}
		e, q, err := s.Append(wire.ClassSample, payload)
		if err != nil {
			fmt.Println("!", err)
			return
		}
		if q > 10 && q%5 == 0 {
			if rs, err := s.Read(q-10, 5, 1<<20); err != nil || len(rs) == 0 {
				fmt.Println("!", len(rs), err)
			}
			if err := s.Ack(e, []wire.Range{{From: q - 9, To: q - 5}}); err != nil {
				fmt.Println("!", err)
			}
		}
		if i%200 == 199 {
			s.upkeep()
		}
		if i == 1000 {
			say("after 1,000 records, a memtable not yet full")
		}
		if i%50 == 0 {
			_, anon := resident(os.Getpid())
			peak = max(peak, anon)
		}
	}
	say("after 3,000 records")
	fmt.Printf("peak: anonymous %.1f MiB\n", float64(peak)/1024)
	fmt.Printf("disk: %.1f MB\n", float64(dirSize(os.Getenv(memoryDir)))/1e6)
	_ = s.Close()
}

// TestMemory tells what a program takes that does nothing but keep a spool.
func TestMemory(t *testing.T) {
	if os.Getenv("SIDETONE_SOAK") == "" {
		t.Skip("takes half a minute: set SIDETONE_SOAK=1")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), memoryDir+"="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("!")) {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("\n%s", strings.TrimSpace(string(out)))
}
