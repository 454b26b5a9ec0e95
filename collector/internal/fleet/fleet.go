// Package fleet knows which agents there are and whether they are heard: who is
// connected, since when, by which transport, and for how long a silent one has been
// silent.
package fleet

import (
	"sync"
	"time"

	"sidetone/shared/telemetry"
)

// Conn describes a live connection.
type Conn struct {
	Transport string
	Remote    string
	// CertExpires is the end of the certificate that the agent presented.
	CertExpires time.Time
	// ClockOffset is the agent's clock minus the collector's, at the hello.
	ClockOffset time.Duration
	Version     string
}

// Presence is how an agent stands.
type Presence struct {
	Source    telemetry.Source
	Connected bool
	// Since is when Connected last changed; zero when the agent was never seen by
	// this collector.
	Since    time.Time
	LastSeen time.Time // newest frame or connection
	Reason   string    // why the last connection ended
	Conn     Conn
}

// Silence is an agent and how long it has not been heard.
type Silence struct {
	Source telemetry.Source
	For    time.Duration
}

// Fleet is the presence of all agents. Agents enter by Know (at the start, and when
// one enrols) or by connecting.
type Fleet struct {
	mu     sync.Mutex
	agents map[telemetry.AgentID]*Presence // guarded by mu
	start  time.Time
}

// New returns an empty Fleet. start is when this collector began to listen: an agent
// cannot have been silent for longer than the collector had ears.
func New(start time.Time) *Fleet {
	return &Fleet{agents: map[telemetry.AgentID]*Presence{}, start: start}
}

// Know adds an agent that is enrolled, with the instant it was last seen, if ever.
func (f *Fleet) Know(src telemetry.Source, lastSeen time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.entry(src)
	if lastSeen.After(p.LastSeen) {
		p.LastSeen = lastSeen
	}
}

// Forget removes an agent that was revoked or deleted.
func (f *Fleet) Forget(id telemetry.AgentID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.agents, id)
}

// Connected notes a new connection.
func (f *Fleet) Connected(src telemetry.Source, c Conn, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.entry(src)
	if !p.Connected {
		p.Since = now
	}
	p.Connected, p.Conn, p.LastSeen, p.Reason = true, c, now, ""
}

// Disconnected notes the end of the agent's last connection.
func (f *Fleet) Disconnected(src telemetry.Source, reason string, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.entry(src)
	p.Connected, p.Since, p.Reason = false, now, reason
}

// Seen notes that a frame came.
func (f *Fleet) Seen(src telemetry.Source, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entry(src).LastSeen = now
}

// Presence returns how one agent stands.
func (f *Fleet) Presence(id telemetry.AgentID) (Presence, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.agents[id]
	if !ok {
		return Presence{}, false
	}
	return *p, true
}

// ConnectedCount is the number of agents with a live connection.
func (f *Fleet) ConnectedCount() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, p := range f.agents {
		if p.Connected {
			n++
		}
	}
	return n
}

// Silences lists every known agent that was seen at least once, with the time since
// it was last heard. An agent that never connected is waiting to be installed, not
// silent.
func (f *Fleet) Silences(now time.Time) []Silence {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]Silence, 0, len(f.agents))
	for _, p := range f.agents {
		if p.LastSeen.IsZero() {
			continue
		}
		since := p.LastSeen
		if since.Before(f.start) {
			since = f.start
		}
		out = append(out, Silence{Source: p.Source, For: max(0, now.Sub(since))})
	}
	return out
}

// LastSeen returns when each agent was last heard, for the control store.
func (f *Fleet) LastSeen() map[telemetry.AgentID]time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[telemetry.AgentID]time.Time, len(f.agents))
	for id, p := range f.agents {
		if !p.LastSeen.IsZero() {
			out[id] = p.LastSeen
		}
	}
	return out
}

func (f *Fleet) entry(src telemetry.Source) *Presence {
	p, ok := f.agents[src.Agent]
	if !ok {
		p = &Presence{}
		f.agents[src.Agent] = p
	}
	p.Source = src
	return p
}
