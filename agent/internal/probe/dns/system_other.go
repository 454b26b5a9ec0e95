//go:build !windows

package dns

import (
	"bufio"
	"errors"
	"io"
	"net/netip"
	"os"
	"strings"
)

const (
	resolvConf = "/etc/resolv.conf"
	// maxResolvConf bounds what is read of it.
	maxResolvConf = 64 << 10
)

func systemServer() (netip.Addr, error) {
	f, err := os.Open(resolvConf)
	if err != nil {
		return netip.Addr{}, err
	}
	defer f.Close()
	return firstServer(io.LimitReader(f, maxResolvConf))
}

// firstServer is the first "nameserver" line of a resolv.conf(5).
func firstServer(r io.Reader) (netip.Addr, error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if ip, err := netip.ParseAddr(fields[1]); err == nil {
			return ip, nil
		}
	}
	if err := lines.Err(); err != nil {
		return netip.Addr{}, err
	}
	return netip.Addr{}, errors.New("no nameserver in " + resolvConf)
}
