package xapi

import (
	"context"
	"strings"
	"time"

	"sidetone/agent/internal/threecx"
	"sidetone/shared/telemetry"
)

type trunkAnswer struct {
	Number             text
	IsOnline           flag
	SimultaneousCalls  num
	ConfigurationIssue text
	Gateway            struct {
		Name, Host, Type, TemplateFilename, RequireRegistrationFor text
	}
	TrunkRegTimes []struct{ Name, Value text }
}

// Trunks reads the external lines. No option but $top is sent: naming a field that
// an older build lacks is refused, and Gateway comes without $expand.
func (c *Client) Trunks(ctx context.Context) ([]telemetry.Trunk, error) {
	rows, err := readAll(ctx, c, threecx.PathTrunks, "", func(r *trunkAnswer) string { return string(r.Number) })
	if err != nil {
		return nil, err
	}
	now := telemetry.MS(time.Now())
	out := make([]telemetry.Trunk, 0, len(rows))
	for i := range rows {
		if rows[i].Number == "" {
			continue
		}
		t := rows[i].row()
		t.Observed = now
		out = append(out, t)
	}
	return out, nil
}

func (r *trunkAnswer) row() telemetry.Trunk {
	t := telemetry.Trunk{
		ID: telemetry.MakeItemID("trunk", string(r.Number)), Number: r.Number.clean(maxWord),
		Name: r.Gateway.Name.clean(maxName), Host: r.Gateway.Host.clean(maxName),
		Template:   r.Gateway.TemplateFilename.clean(maxWord),
		Registered: r.IsOnline.v,
		// A build that does not say is taken as one with a registration to lose.
		RegistrationNeeded: !strings.EqualFold(string(r.Gateway.RequireRegistrationFor), "Nothing"),
		ConfigurationIssue: strings.TrimSpace(string(r.ConfigurationIssue)) != "",
		ChannelsMax:        r.SimultaneousCalls.u32(),
	}
	if t.Name == "" {
		t.Name = "Trunk " + t.Number
	}
	t.Kind = trunkKind(string(r.Gateway.Type), t.Name)
	for _, rt := range r.TrunkRegTimes {
		if strings.EqualFold(string(rt.Name), "fail_code") {
			t.FailCode = rt.Value.clean(maxWord)
		}
	}
	return t
}

// trunkKind sorts a trunk by the type of its gateway. Unknown ones count as
// providers: an alarm too many is better than a dead line nobody looks at.
func trunkKind(gateway, name string) string {
	g, n := strings.ToLower(gateway), strings.ToLower(name)
	switch {
	case strings.HasPrefix(g, "bridge"), strings.Contains(n, "bridge"), strings.Contains(n, "webmeeting"):
		return "bridge"
	case g == "analog", g == "bri", g == "t1", g == "e1":
		return "other"
	}
	return "provider"
}

type sbcAnswer struct {
	Name, DisplayName, Version text
	HasConnection              flag
	Connection                 struct {
		Up, UdpActive                    flag //nolint:revive // the vendor's spelling
		Calls, RegisteredPhones, Latency num
		ElapsedTime                      span
	}
}

// SBCs reads the session border controllers.
func (c *Client) SBCs(ctx context.Context) ([]telemetry.SBC, error) {
	rows, err := readAll(ctx, c, threecx.PathSBCs, "", func(r *sbcAnswer) string { return string(r.Name) })
	if err != nil {
		return nil, err
	}
	now := telemetry.MS(time.Now())
	out := make([]telemetry.SBC, 0, len(rows))
	for i := range rows {
		r := &rows[i]
		if r.Name == "" {
			continue
		}
		name := r.DisplayName.clean(maxName)
		if name == "" {
			name = r.Name.clean(maxName)
		}
		s := telemetry.SBC{
			Observed: now, ID: telemetry.MakeItemID("sbc", string(r.Name)), Name: name,
			// Where the build tells both, both must be true.
			Connected: r.HasConnection.v && (r.Connection.Up.v || !r.Connection.Up.ok),
			Version:   r.Version.clean(maxWord),
			LatencyMS: r.Connection.Latency.u32(), CallsActive: r.Connection.Calls.u32(),
			PhonesRegistered: r.Connection.RegisteredPhones.u32(), UDPActive: r.Connection.UdpActive.ptr(),
		}
		if r.Connection.ElapsedTime.ok {
			sec := uint64(r.Connection.ElapsedTime.d / time.Second)
			s.ConnectedS = &sec
		}
		out = append(out, s)
	}
	return out, nil
}

// callAnswer takes the party texts only to find the leading DN of a trunk.
type callAnswer struct {
	Id                       num //nolint:revive // the vendor's spelling
	Caller, Callee, Status   text
	EstablishedAt, ServerNow instant
}

// ActiveCalls counts the active calls. trunks are the numbers of the trunks, to
// count by. Names and telephone numbers of the parties are not kept.
func (c *Client) ActiveCalls(ctx context.Context, trunks []string) (threecx.Calls, error) {
	rows, err := readAll(ctx, c, threecx.PathActiveCalls, "", func(r *callAnswer) string {
		return string(r.Status) + r.EstablishedAt.t.String() + time.Duration(r.Id.i64()).String()
	})
	if err != nil {
		return threecx.Calls{}, err
	}
	out := threecx.Calls{ByTrunk: make(map[string]uint32, len(trunks))}
	for _, n := range trunks {
		out.ByTrunk[n] = 0
	}
	for i := range rows {
		r := &rows[i]
		switch strings.ToLower(string(r.Status)) {
		case "talking", "connected":
			out.Talking++
		case "routing", "ringing", "initiating", "rerouting":
			out.Ringing++
		default:
			out.Other++
		}
		if !r.EstablishedAt.t.IsZero() && !r.ServerNow.t.IsZero() {
			out.Longest = max(out.Longest, r.ServerNow.t.Sub(r.EstablishedAt.t))
		}
		from, to := leadingDN(r.Caller), leadingDN(r.Callee)
		if n, ok := out.ByTrunk[from]; ok {
			out.ByTrunk[from] = n + 1
		}
		// A call from trunk to trunk uses a channel of each.
		if n, ok := out.ByTrunk[to]; ok {
			out.ByTrunk[to] = n + 1
		}
	}
	return out, nil
}

// leadingDN is the first word of a party text.
func leadingDN(t text) string {
	dn, _, _ := strings.Cut(string(t), " ")
	return dn
}
