package agentd

import (
	"net/netip"
	"sync"
	"time"

	"sidetone/agent/internal/probe"
	"sidetone/shared/telemetry"
)

// What a path must show to count as poor, and as well again: the two differ, so that a
// value near the limit does not sway.
const (
	poorLoss  = 0.03
	wellLoss  = 0.01
	poorRTT   = 2.0 // times the usual, plus poorExtra
	poorExtra = 50 * time.Millisecond
	wellRTT   = 1.5
	wellExtra = 25 * time.Millisecond

	// lossWindows is over how many windows losses are added up: in one window of ten
	// attempts a single loss would be ten per cent. lossMin is how many must be lost.
	lossWindows = 6
	lossMin     = 2
	// usualShare is how much of a new median goes into the usual one: a day's rise and
	// fall is followed, a busy hour is not.
	usualShare = 1.0 / 256
	// usualAfter is how many windows must have been seen before an RTT can be unusual.
	usualAfter = 6
	// qualityOld is when a judgement has no windows left to stand on.
	qualityOld = 2 * time.Minute
)

// quality judges, from the windows that pass by, whether the site's way out is in
// trouble. Only methods that measure the path itself count, and only targets out there:
// a slow name server or a printer in the LAN says nothing of the uplink.
type quality struct {
	collector string // host
	now       func() time.Time

	mu      sync.Mutex
	targets map[telemetry.ItemID]*pathQuality // guarded by mu; nil: does not count
}

// pathQuality is one target's.
type pathQuality struct {
	recent []telemetry.ProbeWindow // the newest lossWindows, without RTTs
	usual  float64                 // RTT p50, µs
	seen   int
	poor   bool
	at     time.Time
}

func newQuality(collectorHost string) *quality {
	return &quality{collector: collectorHost, now: time.Now, targets: map[telemetry.ItemID]*pathQuality{}}
}

// counts tells whether a target says something of the site's way out.
func (q *quality) counts(t telemetry.Target) bool {
	if t.Method != telemetry.MethodICMP && t.Method != telemetry.MethodSTAMP {
		return false
	}
	if t.Address == probe.AddressCollector || t.Address == q.collector {
		return true
	}
	addr := t.Address
	if ap, err := netip.ParseAddrPort(addr); err == nil {
		addr = ap.Addr().String()
	}
	a, err := netip.ParseAddr(addr)
	return err != nil || !a.IsPrivate() && !a.IsLoopback() && !a.IsLinkLocalUnicast()
}

// note takes the windows of a set into account.
func (q *quality) note(set *telemetry.Set) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, t := range set.Targets {
		if _, known := q.targets[t.ID]; known || len(q.targets) >= probe.MaxTargets {
			continue
		}
		q.targets[t.ID] = nil
		if q.counts(t) {
			q.targets[t.ID] = &pathQuality{}
		}
	}
	now := q.now()
	for i := range set.ProbeWindows {
		if p := q.targets[set.ProbeWindows[i].Target]; p != nil {
			p.note(&set.ProbeWindows[i], now)
		}
	}
}

func (p *pathQuality) note(w *telemetry.ProbeWindow, now time.Time) {
	if w.Received == 0 {
		// Nothing comes back at all: that is an outage or a filter, and to be silent
		// ourselves would not help it. If it lasts, the judgement grows old.
		return
	}
	p.at = now
	if len(p.recent) == lossWindows {
		p.recent = append(p.recent[:0], p.recent[1:]...)
	}
	p.recent = append(p.recent, telemetry.ProbeWindow{Sent: w.Sent, Lost: w.Lost})
	var sent, lost uint32
	for _, r := range p.recent {
		sent, lost = sent+r.Sent, lost+r.Lost
	}
	loss, rtt := float64(lost)/float64(max(sent, 1)), float64(w.RTTP50US)
	limit := func(times float64, extra time.Duration) float64 { return p.usual*times + float64(extra.Microseconds()) }
	known := p.seen >= usualAfter
	switch {
	case p.poor:
		p.poor = loss > wellLoss && lost >= lossMin || known && rtt > limit(wellRTT, wellExtra)
	default:
		p.poor = loss > poorLoss && lost >= lossMin || known && rtt > limit(poorRTT, poorExtra)
	}
	p.learn(rtt)
}

// learn moves the usual RTT: quickly at first, then slowly, also while the path is poor,
// since a way that has changed for good is the usual one some day.
func (p *pathQuality) learn(rtt float64) {
	p.seen++
	share := usualShare
	if p.seen <= usualAfter {
		share = 1 / float64(p.seen)
	}
	p.usual += (rtt - p.usual) * share
}

// poor tells whether any path out is in trouble now.
func (q *quality) poor() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	for _, p := range q.targets {
		if p != nil && p.poor && now.Sub(p.at) < qualityOld {
			return true
		}
	}
	return false
}
