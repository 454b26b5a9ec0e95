package telemetrydb_test

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/chengine/enginetest"
	"sidetone/collector/internal/telemetrydb"
	"sidetone/shared/telemetry"
)

func TestMain(m *testing.M) {
	enginetest.Child()
	goleak.VerifyTestMain(m)
}

// open gives a migrated database on a fresh embedded engine.
func open(t testing.TB) *telemetrydb.DB {
	t.Helper()
	s, _ := enginetest.Start(t, t.TempDir())
	db, err := telemetrydb.Open(context.Background(), telemetrydb.Config{Socket: s.Socket()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Migrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return db
}

func ptr[T any](v T) *T { return &v }

// fullSet has one row of each kind with every field set, observed at now.
func fullSet(now time.Time) *telemetry.Set {
	at := telemetry.MS(now.Truncate(time.Millisecond))
	id := telemetry.MakeItemID
	return &telemetry.Set{
		Targets: []telemetry.Target{{ID: id("target", "stamp", "x", "y"), Method: telemetry.MethodSTAMP, Name: "collector", Address: "192.0.2.1:862", IntervalMS: 1000}},
		ProbeWindows: []telemetry.ProbeWindow{{
			Target: id("target", "stamp", "x", "y"), Observed: at, LengthMS: 10000, Sent: 4, Received: 3, Lost: 1, Late: 1, Duplicated: 2, Reordered: 1,
			RTTUS: []uint32{1000, 0, 3000, 2000}, RTTMinUS: 1000, RTTP10US: 1000, RTTP50US: 2000, RTTP90US: 3000, RTTP99US: 3000, RTTMaxUS: 3000, RTTMeanUS: 2000,
			JitterUS: 120, IPDVP95US: 900, LossRunMax: 1, BurstRatioMilli: 1000, LostForward: ptr(uint32(1)), LostReverse: ptr(uint32(0)), Fault: "timeout", Detail: "it's \\ \t\n\"x\"",
		}},
		PBXStatuses: []telemetry.PBXStatus{{
			Observed: at, State: telemetry.PBXOK, Detail: "d", AnswerMS: 12, FQDN: "pbx.example", Version: "20.0", OS: "linux",
			CallsActive: ptr(uint32(0)), CallsMax: ptr(uint32(16)), CallsTalking: ptr(uint32(1)), CallsRinging: ptr(uint32(2)), CallsOther: nil, LongestCallS: ptr(uint32(77)),
			ExtensionsTotal: ptr(uint32(10)), ExtensionsRegistered: ptr(uint32(9)), TrunksTotal: ptr(uint32(2)), TrunksRegistered: ptr(uint32(1)),
			ServicesNotRunning: ptr(true), SystemExtensionsUnregistered: ptr(false), DiskUsedPercent: ptr(uint32(40)), DiskFreeBytes: ptr(uint64(1) << 40), DiskTotalBytes: ptr(uint64(1) << 41),
			RecordingUsedBytes: ptr(uint64(5)), RecordingQuotaBytes: ptr(uint64(6)), BackupScheduled: ptr(true), LastBackup: at - 5000, AutoUpdate: ptr(false), AuditLog: nil, LocalIPValid: ptr(true), ClockOffsetMS: ptr(int64(-1500)),
		}},
		Trunks: []telemetry.Trunk{{Observed: at, ID: id("trunk", "10001"), Number: "10001", Name: "Zürich – <b>", Host: "sip.example", Kind: "provider", Template: "tpl",
			Registered: true, RegistrationNeeded: true, FailCode: "403", ConfigurationIssue: true, ChannelsMax: ptr(uint32(8)), CallsActive: nil}},
		SBCs:         []telemetry.SBC{{Observed: at, ID: id("sbc", "s"), Name: "s", Connected: true, Version: "1", LatencyMS: ptr(uint32(3)), CallsActive: ptr(uint32(1)), PhonesRegistered: ptr(uint32(4)), UDPActive: ptr(false), ConnectedS: ptr(uint64(99))}},
		Services:     []telemetry.Service{{Observed: at, ID: id("service", "q"), Name: "q", Title: "Queue", Status: "Running", MemoryBytes: ptr(uint64(1e9)), Threads: ptr(uint32(7)), Handles: nil}},
		Extensions:   []telemetry.ExtensionSummary{{Observed: at, Total: 10, Enabled: 9, Registered: 8, QueueLoggedIn: 3, SystemTotal: ptr(uint32(5)), SystemUnregistered: ptr(uint32(0))}},
		Backups:      []telemetry.Backup{{Observed: at, Count: 3, Newest: at - 86400000, NewestSizeBytes: 100, TotalSizeBytes: 300, ScheduleEnabled: ptr(true), Encrypted: nil, Repository: "Local", KeptCopies: ptr(uint32(5))}},
		Licences:     []telemetry.Licence{{Observed: at, ProductCode: "3CXPSPROF", Active: ptr(true), Expires: at + 86400000, MaintenanceExpires: 0, CallsMax: ptr(uint32(16)), Support: ptr(false)}},
		EventLog:     []telemetry.EventLogEntry{{Observed: at, EntryID: -3, EventID: 12, Severity: "Error", Source: "Phone System"}},
		StateChanges: []telemetry.StateChange{{Observed: at, Subject: telemetry.SubjectTrunk, Item: id("trunk", "10001"), Name: "t", From: "registered", To: "unregistered", Detail: "403"}},
		AgentHealth:  []telemetry.AgentHealth{{Observed: at, UptimeS: 5, RSSBytes: 6, CPUMS: 7, Goroutines: 8, SpoolRecords: 9, SpoolBytes: 10, SpoolOldestMS: 11, SpoolDegraded: true, DroppedTotal: 12, ProbeOverrunTotal: 13, Load1Milli: 1400, MemoryFreeBytes: 15, DiskFreeBytes: 16, Version: "v1"}},
		LinkEvents:   []telemetry.LinkEvent{{Observed: at, Event: "up", Transport: "quic", Collector: "c:443", Reason: "start"}},
		Gaps:         []telemetry.Gap{{Observed: at, Epoch: 3, From: 10, To: 19, Reason: telemetry.GapEvicted}},
	}
}

var source = telemetry.Source{Tenant: 1, Customer: 2, Site: 3, PBX: 4, Agent: 5}

func insert(t testing.TB, db *telemetrydb.DB, b *telemetrydb.Blocks, token string) {
	t.Helper()
	for _, blk := range b.Blocks() {
		if err := db.InsertBlock(context.Background(), blk, token+blk.Table+blk.Salt); err != nil {
			t.Fatalf("%s: %v", blk.Table, err)
		}
	}
	b.Stored()
}

func one(t testing.TB, db *telemetrydb.DB, sql string) string {
	t.Helper()
	var b bytes.Buffer
	r, err := db.Query(context.Background(), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	defer r.Close()
	if err := telemetrydb.WriteResult(&b, "TSV", r); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return strings.TrimSpace(b.String())
}

// TestContract is what every engine with the whole schema must do.
func TestContract(t *testing.T) {
	db := open(t)
	now := time.Now()
	set := fullSet(now)
	known := telemetrydb.NewKnown()
	b := telemetrydb.NewBlocks(known)
	b.Add(source, 7, 1, now, set)
	if b.Rows() != set.Len() {
		t.Errorf("blocks count %d rows, the set has %d", b.Rows(), set.Len())
	}
	insert(t, db, b, "a")
	if err := db.PutAgents(t.Context(), []telemetrydb.AgentDim{{Source: source, Tenant: "T", Customer: "C", Site: "S", PBX: "P", PBXFQDN: "pbx.example", Hostname: "host", OS: "linux", Arch: "amd64", Version: "v1"}}); err != nil {
		t.Fatal(err)
	}

	t.Run("migrate again", func(t *testing.T) {
		if err := db.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("what went in comes out", func(t *testing.T) {
		seeds, err := db.Latest(t.Context(), authz.System())
		if err != nil {
			t.Fatal(err)
		}
		if len(seeds) != 1 || seeds[0].Source != source {
			t.Fatalf("seeds: %+v", seeds)
		}
		want := *set
		want.EventLog, want.StateChanges, want.LinkEvents, want.Gaps = nil, nil, nil, nil // not a state
		if !reflect.DeepEqual(seeds[0].Set, &want) {
			t.Errorf("got  %+v\nwant %+v", seeds[0].Set, &want)
		}
	})
	t.Run("changes", func(t *testing.T) {
		got, err := db.Changes(t.Context(), authz.System(), 3, 50)
		if err != nil || len(got) != 1 || got[0].StateChange != set.StateChanges[0] || got[0].Source != source {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("scope", func(t *testing.T) {
		for name, tc := range map[string]struct {
			scope authz.Scope
			want  int
		}{"own tenant": {authz.Tenants(1), 1}, "both": {authz.Tenants(9, 1), 1}, "other tenant": {authz.Tenants(9), 0}, "none": {authz.Scope{}, 0}, "all": {authz.System(), 1}} {
			seeds, err := db.Latest(t.Context(), tc.scope)
			changes, err2 := db.Changes(t.Context(), tc.scope, 3, 10)
			s, err3 := db.Series(t.Context(), tc.scope, telemetrydb.SeriesQuery{Agent: 5, Item: set.Targets[0].ID, From: now.Add(-time.Minute), To: now.Add(time.Minute)})
			if err != nil || err2 != nil || err3 != nil {
				t.Fatal(err, err2, err3)
			}
			if len(seeds) != tc.want || len(changes) != tc.want || s.SentTotal != uint64(4*tc.want) {
				t.Errorf("%s: %d seeds, %d changes, %d sent; want %d of each", name, len(seeds), len(changes), s.SentTotal, tc.want)
			}
		}
	})
	t.Run("exact views", func(t *testing.T) {
		// the same record in another batch, as after a restart of the collector
		b := telemetrydb.NewBlocks(known)
		b.Add(source, 7, 1, now.Add(time.Second), set)
		insert(t, db, b, "b")
		for _, v := range []string{"probe_window", "pbx_status", "trunk_state", "sbc_state", "service_state", "extension_summary",
			"backup", "licence", "event_log", "state_change", "agent_health", "link_event", "gap"} {
			if got := one(t, db, "SELECT count(), any(agent), any(tenant), any(site), any(customer), any(pbx) FROM sidetone."+v); got != "1\thost\tT\tS\tC\tP" {
				t.Errorf("%s: %s", v, got)
			}
		}
		for sql, want := range map[string]string{
			"SELECT target, method, address, loss_ratio, rtt_p50_us, burst_ratio, lost_forward FROM sidetone.probe_window": "collector\tstamp\t192.0.2.1:862\t0.25\t2000\t1\t1",
			"SELECT trunk, number, host, kind, registered, channels_max, calls_active FROM sidetone.trunk_state":           "Zürich – <b>\t10001\tsip.example\tprovider\ttrue\t8\t\\N",
			"SELECT service, title, status FROM sidetone.service_state":                                                    "q\tQueue\tRunning",
			"SELECT sbc FROM sidetone.sbc_state":                                                                           "s",
			"SELECT gap_epoch, from_seq, to_seq, records, reason FROM sidetone.gap":                                        "3\t10\t19\t10\tevicted",
			"SELECT target, tenant FROM sidetone.target":                                                                   "collector\tT",
			"SELECT site, agents FROM sidetone.site":                                                                       "S\t1",
			"SELECT tenant, sites FROM sidetone.tenant":                                                                    "T\t1",
			"SELECT agent, pbx_fqdn FROM sidetone.agent":                                                                   "host\tpbx.example",
			"SELECT count() FROM sidetone.item_raw":                                                                        "4",
		} {
			if got := one(t, db, sql); got != want {
				t.Errorf("%s\n got %q\nwant %q", sql, got, want)
			}
		}
	})
	t.Run("incidents", func(t *testing.T) {
		row := telemetrydb.IncidentRow{ID: 4, Source: source, Rule: "trunk", Title: "Trunk", Severity: "critical", Subject: "10001", State: "open", Summary: "s", Opened: now}
		for _, state := range []string{"open", "resolved"} {
			row.State = state
			if state == "resolved" {
				row.Resolved = now.Add(90 * time.Second)
			}
			if err := db.PutIncidents(t.Context(), []telemetrydb.IncidentRow{row}); err != nil {
				t.Fatal(err)
			}
			<-time.After(3 * time.Millisecond) // the newest row counts, and its clock has milliseconds
		}
		if got := one(t, db, "SELECT incident_id, state, duration_s, site FROM sidetone.incident"); got != "4\tresolved\t90\tS" {
			t.Error(got)
		}
	})
}

func TestClockFlag(t *testing.T) {
	db := open(t)
	now := time.Now()
	b := telemetrydb.NewBlocks(telemetrydb.NewKnown())
	for i, at := range []time.Time{now, now.Add(-29 * 24 * time.Hour), now.Add(-31 * 24 * time.Hour), now.Add(25 * time.Hour), time.UnixMilli(1 << 60), time.UnixMilli(-5)} {
		b.Add(source, 1, uint64(i), now, &telemetry.Set{LinkEvents: []telemetry.LinkEvent{{Observed: telemetry.MS(at), Event: fmt.Sprint(i)}},
			AgentHealth: []telemetry.AgentHealth{{Observed: telemetry.MS(at)}}})
	}
	insert(t, db, b, "x")
	if got := one(t, db, "SELECT arrayStringConcat(arraySort(groupArrayIf(event, clock_flag)), ','), uniqExactIf(day, clock_flag), minIf(day, clock_flag) FROM sidetone.link_event"); got != "2,3,4,5\t1\t1970-01-01" {
		t.Error(got)
	}
	if got := one(t, db, "SELECT uniqExact(partition) FROM system.parts WHERE active AND table = 'agent_health_raw'"); got != "3" {
		t.Errorf("partitions: %s", got)
	}
	if _, err := db.Query(t.Context(), "OPTIMIZE TABLE sidetone.link_event_raw FINAL"); err == nil {
		t.Error("a reader may optimise")
	}
	if got := one(t, db, "SELECT count() FROM sidetone.link_event"); got != "6" {
		t.Errorf("the quarantine's rows are gone: %s", got)
	}
}

func TestSeries(t *testing.T) {
	db := open(t)
	start := time.Now().Add(-time.Hour).Truncate(time.Minute)
	target := telemetry.MakeItemID("target", "icmp", "a", "b")
	b := telemetrydb.NewBlocks(telemetrydb.NewKnown())
	for i := range uint64(30) { // five minutes of windows, the third minute is missing
		if i/6 == 2 {
			continue
		}
		w := telemetry.ProbeWindow{Target: target, Observed: telemetry.MS(start.Add(time.Duration(i) * 10 * time.Second)), LengthMS: 10000, Sent: 2, Received: 2,
			RTTUS: []uint32{uint32(1000 + i), uint32(3000 + i)}, RTTMinUS: uint32(1000 + i), RTTP10US: uint32(1000 + i), RTTP50US: uint32(2000 + i), RTTP90US: uint32(3000 + i), RTTMaxUS: uint32(3000 + i), JitterUS: 10}
		if i/6 == 3 { // the fourth minute lost everything
			w.Received, w.Lost, w.RTTUS, w.RTTMinUS, w.RTTP10US, w.RTTP50US, w.RTTP90US, w.RTTMaxUS, w.JitterUS = 0, 2, []uint32{0, 0}, 0, 0, 0, 0, 0, 0
		}
		b.Add(source, 1, i, time.Now(), &telemetry.Set{ProbeWindows: []telemetry.ProbeWindow{w}})
		if i%2 == 0 {
			b.Add(source, 1, i, time.Now(), &telemetry.Set{ProbeWindows: []telemetry.ProbeWindow{w}}) // a duplicate must not count
		}
	}
	insert(t, db, b, "x")
	q := telemetrydb.SeriesQuery{Site: 3, Agent: 5, Item: target, From: start, To: start.Add(5 * time.Minute), Step: time.Minute}
	s, err := db.Series(t.Context(), authz.Tenants(1), q)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.T) != 5 || s.StepMS != 60000 || s.T[1]-s.T[0] != 60000 || !s.ExactStats {
		t.Fatalf("grid: %+v", s)
	}
	for _, c := range []struct {
		name string
		got  []*uint32
		want string
	}{
		{"sent", s.Sent, "[12 12 - 12 12]"},
		{"min", s.RTTMinUS, "[1000 1006 - - 1024]"},
		{"p10", s.RTTP10US, "[1001 1007 - - 1025]"},
		{"max", s.RTTMaxUS, "[3005 3011 - - 3029]"},
		{"jitter", s.JitterUS, "[10 10 - - 10]"},
	} {
		if got := show(c.got); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if s.LossRatio[0] == nil || *s.LossRatio[0] != 0 || s.LossRatio[2] != nil || s.LossRatio[3] == nil || *s.LossRatio[3] != 1 {
		t.Errorf("loss %v", s.LossRatio)
	}
	if s.SentTotal != 48 || s.LostTotal != 12 {
		t.Errorf("totals %d, %d", s.SentTotal, s.LostTotal)
	}
	// a long range picks its own step and medians of medians
	s, err = db.Series(t.Context(), authz.Tenants(1), telemetrydb.SeriesQuery{Item: target, From: start.Add(-20 * 24 * time.Hour), To: start.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.T) > telemetrydb.MaxPoints || s.ExactStats || s.SentTotal != 48 {
		t.Errorf("long range: %d points, %d sent", len(s.T), s.SentTotal)
	}
	for name, q := range map[string]telemetrydb.SeriesQuery{
		"no target": {From: start, To: start.Add(time.Hour)}, "backwards": {Item: 1, From: start, To: start}, "too long": {Item: 1, From: start.AddDate(-2, 0, 0), To: start},
	} {
		if _, err := db.Series(t.Context(), authz.System(), q); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func show(v []*uint32) string {
	var out []string
	for _, p := range v {
		if p == nil {
			out = append(out, "-")
		} else {
			out = append(out, fmt.Sprint(*p))
		}
	}
	return "[" + strings.Join(out, " ") + "]"
}
