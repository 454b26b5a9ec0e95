// Package api is the collector's HTTP interface: JSON under /api/v1 with an OpenAPI
// document made from the Go types, and a stream of server-sent events for open pages.
// Every answer is limited to the scope of whoever asks.
package api

import (
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/rs/zerolog"

	"sidetone/collector/internal/authn"
	"sidetone/collector/internal/enrolment"
	"sidetone/collector/internal/fleet"
	"sidetone/collector/internal/incident"
	"sidetone/collector/internal/inventory"
	"sidetone/collector/internal/live"
	"sidetone/collector/internal/telemetrydb"
	"sidetone/shared/buildinfo"
)

// maxBody bounds a request's body; no request of this API needs more.
const maxBody = 64 << 10

// Deps is what the API shows and changes.
type Deps struct {
	Inventory *inventory.Inventory
	Fleet     *fleet.Fleet
	Live      *live.Hub
	Incidents *incident.Manager
	Telemetry *telemetrydb.DB
	Authn     *authn.Service
	Enrolment *enrolment.Service
	// Storage says whether measurements reach ClickHouse.
	Storage func() Storage
	// AgentsAddr is the host:port that tokens name.
	AgentsAddr func() string
	Log        zerolog.Logger
}

// API serves the routes. Its Handler must be run beside Run, which feeds the streams.
type API struct {
	Deps
	board *board
	mux   *http.ServeMux
}

// New builds the API.
func New(d Deps) *API {
	a := &API{Deps: d, mux: http.NewServeMux()}
	a.board = &board{inventory: d.Inventory, fleet: d.Fleet, live: d.Live, incidents: d.Incidents, now: time.Now}
	config := huma.DefaultConfig("Sidetone", buildinfo.Version())
	config.Info.Description = "State and history of a fleet of 3CX phone systems."
	config.DocsPath = "" // its page would load scripts from another host
	config.OpenAPIPath = "/api/v1/openapi"
	config.SchemasPath = "/api/v1/schemas"
	config.CreateHooks = nil // no $schema link in each answer
	h := humago.New(a.mux, config)
	a.register(h)
	a.mux.HandleFunc("GET /api/v1/stream", a.stream)
	a.mux.HandleFunc("/api/", func(w http.ResponseWriter, _ *http.Request) {
		problem(w, http.StatusNotFound, "there is no such address in the API")
	})
	return a
}

func (a *API) register(h huma.API) {
	op := func(method, path, id, summary string, tags ...string) huma.Operation {
		return huma.Operation{Method: method, Path: "/api/v1" + path, OperationID: id, Summary: summary, Tags: tags, MaxBodyBytes: maxBody}
	}
	created := func(o huma.Operation) huma.Operation { o.DefaultStatus = http.StatusCreated; return o }
	huma.Register(h, op("GET", "/session", "get-session", "Who is signed in", "session"), a.getSession)
	huma.Register(h, created(op("POST", "/setup", "setup", "Make the first owner with the setup code", "session")), a.postSetup)
	huma.Register(h, created(op("POST", "/session", "sign-in", "Sign in", "session")), a.postSession)
	huma.Register(h, op("DELETE", "/session", "sign-out", "Sign out", "session"), a.deleteSession)
	huma.Register(h, op("GET", "/fleet", "get-fleet", "All sites, worst first", "state"), a.getFleet)
	huma.Register(h, op("GET", "/sites/{site_id}", "get-site", "Everything about one site", "state"), a.getSite)
	huma.Register(h, op("GET", "/sites/{site_id}/series", "get-series", "A target's curve", "history"), a.getSeries)
	huma.Register(h, op("GET", "/sites/{site_id}/gaps", "get-gaps", "What its agents have not delivered, and why", "history"), a.getGaps)
	huma.Register(h, op("GET", "/incidents", "list-incidents", "Incidents, newest first", "state"), a.getIncidents)
	huma.Register(h, op("GET", "/tree", "get-tree", "Tenants, customers and sites", "inventory"), a.getTree)
	huma.Register(h, created(op("POST", "/tokens", "create-token", "Make an enrolment token; it is shown this once", "inventory")), a.postToken)
}

// open lists what may be asked without having signed in.
var open = map[string]bool{
	"GET /api/v1/session":  true,
	"POST /api/v1/session": true,
	"POST /api/v1/setup":   true,
}

// Handler is the API with its guards: same origin for changes, JSON bodies only, a
// signed-in person for everything that is not open, nothing cached.
func (a *API) Handler() http.Handler {
	cross := http.NewCrossOriginProtection()
	return cross.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if r.Method == http.MethodPost && !isJSON(r.Header.Get("Content-Type")) {
			problem(w, http.StatusUnsupportedMediaType, "the body must be application/json")
			return
		}
		p, err := a.Authn.FromRequest(r)
		if err != nil && !errors.Is(err, authn.ErrNotSignedIn) {
			a.Log.Error().Err(err).Msg("read the session")
			problem(w, http.StatusServiceUnavailable, "the collector cannot read its control store; its log says why")
			return
		}
		if err != nil && !open[r.Method+" "+r.URL.Path] {
			problem(w, http.StatusUnauthorized, "not signed in")
			return
		}
		ctx := withRequest(r.Context(), request{principal: p, signedIn: err == nil, remote: remoteIP(r), token: authn.TokenFromRequest(r)})
		a.mux.ServeHTTP(w, r.WithContext(ctx))
	}))
}
