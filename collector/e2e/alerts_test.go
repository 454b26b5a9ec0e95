//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A trunk that drops is a row within 15 s and a message at both sinks within 20 s; one
// message when it comes back; the same with ClickHouse stopped.
func TestTrunkDrop(t *testing.T) {
	t.Parallel()
	hook, url := webhookSink(t)
	mail, port := smtpSink(t)
	s := newSite(t, channels(url, port))
	s.startAgent("")
	eventually(t, 60*time.Second, "trunks in ClickHouse", func() bool {
		return s.count("SELECT count() FROM sidetone.trunk_state WHERE registered") > 0
	})

	t.Run("with ClickHouse", func(t *testing.T) {
		s.sim("trunks/10001", map[string]any{"online": false})
		row := eventually(t, 15*time.Second, "row of the dropped trunk", func() bool {
			return s.count("SELECT count() FROM sidetone.trunk_state WHERE number = '10001' AND NOT registered") > 0
		})
		s.oneMessageEach(t, hook, mail, "opened", 1, 20*time.Second)
		t.Logf("row after %v", row)
		s.sim("trunks/10001", map[string]any{"online": true})
		s.oneMessageEach(t, hook, mail, "resolved", 1, 60*time.Second)
	})

	t.Run("with ClickHouse stopped", func(t *testing.T) {
		pid := s.enginePID(t)
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }() // it may be gone
		s.sim("trunks/10000", map[string]any{"online": false})
		s.oneMessageEach(t, hook, mail, "opened", 2, 20*time.Second)
		s.sim("trunks/10000", map[string]any{"online": true})
		s.oneMessageEach(t, hook, mail, "resolved", 2, 60*time.Second)
	})
	settle(t, s.collectorData(), s.ledgerFile(), 60*time.Second)
}

// oneMessageEach waits until each sink has exactly want messages of the kind about trunks.
func (s *site) oneMessageEach(t *testing.T, hook, mail *sink, kind string, want int, limit time.Duration) {
	t.Helper()
	byHook := func() int { return len(hook.about(kind, "trunk")) }
	byMail := func() int { return len(mail.about(kind, "trunk")) }
	took := eventually(t, limit, kind+" message at webhook and mail", func() bool { return byHook() >= want && byMail() >= want })
	if h, m := byHook(), byMail(); h != want || m != want {
		t.Fatalf("%s messages: webhook %d, mail %d, want %d each", kind, h, m, want)
	}
	t.Logf("%s: both messages after %v", kind, took)
}

// enginePID finds the engine child of the collector.
func (s *site) enginePID(t *testing.T) int {
	t.Helper()
	return childOf(t, s.collector.pid(), "engine")
}

// childOf finds a child process by a word of its command line.
func childOf(t *testing.T, parent int, word string) int {
	t.Helper()
	found := 0
	eventually(t, 30*time.Second, "child of "+strconv.Itoa(parent)+" running "+word, func() bool {
		stats, _ := filepath.Glob("/proc/[0-9]*/stat")
		for _, f := range stats {
			text, err := os.ReadFile(f)
			if err != nil {
				continue
			}
			rest := text[strings.LastIndexByte(string(text), ')')+1:]
			fields := strings.Fields(string(rest))
			if len(fields) < 2 || fields[1] != strconv.Itoa(parent) {
				continue
			}
			cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "cmdline"))
			if strings.Contains(string(cmdline), "\x00"+word+"\x00") {
				found, _ = strconv.Atoi(filepath.Base(filepath.Dir(f)))
				return true
			}
		}
		return false
	})
	return found
}
