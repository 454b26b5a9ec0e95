package collectord

import (
	"context"
	"sync"
	"time"

	"sidetone/collector/internal/incident"
	"sidetone/collector/internal/telemetrydb"
)

// historyWaiting bounds incidents that wait to be copied to ClickHouse; beyond it the
// control store, which keeps all of them, is the only copy.
const historyWaiting = 10_000

// history copies incidents to ClickHouse for analysts. The control store is their home.
type history struct {
	mu      sync.Mutex
	waiting map[int64]incident.Incident // by id, newest state; guarded by mu
}

func newHistory() *history { return &history{waiting: map[int64]incident.Incident{}} }

func (h *history) add(i incident.Incident) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, known := h.waiting[i.ID]; known || len(h.waiting) < historyWaiting {
		h.waiting[i.ID] = i
	}
}

// take empties what waits.
func (h *history) take() []incident.Incident {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]incident.Incident, 0, len(h.waiting))
	for id, i := range h.waiting {
		out = append(out, i)
		delete(h.waiting, id)
	}
	return out
}

// putBack keeps what could not be copied, unless something newer came.
func (h *history) putBack(list []incident.Incident) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, i := range list {
		if _, newer := h.waiting[i.ID]; !newer && len(h.waiting) < historyWaiting {
			h.waiting[i.ID] = i
		}
	}
}

// runHistory copies once a second what changed.
func (d *Daemon) runHistory(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !d.storage().OK {
			continue
		}
		list := d.history.take()
		if len(list) == 0 {
			continue
		}
		rows := make([]telemetrydb.IncidentRow, 0, len(list))
		for _, i := range list {
			rows = append(rows, telemetrydb.IncidentRow{
				ID: i.ID, Source: i.Source, Rule: i.Cause.Rule, Severity: string(i.Severity), Title: i.Title, Subject: i.Subject,
				Summary: i.Summary, State: string(i.Phase), Opened: i.Opened, Resolved: i.Resolved, Reopened: i.Reopened,
			})
		}
		pctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := d.telemetry.PutIncidents(pctx, rows)
		cancel()
		if err != nil && ctx.Err() == nil {
			d.log.Warn().Err(err).Msg("copy incidents to ClickHouse")
			d.history.putBack(list)
		}
	}
}
