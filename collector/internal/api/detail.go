package api

import (
	"cmp"
	"context"
	"slices"
	"strconv"

	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/fleet"
	"sidetone/collector/internal/incident"
	"sidetone/collector/internal/inventory"
	"sidetone/collector/internal/live"
	"sidetone/shared/telemetry"
)

// resolvedShown is how many resolved incidents the site page lists.
const resolvedShown = 20

// detail is everything about one site but its history in ClickHouse (changes).
func (b *board) detail(ctx context.Context, scope authz.Scope, id telemetry.SiteID) (SiteDetail, error) {
	row, site, open, err := b.siteRow(ctx, scope, id)
	if err != nil {
		return SiteDetail{}, err
	}
	d := SiteDetail{
		Row: row, Agents: []Agent{}, Trunks: []Trunk{}, SBCs: []SBC{}, Services: []Service{},
		Targets: []Target{}, Incidents: []Incident{}, Changes: []Change{},
	}
	resolved, err := b.incidents.List(ctx, scope, incident.Filter{Phase: incident.Resolved, Site: id, Limit: resolvedShown})
	if err != nil {
		return d, err
	}
	for _, i := range append(open, resolved...) {
		d.Incidents = append(d.Incidents, incidentJSON(i))
	}
	for _, p := range site.PBXs {
		for _, a := range p.Agents {
			if a.Revoked {
				continue
			}
			pr, _ := b.fleet.Presence(a.ID)
			la, ok := b.live.Agent(a.ID)
			d.Agents = append(d.Agents, agentJSON(a, pr, la))
			if ok {
				d.addLive(la)
			}
		}
	}
	d.sort()
	return d, nil
}

func agentJSON(a inventory.Agent, p fleet.Presence, la live.Agent) Agent {
	j := Agent{
		AgentID: a.ID, Hostname: a.Hostname, OS: a.OS, Arch: a.Arch, Version: a.Version,
		Connected: p.Connected, Since: telemetry.MS(p.Since), LastSeen: telemetry.MS(latest(p.LastSeen, a.LastSeen)),
	}
	if p.Connected {
		offset := p.Conn.ClockOffset.Milliseconds()
		j.Transport, j.Remote = p.Conn.Transport, p.Conn.Remote
		j.CertificateExpires, j.ClockOffsetMS = telemetry.MS(p.Conn.CertExpires), &offset
	}
	if h := la.Health; h != nil {
		j.SpoolRecords, j.SpoolBytes = &h.SpoolRecords, &h.SpoolBytes
		if h.SpoolRecords > 0 {
			j.SpoolOldest = h.Observed - ms(h.SpoolOldestMS)
		}
		j.SpoolDegraded, j.RSSBytes = h.SpoolDegraded, &h.RSSBytes
	}
	return j
}

func (d *SiteDetail) addLive(a live.Agent) {
	if d.PBX == nil {
		d.PBX = pbxJSON(a)
	}
	for id, t := range a.Trunks {
		v := t.Value
		d.Trunks = append(d.Trunks, Trunk{
			ItemID: itemText(id), Observed: v.Observed, Number: v.Number, Name: v.Name, Host: v.Host, Kind: v.Kind,
			Registered: v.Registered, RegistrationNeeded: v.RegistrationNeeded, FailCode: v.FailCode,
			ConfigurationIssue: v.ConfigurationIssue, ChannelsMax: v.ChannelsMax, CallsActive: v.CallsActive, Since: t.Since,
		})
	}
	for id, s := range a.SBCs {
		v := s.Value
		d.SBCs = append(d.SBCs, SBC{
			ItemID: itemText(id), Observed: v.Observed, Name: v.Name, Connected: v.Connected, Version: v.Version,
			LatencyMS: v.LatencyMS, CallsActive: v.CallsActive, PhonesRegistered: v.PhonesRegistered, Since: s.Since,
		})
	}
	for id, s := range a.Services {
		v := s.Value
		d.Services = append(d.Services, Service{
			ItemID: itemText(id), Observed: v.Observed, Name: v.Name, Title: v.Title, Status: v.Status,
			MemoryBytes: v.MemoryBytes, Since: s.Since,
		})
	}
	for id, t := range a.Targets {
		j := targetJSON(a.Source.Agent, t)
		if w, ok := a.Windows[id]; ok {
			win := windowJSON(w)
			j.Last = &win
		}
		d.Targets = append(d.Targets, j)
	}
}

// sort puts what needs a look first, then by name.
func (d *SiteDetail) sort() {
	first := func(bad bool) int {
		if bad {
			return 0
		}
		return 1
	}
	slices.SortFunc(d.Trunks, func(a, b Trunk) int {
		return cmp.Or(cmp.Compare(first(a.RegistrationNeeded && !a.Registered), first(b.RegistrationNeeded && !b.Registered)), cmp.Compare(a.Number, b.Number))
	})
	slices.SortFunc(d.SBCs, func(a, b SBC) int {
		return cmp.Or(cmp.Compare(first(!a.Connected), first(!b.Connected)), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(d.Services, func(a, b Service) int {
		return cmp.Or(cmp.Compare(first(a.Status != "Running"), first(b.Status != "Running")), cmp.Compare(a.Name, b.Name))
	})
	order := map[string]int{"stamp": 0, "icmp": 1, "tls": 2, "tcp": 3, "dns": 4, "stun": 5}
	slices.SortFunc(d.Targets, func(a, b Target) int {
		return cmp.Or(cmp.Compare(order[a.Method], order[b.Method]), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ItemID, b.ItemID))
	})
}

func pbxJSON(a live.Agent) *PBX {
	if a.Status == nil {
		return nil
	}
	j := &PBX{Observed: a.Status.Observed, State: string(a.Status.State), Detail: a.Status.Detail, AnswerMS: a.Status.AnswerMS}
	if s := a.LastOK; s != nil {
		j.FQDN, j.Version, j.OS = s.FQDN, s.Version, s.OS
		j.CallsMax, j.ExtensionsRegistered, j.ExtensionsTotal = s.CallsMax, s.ExtensionsRegistered, s.ExtensionsTotal
		j.DiskUsedPercent, j.DiskFreeBytes, j.DiskTotalBytes = s.DiskUsedPercent, s.DiskFreeBytes, s.DiskTotalBytes
		j.RecordingUsedBytes, j.RecordingQuotaBytes = s.RecordingUsedBytes, s.RecordingQuotaBytes
		j.BackupScheduled, j.LastBackup = s.BackupScheduled, s.LastBackup
		j.AutoUpdate, j.AuditLog = s.AutoUpdate, s.AuditLog
		if s == a.Status {
			j.CallsActive = s.CallsActive // calls of the past would mislead
		}
	}
	if bk := a.Backup; bk != nil {
		j.BackupCount, j.BackupNewestSizeBytes = &bk.Count, &bk.NewestSizeBytes
		if bk.Newest > j.LastBackup {
			j.LastBackup = bk.Newest
		}
	}
	if l := a.Licence; l != nil {
		j.LicenceProduct, j.LicenceActive, j.Support = l.ProductCode, l.Active, l.Support
		j.LicenceExpires, j.MaintenanceExpires = l.Expires, l.MaintenanceExpires
	}
	return j
}

func targetJSON(agent telemetry.AgentID, t telemetry.Target) Target {
	return Target{ItemID: itemText(t.ID), AgentID: agent, Method: string(t.Method), Name: t.Name, Address: t.Address}
}

func windowJSON(w telemetry.ProbeWindow) Window {
	j := Window{
		Observed: w.Observed, LengthMS: w.LengthMS, Sent: w.Sent, Received: w.Received, Lost: w.Lost,
		LostForward: w.LostForward, LostReverse: w.LostReverse, Fault: w.Fault, Detail: w.Detail,
	}
	if w.Sent > 0 {
		j.LossRatio = float64(w.Lost) / float64(w.Sent)
	}
	if w.Received > 0 {
		j.RTTMinUS, j.RTTP10US, j.RTTP50US = &w.RTTMinUS, &w.RTTP10US, &w.RTTP50US
		j.RTTP90US, j.RTTMaxUS, j.JitterUS = &w.RTTP90US, &w.RTTMaxUS, &w.JitterUS
	}
	return j
}

func incidentJSON(i incident.Incident) Incident {
	j := Incident{
		IncidentID: i.ID, Tenant: i.Path.Tenant, Customer: i.Path.Customer, Site: i.Path.Site, SiteID: i.Source.Site,
		Rule: i.Cause.Rule, Title: i.Title, Severity: string(i.Severity), Subject: i.Subject, State: string(i.Phase),
		Opened: telemetry.MS(i.Opened), Resolved: telemetry.MS(i.Resolved), Summary: i.Summary, Advice: i.Advice, Resolution: i.Resolution,
		Evidence: make([]Evidence, 0, len(i.Evidence)), Messages: []MessageState{},
	}
	for _, e := range i.Evidence {
		j.Evidence = append(j.Evidence, Evidence{Label: e.Label, Value: e.Value})
	}
	for _, m := range i.Messages {
		j.Messages = append(j.Messages, MessageState{
			Channel: m.Channel, Kind: string(m.Kind), State: m.State, At: telemetry.MS(m.At), Error: m.Error,
		})
	}
	return j
}

// itemText writes an item id for JSON: 64 bits do not fit a JavaScript number.
func itemText(id telemetry.ItemID) string { return strconv.FormatUint(uint64(id), 10) }

// itemFrom reads one.
func itemFrom(s string) (telemetry.ItemID, bool) {
	v, err := strconv.ParseUint(s, 10, 64)
	return telemetry.ItemID(v), err == nil
}
