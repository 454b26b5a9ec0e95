package uplink

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sidetone/shared/link"
)

func TestMemory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "link.json")
	m := openMemory(file)
	n := m.at("192.0.2.1")
	if !n.won(link.TransportTCP, "QUIC rejected") || n.won(link.TransportTCP, "QUIC rejected") {
		t.Error("news is told when there is none, or not when there is")
	}
	n.hold(time.Now())
	if err := m.save(); err != nil {
		t.Fatal(err)
	}
	again := openMemory(file).at("192.0.2.1")
	if again.Rung != link.TransportTCP || again.Reason != "QUIC rejected" || !again.Held.Equal(n.Held) {
		t.Errorf("after a restart: %+v, was %+v", again, n)
	}
	if !again.held(time.Now()) || again.held(time.Now().Add(holdTime)) {
		t.Error("held for ever, or not at all")
	}

	for i := range 3 * maxNetworks {
		m.at(fmt.Sprint("network ", i))
	}
	if len(m.nets) != maxNetworks {
		t.Errorf("%d networks, limit %d", len(m.nets), maxNetworks)
	}
	if _, ok := m.nets[fmt.Sprint("network ", 3*maxNetworks-1)]; !ok {
		t.Error("the newest was forgotten")
	}
}

func TestMemoryThatCannotBeUsed(t *testing.T) {
	far := time.Now().Add(24 * time.Hour).Format(time.RFC3339)
	old := time.Now().Add(-2 * keepNetworks).Format(time.RFC3339)
	now := time.Now().Format(time.RFC3339)
	for _, c := range []struct{ name, text string }{
		{"torn", `{"192.0.2.1":{"rung":"tc`},
		{"another form", `[1,2]`},
		{"nothing inside", `{"192.0.2.1":null}`},
		{"too long", `{"192.0.2.1":{"rung":"tcp","reason":"` + strings.Repeat("x", maxMemory) + `"}}`},
		{"old", `{"192.0.2.1":{"rung":"tcp","seen":"` + old + `"}}`},
	} {
		file := filepath.Join(t.TempDir(), "link.json")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if n := openMemory(file).at("192.0.2.1"); n.Rung != "" {
			t.Errorf("%s: %+v", c.name, n)
		}
	}
	// A clock that was wrong must not hold QUIC back for a day.
	file := filepath.Join(t.TempDir(), "link.json")
	if err := os.WriteFile(file, []byte(`{"a":{"rung":"tcp","held_until":"`+far+`","seen":"`+now+`"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := openMemory(file).at("a"); n.Rung != link.TransportTCP || n.held(time.Now()) {
		t.Errorf("%+v", n)
	}
	// No place to write: said, and nothing else.
	m := openMemory(filepath.Join(t.TempDir(), "no", "such", "directory"))
	if err := m.save(); err == nil {
		t.Error("nothing is said of a file that cannot be written")
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		bad  string // path of the mistake
	}{
		{"nothing", Config{}, ""},
		{"all", Config{BackfillKbit: 16, Proxy: "https://user:secret@proxy.example.com:3128"}, ""},
		{"none", Config{BackfillKbit: maxBackfillKbit, Proxy: ProxyNone}, ""},
		{"too slow", Config{BackfillKbit: 15}, "link.backfill_kbit: "},
		{"negative", Config{BackfillKbit: -1}, "link.backfill_kbit: "},
		{"socks", Config{Proxy: "socks5://secret@proxy.example.com"}, "link.proxy: "},
		{"no scheme", Config{Proxy: "proxy.example.com:3128"}, "link.proxy: "},
		{"not an address", Config{Proxy: "http://user:secret@:3128"}, "link.proxy: "},
		{"not even that", Config{Proxy: "http://secret\x00"}, "link.proxy: "},
	} {
		errs := c.cfg.Validate()
		if (len(errs) > 0) != (c.bad != "") || c.bad != "" && !strings.HasPrefix(errs[0].Error(), c.bad) {
			t.Errorf("%s: %v", c.name, errs)
		}
		if len(errs) > 0 && strings.Contains(errs[0].Error(), "secret") {
			t.Errorf("%s: the mistake tells the password: %v", c.name, errs)
		}
	}
	u, err := Config{Addr: "c:443", Proxy: "http://u:p@proxy.example.com:3128"}.ProxyURL()
	if err != nil || u.Host != "proxy.example.com:3128" {
		t.Errorf("proxy %v, %v", u, err)
	}
	if u, err := (Config{Addr: "c:443", Proxy: ProxyNone}).ProxyURL(); u != nil || err != nil {
		t.Errorf("proxy %v, %v", u, err)
	}
}
