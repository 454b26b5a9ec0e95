package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/inventory"
	"sidetone/collector/internal/live"
	"sidetone/shared/telemetry"
)

// Rhythm of a stream: changes are gathered for gatherFor, a ping goes out every
// pingEvery, and the session is looked at again every recheckEvery.
const (
	gatherFor    = time.Second
	pingEvery    = 10 * time.Second
	recheckEvery = time.Minute
	maxStreams   = 500
	writeTimeout = 10 * time.Second
)

// stream sends server-sent events until the page goes away or the session ends.
func (a *API) stream(w http.ResponseWriter, r *http.Request) {
	if a.Live.Listeners() >= maxStreams {
		w.Header().Set("Retry-After", "30")
		problem(w, http.StatusServiceUnavailable, "too many pages are open on this collector")
		return
	}
	var site telemetry.SiteID
	if text := r.URL.Query().Get("site"); text != "" {
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			problem(w, http.StatusUnprocessableEntity, "site is not a number")
			return
		}
		site = telemetry.SiteID(id)
		if _, err := a.Inventory.Site(r.Context(), scope(r.Context()), site); errors.Is(err, inventory.ErrNotFound) {
			problem(w, http.StatusNotFound, noSuchSite)
			return
		} else if err != nil {
			a.Log.Error().Err(err).Msg("read the site")
			problem(w, http.StatusInternalServerError, "the collector could not read the site; its log says why")
			return
		}
	}
	s := &streamer{api: a, scope: scope(r.Context()), site: site, w: w, rc: http.NewResponseController(w), dirty: map[telemetry.SiteID]bool{}}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	s.run(r)
}

// streamer is one open page.
type streamer struct {
	api     *API
	scope   authz.Scope
	site    telemetry.SiteID
	w       http.ResponseWriter
	rc      *http.ResponseController
	dirty   map[telemetry.SiteID]bool
	storage Storage
}

func (s *streamer) run(r *http.Request) {
	sub := s.api.Live.Subscribe(s.scope, s.site)
	defer sub.Close()
	gather := time.NewTicker(gatherFor)
	defer gather.Stop()
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	recheck := time.NewTicker(recheckEvery)
	defer recheck.Stop()

	s.storage = s.api.Storage()
	err := s.send("storage", s.storage)
	if err == nil {
		err = s.ping()
	}
	for err == nil {
		select {
		case <-r.Context().Done():
			return
		case e := <-sub.Events():
			err = s.take(e)
		case <-gather.C:
			err = s.flush(r.Context())
		case <-ping.C:
			err = s.ping()
		case <-recheck.C:
			if _, err := s.api.Authn.FromRequest(r); err != nil {
				return // signed out elsewhere
			}
		}
	}
}

func (s *streamer) ping() error {
	return s.send("ping", map[string]int64{"now_ms": time.Now().UnixMilli()})
}

// take sends windows at once and remembers that the site changed.
func (s *streamer) take(e live.Event) error {
	if e.Changed || e.Resync || len(e.Windows) > 0 {
		s.dirty[e.Source.Site] = s.dirty[e.Source.Site] || e.Changed || e.Resync
	}
	if s.site == 0 {
		return nil
	}
	for _, w := range e.Windows {
		err := s.send("window", struct {
			SiteID telemetry.SiteID `json:"site_id"`
			ItemID string           `json:"item_id"`
			Window Window           `json:"window"`
		}{e.Source.Site, itemText(w.Target), windowJSON(w)})
		if err != nil {
			return err
		}
	}
	return nil
}

// flush sends the rows of the sites that changed since the last time.
func (s *streamer) flush(ctx context.Context) error {
	if now := s.api.Storage(); now != s.storage {
		s.storage = now
		if err := s.send("storage", now); err != nil {
			return err
		}
	}
	for id, changed := range s.dirty {
		delete(s.dirty, id)
		row, _, _, err := s.api.board.siteRow(ctx, s.scope, id)
		if err != nil {
			s.api.Log.Warn().Err(err).Msg("stream the fleet row")
			continue
		}
		if err := s.send("fleet", row); err != nil {
			return err
		}
		if s.site == 0 || !changed {
			continue
		}
		d, err := s.api.board.detail(ctx, s.scope, id)
		if err != nil {
			s.api.Log.Warn().Err(err).Msg("stream the site")
			continue
		}
		if err := s.send("site", d); err != nil {
			return err
		}
	}
	return nil
}

// send writes one event.
func (s *streamer) send(event string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	if err := s.rc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(s.w, "event: %s\ndata: %s\n\n", event, text); err != nil {
		return err
	}
	return s.rc.Flush()
}
