// Package probetest has the pieces that tests of the methods of measuring share.
package probetest

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"sidetone/agent/internal/probe"
	"sidetone/shared/pathstats"
)

// Patience is how long a test waits for what must come: it never decides a result.
const Patience = 20 * time.Second

// Sink counts what a session tells outside of its attempts.
type Sink struct {
	mu      sync.Mutex // guards what follows
	late    []uint32
	doubled []uint32
	foreign int
	news    chan struct{}
}

// NewSink returns an empty one.
func NewSink() *Sink { return &Sink{news: make(chan struct{}, 1024)} }

// Late implements probe.Sink.
func (s *Sink) Late(seq uint32, _ pathstats.Far) { s.tell(func() { s.late = append(s.late, seq) }) }

// Duplicate implements probe.Sink.
func (s *Sink) Duplicate(seq uint32) { s.tell(func() { s.doubled = append(s.doubled, seq) }) }

// Foreign implements probe.Sink.
func (s *Sink) Foreign() { s.tell(func() { s.foreign++ }) }

func (s *Sink) tell(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// Counts returns how many of each there were.
func (s *Sink) Counts() (late, doubled, foreign int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.late), len(s.doubled), s.foreign
}

// Await waits until the counts are these.
func (s *Sink) Await(t testing.TB, late, doubled, foreign int) {
	t.Helper()
	end := time.After(Patience)
	for {
		l, d, f := s.Counts()
		if l == late && d == doubled && f == foreign {
			return
		}
		select {
		case <-s.news:
		case <-end:
			t.Fatalf("late %d, doubled %d, foreign %d; want %d, %d, %d", l, d, f, late, doubled, foreign)
		}
	}
}

// Open makes a session, which the test's end closes.
func Open(t testing.TB, open probe.OpenDriver, target probe.Target, sink probe.Sink) probe.Session {
	t.Helper()
	d := open(zerolog.Nop())
	s, err := d.Open(target, sink)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		d.Close()
	})
	return s
}

// Attempt makes one attempt at dst that may take so long.
func Attempt(t testing.TB, s probe.Session, seq uint32, dst netip.AddrPort, timeout time.Duration) probe.Attempt {
	return s.Attempt(t.Context(), probe.Request{Seq: seq, Dst: dst, Deadline: time.Now().Add(timeout)})
}
