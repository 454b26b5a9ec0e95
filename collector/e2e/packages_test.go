//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The deb packages are really installed, by dpkg and as root, on a copy of this machine
// that exists only in memory: an overlay over / in a mount and process namespace.

// copyScript makes the copy at $1, marks it as ready, and becomes the program "$@" in it.
const copyScript = `set -e
M=$1 TREE=$2 INIT=$3; shift 3
mount -t tmpfs tmpfs "$M"
mkdir "$M/upper" "$M/work" "$M/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$M/upper,workdir=$M/work" "$M/root"
R=$M/root
mount -t proc proc "$R/proc"
mount -t tmpfs -o mode=755 tmpfs "$R/dev"
mkdir "$R/dev/pts" "$R/dev/shm" "$R/dev/mqueue" "$R/dev/hugepages"
for d in null zero full random urandom tty; do : >"$R/dev/$d"; mount --bind "/dev/$d" "$R/dev/$d"; done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$R/dev/pts"
ln -s pts/ptmx "$R/dev/ptmx"
ln -s /proc/self/fd "$R/dev/fd"
mount -t tmpfs -o mode=1777 tmpfs "$R/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$R/run"
mount -t tmpfs -o mode=1777 tmpfs "$R/tmp"
mount -t tmpfs tmpfs "$R/mnt"
mkdir "$R/mnt/dist" "$R/mnt/engine"
mount --bind "$TREE/dist" "$R/mnt/dist"
if [ -d "$TREE/build/engine" ]; then mount --bind "$TREE/build/engine" "$R/mnt/engine"; fi
rm -f "$R/usr/sbin/policy-rc.d"
if [ "$INIT" = systemd ]; then
	: >"$R/etc/machine-id"
	mount -t sysfs -o ro sysfs "$R/sys"
	if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
		mount -t cgroup2 cgroup2 "$R/sys/fs/cgroup"
	else
		mount -t tmpfs -o mode=755 tmpfs "$R/sys/fs/cgroup"
		mkdir "$R/sys/fs/cgroup/systemd"
		mount -t cgroup -o none,name=systemd cgroup "$R/sys/fs/cgroup/systemd"
	fi
fi
: >"$M/ready"
export container=sidetone-test
exec chroot "$R" "$@"
`

// machine is the copy.
type machine struct {
	t   *testing.T
	dir string
	pid int // of its process 1, seen from here
}

// needCopies skips the test where no copy can be made: not root, or no overlays.
func needCopies(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("installing packages needs root")
	}
	const probe = `mount -t tmpfs t "$1" && mkdir "$1/u" "$1/w" "$1/m" && mount -t overlay o -o "lowerdir=/,upperdir=$1/u,workdir=$1/w" "$1/m"`
	if out, err := exec.Command("unshare", "-m", "-p", "-f", "sh", "-c", probe, "sh", t.TempDir()).CombinedOutput(); err != nil {
		t.Skipf("this machine refuses overlay mounts: %v: %s", err, out)
	}
	if debs, _ := filepath.Glob(filepath.Join(root, "dist", "sidetone-*.deb")); len(debs) != 2 || outdated(t, debs) {
		if out, err := exec.Command(filepath.Join(root, "scripts", "packages.sh")).CombinedOutput(); err != nil {
			t.Fatalf("scripts/packages.sh: %v\n%s", err, out)
		}
	}
}

// outdated tells whether what goes into the packages is newer than one of them.
func outdated(t *testing.T, debs []string) bool {
	t.Helper()
	for _, deb := range debs {
		args := []string{"bin/sidetone-agent", "bin/sidetone-collector", "installer", "scripts/packages.sh", "scripts/fetch-engine.sh",
			"-type", "f", "-newer", deb}
		cmd := exec.Command("find", args...)
		cmd.Dir = root
		out, err := cmd.Output()
		if err != nil || len(out) > 0 {
			return true
		}
	}
	return false
}

// newMachine starts a copy whose process 1 is a program that only waits, or systemd
// with a network, a cgroup and a host name of its own.
func newMachine(t *testing.T, systemd bool) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir()}
	unshare, init, kind := []string{"-m", "-p", "-f", "--kill-child"}, []string{"sleep", "infinity"}, "plain"
	group := ""
	if systemd {
		unshare = append(unshare, "-n", "-u", "-C")
		init, kind = []string{"/lib/systemd/systemd", "--system", "--unit=multi-user.target"}, "systemd"
		group = newCgroup(t)
	}
	log, err := os.Create(filepath.Join(m.dir, "init.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	args := append([]string{"-c", `[ -z "$1" ] || echo $$ >"$1/cgroup.procs"; shift; exec unshare "$@"`, "sh", group}, unshare...)
	copyDir := filepath.Join(m.dir, "copy")
	if err := os.Mkdir(copyDir, 0o755); err != nil {
		t.Fatal(err)
	}
	args = append(append(args, "sh", "-c", copyScript, "sh", copyDir, root, kind), init...)
	cmd := exec.Command("sh", args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed at the end
		close(done)
	}()
	t.Cleanup(func() {
		if m.pid != 0 {
			_ = syscall.Kill(m.pid, syscall.SIGKILL) // its namespace ends with it
		} else {
			_ = cmd.Process.Kill()
		}
		<-done
	})
	eventually(t, 30*time.Second, "copy of this machine", func() bool {
		select {
		case <-done:
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("copy of this machine: %s", text)
		default:
		}
		if m.pid == 0 {
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
			m.pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		}
		if m.pid == 0 {
			return false
		}
		_, err := os.Stat(fmt.Sprintf("/proc/%d/root/mnt/dist", m.pid))
		return err == nil
	})
	return m
}

// newCgroup makes the cgroup that is the root of systemd's view.
func newCgroup(t *testing.T) string {
	t.Helper()
	base := "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(base, "cgroup.controllers")); err != nil {
		base = filepath.Join(base, "systemd")
	}
	dir := filepath.Join(base, fmt.Sprintf("sidetone-test-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		t.Skipf("systemd needs a cgroup of its own, and this machine refuses one: %v", err)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("find", dir, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";").CombinedOutput(); err != nil {
			t.Logf("cgroup %s is left: %s", dir, out)
		}
	})
	return dir
}

// on is the same machine for a subtest.
func (m machine) on(t *testing.T) *machine {
	m.t = t
	return &m
}

// try runs a shell command in the copy: what it printed and its exit status.
func (m *machine) try(command string) (string, int) {
	m.t.Helper()
	cmd := exec.Command("nsenter", "-t", strconv.Itoa(m.pid), "-m", "-p", "-n", "-u", "-r", "-w", "sh", "-c", command)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.t.Fatalf("%s: %v", command, err)
	}
	return strings.TrimSpace(string(out)), cmd.ProcessState.ExitCode()
}

// run is try for what must work.
func (m *machine) run(command string) string {
	m.t.Helper()
	out, status := m.try(command)
	if status != 0 {
		m.t.Fatalf("%s\nexit status %d:\n%s", command, status, out)
	}
	return out
}

// same compares what a command prints.
func (m *machine) same(command, want string) {
	m.t.Helper()
	if got, _ := m.try(command); got != want {
		m.t.Errorf("%s\nprints %q, want %q", command, got, want)
	}
}

// written lists what carries the product's name among all that was written to the
// copy's disk since it began.
func (m *machine) written() string {
	m.t.Helper()
	upper := filepath.Join(m.dir, "copy", "upper")
	cmd := exec.Command("nsenter", "-t", strconv.Itoa(m.pid), "-m", "find", upper, "-iname", "*sidetone*", "-printf", "/%P\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.t.Fatalf("find in %s: %v: %s", upper, err, out)
	}
	return strings.TrimSpace(string(out))
}

const (
	agentDeb     = "/mnt/dist/sidetone-agent_*.deb"
	collectorDeb = "/mnt/dist/sidetone-collector_*.deb"
)

// TestPackages takes both packages through their lives without a running systemd, as
// when an image is built.
func TestPackages(t *testing.T) {
	needCopies(t)
	t.Parallel()
	m := newMachine(t, false)
	out := m.run("dpkg -i " + agentDeb + " " + collectorDeb)
	wantAll(t, out, "sidetone-agent enrol TOKEN", "fetch-engine.sh /usr/lib/sidetone")

	for path, want := range map[string]string{
		"/usr/bin/sidetone-agent":                        "755 root:root",
		"/usr/bin/sidetone-collector":                    "755 root:root",
		"/usr/lib/sidetone/fetch-engine.sh":              "755 root:root",
		"/etc/sidetone":                                  "755 root:root",
		"/etc/sidetone/agent.toml":                       "640 root:sidetone-agent",
		"/etc/sidetone/collector.toml":                   "640 root:sidetone-collector",
		"/var/lib/sidetone-agent":                        "700 sidetone-agent:sidetone-agent",
		"/var/lib/sidetone-collector":                    "700 sidetone-collector:sidetone-collector",
		"/lib/systemd/system/sidetone-agent.service":     "644 root:root",
		"/lib/systemd/system/sidetone-collector.service": "644 root:root",
	} {
		m.same("stat -c '%a %U:%G' "+path, want)
	}
	for _, name := range []string{"agent", "collector"} {
		m.same("getent passwd sidetone-"+name+" | cut -d: -f6,7", "/var/lib/sidetone-"+name+":/usr/sbin/nologin")
		wantAll(t, m.run("sidetone-"+name+" version"), "sidetone-"+name)
		m.run("test -L /etc/systemd/system/multi-user.target.wants/sidetone-" + name + ".service")
		m.run("runuser -u sidetone-" + name + " -- cat /etc/sidetone/" + name + ".toml")
		if _, status := m.try("runuser -u nobody -- cat /etc/sidetone/" + name + ".toml"); status == 0 {
			t.Errorf("%s.toml can be read by everybody", name)
		}
		if got := m.run("dpkg-query -W -f '${Conffiles}' sidetone-" + name); !strings.Contains(got, "/etc/sidetone/"+name+".toml") {
			t.Errorf("%s.toml is no conffile: %q", name, got)
		}
	}
	t.Run("upgrade", func(t *testing.T) { testUpgrade(m.on(t)) })
	t.Run("enrol", func(t *testing.T) {
		s, m := newSite(t, ""), m.on(t)
		m.run("sidetone-agent enrol " + s.token())
		m.same("find /var/lib/sidetone-agent ! -user sidetone-agent -o ! -group sidetone-agent -o -perm /077", "")
		m.run("runuser -u sidetone-agent -- test -r /var/lib/sidetone-agent/identity/current")
	})
	t.Run("purge", func(t *testing.T) { testPurge(t, m.on(t)) })
}

// testUpgrade installs a newer package whose configuration file differs from the one
// that an operator has changed.
func testUpgrade(m *machine) {
	m.run(`cd /tmp && for w in agent collector; do
		dpkg-deb -R /mnt/dist/sidetone-${w}_*.deb $w &&
		echo "# a newer hint" >>$w/etc/sidetone/$w.toml && sed -i 's/^Version: .*/&+newer/' $w/DEBIAN/control &&
		dpkg-deb -Znone -b $w $w.deb && echo "# mine" >>/etc/sidetone/$w.toml || exit 1; done`)
	m.run("dpkg -i --force-confdef --force-confold /tmp/agent.deb /tmp/collector.deb </dev/null")
	for _, w := range []string{"agent", "collector"} {
		m.same("tail -n 1 /etc/sidetone/"+w+".toml", "# mine")
		m.same("tail -n 1 /etc/sidetone/"+w+".toml.dpkg-dist", "# a newer hint")
		m.same("stat -c '%a %U:%G' /etc/sidetone/"+w+".toml", "640 root:sidetone-"+w)
		wantAll(m.t, m.run("dpkg-query -W -f '${Version}' sidetone-"+w), "+newer")
	}
	// a file that was removed stays so, and rights that were set stay set
	m.run("rm /etc/sidetone/agent.toml && dpkg -i /tmp/agent.deb </dev/null && test ! -e /etc/sidetone/agent.toml")
	m.run("dpkg-statoverride --update --add root root 0600 /etc/sidetone/collector.toml && dpkg -i /tmp/collector.deb </dev/null")
	m.same("stat -c '%a %U:%G' /etc/sidetone/collector.toml", "600 root:root")
	m.run("dpkg-statoverride --remove /etc/sidetone/collector.toml")
	m.run("dpkg --remove sidetone-agent && test -d /var/lib/sidetone-agent && dpkg -i --force-confmiss " + agentDeb)
	m.same("stat -c '%a %U:%G' /etc/sidetone/agent.toml", "640 root:sidetone-agent")
}

// testPurge removes one package after the other: each leaves what is the other's, the
// last leaves nothing.
func testPurge(t *testing.T, m *machine) {
	m.run("echo secret >/etc/sidetone/pbx.secret")
	m.run("dpkg --purge sidetone-agent")
	m.run("test -e /etc/sidetone/collector.toml && test -e /etc/sidetone/pbx.secret && getent passwd sidetone-collector")
	if left := m.written(); strings.Contains(left, "sidetone-agent") {
		t.Errorf("after the agent's purge there is still:\n%s", left)
	}
	m.run("rm /etc/sidetone/pbx.secret")
	m.run("dpkg --purge sidetone-collector")
	if left := m.written(); left != "" {
		t.Errorf("after the purge of both there is still:\n%s", left)
	}
	m.same("getent passwd sidetone-agent sidetone-collector; getent group sidetone-agent sidetone-collector", "")
	m.same("dpkg-query -W 'sidetone-*' 2>/dev/null", "")
	// and the collector first
	m.run("dpkg -i " + agentDeb + " " + collectorDeb)
	m.run("dpkg --purge sidetone-collector && test -e /etc/sidetone/agent.toml && dpkg --purge sidetone-agent")
	if left := m.written(); left != "" {
		t.Errorf("after the second purge there is still:\n%s", left)
	}
}
