package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/windows"
)

// systemServer is the first nameserver of the first network adapter that is up.
func systemServer() (netip.Addr, error) {
	const flags = windows.GAA_FLAG_SKIP_UNICAST | windows.GAA_FLAG_SKIP_ANYCAST | windows.GAA_FLAG_SKIP_MULTICAST
	size := uint32(16 << 10)
	for range 4 {
		buf := make([]byte, size)
		first := (*windows.IpAdapterAddresses)(unsafe.Pointer(&buf[0]))
		err := windows.GetAdaptersAddresses(windows.AF_UNSPEC, flags, 0, first, &size)
		if errors.Is(err, windows.ERROR_BUFFER_OVERFLOW) {
			continue // size now says how much is needed
		}
		if err != nil {
			return netip.Addr{}, fmt.Errorf("list network adapters: %w", err)
		}
		if ip, ok := firstServer(first); ok {
			return ip, nil
		}
		break
	}
	return netip.Addr{}, errors.New("no network adapter that is up has a nameserver")
}

func firstServer(a *windows.IpAdapterAddresses) (netip.Addr, bool) {
	for ; a != nil; a = a.Next {
		if a.OperStatus != windows.IfOperStatusUp {
			continue
		}
		for s := a.FirstDnsServerAddress; s != nil; s = s.Next {
			ip, ok := netip.AddrFromSlice(s.Address.IP())
			// Windows lists the site-local fec0:0:0:ffff::1…3 where no server is configured.
			if ok && !netip.MustParsePrefix("fec0::/10").Contains(ip) {
				return ip.Unmap(), true
			}
		}
	}
	return netip.Addr{}, false
}
