package impair

import (
	"math"
	"testing"
	"time"
)

// within says whether k of n fits a chance of p, at five standard deviations.
func within(t *testing.T, what string, k, n int, p float64) {
	t.Helper()
	mean, dev := float64(n)*p, math.Sqrt(float64(n)*p*(1-p))
	if math.Abs(float64(k)-mean) > 5*dev+1 {
		t.Errorf("%s: %d of %d, want %.0f ± %.0f", what, k, n, mean, 5*dev)
	}
}

func TestRatios(t *testing.T) {
	const n = 200_000
	for _, seed := range []uint64{1, 2, 3} {
		s := newShaper(seed, Up, Profile{Loss: 0.01, Duplicate: 0.02, Reorder: 0.03})
		var lost, twice, late int
		for i := range n {
			f := s.packet(time.Duration(i)*time.Millisecond, 100)
			switch {
			case f.drop == DropLoss:
				lost++
				continue
			case f.drop != forwarded:
				t.Fatalf("dropped for %v", f.drop)
			case f.copies == 2:
				twice++
			}
			if f.reordered {
				late++
			}
		}
		within(t, "lost", lost, n, 0.01)
		within(t, "twice", twice, n-lost, 0.02)
		within(t, "late", late, n-lost, 0.03)
	}
}

func TestBursts(t *testing.T) {
	for _, c := range []struct {
		name          string
		ratio, length float64
	}{{"short", 0.02, 2}, {"long", 0.05, 8}, {"most is lost", 0.6, 20}} {
		t.Run(c.name, func(t *testing.T) {
			b := LossBursts(c.ratio, c.length)
			if math.Abs(b.Ratio()-c.ratio) > 1e-9 {
				t.Fatalf("the model loses %v in the long run, want %v", b.Ratio(), c.ratio)
			}
			const n = 400_000
			s := newShaper(7, Down, Profile{Bursts: b})
			lost, runs, in := 0, 0, false
			for i := range n {
				f := s.packet(time.Duration(i), 100)
				if f.drop == DropBurst {
					lost++
					if !in {
						runs++
					}
				}
				in = f.drop == DropBurst
			}
			// A run's length is geometric: deviation of the mean, and of the ratio, with
			// what runs add to it.
			mean := float64(lost) / float64(runs)
			if dev := 5 * c.length / math.Sqrt(float64(runs)); math.Abs(mean-c.length) > dev {
				t.Errorf("mean run %.2f, want %.2f ± %.2f", mean, c.length, dev)
			}
			ratio := float64(lost) / n
			if dev := 5 * math.Sqrt(c.ratio*(1-c.ratio)*2*c.length/n); math.Abs(ratio-c.ratio) > dev {
				t.Errorf("lost %.4f, want %.4f ± %.4f", ratio, c.ratio, dev)
			}
		})
	}
	if (LossBursts(0, 5) != Bursts{}) {
		t.Error("no loss is a model that loses")
	}
	if r := (Bursts{LossGood: 0.25}).Ratio(); r != 0.25 {
		t.Errorf("one state: ratio %v", r)
	}
}

func TestSameSeedSameFate(t *testing.T) {
	run := func(seed uint64, d Direction, p Profile) (fates []fate) {
		s := newShaper(seed, d, p)
		for i := range 2000 {
			fates = append(fates, s.packet(time.Duration(i)*time.Millisecond, 100))
		}
		return fates
	}
	p := Profile{Delay: 20 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.1, Duplicate: 0.1, Reorder: 0.1, Bursts: LossBursts(0.1, 3)}
	a, b := run(5, Up, p), run(5, Up, p)
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("packet %d: %+v and %+v from the same seed", i, a[i], b[i])
		}
	}
	differs := func(x, y []fate) bool {
		for i := range x {
			if x[i] != y[i] {
				return true
			}
		}
		return false
	}
	if !differs(a, run(6, Up, p)) || !differs(a, run(5, Down, p)) {
		t.Error("another seed, or direction, has the same fate")
	}
	// Which packets are lost does not depend on what else happens.
	plain := run(5, Up, Profile{Loss: 0.1, Bursts: p.Bursts})
	for i := range a {
		if (a[i].drop == forwarded) != (plain[i].drop == forwarded) {
			t.Fatalf("packet %d is lost or not because of the delay", i)
		}
	}
}

func TestRate(t *testing.T) {
	// 1,000 bytes each millisecond over 512 kbit/s: 64 packets a second pass.
	s := newShaper(1, Up, Profile{Rate: 512_000, Queue: 100 * time.Millisecond})
	sent, worst := 0, time.Duration(0)
	for i := range 10_000 {
		now := time.Duration(i) * time.Millisecond
		f := s.packet(now, 1000)
		if f.copies == 0 {
			if f.drop != DropQueue {
				t.Fatalf("dropped for %v", f.drop)
			}
			continue
		}
		sent++
		worst = max(worst, f.due[0]-now)
	}
	if sent < 640 || sent > 648 { // 640 and what waits at the end
		t.Errorf("%d packets in 10 s, want 640 and a queue", sent)
	}
	if tx := time.Second * 8 / 512; worst < 100*time.Millisecond || worst > 100*time.Millisecond+tx {
		t.Errorf("longest wait %v, want 100 ms and one packet", worst)
	}
	idle := s.packet(20*time.Second, 1000)
	if idle.due[0] != 20*time.Second+time.Second*8/512 {
		t.Errorf("an idle line sends after %v", idle.due[0]-20*time.Second)
	}
}

func TestDelayAndOrder(t *testing.T) {
	for _, c := range []struct {
		name string
		p    Profile
	}{
		{"even", Profile{Delay: 50 * time.Millisecond, Jitter: 10 * time.Millisecond}},
		{"normal", Profile{Delay: 50 * time.Millisecond, Jitter: 10 * time.Millisecond, Normal: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newShaper(3, Up, c.p)
			const n = 50_000
			var sum, square, last float64
			for i := range n {
				now := time.Duration(i) * time.Second // far apart: order holds nobody up
				d := float64(s.packet(now, 100).due[0]-now) / 1e6
				sum, square = sum+d, square+d*d
				if c.p.Normal == false && (d < 40 || d > 60) {
					t.Fatalf("delay %v ms, want 40 to 60", d)
				}
			}
			mean := sum / n
			dev := math.Sqrt(square/n - mean*mean)
			want := 10.0
			if !c.p.Normal {
				want = 10 / math.Sqrt(3)
			}
			if math.Abs(mean-50) > 0.3 || math.Abs(dev-want) > 0.3 {
				t.Errorf("delay %.2f ± %.2f ms, want 50 ± %.2f", mean, dev, want)
			}
			for i := range n { // close together: nobody overtakes
				due := float64(s.packet(time.Duration(n)*time.Second+time.Duration(i)*time.Millisecond, 100).due[0])
				if due < last {
					t.Fatalf("packet %d overtakes", i)
				}
				last = due
			}
		})
	}
}

func TestReorderHoldsBack(t *testing.T) {
	s := newShaper(9, Up, Profile{Delay: 10 * time.Millisecond, Reorder: 0.2, ReorderBy: 15 * time.Millisecond})
	overtaken := 0
	var late time.Duration
	for i := range 1000 {
		now := time.Duration(i) * 10 * time.Millisecond
		f := s.packet(now, 100)
		if f.reordered {
			if f.due[0]-now != 25*time.Millisecond {
				t.Fatalf("held back for %v", f.due[0]-now)
			}
			late = f.due[0]
			continue
		}
		if f.due[0]-now != 10*time.Millisecond {
			t.Fatalf("a packet in order leaves after %v", f.due[0]-now)
		}
		if f.due[0] < late {
			overtaken++
		}
	}
	if overtaken == 0 {
		t.Error("nobody overtook a packet that was held back")
	}
}

func TestDropsInOrder(t *testing.T) {
	s := newShaper(1, Up, Profile{MTU: 1280, Loss: 1})
	for _, c := range []struct {
		size int
		set  *Profile
		want Reason
	}{
		{1281, nil, DropMTU}, {1280, nil, DropLoss},
		{1280, &Profile{Blackhole: true, Loss: 1}, DropBlackhole},
		{1281, &Profile{Blackhole: true, MTU: 1280}, DropMTU},
		{1281, &Profile{Bursts: Bursts{LossGood: 1}}, DropBurst},
		{1281, &Profile{}, forwarded},
	} {
		if c.set != nil {
			s.set(0, *c.set)
		}
		if f := s.packet(0, c.size); f.drop != c.want || (f.copies == 1) != (c.want == forwarded) {
			t.Errorf("%d bytes with %q: %+v, want %v", c.size, s.profile.String(), f, c.want)
		}
	}
}

func TestSetKeepsTheOrder(t *testing.T) {
	s := newShaper(1, Up, Profile{Delay: 2 * time.Second})
	slow := s.packet(0, 100)
	s.set(time.Second, Profile{})
	if f := s.packet(time.Second, 100); f.due[0] < slow.due[0] {
		t.Errorf("a packet leaves at %v, before %v of the one that came earlier", f.due[0], slow.due[0])
	}
	if f := s.packet(3*time.Second, 100); f.due[0] != 3*time.Second {
		t.Errorf("the delay is gone, but a packet waits until %v", f.due[0])
	}
}
