package xapi_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sidetone/agent/internal/pbxsim"
	"sidetone/agent/internal/threecx"
	"sidetone/agent/internal/threecx/xapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	byClient = "API client"
	byUser   = "user"
)

// recorder keeps the times of the requests that reach a box.
type recorder struct {
	next http.RoundTripper
	mu   sync.Mutex
	seen []request
}

type request struct {
	at     time.Time
	method string
	path   string
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	r.mu.Lock()
	r.seen = append(r.seen, request{time.Now(), req.Method, req.URL.Path})
	r.mu.Unlock()
	return r.next.RoundTrip(req)
}

func (r *recorder) signIns() []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []time.Time
	for _, q := range r.seen {
		if q.method == http.MethodPost {
			out = append(out, q.at)
		}
	}
	return out
}

func (r *recorder) count(path string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, q := range r.seen {
		if q.path == path {
			n++
		}
	}
	return n
}

// newPair makes a box and a client of it, without a network between them.
func newPair(t *testing.T, how string, opt pbxsim.Options, change func(*threecx.Config)) (*pbxsim.Sim, *xapi.Client, *recorder) {
	t.Helper()
	sim, err := pbxsim.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	cfg := threecx.Config{URL: "https://pbx.example.com", RequestsPerMinute: 1200}
	if how == byUser {
		cfg.User, cfg.Password = "100", "sim-password"
	} else {
		cfg.ClientID, cfg.ClientSecret = "sidetone", "sim-secret"
	}
	if change != nil {
		change(&cfg)
	}
	rec := &recorder{next: pbxsim.Transport{Handler: sim}}
	c, err := xapi.New(cfg, xapi.Deps{Transport: rec})
	if err != nil {
		t.Fatal(err)
	}
	return sim, c, rec
}

func wrongPassword(c *threecx.Config) {
	if c.User != "" {
		c.Password = "guess"
	} else {
		c.ClientSecret = "guess"
	}
}

func TestReadsEverything(t *testing.T) {
	for _, how := range []string{byClient, byUser} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { readEverything(t, how) })
		})
	}
}

func readEverything(t *testing.T, how string) {
	ctx := t.Context()
	sim, c, _ := newPair(t, how, pbxsim.Options{Users: 205}, nil)
	if err := sim.Do(pbxsim.Action{Name: "calls", Value: "5"}); err != nil {
		t.Fatal(err)
	}
	st, err := c.SystemStatus(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if st.State != "ok" || st.Version != "20.0.9.1310" || st.CallsActive == nil || *st.CallsActive != 5 || st.LastBackup == 0 ||
		st.ClockOffsetMS == nil || *st.ClockOffsetMS != 0 || st.ServicesNotRunning == nil || *st.ServicesNotRunning {
		t.Errorf("status %+v; calls %d, offset %d ms", st, *st.CallsActive, *st.ClockOffsetMS)
	}
	trunks, err := c.Trunks(ctx)
	if err != nil || len(trunks) != 4 {
		t.Fatalf("trunks %v, %v", trunks, err)
	}
	b := trunks[1]
	if b.Number != "10001" || b.Name != "Provider B" || b.Kind != "provider" || !b.Registered || !b.RegistrationNeeded ||
		b.Template != "twilio.xml" || b.FailCode != "" || b.ChannelsMax == nil || *b.ChannelsMax != 20 {
		t.Errorf("trunk %+v", b)
	}
	if trunks[2].RegistrationNeeded || trunks[3].Kind != "bridge" {
		t.Errorf("trunks %+v", trunks[2:])
	}
	services, err := c.Services(ctx)
	if err != nil || len(services) != 13 || services[0].Status != "Running" || services[0].MemoryBytes == nil {
		t.Errorf("services %+v, %v", services, err)
	}
	sbcs, err := c.SBCs(ctx)
	if err != nil || len(sbcs) != 2 || !sbcs[0].Connected || sbcs[0].Name != "Branch North" || sbcs[0].ConnectedS == nil ||
		*sbcs[0].ConnectedS != 76*3600 || sbcs[0].LatencyMS == nil {
		t.Errorf("SBCs %+v, %v", sbcs, err)
	}
	calls, err := c.ActiveCalls(ctx, []string{"10000", "10001", "10002"})
	if err != nil || calls.Total() != 5 || len(calls.ByTrunk) != 3 {
		t.Errorf("calls %+v, %v", calls, err)
	}
	ext, err := c.Extensions(ctx)
	if err != nil || ext.Total != 205 || ext.Enabled != 205 || ext.Registered == 0 || ext.Registered >= 205 ||
		ext.QueueLoggedIn != 23 || ext.SystemTotal == nil || *ext.SystemTotal != 6 || *ext.SystemUnregistered != 0 {
		t.Errorf("extensions %+v, %v", ext, err)
	}
	bk, err := c.Backups(ctx)
	if err != nil || bk.Count != 5 || time.Since(bk.Newest.Time()).Round(time.Hour) != 3*time.Hour || bk.Repository != "Sftp" ||
		bk.Encrypted == nil || !*bk.Encrypted || bk.KeptCopies == nil || *bk.KeptCopies != 7 || bk.NewestSizeBytes == 0 {
		t.Errorf("backups %+v, %v", bk, err)
	}
	lic, err := c.Licence(ctx)
	if err != nil || lic.ProductCode != "3CXPSPROFENTSPLA" || lic.Active == nil || !*lic.Active || lic.Expires == 0 {
		t.Errorf("licence %+v, %v", lic, err)
	}
	if v := sim.Violations(); len(v) > 0 {
		t.Errorf("asked for what must never be asked for: %v", v)
	}
	for key := range sim.Requests() {
		method, path, _ := strings.Cut(key, " ")
		signIn := method == http.MethodPost && (path == threecx.SignInClient || path == threecx.SignInUser)
		if !signIn && (method != http.MethodGet || !threecx.Allowed(threecx.Path(path))) {
			t.Errorf("request %s is not on the list", key)
		}
	}
}

func TestDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim, c, _ := newPair(t, byClient, pbxsim.Options{}, nil)
		for _, a := range []pbxsim.Action{
			{Name: "trunk_drop", Target: "10001"}, {Name: "service_stop", Target: "3CXIVR01"}, {Name: "sbc_drop", Target: "SBC81aa"},
			{Name: "backup_age", Value: "72h"},
		} {
			if err := sim.Do(a); err != nil {
				t.Fatal(err)
			}
		}
		trunks, err := c.Trunks(t.Context())
		if err != nil || trunks[1].Registered || trunks[1].FailCode != "408" || !trunks[0].Registered {
			t.Errorf("trunks %+v, %v", trunks, err)
		}
		services, err := c.Services(t.Context())
		if err != nil || services[2].Status != "Stopped" {
			t.Errorf("services %+v, %v", services, err)
		}
		sbcs, err := c.SBCs(t.Context())
		if err != nil || sbcs[1].Connected || !sbcs[0].Connected {
			t.Errorf("SBCs %+v, %v", sbcs, err)
		}
		st, err := c.SystemStatus(t.Context())
		if err != nil || !*st.ServicesNotRunning || time.Since(st.LastBackup.Time()).Round(time.Hour) != 72*time.Hour {
			t.Errorf("status %+v, %v", st, err)
		}
	})
}

// Every build and habit that is known must be read without an error.
func TestDriftBetweenBuilds(t *testing.T) {
	cases := map[string]pbxsim.Options{
		"20.0.5 has no TrunkRegTimes":  {Version: "20.0.5.551"},
		"20.0.7 has no SBC connection": {Version: "20.0.7.1080"},
		"20.0.8":                       {Version: "20.0.8.1131"},
		"no Id in singletons":          {NoID: true},
		"$count lies":                  {CountLies: true},
		"$expand refused":              {ExpandFails: true},
	}
	for seed := range uint64(20) {
		cases["drifting "+string(rune('a'+seed))] = pbxsim.Options{Drift: true, Seed: seed}
	}
	for name, opt := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, c, _ := newPair(t, byClient, opt, nil)
				ctx := t.Context()
				for what, read := range readings(c) {
					if err := read(ctx); err != nil {
						t.Errorf("%s: %v", what, err)
					}
				}
			})
		})
	}
}

func readings(c *xapi.Client) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"status":     func(ctx context.Context) error { _, err := c.SystemStatus(ctx); return err },
		"trunks":     func(ctx context.Context) error { _, err := c.Trunks(ctx); return err },
		"services":   func(ctx context.Context) error { _, err := c.Services(ctx); return err },
		"sbcs":       func(ctx context.Context) error { _, err := c.SBCs(ctx); return err },
		"calls":      func(ctx context.Context) error { _, err := c.ActiveCalls(ctx, nil); return err },
		"extensions": func(ctx context.Context) error { _, err := c.Extensions(ctx); return err },
		"backups":    func(ctx context.Context) error { _, err := c.Backups(ctx); return err },
		"licence":    func(ctx context.Context) error { _, err := c.Licence(ctx); return err },
		"events": func(ctx context.Context) error {
			_, err := c.EventLogs(ctx, threecx.EventCursor{})
			return err
		},
	}
}

func TestFallsBackWithoutSelect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c, _ := newPair(t, byClient, pbxsim.Options{NoSelect: true}, nil)
		if l, err := c.Licence(t.Context()); err != nil || l.ProductCode == "" {
			t.Errorf("licence %+v, %v", l, err)
		}
		if b, err := c.Backups(t.Context()); err != nil || b.Count != 5 {
			t.Errorf("backups %+v, %v", b, err)
		}
		// Users are never asked for without $select: their rows are full of secrets.
		if _, err := c.Extensions(t.Context()); !errors.Is(err, threecx.ErrAnswer) {
			t.Errorf("extensions: %v", err)
		}
	})
}

func TestCollectionWithoutRowsIsNotEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c, _ := newPair(t, byClient, pbxsim.Options{NoValue: true}, nil)
		if rows, err := c.Trunks(t.Context()); !errors.Is(err, threecx.ErrAnswer) {
			t.Errorf("rows %v, %v", rows, err)
		}
	})
}

func TestFaults(t *testing.T) {
	for _, tc := range []struct {
		fault string
		kind  error
		text  string
	}{
		{pbxsim.FaultGateway, threecx.ErrBusy, "502"},
		{pbxsim.FaultHTML, threecx.ErrNot3CX, "is this a 3CX v20?"},
		{pbxsim.FaultHang, threecx.ErrUnreachable, "no answer within 15s"},
		{pbxsim.FaultHuge, threecx.ErrAnswer, "larger than 8 MiB"},
		{pbxsim.FaultBroken, threecx.ErrAnswer, "not the JSON"},
		{pbxsim.FaultUnreachable, threecx.ErrUnreachable, "closed the connection"},
	} {
		t.Run(tc.fault, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sim, c, _ := newPair(t, byClient, pbxsim.Options{}, nil)
				if _, err := c.SystemStatus(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := sim.Do(pbxsim.Action{Name: "fault", Value: tc.fault}); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				_, err := c.SystemStatus(t.Context())
				if !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.text) {
					t.Errorf("got %v, want %v with %q", err, tc.kind, tc.text)
				}
				if took := time.Since(start); took > 20*time.Second {
					t.Errorf("took %s", took)
				}
				if err := sim.Do(pbxsim.Action{Name: "fault", Value: pbxsim.FaultNone}); err != nil {
					t.Fatal(err)
				}
				if _, err := c.SystemStatus(t.Context()); err != nil {
					t.Errorf("after the fault: %v", err)
				}
			})
		})
	}
}

// The same while signing in: the next try must come, but not at once.
func TestFaultsWhileSigningIn(t *testing.T) {
	for _, fault := range []string{
		pbxsim.FaultGateway, pbxsim.FaultHTML, pbxsim.FaultHang, pbxsim.FaultHuge, pbxsim.FaultBroken, pbxsim.FaultUnreachable,
	} {
		t.Run(fault, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sim, c, rec := newPair(t, byUser, pbxsim.Options{}, nil)
				if err := sim.Do(pbxsim.Action{Name: "fault", Value: fault}); err != nil {
					t.Fatal(err)
				}
				poll(t, c, 2*time.Minute)
				if n := len(rec.signIns()); n < 2 || n > 13 {
					t.Errorf("%d sign-ins in two minutes", n)
				}
				if c.SignIn().Stopped || c.SignIn().LastError == "" {
					t.Errorf("state %+v", c.SignIn())
				}
				if err := sim.Do(pbxsim.Action{Name: "fault", Value: pbxsim.FaultNone}); err != nil {
					t.Fatal(err)
				}
				if errs := poll(t, c, 16*time.Minute); errs[len(errs)-1] != nil { // the longest pause is 15 min
					t.Errorf("long after the fault: %v", errs[len(errs)-1])
				}
			})
		})
	}
}

// poll reads the status every 10 s for d and gives all errors.
func poll(t *testing.T, c *xapi.Client, d time.Duration) []error {
	t.Helper()
	var errs []error
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Second) {
		_, err := c.SystemStatus(t.Context())
		errs = append(errs, err)
	}
	return errs
}

func TestMissingServicesAreLeftAloneForAnHour(t *testing.T) {
	for name, opt := range map[string]pbxsim.Options{"404": {NoServices: true}, "403": {ForbidServices: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sim, c, rec := newPair(t, byClient, opt, nil)
				for range 350 {
					if _, err := c.Services(t.Context()); !errors.Is(err, threecx.ErrUnsupported) {
						t.Fatal(err)
					}
					time.Sleep(10 * time.Second)
				}
				if n := rec.count(string(threecx.PathServices)); n != 1 {
					t.Errorf("asked %d times within an hour", n)
				}
				if _, err := c.SystemStatus(t.Context()); err != nil {
					t.Error(err)
				}
				if err := sim.Do(pbxsim.Action{Name: "version", Value: "20.0.10.1"}); err != nil {
					t.Fatal(err)
				}
				if _, err := c.SystemStatus(t.Context()); err != nil {
					t.Error(err)
				}
				before := rec.count(string(threecx.PathServices))
				_, _ = c.Services(t.Context())
				if rec.count(string(threecx.PathServices)) == before {
					t.Error("not asked again after an update")
				}
			})
		})
	}
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c, _ := newPair(t, byClient, pbxsim.Options{}, func(cfg *threecx.Config) { cfg.RequestsPerMinute = 60 })
		start := time.Now()
		for range 149 {
			if _, err := c.SystemStatus(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took < 119*time.Second || took > 121*time.Second {
			t.Errorf("150 requests at 60 a minute with a burst of 30 took %s, want 120 s", took)
		}
	})
}

func TestEventLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		sim, c, _ := newPair(t, byClient, pbxsim.Options{}, nil)
		do := func(name, value string) {
			t.Helper()
			if err := sim.Do(pbxsim.Action{Name: name, Value: value}); err != nil {
				t.Fatal(err)
			}
		}
		read := func(at threecx.EventCursor, n int, purged bool) threecx.EventCursor {
			t.Helper()
			ev, err := c.EventLogs(ctx, at)
			if err != nil {
				t.Fatal(err)
			}
			if len(ev.Entries) != n || ev.Purged != purged || ev.More {
				t.Fatalf("%d entries, purged %v, more %v; want %d, %v", len(ev.Entries), ev.Purged, ev.More, n, purged)
			}
			for i := 1; i < n; i++ {
				if ev.Entries[i].EntryID != ev.Entries[i-1].EntryID+1 {
					t.Fatalf("entries out of order: %d after %d", ev.Entries[i].EntryID, ev.Entries[i-1].EntryID)
				}
			}
			return ev.Next
		}
		at := read(threecx.EventCursor{}, 12, false)
		at = read(at, 0, false)
		do("events_add", "3")
		at = read(at, 3, false)
		do("events_add", "350") // several pages
		at = read(at, 350, false)
		do("events_purge", "")
		at = read(at, 0, true)
		do("events_add", "2") // ids start again
		at = read(at, 2, false)
		do("events_purge", "")
		do("events_add", "1")
		at = read(at, 1, true)
		do("events_add", "2500")
		got := 0
		for range 5 {
			ev, err := c.EventLogs(ctx, at)
			if err != nil {
				t.Fatal(err)
			}
			got, at = got+len(ev.Entries), ev.Next
			if !ev.More {
				break
			}
		}
		if got != 2500 {
			t.Errorf("%d entries of 2500 in pieces", got)
		}
	})
}
