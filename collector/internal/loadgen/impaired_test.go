package loadgen

import (
	"context"
	"testing"
	"time"

	"sidetone/shared/impair"
	"sidetone/shared/link"
	"sidetone/shared/link/linktest"
)

const badPath = "delay=10ms jitter=5ms loss=3% loss-burst=3 duplicate=2% reorder=2% mtu=1280"

// Over a bad path, which changes its port and vanishes for a while, the same connections
// go on, and everything arrives.
func TestBadPathQUIC(t *testing.T) {
	const fleet = 10
	ca, s := linktest.NewCA(t, "root"), newSink()
	addr, _, _ := serve(t, ca, "", s)
	profile, err := impair.ParseProfile(badPath)
	if err != nil {
		t.Fatal(err)
	}
	path, err := impair.ListenUDP(impair.UDPConfig{Listen: "127.0.0.1:0", To: addr, Seed: 1, Up: profile, Down: profile})
	if err != nil {
		t.Fatal(err)
	}
	defer path.Close()
	ctx, end := context.WithCancel(t.Context())
	defer end()
	out, f := run(t, ctx, Config{Addr: path.Addr().String(), Interval: 200 * time.Millisecond}, fleetFile(t, ca, fleet, time.Now().Add(time.Hour)))
	wait(t, s.after(100))

	connects := f.stats.connects.Load()
	if err := path.Rebind(); err != nil {
		t.Fatal(err)
	}
	wait(t, s.after(100))

	set := func(p impair.Profile) {
		for _, d := range []impair.Direction{impair.Up, impair.Down} {
			if err := path.SetProfile(d, p); err != nil {
				t.Fatal(err)
			}
		}
	}
	hole := profile
	hole.Blackhole = true
	set(hole)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for path.Counters(impair.Up).Dropped[impair.DropBlackhole] < 3*fleet {
		<-tick.C
	}
	set(profile)
	wait(t, s.after(100))
	end()
	r := <-out
	check(t, r, s)
	if n := f.stats.connects.Load(); connects < fleet || n != connects {
		t.Errorf("%d connects, and %d after the port changed and the path had a hole: QUIC follows both", connects, n)
	}
	for _, d := range []impair.Direction{impair.Up, impair.Down} {
		if c := path.Counters(d); c.Dropped[impair.DropBurst] == 0 || c.Duplicated == 0 || c.Reordered == 0 {
			t.Errorf("%v: the path was not bad: %+v", d, c)
		}
	}
}

// A TCP connection that is cut in the middle of frames costs nothing but a reconnect.
func TestBadPathTCP(t *testing.T) {
	ca, s := linktest.NewCA(t, "root"), newSink()
	addr, _, _ := serve(t, ca, "", s)
	cut := impair.Profile{Delay: 5 * time.Millisecond, Jitter: 3 * time.Millisecond, CutAfter: 10_000}
	path, err := impair.ListenTCP(impair.TCPConfig{Listen: "127.0.0.1:0", To: addr, Seed: 1, Up: cut, Down: impair.Profile{Delay: 5 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	defer path.Close()
	ctx, end := context.WithCancel(t.Context())
	defer end()
	out, f := run(t, ctx, Config{Addr: path.Addr().String(), Transport: link.TransportTCP, Interval: 100 * time.Millisecond},
		fleetFile(t, ca, 5, time.Now().Add(time.Hour)))
	wait(t, s.after(150))
	end()
	check(t, <-out, s)
	if n, cuts := f.stats.connects.Load(), path.Counters(impair.Up).Dropped[impair.DropCut]; cuts == 0 || n < 6 {
		t.Errorf("%d connects, %d cuts", n, cuts)
	}
}
