package wire

import "sidetone/shared/telemetry"

// The columns of each type of row. Their order is the wire's: new ones stand at the
// end. A flag's usual value, and whether an optional value usually is there, are part
// of the format as well.

func (c *coder) targets(t *table, rows []telemetry.Target) {
	type R = telemetry.Target
	text(t, &c.texts, rows, false, func(r *R) *telemetry.Method { return &r.Method })
	text(t, &c.texts, rows, true, func(r *R) *string { return &r.Name })
	text(t, &c.texts, rows, true, func(r *R) *string { return &r.Address })
	integer(t, rows, func(r *R) *uint32 { return &r.IntervalMS })
	itemID(t, rows, func(a, b *R) bool { return false },
		func(r *R) telemetry.ItemID {
			return deriveID("target", string(r.Method), r.Address, r.Name)
		}, func(r *R) *telemetry.ItemID { return &r.ID })
}

func (c *coder) statuses(t *table, rows []telemetry.PBXStatus) {
	type R = telemetry.PBXStatus
	instant(t, rows, c.near, func(r *R) *telemetry.UnixMS { return &r.Observed })
	text(t, &c.texts, rows, false, func(r *R) *telemetry.PBXState { return &r.State })
	text(t, &c.texts, rows, false, func(r *R) *string { return &r.Detail })
	integer(t.noisy(), rows, func(r *R) *uint32 { return &r.AnswerMS })
	text(t, &c.texts, rows, false, func(r *R) *string { return &r.FQDN })
	text(t, &c.texts, rows, false, func(r *R) *string { return &r.Version })
	text(t, &c.texts, rows, false, func(r *R) *string { return &r.OS })
	maybe(t, rows, true, func(r *R) **uint32 { return &r.CallsActive })
	maybe(t, rows, true, func(r *R) **uint32 { return &r.CallsMax })
	maybe(t, rows, true, func(r *R) **uint32 { return &r.CallsTalking })
	maybe(t, rows, true, func(r *R) **uint32 { return &r.CallsRinging })
	maybe(t, rows, true, func(r *R) **uint32 { return &r.CallsOther })
	maybe(t.noisy(), rows, true, func(r *R) **uint32 { return &r.LongestCallS })
	maybe(t, rows, true, func(r *R) **uint32 { return &r.ExtensionsTotal })
	maybe(t, rows, true, func(r *R) **uint32 { return &r.ExtensionsRegistered })
	maybe(t, rows, true, func(r *R) **uint32 { return &r.TrunksTotal })
	maybe(t, rows, true, func(r *R) **uint32 { return &r.TrunksRegistered })
	maybeTrue(t, rows, func(r *R) **bool { return &r.ServicesNotRunning })
	maybeTrue(t, rows, func(r *R) **bool { return &r.SystemExtensionsUnregistered })
	maybe(t, rows, true, func(r *R) **uint32 { return &r.DiskUsedPercent })
	maybe(t.noisy(), rows, true, func(r *R) **uint64 { return &r.DiskFreeBytes })
	maybe(t.noisy(), rows, true, func(r *R) **uint64 { return &r.DiskTotalBytes })
	maybe(t.noisy(), rows, true, func(r *R) **uint64 { return &r.RecordingUsedBytes })
	maybe(t, rows, true, func(r *R) **uint64 { return &r.RecordingQuotaBytes })
	maybeTrue(t, rows, func(r *R) **bool { return &r.BackupScheduled })
	integer(t.noisy(), rows, func(r *R) *telemetry.UnixMS { return &r.LastBackup })
	maybeTrue(t, rows, func(r *R) **bool { return &r.AutoUpdate })
	maybeTrue(t, rows, func(r *R) **bool { return &r.AuditLog })
	maybeTrue(t, rows, func(r *R) **bool { return &r.LocalIPValid })
	maybe(t.noisy(), rows, true, func(r *R) **int64 { return &r.ClockOffsetMS })
}

func (c *coder) trunks(t *table, rows []telemetry.Trunk) {
	type R = telemetry.Trunk
	key(t, &c.texts, rows, func(r *R) *string { return &r.Number })
	itemID(t, rows, func(a, b *R) bool { return a.Number == b.Number },
		func(r *R) telemetry.ItemID { return deriveID("trunk", r.Number) },
		func(r *R) *telemetry.ItemID { return &r.ID })
	instant(t, rows, c.near, func(r *R) *telemetry.UnixMS { return &r.Observed })
	text(t, &c.texts, rows, true, func(r *R) *string { return &r.Name })
	text(t, &c.texts, rows, false, func(r *R) *string { return &r.Host })
	// Trunks of one provider are alike in what follows.
	alike(t, rows, func(a, b *R) bool { return a.Host == b.Host })
	text(t, &c.texts, rows, false, func(r *R) *string { return &r.Kind })
	text(t, &c.texts, rows, false, func(r *R) *string { return &r.Template })
	t.series()
	truth(t, rows, true, func(r *R) *bool { return &r.Registered })
	truth(t, rows, true, func(r *R) *bool { return &r.RegistrationNeeded })
	text(t, &c.texts, rows, false, func(r *R) *string { return &r.FailCode })
	truth(t, rows, false, func(r *R) *bool { return &r.ConfigurationIssue })
	maybe(t.noisy(), rows, true, func(r *R) **uint32 { return &r.ChannelsMax })
	maybe(t, rows, true, func(r *R) **uint32 { return &r.CallsActive })
}

func (c *coder) sbcs(t *table, rows []telemetry.SBC) {
	type R = telemetry.SBC
	key(t, &c.texts, rows, func(r *R) *string { return &r.Name })
	itemID(t, rows, func(a, b *R) bool { return a.Name == b.Name },
		func(r *R) telemetry.ItemID { return deriveID("sbc", r.Name) },
		func(r *R) *telemetry.ItemID { return &r.ID })
	instant(t, rows, c.near, func(r *R) *telemetry.UnixMS { return &r.Observed })
	truth(t, rows, true, func(r *R) *bool { return &r.Connected })
	text(t, &c.texts, rows, false, func(r *R) *string { return &r.Version })
	maybe(t.noisy(), rows, true, func(r *R) **uint32 { return &r.LatencyMS })
	maybe(t, rows, true, func(r *R) **uint32 { return &r.CallsActive })
	maybe(t, rows, true, func(r *R) **uint32 { return &r.PhonesRegistered })
	maybeTrue(t, rows, func(r *R) **bool { return &r.UDPActive })
	maybe(t.noisy(), rows, true, func(r *R) **uint64 { return &r.ConnectedS })
}

func (c *coder) services(t *table, rows []telemetry.Service) {
	type R = telemetry.Service
	key(t, &c.texts, rows, func(r *R) *string { return &r.Name })
	itemID(t, rows, func(a, b *R) bool { return a.Name == b.Name },
		func(r *R) telemetry.ItemID { return deriveID("service", r.Name) },
		func(r *R) *telemetry.ItemID { return &r.ID })
	instant(t, rows, c.near, func(r *R) *telemetry.UnixMS { return &r.Observed })
	text(t, &c.texts, rows, true, func(r *R) *string { return &r.Title })
	text(t, &c.texts, rows, false, func(r *R) *string { return &r.Status })
	maybe(t.noisy(), rows, true, func(r *R) **uint64 { return &r.MemoryBytes })
	maybe(t.noisy(), rows, true, func(r *R) **uint32 { return &r.Threads })
	maybe(t.noisy(), rows, true, func(r *R) **uint32 { return &r.Handles })
}

func (c *coder) extensions(t *table, rows []telemetry.ExtensionSummary) {
	type R = telemetry.ExtensionSummary
	instant(t, rows, c.near, func(r *R) *telemetry.UnixMS { return &r.Observed })
	integer(t, rows, func(r *R) *uint32 { return &r.Total })
	integer(t, rows, func(r *R) *uint32 { return &r.Enabled })
	integer(t, rows, func(r *R) *uint32 { return &r.Registered })
	integer(t, rows, func(r *R) *uint32 { return &r.QueueLoggedIn })
	maybe(t, rows, true, func(r *R) **uint32 { return &r.SystemTotal })
	maybe(t, rows, true, func(r *R) **uint32 { return &r.SystemUnregistered })
}

func (c *coder) backups(t *table, rows []telemetry.Backup) {
	type R = telemetry.Backup
	instant(t, rows, c.near, func(r *R) *telemetry.UnixMS { return &r.Observed })
	integer(t, rows, func(r *R) *uint32 { return &r.Count })
	integer(t.noisy(), rows, func(r *R) *telemetry.UnixMS { return &r.Newest })
	integer(t.noisy(), rows, func(r *R) *uint64 { return &r.NewestSizeBytes })
	integer(t.noisy(), rows, func(r *R) *uint64 { return &r.TotalSizeBytes })
	maybeTrue(t, rows, func(r *R) **bool { return &r.ScheduleEnabled })
	maybeTrue(t, rows, func(r *R) **bool { return &r.Encrypted })
	text(t, &c.texts, rows, false, func(r *R) *string { return &r.Repository })
	maybe(t, rows, true, func(r *R) **uint32 { return &r.KeptCopies })
}

func (c *coder) licences(t *table, rows []telemetry.Licence) {
	type R = telemetry.Licence
	instant(t, rows, c.near, func(r *R) *telemetry.UnixMS { return &r.Observed })
	text(t, &c.texts, rows, false, func(r *R) *string { return &r.ProductCode })
	maybeTrue(t, rows, func(r *R) **bool { return &r.Active })
	integer(t.noisy(), rows, func(r *R) *telemetry.UnixMS { return &r.Expires })
	integer(t, rows, func(r *R) *telemetry.UnixMS { return &r.MaintenanceExpires })
	maybe(t, rows, true, func(r *R) **uint32 { return &r.CallsMax })
	maybeTrue(t, rows, func(r *R) **bool { return &r.Support })
}

func (c *coder) eventLog(t *table, rows []telemetry.EventLogEntry) {
	type R = telemetry.EventLogEntry
	instant(t, rows, c.near, func(r *R) *telemetry.UnixMS { return &r.Observed })
	integer(t.noisy(), rows, func(r *R) *int64 { return &r.EntryID })
	integer(t, rows, func(r *R) *uint32 { return &r.EventID })
	text(t, &c.texts, rows, false, func(r *R) *string { return &r.Severity })
	text(t, &c.texts, rows, false, func(r *R) *string { return &r.Source })
}

func (c *coder) stateChanges(t *table, rows []telemetry.StateChange) {
	type R = telemetry.StateChange
	instant(t, rows, c.near, func(r *R) *telemetry.UnixMS { return &r.Observed })
	text(t, &c.texts, rows, false, func(r *R) *string { return &r.Subject })
	integer(t.noisy(), rows, func(r *R) *telemetry.ItemID { return &r.Item })
	text(t, &c.texts, rows, false, func(r *R) *string { return &r.Name })
	text(t, &c.texts, rows, false, func(r *R) *string { return &r.From })
	text(t, &c.texts, rows, false, func(r *R) *string { return &r.To })
	text(t, &c.texts, rows, false, func(r *R) *string { return &r.Detail })
}

func (c *coder) agentHealth(t *table, rows []telemetry.AgentHealth) {
	type R = telemetry.AgentHealth
	instant(t, rows, c.near, func(r *R) *telemetry.UnixMS { return &r.Observed })
	integer(t.noisy(), rows, func(r *R) *uint64 { return &r.UptimeS })
	integer(t.noisy(), rows, func(r *R) *uint64 { return &r.RSSBytes })
	integer(t.noisy(), rows, func(r *R) *uint64 { return &r.CPUMS })
	integer(t, rows, func(r *R) *uint32 { return &r.Goroutines })
	integer(t, rows, func(r *R) *uint64 { return &r.SpoolRecords })
	integer(t.noisy(), rows, func(r *R) *uint64 { return &r.SpoolBytes })
	integer(t.noisy(), rows, func(r *R) *uint64 { return &r.SpoolOldestMS })
	truth(t, rows, false, func(r *R) *bool { return &r.SpoolDegraded })
	integer(t, rows, func(r *R) *uint64 { return &r.DroppedTotal })
	integer(t, rows, func(r *R) *uint64 { return &r.ProbeOverrunTotal })
	integer(t.noisy(), rows, func(r *R) *uint32 { return &r.Load1Milli })
	integer(t.noisy(), rows, func(r *R) *uint64 { return &r.MemoryFreeBytes })
	integer(t.noisy(), rows, func(r *R) *uint64 { return &r.DiskFreeBytes })
	text(t, &c.texts, rows, false, func(r *R) *string { return &r.Version })
	integer(t.noisy(), rows, func(r *R) *uint64 { return &r.SpoolEpoch })
	integer(t, rows, func(r *R) *uint64 { return &r.SpoolFirst })
	integer(t.noisy(), rows, func(r *R) *uint64 { return &r.SpoolNext })
	integer(t.noisy(), rows, func(r *R) *uint64 { return &r.SpoolLowest })
}

func (c *coder) linkEvents(t *table, rows []telemetry.LinkEvent) {
	type R = telemetry.LinkEvent
	instant(t, rows, c.near, func(r *R) *telemetry.UnixMS { return &r.Observed })
	text(t, &c.texts, rows, false, func(r *R) *string { return &r.Event })
	text(t, &c.texts, rows, false, func(r *R) *string { return &r.Transport })
	text(t, &c.texts, rows, false, func(r *R) *string { return &r.Collector })
	text(t, &c.texts, rows, false, func(r *R) *string { return &r.Reason })
}

func (c *coder) gaps(t *table, rows []telemetry.Gap) {
	type R = telemetry.Gap
	instant(t, rows, c.near, func(r *R) *telemetry.UnixMS { return &r.Observed })
	integer(t.noisy(), rows, func(r *R) *uint64 { return &r.Epoch })
	integer(t.noisy(), rows, func(r *R) *uint64 { return &r.From })
	integer(t.noisy(), rows, func(r *R) *uint64 { return &r.To })
	text(t, &c.texts, rows, false, func(r *R) *string { return &r.Reason })
}
