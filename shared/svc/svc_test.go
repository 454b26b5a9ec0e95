//go:build !windows

package svc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("os/signal.loop"), goleak.IgnoreTopFunction("os/signal.signal_recv"))
}

// systemd is the receiving end of notifications.
func systemd(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func receive(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	b := make([]byte, 256)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func env(m map[string]string) func(string) string { return func(k string) string { return m[k] } }

func TestNotify(t *testing.T) {
	names := map[string]string{"file": filepath.Join(t.TempDir(), "notify")}
	if runtime.GOOS == "linux" {
		names["abstract"] = fmt.Sprintf("@sidetone-svc-test-%d", os.Getpid())
	}
	for kind, name := range names {
		c := systemd(t, name)
		n := newNotifier(env(map[string]string{"NOTIFY_SOCKET": name}), 1)
		for _, call := range []struct {
			do   func() error
			want string
		}{{n.Ready, "READY=1"}, {n.Stopping, "STOPPING=1"}, {func() error { return n.Status("fine") }, "STATUS=fine"}} {
			if err := call.do(); err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			if got := receive(t, c); got != call.want {
				t.Errorf("%s: got %q, want %q", kind, got, call.want)
			}
		}
	}
}

func TestWithoutSystemd(t *testing.T) {
	n := newNotifier(env(nil), 1)
	if err := errors.Join(n.Ready(), n.Stopping(), n.Status("x"), n.Watch(t.Context(), func() bool { return true })); err != nil {
		t.Error(err)
	}
	n = newNotifier(env(map[string]string{"NOTIFY_SOCKET": filepath.Join(t.TempDir(), "none")}), 1)
	if err := n.Ready(); err == nil || !strings.Contains(err.Error(), "READY=1") {
		t.Errorf("a socket that is not there: %v", err)
	}
}

func TestWatchdog(t *testing.T) {
	for _, c := range []struct {
		name      string
		usec, pid string
		want      time.Duration
	}{
		{"given", "60000000", "", time.Minute},
		{"for this process", "60000000", "7", time.Minute},
		{"for another process", "60000000", "8", 0},
		{"nonsense", "soon", "", 0},
		{"negative", "-1", "", 0},
		{"absent", "", "", 0},
	} {
		n := newNotifier(env(map[string]string{"NOTIFY_SOCKET": "x", "WATCHDOG_USEC": c.usec, "WATCHDOG_PID": c.pid}), 7)
		if n.watchdog != c.want {
			t.Errorf("%s: watchdog %s, want %s", c.name, n.watchdog, c.want)
		}
	}
	name := filepath.Join(t.TempDir(), "notify")
	c := systemd(t, name)
	n := newNotifier(env(map[string]string{"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "20000"}), 1)
	ctx, cancel := context.WithCancel(context.Background())
	asked := make(chan struct{})
	done := make(chan error, 1)
	calls := 0
	go func() {
		done <- n.Watch(ctx, func() bool {
			calls++
			if calls == 3 {
				close(asked) // not alive from now on
			}
			return calls < 3
		})
	}()
	for range 2 {
		if got := receive(t, c); got != "WATCHDOG=1" {
			t.Errorf("got %q", got)
		}
	}
	<-asked
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := c.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 64)); err == nil {
		t.Errorf("%d bytes more though the program was not alive", n)
	}
}

func TestRunEndsWithASignal(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		status := Run("test", func(ctx context.Context) int {
			if err := syscall.Kill(os.Getpid(), sig); err != nil {
				t.Error(err)
				return 1
			}
			select {
			case <-ctx.Done():
				return 42
			case <-time.After(30 * time.Second):
				return 1
			}
		})
		if status != 42 {
			t.Errorf("%s: status %d", sig, status)
		}
	}
}
