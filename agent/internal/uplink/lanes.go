package uplink

import (
	"math"
	"time"
)

// The two lanes. A record is live while it is younger than liveFor; live records are
// sent at once and first. Older ones are backlog: they go in between, in bundles, under
// a cap, records of states before samples, oldest first, and not at all while the
// site's path measures poor.
const (
	liveFor = time.Minute
	// forever is the end of the live lane.
	forever = math.MaxUint64

	// bundleTime is how much of the cap one bundle may take: the cap then holds over any
	// ten seconds within 4 %.
	bundleTime = 320 * time.Millisecond
	// maxBundle and minBundle bound it: a long bundle holds up live records on a slow
	// line, a short one has more header than content.
	maxBundle = 32 << 10
	minBundle = 1500

	// flightTime is the backlog without an answer, as time at the cap; it shrinks when
	// answers take longer than slowAnswer, since then the line is slower than the cap,
	// or the collector is busy.
	flightTime = 3 * time.Second
	slowAnswer = 4 * time.Second

	// effortPause keeps the mark of lower effort off packets of a live record that are
	// still on their way out.
	effortPause = 100 * time.Millisecond
)

// packetBytes and packetData: each packet of packetData bytes of messages costs
// packetBytes more (IP, UDP, QUIC's header, seal and stream frame; with TLS over TCP
// about the same), and so does the acknowledgement of the answers.
const (
	packetData  = 1200
	packetBytes = 72
)

// onTheWire is what a message of n bytes costs, headers included.
func onTheWire(n int) int { return n + (n/packetData+1)*packetBytes }

// bucket is a token bucket of bytes; what is spent may exceed what is there.
type bucket struct {
	rate   float64 // bytes a second
	depth  float64
	tokens float64
	at     time.Time
}

func newBucket(rate float64, depth float64, now time.Time) *bucket {
	return &bucket{rate: rate, depth: depth, tokens: depth, at: now}
}

func (b *bucket) fill(now time.Time, factor float64) {
	if d := now.Sub(b.at).Seconds(); d > 0 {
		b.tokens = min(b.tokens+d*b.rate*factor, b.depth)
	}
	b.at = now
}

// spend takes n tokens, down to a debt of ten seconds.
func (b *bucket) spend(n int) { b.tokens = max(b.tokens-float64(n), -10*b.rate) }

// wait is how long until there are n tokens.
func (b *bucket) wait(n float64, factor float64) time.Duration {
	missing := min(n, b.depth) - b.tokens
	if missing <= 0 {
		return 0
	}
	return time.Duration(math.Ceil(missing / (b.rate * factor) * float64(time.Second)))
}

// throttle holds the backlog under the cap. Live records count but never wait. When
// they alone take the whole cap, the backlog still gets a quarter of it: else it would
// never leave.
type throttle struct {
	all    *bucket // live and backlog
	least  *bucket // backlog alone
	bundle int     // bytes of messages in a bundle
	factor float64 // 1, or a quarter after a long pause
}

const leastShare = 0.25

func newThrottle(kbit int, now time.Time) *throttle {
	rate := float64(kbit) * 1000 / 8
	bundle := int(min(max(rate*bundleTime.Seconds(), minBundle), maxBundle))
	depth := float64(bundle) * 1.25
	return &throttle{all: newBucket(rate, depth, now), least: newBucket(rate*leastShare, depth, now), bundle: bundle, factor: 1}
}

// wait is how long until a bundle may go.
func (t *throttle) wait(now time.Time) time.Duration {
	t.all.fill(now, t.factor)
	t.least.fill(now, t.factor)
	n := float64(onTheWire(t.bundle))
	return min(t.all.wait(n, t.factor), t.least.wait(n, t.factor))
}

func (t *throttle) sent(now time.Time, bytes int, backlog bool) {
	t.all.fill(now, t.factor)
	t.all.spend(bytes)
	if backlog {
		t.least.fill(now, t.factor)
		t.least.spend(bytes)
	}
}

// pauser decides whether the backlog may go while the path measures poor.
type pauser struct {
	since time.Time // poor since; zero: good
}

const (
	// maxPause is how long the backlog waits for a better path; then it goes on slowly,
	// since a line may be bad for ever.
	maxPause    = 15 * time.Minute
	creepFactor = 0.25
	// qualityEvery is how often the path's quality is asked for.
	qualityEvery = time.Second
	// pauseEvery is how often a pause is told.
	pauseEvery = 10 * time.Minute
)

// Reasons for a backlog that does not go as fast as it may.
const (
	pausedPoor = "the path measures poor: backlog waits"
	pausedLong = "the path measures poor for long: backlog goes on at a quarter of its cap"
)

// judge returns the share of the cap that the backlog may have, and why not all of it.
func (p *pauser) judge(now time.Time, poor bool) (share float64, reason string) {
	switch {
	case !poor:
		p.since = time.Time{}
		return 1, ""
	case p.since.IsZero():
		p.since = now
	}
	if now.Sub(p.since) < maxPause {
		return 0, pausedPoor
	}
	return creepFactor, pausedLong
}

// meter measures a rate over the last seconds.
type meter struct {
	bytes [meterSlots]int
	last  int64 // second of the newest slot
}

const meterSlots = 10

func (m *meter) add(now time.Time, n int) {
	m.turn(now)
	m.bytes[m.last%meterSlots] += n
}

func (m *meter) turn(now time.Time) {
	sec := now.Unix()
	if sec-m.last >= meterSlots || sec < m.last {
		m.bytes, m.last = [meterSlots]int{}, sec
		return
	}
	for m.last < sec {
		m.last++
		m.bytes[m.last%meterSlots] = 0
	}
}

// kbit is the mean of the window.
func (m *meter) kbit(now time.Time) float64 {
	m.turn(now)
	sum := 0
	for _, n := range m.bytes {
		sum += n
	}
	return float64(sum) * 8 / 1000 / meterSlots
}

// lanes is what is known of the two lanes, from one connection to the next: a new
// connection must not start with a burst. It belongs to Run's goroutine.
type lanes struct {
	split    uint64    // records below it are backlog
	due      time.Time // when the backlog may go on; zero: something else will tell
	throttle *throttle
	allow    int // bytes of the backlog that may be without an answer
	pauser   pauser
	paused   string // why the backlog does not go as fast as it may
	told     time.Time
	tell     bool // the pause was told, and so its end will be
	liveAt   time.Time
	live     meter
	backlog  meter
}

func newLanes(kbit int, now time.Time) *lanes {
	l := &lanes{split: 1, throttle: newThrottle(kbit, now)}
	l.allow = l.mostInFlight()
	return l
}

// begin is a new connection: what was paused may be judged anew.
func (l *lanes) begin() { l.due = time.Time{} }

func (l *lanes) mostInFlight() int {
	return max(int(l.throttle.all.rate*flightTime.Seconds()), 2*l.throttle.bundle)
}

// answered adapts what may be in flight to how long an answer took.
func (l *lanes) answered(took time.Duration) {
	switch {
	case took == 0: // none of the backlog
	case took > slowAnswer:
		l.allow = max(l.allow/2, l.throttle.bundle)
	default:
		l.allow = min(l.allow+l.throttle.bundle/2, l.mostInFlight())
	}
}

func (l *lanes) sent(now time.Time, bytes int, backlog bool) {
	l.throttle.sent(now, bytes, backlog)
	if backlog {
		l.backlog.add(now, bytes)
		return
	}
	l.liveAt = now
	l.live.add(now, bytes)
}

// backlogOpen tells whether the backlog may go by the path's quality.
func (u *Uplink) backlogOpen(now time.Time) bool {
	l := u.lanes
	share, reason := l.pauser.judge(now, u.deps.Quality())
	if share > 0 {
		l.throttle.wait(now) // what was earned until now was so at the former share
		l.throttle.factor = share
	}
	if reason != l.paused {
		u.tellPause(now, reason)
	}
	l.paused = reason
	return share > 0
}

// tellPause tells of a pause and of its end: not of each, for a path that sways must
// not fill the spool.
func (u *Uplink) tellPause(now time.Time, reason string) {
	l := u.lanes
	switch {
	case reason != "" && l.paused == "" && (l.told.IsZero() || now.Sub(l.told) >= pauseEvery):
		l.told, l.tell = now, true
		u.event("paused", u.State().Transport, reason)
	case reason == "" && l.tell:
		l.tell = false
		u.event("resumed", u.State().Transport, "the path measures well again: backlog goes on")
	}
}
