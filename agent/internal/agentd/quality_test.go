package agentd

import (
	"testing"
	"time"

	"sidetone/shared/telemetry"
)

func TestQualityCounts(t *testing.T) {
	q := newQuality("10.0.0.9")
	for _, c := range []struct {
		name    string
		method  telemetry.Method
		address string
		want    bool
	}{
		{"reflector", telemetry.MethodSTAMP, "collector", true},
		{"collector in the LAN", telemetry.MethodICMP, "10.0.0.9", true},
		{"trunk", telemetry.MethodICMP, "192.0.2.1", true},
		{"trunk by name", telemetry.MethodICMP, "sip.example.com", true},
		{"printer", telemetry.MethodICMP, "192.168.1.7", false},
		{"own STAMP in the LAN", telemetry.MethodSTAMP, "192.168.1.7:862", false},
		{"STAMP out there", telemetry.MethodSTAMP, "192.0.2.1:862", true},
		{"web server", telemetry.MethodTCP, "192.0.2.1:443", false},
		{"resolver", telemetry.MethodDNS, "system", false},
	} {
		if got := q.counts(telemetry.Target{Method: c.method, Address: c.address}); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestQuality(t *testing.T) {
	clock := time.Unix(1_000_000, 0)
	q := newQuality("collector.example.com")
	q.now = func() time.Time { return clock }
	window := func(lost uint32, rtt time.Duration) {
		clock = clock.Add(10 * time.Second)
		q.note(&telemetry.Set{
			Targets:      []telemetry.Target{{ID: 1, Method: telemetry.MethodICMP, Address: "192.0.2.1"}, {ID: 2, Method: telemetry.MethodDNS, Address: "system"}},
			ProbeWindows: []telemetry.ProbeWindow{{Target: 1, Sent: 10, Lost: lost, Received: 10 - lost, RTTP50US: uint32(rtt.Microseconds())}, {Target: 2, Sent: 10, Lost: 9, Received: 1}},
		})
	}
	steps := []struct {
		name string
		lost uint32
		rtt  time.Duration
		n    int
		want bool
	}{
		{"quiet", 0, 20 * time.Millisecond, 20, false},
		{"one loss is nothing", 1, 20 * time.Millisecond, 1, false},
		{"a second soon after", 1, 20 * time.Millisecond, 1, true},
		{"one of sixty left", 0, 20 * time.Millisecond, 5, false},
		{"slower, within bounds", 0, 85 * time.Millisecond, 3, false},
		{"a full queue", 0, 300 * time.Millisecond, 1, true},
		{"between the limits: still poor", 0, 70 * time.Millisecond, 3, true},
		{"well again", 0, 25 * time.Millisecond, 1, false},
		{"between the limits: still well", 0, 70 * time.Millisecond, 3, false},
		{"half is lost", 5, 20 * time.Millisecond, 2, true},
		{"all is lost: no news", 10, 0, 3, true},
		{"all is lost for long: no judgement", 10, 0, 10, false},
	}
	for _, s := range steps {
		for range s.n {
			window(s.lost, s.rtt)
		}
		if got := q.poor(); got != s.want {
			t.Errorf("%s: poor = %v", s.name, got)
		}
	}
}

func TestUsualRTTFollows(t *testing.T) {
	p, now := &pathQuality{}, time.Unix(1_000_000, 0)
	note := func(rtt uint32, n int) {
		for range n {
			p.note(&telemetry.ProbeWindow{Sent: 10, Received: 10, RTTP50US: rtt}, now)
		}
	}
	note(20_000, 100)
	note(200_000, 1)
	if !p.poor {
		t.Fatal("a tenfold RTT is not poor")
	}
	note(200_000, 360) // an hour by another way
	if p.poor {
		t.Errorf("still poor; the usual is %.0f µs", p.usual)
	}
}
