package xapi

import (
	"context"
	"errors"
	"strings"
	"time"

	"sidetone/agent/internal/threecx"
	"sidetone/shared/telemetry"
)

// userAnswer has no field for names, addresses or secrets of a user.
type userAnswer struct {
	Id           num //nolint:revive // the vendor's spelling
	IsRegistered flag
	Enabled      flag
	QueueStatus  text
}

type systemExtensionAnswer struct {
	Number       text
	IsRegistered flag
}

// Extensions counts the extensions, and the system's own ones where the build
// tells them.
func (c *Client) Extensions(ctx context.Context) (telemetry.ExtensionSummary, error) {
	rows, err := readAll(ctx, c, threecx.PathUsers, "$select=Id,IsRegistered,Enabled,QueueStatus",
		func(r *userAnswer) string { return time.Duration(r.Id.i64()).String() })
	if err != nil {
		return telemetry.ExtensionSummary{}, err
	}
	out := telemetry.ExtensionSummary{Total: uint32(len(rows))}
	for i := range rows {
		r := &rows[i]
		if r.Enabled.v {
			out.Enabled++
		}
		if r.IsRegistered.v {
			out.Registered++
		}
		if strings.EqualFold(string(r.QueueStatus), "LoggedIn") {
			out.QueueLoggedIn++
		}
	}
	system, err := readAll(ctx, c, threecx.PathSystemExtensions, "",
		func(r *systemExtensionAnswer) string { return string(r.Number) })
	if err != nil && !errors.Is(err, threecx.ErrUnsupported) {
		return telemetry.ExtensionSummary{}, err
	}
	if err == nil {
		total, gone := uint32(len(system)), uint32(0)
		for i := range system {
			if system[i].IsRegistered.ok && !system[i].IsRegistered.v {
				gone++
			}
		}
		out.SystemTotal, out.SystemUnregistered = &total, &gone
	}
	out.Observed = telemetry.MS(time.Now())
	return out, nil
}

type backupAnswer struct {
	CreationTime instant
	Size         num
}

type backupSettingsAnswer struct {
	ScheduleEnabled flag
	Rotation        num
	Contents        struct{ EncryptBackup flag }
}

type backupRepositoryAnswer struct {
	Location struct{ FileSystemType text }
}

// Backups reads what backups there are and how they are made. Download links and
// the passwords of the repository are not read.
func (c *Client) Backups(ctx context.Context) (telemetry.Backup, error) {
	key := func(r *backupAnswer) string { return r.CreationTime.t.String() }
	rows, err := readAll(ctx, c, threecx.PathBackups, "$select=CreationTime,Size", key)
	if refusesOptions(err) {
		rows, err = readAll(ctx, c, threecx.PathBackups, "", key)
	}
	if err != nil {
		return telemetry.Backup{}, err
	}
	out := telemetry.Backup{Count: uint32(len(rows))}
	for i := range rows {
		size := uint64(0)
		if n := rows[i].Size.u64(); n != nil {
			size = *n
		}
		out.TotalSizeBytes += size
		if at := rows[i].CreationTime.ms(); at > out.Newest {
			out.Newest, out.NewestSizeBytes = at, size
		}
	}
	var settings backupSettingsAnswer
	if _, err := c.get(ctx, threecx.PathBackupSettings, "", &settings); err == nil {
		out.ScheduleEnabled, out.KeptCopies = settings.ScheduleEnabled.ptr(), settings.Rotation.u32()
		out.Encrypted = settings.Contents.EncryptBackup.ptr()
	} else if !errors.Is(err, threecx.ErrUnsupported) {
		return telemetry.Backup{}, err
	}
	var repository backupRepositoryAnswer
	if _, err := c.get(ctx, threecx.PathBackupRepository, "", &repository); err == nil {
		out.Repository = repository.Location.FileSystemType.clean(maxWord)
	} else if !errors.Is(err, threecx.ErrUnsupported) {
		return telemetry.Backup{}, err
	}
	out.Observed = telemetry.MS(time.Now())
	return out, nil
}
