package api

import (
	"context"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sidetone/collector/internal/telemetrydb"
	"sidetone/shared/telemetry"
)

// Gaps is what agents of a site have not delivered, newest first.
type Gaps struct {
	From ms    `json:"from_ms"`
	To   ms    `json:"to_ms"`
	Gaps []Gap `json:"gaps"`
	More bool  `json:"more" doc:"there are more than the list holds"`
}

// Gap is one missing range of records; without numbers it is a time in which the agent
// made none.
type Gap struct {
	AgentID telemetry.AgentID `json:"agent_id"`
	Label   string            `json:"label" enum:"late,evicted,damaged,rejected,discarded,never_collected"`
	Epoch   string            `json:"epoch"`
	FromSeq *uint64           `json:"from_seq,omitempty"`
	ToSeq   *uint64           `json:"to_seq,omitempty"`
	Records *uint64           `json:"records,omitempty"`
	From    ms                `json:"from_ms,omitempty" doc:"when the record before it was made"`
	To      ms                `json:"to_ms,omitempty" doc:"when the record after it was made; absent when there is none yet"`
}

// Bounds of a question for gaps.
const (
	gapsUsual = 24 * time.Hour
	gapsMost  = 30 * 24 * time.Hour
)

type gapsIn struct {
	SiteID telemetry.SiteID `path:"site_id" maximum:"4294967295"`
	FromMS int64            `query:"from_ms" minimum:"0" maximum:"253402300799999" doc:"absent: 24 h before the end"`
	ToMS   int64            `query:"to_ms" minimum:"0" maximum:"253402300799999" doc:"absent: now"`
	Limit  int              `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

func (a *API) getGaps(ctx context.Context, in *gapsIn) (*struct{ Body Gaps }, error) {
	to := time.Now()
	if in.ToMS != 0 {
		to = telemetry.UnixMS(in.ToMS).Time()
	}
	from := to.Add(-gapsUsual)
	if in.FromMS != 0 {
		from = telemetry.UnixMS(in.FromMS).Time()
	}
	if !to.After(from) || to.Sub(from) > gapsMost {
		return nil, huma.Error422UnprocessableEntity("from_ms must be before to_ms, at most 30 days apart")
	}
	site, err := a.Inventory.Site(ctx, scope(ctx), in.SiteID)
	if err != nil {
		return nil, a.notFound(err, "read the site")
	}
	out := &struct{ Body Gaps }{Body: Gaps{From: telemetry.MS(from), To: telemetry.MS(to), Gaps: []Gap{}}}
	var agents []telemetry.AgentID
	for _, p := range site.PBXs {
		for _, ag := range p.Agents {
			agents = append(agents, ag.ID)
		}
	}
	if len(agents) == 0 {
		return out, nil // an empty list would ask for every agent
	}
	qctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	list, more, err := a.Telemetry.GapLedger(qctx, scope(ctx), telemetrydb.GapQuery{Agents: agents, From: from, To: to, Limit: in.Limit})
	if err != nil {
		a.Log.Warn().Err(err).Uint32("site", uint32(in.SiteID)).Msg("read the gap ledger")
		return nil, huma.Error503ServiceUnavailable("what is missing cannot be read now: ClickHouse does not answer")
	}
	out.Body.More = more
	for _, r := range list {
		out.Body.Gaps = append(out.Body.Gaps, gapJSON(r))
	}
	return out, nil
}

func gapJSON(r telemetrydb.MissingRange) Gap {
	g := Gap{AgentID: r.Agent, Label: r.Label, Epoch: strconv.FormatUint(r.Epoch, 10)}
	if r.Numbered {
		n := r.Records()
		g.FromSeq, g.ToSeq, g.Records = &r.FromSeq, &r.ToSeq, &n
	}
	if !r.From.IsZero() {
		g.From = telemetry.MS(r.From)
	}
	if !r.To.IsZero() {
		g.To = telemetry.MS(r.To)
	}
	return g
}
