package loadgen

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestWatcher(t *testing.T) {
	child := exec.Command("/bin/cat") // waits for its input
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = in.Close()
		_ = child.Wait()
	}()
	file := filepath.Join(t.TempDir(), "pid")
	if err := os.WriteFile(file, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWatcher([]Process{{Name: "by file", PIDFile: file}, {Name: "gone", PIDFile: file + "x"}})
	w.sample(watchStart)
	w.tick(11*time.Second, time.Minute)
	w.tick(31*time.Second, time.Minute)
	w.sample(watchEnd)
	got := map[string]Usage{}
	for _, u := range w.usages(1_000_000, 10) {
		got[u.Name] = u
	}
	for _, name := range []string{"by file", "by file children", "loadgen"} {
		u := got[name]
		if u.StartMiB <= 0 || u.EarlyMiB <= 0 || u.MidMiB <= 0 || u.EndMiB <= 0 || u.MaxMiB < u.EndMiB || len(u.CurveMiB) != 2 {
			t.Errorf("%s: %+v", name, u)
		}
	}
	if _, ok := got["gone"]; ok {
		t.Error("a process that is not there was seen")
	}
}

func TestCommand(t *testing.T) {
	out, err := Command("/bin/echo", "--data-dir", "d")(t.Context(), "SELECT 1")
	if err != nil || out != "sql --data-dir d --format TSV SELECT 1\n" {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := Command("/bin/ls")(t.Context(), "SELECT 1"); err == nil || !strings.Contains(err.Error(), "/bin/ls sql") {
		t.Errorf("err = %v", err)
	}
}
