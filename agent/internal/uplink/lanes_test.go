package uplink

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sidetone/shared/link"
	"sidetone/shared/wire"
)

// busiest is the most kbit/s over any ten seconds.
func (s *site) busiest() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	const span = 10 * time.Second
	most, sum, first := 0, 0, 0
	for _, x := range s.sends {
		sum += x.bytes
		for x.at.Sub(s.sends[first].at) > span {
			sum -= s.sends[first].bytes
			first++
		}
		most = max(most, sum)
	}
	return float64(most) * 8 / 1000 / span.Seconds()
}

// inOrder checks what arrived of the first day records, of which each hundredth is a
// state, and returns the ages of the live ones.
func (s *site) inOrder(born map[uint64]time.Time, day int, capability uint32) (ages []time.Duration) {
	s.t.Helper()
	states, sample, single := 0, false, 0
	for _, f := range s.frames {
		if at, live := born[f.seq]; live {
			ages = append(ages, f.at.Sub(at))
			continue
		}
		sample = sample || f.class == wire.ClassSample
		if f.class == wire.ClassState {
			if states++; sample {
				s.t.Fatalf("state %d comes after a sample", f.seq)
			}
		}
		if f.bundle == 0 {
			single++
		}
	}
	if capability >= 2 && single > day/1000 || capability == 1 && single != day {
		s.t.Errorf("%d of %d records came by themselves", single, day)
	}
	if states != day/100 {
		s.t.Errorf("%d states", states)
	}
	return ages
}

// TestDayOfBacklog drains 24 hours of backlog over a line of 512 kbit/s, while live
// records go on.
func TestDayOfBacklog(t *testing.T) {
	for _, c := range []struct {
		name       string
		cap        int
		capability uint32
		hours      int
		use        float64 // share of the cap that must be used
	}{
		{"default cap", 0, 2, 24, 0.75}, {"a collector without bundles", 256, 1, 4, 0.7},
		{"cap of most of the line", 480, 2, 4, 0.6}, // half of the window is the limit
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, Config{BackfillKbit: c.cap})
				s.capability, s.rate, s.hold = c.capability, 512_000/8, 1500*time.Millisecond
				const size = 1400
				day := c.hours * 60 * 60 / 4 // one record in four seconds
				for i := range day {
					class := wire.ClassSample
					if i%100 == 99 {
						class = wire.ClassState
					}
					s.q.put(1, class, size, s.began.Add(time.Duration(i-day)*4*time.Second))
				}
				s.start()
				defer s.stop()
				time.Sleep(time.Second)
				born := map[uint64]time.Time{}
				for s.q.waits() > 5 {
					if time.Since(s.began) > 6*time.Hour {
						t.Fatalf("%d records still wait; state %+v", s.q.waits(), s.up.State())
					}
					born[s.q.Status().NextSeq] = time.Now()
					s.q.put(1, wire.ClassSample, size, time.Now())
					time.Sleep(2 * time.Second)
				}
				took := time.Since(s.began)
				ages := s.inOrder(born, day, c.capability)
				slices.Sort(ages)
				p99, limit := ages[len(ages)*99/100], float64(s.up.cfg.BackfillKbit)
				t.Logf("%d records and %d live ones in %v; live age p99 %v, most %v; busiest ten seconds %.1f kbit/s, cap %.0f",
					day, len(ages), took.Round(time.Second), p99.Round(time.Millisecond), ages[len(ages)-1].Round(time.Millisecond), s.busiest(), limit)
				if p99 > 10*time.Second {
					t.Errorf("live age p99 is %v", p99)
				}
				if b := s.busiest(); b > limit*1.05 {
					t.Errorf("busiest ten seconds: %.1f kbit/s, cap %.0f", b, limit)
				}
				if used := float64(day*size) * 8 / 1000 / took.Seconds(); used < limit*c.use {
					t.Errorf("only %.0f of %.0f kbit/s were used", used, limit)
				}
				s.settled(time.Minute)
				if n := s.twice(); n > 0 {
					t.Errorf("%d records were sent twice", n)
				}
			})
		})
	}
}

// TestLineSlowerThanTheCap: what is in flight shrinks, so that live records do not stand
// behind it.
func TestLineSlowerThanTheCap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{BackfillKbit: 1000})
		s.rate, s.hold = 64_000/8, time.Second
		s.q.put(3000, wire.ClassSample, 700, s.began.Add(-time.Hour))
		s.start()
		defer s.stop()
		born := map[uint64]time.Time{}
		for range 120 {
			born[s.q.Status().NextSeq] = time.Now()
			s.q.put(1, wire.ClassSample, 700, time.Now())
			time.Sleep(2 * time.Second)
		}
		worst := time.Duration(0)
		s.set(func() {
			for _, f := range s.frames {
				if at, ok := born[f.seq]; ok {
					worst = max(worst, f.at.Sub(at))
				}
			}
		})
		if worst > 10*time.Second {
			t.Errorf("a live record took %v", worst)
		}
		if n := s.q.waits(); n > 2800 {
			t.Errorf("%d of 3000 records wait after four minutes", n)
		}
	})
}

// TestPause: backlog stops while the path is poor, live records do not, and after a
// quarter of an hour it goes on at a quarter of the cap.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{BackfillKbit: 128})
		s.q.put(15_000, wire.ClassSample, 2800, s.began.Add(-time.Hour))
		s.start()
		defer s.stop()
		// phase runs for a while and returns how many old records arrived in it, and the
		// mean rate.
		phase := func(d time.Duration) (old, live int, kbit float64) {
			s.mu.Lock()
			s.sends, s.frames = nil, nil
			s.mu.Unlock()
			s.produce(10*time.Second, d)
			s.mu.Lock()
			defer s.mu.Unlock()
			bytes := 0
			for _, x := range s.sends {
				bytes += x.bytes
			}
			for _, f := range s.frames {
				if f.seq <= 15_000 {
					old++
				} else {
					live++
				}
			}
			return old, live, float64(bytes) * 8 / 1000 / d.Seconds()
		}
		if old, _, kbit := phase(5 * time.Minute); old == 0 || kbit < 100 || s.up.State().PausedReason != "" || s.up.State().BacklogKbit < 100 {
			t.Errorf("at first: %d records at %.0f kbit/s; %+v", old, kbit, s.up.State())
		}
		s.set(func() { s.poor = true })
		phase(5 * time.Second)
		if old, live, _ := phase(14 * time.Minute); old > 0 || live < 80 || s.up.State().PausedReason != pausedPoor {
			t.Errorf("poor: %d old records, %d live ones; %+v", old, live, s.up.State())
		}
		phase(2 * time.Minute)
		if old, _, kbit := phase(5 * time.Minute); old == 0 || kbit > 128.0/4*1.1 || kbit < 128.0/4*0.8 || s.up.State().PausedReason != pausedLong {
			t.Errorf("poor for long: %d records at %.0f kbit/s; %+v", old, kbit, s.up.State())
		}
		s.set(func() { s.poor = false })
		phase(5 * time.Second)
		if old, _, kbit := phase(5 * time.Minute); old == 0 || kbit < 100 || s.up.State().PausedReason != "" {
			t.Errorf("well again: %d records at %.0f kbit/s; %+v", old, kbit, s.up.State())
		}
		want := "up quic\npaused quic " + pausedPoor + "\nresumed quic the path measures well again: backlog goes on"
		if told := s.told(); told != want {
			t.Errorf("told:\n%s", told)
		}
		// A path that sways is not told of each time.
		for range 60 {
			s.set(func() { s.poor = !s.poor })
			time.Sleep(20 * time.Second)
		}
		if n := strings.Count(s.told(), "paused"); n > 1+3 {
			t.Errorf("%d pauses told in 20 minutes", n)
		}
	})
}

// TestWindowIsShared: backlog has half of the window, and live records the rest at any
// time.
func TestWindowIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{BackfillKbit: 1000})
		s.window, s.hold = 20, time.Hour // nothing is answered
		s.q.put(500, wire.ClassSample, 20, s.began.Add(-time.Hour))
		s.start()
		defer s.stop()
		time.Sleep(5 * time.Second)
		if st := s.up.State(); st.InFlight != 10 || st.Backlog != 500 {
			t.Errorf("backlog alone: %+v", st)
		}
		s.q.add(30)
		time.Sleep(5 * time.Second)
		if st := s.up.State(); st.InFlight != 20 || st.Backlog != 500 {
			t.Errorf("with live ones: %+v", st)
		}
		s.set(func() {
			var live []uint64
			for _, f := range s.frames[10:] {
				live = append(live, f.seq)
			}
			if !slices.Equal(live, seqs(501, 510)) {
				t.Errorf("after the backlog came %v", live)
			}
		})
	})
}

// TestLowerEffort: packets of backlog are marked, those of live records are not.
func TestLowerEffort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{})
		s.q.put(2000, wire.ClassSample, 700, s.began.Add(-time.Hour))
		s.start()
		defer s.stop()
		s.produce(time.Second, 40*time.Second)
		s.set(func() {
			marked, backlog := 0, 0
			for _, f := range s.frames {
				switch {
				case f.seq > 2000 && f.lower:
					t.Fatalf("live record %d is marked", f.seq)
				case f.seq <= 2000:
					backlog++
					if f.lower {
						marked++
					}
				}
			}
			if backlog < 1000 || marked < backlog*3/4 {
				t.Errorf("%d of %d records of the backlog are marked", marked, backlog)
			}
		})
	})
}

// TestDrainInTheMiddle: a collector that asks us to leave while backlog is under way
// gets nothing more, and the next connection goes on where this one ended.
func TestDrainInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{})
		s.q.put(3000, wire.ClassSample, 700, s.began.Add(-time.Hour))
		s.start()
		defer s.stop()
		s.produce(time.Second, 20*time.Second)
		var c *fakeConn
		var before int
		s.set(func() { c, before = s.conns[0], len(s.frames) })
		c.toAgent <- &wire.Drain{MaxDelayMS: 1000, Reason: "update"}
		synctest.Wait()
		select {
		case <-c.over:
			t.Fatal("left with frames without answer")
		default:
		}
		time.Sleep(600 * time.Millisecond) // the answers that were due
		select {
		case <-c.over:
		default:
			t.Fatal("not left after the last answer")
		}
		s.set(func() {
			if n := len(s.frames) - before; n > 0 {
				t.Errorf("%d frames after the drain", n)
			}
		})
		s.produce(time.Second, 5*time.Minute)
		s.settled(time.Minute)
		if n := s.twice(); n > 0 {
			t.Errorf("%d records were sent twice", n)
		}
	})
}

// TestBacklogAndStorage: while the collector cannot store, a few old records try whether
// it can again, live ones go on, and all arrive at last.
func TestBacklogAndStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{})
		s.deferAt = true
		s.q.put(5000, wire.ClassSample, 700, s.began.Add(-time.Hour))
		s.start()
		defer s.stop()
		s.produce(time.Second, 15*time.Minute)
		s.set(func() {
			old, fresh := map[uint64]bool{}, map[uint64]int{}
			for _, f := range s.frames {
				if f.seq <= 5000 {
					old[f.seq] = true
				} else {
					fresh[f.seq]++
				}
			}
			if len(old) > 200 {
				t.Errorf("%d of 5000 old records were sent to be deferred", len(old))
			}
			if len(fresh) < 890 {
				t.Errorf("only %d of 900 live records were sent", len(fresh))
			}
			s.deferAt = false
		})
		s.settled(30 * time.Minute)
		if st := s.up.State(); st.Deferred != 0 || st.Backlog != 0 {
			t.Errorf("state %+v", st)
		}
	})
}

// TestShortBreak: after a break of some seconds, what was live still is; after minutes
// it is backlog.
func TestShortBreak(t *testing.T) {
	for _, c := range []struct {
		pause time.Duration
		live  bool
	}{{20 * time.Second, true}, {5 * time.Minute, false}} {
		t.Run(fmt.Sprint(c.pause), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, Config{})
				s.start()
				defer s.stop()
				s.produce(time.Second, 2*time.Minute)
				for _, tr := range []string{link.TransportQUIC, link.TransportTCP} {
					s.wall(tr, "reject")
				}
				s.cut(link.TransportQUIC)
				first := s.q.Status().NextSeq
				s.q.add(5)
				time.Sleep(c.pause)
				s.wall(link.TransportQUIC, "")
				s.set(func() { s.frames = nil })
				s.settled(2 * time.Minute)
				s.set(func() {
					for _, f := range s.frames {
						if f.seq >= first && (f.bundle == 0) != c.live {
							t.Errorf("record %d came in a bundle of %d", f.seq, f.bundle)
						}
					}
				})
			})
		})
	}
}

// TestOldCollector: it gets payloads in the form that it reads, each in a frame of its
// own; one that is damaged is set aside, one that is too new for it waits.
func TestOldCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{})
		s.capability = 1
		s.up.codec.payloadFor = func(capability uint32, p []byte) ([]byte, error) {
			if capability != 1 {
				t.Errorf("payload for capability %d", capability)
			}
			switch {
			case strings.Contains(string(p), "of 13ns"):
				return nil, &wire.MalformedError{What: "payload", Cause: errors.New("unknown form")}
			case strings.Contains(string(p), "of 5ns"), strings.Contains(string(p), "of 7ns"):
				return nil, &wire.SchemaError{Schema: 9}
			}
			return append([]byte("old "), p...), nil
		}
		s.q.put(10, wire.ClassSample, 20, s.began.Add(-time.Hour))
		s.start()
		defer s.stop()
		time.Sleep(time.Second)
		s.q.add(10)
		time.Sleep(10 * time.Second)
		s.set(func() {
			if len(s.frames) != 17 {
				t.Errorf("%d frames", len(s.frames))
			}
			for _, f := range s.frames {
				if f.bundle > 0 || !strings.HasPrefix(f.payload, "old \x01pay") {
					t.Errorf("frame %+v", f)
				}
			}
		})
		if reason := s.q.dropped[13]; !slices.Equal(s.q.left(), []uint64{5, 7}) || !strings.Contains(reason, "unknown form") {
			t.Errorf("%v wait; 13 was dropped for %q", s.q.left(), reason)
		}
		// The collector is updated, and takes them as they are.
		s.set(func() { s.capability = 2 })
		s.cut(link.TransportQUIC)
		s.settledBut(13)
	})
}

// settledBut waits until all but one have arrived.
func (s *site) settledBut(seq uint64) {
	s.t.Helper()
	time.Sleep(10 * time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.q.waits(); n > 0 || s.stored[seq] != 0 {
		s.t.Errorf("%d wait, %d was stored %d times", n, seq, s.stored[seq])
	}
}

// TestDamagedFirstFrame: a bundle whose first frame cannot be packed goes on without it.
func TestDamagedFirstFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{})
		s.up.codec = wireCodec()
		s.up.codec.pack = func(frames []wire.Frame, maxBytes int) (any, int, int, error) {
			if frames[0].Seq == 4 {
				return nil, 1, 0, errors.New("payload differs from its checksum")
			}
			return fakePack(frames[:min(len(frames), 3)], maxBytes)
		}
		s.q.put(10, wire.ClassSample, 20, s.began.Add(-time.Hour))
		s.start()
		defer s.stop()
		time.Sleep(10 * time.Second)
		s.set(func() {
			if s.q.waits() != 0 || len(s.stored) != 9 || s.stored[4] != 0 || s.q.dropped[4] == "" {
				t.Errorf("stored %v, dropped %v", s.stored, s.q.dropped)
			}
		})
	})
}
