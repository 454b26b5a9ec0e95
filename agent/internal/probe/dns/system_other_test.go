//go:build !windows

package dns

import (
	"strings"
	"testing"
)

func TestFirstServer(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"usual":            {"# a comment\nsearch example\nnameserver 192.0.2.53\nnameserver 192.0.2.54\n", "192.0.2.53"},
		"IPv6 with a zone": {"nameserver fe80::1%eth0\n", "fe80::1%eth0"},
		"first is garbage": {"nameserver\nnameserver none\nnameserver 192.0.2.53", "192.0.2.53"},
		"none":             {"search example\n", "invalid IP"},
		"endless line":     {strings.Repeat("x", maxResolvConf*2), "invalid IP"},
	} {
		ip, err := firstServer(strings.NewReader(c.file))
		if ip.String() != c.want || (err == nil) != ip.IsValid() {
			t.Errorf("%s: %s, %v; want %s", name, ip, err, c.want)
		}
	}
}
