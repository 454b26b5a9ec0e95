package probe

import (
	"context"
	"sync"
	"time"

	"sidetone/shared/pathstats"
)

const (
	// lateKept is how long after its deadline an attempt is remembered, to tell a
	// late or doubled answer from a foreign one.
	lateKept = 5 * time.Second
	// maxInflight bounds the memory of a socket: all targets at the shortest
	// interval for the longest timeout and lateKept fit twice.
	maxInflight = 32768
)

// Inflight matches answers with the attempts that wait on one socket. It is safe
// for concurrent use. The zero value is ready.
type Inflight[K comparable] struct {
	mu sync.Mutex
	m  map[K]*Flight
	// fifo holds the keys in the order of starting; guarded by mu, like all flights.
	fifo []started[K]
}

type started[K comparable] struct {
	key K
	fl  *Flight
}

type flightState uint8

const (
	flightWaiting flightState = iota
	flightAnswered
	flightLost
)

// Flight is one attempt on its way.
type Flight struct {
	Sent time.Time // set before Start; the answer's RTT counts from here

	// Fixed by whoever starts the flight, for checking the answer.
	Check uint64
	Req   Request

	sink  Sink
	done  chan Attempt // capacity 1
	state flightState
	note  Attempt // why it will be lost, when known before the deadline
}

// Start registers an attempt, before it is written to the socket.
func (f *Inflight[K]) Start(key K, fl *Flight, sink Sink) {
	fl.sink, fl.done = sink, make(chan Attempt, 1)
	fl.note = Lost(FaultTimeout, "")
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.m == nil {
		f.m = make(map[K]*Flight)
	}
	f.forget(fl.Sent)
	f.m[key] = fl
	f.fifo = append(f.fifo, started[K]{key, fl})
}

// forget drops what is too old to be recognised, and the oldest when there are too many.
func (f *Inflight[K]) forget(now time.Time) {
	n := 0
	for n < len(f.fifo) && (len(f.fifo)-n >= maxInflight || now.Sub(f.fifo[n].fl.Req.Deadline) > lateKept) {
		if old := f.fifo[n]; f.m[old.key] == old.fl {
			delete(f.m, old.key)
		}
		f.fifo[n] = started[K]{}
		n++
	}
	f.fifo = f.fifo[n:]
}

// Wait blocks until the flight has its outcome: answer, deadline, or end of ctx.
func (f *Inflight[K]) Wait(ctx context.Context, fl *Flight) Attempt {
	timer := time.NewTimer(time.Until(fl.Req.Deadline))
	defer timer.Stop()
	select {
	case a := <-fl.done:
		return a
	case <-timer.C:
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl.state == flightAnswered {
		return <-fl.done // it came in between
	}
	fl.state = flightLost
	return fl.note
}

// Cancel ends a flight that could not be sent.
func (f *Inflight[K]) Cancel(key K) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.m, key)
}

// Answer hands an answer that came at the given time to its flight. check is called
// under the lock: it says whether the answer belongs to the flight, and builds the
// outcome. Answer reports false when there is no such flight or check refused.
func (f *Inflight[K]) Answer(key K, at time.Time, check func(*Flight) (Attempt, bool)) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl := f.m[key]
	if fl == nil {
		return false
	}
	a, ok := check(fl)
	if !ok {
		return false
	}
	switch {
	case fl.state == flightAnswered:
		fl.sink.Duplicate(fl.Req.Seq)
	case fl.state == flightLost || at.After(fl.Req.Deadline):
		if fl.state == flightWaiting {
			fl.done <- fl.note // its timer has not fired yet, but it is over
		}
		fl.state = flightAnswered
		fl.sink.Late(fl.Req.Seq, a.Far)
	default:
		fl.state = flightAnswered
		fl.done <- a
	}
	return true
}

// Note remembers why a flight is going to be lost, for the case that it is: such
// news (ICMP errors) is easily forged, so it never ends an attempt.
func (f *Inflight[K]) Note(key K, fault, detail string, check func(*Flight) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl := f.m[key]; fl != nil && fl.state == flightWaiting && check(fl) {
		fl.note = Lost(fault, detail)
	}
}

// NoteAll is Note for all flights, when the socket says so.
func (f *Inflight[K]) NoteAll(fault, detail string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fl := range f.m {
		if fl.state == flightWaiting {
			fl.note = Lost(fault, detail)
		}
	}
}

// Answered builds the outcome of a flight whose answer came at the given time. Two
// readings of the clock can be equal; an answer still took some time.
func (fl *Flight) Answered(at time.Time, far pathstats.Far) Attempt {
	return Attempt{Received: at, RTT: max(at.Sub(fl.Sent), 1), Far: far}
}
