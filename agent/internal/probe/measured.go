package probe

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"sidetone/shared/pathstats"
	"sidetone/shared/telemetry"
)

// measured is one target at work. It is the Sink of its session.
type measured struct {
	target  Target
	id      telemetry.ItemID
	session Session
	clock   clock
	align   func() alignment
	count   *counters

	// addr is where the target is; nil until that is known.
	addr  atomic.Pointer[address]
	retry chan struct{} // capacity 1: resolve again soon

	mu      sync.Mutex // guards what follows; nothing is called while it is held
	windows []*window  // open ones, oldest first
	seq     uint32
	flying  int
	state   string // the last state of a closed window
	calc    pathstats.Calc
}

type address struct {
	to    netip.AddrPort
	fault string // set when there is none
	text  string
}

// offset spreads the targets over the interval. It only depends on the target, so
// the spread survives restarts.
func (m *measured) offset() time.Duration {
	// The ids are hashes, but of a kind whose upper bits mix badly: mix them again.
	h := uint64(m.id) * 0x9e3779b97f4a7c15
	return time.Duration((h >> 32) * uint64(m.target.Interval) >> 32)
}

// run makes the attempts until ctx ends, and waits for those on their way.
//
// The instants are fixed: start + offset + n × interval. An instant that is missed
// by half an interval or more is given up and counted; nothing is made up for, so
// two attempts are never nearer than half an interval.
func (m *measured) run(ctx context.Context) {
	var flights sync.WaitGroup
	defer flights.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	interval := m.target.Interval
	due := m.clock.now() + m.offset()
	for {
		timer.Reset(max(due-m.clock.now(), 0))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if n := missed(m.clock.now()-due, interval); n > 0 {
			m.count.overrun.Add(uint64(n))
			due += n * interval
			continue
		}
		due += interval
		m.attempt(ctx, &flights)
	}
}

// missed is the number of instants to give up when the first is late by so much.
func missed(late, interval time.Duration) time.Duration {
	return max(late+interval/2, 0) / interval
}

// attempt starts one attempt, if the target's address is known.
func (m *measured) attempt(ctx context.Context, flights *sync.WaitGroup) {
	addr := m.addr.Load()
	if addr == nil {
		return // not known yet: nothing was measured, nothing is lost
	}
	now := m.clock.now()
	limit := MaxOverlap + 1
	if serial(m.target.Method) {
		limit = 1
	}
	m.mu.Lock()
	if m.flying >= limit {
		m.mu.Unlock()
		m.count.overrun.Add(1)
		return
	}
	m.flying++
	seq := m.seq
	m.seq++
	m.current(now, seq).add(seq)
	m.mu.Unlock()

	flights.Go(func() {
		var a Attempt
		if addr.fault != "" {
			a = Lost(addr.fault, addr.text)
			a.Unsent = true
		} else {
			a = m.session.Attempt(ctx, Request{Seq: seq, Dst: addr.to, Deadline: m.clock.instant(now + m.target.Timeout)})
		}
		m.complete(ctx, seq, &a)
	})
}

// current returns the window of an attempt sent now; m.mu is held.
func (m *measured) current(now time.Duration, seq uint32) *window {
	al := m.align()
	if n := len(m.windows); n > 0 && now < m.windows[n-1].end {
		// After a step of the wall clock the old window runs to its end all the same.
		return m.windows[n-1]
	}
	start := al.boundary(now)
	w := newWindow(start, al, seq, int(al.length/m.target.Interval)+1)
	m.windows = append(m.windows, w)
	return w
}

func (m *measured) complete(ctx context.Context, seq uint32, a *Attempt) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.flying--
	if a.RTT <= 0 && ctx.Err() != nil {
		return // cut short by the stop: no outcome, the window stays partial
	}
	w := m.find(seq)
	if w == nil {
		m.count.afterClose.Add(1)
		return
	}
	received := time.Duration(0)
	if a.RTT > 0 {
		received = m.clock.mono(a.Received)
	} else if a.Fault == FaultUnreachable || a.Fault == FaultRefused {
		m.resolveSoon()
	}
	w.complete(seq, a, received, time.Now())
}

func (m *measured) resolveSoon() {
	select {
	case m.retry <- struct{}{}:
	default:
	}
}

// find returns the open window that holds the attempt; m.mu is held.
func (m *measured) find(seq uint32) *window {
	for _, w := range m.windows {
		if w.at(seq) != nil {
			return w
		}
	}
	return nil
}

// Late implements Sink.
func (m *measured) Late(seq uint32, far pathstats.Far) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.find(seq)
	if w == nil {
		m.count.afterClose.Add(1)
		return
	}
	p := w.at(seq)
	p.Late, p.Far = true, far
}

// Duplicate implements Sink.
func (m *measured) Duplicate(seq uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w := m.find(seq); w != nil {
		w.duplicated++
		return
	}
	m.count.afterClose.Add(1)
}

// Foreign implements Sink.
func (m *measured) Foreign() { m.count.foreign.Add(1) }

// close moves the windows whose last attempt's timeout has passed at now into set.
// With final set, windows that are over and have no attempt on its way go too.
func (m *measured) close(now time.Duration, final bool, set *telemetry.Set) {
	m.mu.Lock()
	defer m.mu.Unlock()
	listed := false
	for len(m.windows) > 0 {
		w := m.windows[0]
		over := now >= w.end+m.target.Timeout
		if final { // attempts cut short by the stop have no outcome
			over = now >= w.end && w.pending == 0
		}
		if !over {
			return
		}
		var later []pathstats.Attempt
		if len(m.windows) > 1 {
			later = m.windows[1].attempts
		}
		row := w.row(&m.calc, m.id, later)
		m.windows[0] = nil
		m.windows = m.windows[1:]
		if !listed {
			set.Targets = append(set.Targets, m.target.row())
			listed = true
		}
		set.ProbeWindows = append(set.ProbeWindows, row)
		m.stateChange(w, set)
	}
}

// stateChange adds an event when a window ended with another state than the one
// before. Judged once a window, a property that flaps makes at most one event each.
func (m *measured) stateChange(w *window, set *telemetry.Set) {
	if w.state == "" {
		return
	}
	if m.state != "" && m.state != w.state {
		set.StateChanges = append(set.StateChanges, telemetry.StateChange{
			Observed: telemetry.MS(w.stateAt), Subject: telemetry.SubjectTarget,
			Item: m.id, Name: m.target.Name,
			From: cleanDetail(m.state), To: cleanDetail(w.state), Detail: stateTitle(m.target.Method),
		})
	}
	m.state = w.state
}

func stateTitle(method telemetry.Method) string {
	switch method {
	case telemetry.MethodSTUN:
		return "public address changed"
	case telemetry.MethodTLS:
		return "certificate changed"
	}
	return "changed"
}
