package probe

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"

	"sidetone/shared/telemetry"
)

// Limits and defaults of a configuration.
const (
	MaxTargets = 200

	DefaultWindow = 10 * time.Second
	MinWindow     = 2 * time.Second
	MaxWindow     = 5 * time.Minute

	DefaultInterval = time.Second
	MinInterval     = 200 * time.Millisecond
	MaxInterval     = 60 * time.Second

	DefaultTimeout = time.Second
	MinTimeout     = 50 * time.Millisecond
	MaxTimeout     = 10 * time.Second
	// MaxOverlap bounds the attempts at one target that wait at the same time: a
	// timeout is at most so many intervals.
	MaxOverlap = 5

	maxNameLen    = 100
	maxAddressLen = 260
)

// AddressCollector as the address of a STAMP or STUN target means the collector's
// reflector; AddressSystem as that of a DNS target, the system's first nameserver.
const (
	AddressCollector = "collector"
	AddressSystem    = "system"
)

// Target is what an operator wants measured.
type Target struct {
	Method telemetry.Method
	Name   string
	// Address is a host (icmp), or host:port; the port may be left out where the
	// method has one of its own.
	Address  string
	Interval time.Duration // zero: DefaultInterval
	Timeout  time.Duration // zero: DefaultTimeout
	// ServerName is the name that the certificate must carry (tls); empty: the host of Address.
	ServerName string
	// CAFile is a PEM file of roots for this target alone (tls); empty: the system's roots.
	CAFile string
	// Query is the name to ask for, and optionally a type after a blank (dns).
	Query string
}

// Config is the chosen part of a prober.
type Config struct {
	Targets []Target
	// Window is the length of a window; zero means DefaultWindow.
	Window time.Duration
}

// ID identifies the target across restarts.
func (t Target) ID() telemetry.ItemID {
	return telemetry.MakeItemID("target", string(t.Method), t.Address, t.Name)
}

func (t Target) row() telemetry.Target {
	return telemetry.Target{ID: t.ID(), Method: t.Method, Name: t.Name, Address: t.Address,
		IntervalMS: uint32(t.Interval / time.Millisecond)}
}

func (t Target) usesReflector() bool {
	return t.Address == AddressCollector && (t.Method == telemetry.MethodSTAMP || t.Method == telemetry.MethodSTUN)
}

// withDefaults fills what was left out.
func (t Target) withDefaults() Target {
	if t.Interval == 0 {
		t.Interval = DefaultInterval
	}
	if t.Timeout == 0 {
		t.Timeout = min(DefaultTimeout, MaxOverlap*t.Interval)
	}
	if t.Name == "" {
		t.Name = t.Address
	}
	return t
}

func known(m telemetry.Method) bool {
	switch m {
	case telemetry.MethodICMP, telemetry.MethodSTAMP, telemetry.MethodTCP,
		telemetry.MethodTLS, telemetry.MethodDNS, telemetry.MethodSTUN:
		return true
	}
	return false
}

// defaultPort is the method's own port; 0 where the operator must name one.
func defaultPort(m telemetry.Method) uint16 {
	switch m {
	case telemetry.MethodSTAMP:
		return 862
	case telemetry.MethodSTUN:
		return 3478
	case telemetry.MethodDNS:
		return 53
	case telemetry.MethodTLS:
		return 443
	}
	return 0
}

// serial methods keep state at the far end for each attempt: one at a time.
func serial(m telemetry.Method) bool {
	return m == telemetry.MethodTCP || m == telemetry.MethodTLS
}

// Validate returns all mistakes, each with its path.
func (c Config) Validate() []error {
	var errs []error
	if c.Window != 0 && (c.Window < MinWindow || c.Window > MaxWindow || c.Window%time.Millisecond != 0) {
		errs = append(errs, fmt.Errorf("window: %s is not a whole number of milliseconds between %s and %s", c.Window, MinWindow, MaxWindow))
	}
	if len(c.Targets) > MaxTargets {
		errs = append(errs, fmt.Errorf("targets: %d are more than %d", len(c.Targets), MaxTargets))
		return errs
	}
	seen := make(map[telemetry.ItemID]int)
	for i, t := range c.Targets {
		for _, err := range t.Validate() {
			errs = append(errs, fmt.Errorf("targets[%d].%w", i, err))
		}
		id := t.withDefaults().ID()
		if first, ok := seen[id]; ok {
			errs = append(errs, fmt.Errorf("targets[%d]: same method, address and name as targets[%d]", i, first))
		} else {
			seen[id] = i
		}
	}
	return errs
}

// Validate returns all mistakes, each with the path of its field.
func (t Target) Validate() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if !known(t.Method) {
		bad("method: %q is none of icmp, stamp, tcp, tls, dns, stun", t.Method)
	}
	if len(t.Name) > maxNameLen || !printable(t.Name) {
		bad("name: must be at most %d bytes of printable text", maxNameLen)
	}
	if err := t.checkAddress(); err != nil {
		bad("address: %w", err)
	}
	d := t.withDefaults()
	if d.Interval < MinInterval || d.Interval > MaxInterval {
		bad("interval: %s is not between %s and %s", d.Interval, MinInterval, MaxInterval)
	}
	if longest := min(MaxTimeout, MaxOverlap*d.Interval); d.Timeout < MinTimeout || d.Timeout > longest {
		bad("timeout: %s is not between %s and %s (%d intervals, at most %s)", d.Timeout, MinTimeout, longest, MaxOverlap, MaxTimeout)
	}
	if t.Method != telemetry.MethodTLS && (t.ServerName != "" || t.CAFile != "") {
		bad("server_name, ca_file: only for tls")
	}
	if (t.Query != "") != (t.Method == telemetry.MethodDNS) {
		bad("query: needed for dns, and only there")
	} else if len(t.Query) > maxAddressLen || !printable(t.Query) {
		bad("query: must be at most %d bytes of printable text", maxAddressLen)
	}
	return errs
}

func (t Target) checkAddress() error {
	switch {
	case t.Address == "":
		return fmt.Errorf("is missing")
	case len(t.Address) > maxAddressLen || !printable(t.Address) || strings.ContainsRune(t.Address, ' '):
		return fmt.Errorf("must be at most %d bytes without blanks", maxAddressLen)
	case t.usesReflector():
		return nil
	case t.Address == AddressSystem && t.Method == telemetry.MethodDNS:
		return nil
	}
	host, port, err := SplitAddress(t.Address, defaultPort(t.Method))
	if err != nil {
		return err
	}
	if host == "" {
		return fmt.Errorf("%q has no host", t.Address)
	}
	if t.Method == telemetry.MethodICMP {
		if port != 0 {
			return fmt.Errorf("%q: icmp has no port", t.Address)
		}
	} else if port == 0 && known(t.Method) {
		return fmt.Errorf("%q has no port", t.Address)
	}
	return nil
}

// SplitAddress takes host, host:port, IPv6 address or [IPv6]:port apart.
func SplitAddress(address string, defaultPort uint16) (host string, port uint16, err error) {
	if _, err := netip.ParseAddr(address); err == nil {
		return address, defaultPort, nil
	}
	if !strings.Contains(address, ":") {
		return address, defaultPort, nil
	}
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("%q is neither host nor host:port", address)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("%q has no port between 1 and 65535", address)
	}
	return host, uint16(n), nil
}

func printable(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
