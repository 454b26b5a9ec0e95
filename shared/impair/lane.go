package impair

import (
	"sync"
	"time"
)

// lane is one direction of a proxy: its shaper, what it counted, and who waits for a
// change of its profile.
type lane struct {
	mu      sync.Mutex
	shaper  *shaper       // guarded by mu
	count   Counters      // guarded by mu
	changed chan struct{} // guarded by mu: closed when the profile changes
}

func newLane(seed uint64, d Direction, p Profile) *lane {
	return &lane{shaper: newShaper(seed, d, p), changed: make(chan struct{})}
}

func (l *lane) set(now time.Duration, p Profile) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shaper.set(now, p)
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *lane) profile() (Profile, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shaper.profile, l.changed
}

// arrived counts a packet and decides about it.
func (l *lane) arrived(now time.Duration, payload, size int) fate {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count.Packets++
	l.count.Bytes += uint64(payload)
	f := l.shaper.packet(now, size)
	if f.copies == 0 {
		l.count.Dropped[f.drop]++
		return f
	}
	if f.copies > 1 {
		l.count.Duplicated++
	}
	if f.reordered {
		l.count.Reordered++
	}
	return f
}

// piece counts a piece of a TCP stream, and tells when it leaves and how long the line is
// busy with it and what came before.
func (l *lane) piece(now time.Duration, size int) (due, waiting time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if size > 0 { // 0 is the end of the stream
		l.count.Packets++
		l.count.Bytes += uint64(size)
	}
	due = l.shaper.leaves(now, size, false)
	return due, l.shaper.waiting(now)
}

func (l *lane) sent(size int) {
	l.mu.Lock()
	l.count.SentPackets++
	l.count.SentBytes += uint64(size)
	l.mu.Unlock()
}

func (l *lane) dropped(why Reason) {
	l.mu.Lock()
	l.count.Dropped[why]++
	l.mu.Unlock()
}

// lost counts a packet that never came as far as arrived.
func (l *lane) lost(why Reason, size int) {
	l.mu.Lock()
	l.count.Packets++
	l.count.Bytes += uint64(size)
	l.count.Dropped[why]++
	l.mu.Unlock()
}

func (l *lane) counters() Counters {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}
