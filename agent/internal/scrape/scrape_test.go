package scrape_test

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sidetone/agent/internal/pbxsim"
	"sidetone/agent/internal/scrape"
	"sidetone/agent/internal/threecx"
	"sidetone/agent/internal/threecx/xapi"
	"sidetone/shared/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a box, a scraper of it, and all that was emitted.
type bench struct {
	t      *testing.T
	sim    *pbxsim.Sim
	client *xapi.Client

	mu   sync.Mutex
	sets []*telemetry.Set
	at   []time.Time
}

func newBench(t *testing.T, opt pbxsim.Options, cfg threecx.Config) *bench {
	t.Helper()
	sim, err := pbxsim.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	cfg.URL = "https://pbx.example.com"
	if cfg.ClientID == "" && cfg.User == "" {
		cfg.ClientID, cfg.ClientSecret = "sidetone", "sim-secret"
	}
	c, err := xapi.New(cfg, xapi.Deps{Transport: pbxsim.Transport{Handler: sim}})
	if err != nil {
		t.Fatal(err)
	}
	return &bench{t: t, sim: sim, client: c}
}

func (b *bench) emit(s *telemetry.Set) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sets, b.at = append(b.sets, s), append(b.at, time.Now())
}

// run starts box and scraper; the returned function stops them and waits.
func (b *bench) run(cfg scrape.Config, client scrape.Client) func() {
	if client == nil {
		client = b.client
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := scrape.New(cfg, scrape.Deps{Client: client, Emit: b.emit})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Run(ctx); err != nil {
			b.t.Error(err)
		}
	})
	wg.Go(func() { _ = b.sim.Run(ctx) })
	return func() { cancel(); wg.Wait() }
}

func (b *bench) do(name, target, value string) {
	b.t.Helper()
	if err := b.sim.Do(pbxsim.Action{Name: name, Target: target, Value: value}); err != nil {
		b.t.Fatal(err)
	}
}

// all is everything emitted so far in one set.
func (b *bench) all() *telemetry.Set {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := &telemetry.Set{}
	for _, s := range b.sets {
		out.Append(s)
	}
	return out
}

// forget empties what was emitted.
func (b *bench) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sets, b.at = nil, nil
}

// change waits for one change and gives the set it came in.
func (b *bench) change(within time.Duration, subject, from, to string) (telemetry.StateChange, *telemetry.Set) {
	b.t.Helper()
	start := time.Now()
	for time.Since(start) <= within {
		b.mu.Lock()
		for i, s := range b.sets {
			for _, c := range s.StateChanges {
				if c.Subject == subject && c.From == from && c.To == to && b.at[i].Sub(start) <= within {
					b.mu.Unlock()
					return c, s
				}
			}
		}
		b.mu.Unlock()
		time.Sleep(100 * time.Millisecond)
	}
	b.t.Fatalf("no change of %s from %q to %q within %s; changes: %+v", subject, from, to, within, b.all().StateChanges)
	return telemetry.StateChange{}, nil
}

func TestFirstRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, pbxsim.Options{}, threecx.Config{})
		stop := b.run(scrape.Config{}, nil)
		time.Sleep(25 * time.Second)
		stop()
		s := b.all()
		if len(s.PBXStatuses) != 3 || len(s.Trunks) != 12 || len(s.Services) != 39 || len(s.SBCs) != 2 || len(s.Extensions) != 1 ||
			len(s.Backups) != 1 || len(s.Licences) != 1 || len(s.EventLog) != 12 {
			t.Errorf("%d statuses, %d trunks, %d services, %d SBCs, %d extensions, %d backups, %d licences, %d events",
				len(s.PBXStatuses), len(s.Trunks), len(s.Services), len(s.SBCs), len(s.Extensions), len(s.Backups), len(s.Licences), len(s.EventLog))
		}
		if len(s.StateChanges) != 0 {
			t.Errorf("a healthy box makes no changes at the start: %+v", s.StateChanges)
		}
		last := s.PBXStatuses[2]
		if last.CallsTalking == nil || last.LongestCallS == nil || s.Trunks[11].CallsActive == nil {
			t.Errorf("no counts of calls in %+v, %+v", last, s.Trunks[11])
		}
	})
}

func TestChangesComeWithTheirRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, pbxsim.Options{}, threecx.Config{})
		stop := b.run(scrape.Config{}, nil)
		defer stop()
		time.Sleep(35 * time.Second)

		b.do("trunk_drop", "10001", "")
		c, set := b.change(11*time.Second, telemetry.SubjectTrunk, "registered", "unregistered")
		if c.Name != "Provider B" || c.Detail != "code 408" || c.Item != telemetry.MakeItemID("trunk", "10001") {
			t.Errorf("change %+v", c)
		}
		if len(set.Trunks) != 4 || set.Trunks[1].Registered {
			t.Errorf("rows beside the change: %+v", set.Trunks)
		}
		b.do("trunk_restore", "10001", "")
		b.change(11*time.Second, telemetry.SubjectTrunk, "unregistered", "registered")

		b.do("service_stop", "3CXIVR01", "")
		c, set = b.change(11*time.Second, telemetry.SubjectService, "Running", "Stopped")
		if c.Name != "3CXIVR01" || len(set.Services) != 13 {
			t.Errorf("change %+v with %d rows", c, len(set.Services))
		}
		b.do("sbc_drop", "SBC7f3c", "")
		if c, _ = b.change(31*time.Second, telemetry.SubjectSBC, "connected", "disconnected"); c.Name != "Branch North" {
			t.Errorf("change %+v", c)
		}
		b.do("version", "", "20.0.10.7")
		if c, _ = b.change(11*time.Second, telemetry.SubjectPBX, "20.0.9.1310", "20.0.10.7"); c.Detail != "version" {
			t.Errorf("change %+v", c)
		}
		b.do("trunk_remove", "10002", "")
		if c, _ = b.change(21*time.Second, telemetry.SubjectTrunk, "registered", "removed"); c.Name != "Line without registration" {
			t.Errorf("change %+v", c)
		}
		if n := len(b.all().StateChanges); n != 6 {
			t.Errorf("%d changes, want 6: %+v", n, b.all().StateChanges)
		}
	})
}

func TestWhatIsBadAtTheStartIsAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, pbxsim.Options{}, threecx.Config{})
		b.do("trunk_drop", "10001", "")
		b.do("trunk_drop", "10002", "") // has no registration to lose
		b.do("sbc_drop", "SBC81aa", "")
		b.do("service_stop", "3CXIVR01", "")
		stop := b.run(scrape.Config{}, nil)
		time.Sleep(5 * time.Second)
		stop()
		got := map[string]string{}
		for _, c := range b.all().StateChanges {
			got[c.Subject+" "+c.Name] = c.From + ">" + c.To
		}
		want := map[string]string{"trunk Provider B": ">unregistered", "sbc Warehouse": ">disconnected", "service 3CXIVR01": ">Stopped"}
		if len(got) != len(want) {
			t.Errorf("changes %v, want %v", got, want)
		}
		for k, v := range want {
			if got[k] != v {
				t.Errorf("%s: %q, want %q", k, got[k], v)
			}
		}
	})
}

func TestFailuresAreRows(t *testing.T) {
	for _, tc := range []struct {
		name   string
		action [3]string
		state  telemetry.PBXState
		detail string
	}{
		{"unreachable", [3]string{"unreachable"}, telemetry.PBXUnreachable, "closed the connection"},
		{"hang", [3]string{"fault", "", pbxsim.FaultHang}, telemetry.PBXUnreachable, "no answer within"},
		{"web page", [3]string{"fault", "", pbxsim.FaultHTML}, telemetry.PBXUnreachable, "is this a 3CX v20?"},
		{"services down", [3]string{"fault", "", pbxsim.FaultGateway}, telemetry.PBXBusy, "502"},
		{"key withdrawn", [3]string{"auth_fail"}, telemetry.PBXAuthFailed, "wrong credentials"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, pbxsim.Options{}, threecx.Config{})
				stop := b.run(scrape.Config{}, nil)
				defer stop()
				time.Sleep(35 * time.Second)
				b.do(tc.action[0], tc.action[1], tc.action[2])
				c, set := b.change(26*time.Second, telemetry.SubjectPBX, "ok", string(tc.state))
				if !strings.Contains(c.Detail, tc.detail) || len(set.PBXStatuses) != 1 || set.PBXStatuses[0].Detail != c.Detail {
					t.Errorf("change %+v beside %+v", c, set.PBXStatuses)
				}
				b.forget()
				time.Sleep(4 * time.Minute)
				s := b.all()
				if n := len(s.PBXStatuses); n < 11 || len(s.StateChanges) != 0 || len(s.Trunks)+len(s.Services)+len(s.SBCs) > 0 {
					t.Errorf("%d statuses, changes %+v, %d trunks in four minutes", n, s.StateChanges, len(s.Trunks))
				}
				for _, st := range s.PBXStatuses {
					if st.State != tc.state || st.Detail == "" || st.Version != "" || st.CallsActive != nil || len(st.Detail) > 300 {
						t.Errorf("row %+v", st)
					}
				}
				if tc.state == telemetry.PBXAuthFailed {
					return // stopped for good: see the next test
				}
				b.do("reachable", "", "")
				b.change(2*time.Minute, telemetry.SubjectPBX, string(tc.state), "ok")
			})
		})
	}
}

func TestWrongPasswordStopsVisibly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, pbxsim.Options{}, threecx.Config{User: "100", Password: "guess"})
		stop := b.run(scrape.Config{}, nil)
		time.Sleep(3*time.Hour + time.Second)
		stop()
		s := b.all()
		if len(s.PBXStatuses) != 3*360+1 || len(s.StateChanges) != 1 {
			t.Errorf("%d rows, changes %+v", len(s.PBXStatuses), s.StateChanges)
		}
		last := s.PBXStatuses[len(s.PBXStatuses)-1]
		if last.State != telemetry.PBXAuthFailed || !strings.Contains(last.Detail, "restart the agent") {
			t.Errorf("last row %+v", last)
		}
		if n := b.sim.Requests()["POST "+threecx.SignInUser]; n != 3 {
			t.Errorf("%d sign-ins, want 3", n)
		}
	})
}

func TestBusyPBXIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, pbxsim.Options{}, threecx.Config{})
		stop := b.run(scrape.Config{}, nil)
		time.Sleep(35 * time.Second)
		b.do("fault", "", pbxsim.FaultGateway)
		before := b.sim.Requests()["GET "+string(threecx.PathStatus)]
		b.forget()
		time.Sleep(20 * time.Minute)
		asked := b.sim.Requests()["GET "+string(threecx.PathStatus)] - before
		stop()
		if asked < 8 || asked > 16 {
			t.Errorf("asked a busy PBX %d times in 20 minutes", asked)
		}
		if n := len(b.all().PBXStatuses); n != 120 {
			t.Errorf("%d rows in 20 minutes, want one each 10 s", n)
		}
	})
}

// stuck is a client whose slow lists never answer.
type stuck struct{ *xapi.Client }

func (s stuck) Extensions(ctx context.Context) (telemetry.ExtensionSummary, error) {
	<-ctx.Done()
	return telemetry.ExtensionSummary{}, ctx.Err()
}

func TestASlowListDoesNotDelayTheTrunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, pbxsim.Options{}, threecx.Config{})
		stop := b.run(scrape.Config{}, stuck{b.client})
		defer stop()
		time.Sleep(time.Minute)
		b.do("trunk_drop", "10000", "")
		b.change(11*time.Second, telemetry.SubjectTrunk, "registered", "unregistered")
	})
}

func TestServicesThatAreNotListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, pbxsim.Options{ForbidServices: true}, threecx.Config{})
		stop := b.run(scrape.Config{}, nil)
		defer stop()
		time.Sleep(15 * time.Second)
		b.do("service_stop", "3CXIVR01", "")
		c, set := b.change(11*time.Second, telemetry.SubjectService, "Running", "Stopped")
		if c.Name != "any" || len(set.Services) != 1 || set.Services[0].Status != "Stopped" {
			t.Errorf("change %+v beside %+v", c, set.Services)
		}
	})
}

// An hour beside a box with 500 extensions must stay polite.
func TestPoliteness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, pbxsim.Options{Users: 500, TokenLife: time.Minute, RefuseEnded: 403}, threecx.Config{})
		stop := b.run(scrape.Config{}, nil)
		time.Sleep(time.Hour)
		stop()
		total := 0
		for key, n := range b.sim.Requests() {
			total += n
			if n > 3600/10+20 { // some are repeated with a new token
				t.Errorf("%s: %d requests in an hour", key, n)
			}
		}
		if perMinute := total / 60; perMinute > 30 {
			t.Errorf("%d requests a minute", perMinute)
		}
		if v := b.sim.Violations(); len(v) > 0 {
			t.Errorf("violations: %v", v)
		}
		if changes := b.all().StateChanges; len(changes) != 0 {
			t.Errorf("changes on a quiet box: %+v", changes)
		}
	})
}

// Nothing that is secret or personal at the PBX may be in a row.
func TestNothingLeaks(t *testing.T) {
	for name, tc := range map[string]struct {
		opt pbxsim.Options
		cfg threecx.Config
	}{
		"API client":        {pbxsim.Options{TokenLife: time.Minute}, threecx.Config{}},
		"user":              {pbxsim.Options{}, threecx.Config{User: "100", Password: "sim-password"}},
		"old build":         {pbxsim.Options{Version: "20.0.5.551"}, threecx.Config{}},
		"drift":             {pbxsim.Options{Drift: true, Seed: 3}, threecx.Config{}},
		"options refused":   {pbxsim.Options{NoSelect: true}, threecx.Config{}},
		"wrong credentials": {pbxsim.Options{}, threecx.Config{User: "100", Password: "BAIT-guess"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, tc.opt, tc.cfg)
				stop := b.run(scrape.Config{}, nil)
				time.Sleep(15 * time.Minute)
				b.do("trunk_drop", "10001", "")
				b.do("backup_fail", "", "")
				for _, fault := range []string{pbxsim.FaultBroken, pbxsim.FaultHTML, pbxsim.FaultNone} {
					b.do("fault", "", fault)
					time.Sleep(2 * time.Minute)
				}
				stop()
				raw, err := json.Marshal(b.all())
				if err != nil {
					t.Fatal(err)
				}
				if len(raw) < 1000 {
					t.Fatalf("only %d bytes were emitted", len(raw))
				}
				for _, bait := range append(pbxsim.Baits(), "sim-secret", "sim-password", "eyJ", "Bearer") {
					if i := strings.Index(string(raw), bait); i >= 0 {
						t.Errorf("%q left the PBX: …%s…", bait, raw[max(0, i-120):min(len(raw), i+60)])
					}
				}
			})
		})
	}
}

func TestEventLogOverRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "event-cursor")
		b := newBench(t, pbxsim.Options{}, threecx.Config{})
		var produced int64
		for range 5 {
			stop := b.run(scrape.Config{CursorFile: file}, nil)
			time.Sleep(7 * time.Minute)
			stop()
			b.do("events_add", "", "130") // while nobody reads
		}
		stop := b.run(scrape.Config{CursorFile: file}, nil)
		time.Sleep(90 * time.Second)
		stop()
		times := map[int64]int{}
		for _, e := range b.all().EventLog {
			times[e.EntryID]++
			produced = max(produced, e.EntryID)
		}
		for id := int64(90401); id <= produced; id++ {
			if times[id] != 1 {
				t.Errorf("entry %d was emitted %d times", id, times[id])
			}
		}
		if produced < 90401+5*130 {
			t.Errorf("last entry %d", produced)
		}
	})
}
