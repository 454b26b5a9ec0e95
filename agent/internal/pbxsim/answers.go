package pbxsim

import (
	"fmt"
	"time"
)

const never = "2035-01-01T00:00:00Z"

// singleton answers paths that are one object.
func (s *Sim) singleton(path string) (row, bool) {
	switch path {
	case "/SystemStatus":
		return s.box.statusRow(), true
	case "/LicenseStatus":
		return s.box.licenceRow(), true
	case "/Backups/Pbx.GetBackupSettings()":
		return row{
			"ScheduleEnabled": true, "Rotation": 7,
			"Schedule": row{"ScheduleType": "Daily", "Day": "Monday", "Time": "01:30:00", "RepeatHours": 0},
			"Contents": row{
				"CallHistory": true, "Recordings": false, "VoiceMails": true, "Prompts": true, "License": true,
				"FQDN": true, "PhoneProvisioning": true, "EncryptBackup": true, "DisableBackupCompression": false,
				"EncryptBackupPassword": row{"Concealed": true, "Value": baitSecret},
			},
		}, true
	case "/Backups/Pbx.GetBackupRepositorySettings()":
		return row{"Location": row{
			"FileSystemType": "Sftp", "LocalPath": "/var/lib/3cxpbx/Instance1/Data/Backups",
			"SftpPath": "sftp://backup.example.com/pbx", "SftpUser": "BAIT-sftp-user",
			"SftpPassword": row{"Concealed": false, "Value": baitSecret}, "FtpPassword": nil,
		}}, true
	}
	return nil, false
}

// collection answers paths that are a list.
func (s *Sim) collection(path string) ([]row, bool) {
	b := s.box
	switch path {
	case "/ActiveCalls":
		return each(b.calls, b.callRow), true
	case "/Trunks":
		return each(b.trunks, b.trunkRow), true
	case "/Sbcs":
		return each(b.sbcs, b.sbcRow), true
	case "/Services":
		return each(b.services, b.serviceRow), true
	case "/EventLogs":
		return each(b.events, b.eventRow), true
	case "/Users":
		return each(b.users, b.userRow), true
	case "/Backups":
		return each(b.backups, b.backupRow), true
	case "/SystemStatus/Pbx.SystemExtensions()":
		return b.systemExtensionRows(), true
	case "/Defs":
		return []row{{"Id": 0}}, true
	}
	return nil, false
}

func each[T any](items []T, one func(T) row) []row {
	out := make([]row, len(items))
	for i, it := range items {
		out[i] = one(it)
	}
	return out
}

func (b *box) statusRow() row {
	registered, trunksUp, stopped := 0, 0, false
	for _, u := range b.users {
		if u.registered {
			registered++
		}
	}
	for _, t := range b.trunks {
		if t.online {
			trunksUp++
		}
	}
	for _, l := range b.sbcs { // the box counts its SBCs as trunks, too
		if l.up {
			trunksUp++
		}
	}
	for _, v := range b.services {
		stopped = stopped || v.status != "Running"
	}
	r := row{
		"Id": 0, "FQDN": b.fqdn, "Version": b.version, "OS": "Linux", "Activated": true,
		"MaxSimCalls": 32, "CallsActive": len(b.calls), "ExtensionsRegistered": registered, "ExtensionsTotal": len(b.users) + 6,
		"Ip": "198.51.100.7 Static", "IpV4": "198.51.100.7", "IpV6": "", "LocalIpValid": true,
		"CurrentLocalIp": "10.20.0.5", "AvailableLocalIps": "10.20.0.5",
		"HasUnregisteredSystemExtensions": false, "HasNotRunningServices": stopped,
		"TrunksRegistered": trunksUp, "TrunksTotal": len(b.trunks) + len(b.sbcs),
		"DiskUsage": 63, "FreeDiskSpace": int64(18176483021), "TotalDiskSpace": int64(49125629952),
		"MaintenanceExpiresAt": never, "Support": true, "LicenseActive": true, "ExpirationDate": never,
		"OutboundRules": 5, "BackupScheduled": true, "LastBackupDateTime": stampLocal(b.lastBackup()),
		"ResellerName": "Example MSP", "LicenseKey": baitKey, "ProductCode": "3CXPSPROFENTSPLA",
		"IsAuditLogEnabled": true, "IsChatLogEnabled": true, "RecordingUsedSpace": int64(1288490188),
		"RecordingQuota": int64(5368709120), "RecordingStopped": false, "VoicemailStopped": false,
		"VoicemailQuotaReached": false, "DBMaintenanceInProgress": false, "RecordingQuotaReached": false,
		"IsRecordingArchiveEnabled": true, "AutoUpdateEnabled": true,
		"LastCheckForUpdates": stampLocal(b.born.Add(-3 * time.Hour)), "LastSuccessfulUpdate": stampLocal(b.born.Add(-300 * time.Hour)),
		"RemoteStorageEnabled": true, "RemoteConfigurationRequired": false,
		"ChatUsedSpace": int64(7340032), "LogUsedSpace": int64(41943040),
	}
	if b.build(7) {
		r["RemoteStorageStatus"] = "Configured"
	}
	if b.build(8) {
		r["MaxUserExtensions"], r["UserExtensions"] = 160, len(b.users)
	}
	return r
}

func (b *box) licenceRow() row {
	return row{
		"ProductCode": "3CXPSPROFENTSPLA", "LicenseActive": true, "Activated": true, "Support": true,
		"ExpirationDate":       stamp(b.born.Add(400 * 24 * time.Hour)),
		"MaintenanceExpiresAt": stamp(b.born.Add(400 * 24 * time.Hour)), "MaxSimCalls": 32,
		"ActiveModules": []string{"CRM", "Hotel"}, "SimMeetingParticipants": 100, "Version": b.version,
		"ResellerName": "Example MSP", "LicenseKey": baitKey, "CompanyName": baitPerson + " Ltd",
		"ContactName": baitPerson, "EMail": baitPerson + "@example.com", "AdminEMail": baitPerson + "@example.com",
		"Telephone": baitNumber + "00", "CountryCode": "DE", "CountryName": "Germany",
	}
}

func (b *box) callRow(c *call) row {
	return row{
		"Id": c.id, "Caller": c.caller, "Callee": c.callee, "Status": c.status,
		"LastChangeStatus": stamp(c.changed), "EstablishedAt": stamp(c.established), "ServerNow": stamp(time.Now()),
	}
}

func (b *box) trunkRow(t *trunk) row {
	r := row{
		"Id": t.id, "Number": t.number, "IsOnline": t.online, "Direction": "Both", "SimultaneousCalls": t.channels,
		"ExternalNumber": baitNumber + "60", "DidNumbers": []string{baitNumber + "60", baitNumber + "6*"},
		"EnableInboundCalls": true, "EnableOutboundCalls": true, "TransportRestriction": "Any",
		"IPRestriction": "Any", "ConfigurationIssue": nil, "AuthID": "BAIT-auth-id",
		"AuthPassword": row{"Concealed": false, "Value": baitSecret}, "SeparateAuthId": "BAIT-separate",
		"Gateway": row{
			"Id": t.id - 1, "Name": t.name, "Host": t.host, "Port": 5060, "Type": t.kind, "ProxyHost": "",
			"ProxyPort": 5060, "RequireRegistrationFor": t.registration, "TimeBetweenReg": 120, "Lines": t.channels,
			"Codecs": []string{"PCMA", "PCMU", "G722"}, "SRTPMode": "SRTPDisabled",
			"TemplateFilename": t.template, "Internal": false,
		},
	}
	if b.build(8) {
		r["CertificateName"], r["CertificateExpirationDate"] = "", ""
	}
	if b.build(6) {
		sent, ok, failed, code := time.Now().Add(-30*time.Second), t.changed, time.Time{}, ""
		if !t.online {
			ok, failed, code = t.changed.Add(-time.Minute), t.changed, "408"
		}
		r["TrunkRegTimes"] = []any{
			row{"Name": "sent_time", "Value": plain(sent)}, row{"Name": "ok_time", "Value": plain(ok)},
			row{"Name": "failed_time", "Value": plain(failed)}, row{"Name": "fail_code", "Value": code},
		}
	}
	return r
}

func plain(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func (b *box) sbcRow(l *sbc) row {
	r := row{
		"Name": l.key, "DisplayName": l.name, "HasConnection": l.up, "Version": l.version,
		"PublicIP": "203.0.113.20", "LocalIPv4": l.lan, "Group": "DEFAULT", "PhoneMAC": "", "PhoneUserId": 0,
		"Password": baitSecret, "ProvisionLink": "https://pbx.example.com/BAIT-provision",
	}
	if b.build(7) {
		r["Security"], r["LogLevel"], r["LogSize"] = "TLS", "Low", 10
		r["AudioPort"], r["PassiveServerIsEnabled"], r["PassiveServer"] = 20000, false, ""
	}
	if b.build(8) {
		c := row{"Up": l.up, "Calls": 0, "RegisteredPhones": 0, "Latency": 0, "UdpActive": l.up,
			"ElapsedTime": "PT0S", "Cpu": "n/a", "Memory": "n/a", "Disk": "n/a"}
		if l.up {
			c["Calls"], c["RegisteredPhones"], c["Latency"] = len(b.calls)/4, l.phones, l.latency
			c["ElapsedTime"] = isoSpan(time.Since(l.since))
			c["Cpu"], c["Memory"], c["Disk"] = "4%", "21%", "17%"
		}
		r["Connection"] = c
	}
	return r
}

func isoSpan(d time.Duration) string {
	s := int64(d / time.Second)
	return fmt.Sprintf("P%dDT%dH%dM%d.%07dS", s/86400, s/3600%24, s/60%60, s%60, int64(d%time.Second)/100)
}

func (b *box) serviceRow(v *service) row {
	r := row{
		"Name": v.name, "DisplayName": v.title, "Status": v.status, "MemoryUsed": v.memory, "ThreadCount": v.threads,
		"HandleCount": v.threads * 7, "StartStopEnabled": true, "RestartEnabled": true,
	}
	if v.status != "Running" {
		r["MemoryUsed"], r["ThreadCount"], r["HandleCount"] = 0, 0, 0
	}
	if b.build(7) {
		r["TotalProcessorTime"], r["SampleTime"] = int64(time.Since(b.born)/time.Millisecond), stamp(time.Now())
	}
	return r
}

func (b *box) eventRow(e event) row {
	params := e.params
	if params == nil {
		params = []string{}
	}
	return row{
		"Id": e.id, "EventId": e.code, "Type": e.severity, "Source": e.source, "Group": "GRP0", "GroupName": "DEFAULT",
		"Message": e.message, "Params": params, "TimeGenerated": stamp(e.at),
	}
}

func (b *box) userRow(u user) row {
	queue, profile := "LoggedOut", "Available"
	if u.loggedIn {
		queue = "LoggedIn"
	}
	if u.id%5 == 0 {
		profile = "Away"
	}
	return row{
		"Id": u.id, "Number": fmt.Sprint(u.number), "IsRegistered": u.registered, "Enabled": true,
		"CurrentProfileName": profile, "QueueStatus": queue, "Internal": false,
		"FirstName": baitPerson, "LastName": fmt.Sprint(u.number), "DisplayName": baitPerson,
		"EmailAddress": baitPerson + "@example.com", "Mobile": baitNumber + "11", "AuthID": "BAIT-auth-id",
		"AuthPassword": baitSecret, "SIPID": "BAIT-sip-id", "VMPIN": "BAIT-pin", "AccessPassword": baitSecret,
		"DeskphonePassword": baitSecret,
	}
}

func (b *box) backupRow(k backup) row {
	return row{
		"FileName": k.name, "CreationTime": stampLocal(k.at), "Size": k.size,
		"DownloadLink": "/xapi/v1/BAIT-download/" + k.name,
	}
}

func (b *box) systemExtensionRows() []row {
	var out []row
	for i, n := range []string{"VoiceMail", "IVR", "Queue", "Conference", "Parking", "Fax"} {
		out = append(out, row{"Number": fmt.Sprint(800 + i), "Name": n, "Type": n, "IsRegistered": true})
	}
	return out
}
