package probe

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"sidetone/shared/telemetry"
)

func TestValidate(t *testing.T) {
	ok := Target{Method: telemetry.MethodICMP, Address: "192.0.2.1"}
	with := func(f func(*Target)) Target { t := ok; f(&t); return t }
	cases := []struct {
		name string
		t    Target
		want string // the path of the mistake; empty: none
	}{
		{"good", ok, ""},
		{"host name", with(func(t *Target) { t.Address = "pbx.example" }), ""},
		{"IPv6", with(func(t *Target) { t.Address = "2001:db8::1" }), ""},
		{"tcp with port", Target{Method: telemetry.MethodTCP, Address: "[2001:db8::1]:5061"}, ""},
		{"tls without port", Target{Method: telemetry.MethodTLS, Address: "pbx.example"}, ""},
		{"stamp to the collector", Target{Method: telemetry.MethodSTAMP, Address: AddressCollector}, ""},
		{"dns of the system", Target{Method: telemetry.MethodDNS, Address: AddressSystem, Query: "example.com"}, ""},
		{"fastest", with(func(t *Target) { t.Interval = MinInterval }), ""},
		{"longest timeout", with(func(t *Target) { t.Timeout = 5 * time.Second }), ""},
		{"no address", with(func(t *Target) { t.Address = "" }), "address"},
		{"unknown method", with(func(t *Target) { t.Method = "carrier-pigeon" }), "method"},
		{"icmp with port", with(func(t *Target) { t.Address = "192.0.2.1:80" }), "address"},
		{"tcp without port", Target{Method: telemetry.MethodTCP, Address: "pbx.example"}, "address"},
		{"port out of range", Target{Method: telemetry.MethodTCP, Address: "pbx.example:70000"}, "address"},
		{"port zero", Target{Method: telemetry.MethodTCP, Address: "pbx.example:0"}, "address"},
		{"no host", Target{Method: telemetry.MethodTCP, Address: ":80"}, "address"},
		{"blank in address", with(func(t *Target) { t.Address = "a b" }), "address"},
		{"control character", with(func(t *Target) { t.Name = "a\x1b[31m" }), "name"},
		{"long name", with(func(t *Target) { t.Name = strings.Repeat("x", 101) }), "name"},
		{"too fast", with(func(t *Target) { t.Interval = MinInterval - 1 }), "interval"},
		{"too slow", with(func(t *Target) { t.Interval = MaxInterval + 1 }), "interval"},
		{"timeout above five intervals", with(func(t *Target) { t.Timeout = 5*time.Second + 1 }), "timeout"},
		{"timeout above ten seconds", with(func(t *Target) { t.Interval = time.Minute; t.Timeout = 11 * time.Second }), "timeout"},
		{"negative", with(func(t *Target) { t.Timeout = -1 }), "timeout"},
		{"query elsewhere", with(func(t *Target) { t.Query = "example.com" }), "query"},
		{"dns without query", Target{Method: telemetry.MethodDNS, Address: AddressSystem}, "query"},
		{"ca_file elsewhere", with(func(t *Target) { t.CAFile = "x" }), "server_name, ca_file"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			errs := Config{Targets: []Target{{Method: telemetry.MethodICMP, Address: "192.0.2.99"}, c.t}}.Validate()
			if c.want == "" {
				if len(errs) > 0 {
					t.Errorf("refused: %v", errs)
				}
				return
			}
			if len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), "targets[1]."+c.want+": ") {
				t.Errorf("%v, want one mistake at targets[1].%s", errs, c.want)
			}
		})
	}
	t.Run("all mistakes at once", func(t *testing.T) {
		errs := Config{Window: time.Second, Targets: []Target{{Method: "x"}, ok, ok}}.Validate()
		if len(errs) != 4 { // window, method, address, doubled
			t.Errorf("%d: %v", len(errs), errs)
		}
	})
	t.Run("too many", func(t *testing.T) {
		cfg := Config{}
		for i := range MaxTargets {
			cfg.Targets = append(cfg.Targets, icmpTarget(i))
		}
		if errs := cfg.Validate(); len(errs) != 0 {
			t.Errorf("at the limit: %v", errs)
		}
		cfg.Targets = append(cfg.Targets, ok)
		if errs := cfg.Validate(); len(errs) != 1 {
			t.Errorf("above the limit: %v", errs)
		}
	})
}

func TestNewNeedsTheMethod(t *testing.T) {
	_, err := New(Config{Targets: []Target{icmpTarget(0)}}, Deps{})
	if err == nil || !strings.Contains(err.Error(), "methods.All()") {
		t.Errorf("%v", err)
	}
}

func TestAlignment(t *testing.T) {
	wall := time.Date(2026, 8, 1, 12, 0, 13, 400e6, time.UTC)
	al := align(5*time.Second, wall, 10*time.Second)
	cases := []struct {
		mono, want time.Duration
		label      string
	}{
		{5 * time.Second, 1600 * time.Millisecond, "12:00:10"},
		{1600 * time.Millisecond, 1600 * time.Millisecond, "12:00:10"},
		{1600*time.Millisecond - 1, -8400 * time.Millisecond, "12:00:00"},
		{11600*time.Millisecond - 1, 1600 * time.Millisecond, "12:00:10"},
		{11600 * time.Millisecond, 11600 * time.Millisecond, "12:00:20"},
	}
	for _, c := range cases {
		got := al.boundary(c.mono)
		if got != c.want || al.label(got).Format(time.TimeOnly) != c.label {
			t.Errorf("at %s: boundary %s (%s), want %s (%s)", c.mono, got, al.label(got), c.want, c.label)
		}
	}
	if al.stepped(65*time.Second, wall.Add(61*time.Second)) {
		t.Error("a second's drift is no step")
	}
	if !al.stepped(65*time.Second, wall.Add(2*time.Hour)) || !al.stepped(65*time.Second, wall.Add(57*time.Second)) {
		t.Error("a step was not seen")
	}
}

func TestNextClose(t *testing.T) {
	const s = time.Second
	al := alignment{length: 10 * s}
	timeouts := []time.Duration{s, 3 * s}
	for now, want := range map[time.Duration]time.Duration{
		0: s + closeSlack, s: s + closeSlack, s + closeSlack: 3*s + closeSlack,
		5 * s: 10 * s, 10 * s: 11*s + closeSlack,
	} {
		if got := nextClose(al, timeouts, now); got != want {
			t.Errorf("after %s: %s, want %s", now, got, want)
		}
	}
}

func TestCleanDetail(t *testing.T) {
	for name, in := range map[string]string{
		"long":          strings.Repeat("x", 5000),
		"many bytes":    strings.Repeat("ü", 500),
		"not UTF-8":     strings.Repeat("\xff\x00", 300),
		"cut in a rune": strings.Repeat("x", 199) + "ü",
		"lines":         "a\r\nb\x1b[0m",
	} {
		got := cleanDetail(in)
		if len(got) > maxDetail || !utf8.ValidString(got) || !printable(got) {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := cleanDetail("198.51.100.1:4000"); got != "198.51.100.1:4000" {
		t.Errorf("%q", got)
	}
}
