package reflector

import (
	"net/netip"
	"time"
)

// evictionSample is how many sources are looked at to find one to forget.
const evictionSample = 8

// limiter bounds the rate of each source by a token bucket. Of sources it knows a
// bounded number; at the limit it forgets, of a few that it looks at, the one with
// most tokens left: who sends most stays known. It is not safe for concurrent use.
type limiter struct {
	rate, burst float64
	max         int
	m           map[netip.Addr]*bucket
}

type bucket struct {
	tokens float64
	seen   time.Time
}

func newLimiter(perSecond, sources int) *limiter {
	return &limiter{rate: float64(perSecond), burst: 2 * float64(perSecond), max: sources, m: make(map[netip.Addr]*bucket)}
}

// source is what counts as one: an IPv6 host commonly has a /64 to itself.
func source(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	if ip.Is6() {
		p, err := ip.Prefix(64)
		if err == nil {
			return p.Addr()
		}
	}
	return ip
}

func (l *limiter) allow(ip netip.Addr, now time.Time) bool {
	key := source(ip)
	b := l.m[key]
	if b == nil {
		l.makeRoom(now)
		b = &bucket{tokens: l.burst}
		l.m[key] = b
	} else {
		b.tokens = l.refilled(b, now)
	}
	b.seen = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

func (l *limiter) refilled(b *bucket, now time.Time) float64 {
	return min(l.burst, b.tokens+now.Sub(b.seen).Seconds()*l.rate)
}

func (l *limiter) makeRoom(now time.Time) {
	if len(l.m) < l.max {
		return
	}
	var victim netip.Addr
	most, looked := -1.0, 0
	for k, b := range l.m { // the order of a map is random enough
		if t := l.refilled(b, now); t > most {
			victim, most = k, t
		}
		if looked++; looked == evictionSample {
			break
		}
	}
	delete(l.m, victim)
}
