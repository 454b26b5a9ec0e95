package alert

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"sidetone/shared/telemetry"
)

var (
	src  = Source{Tenant: 1, Customer: 2, Site: 3, PBX: 4, Agent: 5}
	zero = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
)

func sec(n int) time.Time { return zero.Add(time.Duration(n) * time.Second) }

// memory is a Store for tests of this package; the real one is tested in controldb.
type memory struct {
	mu     sync.Mutex
	states map[Key]State
	fail   bool
	writes int
}

func (m *memory) LoadAlertStates(context.Context) ([]State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []State
	for _, s := range m.states {
		out = append(out, s)
	}
	return out, nil
}

func (m *memory) SaveAlertStates(_ context.Context, write []State, remove []Key) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail {
		return errors.New("no space")
	}
	m.writes++
	if m.states == nil {
		m.states = map[Key]State{}
	}
	for _, s := range write {
		m.states[s.Key] = s
	}
	for _, k := range remove {
		delete(m.states, k)
	}
	return nil
}

func newEngine(t testing.TB, store Store) *Engine {
	t.Helper()
	e, err := New(Defaults(), Deps{Store: store, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// event is one line of a timeline.
type event struct {
	at   int // second
	set  *telemetry.Set
	late bool
	// silent, when not negative, is an observation of the agent's silence in seconds.
	silent int
	want   string // "rule to, rule to" in order; phases pending and inactive are left out
}

func brief(list []Transition) string {
	var out []string
	for _, t := range list {
		if t.To == Firing || t.To == Resolved {
			s := t.Key.Rule + " " + string(t.To)
			if t.Reason != ReasonCleared {
				s += " (" + string(t.Reason) + ")"
			}
			out = append(out, s)
		}
	}
	return strings.Join(out, ", ")
}

func ms(n int) telemetry.UnixMS { return telemetry.MS(sec(n)) }

func trunkSet(at int, registered bool) *telemetry.Set {
	return &telemetry.Set{Trunks: []telemetry.Trunk{{Observed: ms(at), ID: 77, Number: "10001", Name: "Carrier", Host: "sip.example",
		Kind: "provider", RegistrationNeeded: true, Registered: registered}}}
}

func pbxSet(at int, state telemetry.PBXState, detail string) *telemetry.Set {
	return &telemetry.Set{PBXStatuses: []telemetry.PBXStatus{{Observed: ms(at), State: state, Detail: detail}}}
}

// window ends at second at.
func window(at int, target telemetry.ItemID, sent, lost uint32) *telemetry.Set {
	return &telemetry.Set{
		Targets:      []telemetry.Target{{ID: target, Method: telemetry.MethodICMP, Name: "gw", Address: "192.0.2.1"}},
		ProbeWindows: []telemetry.ProbeWindow{{Target: target, Observed: ms(at - 10), LengthMS: 10000, Sent: sent, Received: sent - lost, Lost: lost}},
	}
}

func removedSet(at int, kind string, id telemetry.ItemID) *telemetry.Set {
	return &telemetry.Set{StateChanges: []telemetry.StateChange{{Observed: ms(at), Subject: kind, Item: id, To: Removed}}}
}

func series10(from, to int, lost uint32) []event {
	var out []event
	for s := from; s <= to; s += 10 {
		out = append(out, event{at: s, silent: -1, set: window(s, 9, 10, lost)})
	}
	return out
}

func TestDefaultRulesAsTimelines(t *testing.T) {
	notProvider := trunkSet(1, false)
	notProvider.Trunks[0].Kind = "bridge"
	noRegistration := trunkSet(2, false)
	noRegistration.Trunks[0].RegistrationNeeded = false
	service := func(at int, status string) *telemetry.Set {
		return &telemetry.Set{Services: []telemetry.Service{{Observed: ms(at), ID: 5, Name: "3CXQueueManager01", Status: status}}}
	}
	backup := func(at int, age time.Duration) *telemetry.Set {
		b := telemetry.Backup{Observed: ms(at), Count: 1, Newest: telemetry.MS(sec(at).Add(-age))}
		if age < 0 {
			b.Newest, b.Count = 0, 0
		}
		return &telemetry.Set{Backups: []telemetry.Backup{b}}
	}
	cases := map[string][]event{
		"trunk drops and comes back": {
			{at: 0, silent: -1, set: trunkSet(0, true)},
			{at: 10, silent: -1, set: trunkSet(10, false), want: "trunk-unregistered firing"},
			{at: 20, silent: -1, set: trunkSet(20, false)},
			{at: 30, silent: -1, set: trunkSet(30, true)},
			{at: 40, silent: -1, want: "trunk-unregistered resolved"},
			{at: 50, silent: -1, set: trunkSet(50, true)},
		},
		"a trunk that needs no registration, or is a bridge, does not count": {
			{at: 1, silent: -1, set: notProvider}, {at: 2, silent: -1, set: noRegistration},
		},
		"a removed trunk resolves": {
			{at: 10, silent: -1, set: trunkSet(10, false), want: "trunk-unregistered firing"},
			{at: 20, silent: -1, set: removedSet(20, telemetry.SubjectTrunk, 77), want: "trunk-unregistered resolved (removed)"},
			{at: 100, silent: -1},
		},
		"a trunk that ceases to need registration resolves": {
			{at: 1, silent: -1, set: trunkSet(1, false), want: "trunk-unregistered firing"},
			{at: 2, silent: -1, set: noRegistration, want: "trunk-unregistered resolved (not relevant)"},
		},
		"late data neither fires nor resolves": {
			{at: 0, silent: -1, set: trunkSet(-600, false), late: true},
			{at: 10, silent: -1, set: trunkSet(10, false), want: "trunk-unregistered firing"},
			{at: 20, silent: -1, set: trunkSet(-500, true), late: true},
			{at: 25, silent: -1, set: removedSet(-500, telemetry.SubjectTrunk, 77), late: true},
			{at: 60, silent: -1},
		},
		"an overtaken observation changes nothing": {
			{at: 10, silent: -1, set: trunkSet(10, false), want: "trunk-unregistered firing"},
			{at: 11, silent: -1, set: trunkSet(5, true)},
			{at: 40, silent: -1},
		},
		"PBX unreachable for 30 s": {
			{at: 0, silent: -1, set: pbxSet(0, telemetry.PBXUnreachable, "refused")},
			{at: 20, silent: -1, set: pbxSet(20, telemetry.PBXUnreachable, "refused")},
			{at: 30, silent: -1, want: "pbx-unreachable firing"},
			{at: 40, silent: -1, set: pbxSet(40, telemetry.PBXBusy, "503")},
			{at: 60, silent: -1},
			{at: 61, silent: -1, set: pbxSet(61, telemetry.PBXOK, "")},
			{at: 71, silent: -1, set: pbxSet(71, telemetry.PBXOK, ""), want: "pbx-unreachable resolved"},
		},
		"a trunk keeps its state while the PBX is unreachable": {
			{at: 0, silent: -1, set: trunkSet(0, false), want: "trunk-unregistered firing"},
			{at: 10, silent: -1, set: pbxSet(10, telemetry.PBXUnreachable, "")},
			{at: 40, silent: -1, set: pbxSet(40, telemetry.PBXUnreachable, ""), want: "pbx-unreachable firing"},
			{at: 4000, silent: -1, set: pbxSet(4000, telemetry.PBXUnreachable, "")},
		},
		"service stopped for 20 s, starting is neither": {
			{at: 0, silent: -1, set: service(0, "Stopped")},
			{at: 20, silent: -1, want: "service-stopped firing"},
			{at: 30, silent: -1, set: service(30, "StartPending")},
			{at: 60, silent: -1},
			{at: 61, silent: -1, set: service(61, "Running")},
			{at: 71, silent: -1, want: "service-stopped resolved"},
		},
		"backup older than two days": {
			{at: 0, silent: -1, set: backup(0, 47*time.Hour)},
			{at: 60, silent: -1, set: backup(60, 49*time.Hour), want: "backup-old firing"},
			{at: 120, silent: -1, set: backup(120, time.Minute), want: "backup-old resolved"},
		},
		"no backup at all": {{at: 0, silent: -1, set: backup(0, -1), want: "backup-old firing"}},
		"agent silent, heard again": {
			{at: 1, silent: 59},
			{at: 2, silent: 60, want: "agent-silent firing"},
			{at: 60, silent: 118},
			{at: 61, silent: 0},
			{at: 70, silent: 9},
			{at: 81, silent: 1, want: "agent-silent resolved"},
		},
		"loss of one attempt in a window is not enough": append(append(series10(10, 60, 0),
			event{at: 70, silent: -1, set: window(70, 9, 10, 1)}), series10(80, 200, 0)...),
		"an outage of 20 s is not loss for a minute": append(append(series10(10, 60, 0),
			event{at: 70, silent: -1, set: window(70, 9, 10, 10)}, event{at: 80, silent: -1, set: window(80, 9, 10, 10)}), series10(90, 240, 0)...),
	}
	for name, events := range cases {
		t.Run(name, func(t *testing.T) {
			play(t, newEngine(t, nil), events)
		})
	}
}

func play(t *testing.T, e *Engine, events []event) {
	t.Helper()
	for _, ev := range events {
		got := e.Tick(sec(ev.at))
		if ev.silent >= 0 {
			got = append(got, e.Observe([]Observation{AgentObservation(src, "box", time.Duration(ev.silent)*time.Second)})...)
		}
		if ev.set != nil {
			got = append(got, e.Observe(FromSet(src, ev.set, sec(ev.at), ev.late))...)
		}
		if b := brief(got); b != ev.want {
			t.Fatalf("second %d: %q, want %q", ev.at, b, ev.want)
		}
	}
}

// firstFiring feeds windows of 10 attempts until something fires, and says when.
func firstFiring(t *testing.T, e *Engine, from, to int, lost func(i int) uint32) int {
	t.Helper()
	for i, s := 0, from; s <= to; i, s = i+1, s+10 {
		if b := brief(e.Observe(FromSet(src, window(s, 9, 10, lost(i)), sec(s), false))); b != "" {
			return s
		}
	}
	return -1
}

func TestPacketLossFiresAndClears(t *testing.T) {
	cases := map[string]struct {
		lost  func(i int) uint32
		after int // latest second of firing; -1 = never
	}{
		"everything lost":             {func(int) uint32 { return 10 }, 70},
		"one in ten":                  {func(int) uint32 { return 1 }, 70},
		"five percent":                {func(i int) uint32 { return uint32(i+1) % 2 }, 70},
		"one percent":                 {func(i int) uint32 { return map[bool]uint32{true: 1}[i%10 == 0] }, -1},
		"nothing":                     {func(int) uint32 { return 0 }, -1},
		"an outage of 40 s then fine": {func(i int) uint32 { return map[bool]uint32{true: 10}[i < 4] }, -1},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t, nil)
			at := firstFiring(t, e, 10, 1200, c.lost)
			if c.after < 0 && at >= 0 || c.after >= 0 && (at < 60 || at > c.after) {
				t.Fatalf("fired at %d, want at most %d", at, c.after)
			}
			if at < 0 {
				return
			}
			e.Tick(sec(at))
			back := firstFiring(t, e, at+10, at+300, func(int) uint32 { return 0 })
			if back < at+80 || back > at+110 {
				t.Fatalf("fired at %d, resolved at %d: want 80 to 110 s later", at, back)
			}
		})
	}
}

func TestGoneSubjectResolves(t *testing.T) {
	e := newEngine(t, nil)
	for s := 10; s <= 80; s += 10 {
		e.Observe(FromSet(src, window(s, 9, 10, 10), sec(s), false))
	}
	if n := e.Stats().Firing; n != 1 {
		t.Fatalf("%d series fire, want 1", n)
	}
	var got []Transition
	for s := 90; s <= 500; s += 10 { // another target lives on, the first was taken out
		got = append(got, e.Observe(FromSet(src, window(s, 8, 10, 0), sec(s), false))...)
		got = append(got, e.Tick(sec(s))...)
	}
	if b := brief(got); b != "packet-loss resolved (gone)" {
		t.Fatalf("got %q", b)
	}
}

func TestTextsAndEvidence(t *testing.T) {
	e := newEngine(t, nil)
	e.Observe(FromSet(src, pbxSet(0, telemetry.PBXAuthFailed, "wrong client secret"), sec(0), false))
	got := e.Observe(FromSet(src, pbxSet(30, telemetry.PBXAuthFailed, "wrong client secret"), sec(30), false))
	if len(got) != 1 || got[0].Title != "PBX refuses the agent's sign-in" ||
		got[0].Summary != "The PBX answers, but refuses the agent's credentials: wrong client secret." {
		t.Fatalf("got %+v", got)
	}
	if !got[0].Since.Equal(sec(0)) || !got[0].At.Equal(sec(30)) {
		t.Errorf("since %v at %v", got[0].Since, got[0].At)
	}
	set := trunkSet(40, false)
	set.Trunks[0].Host = ""
	set.Trunks[0].Name = "{number}[x]\r\nBcc: a@b" + strings.Repeat("\u202e<script>", 10000)
	tr := e.Observe(FromSet(src, set, sec(40), false))[0]
	if !strings.HasPrefix(tr.Summary, "Trunk {number}[x]  Bcc: a@b<script>") || !strings.Contains(tr.Summary, "… (10001) is not registered: calls") {
		t.Errorf("summary %q", tr.Summary)
	}
	if len(tr.Summary) > 300 || len(tr.Subject.Name) > maxName || strings.ContainsAny(tr.Summary, "\r\n\u202e") {
		t.Errorf("hostile name came through: %q", tr.Summary)
	}
	if tr.Evidence[1] != (Evidence{"Number", "10001"}) {
		t.Errorf("evidence %+v", tr.Evidence)
	}
}

func TestWrongClockShiftsNothing(t *testing.T) {
	set := window(100, 9, 10, 1) // by the agent's clock, three years off below
	for i := range set.ProbeWindows {
		set.ProbeWindows[i].Observed -= 3 * 365 * 86400_000
	}
	w := set.ProbeWindows[0]
	w.Observed -= 20_000
	set.ProbeWindows = append(set.ProbeWindows, w)
	obs := FromSet(src, set, sec(1000), false)
	if !obs[0].At.Equal(sec(1000)) || !obs[1].At.Equal(sec(980)) {
		t.Fatalf("placed at %v and %v", obs[0].At, obs[1].At)
	}
}

func TestRestart(t *testing.T) {
	store := &memory{}
	e := newEngine(t, store)
	play(t, e, []event{{at: 0, silent: -1, set: trunkSet(0, false), want: "trunk-unregistered firing"}})

	t.Run("does not repeat", func(t *testing.T) {
		e := newEngine(t, store)
		play(t, e, []event{{at: 100, silent: 0}, {at: 110, silent: -1, set: trunkSet(110, false)}, {at: 200, silent: -1}})
		if f := e.Firings(); len(f) != 1 || f[0].Summary == "" || !f[0].At.Equal(sec(0)) {
			t.Fatalf("firings %+v", f)
		}
	})
	t.Run("does not forget", func(t *testing.T) {
		e := newEngine(t, store)
		play(t, e, []event{
			{at: 100, silent: -1, set: trunkSet(100, true)},
			{at: 110, silent: -1, want: "trunk-unregistered resolved"},
		})
		if len(store.states) != 0 {
			t.Fatalf("states left in the store: %v", store.states)
		}
	})
	t.Run("an agent that stays silent does not look heard", func(t *testing.T) {
		store := &memory{}
		play(t, newEngine(t, store), []event{{at: 0, silent: 60, want: "agent-silent firing"}})
		e := newEngine(t, store)
		for s := range 200 { // the count of silence begins again at zero
			play(t, e, []event{{at: 1000 + s, silent: s}})
		}
	})
	t.Run("a rule that is gone resolves", func(t *testing.T) {
		store := &memory{states: map[Key]State{}}
		k := Key{Rule: "old-rule", Agent: 5, Kind: "pbx"}
		store.states[k] = State{Key: k, Source: src, Phase: Firing}
		e := newEngine(t, store)
		if b := brief(e.Tick(sec(1))); b != "old-rule resolved (rule gone)" || len(store.states) != 0 {
			t.Fatalf("got %q, states %v", b, store.states)
		}
	})
}

func TestStoreFailureDoesNotSilence(t *testing.T) {
	store := &memory{fail: true}
	e := newEngine(t, store)
	play(t, e, []event{{at: 0, silent: -1, set: trunkSet(0, false), want: "trunk-unregistered firing"}})
	store.fail = false
	e.Tick(sec(1))
	if len(store.states) != 1 || e.Stats().SaveErrors != 1 {
		t.Fatalf("states %v, errors %d", store.states, e.Stats().SaveErrors)
	}
	writes := store.writes
	e.Tick(sec(2))
	if store.writes != writes {
		t.Error("a tick without a change wrote to the store")
	}
}

func TestForgetAgent(t *testing.T) {
	e := newEngine(t, nil)
	play(t, e, []event{{at: 0, silent: -1, set: trunkSet(0, false), want: "trunk-unregistered firing"}})
	if b := brief(e.Forget(src.Agent)); b != "trunk-unregistered resolved (removed)" {
		t.Fatalf("got %q", b)
	}
	if st := e.Stats(); st.Series != 0 || st.Active != 0 {
		t.Fatalf("left over: %+v", st)
	}
}

func TestSeriesLimit(t *testing.T) {
	e := newEngine(t, nil)
	set := &telemetry.Set{}
	for i := range maxSeriesPerAgent + 7 {
		tr := trunkSet(0, false).Trunks[0]
		tr.ID = telemetry.ItemID(i + 1)
		set.Trunks = append(set.Trunks, tr)
	}
	got := e.Observe(FromSet(src, set, sec(0), false))
	if st := e.Stats(); len(got) != maxSeriesPerAgent || st.Refused != 7 || st.Series != maxSeriesPerAgent {
		t.Fatalf("%d transitions, %+v", len(got), st)
	}
	other := src
	other.Agent = 6
	if b := brief(e.Observe(FromSet(other, trunkSet(1, false), sec(1), false))); b != "trunk-unregistered firing" {
		t.Fatalf("one agent's flood silenced another: %q", b)
	}
}

func TestIdleSeriesAreSwept(t *testing.T) {
	e := newEngine(t, nil)
	for i := range 50 {
		e.Observe(FromSet(src, window(10, telemetry.ItemID(i+1), 10, 0), sec(10), false))
	}
	if n := e.Stats().Series; n != 50 {
		t.Fatalf("%d series", n)
	}
	e.Tick(sec(20))
	e.Tick(sec(10 + int(idleAfter/time.Second) + 70))
	if n := e.Stats().Series; n != 0 {
		t.Fatalf("%d series are kept for nothing", n)
	}
}

func TestConcurrentObserve(t *testing.T) {
	store := &memory{}
	e := newEngine(t, store)
	var wg sync.WaitGroup
	for a := range 8 {
		wg.Go(func() {
			s := src
			s.Agent = telemetry.AgentID(a + 1)
			for i := range 200 {
				e.Observe(FromSet(s, trunkSet(i, i%2 == 0), sec(i), false))
				if i%10 == 0 {
					e.Tick(sec(i))
					e.Snapshot()
				}
			}
		})
	}
	wg.Wait()
	firing := e.Firings()
	if len(store.states) != len(firing) {
		t.Fatalf("%d fire, %d are in the store", len(firing), len(store.states))
	}
}

func TestRuleMistakesAreListedTogether(t *testing.T) {
	_, err := New([]Rule{
		{ID: "a", DataSet: "nonsense", Severity: Critical},
		{ID: "b", DataSet: DataTrunk, Severity: "loud", Condition: []Test{{Field: "height", Op: Above}, {Field: "name", Op: Above}}, FireFor: -1},
		{ID: "c", DataSet: DataTrunk, Severity: Info, Condition: []Test{{Field: "kind", Op: In}}, Evidence: []Label{{"x", "X"}}},
		{ID: "d", DataSet: DataPBX, Severity: Info}, trunkUnregistered(), trunkUnregistered(),
	}, Deps{})
	for _, want := range []string{
		`data_set "nonsense" does not exist`, `severity "loud"`, `there is no field "height"`, "name is text and has no order",
		"a duration is negative", `"in" needs a text field and a list`, `field "x" is not in trunk_state`, "condition is empty", "exists twice",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no mention of %s in: %v", want, err)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("plain", 10)
	f.Add("a\r\nb\x00\u202e\xff", 20)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = 4 + (limit%500+500)%500
		got := clean(s, limit)
		if len(got) > limit || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r == '\u202e' }) {
			t.Fatalf("clean(%q, %d) = %q", s, limit, got)
		}
	})
}

func BenchmarkObserve(b *testing.B) {
	e := newEngine(b, nil)
	set := &telemetry.Set{}
	for i := range 10 {
		w := window(10, telemetry.ItemID(i+1), 10, 0)
		set.Targets = append(set.Targets, w.Targets...)
		set.ProbeWindows = append(set.ProbeWindows, w.ProbeWindows...)
		tr := trunkSet(10, true).Trunks[0]
		tr.ID = telemetry.ItemID(i + 1)
		set.Trunks = append(set.Trunks, tr)
		set.Services = append(set.Services, telemetry.Service{Observed: ms(10), ID: telemetry.ItemID(i + 1), Name: fmt.Sprint("s", i), Status: "Running"})
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		for i := range set.ProbeWindows {
			set.ProbeWindows[i].Observed += 10_000
		}
		e.Observe(FromSet(src, set, sec(10*n), false))
	}
	b.ReportMetric(30, "observations/op")
}
