package scrape

import (
	"context"
	"errors"
	"time"

	"sidetone/agent/internal/threecx"
	"sidetone/shared/telemetry"
)

// round is one turn of the first lane. What was read is handed on at once: a slow
// answer to the next question must not delay it.
func (s *Scraper) round(ctx context.Context) {
	st, err := s.readStatus(ctx)
	if ctx.Err() != nil {
		return
	}
	s.setWell(err == nil)
	s.deps.Emit(&telemetry.Set{
		PBXStatuses: []telemetry.PBXStatus{st}, StateChanges: s.pbx.observe(&st),
	})
	s.note("status", err)
	if err != nil {
		return
	}
	err = s.readTrunks(ctx)
	if ctx.Err() != nil {
		return
	}
	s.note("trunks", err)
	err = s.readServices(ctx, &st)
	if ctx.Err() == nil {
		s.note("services", err)
	}
}

// readStatus asks for the status, or repeats the last failure while a busy PBX is
// left alone. The row is always fit to be emitted.
func (s *Scraper) readStatus(ctx context.Context) (telemetry.PBXStatus, error) {
	if time.Now().Before(s.askAfter) {
		return failed(s.lastErr), s.lastErr
	}
	st, err := s.deps.Client.SystemStatus(ctx)
	if err != nil {
		s.lastErr = err
		s.pauseWhenBusy(err)
		return failed(err), err
	}
	s.busy = 0
	if c := s.freshCalls(); c != nil {
		longest := uint32(max(c.Longest, 0) / time.Second)
		st.CallsTalking, st.CallsRinging, st.CallsOther = &c.Talking, &c.Ringing, &c.Other
		st.LongestCallS = &longest
	}
	return st, nil
}

func failed(err error) telemetry.PBXStatus {
	return telemetry.PBXStatus{
		Observed: telemetry.MS(time.Now()), State: threecx.State(err), Detail: threecx.Detail(err),
	}
}

// pauseWhenBusy leaves a busy PBX alone for longer each time. The other failures
// cost it nothing, or are paced by the client.
func (s *Scraper) pauseWhenBusy(err error) {
	if threecx.State(err) != telemetry.PBXBusy {
		s.busy = 0
		return
	}
	pause := busyMax
	if s.busy < 8 {
		pause = min(s.cfg.Interval<<s.busy, busyMax)
	}
	s.busy++
	// Half an interval less, so that the rhythm's next beat is not missed by a hair.
	s.askAfter = time.Now().Add(pause - s.cfg.Interval/2)
}

func (s *Scraper) readTrunks(ctx context.Context) error {
	trunks, err := s.deps.Client.Trunks(ctx)
	if err != nil {
		return err
	}
	numbers := make([]string, len(trunks))
	items := make([]item, len(trunks))
	calls := s.freshCalls()
	at := telemetry.MS(time.Now())
	for i := range trunks {
		t := &trunks[i]
		at = t.Observed
		numbers[i] = t.Number
		if calls != nil {
			if n, ok := calls.ByTrunk[t.Number]; ok {
				t.CallsActive = &n
			}
		}
		it := item{id: t.ID, name: t.Name, state: stateRegistered}
		if !t.Registered {
			it.state, it.bad = stateUnregistered, t.RegistrationNeeded
			if t.FailCode != "" {
				it.detail = "code " + t.FailCode
			}
		}
		items[i] = it
	}
	s.mu.Lock()
	s.trunkNumbers = numbers
	s.mu.Unlock()
	s.deps.Emit(&telemetry.Set{Trunks: trunks, StateChanges: s.trunks.observe(at, items)})
	return nil
}

const (
	statusRunning = "Running"
	statusStopped = "Stopped"
	// anyService stands for all services of a PBX that does not list them to us and
	// only says whether one of them is not running.
	anyService = "any"
)

func (s *Scraper) readServices(ctx context.Context, st *telemetry.PBXStatus) error {
	services, err := s.deps.Client.Services(ctx)
	if errors.Is(err, threecx.ErrUnsupported) && st.ServicesNotRunning != nil {
		services = []telemetry.Service{sumOfServices(st)}
	} else if err != nil {
		return err
	}
	items := make([]item, len(services))
	at := telemetry.MS(time.Now())
	for i := range services {
		v := &services[i]
		at = v.Observed
		items[i] = item{id: v.ID, name: v.Name, state: v.Status, bad: v.Status != statusRunning, detail: v.Title}
	}
	s.deps.Emit(&telemetry.Set{Services: services, StateChanges: s.services.observe(at, items)})
	return err
}

func sumOfServices(st *telemetry.PBXStatus) telemetry.Service {
	v := telemetry.Service{
		Observed: st.Observed, ID: telemetry.MakeItemID("service", anyService), Name: anyService,
		Title: "All services together", Status: statusRunning,
	}
	if *st.ServicesNotRunning {
		v.Status = statusStopped
	}
	return v
}
