package throttle_test

import (
	"fmt"
	"testing"
	"time"

	"sidetone/collector/internal/throttle"
)

// clock is moved by hand.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func take(t *testing.T, tab *throttle.Table, key string, want bool) time.Duration {
	t.Helper()
	wait, ok := tab.Take(key)
	if ok != want || ok != (wait == 0) {
		t.Errorf("take %q: %v, wait %s, want %v", key, ok, wait, want)
	}
	return wait
}

func TestBurstRefillReturn(t *testing.T) {
	c := &clock{t: time.Unix(1e9, 0)}
	tab := throttle.New(2, 10*time.Second, 10, c.now)
	take(t, tab, "a", true)
	take(t, tab, "a", true)
	if wait := take(t, tab, "a", false); wait != 10*time.Second {
		t.Errorf("wait %s, want 10 s", wait)
	}
	take(t, tab, "b", true) // its own bucket
	c.t = c.t.Add(9 * time.Second)
	if wait := take(t, tab, "a", false); wait < time.Second-time.Millisecond || wait > time.Second+time.Millisecond {
		t.Errorf("wait %s, want the second that is left", wait)
	}
	c.t = c.t.Add(time.Second)
	take(t, tab, "a", true)
	take(t, tab, "a", false)
	tab.Return("a")
	take(t, tab, "a", true)
	for range 5 {
		tab.Return("a") // never above the burst
	}
	take(t, tab, "a", true)
	take(t, tab, "a", true)
	take(t, tab, "a", false)
	c.t = c.t.Add(-time.Hour) // a clock that jumps back gives nothing and takes nothing
	take(t, tab, "a", false)
}

func TestTableIsBounded(t *testing.T) {
	c := &clock{t: time.Unix(1e9, 0)}
	const limit = 50
	tab := throttle.New(3, time.Minute, limit, c.now)
	for range 3 {
		take(t, tab, "guesser", true)
	}
	take(t, tab, "guesser", false)
	for i := range 5000 {
		take(t, tab, fmt.Sprintf("stranger %d", i), true)
		if tab.Len() > limit {
			t.Fatalf("%d keys kept, limit %d", tab.Len(), limit)
		}
	}
	// The empty bucket is never the fullest of a sample, so the flood cannot free it.
	take(t, tab, "guesser", false)
}

func TestHonestTriesLeaveNothing(t *testing.T) {
	tab := throttle.New(3, time.Minute, 10, time.Now)
	for i := range 100 {
		key := fmt.Sprint(i)
		take(t, tab, key, true)
		tab.Return(key)
	}
	if tab.Len() != 0 {
		t.Errorf("%d full buckets kept", tab.Len())
	}
}

func TestAddrKey(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1:4711":               "192.0.2.1",
		"192.0.2.1":                    "192.0.2.1",
		"[::ffff:192.0.2.1]:5":         "192.0.2.1",
		"[2001:db8:1:2:3:4:5:6]:7":     "2001:db8:1:2::/64",
		"2001:db8:1:2:ffff:ffff:0:1":   "2001:db8:1:2::/64",
		"[fe80::1%eth0]:5":             "fe80::/64",
		"":                             "unknown",
		"@":                            "unknown",
		"no address, whatever it says": "unknown",
	} {
		if got := throttle.AddrKey(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
