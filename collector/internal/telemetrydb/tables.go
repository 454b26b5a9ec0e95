package telemetrydb

import "sidetone/shared/telemetry"

// The tables of observed rows, each with its columns in the order of inserting. The
// columns of identity stand in ident. A test holds them against the migrations.

var probeWindowTable = table[telemetry.ProbeWindow]{
	name:     "probe_window_raw",
	rows:     func(s *telemetry.Set) []telemetry.ProbeWindow { return s.ProbeWindows },
	put:      func(s *telemetry.Set, r telemetry.ProbeWindow) { s.ProbeWindows = append(s.ProbeWindows, r) },
	observed: func(r *telemetry.ProbeWindow) *telemetry.UnixMS { return &r.Observed },
	fields: []field[telemetry.ProbeWindow]{
		item("target_id", func(r *telemetry.ProbeWindow) *telemetry.ItemID { return &r.Target }),
		raw("length_ms", "UInt32", func(r *telemetry.ProbeWindow) *uint32 { return &r.LengthMS }),
		raw("sent", "UInt32", func(r *telemetry.ProbeWindow) *uint32 { return &r.Sent }),
		raw("received", "UInt32", func(r *telemetry.ProbeWindow) *uint32 { return &r.Received }),
		raw("lost", "UInt32", func(r *telemetry.ProbeWindow) *uint32 { return &r.Lost }),
		raw("late", "UInt32", func(r *telemetry.ProbeWindow) *uint32 { return &r.Late }),
		raw("duplicated", "UInt32", func(r *telemetry.ProbeWindow) *uint32 { return &r.Duplicated }),
		raw("reordered", "UInt32", func(r *telemetry.ProbeWindow) *uint32 { return &r.Reordered }),
		raw("rtt_us", "Array(UInt32)", func(r *telemetry.ProbeWindow) *[]uint32 { return &r.RTTUS }),
		raw("rtt_min_us", "UInt32", func(r *telemetry.ProbeWindow) *uint32 { return &r.RTTMinUS }),
		raw("rtt_p10_us", "UInt32", func(r *telemetry.ProbeWindow) *uint32 { return &r.RTTP10US }),
		raw("rtt_p50_us", "UInt32", func(r *telemetry.ProbeWindow) *uint32 { return &r.RTTP50US }),
		raw("rtt_p90_us", "UInt32", func(r *telemetry.ProbeWindow) *uint32 { return &r.RTTP90US }),
		raw("rtt_p99_us", "UInt32", func(r *telemetry.ProbeWindow) *uint32 { return &r.RTTP99US }),
		raw("rtt_max_us", "UInt32", func(r *telemetry.ProbeWindow) *uint32 { return &r.RTTMaxUS }),
		raw("rtt_mean_us", "UInt32", func(r *telemetry.ProbeWindow) *uint32 { return &r.RTTMeanUS }),
		raw("jitter_us", "UInt32", func(r *telemetry.ProbeWindow) *uint32 { return &r.JitterUS }),
		raw("ipdv_p95_us", "UInt32", func(r *telemetry.ProbeWindow) *uint32 { return &r.IPDVP95US }),
		raw("loss_run_max", "UInt32", func(r *telemetry.ProbeWindow) *uint32 { return &r.LossRunMax }),
		raw("burst_ratio_milli", "UInt32", func(r *telemetry.ProbeWindow) *uint32 { return &r.BurstRatioMilli }),
		raw("lost_forward", "Nullable(UInt32)", func(r *telemetry.ProbeWindow) **uint32 { return &r.LostForward }),
		raw("lost_reverse", "Nullable(UInt32)", func(r *telemetry.ProbeWindow) **uint32 { return &r.LostReverse }),
		raw("fault", "LowCardinality(String)", func(r *telemetry.ProbeWindow) *string { return &r.Fault }),
		raw("detail", "String", func(r *telemetry.ProbeWindow) *string { return &r.Detail }),
	},
}

var pbxStatusTable = table[telemetry.PBXStatus]{
	name:     "pbx_status_raw",
	rows:     func(s *telemetry.Set) []telemetry.PBXStatus { return s.PBXStatuses },
	put:      func(s *telemetry.Set, r telemetry.PBXStatus) { s.PBXStatuses = append(s.PBXStatuses, r) },
	observed: func(r *telemetry.PBXStatus) *telemetry.UnixMS { return &r.Observed },
	fields: []field[telemetry.PBXStatus]{
		state("state", func(r *telemetry.PBXStatus) *telemetry.PBXState { return &r.State }),
		raw("detail", "String", func(r *telemetry.PBXStatus) *string { return &r.Detail }),
		raw("answer_ms", "UInt32", func(r *telemetry.PBXStatus) *uint32 { return &r.AnswerMS }),
		raw("fqdn", "LowCardinality(String)", func(r *telemetry.PBXStatus) *string { return &r.FQDN }),
		raw("version", "LowCardinality(String)", func(r *telemetry.PBXStatus) *string { return &r.Version }),
		raw("os", "LowCardinality(String)", func(r *telemetry.PBXStatus) *string { return &r.OS }),
		raw("calls_active", "Nullable(UInt32)", func(r *telemetry.PBXStatus) **uint32 { return &r.CallsActive }),
		raw("calls_max", "Nullable(UInt32)", func(r *telemetry.PBXStatus) **uint32 { return &r.CallsMax }),
		raw("calls_talking", "Nullable(UInt32)", func(r *telemetry.PBXStatus) **uint32 { return &r.CallsTalking }),
		raw("calls_ringing", "Nullable(UInt32)", func(r *telemetry.PBXStatus) **uint32 { return &r.CallsRinging }),
		raw("calls_other", "Nullable(UInt32)", func(r *telemetry.PBXStatus) **uint32 { return &r.CallsOther }),
		raw("longest_call_s", "Nullable(UInt32)", func(r *telemetry.PBXStatus) **uint32 { return &r.LongestCallS }),
		raw("extensions_total", "Nullable(UInt32)", func(r *telemetry.PBXStatus) **uint32 { return &r.ExtensionsTotal }),
		raw("extensions_registered", "Nullable(UInt32)", func(r *telemetry.PBXStatus) **uint32 { return &r.ExtensionsRegistered }),
		raw("trunks_total", "Nullable(UInt32)", func(r *telemetry.PBXStatus) **uint32 { return &r.TrunksTotal }),
		raw("trunks_registered", "Nullable(UInt32)", func(r *telemetry.PBXStatus) **uint32 { return &r.TrunksRegistered }),
		raw("services_not_running", "Nullable(Bool)", func(r *telemetry.PBXStatus) **bool { return &r.ServicesNotRunning }),
		raw("system_extensions_unregistered", "Nullable(Bool)", func(r *telemetry.PBXStatus) **bool { return &r.SystemExtensionsUnregistered }),
		raw("disk_used_percent", "Nullable(UInt32)", func(r *telemetry.PBXStatus) **uint32 { return &r.DiskUsedPercent }),
		raw("disk_free_bytes", "Nullable(UInt64)", func(r *telemetry.PBXStatus) **uint64 { return &r.DiskFreeBytes }),
		raw("disk_total_bytes", "Nullable(UInt64)", func(r *telemetry.PBXStatus) **uint64 { return &r.DiskTotalBytes }),
		raw("recording_used_bytes", "Nullable(UInt64)", func(r *telemetry.PBXStatus) **uint64 { return &r.RecordingUsedBytes }),
		raw("recording_quota_bytes", "Nullable(UInt64)", func(r *telemetry.PBXStatus) **uint64 { return &r.RecordingQuotaBytes }),
		raw("backup_scheduled", "Nullable(Bool)", func(r *telemetry.PBXStatus) **bool { return &r.BackupScheduled }),
		instant("last_backup_at", func(r *telemetry.PBXStatus) *telemetry.UnixMS { return &r.LastBackup }),
		raw("auto_update", "Nullable(Bool)", func(r *telemetry.PBXStatus) **bool { return &r.AutoUpdate }),
		raw("audit_log", "Nullable(Bool)", func(r *telemetry.PBXStatus) **bool { return &r.AuditLog }),
		raw("local_ip_valid", "Nullable(Bool)", func(r *telemetry.PBXStatus) **bool { return &r.LocalIPValid }),
		raw("clock_offset_ms", "Nullable(Int64)", func(r *telemetry.PBXStatus) **int64 { return &r.ClockOffsetMS }),
	},
}

var trunkStateTable = table[telemetry.Trunk]{
	name:     "trunk_state_raw",
	rows:     func(s *telemetry.Set) []telemetry.Trunk { return s.Trunks },
	put:      func(s *telemetry.Set, r telemetry.Trunk) { s.Trunks = append(s.Trunks, r) },
	observed: func(r *telemetry.Trunk) *telemetry.UnixMS { return &r.Observed },
	fields: []field[telemetry.Trunk]{
		item("trunk_id", func(r *telemetry.Trunk) *telemetry.ItemID { return &r.ID }),
		raw("registered", "Bool", func(r *telemetry.Trunk) *bool { return &r.Registered }),
		raw("registration_needed", "Bool", func(r *telemetry.Trunk) *bool { return &r.RegistrationNeeded }),
		raw("fail_code", "LowCardinality(String)", func(r *telemetry.Trunk) *string { return &r.FailCode }),
		raw("configuration_issue", "Bool", func(r *telemetry.Trunk) *bool { return &r.ConfigurationIssue }),
		raw("channels_max", "Nullable(UInt32)", func(r *telemetry.Trunk) **uint32 { return &r.ChannelsMax }),
		raw("calls_active", "Nullable(UInt32)", func(r *telemetry.Trunk) **uint32 { return &r.CallsActive }),
	},
}

var sbcStateTable = table[telemetry.SBC]{
	name:     "sbc_state_raw",
	rows:     func(s *telemetry.Set) []telemetry.SBC { return s.SBCs },
	put:      func(s *telemetry.Set, r telemetry.SBC) { s.SBCs = append(s.SBCs, r) },
	observed: func(r *telemetry.SBC) *telemetry.UnixMS { return &r.Observed },
	fields: []field[telemetry.SBC]{
		item("sbc_id", func(r *telemetry.SBC) *telemetry.ItemID { return &r.ID }),
		raw("connected", "Bool", func(r *telemetry.SBC) *bool { return &r.Connected }),
		raw("version", "LowCardinality(String)", func(r *telemetry.SBC) *string { return &r.Version }),
		raw("latency_ms", "Nullable(UInt32)", func(r *telemetry.SBC) **uint32 { return &r.LatencyMS }),
		raw("calls_active", "Nullable(UInt32)", func(r *telemetry.SBC) **uint32 { return &r.CallsActive }),
		raw("phones_registered", "Nullable(UInt32)", func(r *telemetry.SBC) **uint32 { return &r.PhonesRegistered }),
		raw("udp_active", "Nullable(Bool)", func(r *telemetry.SBC) **bool { return &r.UDPActive }),
		raw("connected_s", "Nullable(UInt64)", func(r *telemetry.SBC) **uint64 { return &r.ConnectedS }),
	},
}

var serviceStateTable = table[telemetry.Service]{
	name:     "service_state_raw",
	rows:     func(s *telemetry.Set) []telemetry.Service { return s.Services },
	put:      func(s *telemetry.Set, r telemetry.Service) { s.Services = append(s.Services, r) },
	observed: func(r *telemetry.Service) *telemetry.UnixMS { return &r.Observed },
	fields: []field[telemetry.Service]{
		item("service_id", func(r *telemetry.Service) *telemetry.ItemID { return &r.ID }),
		raw("status", "LowCardinality(String)", func(r *telemetry.Service) *string { return &r.Status }),
		raw("memory_bytes", "Nullable(UInt64)", func(r *telemetry.Service) **uint64 { return &r.MemoryBytes }),
		raw("threads", "Nullable(UInt32)", func(r *telemetry.Service) **uint32 { return &r.Threads }),
		raw("handles", "Nullable(UInt32)", func(r *telemetry.Service) **uint32 { return &r.Handles }),
	},
}

var extensionSummaryTable = table[telemetry.ExtensionSummary]{
	name:     "extension_summary_raw",
	rows:     func(s *telemetry.Set) []telemetry.ExtensionSummary { return s.Extensions },
	put:      func(s *telemetry.Set, r telemetry.ExtensionSummary) { s.Extensions = append(s.Extensions, r) },
	observed: func(r *telemetry.ExtensionSummary) *telemetry.UnixMS { return &r.Observed },
	fields: []field[telemetry.ExtensionSummary]{
		raw("total", "UInt32", func(r *telemetry.ExtensionSummary) *uint32 { return &r.Total }),
		raw("enabled", "UInt32", func(r *telemetry.ExtensionSummary) *uint32 { return &r.Enabled }),
		raw("registered", "UInt32", func(r *telemetry.ExtensionSummary) *uint32 { return &r.Registered }),
		raw("queue_logged_in", "UInt32", func(r *telemetry.ExtensionSummary) *uint32 { return &r.QueueLoggedIn }),
		raw("system_total", "Nullable(UInt32)", func(r *telemetry.ExtensionSummary) **uint32 { return &r.SystemTotal }),
		raw("system_unregistered", "Nullable(UInt32)", func(r *telemetry.ExtensionSummary) **uint32 { return &r.SystemUnregistered }),
	},
}

var backupTable = table[telemetry.Backup]{
	name:     "backup_raw",
	rows:     func(s *telemetry.Set) []telemetry.Backup { return s.Backups },
	put:      func(s *telemetry.Set, r telemetry.Backup) { s.Backups = append(s.Backups, r) },
	observed: func(r *telemetry.Backup) *telemetry.UnixMS { return &r.Observed },
	fields: []field[telemetry.Backup]{
		raw("copies", "UInt32", func(r *telemetry.Backup) *uint32 { return &r.Count }),
		instant("newest_at", func(r *telemetry.Backup) *telemetry.UnixMS { return &r.Newest }),
		raw("newest_size_bytes", "UInt64", func(r *telemetry.Backup) *uint64 { return &r.NewestSizeBytes }),
		raw("total_size_bytes", "UInt64", func(r *telemetry.Backup) *uint64 { return &r.TotalSizeBytes }),
		raw("schedule_enabled", "Nullable(Bool)", func(r *telemetry.Backup) **bool { return &r.ScheduleEnabled }),
		raw("encrypted", "Nullable(Bool)", func(r *telemetry.Backup) **bool { return &r.Encrypted }),
		raw("repository", "LowCardinality(String)", func(r *telemetry.Backup) *string { return &r.Repository }),
		raw("kept_copies", "Nullable(UInt32)", func(r *telemetry.Backup) **uint32 { return &r.KeptCopies }),
	},
}

var licenceTable = table[telemetry.Licence]{
	name:     "licence_raw",
	rows:     func(s *telemetry.Set) []telemetry.Licence { return s.Licences },
	put:      func(s *telemetry.Set, r telemetry.Licence) { s.Licences = append(s.Licences, r) },
	observed: func(r *telemetry.Licence) *telemetry.UnixMS { return &r.Observed },
	fields: []field[telemetry.Licence]{
		raw("product_code", "LowCardinality(String)", func(r *telemetry.Licence) *string { return &r.ProductCode }),
		raw("active", "Nullable(Bool)", func(r *telemetry.Licence) **bool { return &r.Active }),
		instant("expires_at", func(r *telemetry.Licence) *telemetry.UnixMS { return &r.Expires }),
		instant("maintenance_expires_at", func(r *telemetry.Licence) *telemetry.UnixMS { return &r.MaintenanceExpires }),
		raw("calls_max", "Nullable(UInt32)", func(r *telemetry.Licence) **uint32 { return &r.CallsMax }),
		raw("support", "Nullable(Bool)", func(r *telemetry.Licence) **bool { return &r.Support }),
	},
}

var eventLogTable = table[telemetry.EventLogEntry]{
	name:     "event_log_raw",
	rows:     func(s *telemetry.Set) []telemetry.EventLogEntry { return s.EventLog },
	put:      func(s *telemetry.Set, r telemetry.EventLogEntry) { s.EventLog = append(s.EventLog, r) },
	observed: func(r *telemetry.EventLogEntry) *telemetry.UnixMS { return &r.Observed },
	fields: []field[telemetry.EventLogEntry]{
		raw("entry_id", "Int64", func(r *telemetry.EventLogEntry) *int64 { return &r.EntryID }),
		raw("event_id", "UInt32", func(r *telemetry.EventLogEntry) *uint32 { return &r.EventID }),
		raw("severity", "LowCardinality(String)", func(r *telemetry.EventLogEntry) *string { return &r.Severity }),
		raw("source", "LowCardinality(String)", func(r *telemetry.EventLogEntry) *string { return &r.Source }),
	},
}

var stateChangeTable = table[telemetry.StateChange]{
	name:     "state_change_raw",
	rows:     func(s *telemetry.Set) []telemetry.StateChange { return s.StateChanges },
	put:      func(s *telemetry.Set, r telemetry.StateChange) { s.StateChanges = append(s.StateChanges, r) },
	observed: func(r *telemetry.StateChange) *telemetry.UnixMS { return &r.Observed },
	fields: []field[telemetry.StateChange]{
		raw("subject", "LowCardinality(String)", func(r *telemetry.StateChange) *string { return &r.Subject }),
		item("item_id", func(r *telemetry.StateChange) *telemetry.ItemID { return &r.Item }),
		raw("name", "String", func(r *telemetry.StateChange) *string { return &r.Name }),
		raw("from_state", "LowCardinality(String)", func(r *telemetry.StateChange) *string { return &r.From }),
		raw("to_state", "LowCardinality(String)", func(r *telemetry.StateChange) *string { return &r.To }),
		raw("detail", "String", func(r *telemetry.StateChange) *string { return &r.Detail }),
	},
}

var agentHealthTable = table[telemetry.AgentHealth]{
	name:     "agent_health_raw",
	rows:     func(s *telemetry.Set) []telemetry.AgentHealth { return s.AgentHealth },
	put:      func(s *telemetry.Set, r telemetry.AgentHealth) { s.AgentHealth = append(s.AgentHealth, r) },
	observed: func(r *telemetry.AgentHealth) *telemetry.UnixMS { return &r.Observed },
	fields: []field[telemetry.AgentHealth]{
		raw("uptime_s", "UInt64", func(r *telemetry.AgentHealth) *uint64 { return &r.UptimeS }),
		raw("rss_bytes", "UInt64", func(r *telemetry.AgentHealth) *uint64 { return &r.RSSBytes }),
		raw("cpu_ms", "UInt64", func(r *telemetry.AgentHealth) *uint64 { return &r.CPUMS }),
		raw("goroutines", "UInt32", func(r *telemetry.AgentHealth) *uint32 { return &r.Goroutines }),
		raw("spool_records", "UInt64", func(r *telemetry.AgentHealth) *uint64 { return &r.SpoolRecords }),
		raw("spool_bytes", "UInt64", func(r *telemetry.AgentHealth) *uint64 { return &r.SpoolBytes }),
		raw("spool_oldest_ms", "UInt64", func(r *telemetry.AgentHealth) *uint64 { return &r.SpoolOldestMS }),
		raw("spool_degraded", "Bool", func(r *telemetry.AgentHealth) *bool { return &r.SpoolDegraded }),
		raw("dropped_total", "UInt64", func(r *telemetry.AgentHealth) *uint64 { return &r.DroppedTotal }),
		raw("probe_overrun_total", "UInt64", func(r *telemetry.AgentHealth) *uint64 { return &r.ProbeOverrunTotal }),
		raw("load1_milli", "UInt32", func(r *telemetry.AgentHealth) *uint32 { return &r.Load1Milli }),
		raw("memory_free_bytes", "UInt64", func(r *telemetry.AgentHealth) *uint64 { return &r.MemoryFreeBytes }),
		raw("disk_free_bytes", "UInt64", func(r *telemetry.AgentHealth) *uint64 { return &r.DiskFreeBytes }),
		raw("version", "LowCardinality(String)", func(r *telemetry.AgentHealth) *string { return &r.Version }),
		raw("spool_epoch", "UInt64", func(r *telemetry.AgentHealth) *uint64 { return &r.SpoolEpoch }),
		raw("spool_first", "UInt64", func(r *telemetry.AgentHealth) *uint64 { return &r.SpoolFirst }),
		raw("spool_next", "UInt64", func(r *telemetry.AgentHealth) *uint64 { return &r.SpoolNext }),
		raw("spool_lowest", "UInt64", func(r *telemetry.AgentHealth) *uint64 { return &r.SpoolLowest }),
	},
}

var linkEventTable = table[telemetry.LinkEvent]{
	name:     "link_event_raw",
	rows:     func(s *telemetry.Set) []telemetry.LinkEvent { return s.LinkEvents },
	put:      func(s *telemetry.Set, r telemetry.LinkEvent) { s.LinkEvents = append(s.LinkEvents, r) },
	observed: func(r *telemetry.LinkEvent) *telemetry.UnixMS { return &r.Observed },
	fields: []field[telemetry.LinkEvent]{
		raw("event", "LowCardinality(String)", func(r *telemetry.LinkEvent) *string { return &r.Event }),
		raw("transport", "LowCardinality(String)", func(r *telemetry.LinkEvent) *string { return &r.Transport }),
		raw("collector", "LowCardinality(String)", func(r *telemetry.LinkEvent) *string { return &r.Collector }),
		raw("reason", "String", func(r *telemetry.LinkEvent) *string { return &r.Reason }),
	},
}

var gapTable = table[telemetry.Gap]{
	name:     "gap_raw",
	rows:     func(s *telemetry.Set) []telemetry.Gap { return s.Gaps },
	put:      func(s *telemetry.Set, r telemetry.Gap) { s.Gaps = append(s.Gaps, r) },
	observed: func(r *telemetry.Gap) *telemetry.UnixMS { return &r.Observed },
	fields: []field[telemetry.Gap]{
		raw("gap_epoch", "UInt64", func(r *telemetry.Gap) *uint64 { return &r.Epoch }),
		raw("from_seq", "UInt64", func(r *telemetry.Gap) *uint64 { return &r.From }),
		raw("to_seq", "UInt64", func(r *telemetry.Gap) *uint64 { return &r.To }),
		raw("reason", "LowCardinality(String)", func(r *telemetry.Gap) *string { return &r.Reason }),
	},
}
