package fleet

import (
	"testing"
	"time"

	"sidetone/shared/telemetry"
)

func TestSilence(t *testing.T) {
	start := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	src := telemetry.Source{Agent: 7}
	cases := []struct {
		name string
		do   func(*Fleet)
		now  time.Time
		want time.Duration // -1: not listed
	}{
		{"never connected is not silent", func(f *Fleet) { f.Know(src, time.Time{}) }, at(500), -1},
		{"silence does not count before the collector listened", func(f *Fleet) { f.Know(src, at(-3600)) }, at(20), 20 * time.Second},
		{"a frame ends the silence", func(f *Fleet) { f.Know(src, at(-3600)); f.Seen(src, at(90)) }, at(100), 10 * time.Second},
		{"a lost connection counts from the last frame", func(f *Fleet) {
			f.Connected(src, Conn{}, at(5))
			f.Seen(src, at(50))
			f.Disconnected(src, "idle timeout", at(80))
		}, at(110), 60 * time.Second},
		{"a clock that went back gives no negative silence", func(f *Fleet) { f.Seen(src, at(50)) }, at(40), 0},
		{"forgotten", func(f *Fleet) { f.Seen(src, at(1)); f.Forget(7) }, at(90), -1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := New(start)
			c.do(f)
			got := f.Silences(c.now)
			if c.want < 0 {
				if len(got) != 0 {
					t.Fatalf("listed: %+v", got)
				}
				return
			}
			if len(got) != 1 || got[0].For != c.want {
				t.Fatalf("got %+v, want %v", got, c.want)
			}
		})
	}
}

func TestSinceIsOfTheState(t *testing.T) {
	f := New(time.Unix(0, 0))
	src := telemetry.Source{Agent: 1}
	f.Connected(src, Conn{Transport: "quic"}, time.Unix(10, 0))
	f.Connected(src, Conn{Transport: "quic", Remote: "new"}, time.Unix(20, 0)) // newest wins, still connected
	p, _ := f.Presence(1)
	if p.Since != time.Unix(10, 0) || p.Conn.Remote != "new" || f.ConnectedCount() != 1 {
		t.Fatalf("%+v", p)
	}
	f.Disconnected(src, "gone", time.Unix(30, 0))
	if p, _ = f.Presence(1); p.Connected || p.Since != time.Unix(30, 0) || p.Reason != "gone" {
		t.Fatalf("%+v", p)
	}
}
