package collectord

import (
	"context"
	"errors"
	"net"
	"time"

	"sidetone/collector/internal/alert"
	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/enrolment"
	"sidetone/collector/internal/fleet"
	"sidetone/collector/internal/incident"
	"sidetone/collector/internal/ingest"
	"sidetone/collector/internal/inventory"
	"sidetone/shared/certid"
	"sidetone/shared/telemetry"
	"sidetone/shared/wire"
)

// agents lets ingest ask the enrolment who an agent is.
type agents struct{ enrolment *enrolment.Service }

func (a agents) Lookup(ctx context.Context, id certid.ID) (ingest.AgentInfo, error) {
	ag, err := a.enrolment.Lookup(ctx, id)
	if err != nil {
		return ingest.AgentInfo{}, ingestError(err)
	}
	return ingest.AgentInfo{Source: ag.Source, Revoked: ag.Revoked}, nil
}

func (a agents) Renew(ctx context.Context, id certid.ID, csr []byte) ([][]byte, uint64, error) {
	chain, generation, err := a.enrolment.Renew(ctx, id, csr)
	return chain, generation, ingestError(err)
}

// ingestError translates the enrolment's verdicts into ingest's.
func ingestError(err error) error {
	for _, pair := range [][2]error{
		{enrolment.ErrRevoked, ingest.ErrRevoked},
		{enrolment.ErrUnknown, ingest.ErrUnknown},
		{enrolment.ErrStaleGeneration, ingest.ErrStaleGeneration},
	} {
		if errors.Is(err, pair[0]) {
			return pair[1]
		}
	}
	return err
}

// enroller admits agents and lets the daemon know the new one at once.
type enroller struct {
	enrolment *enrolment.Service
	admitted  func()
}

func (e enroller) Enrol(ctx context.Context, remote net.Addr, req wire.EnrolRequest) wire.EnrolResponse {
	resp := e.enrolment.Enrol(ctx, remote, req)
	if resp.Error == "" {
		e.admitted()
	}
	return resp
}

// names gives incidents the names of their place.
type names struct{ inventory *inventory.Inventory }

func (n names) IncidentPath(ctx context.Context, src alert.Source) (incident.Path, error) {
	p, err := n.inventory.Path(ctx, authz.System(), src.Agent)
	if err != nil {
		return incident.Path{}, err
	}
	return incident.Path{Tenant: p.Tenant, Customer: p.Customer, Site: p.Site, PBX: p.PBX}, nil
}

// presence passes arrivals and departures to the fleet and to open pages.
type presence struct{ d *Daemon }

func (p presence) Connected(src telemetry.Source, info ingest.ConnInfo) {
	p.d.fleet.Connected(src, fleet.Conn{
		Transport: info.Transport, Remote: info.Remote, CertExpires: info.CertExpires,
		ClockOffset: info.ClockOffset, Version: info.Hello.Version,
	}, time.Now())
	p.d.live.Touch(src)
	p.d.later(func(ctx context.Context) {
		h := inventory.Hello{Hostname: info.Hello.Hostname, OS: info.Hello.OS, Arch: info.Hello.Arch, Version: info.Hello.Version, At: time.Now()}
		if err := p.d.inventory.UpdateAgent(ctx, src.Agent, h); err != nil {
			p.d.log.Warn().Err(err).Uint32("agent", uint32(src.Agent)).Msg("keep what the agent said of itself")
		}
		p.d.mirror.touch()
	})
}

func (p presence) Disconnected(src telemetry.Source, reason string) {
	p.d.fleet.Disconnected(src, reason, time.Now())
	p.d.live.Touch(src)
}
