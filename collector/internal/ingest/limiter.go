package ingest

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxLimited bounds the addresses that are remembered.
const maxLimited = 10_000

// addrLimiter bounds the rate of something for each remote address: an IPv4
// address, or an IPv6 network of /64, which one person can have whole.
type addrLimiter struct {
	perMinute int

	mu sync.Mutex
	by map[netip.Addr]*rate.Limiter // guarded by mu
	// rest serves all addresses that find no room in the table. guarded by mu
	rest *rate.Limiter
}

func newAddrLimiter(perMinute int) *addrLimiter {
	l := &addrLimiter{perMinute: perMinute, by: map[netip.Addr]*rate.Limiter{}}
	l.rest = l.fresh()
	return l
}

func (l *addrLimiter) fresh() *rate.Limiter {
	return rate.NewLimiter(rate.Limit(float64(l.perMinute)/60), l.perMinute)
}

func (l *addrLimiter) allow(remote net.Addr, now time.Time) bool {
	key := limitKey(remote)
	l.mu.Lock()
	defer l.mu.Unlock()
	lim, ok := l.by[key]
	if !ok {
		if len(l.by) >= maxLimited {
			l.forget(now)
		}
		if len(l.by) >= maxLimited {
			return l.rest.AllowN(now, 1)
		}
		lim = l.fresh()
		l.by[key] = lim
	}
	return lim.AllowN(now, 1)
}

// forget drops the addresses that have their full allowance again: a new entry
// would be the same.
func (l *addrLimiter) forget(now time.Time) {
	for a, lim := range l.by {
		if lim.TokensAt(now) >= float64(l.perMinute) {
			delete(l.by, a)
		}
	}
}

func limitKey(remote net.Addr) netip.Addr {
	ap, err := netip.ParseAddrPort(remote.String())
	if err != nil {
		return netip.Addr{}
	}
	a := ap.Addr().Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}
