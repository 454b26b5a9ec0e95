package collectord

import (
	"context"
	"time"

	"sidetone/collector/internal/alert"
	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/ingest"
	"sidetone/shared/telemetry"
	"sidetone/shared/wire"
)

// queueLength bounds deliveries that wait for the judge. When it is full the
// connection that brought the next one waits: judging is never skipped.
const queueLength = 4096

// judgeRest is how long the judge may go on with what waits when it is to stop: those
// deliveries are stored, and no agent brings them again.
const judgeRest = 10 * time.Second

// observer is what ingest tells of each delivery, before it is stored.
type observer struct{ d *Daemon }

func (o observer) Delivered(d *ingest.Delivery) {
	o.d.fleet.Seen(d.Source, d.ReceivedAt)
	o.d.live.Deliver(d.Source, d.Rows, d.ReceivedAt.Add(-d.Age)) // what lay in the spool is not of now
	o.d.judge <- d
}

// runJudge takes deliveries in their order, and lets time pass once a second.
func (d *Daemon) runJudge(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case del := <-d.judge:
			d.judgeOne(ctx, del)
		case now := <-tick.C:
			d.act(ctx, d.alert.Observe(d.silences(now)))
			d.act(ctx, d.alert.Tick(now))
		case <-ctx.Done():
			rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), judgeRest)
			defer cancel()
			for {
				select {
				case del := <-d.judge:
					d.judgeOne(rctx, del)
				default:
					return nil
				}
			}
		}
	}
}

func (d *Daemon) judgeOne(ctx context.Context, del *ingest.Delivery) {
	late := del.Age > alert.LateAfter
	d.act(ctx, d.alert.Observe(alert.FromSet(del.Source, del.Rows, del.ReceivedAt, late)))
	if !late {
		d.keepPBXFacts(ctx, del)
	}
}

// act hands transitions to the incidents. It is called without any, too, so that what
// waits for the control store is tried again.
func (d *Daemon) act(ctx context.Context, list []alert.Transition) {
	for _, t := range list {
		if t.To == alert.Firing || t.To == alert.Resolved {
			d.log.Info().Str("rule", t.Key.Rule).Uint32("agent", uint32(t.Source.Agent)).
				Str("reason", t.Summary).Msg("alert " + string(t.To))
		}
	}
	if err := d.incidents.Handle(ctx, list); err != nil && ctx.Err() == nil {
		d.log.Error().Err(err).Msg("keep incidents in the control store")
	}
}

// silences turns the agents' silence into observations.
func (d *Daemon) silences(now time.Time) []alert.Observation {
	list := d.fleet.Silences(now)
	obs := make([]alert.Observation, 0, len(list))
	for _, s := range list {
		obs = append(obs, alert.AgentObservation(s.Source, d.mirror.hostname(s.Source.Agent), s.For))
	}
	return obs
}

// keepPBXFacts keeps name and version of the PBX in the tree when they changed.
func (d *Daemon) keepPBXFacts(ctx context.Context, del *ingest.Delivery) {
	for i := range del.Rows.PBXStatuses {
		s := &del.Rows.PBXStatuses[i]
		if s.State != telemetry.PBXOK || !d.mirror.newPBXFacts(del.Source.Agent, s.FQDN, s.Version) {
			continue
		}
		if err := d.inventory.UpdatePBX(ctx, del.Source.PBX, s.FQDN, s.Version); err != nil {
			d.log.Warn().Err(err).Msg("keep the PBX's name and version")
			continue
		}
		d.mirror.touch()
	}
}

// reconcile makes the open incidents agree with what fires, after a start.
func (d *Daemon) reconcile(ctx context.Context) error {
	return d.incidents.Reconcile(ctx, d.alert.Firings())
}

// revoke ends what a revoked agent still has: its connection, its silence, its alerts.
// It is harmless when repeated.
func (d *Daemon) revoke(ctx context.Context, id telemetry.AgentID) {
	d.fleet.Forget(id)
	if d.ingest != nil {
		d.ingest.Disconnect(id, wire.CloseRevoked, "the agent was revoked")
	}
	if d.alert != nil {
		d.act(ctx, d.alert.Forget(id))
	}
}

// knowFleet tells the fleet which agents there are, and parts with revoked ones.
func (d *Daemon) knowFleet(ctx context.Context) error {
	sites, err := d.inventory.Sites(ctx, authz.System())
	if err != nil {
		return err
	}
	for _, s := range sites {
		for _, p := range s.PBXs {
			for _, a := range p.Agents {
				if a.Revoked {
					d.revoke(ctx, a.ID)
					continue
				}
				src := telemetry.Source{Tenant: s.Tenant.ID, Customer: s.Customer.ID, Site: s.ID, PBX: p.ID, Agent: a.ID}
				d.fleet.Know(src, a.LastSeen)
			}
		}
	}
	return nil
}
