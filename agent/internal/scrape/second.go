package scrape

import (
	"context"
	"time"

	"sidetone/shared/telemetry"
)

func (s *Scraper) readSBCs(ctx context.Context) error {
	sbcs, err := s.deps.Client.SBCs(ctx)
	if err != nil {
		return err
	}
	items := make([]item, len(sbcs))
	for i := range sbcs {
		v := &sbcs[i]
		items[i] = item{id: v.ID, name: v.Name, state: stateConnected}
		if !v.Connected {
			items[i].state, items[i].bad = stateDisconnected, true
		}
	}
	changes := s.sbcs.observe(telemetry.MS(time.Now()), items)
	if len(sbcs)+len(changes) > 0 {
		s.deps.Emit(&telemetry.Set{SBCs: sbcs, StateChanges: changes})
	}
	return nil
}

// readCalls keeps the counts for the next rows of status and trunks.
func (s *Scraper) readCalls(ctx context.Context) error {
	s.mu.Lock()
	numbers := s.trunkNumbers
	s.mu.Unlock()
	calls, err := s.deps.Client.ActiveCalls(ctx, numbers)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls, s.callsAt = &calls, time.Now()
	return nil
}

func (s *Scraper) readExtensions(ctx context.Context) error {
	v, err := s.deps.Client.Extensions(ctx)
	if err != nil {
		return err
	}
	s.deps.Emit(&telemetry.Set{Extensions: []telemetry.ExtensionSummary{v}})
	return nil
}

func (s *Scraper) readBackups(ctx context.Context) error {
	v, err := s.deps.Client.Backups(ctx)
	if err != nil {
		return err
	}
	s.deps.Emit(&telemetry.Set{Backups: []telemetry.Backup{v}})
	return nil
}

func (s *Scraper) readLicence(ctx context.Context) error {
	v, err := s.deps.Client.Licence(ctx)
	if err != nil {
		return err
	}
	s.deps.Emit(&telemetry.Set{Licences: []telemetry.Licence{v}})
	return nil
}

// readsMax bounds how many readings of the event log follow one another when it
// grew much.
const readsMax = 5

func (s *Scraper) readEvents(ctx context.Context) error {
	for range readsMax {
		ev, err := s.deps.Client.EventLogs(ctx, s.cursor.at)
		if err != nil {
			return err
		}
		if ev.Purged {
			s.deps.Log.Info().Msg("the PBX's event log was emptied")
		}
		if len(ev.Entries) > 0 {
			s.deps.Emit(&telemetry.Set{EventLog: ev.Entries})
		}
		if err := s.cursor.advance(ev.Next); err != nil {
			s.deps.Log.Warn().Err(err).Msg("keeping the place in the PBX's event log")
		}
		if !ev.More {
			return nil
		}
	}
	return nil
}
