package xapi

import (
	"context"
	"net/http"
	"time"

	"sidetone/agent/internal/threecx"
	"sidetone/shared/telemetry"
)

type statusAnswer struct {
	FQDN, Version, OS                     text
	CallsActive, MaxSimCalls              num
	ExtensionsTotal, ExtensionsRegistered num
	TrunksTotal, TrunksRegistered         num
	HasNotRunningServices                 flag
	HasUnregisteredSystemExtensions       flag
	DiskUsage                             num
	FreeDiskSpace, TotalDiskSpace         num
	RecordingUsedSpace, RecordingQuota    num
	BackupScheduled                       flag
	LastBackupDateTime                    instant
	AutoUpdateEnabled, IsAuditLogEnabled  flag
	LocalIpValid                          flag //nolint:revive // the vendor's spelling
}

// SystemStatus reads the state of the PBX as a whole. The counts of calls by state
// are not part of it: see ActiveCalls.
func (c *Client) SystemStatus(ctx context.Context) (telemetry.PBXStatus, error) {
	var v statusAnswer
	a, err := c.get(ctx, threecx.PathStatus, "", &v)
	if err != nil {
		return telemetry.PBXStatus{}, err
	}
	if v.Version == "" && v.FQDN == "" {
		return telemetry.PBXStatus{}, threecx.Errorf(threecx.ErrNot3CX, nil,
			"%s names neither version nor FQDN: is this a 3CX v20?", threecx.PathStatus)
	}
	c.caps.sawVersion(string(v.Version))
	return telemetry.PBXStatus{
		Observed: telemetry.MS(a.at), State: telemetry.PBXOK,
		AnswerMS: uint32(min(a.took.Milliseconds(), 1<<31)),
		FQDN:     v.FQDN.clean(maxName), Version: v.Version.clean(maxWord), OS: v.OS.clean(maxWord),
		CallsActive: v.CallsActive.u32(), CallsMax: v.MaxSimCalls.u32(),
		ExtensionsTotal: v.ExtensionsTotal.u32(), ExtensionsRegistered: v.ExtensionsRegistered.u32(),
		TrunksTotal: v.TrunksTotal.u32(), TrunksRegistered: v.TrunksRegistered.u32(),
		ServicesNotRunning:           v.HasNotRunningServices.ptr(),
		SystemExtensionsUnregistered: v.HasUnregisteredSystemExtensions.ptr(),
		DiskUsedPercent:              v.DiskUsage.u32(),
		DiskFreeBytes:                v.FreeDiskSpace.u64(), DiskTotalBytes: v.TotalDiskSpace.u64(),
		RecordingUsedBytes: v.RecordingUsedSpace.u64(), RecordingQuotaBytes: v.RecordingQuota.u64(),
		BackupScheduled: v.BackupScheduled.ptr(), LastBackup: v.LastBackupDateTime.ms(),
		AutoUpdate: v.AutoUpdateEnabled.ptr(), AuditLog: v.IsAuditLogEnabled.ptr(),
		LocalIPValid: v.LocalIpValid.ptr(), ClockOffsetMS: clockOffset(a),
	}, nil
}

// clockOffset is the PBX's clock minus ours, to the second, from the Date header:
// it was written at some time during the request and has no fraction.
func clockOffset(a *answer) *int64 {
	date, err := http.ParseTime(a.header.Get("Date"))
	if err != nil {
		return nil
	}
	middle := a.at.Add(-a.took / 2)
	offset := date.Add(500 * time.Millisecond).Sub(middle).Round(time.Second)
	if offset.Abs() <= time.Second {
		offset = 0 // no more than the header can tell
	}
	ms := offset.Milliseconds()
	return &ms
}

type serviceAnswer struct {
	Name, DisplayName, Status            text
	MemoryUsed, ThreadCount, HandleCount num
}

// Services reads the 3CX services. Some boxes do not tell API clients:
// threecx.ErrUnsupported, then only PBXStatus.ServicesNotRunning is known.
func (c *Client) Services(ctx context.Context) ([]telemetry.Service, error) {
	rows, err := readAll(ctx, c, threecx.PathServices, "", func(r *serviceAnswer) string { return string(r.Name) })
	if err != nil {
		return nil, err
	}
	now := telemetry.MS(time.Now())
	out := make([]telemetry.Service, 0, len(rows))
	for i := range rows {
		r := &rows[i]
		if r.Name == "" {
			continue
		}
		status := r.Status.clean(maxWord)
		if status == "" {
			status = "Unknown"
		}
		out = append(out, telemetry.Service{
			Observed: now, ID: telemetry.MakeItemID("service", string(r.Name)),
			Name: r.Name.clean(maxName), Title: r.DisplayName.clean(maxName), Status: status,
			MemoryBytes: r.MemoryUsed.u64(), Threads: r.ThreadCount.u32(), Handles: r.HandleCount.u32(),
		})
	}
	return out, nil
}

// The licence key, names and addresses of people have no field here.
type licenceAnswer struct {
	ProductCode                          text
	LicenseActive, Support               flag
	ExpirationDate, MaintenanceExpiresAt instant
	MaxSimCalls                          num
}

// Licence reads the licence.
func (c *Client) Licence(ctx context.Context) (telemetry.Licence, error) {
	var v licenceAnswer
	const chosen = "$select=ProductCode,LicenseActive,ExpirationDate,MaintenanceExpiresAt,MaxSimCalls,Support"
	if err := c.getOr(ctx, threecx.PathLicence, chosen, "", &v); err != nil {
		return telemetry.Licence{}, err
	}
	return telemetry.Licence{
		Observed: telemetry.MS(time.Now()), ProductCode: v.ProductCode.clean(maxWord),
		Active: v.LicenseActive.ptr(), Expires: v.ExpirationDate.ms(),
		MaintenanceExpires: v.MaintenanceExpiresAt.ms(), CallsMax: v.MaxSimCalls.u32(), Support: v.Support.ptr(),
	}, nil
}
