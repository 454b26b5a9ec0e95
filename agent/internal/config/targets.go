package config

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"sidetone/agent/internal/probe"
	"sidetone/shared/telemetry"
)

// connectTimeout is for methods that need several round trips.
const connectTimeout = 3 * time.Second

// AllTargets lists what is measured: the configured targets, and unless they are
// switched off, the path to the collector, the public address, the PBX's address and
// the resolver. The resolver is asked for a name that the agent needs anyhow; when
// collector and PBX are given by address, it is not needed and not measured.
func (c *Config) AllTargets(collectorHost string) []probe.Target {
	all := slices.Clone(c.Targets)
	if !c.Agent.DefaultTargets {
		return all
	}
	add := func(t probe.Target) {
		same := func(o probe.Target) bool { return o.Method == t.Method && o.Address == t.Address }
		if len(all) < probe.MaxTargets && !slices.ContainsFunc(all, same) {
			all = append(all, t)
		}
	}
	add(probe.Target{Method: telemetry.MethodSTAMP, Name: "collector", Address: probe.AddressCollector})
	add(probe.Target{Method: telemetry.MethodSTUN, Name: "public address", Address: probe.AddressCollector})
	if collectorHost != "" {
		add(probe.Target{Method: telemetry.MethodICMP, Name: "collector", Address: collectorHost})
	}
	names := []string{collectorHost}
	if c.PBX != nil {
		names = append(names, c.addPBX(add))
	}
	for _, n := range names {
		if _, err := netip.ParseAddr(n); n != "" && n != "localhost" && err != nil {
			add(probe.Target{Method: telemetry.MethodDNS, Name: "resolver", Address: probe.AddressSystem, Query: n})
			break
		}
	}
	return all
}

// addPBX adds the PBX's own address and gives its host.
func (c *Config) addPBX(add func(probe.Target)) string {
	u, err := url.Parse(c.PBX.URL)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	addr := net.JoinHostPort(u.Hostname(), port)
	add(probe.Target{Method: telemetry.MethodTCP, Name: "pbx", Address: addr})
	if u.Scheme == "https" {
		add(probe.Target{
			Method: telemetry.MethodTLS, Name: "pbx", Address: addr, Timeout: connectTimeout,
			ServerName: c.PBX.ServerName, CAFile: c.PBX.CAFile,
		})
	}
	return u.Hostname()
}
