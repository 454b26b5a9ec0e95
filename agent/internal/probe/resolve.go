package probe

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

const (
	resolveEvery   = 60 * time.Second
	resolveRetry   = 5 * time.Second // least time between two look-ups of one name
	resolveTimeout = 5 * time.Second
)

// lookupFunc finds the addresses of a host.
type lookupFunc func(ctx context.Context, host string) ([]netip.Addr, error)

// resolve keeps the target's address fresh until ctx ends: once a minute, after a
// failure, and when the reflector's address changes. A name that can no longer be
// resolved keeps its last address: the path is still there to be measured.
func (p *Prober) resolve(ctx context.Context, m *measured) {
	for {
		changed := p.reflectorChanged()
		wait := p.resolveOnce(ctx, m)
		var again <-chan time.Time
		var timer *time.Timer
		if wait > 0 {
			timer = time.NewTimer(wait)
			again = timer.C
		}
		least := time.NewTimer(resolveRetry)
		retry := (<-chan struct{})(nil)
	waiting:
		for {
			select {
			case <-ctx.Done():
				stopTimers(timer, least)
				return
			case <-changed:
				break waiting
			case <-again:
				break waiting
			case <-least.C:
				if wait > 0 {
					retry = m.retry
				}
			case <-retry:
				break waiting
			}
		}
		stopTimers(timer, least)
	}
}

func stopTimers(timers ...*time.Timer) {
	for _, t := range timers {
		if t != nil {
			t.Stop()
		}
	}
}

// resolveOnce sets the target's address and says after what time to look again;
// zero means that only a new reflector can change it.
func (p *Prober) resolveOnce(ctx context.Context, m *measured) time.Duration {
	text := m.target.Address
	if m.target.usesReflector() {
		if text = p.reflectorAddr(); text == "" {
			m.addr.Store(nil)
			return 0
		}
	}
	if r, ok := m.session.(AddressResolver); ok && text == AddressSystem {
		to, err := r.Resolve(ctx)
		p.setAddress(m, to, err)
		return resolveEvery
	}
	host, port, err := SplitAddress(text, defaultPort(m.target.Method))
	if err != nil {
		p.setAddress(m, netip.AddrPort{}, err)
		return resolveEvery
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		p.setAddress(m, netip.AddrPortFrom(ip.Unmap(), port), nil)
		return 0
	}
	lookup, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	ips, err := p.lookup(lookup, host)
	if ctx.Err() != nil {
		return 0
	}
	if err == nil && len(ips) == 0 {
		err = fmt.Errorf("look up %s: no address", host)
	}
	p.setAddress(m, netip.AddrPortFrom(choose(ips, m.addr.Load()), port), err)
	if err != nil {
		return resolveRetry
	}
	return resolveEvery
}

// choose keeps the present address while the name still has it, so that a rotating
// answer does not make the path jump; else it takes the first.
func choose(ips []netip.Addr, now *address) netip.Addr {
	for i := range ips {
		ips[i] = ips[i].Unmap()
	}
	if now != nil && slices.Contains(ips, now.to.Addr()) {
		return now.to.Addr()
	}
	if len(ips) == 0 {
		return netip.Addr{}
	}
	return ips[0]
}

func (p *Prober) setAddress(m *measured, to netip.AddrPort, err error) {
	old := m.addr.Load()
	known := old != nil && old.fault == ""
	if err == nil {
		if known && old.to == to {
			return
		}
		m.addr.Store(&address{to: to})
		p.log.Info().Str("target", m.target.Name).Stringer("addr", to).Msg("target has an address")
		return
	}
	if known || old == nil || old.text != err.Error() {
		p.log.Warn().Str("target", m.target.Name).Str("fault", FaultResolve).Err(err).Msg("target's name cannot be resolved")
	}
	if !known {
		m.addr.Store(&address{fault: FaultResolve, text: err.Error()})
	}
}
