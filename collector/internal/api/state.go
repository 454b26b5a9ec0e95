package api

import (
	"context"
	"errors"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sidetone/collector/internal/enrolment"
	"sidetone/collector/internal/incident"
	"sidetone/collector/internal/inventory"
	"sidetone/collector/internal/telemetrydb"
	"sidetone/shared/telemetry"
)

// Limits of lists and of waiting for ClickHouse.
const (
	changesShown = 50
	queryTimeout = 10 * time.Second
)

func (a *API) getFleet(ctx context.Context, _ *struct{}) (*struct{ Body Fleet }, error) {
	rows, err := a.board.rows(ctx, scope(ctx))
	if err != nil {
		return nil, a.internal(err, "read the fleet")
	}
	out := &struct{ Body Fleet }{Body: Fleet{Generated: telemetry.MS(time.Now()), Storage: a.Storage(), Sites: rows}}
	for _, r := range rows {
		switch r.State {
		case StateOK:
			out.Body.Counts.OK++
		case StateDegraded:
			out.Body.Counts.Degraded++
		case StateDown:
			out.Body.Counts.Down++
		default:
			out.Body.Counts.NoData++
		}
	}
	return out, nil
}

type siteIn struct {
	SiteID telemetry.SiteID `path:"site_id" maximum:"4294967295"`
}

func (a *API) getSite(ctx context.Context, in *siteIn) (*struct{ Body SiteDetail }, error) {
	d, err := a.board.detail(ctx, scope(ctx), in.SiteID)
	if err != nil {
		return nil, a.notFound(err, "read the site")
	}
	// Changes come from ClickHouse: without it the page shows the present all the same.
	qctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	changes, err := a.Telemetry.Changes(qctx, scope(ctx), in.SiteID, changesShown)
	if err != nil {
		a.Log.Warn().Err(err).Msg("read state changes")
	}
	for _, c := range changes {
		d.Changes = append(d.Changes, Change{Observed: c.Observed, Subject: c.Subject, Name: c.Name, From: c.From, To: c.To, Detail: c.Detail})
	}
	return &struct{ Body SiteDetail }{Body: d}, nil
}

const noSuchSite = "there is no such site, or it is not yours to see"

func (a *API) notFound(err error, doing string) error {
	if errors.Is(err, inventory.ErrNotFound) {
		return huma.Error404NotFound(noSuchSite)
	}
	return a.internal(err, doing)
}

type incidentsIn struct {
	State string `query:"state" enum:"open,all" default:"open"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"200"`
}

// Incidents is a list of incidents.
type Incidents struct {
	Incidents []Incident `json:"incidents"`
}

func (a *API) getIncidents(ctx context.Context, in *incidentsIn) (*struct{ Body Incidents }, error) {
	q := incident.Filter{Limit: in.Limit}
	if in.State == "open" {
		q.Phase = incident.Open
	}
	list, err := a.Incidents.List(ctx, scope(ctx), q)
	if err != nil {
		return nil, a.internal(err, "list incidents")
	}
	out := &struct{ Body Incidents }{Body: Incidents{Incidents: make([]Incident, 0, len(list))}}
	for _, i := range list {
		out.Body.Incidents = append(out.Body.Incidents, incidentJSON(i))
	}
	return out, nil
}

type seriesIn struct {
	SiteID telemetry.SiteID `path:"site_id" maximum:"4294967295"`
	Target string           `query:"target" required:"true" maxLength:"20"`
	FromMS int64            `query:"from_ms" required:"true" minimum:"1" maximum:"253402300799999"`
	ToMS   int64            `query:"to_ms" required:"true" minimum:"1" maximum:"253402300799999"`
	StepMS int64            `query:"step_ms" minimum:"0" maximum:"34560000000"`
}

func (a *API) getSeries(ctx context.Context, in *seriesIn) (*struct{ Body Series }, error) {
	item, ok := itemFrom(in.Target)
	if !ok {
		return nil, huma.Error422UnprocessableEntity("target is not an item id")
	}
	if in.ToMS <= in.FromMS || in.ToMS-in.FromMS > (400*24*time.Hour).Milliseconds() {
		return nil, huma.Error422UnprocessableEntity("from_ms must be before to_ms, at most 400 days apart")
	}
	site, err := a.Inventory.Site(ctx, scope(ctx), in.SiteID)
	if err != nil {
		return nil, a.notFound(err, "read the site")
	}
	target, agent := a.findTarget(site, item)
	qctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	s, err := a.Telemetry.Series(qctx, scope(ctx), telemetrydb.SeriesQuery{
		Site: in.SiteID, Agent: agent, Item: item,
		From: telemetry.UnixMS(in.FromMS).Time(), To: telemetry.UnixMS(in.ToMS).Time(), Step: time.Duration(in.StepMS) * time.Millisecond,
	})
	if err != nil {
		a.Log.Warn().Err(err).Msg("read series")
		return nil, huma.Error503ServiceUnavailable("the measurements cannot be read now: ClickHouse does not answer")
	}
	return &struct{ Body Series }{Body: seriesJSON(target, s)}, nil
}

func seriesJSON(target Target, s *telemetrydb.Series) Series {
	return Series{
		Target: target, From: s.From, To: s.To, StepMS: s.StepMS, T: s.T,
		RTTMinUS: s.RTTMinUS, RTTP10US: s.RTTP10US, RTTP50US: s.RTTP50US, RTTP90US: s.RTTP90US, RTTMaxUS: s.RTTMaxUS,
		JitterUS: s.JitterUS, LossRatio: s.LossRatio, Sent: s.Sent,
	}
}

// findTarget describes the target if some agent of the site knows it.
func (a *API) findTarget(site inventory.Site, item telemetry.ItemID) (Target, telemetry.AgentID) {
	for _, p := range site.PBXs {
		for _, ag := range p.Agents {
			la, ok := a.Live.Agent(ag.ID)
			if !ok {
				continue
			}
			if t, ok := la.Targets[item]; ok {
				return targetJSON(ag.ID, t), ag.ID
			}
		}
	}
	return Target{ItemID: itemText(item)}, 0
}

func (a *API) getTree(ctx context.Context, _ *struct{}) (*struct{ Body Tree }, error) {
	tenants, err := a.Inventory.Tree(ctx, scope(ctx))
	if err != nil {
		return nil, a.internal(err, "read the tree")
	}
	tree := Tree{Tenants: []TreeTenant{}}
	for _, t := range tenants {
		tt := TreeTenant{TenantID: t.ID, Name: t.Name, Customers: []TreeCustomer{}}
		for _, c := range t.Customers {
			tc := TreeCustomer{CustomerID: c.ID, Name: c.Name, Sites: []TreeSite{}}
			for _, s := range c.Sites {
				tc.Sites = append(tc.Sites, TreeSite{SiteID: s.ID, Name: s.Name})
			}
			tt.Customers = append(tt.Customers, tc)
		}
		tree.Tenants = append(tree.Tenants, tt)
	}
	return &struct{ Body Tree }{Body: tree}, nil
}

type tokenIn struct {
	Body struct {
		Tenant   string `json:"tenant" maxLength:"100"`
		Customer string `json:"customer" maxLength:"100"`
		Site     string `json:"site" maxLength:"100"`
		Uses     int    `json:"uses,omitempty" minimum:"1" maximum:"1000" default:"1"`
		Hours    int    `json:"hours,omitempty" minimum:"1" maximum:"720" default:"24"`
	}
}

func (a *API) postToken(ctx context.Context, in *tokenIn) (*struct{ Body NewToken }, error) {
	if !from(ctx).principal.CanManage() {
		return nil, huma.Error403Forbidden("your role may not make tokens")
	}
	token, expires, err := a.Enrolment.CreateToken(ctx, scope(ctx), enrolment.TokenSpec{
		Tenant: in.Body.Tenant, Customer: in.Body.Customer, Site: in.Body.Site,
		Uses: in.Body.Uses, TTL: time.Duration(in.Body.Hours) * time.Hour, Addr: a.AgentsAddr(),
	})
	if wrong := fieldErrors(err, func(e *enrolment.FieldError) (string, error) { return e.Field, e.Err }); wrong != nil {
		return nil, wrong
	}
	switch {
	case errors.Is(err, enrolment.ErrForbidden):
		return nil, huma.Error403Forbidden(err.Error())
	case err != nil:
		return nil, a.internal(err, "make the token")
	}
	return &struct{ Body NewToken }{Body: NewToken{
		Token: token.String(), Expires: telemetry.MS(expires),
		Command: "sudo sidetone-agent enrol " + token.String() + " && sudo systemctl restart sidetone-agent",
	}}, nil
}
