package stamp

import (
	"net/netip"
	"time"
)

const (
	// DefaultMaxSessions bounds the table: about 100 octets each.
	DefaultMaxSessions = 16384
	// DefaultSessionIdle ends a session that was silent for so long (REFWAIT, RFC 5357, 4.2).
	DefaultSessionIdle = 900 * time.Second
	// evictionSample is how many sessions are looked at to find one to give up.
	evictionSample = 8
)

// SessionKey is what makes two packets belong to one session: the sender's address
// and port, and its SSID (RFC 8972).
type SessionKey struct {
	Source netip.AddrPort
	SSID   uint16
}

// Sessions gives a stateful reflector its own sequence number for each session, so
// that the sender can tell loss on the way there from loss on the way back
// (RFC 8762, 4.2). The table is bounded: at the limit it gives up, of a few
// sessions looked at, the one that has sent least; a sender notices that its
// session began anew. It is not safe for concurrent use.
type Sessions struct {
	max     int
	idle    time.Duration
	m       map[SessionKey]*session
	evicted uint64
	swept   time.Time
}

type session struct {
	next uint32
	seen time.Time
}

// NewSessions returns a table of at most max sessions; each ends after idle without
// a packet. Zero values mean the defaults.
func NewSessions(max int, idle time.Duration) *Sessions {
	if max <= 0 {
		max = DefaultMaxSessions
	}
	if idle <= 0 {
		idle = DefaultSessionIdle
	}
	return &Sessions{max: max, idle: idle, m: make(map[SessionKey]*session)}
}

// Next returns the sequence number of the answer to a packet of session k that
// came at now: 0, 1, 2, …
func (t *Sessions) Next(k SessionKey, now time.Time) uint32 {
	s := t.m[k]
	if s == nil {
		t.makeRoom(now)
		s = &session{}
		t.m[k] = s
	} else if now.Sub(s.seen) > t.idle {
		s.next = 0
	}
	seq := s.next
	s.next++
	s.seen = now
	return seq
}

// Len is the number of sessions held.
func (t *Sessions) Len() int { return len(t.m) }

// Evicted counts the live sessions that were given up for want of room.
func (t *Sessions) Evicted() uint64 { return t.evicted }

// makeRoom removes the idle sessions, at most once in a quarter of the idle time,
// and one more when the table is still full.
func (t *Sessions) makeRoom(now time.Time) {
	if now.Sub(t.swept) > t.idle/4 {
		t.swept = now
		for k, s := range t.m {
			if now.Sub(s.seen) > t.idle {
				delete(t.m, k)
			}
		}
	}
	if len(t.m) < t.max {
		return
	}
	var victim SessionKey
	var worst *session
	looked := 0
	for k, s := range t.m { // the order of a map is random enough
		if worst == nil || s.next < worst.next || s.next == worst.next && s.seen.Before(worst.seen) {
			victim, worst = k, s
		}
		if looked++; looked == evictionSample {
			break
		}
	}
	if now.Sub(worst.seen) <= t.idle {
		t.evicted++
	}
	delete(t.m, victim)
}
