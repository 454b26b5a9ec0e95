package live

import (
	"sidetone/collector/internal/authz"
	"sidetone/shared/telemetry"
)

// queueLength bounds what a slow listener may leave unread. A listener that falls
// further behind is told to load everything anew.
const queueLength = 256

// Event is something that a dashboard wants to know.
type Event struct {
	Source telemetry.Source
	// Windows are new probe windows of the source's agent; they may be empty.
	Windows []telemetry.ProbeWindow
	// Changed says that something else about the site changed.
	Changed bool
	// Resync says that events were missed: load everything anew.
	Resync bool
}

// Subscription is one listener.
type Subscription struct {
	hub   *Hub
	scope authz.Scope
	site  telemetry.SiteID
	ch    chan Event
	lost  bool // guarded by hub.mu
}

// Subscribe starts listening to the sites in scope; site 0 means all of them. Call
// Close when done.
func (h *Hub) Subscribe(scope authz.Scope, site telemetry.SiteID) *Subscription {
	s := &Subscription{hub: h, scope: scope, site: site, ch: make(chan Event, queueLength)}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subs[s] = struct{}{}
	return s
}

// Events is the stream; it is never closed.
func (s *Subscription) Events() <-chan Event { return s.ch }

// Close ends the subscription.
func (s *Subscription) Close() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	delete(s.hub.subs, s)
}

// Listeners is the number of open subscriptions.
func (h *Hub) Listeners() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.subs)
}

// publish is called with mu held and never blocks.
func (h *Hub) publish(src telemetry.Source, windows []telemetry.ProbeWindow, changed bool) {
	if len(windows) == 0 && !changed {
		return
	}
	for s := range h.subs {
		if !s.scope.Allows(src.Tenant) || (s.site != 0 && s.site != src.Site) {
			continue
		}
		e := Event{Source: src, Windows: windows, Changed: changed, Resync: s.lost}
		select {
		case s.ch <- e:
			s.lost = false
		default:
			s.lost = true
		}
	}
}
