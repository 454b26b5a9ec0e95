// Package doctor examines an agent's surroundings and says what is wrong and what to do
// about it: configuration, names, identity, each way to the collector, the clock, spool
// and disk, permission to send ICMP, and the PBX. It changes nothing; it may be run while the agent runs.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"os"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/net/icmp"

	"sidetone/agent/internal/config"
	"sidetone/agent/internal/identity"
	"sidetone/agent/internal/spool"
	"sidetone/agent/internal/threecx"
	"sidetone/agent/internal/threecx/xapi"
)

// Verdict is how a check came out.
type Verdict string

// Verdicts.
const (
	OK   Verdict = "ok"
	Warn Verdict = "warn"
	Fail Verdict = "fail"
	Skip Verdict = "skip" // could not be examined because an earlier check failed
)

// Finding is the result of one check.
type Finding struct {
	Check   string  `json:"check"`
	Verdict Verdict `json:"verdict"`
	Detail  string  `json:"detail"`
	Advice  string  `json:"advice,omitempty"`
}

// Options says what to examine.
type Options struct {
	StateDir    string
	SpoolDir    string
	ConfigFile  string
	Config      *config.Config // nil when ConfigError is set
	ConfigError error
	// Clock is the last comparison with the collector's clock; nil when there was none.
	Clock *Clock
}

// Clock is how far this machine's clock is ahead of the collector's, and when that was
// seen.
type Clock struct {
	Offset time.Duration
	At     time.Time
}

const (
	pbxTimeout = 60 * time.Second
	backlogOld = 10 * time.Minute
)

// Examine yields findings as they are made: some take seconds.
func Examine(ctx context.Context, o Options) iter.Seq[Finding] {
	return func(yield func(Finding) bool) {
		_ = yield(checkConfig(o)) && yieldAll(yield, checkIdentity(ctx, o)) &&
			yieldAll(yield, checkNames(ctx, o)) && yield(checkClock(o)) && yield(checkSpool(o)) && yield(checkICMP()) && yieldAll(yield, checkPBX(ctx, o))
	}
}

func yieldAll(yield func(Finding) bool, list []Finding) bool {
	for _, f := range list {
		if !yield(f) {
			return false
		}
	}
	return true
}

func checkConfig(o Options) Finding {
	f := Finding{Check: "configuration", Verdict: OK, Detail: o.ConfigFile}
	switch {
	case o.ConfigError != nil:
		f.Verdict, f.Detail, f.Advice = Fail, o.ConfigError.Error(), "Correct the file; the agent does not start with it."
	case len(o.Config.Warnings) > 0:
		f.Verdict, f.Detail, f.Advice = Warn, o.Config.Warnings[0], "chmod 640 the file, with the service's group as its group."
	default:
		if _, err := os.Stat(o.ConfigFile); errors.Is(err, os.ErrNotExist) {
			f.Detail += " does not exist: defaults, only the network is measured"
		}
	}
	return f
}

// checkIdentity looks at the identity, and with it at the way to the collector.
func checkIdentity(ctx context.Context, o Options) []Finding {
	f := Finding{Check: "identity", Verdict: OK}
	id, err := identity.Open(o.StateDir)
	if err != nil {
		f.Verdict, f.Detail = Fail, err.Error()
		var p *identity.Problem
		if errors.As(err, &p) {
			f.Detail, f.Advice = p.Kind.Error()+": "+p.Detail, p.Advice
		}
		return []Finding{f, {Check: "collector", Verdict: Skip, Detail: "not examined without an identity"}}
	}
	info := id.Info()
	f.Detail = fmt.Sprintf("agent %d at site %q, certificate good until %s", info.Agent, info.Site, info.NotAfter.Local().Format(time.DateTime))
	now := time.Now()
	switch {
	case now.After(info.NotAfter):
		f.Verdict, f.Advice = Fail, "The certificate has ended. Make a new token on the collector and enrol again with --force."
	case now.Before(info.NotBefore):
		f.Verdict, f.Advice = Fail, "This machine's clock is before the certificate's beginning: set the clock (timedatectl)."
	}
	var proxy *url.URL
	if o.Config != nil {
		link := o.Config.Link
		link.Addr = info.Collector
		if proxy, err = link.ProxyURL(); err != nil {
			return append([]Finding{f, {Check: "proxy", Verdict: Fail, Detail: err.Error(), Advice: "Correct link.proxy, or the environment of the agent's service."}},
				checkCollector(ctx, info.Collector, id.TLS, nil)...)
		}
	}
	return append([]Finding{f}, checkCollector(ctx, info.Collector, id.TLS, proxy)...)
}

func checkSpool(o Options) Finding {
	f := Finding{Check: "spool", Verdict: OK}
	if o.SpoolDir == "" {
		f.Verdict, f.Detail = Skip, "not examined without a configuration"
		return f
	}
	r, err := spool.ReadStatus(o.SpoolDir)
	switch {
	case errors.Is(err, spool.ErrNoSpool):
		f.Detail = "empty: the agent has not run yet"
		return f
	case err != nil:
		f.Verdict, f.Detail, f.Advice = Fail, err.Error(), "Run doctor as root, or as the user of the agent's service."
		return f
	}
	f.Detail = fmt.Sprintf("%d records wait (%d bytes)", r.Records, r.Bytes)
	switch {
	case r.Degraded:
		f.Verdict, f.Detail = Fail, f.Detail+"; "+r.Reason
		f.Advice = "Make room on the disk: records are kept in memory only, and are lost when the agent stops."
	case !r.Running:
		f.Verdict, f.Detail = Warn, f.Detail+"; the agent does not run"
		f.Advice = "systemctl start sidetone-agent"
	case !r.Oldest.IsZero() && time.Since(r.Oldest) > backlogOld:
		f.Verdict = Warn
		f.Detail += ", the oldest for " + time.Since(r.Oldest).Round(time.Second).String()
		f.Advice = "The collector or its ClickHouse does not take them; nothing is lost until the spool is full."
	}
	return f
}

// checkICMP tries the sockets that the ICMP probe uses.
func checkICMP() Finding {
	f := Finding{Check: "ICMP", Verdict: OK, Detail: "may be sent"}
	var first error
	for _, network := range []string{"ip4:icmp", "udp4"} {
		c, err := icmp.ListenPacket(network, "0.0.0.0")
		if err == nil {
			_ = c.Close()
			return f
		}
		if first == nil {
			first = err
		}
	}
	f.Verdict, f.Detail = Warn, first.Error()
	f.Advice = "ICMP targets will show as lost. Run the agent as its service does (CAP_NET_RAW), or widen net.ipv4.ping_group_range."
	return f
}

// checkPBX walks from reaching the PBX to each reading.
func checkPBX(ctx context.Context, o Options) []Finding {
	if o.Config == nil {
		return []Finding{{Check: "PBX", Verdict: Skip, Detail: "not examined without a configuration"}}
	}
	if o.Config.PBX == nil {
		return []Finding{{Check: "PBX", Verdict: OK, Detail: "no [pbx] in the configuration: only the network is measured"}}
	}
	client, err := xapi.New(o.Config.PBX.Config, xapi.Deps{Log: zerolog.Nop()})
	if err != nil {
		return []Finding{{Check: "PBX", Verdict: Fail, Detail: err.Error(), Advice: "Correct [pbx] in the configuration."}}
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, pbxTimeout)
	defer cancel()
	report, err := client.Check(ctx)
	return pbxFindings(report, err)
}

func pbxFindings(report threecx.Report, err error) []Finding {
	var list []Finding
	for _, s := range report.Steps {
		f := Finding{Check: "PBX " + s.Name, Verdict: OK, Detail: s.Detail}
		if !s.OK {
			f.Verdict, f.Advice = Fail, s.Advice
		}
		list = append(list, f)
	}
	for _, r := range report.Readings {
		if !r.OK {
			list = append(list, Finding{Check: "PBX reading", Verdict: Warn, Detail: string(r.Path) + ": " + r.Detail,
				Advice: "This part of the picture will be missing. A role of System Owner sees all of it."})
		}
	}
	if err != nil && len(list) == 0 {
		list = append(list, Finding{Check: "PBX", Verdict: Fail, Detail: threecx.Detail(err)})
	}
	return list
}
