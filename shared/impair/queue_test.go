package impair

import (
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// In virtual time every parcel leaves at exactly its time, in its order.
func TestQueueTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type seen struct {
			due, at time.Duration
			size    int
		}
		got := make(chan seen, 1000)
		var q *queue
		q = newQueue(16, 1000, func(p *parcel) { got <- seen{p.due, q.now(), p.size} })
		stop := make(chan struct{})
		ended := make(chan struct{})
		go func() { q.run(stop); close(ended) }()
		rng := rand.New(rand.NewPCG(1, 2))
		for i := range 1000 {
			q.push(parcel{due: time.Duration(rng.IntN(50)) * 10 * time.Millisecond, buf: q.buffer(), size: i})
			if i%100 == 99 {
				time.Sleep(7 * time.Millisecond)
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if len(got) != 1000 {
			t.Fatalf("%d parcels came out of 1000", len(got))
		}
		last, late := seen{}, 0
		for range 1000 {
			s := <-got
			if s.at < s.due {
				t.Fatalf("a parcel due at %v left at %v", s.due, s.at)
			}
			if s.at > s.due { // pushed after its time
				late++
				continue
			}
			if s.due < last.due || s.due == last.due && s.size < last.size {
				t.Fatalf("%+v left after %+v", s, last)
			}
			last = s
		}
		if late > 150 { // about 63 ms of 500 are pushed, 13 % of parcels, half of them late at most
			t.Errorf("%d parcels were late", late)
		}
		close(stop)
		<-ended
	})
}

func TestQueueIsBounded(t *testing.T) {
	q := newQueue(16, 3, func(*parcel) {})
	var held [][]byte
	for range 3 {
		held = append(held, q.buffer())
	}
	if slices.ContainsFunc(held, func(b []byte) bool { return len(b) != 16 }) {
		t.Fatal("a buffer is missing, or of another size")
	}
	if q.buffer() != nil {
		t.Fatal("a fourth buffer of three")
	}
	q.release(held[0])
	if q.buffer() == nil || q.buffer() != nil {
		t.Fatal("a buffer that came back is to be had once")
	}
}

// TestNoAllocation sends packets through shaper, lane and queue.
func TestNoAllocation(t *testing.T) {
	delivered := 0
	q := newQueue(2048, 64, func(*parcel) { delivered++ })
	l := newLane(1, Up, Profile{Jitter: time.Microsecond, Loss: 0.1, Bursts: LossBursts(0.1, 3), Reorder: 0.1, ReorderBy: time.Nanosecond, Rate: 1e12})
	var p parcel
	pass := func() {
		for range 32 {
			if f := l.arrived(q.now(), 100, 128); f.copies > 0 {
				q.push(parcel{due: f.due[0], buf: q.buffer(), size: 100})
			}
		}
		for {
			wait, some := q.pop(&p)
			if !some {
				return
			}
			if wait <= 0 {
				q.deliver(&p)
				q.release(p.buf)
				l.sent(p.size)
			}
		}
	}
	pass()
	if n := testing.AllocsPerRun(100, pass); n != 0 {
		t.Errorf("%v allocations for 32 packets", n)
	}
	if delivered == 0 {
		t.Error("nothing was delivered")
	}
}
