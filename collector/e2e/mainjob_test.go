//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// demo is scripts/run.sh, which `make run` starts after building.
type demo struct {
	dir, web string
	cmd      *exec.Cmd
	done     chan struct{}

	mu  sync.Mutex
	out strings.Builder
}

func (d *demo) printed() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.out.String()
}

// startDemo runs the script with ports and a directory of its own.
func startDemo(t *testing.T) *demo {
	t.Helper()
	d := &demo{dir: filepath.Join(t.TempDir(), "run"), done: make(chan struct{})}
	port := func() string { return fmt.Sprintf("127.0.0.1:%d", freePort(t)) }
	d.web = port()
	d.cmd = exec.Command(filepath.Join(root, "scripts", "run.sh"))
	d.cmd.Env = append(os.Environ(), "SIDETONE_RUN_DIR="+d.dir, "SIDETONE_RUN_WEB="+d.web,
		"SIDETONE_RUN_AGENTS="+port(), "SIDETONE_RUN_REFLECTOR="+port(), "SIDETONE_RUN_PBX="+port())
	pipe, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.cmd.Stderr = d.cmd.Stdout
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(d.done)
		for sc := bufio.NewScanner(pipe); sc.Scan(); {
			d.mu.Lock()
			fmt.Fprintln(&d.out, sc.Text())
			d.mu.Unlock()
		}
		_ = d.cmd.Wait() // the status is in ProcessState
	}()
	t.Cleanup(func() {
		d.interrupt(t)
		if t.Failed() {
			t.Logf("the script printed:\n%s", d.printed())
			for _, name := range []string{"collector", "agent", "pbxsim"} {
				p := &process{t: t, log: filepath.Join(d.dir, "log", name+".log")}
				p.printLog()
			}
		}
	})
	return d
}

// interrupt is Ctrl-C.
func (d *demo) interrupt(t *testing.T) {
	t.Helper()
	select {
	case <-d.done:
		return
	default:
	}
	_ = d.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-d.done:
	case <-time.After(60 * time.Second):
		_ = d.cmd.Process.Kill()
		t.Error("the script did not stop within a minute of Ctrl-C")
	}
}

func (d *demo) pid(t *testing.T, name string) int {
	t.Helper()
	var pid int
	eventually(t, 30*time.Second, name+" running", func() bool {
		text, err := os.ReadFile(filepath.Join(d.dir, name+".pid"))
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil && syscall.Kill(pid, 0) == nil
	})
	return pid
}

// The main job: rows within 60 s, a chart in a browser, and every produced window in
// ClickHouse once although collector, engine and agent are killed on the way.
func TestMainJob(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	data := filepath.Join(d.dir, "collector")
	began := time.Now()
	eventually(t, 90*time.Second, "the script says that it runs", func() bool {
		return strings.Contains(d.printed(), "Sidetone is running")
	})
	took := time.Since(began)
	t.Logf("running after %v", took)
	if took > 60*time.Second {
		t.Errorf("rows after %v, want at most 60 s", took)
	}
	for _, table := range []string{"probe_window", "pbx_status", "trunk_state"} {
		rows, err := sqlIn(t, data, "SELECT count() AS n FROM sidetone."+table)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %v rows", table, rows[0]["n"])
		if fmt.Sprint(rows[0]["n"]) == "0" {
			t.Errorf("no rows in %s", table)
		}
	}
	t.Run("browser", func(t *testing.T) { browse(t, d) })
	t.Run("kill -9", func(t *testing.T) { killEach(t, d, data) })

	d.interrupt(t)
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("after Ctrl-C the script ended with status %d", code)
	}
	if left := leftovers(d.dir); len(left) > 0 {
		t.Errorf("still running after Ctrl-C: %v", left)
	}
	if _, err := os.Stat(filepath.Join(data, "control.db")); err != nil {
		t.Errorf("the data was not kept: %v", err)
	}
}

func killEach(t *testing.T, d *demo, data string) {
	ledgerPath := filepath.Join(d.dir, "agent.ledger")
	windows := func() int { return len(readLedger(t, ledgerPath).windows) }
	goOn := func(what string) {
		n := windows()
		eventually(t, 60*time.Second, "new windows after the death of "+what, func() bool { return windows() > n })
	}
	kill := func(pid int) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		kill(d.pid(t, "agent"))
		goOn("the agent")
		kill(childOf(t, d.pid(t, "collector"), "engine"))
		goOn("the engine")
		kill(d.pid(t, "collector"))
		goOn("the collector")
	}
	settle(t, data, ledgerPath, 90*time.Second)
}

// leftovers lists processes whose command line names the directory.
func leftovers(dir string) []string {
	var left []string
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err == nil && strings.Contains(string(text), dir) {
			left = append(left, strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	return left
}

// browse signs in and looks at the fleet list and the site page.
func browse(t *testing.T, d *demo) {
	password, err := os.ReadFile(filepath.Join(d.dir, "login"))
	if err != nil {
		t.Fatal(err)
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("ignore-certificate-errors", true), chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true), chromedp.WindowSize(1440, 1000))
	actx, cancel := chromedp.NewExecAllocator(context.Background(), opts...)
	defer cancel()
	ctx, cancel := chromedp.NewContext(actx)
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, 120*time.Second)
	defer cancel()

	fail := func(what string, err error) {
		t.Helper()
		shot, _ := chromedp.Run(ctx, chromedp.FullScreenshot(90)) // for the person who looks into the failure
		_ = os.WriteFile(artifact(t, "failure.png"), shot, 0o644)
		t.Fatalf("%s: %v", what, err)
	}
	do := func(what string, actions ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, actions...); err != nil {
			fail(what, err)
		}
	}
	number := func(expression string) int {
		t.Helper()
		n, err := chromedp.Run(ctx, chromedp.Evaluate[int](expression))
		if err != nil {
			fail(expression, err)
		}
		return n
	}
	do("sign in",
		chromedp.Navigate("https://"+d.web+"/"),
		chromedp.WaitVisible(`[data-testid=signin-form]`),
		chromedp.SendKeys(`[data-testid=signin-form] input[type=email]`, "owner@demo.example"),
		chromedp.SendKeys(`[data-testid=signin-form] input[type=password]`, strings.TrimSpace(string(password))+"\r"),
		chromedp.WaitVisible(`[data-testid^=fleet-row-]`))
	shoot(t, ctx, "fleet.png")

	do("site page", chromedp.Click(`[data-testid^=fleet-row-] a`), chromedp.WaitVisible(`[data-testid^=chart-]`))
	points := func() int {
		return number(`Math.max(0, ...[...document.querySelectorAll('[data-testid^=chart-]')].map(e => Number(e.dataset.points || 0)))`)
	}
	eventually(t, 60*time.Second, "a chart with data", func() bool { return points() > 0 })
	trunks := number(`document.querySelectorAll('[data-testid^=trunk-]').length`)
	canvases := number(`document.querySelectorAll('[data-testid^=chart-] canvas').length`)
	if trunks == 0 || canvases == 0 {
		t.Errorf("the site page shows %d trunks and %d charts", trunks, canvases)
	}
	eventually(t, 30*time.Second, "a verdict on what was delivered", func() bool {
		return number(`document.querySelectorAll('[data-testid=delivery] .verdict').length`) == 1
	})
	before := points()
	eventually(t, 40*time.Second, "the chart grows by itself", func() bool { return points() > before })
	shoot(t, ctx, "site.png")
	t.Logf("site page: %d trunks, %d charts, up to %d points", trunks, canvases, points())
}

// shoot keeps a screenshot as an artefact of the test run.
func shoot(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	path := artifact(t, name)
	if err := os.WriteFile(path, png, 0o644); err != nil {
		t.Fatal(err)
	}
	if len(png) < 10_000 {
		t.Errorf("%s is %d bytes: an empty page?", name, len(png))
	}
}
