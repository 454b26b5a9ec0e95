package api

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"sidetone/collector/internal/alert"
	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/fleet"
	"sidetone/collector/internal/incident"
	"sidetone/collector/internal/inventory"
	"sidetone/collector/internal/live"
	"sidetone/shared/telemetry"
)

// silentAfter is when an agent that is not heard counts as gone; freshFor is how long
// a measurement may be shown as the present. A PBX may be read as rarely as every five
// minutes.
const (
	silentAfter = 60 * time.Second
	freshFor    = 2 * time.Minute
	pbxFreshFor = 11 * time.Minute
)

// board puts together what the tree, the presence of agents, the fresh state and the
// open incidents say about sites.
type board struct {
	inventory *inventory.Inventory
	fleet     *fleet.Fleet
	live      *live.Hub
	incidents *incident.Manager
	now       func() time.Time
}

// rows is all sites in scope, worst first.
func (b *board) rows(ctx context.Context, scope authz.Scope) ([]SiteRow, error) {
	sites, err := b.inventory.Sites(ctx, scope)
	if err != nil {
		return nil, err
	}
	open, err := b.incidents.List(ctx, scope, incident.Filter{Phase: incident.Open, Limit: incident.MaxLimit})
	if err != nil {
		return nil, err
	}
	bySite := map[telemetry.SiteID][]incident.Incident{}
	for _, i := range open {
		bySite[i.Source.Site] = append(bySite[i.Source.Site], i)
	}
	rows := make([]SiteRow, 0, len(sites))
	for _, s := range sites {
		rows = append(rows, b.row(s, bySite[s.ID]))
	}
	slices.SortStableFunc(rows, worstFirst)
	return rows, nil
}

// rank orders the states, worst first.
var rank = map[string]int{StateDown: 0, StateNoData: 1, StateDegraded: 2, StateOK: 3}

func worstFirst(a, b SiteRow) int {
	if c := cmp.Compare(rank[a.State], rank[b.State]); c != 0 {
		return c
	}
	if c := cmp.Compare(b.OpenIncidents, a.OpenIncidents); c != 0 {
		return c
	}
	if c := cmp.Compare(loss(b), loss(a)); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Customer, b.Customer), cmp.Compare(a.Site, b.Site))
}

func loss(r SiteRow) float64 {
	if r.WorstLossRatio == nil {
		return 0
	}
	return *r.WorstLossRatio
}

// row is one site.
func (b *board) row(s inventory.Site, open []incident.Incident) SiteRow {
	r := SiteRow{SiteID: s.ID, Tenant: s.Tenant.Name, Customer: s.Customer.Name, Site: s.Name, OpenIncidents: len(open)}
	now := b.now()
	var in inputs
	for _, p := range s.PBXs {
		if r.PBXName == "" {
			r.PBXName, r.PBXFQDN, r.PBXVersion = p.Name, p.FQDN, p.Version
		}
		for _, a := range p.Agents {
			if a.Revoked {
				continue
			}
			r.AgentsTotal++
			pr, _ := b.fleet.Presence(a.ID)
			seen := latest(pr.LastSeen, a.LastSeen)
			if pr.Connected {
				r.AgentsConnected++
			}
			if ms := telemetry.MS(seen); ms > r.LastSeen {
				r.LastSeen = ms
			}
			in.seen = latest(in.seen, seen)
			if !seen.IsZero() && now.Sub(seen) < silentAfter {
				in.heard = true
			}
			if la, ok := b.live.Agent(a.ID); ok && now.Sub(la.Received) < freshFor {
				in.fresh = true
				in.pbxStale = addLive(&r, la) || in.pbxStale
			}
		}
	}
	judge(&r, open, in)
	return r
}

// inputs is what judge rests on besides incidents.
type inputs struct {
	heard    bool      // an agent gives signs of life
	seen     time.Time // its last one
	fresh    bool      // measurements of the present are here
	pbxStale bool      // an agent that read its PBX before has stopped to
}

// judge names the state of the site and why. Missing input can never look green.
func judge(r *SiteRow, open []incident.Incident, in inputs) {
	worst := worstIncident(open)
	switch {
	case r.AgentsTotal == 0:
		r.State, r.Reason = StateNoData, "no agent has enrolled yet"
	case !in.heard && in.seen.IsZero():
		r.State, r.Reason = StateNoData, "the agent has enrolled and has not connected yet"
	case !in.heard:
		r.State, r.Reason, r.Since = StateNoData, "the agent is silent", telemetry.MS(in.seen)
	case worst != nil && worst.Severity == alert.Critical:
		r.State, r.Reason, r.Since = StateDown, worst.Title, telemetry.MS(worst.Opened)
	case !in.fresh:
		r.State, r.Reason = StateNoData, "no measurement has come yet"
	case worst != nil:
		r.State, r.Reason, r.Since = StateDegraded, worst.Title, telemetry.MS(worst.Opened)
	case r.PBXState != "" && r.PBXState != string(telemetry.PBXOK):
		r.State, r.Reason = StateDegraded, pbxReason(r.PBXState)
	case in.pbxStale:
		r.State, r.Reason = StateNoData, "the agent has stopped to read the PBX"
	default:
		r.State = StateOK
	}
}

func pbxReason(state string) string {
	switch telemetry.PBXState(state) {
	case telemetry.PBXUnreachable:
		return "the PBX does not answer"
	case telemetry.PBXAuthFailed:
		return "the PBX refuses the agent's sign-in"
	default:
		return "the PBX is busy"
	}
}

func worstIncident(open []incident.Incident) *incident.Incident {
	var worst *incident.Incident
	for i := range open {
		o := &open[i]
		switch {
		case worst == nil,
			o.Severity.Rank() > worst.Severity.Rank(),
			o.Severity == worst.Severity && o.Opened.Before(worst.Opened):
			worst = o
		}
	}
	return worst
}

// addLive adds one agent's fresh state to the row. It reports whether the reading of
// the PBX is of the past. Only the agent's own clock decides what is, since it may be
// wrong.
func addLive(r *SiteRow, a live.Agent) (pbxStale bool) {
	newest := newestObserved(a)
	past := func(at ms, limit time.Duration) bool { return newest.Time().Sub(at.Time()) > limit }
	if a.Status != nil && past(a.Status.Observed, pbxFreshFor) {
		pbxStale = true
	} else if a.Status != nil {
		r.PBXState = string(a.Status.State)
		if s := a.Status; s.State == telemetry.PBXOK {
			r.CallsActive, r.CallsMax = s.CallsActive, s.CallsMax
			if s.FQDN != "" {
				r.PBXFQDN, r.PBXVersion = s.FQDN, s.Version
			}
		}
	}
	if !pbxStale {
		countTrunks(r, a)
	}
	for id, w := range a.Windows {
		if past(end(w), freshFor) || w.Sent == 0 {
			continue
		}
		ratio := float64(w.Lost) / float64(w.Sent)
		if !worse(r, ratio, w) {
			continue
		}
		r.WorstLossRatio = &ratio
		r.WorstRTTP50US = positive(w.RTTP50US)
		r.WorstTarget = a.Targets[id].Name
	}
	return pbxStale
}

// newestObserved is the newest instant on the agent's clock.
func newestObserved(a live.Agent) ms {
	var newest ms
	if a.Status != nil {
		newest = a.Status.Observed
	}
	if a.Health != nil {
		newest = max(newest, a.Health.Observed)
	}
	for _, w := range a.Windows {
		newest = max(newest, end(w))
	}
	return newest
}

func end(w telemetry.ProbeWindow) ms { return w.Observed + ms(w.LengthMS) }

// worse compares by loss, then by RTT.
func worse(r *SiteRow, ratio float64, w telemetry.ProbeWindow) bool {
	if r.WorstLossRatio == nil || ratio != *r.WorstLossRatio {
		return r.WorstLossRatio == nil || ratio > *r.WorstLossRatio
	}
	return r.WorstRTTP50US == nil || w.RTTP50US > *r.WorstRTTP50US
}

// countTrunks counts provider trunks that have a registration to lose.
func countTrunks(r *SiteRow, a live.Agent) {
	var total, registered uint32
	for _, t := range a.Trunks {
		if t.Value.Kind != "provider" || !t.Value.RegistrationNeeded {
			continue
		}
		total++
		if t.Value.Registered {
			registered++
		}
	}
	if len(a.Trunks) > 0 {
		r.TrunksTotal, r.TrunksRegistered = &total, &registered
	}
}

func positive(v uint32) *uint32 {
	if v == 0 {
		return nil
	}
	return &v
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// siteRow is the row of one site.
func (b *board) siteRow(ctx context.Context, scope authz.Scope, id telemetry.SiteID) (SiteRow, inventory.Site, []incident.Incident, error) {
	s, err := b.inventory.Site(ctx, scope, id)
	if err != nil {
		return SiteRow{}, s, nil, err
	}
	open, err := b.incidents.List(ctx, scope, incident.Filter{Phase: incident.Open, Site: id})
	if err != nil {
		return SiteRow{}, s, nil, fmt.Errorf("incidents of site %d: %w", id, err)
	}
	return b.row(s, open), s, open, nil
}
