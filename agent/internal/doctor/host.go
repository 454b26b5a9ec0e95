package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"sidetone/agent/internal/identity"
)

const (
	nameTimeout = 5 * time.Second
	clockWarn   = 2 * time.Second
	// clockFail is beyond what the lives of certificates forgive.
	clockFail = 5 * time.Minute
)

// checkNames resolves the names that the agent needs. Addresses need no resolver.
func checkNames(ctx context.Context, o Options) []Finding {
	var hosts []string
	if id, err := identity.Open(o.StateDir); err == nil {
		if host, _, err := net.SplitHostPort(id.Info().Collector); err == nil {
			hosts = append(hosts, host)
		}
	}
	if o.Config != nil && o.Config.PBX != nil {
		if u, err := url.Parse(o.Config.PBX.URL); err == nil {
			hosts = append(hosts, u.Hostname())
		}
	}
	var list []Finding
	for _, h := range hosts {
		if _, err := netip.ParseAddr(h); h == "" || err == nil {
			continue
		}
		list = append(list, checkName(ctx, h))
	}
	if list == nil {
		list = []Finding{{Check: "DNS", Verdict: OK, Detail: "not needed: no names are configured"}}
	}
	return list
}

func checkName(ctx context.Context, host string) Finding {
	ctx, cancel := context.WithTimeout(ctx, nameTimeout)
	defer cancel()
	start := time.Now()
	addrs, err := net.DefaultResolver.LookupHost(ctx, host)
	if err == nil {
		return Finding{Check: "DNS", Verdict: OK, Detail: fmt.Sprintf("%s is %s (%s)", host,
			strings.Join(addrs[:min(len(addrs), 4)], ", "), time.Since(start).Round(time.Millisecond))}
	}
	f := Finding{Check: "DNS", Verdict: Fail, Detail: err.Error(),
		Advice: "This machine's resolver does not answer: look at /etc/resolv.conf, or the network's DNS settings."}
	var de *net.DNSError
	if errors.As(err, &de) && de.IsNotFound {
		f.Advice = host + " is not known: check its spelling, and whether this network's resolver should know it."
	}
	return f
}

func checkClock(o Options) Finding {
	f := Finding{Check: "clock", Verdict: OK}
	if o.Clock == nil {
		f.Verdict, f.Detail = Skip, "not compared yet: that happens when the agent connects"
		return f
	}
	off := o.Clock.Offset.Round(time.Millisecond)
	way := "ahead of"
	if off < 0 {
		way = "behind"
	}
	f.Detail = fmt.Sprintf("%s %s the collector's on %s", off.Abs(), way, o.Clock.At.Local().Format(time.DateTime))
	switch {
	case off.Abs() > clockFail:
		f.Verdict = Fail
	case off.Abs() > clockWarn:
		f.Verdict = Warn
	default:
		return f
	}
	f.Advice = "Set the clock: timedatectl set-ntp true (Windows: w32tm /resync). Times of measurements are wrong until then."
	return f
}
