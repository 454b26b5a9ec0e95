package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"sidetone/shared/telemetry"
)

var update = flag.Bool("update", false, "write the golden files that are missing")

func u32(v uint32) *uint32 { return &v }

// example has every kind of row; it never changes, because testdata holds its bytes.
func example() *telemetry.Set {
	yes, free, offset := true, uint64(7<<30), int64(-1500)
	icmp := telemetry.Target{ID: telemetry.MakeItemID("target", "icmp", "192.0.2.1", "gateway"), Method: telemetry.MethodICMP, Name: "gateway", Address: "192.0.2.1", IntervalMS: 1000}
	stamp := telemetry.Target{ID: telemetry.MakeItemID("target", "stamp", "collector", "collector"), Method: telemetry.MethodSTAMP, Name: "collector", Address: "collector"}
	return &telemetry.Set{
		Targets: []telemetry.Target{icmp, stamp},
		ProbeWindows: []telemetry.ProbeWindow{
			{Target: icmp.ID, Observed: 1795392000000, LengthMS: 10000, Sent: 5, Received: 4, Lost: 1, Late: 1, Duplicated: 2, Reordered: 1,
				RTTUS: []uint32{900, 0, 950, 1200, 870}, RTTMinUS: 870, RTTP10US: 870, RTTP50US: 925, RTTP90US: 1100, RTTP99US: 1190, RTTMaxUS: 1200, RTTMeanUS: 980,
				JitterUS: 120, IPDVP95US: 300, LossRunMax: 1, BurstRatioMilli: 1000, Fault: "timeout"},
			{Target: stamp.ID, Observed: 1795392000100, LengthMS: 10000, Sent: 3, Lost: 3, RTTUS: []uint32{0, 0, 0}, LossRunMax: 3,
				LostForward: u32(3), LostReverse: u32(0), Fault: "unreachable", Detail: "no route to host"},
		},
		PBXStatuses: []telemetry.PBXStatus{{Observed: 1795392001000, State: telemetry.PBXOK, AnswerMS: 42, FQDN: "pbx.example.net", Version: "20.0.7", OS: "linux",
			CallsActive: u32(0), CallsMax: u32(32), DiskFreeBytes: &free, ServicesNotRunning: &yes, ClockOffsetMS: &offset}},
		Trunks:       []telemetry.Trunk{{Observed: 1795392001000, ID: 9, Number: "10000", Name: "Träger «Ost»", Host: "sip.example.net", Kind: "provider", Registered: true, RegistrationNeeded: true, ChannelsMax: u32(8)}},
		SBCs:         []telemetry.SBC{{Observed: 1795392001000, ID: 10, Name: "branch", Connected: true, LatencyMS: u32(12)}},
		Services:     []telemetry.Service{{Observed: 1795392001000, ID: 11, Name: "3CXQueue", Title: "Queue", Status: "Running", Threads: u32(40)}},
		Extensions:   []telemetry.ExtensionSummary{{Observed: 1795392001000, Total: 50, Enabled: 49, Registered: 44, QueueLoggedIn: 12, SystemTotal: u32(9)}},
		Backups:      []telemetry.Backup{{Observed: 1795392001000, Count: 3, Newest: 1795300000000, NewestSizeBytes: 1 << 33, ScheduleEnabled: &yes, Repository: "Sftp"}},
		Licences:     []telemetry.Licence{{Observed: 1795392001000, ProductCode: "3CXENT", Active: &yes, Expires: 1800000000000, CallsMax: u32(32)}},
		EventLog:     []telemetry.EventLogEntry{{Observed: 1795392000500, EntryID: -1, EventID: 4100, Severity: "Warning", Source: "3CX"}},
		StateChanges: []telemetry.StateChange{{Observed: 1795392001000, Subject: telemetry.SubjectTrunk, Item: 9, Name: "Träger «Ost»", From: "registered", To: "unregistered", Detail: "503"}},
		AgentHealth:  []telemetry.AgentHealth{{Observed: 1795392001000, UptimeS: 3600, RSSBytes: 40 << 20, CPUMS: 1234, Goroutines: 40, SpoolRecords: 12, SpoolDegraded: true, Version: "dev"}},
		LinkEvents:   []telemetry.LinkEvent{{Observed: 1795392001000, Event: "up", Transport: "quic", Collector: "192.0.2.9:443"}},
		Gaps:         []telemetry.Gap{{Observed: 1795392001000, Epoch: 3, From: 10, To: 12, Reason: telemetry.GapEvicted}},
	}
}

func roundTrip(t interface{ Fatalf(string, ...any) }, set *telemetry.Set) *telemetry.Set {
	p, err := EncodePayload(set)
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	got, err := DecodePayload(p)
	if err != nil {
		t.Fatalf("decode: %v", err)
	}
	return got
}

func TestPayloadRoundTrip(t *testing.T) {
	for name, set := range map[string]*telemetry.Set{
		"every kind":   example(),
		"nothing":      {},
		"only targets": {Targets: []telemetry.Target{{ID: 1, Name: "a"}}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := roundTrip(t, set); !reflect.DeepEqual(got, set) {
				t.Errorf("got  %+v\nwant %+v", got, set)
			}
		})
	}
}

// TestExampleIsFull keeps the example, and so the golden file, honest: every row type
// of Set is in it.
func TestExampleIsFull(t *testing.T) {
	v := reflect.ValueOf(*example())
	for i := range v.NumField() {
		if v.Field(i).Len() == 0 {
			t.Errorf("the example has no %s", v.Type().Field(i).Name)
		}
	}
}

func TestPayloadGolden(t *testing.T) {
	for name, encode := range map[string]func(*telemetry.Set) ([]byte, error){"payload-1.bin": encode1, "payload-2.bin": EncodePayload} {
		path := filepath.Join("testdata", name)
		golden(t, path, func() ([]byte, error) { return encode(example()) })
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodePayload(b)
		if err != nil {
			t.Fatalf("%s must always be readable: %v", name, err)
		}
		if !reflect.DeepEqual(got, example()) {
			t.Errorf("%s reads as %+v", name, got)
		}
	}
}

// golden writes a missing golden file; one that exists is never written again,
// because agents in the field hold such bytes in their spools.
func golden(t *testing.T, path string, make func() ([]byte, error)) {
	t.Helper()
	if _, err := os.Stat(path); !*update || err == nil {
		return
	}
	b, err := make()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestEachTextKnowsAllFields fails when a text field is added to a row and not to eachText.
func TestEachTextKnowsAllFields(t *testing.T) {
	var set telemetry.Set
	want := 0
	v := reflect.ValueOf(&set).Elem()
	for i := range v.NumField() {
		f := v.Field(i)
		f.Set(reflect.MakeSlice(f.Type(), 1, 1))
		for j := range f.Index(0).NumField() {
			if f.Index(0).Field(j).Kind() == reflect.String {
				want++
			}
		}
	}
	seen := map[*string]bool{}
	eachText(&set, func(s *string) bool { seen[s] = true; return true })
	if len(seen) != want {
		t.Errorf("eachText sees %d of %d texts", len(seen), want)
	}
}

func TestEncodeCutsTexts(t *testing.T) {
	long := strings.Repeat("ü", MaxText)
	set := &telemetry.Set{
		Trunks:     []telemetry.Trunk{{Name: long, Host: "bad\xff\xfeutf8"}},
		Extensions: []telemetry.ExtensionSummary{{Total: 1}},
	}
	got := roundTrip(t, set)
	name := got.Trunks[0].Name
	if len(name) > MaxText || len(name) < MaxText-1 || !strings.HasPrefix(long, name) || !utf8.ValidString(name) {
		t.Errorf("name of %d bytes was cut to %d", len(long), len(name))
	}
	if host := got.Trunks[0].Host; !utf8.ValidString(host) || !strings.HasPrefix(host, "bad") {
		t.Errorf("host = %q", host)
	}
	if set.Trunks[0].Name != long {
		t.Error("the caller's set was changed")
	}
	if len(got.Extensions) != 1 {
		t.Error("rows without texts were lost")
	}
}

func TestWindowWithoutItsTarget(t *testing.T) {
	got := roundTrip(t, &telemetry.Set{ProbeWindows: []telemetry.ProbeWindow{{Target: 5, Sent: 1}, {Target: 5, Sent: 2}}})
	if len(got.ProbeWindows) != 2 || got.ProbeWindows[1].Target != 5 || len(got.Targets) != 1 || got.Targets[0].ID != 5 {
		t.Errorf("got %+v", got)
	}
}

func TestEncodeLimits(t *testing.T) {
	windows := func(n, attempts int) *telemetry.Set {
		s := &telemetry.Set{Targets: []telemetry.Target{{ID: 1}}}
		for range n {
			s.ProbeWindows = append(s.ProbeWindows, telemetry.ProbeWindow{Target: 1, RTTUS: make([]uint32, attempts)})
		}
		return s
	}
	cases := []struct {
		name string
		set  *telemetry.Set
		fits bool
	}{
		{"rows at the limit", windows(MaxRows, 1), true},
		{"rows over it", windows(MaxRows+1, 1), false},
		{"attempts of a window at the limit", windows(1, MaxWindowRTTs), true},
		{"attempts of a window over it", windows(1, MaxWindowRTTs+1), false},
		{"attempts at the limit", windows(100, 1000), true},
		{"attempts over it", windows(101, 1000), false},
		{"targets over the limit", &telemetry.Set{Targets: make([]telemetry.Target, MaxRows+1)}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p, err := EncodePayload(c.set)
			var large *TooLargeError
			if c.fits {
				if err != nil {
					t.Fatal(err)
				}
				if _, err := DecodePayload(p); err != nil {
					t.Errorf("what was encoded cannot be read: %v", err)
				}
			} else if !errors.As(err, &large) {
				t.Errorf("err = %v; want TooLargeError", err)
			}
		})
	}
}

// compress makes a payload of schema 1 out of any bytes.
func compress(raw []byte) []byte {
	return plain().EncodeAll(raw, []byte{1})
}

// encoded is a payload of schema 1 with this CBOR body.
func encoded(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := encMode.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return compress(raw)
}

func TestDecodeRefuses(t *testing.T) {
	target := []telemetry.Target{{ID: 1}}
	probes := func(edit func(*probeColumns)) []byte {
		p := &probeColumns{Rows: 2, Target: []byte{0, 0}, Attempts: []byte{1, 1}, RTT: []byte{1, 1}, Min: []byte{5, 5}}
		edit(p)
		return encoded(t, body{Targets: target, Probes: p})
	}
	if _, err := DecodePayload(probes(func(*probeColumns) {})); err != nil {
		t.Fatalf("the table's base must be sound: %v", err)
	}
	bomb, _ := zstd.NewWriter(nil)
	huge := binary.AppendUvarint(nil, 1<<33)
	deep := append(bytes.Repeat([]byte{0x81}, 40), 0)
	cases := map[string][]byte{
		"empty":              {},
		"only the schema":    {1},
		"schema 0":           append([]byte{0}, compress([]byte{0xa0})[1:]...),
		"not zstd":           []byte("\x01hello"),
		"cut off":            probes(func(*probeColumns) {})[:20],
		"too long":           make([]byte, MaxPayload+1),
		"bomb":               bomb.EncodeAll(make([]byte, 64<<20), []byte{1}),
		"just over the size": bomb.EncodeAll(make([]byte, MaxDecoded+1), []byte{1}),
		"not a map":          compress([]byte{0x01}),
		"bytes behind":       compress([]byte{0xa0, 0xa0}),
		"deep nesting":       compress(append([]byte{0xa1, 0x18, 99}, deep...)),
		"duplicate key":      compress([]byte{0xa2, 0x01, 0x80, 0x01, 0x80}),
		"indefinite map":     compress([]byte{0xbf, 0xff}),
		"indefinite array":   compress([]byte{0xa1, 0x01, 0x9f, 0xff}),
		"tag":                compress([]byte{0xc1, 0xa0}),
		"wrong type":         compress([]byte{0xa1, 0x01, 0x63, 'a', 'b', 'c'}),
		"NaN":                compress([]byte{0xa1, 0x18, 99, 0xf9, 0x7e, 0x00}),
		"not UTF-8":          compress([]byte{0xa1, 0x01, 0x81, 0xa1, 0x03, 0x61, 0xff}),
		"array of 10,001":    encoded(t, body{Targets: make([]telemetry.Target, MaxRows+1)}),
		"12,000 rows":        encoded(t, body{Gaps: make([]telemetry.Gap, 6000), SBCs: make([]telemetry.SBC, 6000)}),
		"length of 4 GB":     compress([]byte{0xa1, 0x01, 0x9a, 0xff, 0xff, 0xff, 0xff}),
		"long text":          encoded(t, body{Trunks: []telemetry.Trunk{{Name: strings.Repeat("a", MaxText+1)}}}),
		"long detail":        probes(func(p *probeColumns) { p.Detail = []string{"", strings.Repeat("a", MaxText+1)} }),
		"no rows":            probes(func(p *probeColumns) { p.Rows = 0 }),
		"4,000,000,000 rows": probes(func(p *probeColumns) { p.Rows = 4e9 }),
		"column too short":   probes(func(p *probeColumns) { p.Sent = []byte{1} }),
		"column too long":    probes(func(p *probeColumns) { p.Sent = []byte{1, 2, 3} }),
		"varint cut":         probes(func(p *probeColumns) { p.Sent = []byte{1, 0x80} }),
		"varint of 11 bytes": probes(func(p *probeColumns) { p.Sent = append(bytes.Repeat([]byte{0xff}, 11), 1) }),
		"number of 34 bits":  probes(func(p *probeColumns) { p.Sent = append([]byte{0}, huge...) }),
		"optional too large": probes(func(p *probeColumns) { p.LostForward = append([]byte{0}, huge...) }),
		"target not listed":  probes(func(p *probeColumns) { p.Target = []byte{0, 1} }),
		"no targets":         probes(func(p *probeColumns) { p.Target = binary.AppendUvarint([]byte{0}, 1<<63) }),
		"RTTs missing":       probes(func(p *probeColumns) { p.RTT = []byte{1} }),
		"no RTTs at all":     probes(func(p *probeColumns) { p.RTT = nil }),
		"RTTs left over":     probes(func(p *probeColumns) { p.RTT = []byte{1, 1, 1} }),
		"RTT of zero":        probes(func(p *probeColumns) { p.RTT = []byte{1 + 9, 1} }), // 5 - 5
		"RTT below zero":     probes(func(p *probeColumns) { p.RTT = []byte{1 + 13, 1} }),
		"RTT far below zero": probes(func(p *probeColumns) { p.RTT = append(binary.AppendUvarint(nil, 1<<64-1), 1) }),
		"1,001 attempts":     probes(func(p *probeColumns) { p.Attempts = []byte{0xe9, 0x07, 0} }),
		"percentile too big": probes(func(p *probeColumns) { p.P10 = append([]byte{0}, huge...) }),
		"one fault of two":   probes(func(p *probeColumns) { p.Fault = []string{"timeout"} }),
	}
	for name, p := range cases {
		t.Run(name, func(t *testing.T) {
			set, err := DecodePayload(p)
			var mal *MalformedError
			if !errors.As(err, &mal) {
				t.Fatalf("DecodePayload = %v, %v; want MalformedError", set, err)
			}
		})
	}
}

func TestNewerSchema(t *testing.T) {
	var newer *SchemaError
	if _, err := DecodePayload([]byte{Schema + 1, 1, 2, 3}); !errors.As(err, &newer) || newer.Schema != Schema+1 {
		t.Errorf("err = %v; want SchemaError", err)
	}
}

func TestUnknownFieldsAreIgnored(t *testing.T) {
	p := encoded(t, map[int]any{
		1:  []any{map[int]any{1: 7, 2: "icmp", 3: "n", 4: "a", 99: "later"}},
		14: []any{map[int]any{1: 5, 2: 1, 3: 2, 4: 3, 5: "evicted", 77: []int{1, 2}}},
		99: map[string]any{"later": true},
	})
	got, err := DecodePayload(p)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Targets) != 1 || got.Targets[0].ID != 7 || len(got.Gaps) != 1 || got.Gaps[0].To != 3 {
		t.Errorf("got %+v", got)
	}
}

func TestPayloadProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := genSet(t)
		if got := roundTrip(t, set); !reflect.DeepEqual(got, set) {
			t.Fatalf("got  %+v\nwant %+v", got, set)
		}
	})
}

func genSet(t *rapid.T) *telemetry.Set {
	set := &telemetry.Set{}
	n := rapid.IntRange(0, 5).Draw(t, "targets")
	for i := range n {
		set.Targets = append(set.Targets, telemetry.Target{ID: telemetry.ItemID(rapid.Uint64().Draw(t, "id")/8*8 + uint64(i)),
			Method: telemetry.MethodICMP, Name: rapid.StringN(0, 20, MaxText).Draw(t, "name"), Address: "a"})
	}
	u := rapid.Uint32()
	for range rapid.IntRange(0, min(n, 1)*20).Draw(t, "windows") {
		w := telemetry.ProbeWindow{
			Target:   set.Targets[rapid.IntRange(0, n-1).Draw(t, "target")].ID,
			Observed: telemetry.UnixMS(rapid.Int64().Draw(t, "observed")), LengthMS: u.Draw(t, "length"),
			Sent: u.Draw(t, "sent"), Received: u.Draw(t, "received"), Lost: u.Draw(t, "lost"), Late: u.Draw(t, "late"),
			Duplicated: u.Draw(t, "duplicated"), Reordered: u.Draw(t, "reordered"),
			RTTMinUS: u.Draw(t, "min"), RTTP10US: u.Draw(t, "p10"), RTTP50US: u.Draw(t, "p50"), RTTP90US: u.Draw(t, "p90"),
			RTTP99US: u.Draw(t, "p99"), RTTMaxUS: u.Draw(t, "max"), RTTMeanUS: u.Draw(t, "mean"),
			JitterUS: u.Draw(t, "jitter"), IPDVP95US: u.Draw(t, "ipdv"), LossRunMax: u.Draw(t, "run"), BurstRatioMilli: u.Draw(t, "burst"),
			Fault: rapid.SampledFrom([]string{"", "timeout"}).Draw(t, "fault"), Detail: rapid.StringN(0, 10, 200).Draw(t, "detail"),
		}
		if rtts := rapid.SliceOfN(u, 0, 30).Draw(t, "rtts"); len(rtts) > 0 {
			w.RTTUS = rtts
		}
		if rapid.Bool().Draw(t, "known") {
			w.LostForward, w.LostReverse = u32(u.Draw(t, "forward")), u32(u.Draw(t, "reverse"))
		}
		set.ProbeWindows = append(set.ProbeWindows, w)
	}
	for range rapid.IntRange(0, 3).Draw(t, "gaps") {
		set.Gaps = append(set.Gaps, telemetry.Gap{Epoch: rapid.Uint64().Draw(t, "epoch"), From: rapid.Uint64().Draw(t, "from"), Reason: "damaged"})
	}
	return set
}

func FuzzDecodePayload(f *testing.F) {
	p, err := EncodePayload(example())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p)
	f.Add([]byte{Schema})
	for _, name := range []string{"payload-1.bin", "payload-2.bin"} {
		if p, err = os.ReadFile(filepath.Join("testdata", name)); err != nil {
			f.Fatal(err)
		}
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p []byte) { decodeAgain(t, p) })
}

// FuzzDecodeBody fuzzes what is inside the compression, which a mutated zstd frame
// seldom reaches.
func FuzzDecodeBody(f *testing.F) {
	p, err := encode1(example())
	if err != nil {
		f.Fatal(err)
	}
	raw, err := decompressor().DecodeAll(p[1:], nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, raw []byte) { decodeAgain(t, compress(raw)) })
}

// decodeAgain: what decodes must encode again, and then read the same.
func decodeAgain(t *testing.T, p []byte) {
	set, err := DecodePayload(p)
	if err != nil {
		return
	}
	again, err := EncodePayload(set)
	if err != nil {
		t.Fatalf("what was read cannot be written: %v", err)
	}
	got, err := DecodePayload(again)
	if err != nil {
		t.Fatalf("what was written cannot be read: %v", err)
	}
	if got.Len() != set.Len() {
		t.Fatalf("%d rows became %d", set.Len(), got.Len())
	}
}

// typical is what an agent with n targets measures in some windows of ten seconds.
func typical(n, windows int) *telemetry.Set {
	set := &telemetry.Set{}
	rnd := uint32(1)
	next := func(m uint32) uint32 { rnd = rnd*1664525 + 1013904223; return (rnd >> 8) % m }
	for i := range n {
		set.Targets = append(set.Targets, telemetry.Target{ID: telemetry.MakeItemID("target", string(rune('a'+i))), Method: telemetry.MethodICMP, Name: "target " + string(rune('a'+i)), Address: "192.0.2.1", IntervalMS: 1000})
	}
	for k := range windows {
		for i := range n {
			base := uint32(8000 + 3000*i)
			w := telemetry.ProbeWindow{Target: set.Targets[i].ID, Observed: telemetry.UnixMS(1795392000000 + 10000*k + i), LengthMS: 10000, Sent: 10, Received: 10,
				RTTMinUS: base, RTTP10US: base + next(100), RTTP50US: base + 300 + next(200), RTTP90US: base + 700 + next(300), RTTP99US: base + 1100, RTTMaxUS: base + 1200, RTTMeanUS: base + 400 + next(200), JitterUS: 200 + next(100), IPDVP95US: 500 + next(300)}
			for range 10 {
				w.RTTUS = append(w.RTTUS, base+next(1200))
			}
			set.ProbeWindows = append(set.ProbeWindows, w)
		}
	}
	return set
}

// frameOf is the frame that carries the golden payload.
func frameOf(t testing.TB) *Frame {
	t.Helper()
	p, err := os.ReadFile(filepath.Join("testdata", "payload-1.bin"))
	if err != nil {
		t.Fatal(err)
	}
	return &Frame{Epoch: 3, Seq: 1 << 40, Class: ClassState, AgeMS: 250, CRC: crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)), Payload: p}
}
