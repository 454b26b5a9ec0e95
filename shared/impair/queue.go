package impair

import (
	"sync"
	"time"
)

// parcel is a packet under way.
type parcel struct {
	due  time.Duration // since the queue began
	nth  uint64        // keeps the order of those that are due at the same time
	buf  []byte
	size int
	dir  Direction
	flow *flow
}

func (a *parcel) before(b *parcel) bool {
	return a.due < b.due || a.due == b.due && a.nth < b.nth
}

// queue holds parcels until they are due: one heap, one goroutine, one timer. It also
// owns all buffers, which makes it the bound of the proxy's memory.
type queue struct {
	start   time.Time
	deliver func(*parcel)
	wake    chan struct{} // capacity 1: there is an earlier parcel

	mu       sync.Mutex
	heap     []parcel // guarded by mu
	nth      uint64   // guarded by mu
	free     [][]byte // guarded by mu
	made     int      // guarded by mu: buffers there are
	limit    int      // of made
	bufBytes int
}

func newQueue(bufBytes, limit int, deliver func(*parcel)) *queue {
	return &queue{start: time.Now(), deliver: deliver, wake: make(chan struct{}, 1), bufBytes: bufBytes, limit: limit}
}

// now is the monotonic time of this queue.
func (q *queue) now() time.Duration { return time.Since(q.start) }

// buffer gives a buffer, or nil when as many are in use as may be.
func (q *queue) buffer() []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := len(q.free); n > 0 {
		b := q.free[n-1]
		q.free = q.free[:n-1]
		return b
	}
	if q.made >= q.limit {
		return nil
	}
	q.made++
	return make([]byte, q.bufBytes)
}

func (q *queue) release(b []byte) {
	q.mu.Lock()
	q.free = append(q.free, b)
	q.mu.Unlock()
}

func (q *queue) push(p parcel) {
	q.mu.Lock()
	q.nth++
	p.nth = q.nth
	q.heap = append(q.heap, p)
	i := len(q.heap) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !q.heap[i].before(&q.heap[up]) {
			break
		}
		q.heap[i], q.heap[up] = q.heap[up], q.heap[i]
		i = up
	}
	q.mu.Unlock()
	if i == 0 {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
}

// pop takes the first parcel when it is due; else it gives the time until then, and
// false as "there is one" when the queue is empty.
func (q *queue) pop(p *parcel) (wait time.Duration, some bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.heap) == 0 {
		return 0, false
	}
	if wait = q.heap[0].due - q.now(); wait > 0 {
		return wait, true
	}
	*p = q.heap[0]
	last := len(q.heap) - 1
	q.heap[0], q.heap[last] = q.heap[last], parcel{}
	q.heap = q.heap[:last]
	for i := 0; ; {
		least := i
		for _, c := range [2]int{2*i + 1, 2*i + 2} {
			if c < last && q.heap[c].before(&q.heap[least]) {
				least = c
			}
		}
		if least == i {
			return 0, true
		}
		q.heap[i], q.heap[least] = q.heap[least], q.heap[i]
		i = least
	}
}

// run delivers what is due until stop is closed.
func (q *queue) run(stop <-chan struct{}) {
	t := time.NewTimer(time.Hour)
	defer t.Stop()
	var p parcel
	for {
		select {
		case <-stop:
			return
		default:
		}
		wait, some := q.pop(&p)
		if some && wait <= 0 {
			q.deliver(&p)
			q.release(p.buf)
			p = parcel{}
			continue
		}
		if !some {
			wait = time.Hour
		}
		t.Reset(wait)
		select {
		case <-t.C:
		case <-q.wake:
		case <-stop:
			return
		}
	}
}

// rest gives what is under way to visit, and forgets it.
func (q *queue) rest(visit func(*parcel)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.heap {
		visit(&q.heap[i])
	}
	q.heap = nil
}
