// Package svc connects a program to what runs it: systemd's readiness and watchdog
// messages (sd_notify(3)), Windows service control, and signals.
package svc

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// Notifier tells systemd how the program stands. Where there is no systemd, its
// methods do nothing.
type Notifier struct {
	socket   string
	watchdog time.Duration
}

// NewNotifier reads what systemd says in the environment.
func NewNotifier() *Notifier {
	return newNotifier(os.Getenv, os.Getpid())
}

func newNotifier(getenv func(string) string, pid int) *Notifier {
	n := &Notifier{socket: getenv("NOTIFY_SOCKET")}
	if p := getenv("WATCHDOG_PID"); p != "" && p != strconv.Itoa(pid) {
		return n // the watchdog is another process's
	}
	if us, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && us > 0 {
		n.watchdog = time.Duration(us) * time.Microsecond
	}
	return n
}

// Ready says that the program serves.
func (n *Notifier) Ready() error { return n.send("READY=1") }

// Stopping says that an orderly stop has begun.
func (n *Notifier) Stopping() error { return n.send("STOPPING=1") }

// Status is a line for `systemctl status`.
func (n *Notifier) Status(text string) error { return n.send("STATUS=" + text) }

// Watch tells systemd that the program lives, at half of the interval that it asks
// for, as long as alive says so. It returns when ctx ends, at once without a watchdog.
func (n *Notifier) Watch(ctx context.Context, alive func() bool) error {
	if n.socket == "" || n.watchdog <= 0 {
		return nil
	}
	t := time.NewTicker(max(n.watchdog/2, time.Millisecond))
	defer t.Stop()
	for {
		if alive() {
			// A lost message is made up for by the next one.
			_ = n.send("WATCHDOG=1")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// send writes one datagram; a leading @ names a socket of Linux's abstract namespace.
func (n *Notifier) send(state string) error {
	if n.socket == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell systemd %s: %w", state, err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return fmt.Errorf("tell systemd %s: %w", state, err)
	}
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("tell systemd %s: %w", state, err)
	}
	return nil
}

// SignalContext ends with SIGINT or SIGTERM. A second signal then ends the process at
// once, for a stop that hangs.
func SignalContext(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(parent, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}
