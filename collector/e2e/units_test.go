//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Exposure levels of `systemd-analyze security` (0 is best), with some room: measured
// were 1.5 for the agent and 1.6 for the collector.
const (
	agentExposure     = 2.0
	collectorExposure = 2.0
)

// TestUnits starts both packages under a real systemd: the sandbox of the units lets the
// programs, the embedded engine and every probe do their work.
func TestUnits(t *testing.T) {
	needCopies(t)
	if _, err := os.Stat("/lib/systemd/systemd"); err != nil {
		t.Skip("systemd is not installed")
	}
	if _, err := os.Stat(filepath.Join(root, "build", "engine", "libchdb.so")); err != nil {
		t.Skip("the embedded engine is not there: run make engine")
	}
	t.Parallel()
	m := newMachine(t, true)
	eventually(t, 60*time.Second, "systemd", func() bool {
		state, _ := m.try("systemctl is-system-running")
		return state == "running" || state == "degraded"
	})
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := m.try("journalctl --no-pager -n 80 -u 'sidetone-*'")
			t.Log(out)
		}
	})
	m.run("mkdir -p /usr/lib/sidetone && ln -s /mnt/engine/libchdb.so /usr/lib/sidetone/")
	m.run("dpkg -i " + agentDeb + " " + collectorDeb)
	m.same("systemctl is-active sidetone-collector", "active")
	m.same("systemctl is-active sidetone-agent", "inactive") // it is not enrolled
	m.same("systemctl show -P ConditionResult sidetone-agent", "no")
	testHardening(t, m)

	m.run(`sidetone-agent enrol "$(sidetone-collector token create --agents 127.0.0.1:443 --tenant T --customer C --site S --quiet)"`)
	m.run("systemctl start sidetone-agent")
	took := eventually(t, 90*time.Second, "windows of ICMP, STAMP and STUN in the engine", func() bool {
		out, status := m.try(`sidetone-collector sql --format jsonl "SELECT uniqExact(method) AS n FROM sidetone.probe_window WHERE method IN ('icmp', 'stamp', 'stun') AND received > 0"`)
		return status == 0 && (strings.Contains(out, `"n":3`) || strings.Contains(out, `"n":"3"`))
	})
	t.Logf("windows of three methods after %v", took.Round(time.Second))
	testConfinement(t, m)
	t.Run("restart", func(t *testing.T) { testRestarts(m.on(t)) })
	t.Run("broken configuration", func(t *testing.T) { testBrokenUnits(t, m.on(t)) })
	t.Run("upgrade and purge", func(t *testing.T) { testLiveUpgrade(t, m.on(t)) })
}

// testHardening asks systemd-analyze.
func testHardening(t *testing.T, m *machine) {
	t.Helper()
	for unit, limit := range map[string]float64{"sidetone-agent": agentExposure, "sidetone-collector": collectorExposure} {
		if out := m.run("systemd-analyze verify --man=no " + unit + ".service 2>&1"); strings.Contains(out, "sidetone") {
			t.Errorf("systemd-analyze verify %s: %s", unit, out)
		}
		out := m.run("systemd-analyze security --no-pager --offline=true /lib/systemd/system/" + unit + ".service | grep 'Overall exposure'")
		_, number, _ := strings.Cut(out, "service: ")
		var level float64
		if _, err := fmt.Sscan(number, &level); err != nil || level > limit {
			t.Errorf("%s: exposure %q, want at most %.1f (%v)", unit, out, limit, err)
		}
		t.Logf("%s: exposure level %.1f", unit, level)
	}
}

// testConfinement looks at the running processes, the engine's among them.
func testConfinement(t *testing.T, m *machine) {
	t.Helper()
	for unit, caps := range map[string]string{"sidetone-agent": "0000000000002000", "sidetone-collector": "0000000000000400"} {
		out := m.run("for p in $(pgrep -u " + unit + "); do grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/$p/status; echo .; done")
		processes := strings.Split(strings.TrimSuffix(strings.TrimSpace(out), "."), "\n.\n")
		if want := map[string]int{"sidetone-agent": 1, "sidetone-collector": 2}[unit]; len(processes) != want {
			t.Errorf("%s: %d processes, want %d", unit, len(processes), want)
		}
		for _, p := range processes {
			if got := strings.Join(strings.Fields(p), " "); got != "CapEff: "+caps+" CapBnd: "+caps+" NoNewPrivs: 1 Seccomp: 2" {
				t.Errorf("%s: %s", unit, got)
			}
		}
	}
}

func (m *machine) mainPID(unit string) string { return m.run("systemctl show -P MainPID " + unit) }

// back waits for a unit to run as another process than before.
func (m *machine) back(unit, before string) {
	m.t.Helper()
	took := eventually(m.t, 60*time.Second, unit+" as another process", func() bool {
		state, _ := m.try("systemctl is-active " + unit)
		pid := m.mainPID(unit)
		return state == "active" && pid != "0" && pid != before
	})
	m.t.Logf("%s is back after %v", unit, took.Round(100*time.Millisecond))
}

// testRestarts: SIGABRT is what systemd's watchdog sends; a Go program that gets it, or
// panics, ends with the status of a broken configuration unless its traceback says crash.
func testRestarts(m *machine) {
	for _, unit := range []string{"sidetone-agent", "sidetone-collector"} {
		for _, signal := range []string{"KILL", "ABRT"} {
			before := m.mainPID(unit)
			m.run("kill -s " + signal + " " + before)
			m.back(unit, before)
		}
		start := time.Now()
		m.run("systemctl stop " + unit)
		m.same("systemctl show -P Result "+unit, "success")
		m.t.Logf("%s stops within %v", unit, time.Since(start).Round(100*time.Millisecond))
		m.run("systemctl start " + unit)
	}
}

// testBrokenUnits: a wrong file is said once, not every two seconds.
func testBrokenUnits(t *testing.T, m *machine) {
	for unit, file := range map[string]string{"sidetone-agent": "agent.toml", "sidetone-collector": "collector.toml"} {
		m.run("cp -p /etc/sidetone/" + file + " /tmp/ && echo 'nonsense = 1' >>/etc/sidetone/" + file)
		if _, status := m.try("systemctl restart " + unit); status == 0 {
			t.Errorf("%s starts with a broken configuration", unit)
		}
		m.same("systemctl show -p ActiveState -p Result -p ExecMainStatus --value "+unit+" | sort | tr '\\n' ' '", "2 exit-code failed")
		m.run("cp -p /tmp/" + file + " /etc/sidetone/ && systemctl restart " + unit)
		m.same("systemctl is-active "+unit, "active")
	}
}

// testLiveUpgrade installs again while both run, then removes all.
func testLiveUpgrade(t *testing.T, m *machine) {
	agent, collector := m.mainPID("sidetone-agent"), m.mainPID("sidetone-collector")
	m.run("dpkg -i " + agentDeb + " " + collectorDeb)
	m.back("sidetone-agent", agent)
	m.back("sidetone-collector", collector)
	m.run("systemctl disable --now sidetone-agent")
	m.run("dpkg -i " + agentDeb)
	m.same("systemctl is-enabled sidetone-agent", "disabled")
	m.run("dpkg --purge sidetone-agent sidetone-collector")
	m.same("pgrep -l sidetone", "")
	m.same("systemctl show -P LoadState sidetone-agent sidetone-collector | sort -u", "not-found")
	m.same("getent passwd sidetone-agent sidetone-collector", "")
	if left := m.written(); left != "" {
		t.Errorf("after the purge there is still:\n%s", left)
	}
}
