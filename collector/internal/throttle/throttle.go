// Package throttle counts tries by key in token buckets, in a table of bounded
// size: guessed passwords by account and by address, guessed tokens by address. A
// try is taken before the work and given back when it was honest, so that parallel
// guesses cannot overtake the count.
package throttle

import (
	"net/netip"
	"sync"
	"time"
)

// Table holds one bucket a key. It is safe for concurrent use.
type Table struct {
	burst  float64
	refill time.Duration
	limit  int
	now    func() time.Time

	mu      sync.Mutex
	buckets map[string]bucket // guarded by mu
}

type bucket struct {
	left float64
	at   time.Time
}

// New makes a table whose buckets hold burst tries and regain one each refill. It
// keeps at most limit keys; now is time.Now unless a test gives another.
func New(burst int, refill time.Duration, limit int, now func() time.Time) *Table {
	return &Table{burst: float64(burst), refill: refill, limit: limit, now: now, buckets: map[string]bucket{}}
}

// Take takes one try. Without one left it returns how long to wait for the next.
func (t *Table) Take(key string) (wait time.Duration, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	b := t.filled(key, now)
	if b.left < 1 {
		return time.Duration((1 - b.left) * float64(t.refill)), false
	}
	b.left--
	t.put(key, b, now)
	return 0, true
}

// Return gives a try back.
func (t *Table) Return(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	b := t.filled(key, now)
	b.left = min(b.left+1, t.burst)
	t.put(key, b, now)
}

func (t *Table) filled(key string, now time.Time) bucket {
	b, known := t.buckets[key]
	if !known {
		return bucket{left: t.burst, at: now}
	}
	if since := now.Sub(b.at); since > 0 {
		b.left = min(t.burst, b.left+float64(since)/float64(t.refill))
	}
	b.at = now
	return b
}

// put stores a bucket; a full one needs no entry. When the table is full the fullest
// of a few buckets makes room (map order is random): whoever guesses most stays.
func (t *Table) put(key string, b bucket, now time.Time) {
	if b.left >= t.burst {
		delete(t.buckets, key)
		return
	}
	if _, known := t.buckets[key]; !known && len(t.buckets) >= t.limit {
		victim, best, seen := "", -1.0, 0
		for k := range t.buckets {
			if left := t.filled(k, now).left; left > best {
				victim, best = k, left
			}
			if seen++; seen == 16 {
				break
			}
		}
		delete(t.buckets, victim)
	}
	t.buckets[key] = b
}

// Len is the number of keys kept.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.buckets)
}

// AddrKey is the key of a remote address: an IPv4 address, or the /64 of an IPv6
// one, which is what a single subscriber has. Port and zone do not count.
func AddrKey(remote string) string {
	if ap, err := netip.ParseAddrPort(remote); err == nil {
		return addrKey(ap.Addr())
	}
	if a, err := netip.ParseAddr(remote); err == nil {
		return addrKey(a)
	}
	return "unknown"
}

func addrKey(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return a.String()
	}
	p, err := a.Prefix(64)
	if err != nil {
		return "unknown"
	}
	return p.String()
}
