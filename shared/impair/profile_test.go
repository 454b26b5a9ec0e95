package impair

import (
	"strings"
	"testing"
	"time"
)

func TestParseProfile(t *testing.T) {
	for _, c := range []struct {
		text string
		want Profile
	}{
		{"", Profile{}},
		{"delay=20ms jitter=5ms normal loss=1%", Profile{Delay: 20 * time.Millisecond, Jitter: 5 * time.Millisecond, Normal: true, Loss: 0.01}},
		{"loss=0.25 duplicate=2% reorder=1% reorder-by=30ms", Profile{Loss: 0.25, Duplicate: 0.02, Reorder: 0.01, ReorderBy: 30 * time.Millisecond}},
		{"loss=20% loss-burst=4", Profile{Bursts: LossBursts(0.2, 4)}},
		{"bursts=1%,20%,0,0.9", Profile{Bursts: Bursts{0.01, 0.2, 0, 0.9}}},
		{"rate=512kbit queue=100ms mtu=1280", Profile{Rate: 512_000, Queue: 100 * time.Millisecond, MTU: 1280}},
		{"rate=1.5mbit", Profile{Rate: 1_500_000}},
		{"rate=64000", Profile{Rate: 64_000}},
		{"blackhole", Profile{Blackhole: true}},
		{"blackhole=false cut=16kb", Profile{CutAfter: 16_000}},
	} {
		t.Run(c.text, func(t *testing.T) {
			got, err := ParseProfile(c.text)
			if err != nil || got != c.want {
				t.Fatalf("got %+v, %v, want %+v", got, err, c.want)
			}
			if again, err := ParseProfile(got.String()); err != nil || again != got {
				t.Errorf("%q read again is %+v, %v", got.String(), again, err)
			}
		})
	}
}

func TestParseProfileRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"delay=20":         "missing unit",
		"loss=101%":        "ratio",
		"loss=NaN":         "ratio",
		"loss=-1%":         "ratio",
		"delay=-1s":        "delay",
		"delay=2h":         "delay",
		"speed=1":          "unknown",
		"rate=10":          "at least 1000",
		"rate=fast":        "invalid syntax",
		"rate=1e300":       "out of range",
		"mtu=10":           "68",
		"loss-burst=0.5":   "1 to 1e6",
		"bursts=1,2":       "four",
		"bursts=1,1,1,7":   "ratio",
		"blackhole=maybe":  "invalid syntax",
		"cut=-5":           "out of range",
		"queue=1s queue=x": "invalid duration",
	} {
		if p, err := ParseProfile(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v, want an error with %q", text, p, err, want)
		}
	}
}

func TestProfilesOfTheOtherKind(t *testing.T) {
	if _, err := ListenUDP(UDPConfig{Listen: "127.0.0.1:0", To: "127.0.0.1:9", Down: Profile{CutAfter: 1}}); err == nil || !strings.Contains(err.Error(), "profile down: cut") {
		t.Errorf("UDP with cut: %v", err)
	}
	if _, err := ListenTCP(TCPConfig{Listen: "127.0.0.1:0", To: "127.0.0.1:9", Up: Profile{Loss: 0.1}}); err == nil || !strings.Contains(err.Error(), "profile up: loss") {
		t.Errorf("TCP with loss: %v", err)
	}
}

func FuzzParseProfile(f *testing.F) {
	f.Add("delay=20ms jitter=5ms loss=1% loss-burst=4 rate=512kbit mtu=1280 blackhole cut=1kb")
	f.Add("bursts=1%,2%,3%,4% reorder=1")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseProfile(text)
		if err != nil {
			return
		}
		again, err := ParseProfile(p.String())
		if err != nil || again != p {
			t.Fatalf("%q gives %q, which gives %+v, %v", text, p.String(), again, err)
		}
	})
}
