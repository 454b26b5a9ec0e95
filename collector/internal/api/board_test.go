package api

import (
	"slices"
	"testing"
	"time"

	"sidetone/collector/internal/alert"
	"sidetone/collector/internal/fleet"
	"sidetone/collector/internal/incident"
	"sidetone/collector/internal/live"
	"sidetone/shared/telemetry"
)

func TestJudge(t *testing.T) {
	opened := time.UnixMilli(1_700_000_000_000)
	seen := time.UnixMilli(1_700_000_100_000)
	inc := func(s alert.Severity, title string, at time.Time) incident.Incident {
		return incident.Incident{Severity: s, Title: title, Opened: at}
	}
	good := inputs{heard: true, seen: seen, fresh: true}
	for _, c := range []struct {
		name    string
		agents  int
		pbx     telemetry.PBXState
		in      inputs
		open    []incident.Incident
		state   string
		reason  string
		sinceOf time.Time
	}{
		{name: "no agent", in: good, state: StateNoData, reason: "no agent has enrolled yet"},
		{name: "no agent, and nothing else", state: StateNoData, reason: "no agent has enrolled yet"},
		{name: "never connected", agents: 1, state: StateNoData, reason: "the agent has enrolled and has not connected yet"},
		{name: "silent", agents: 1, in: inputs{seen: seen, fresh: true}, state: StateNoData, reason: "the agent is silent", sinceOf: seen},
		{name: "silent with an incident", agents: 1, in: inputs{seen: seen}, open: []incident.Incident{inc(alert.Critical, "PBX unreachable", opened)}, state: StateNoData, reason: "the agent is silent", sinceOf: seen},
		{name: "heard, nothing measured", agents: 1, in: inputs{heard: true, seen: seen}, state: StateNoData, reason: "no measurement has come yet"},
		{name: "heard, nothing measured, warning", agents: 1, in: inputs{heard: true, seen: seen}, open: []incident.Incident{inc(alert.Warning, "w", opened)}, state: StateNoData, reason: "no measurement has come yet"},
		{name: "heard, nothing measured, critical", agents: 1, in: inputs{heard: true, seen: seen}, open: []incident.Incident{inc(alert.Critical, "c", opened)}, state: StateDown, reason: "c", sinceOf: opened},
		{name: "good", agents: 1, in: good, state: StateOK},
		{name: "good with a PBX", agents: 1, in: good, pbx: telemetry.PBXOK, state: StateOK},
		{name: "PBX not read any more", agents: 1, in: inputs{heard: true, seen: seen, fresh: true, pbxStale: true}, state: StateNoData, reason: "the agent has stopped to read the PBX"},
		{name: "PBX unreachable", agents: 1, in: good, pbx: telemetry.PBXUnreachable, state: StateDegraded, reason: "the PBX does not answer"},
		{name: "PBX refuses", agents: 1, in: good, pbx: telemetry.PBXAuthFailed, state: StateDegraded, reason: "the PBX refuses the agent's sign-in"},
		{name: "PBX busy", agents: 1, in: good, pbx: telemetry.PBXBusy, state: StateDegraded, reason: "the PBX is busy"},
		{name: "PBX state that nobody knows", agents: 1, in: good, pbx: "dancing", state: StateDegraded, reason: "the PBX is busy"},
		{name: "warning", agents: 1, in: good, open: []incident.Incident{inc(alert.Warning, "Loss", opened)}, state: StateDegraded, reason: "Loss", sinceOf: opened},
		{name: "info only", agents: 1, in: good, open: []incident.Incident{inc(alert.Info, "Note", opened)}, state: StateDegraded, reason: "Note", sinceOf: opened},
		{name: "the worst counts", agents: 1, in: good, open: []incident.Incident{inc(alert.Warning, "Loss", opened), inc(alert.Critical, "Trunk", seen), inc(alert.Info, "Note", opened)}, state: StateDown, reason: "Trunk", sinceOf: seen},
		{name: "the oldest of the worst counts", agents: 1, in: good, open: []incident.Incident{inc(alert.Critical, "new", seen), inc(alert.Critical, "old", opened)}, state: StateDown, reason: "old", sinceOf: opened},
		{name: "incident before PBX state", agents: 1, in: good, pbx: telemetry.PBXBusy, open: []incident.Incident{inc(alert.Warning, "Loss", opened)}, state: StateDegraded, reason: "Loss", sinceOf: opened},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := SiteRow{AgentsTotal: c.agents, PBXState: string(c.pbx)}
			judge(&r, c.open, c.in)
			if r.State != c.state || r.Reason != c.reason || r.Since != telemetry.MS(c.sinceOf) {
				t.Errorf("got %s %q since %d, want %s %q since %d", r.State, r.Reason, r.Since, c.state, c.reason, telemetry.MS(c.sinceOf))
			}
		})
	}
}

// TestNeverGreenWithoutInput tries every combination of missing input.
func TestNeverGreenWithoutInput(t *testing.T) {
	for bits := range 32 {
		has := func(b int) bool { return bits&(1<<b) != 0 }
		in := inputs{heard: has(0), fresh: has(1), pbxStale: has(2)}
		if has(3) {
			in.seen = time.Now()
		}
		r := SiteRow{}
		if has(4) {
			r.AgentsTotal = 1
		}
		judge(&r, nil, in)
		whole := in.heard && in.fresh && !in.pbxStale && r.AgentsTotal > 0
		if r.State == StateOK && !whole {
			t.Errorf("green with %+v and %d agents", in, r.AgentsTotal)
		}
		if r.State != StateOK && r.Reason == "" {
			t.Errorf("%s without a reason: %+v", r.State, in)
		}
	}
}

func TestWorstFirst(t *testing.T) {
	rows := []SiteRow{ // in the order that is wanted
		{Site: "down, two", State: StateDown, OpenIncidents: 2},
		{Site: "down, one", State: StateDown, OpenIncidents: 1},
		{Site: "no data", State: StateNoData},
		{Site: "degraded, loss", State: StateDegraded, OpenIncidents: 1, WorstLossRatio: ptr(0.5)},
		{Site: "degraded", State: StateDegraded, OpenIncidents: 1},
		{Site: "lossy", State: StateOK, WorstLossRatio: ptr(0.1), Tenant: "z"},
		{Tenant: "a", Customer: "a", Site: "a", State: StateOK},
		{Tenant: "a", Customer: "a", Site: "b", State: StateOK, WorstLossRatio: ptr(0.0)},
		{Tenant: "a", Customer: "b", Site: "a", State: StateOK},
		{Tenant: "b", Customer: "a", Site: "a", State: StateOK},
	}
	for i := range rows {
		for j := range rows {
			c := worstFirst(rows[i], rows[j])
			if (i < j && c >= 0) || (i > j && c <= 0) || (i == j && c != 0) {
				t.Errorf("%+v against %+v gives %d", rows[i], rows[j], c)
			}
		}
	}
	shuffled := slices.Clone(rows)
	slices.Reverse(shuffled)
	slices.SortFunc(shuffled, worstFirst)
	if shuffled[0].Site != "down, two" || shuffled[len(rows)-1].Tenant != "b" {
		t.Errorf("sorted: %+v", shuffled)
	}
}

// TestRowOverTime follows one site from its creation on.
func TestRowOverTime(t *testing.T) {
	b := newBench(t, nil)
	src := b.admit("T", "C", "S")
	now := time.Now()
	b.board.now = func() time.Time { return now }
	row := func() SiteRow {
		t.Helper()
		r, _, _, err := b.board.siteRow(t.Context(), allScope, src.Site)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	expect := func(state string) SiteRow {
		t.Helper()
		r := row()
		if r.State != state {
			t.Fatalf("state %q (%s), want %q", r.State, r.Reason, state)
		}
		return r
	}
	expect(StateNoData)

	b.Fleet.Connected(src, fleet.Conn{Transport: "quic"}, now)
	if r := expect(StateNoData); r.AgentsConnected != 1 || r.AgentsTotal != 1 {
		t.Errorf("connected: %+v", r)
	}

	// the agent's clock is an hour slow: nothing may depend on it
	agentClock := now.Add(-time.Hour)
	b.Live.Deliver(src, window(agentClock, 0), now)
	b.Live.Deliver(src, status(agentClock, telemetry.PBXOK), now)
	r := expect(StateOK)
	if r.WorstTarget != "collector" || *r.WorstLossRatio != 0 || *r.WorstRTTP50US != 5000 || *r.CallsActive != 3 || r.PBXFQDN != "pbx.example.com" || r.TrunksTotal != nil {
		t.Errorf("row: %+v", r)
	}

	step := func(d time.Duration) {
		now, agentClock = now.Add(d), agentClock.Add(d)
		b.Fleet.Seen(src, now)
	}
	step(freshFor + time.Second) // frames come, but none with rows of the present
	expect(StateNoData)
	b.Live.Deliver(src, window(agentClock, 1), now)
	if r := expect(StateOK); r.PBXState != "ok" || *r.WorstLossRatio != 0.1 {
		t.Errorf("the PBX was read not long ago, and the row is %+v", r)
	}
	step(pbxFreshFor)
	b.Live.Deliver(src, window(agentClock, 1), now)
	if r := expect(StateNoData); r.PBXState != "" || r.CallsActive != nil || *r.WorstLossRatio != 0.1 {
		t.Errorf("the PBX was not read, and the row is %+v", r)
	}
	b.Live.Deliver(src, status(agentClock.Add(time.Second), telemetry.PBXUnreachable), now)
	if r := expect(StateDegraded); r.CallsActive != nil {
		t.Errorf("calls of a PBX that does not answer: %+v", r)
	}

	now = now.Add(silentAfter)
	r = expect(StateNoData)
	if r.Reason != "the agent is silent" || r.LastSeen != r.Since || r.Since == 0 {
		t.Errorf("silent: %+v", r)
	}
}

func TestCountTrunks(t *testing.T) {
	trunk := func(kind string, needed, registered bool) live.Dated[telemetry.Trunk] {
		return live.Dated[telemetry.Trunk]{Value: telemetry.Trunk{Kind: kind, RegistrationNeeded: needed, Registered: registered}}
	}
	var r SiteRow
	countTrunks(&r, live.Agent{Trunks: map[telemetry.ItemID]live.Dated[telemetry.Trunk]{
		1: trunk("provider", true, true), 2: trunk("provider", true, false), 3: trunk("provider", false, false), 4: trunk("bridge", true, false),
	}})
	if *r.TrunksTotal != 2 || *r.TrunksRegistered != 1 {
		t.Errorf("%d of %d", *r.TrunksRegistered, *r.TrunksTotal)
	}
	r = SiteRow{}
	countTrunks(&r, live.Agent{})
	if r.TrunksTotal != nil || r.TrunksRegistered != nil {
		t.Error("a PBX of which no trunk is known counts zero")
	}
}

func TestSilentAgentHidesNoOther(t *testing.T) {
	b := newBench(t, nil)
	first, second := b.admit("T", "C", "S"), b.admit("T", "C", "S")
	if first.Site != second.Site || first.Agent == second.Agent {
		t.Fatalf("%+v, %+v", first, second)
	}
	now := time.Now()
	b.Fleet.Connected(first, fleet.Conn{}, now)
	b.Live.Deliver(first, window(now, 0), now)
	r, _, _, err := b.board.siteRow(t.Context(), allScope, first.Site)
	if err != nil || r.AgentsTotal != 2 || r.AgentsConnected != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if err := b.enrolment.Revoke(t.Context(), allScope, second.Agent); err != nil {
		t.Fatal(err)
	}
	r, _, _, err = b.board.siteRow(t.Context(), allScope, first.Site)
	if err != nil || r.AgentsTotal != 1 {
		t.Errorf("a revoked agent counts: %+v, %v", r, err)
	}
}
