// Package methods lists the ways of measuring that an agent has, to be given to
// probe.New: a method's package knows its parent, never the reverse.
package methods

import (
	"sidetone/agent/internal/probe"
	"sidetone/agent/internal/probe/dns"
	"sidetone/agent/internal/probe/icmp"
	"sidetone/agent/internal/probe/stampprobe"
	"sidetone/agent/internal/probe/stun"
	"sidetone/agent/internal/probe/tcp"
	"sidetone/shared/telemetry"
)

// All is every method, by name.
func All() map[telemetry.Method]probe.OpenDriver {
	return map[telemetry.Method]probe.OpenDriver{
		telemetry.MethodICMP:  icmp.New,
		telemetry.MethodSTAMP: stampprobe.New,
		telemetry.MethodTCP:   tcp.New,
		telemetry.MethodTLS:   tcp.New,
		telemetry.MethodDNS:   dns.New,
		telemetry.MethodSTUN:  stun.New,
	}
}
