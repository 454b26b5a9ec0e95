package stamp_test

import (
	"net/netip"
	"testing"
	"time"

	"sidetone/shared/stamp"
)

func key(port, ssid int) stamp.SessionKey {
	return stamp.SessionKey{Source: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), uint16(port)), SSID: uint16(ssid)}
}

func TestSessionsCountByThemselves(t *testing.T) {
	s := stamp.NewSessions(0, 0)
	now := time.Unix(1000, 0)
	for want := range uint32(3) {
		for _, k := range []stamp.SessionKey{key(1, 0), key(2, 0), key(1, 7)} {
			if got := s.Next(k, now); got != want {
				t.Errorf("%v: %d, want %d", k, got, want)
			}
		}
	}
	if s.Len() != 3 {
		t.Errorf("%d sessions", s.Len())
	}
}

func TestSessionsEndWhenIdle(t *testing.T) {
	s := stamp.NewSessions(10, time.Minute)
	now := time.Unix(1000, 0)
	s.Next(key(1, 0), now)
	s.Next(key(2, 0), now)
	if got := s.Next(key(1, 0), now.Add(time.Minute)); got != 1 {
		t.Errorf("at the limit the session goes on: got %d", got)
	}
	if got := s.Next(key(1, 0), now.Add(2*time.Minute+1)); got != 0 {
		t.Errorf("after the limit it begins anew: got %d", got)
	}
	s.Next(key(3, 0), now.Add(2*time.Minute+2)) // sweeps session 2
	if s.Len() != 2 || s.Evicted() != 0 {
		t.Errorf("%d sessions, %d evicted", s.Len(), s.Evicted())
	}
}

func TestSessionsAreBounded(t *testing.T) {
	const limit = 8 // all of them are looked at
	s := stamp.NewSessions(limit, time.Minute)
	now := time.Unix(1000, 0)
	for range 5 {
		s.Next(key(1, 0), now)
	}
	for port := 2; port < 1000; port++ {
		s.Next(key(port, 0), now)
		if s.Len() > limit {
			t.Fatalf("%d sessions", s.Len())
		}
	}
	if got := s.Next(key(1, 0), now); got != 5 {
		t.Errorf("a flood of new sessions displaced a long one: its next number is %d", got)
	}
	if want := uint64(998 + 1 - limit); s.Evicted() != want {
		t.Errorf("evicted %d, want %d", s.Evicted(), want)
	}
}

func BenchmarkSessionsFull(b *testing.B) {
	s := stamp.NewSessions(0, 0)
	now := time.Unix(1000, 0)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.Next(stamp.SessionKey{Source: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 5000)}, now)
	}
}
