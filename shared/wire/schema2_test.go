package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sidetone/shared/telemetry"
)

// anySet fills every field of every type of row by its kind, with what is usual and
// what is extreme, often the same as in the row before.
func anySet(t *rapid.T) *telemetry.Set {
	set := &telemetry.Set{}
	v := reflect.ValueOf(set).Elem()
	for i := range v.NumField() {
		n := rapid.SampledFrom([]int{0, 0, 1, 2, 7}).Draw(t, v.Type().Field(i).Name)
		if n == 0 {
			continue
		}
		f := v.Field(i)
		f.Set(reflect.MakeSlice(f.Type(), n, n))
		for j := range n {
			for k := range f.Index(j).NumField() {
				if j > 0 && rapid.IntRange(0, 2).Draw(t, "same") > 0 {
					f.Index(j).Field(k).Set(f.Index(rapid.IntRange(0, j-1).Draw(t, "as")).Field(k))
				} else {
					anyValue(t, f.Index(j).Field(k))
				}
			}
		}
	}
	// Each window's target is listed, and derived ids are as often right as not.
	for i := range set.ProbeWindows {
		if n := len(set.Targets); n > 0 && rapid.Bool().Draw(t, "listed") {
			set.ProbeWindows[i].Target = set.Targets[rapid.IntRange(0, n-1).Draw(t, "target")].ID
		}
	}
	for i := range set.Services {
		if rapid.Bool().Draw(t, "derived") {
			set.Services[i].ID = telemetry.MakeItemID("service", set.Services[i].Name)
		}
	}
	return set
}

func anyValue(t *rapid.T, f reflect.Value) {
	switch f.Kind() {
	case reflect.String:
		f.SetString(rapid.OneOf(rapid.SampledFrom([]string{"", "Running", "Träger", strings.Repeat("ü", MaxText/2)}), rapid.StringN(0, 30, MaxText)).Draw(t, "text"))
	case reflect.Bool:
		f.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Int64:
		f.SetInt(rapid.OneOf(rapid.SampledFrom([]int64{0, 1795392000000, math.MinInt64, math.MaxInt64}), rapid.Int64()).Draw(t, "int"))
	case reflect.Uint32:
		f.SetUint(uint64(rapid.OneOf(rapid.SampledFrom([]uint32{0, 1, 10000, math.MaxUint32}), rapid.Uint32()).Draw(t, "u32")))
	case reflect.Uint64:
		f.SetUint(rapid.OneOf(rapid.SampledFrom([]uint64{0, 1 << 12, 1 << 63, math.MaxUint64}), rapid.Uint64()).Draw(t, "u64"))
	case reflect.Pointer:
		if rapid.Bool().Draw(t, "there") {
			f.Set(reflect.New(f.Type().Elem()))
			anyValue(t, f.Elem())
		}
	case reflect.Slice:
		n := rapid.IntRange(0, 12).Draw(t, "attempts")
		if n == 0 {
			return
		}
		f.Set(reflect.MakeSlice(f.Type(), n, n))
		for i := range n {
			anyValue(t, f.Index(i))
		}
	default:
		t.Fatalf("what is a %v?", f.Type())
	}
}

// TestAnySet: whatever a set holds reads back exactly, in either schema, and in a bundle.
func TestAnySet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := anySet(t)
		want := *set
		want.Targets = allTargets(set, map[telemetry.ItemID]int{})
		var frames []Frame
		for _, schema := range schemas {
			p, err := schema.encode(set)
			if err != nil {
				t.Fatal(err)
			}
			got, err := DecodePayload(p)
			if err != nil || !reflect.DeepEqual(got, &want) {
				t.Fatalf("%s: %v\ngot  %+v\nwant %+v", schema.name, err, got, &want)
			}
			frames = append(frames, sealed(1, uint64(len(frames)), p))
		}
		b, n, err := PackBundle(frames, MaxFrame)
		if err != nil || n != 2 {
			t.Fatalf("packed %d, %v", n, err)
		}
		back, err := b.Frames()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range back {
			if got, err := DecodePayload(f.Payload); err != nil || !reflect.DeepEqual(got, &want) {
				t.Fatalf("in a bundle: %v\ngot  %+v\nwant %+v", err, got, &want)
			}
		}
	})
}

// TestLoadRoundTrip: so does what a site measures, with its real statistics.
func TestLoadRoundTrip(t *testing.T) {
	for seed := uint64(3000); seed < 3010; seed++ {
		s := newSite(seed, int(seed%12))
		for _, rounds := range []int{1, 2, 9} {
			set := s.gather(rounds)
			if got := roundTrip(t, set); !reflect.DeepEqual(got, set) {
				t.Fatalf("seed %d, %d rounds: differs", seed, rounds)
			}
		}
	}
}

// TestSizes holds the bytes a sample where they were measured, with a little room.
func TestSizes(t *testing.T) {
	for _, c := range []struct {
		rounds int
		most   float64
	}{{1, 3.2}, {6, 1.15}} {
		bytes, n := 0, 0
		for seed := uint64(1000); seed < 1020; seed++ {
			s := newSite(seed, 10)
			s.gather(3)
			set := s.gather(c.rounds)
			k, _ := samples(set)
			bytes, n = bytes+len(payloadOf(t, set)), n+k
		}
		if per := float64(bytes) / float64(n); per > c.most {
			t.Errorf("%d s: %.3f bytes a sample, want %.2f at most", 10*c.rounds, per, c.most)
		}
	}
	frames, n := framesOf(t, newSite(2000, 10), 360, 1, EncodePayload)
	if per := float64(bundleBytes(t, frames, 32<<10)) / float64(n); per > 0.7 {
		t.Errorf("bundles: %.3f bytes a sample, want 0.7 at most", per)
	}
}

// TestDerivedIsFree: statistics that follow from the RTTs cost no byte.
func TestDerivedIsFree(t *testing.T) {
	set := newSite(4000, 10).gather(6)
	n := len(payloadOf(t, set))
	for i := range set.ProbeWindows {
		set.ProbeWindows[i].RTTP50US++ // wrong, and yet to be carried
	}
	if m := len(payloadOf(t, set)); m <= n {
		t.Errorf("%d bytes with wrong medians, %d with derived ones", m, n)
	}
	if got := roundTrip(t, set); !reflect.DeepEqual(got, set) {
		t.Error("wrong medians were set right")
	}
}

func TestPayloadFor(t *testing.T) {
	two := payloadOf(t, example())
	one, err := os.ReadFile(filepath.Join("testdata", "payload-1.bin"))
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name       string
		capability uint32
		p          []byte
		schema     byte
		same       bool
	}{
		{"new to new", 2, two, 2, true}, {"new to newer", 3, two, 2, true}, {"old to new", 2, one, 1, true},
		{"old to old", 1, one, 1, true}, {"new to old", 1, two, 1, false}, {"to none", 0, two, 1, false},
		{"newer to new", 2, []byte{200}, 200, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p, err := PayloadFor(c.capability, c.p)
			if err != nil || p[0] != c.schema || bytes.Equal(p, c.p) != c.same {
				t.Fatalf("schema %d, %v", p[0], err)
			}
			if set, err := DecodePayload(p); c.schema < 3 && (err != nil || !reflect.DeepEqual(set, example())) {
				t.Errorf("reads as %+v, %v", set, err)
			}
		})
	}
	var newer *SchemaError
	if _, err := PayloadFor(1, []byte{200}); !errors.As(err, &newer) {
		t.Errorf("err = %v; want SchemaError", err)
	}
	var mal *MalformedError
	if _, err := PayloadFor(1, []byte{2, 0}); !errors.As(err, &mal) {
		t.Errorf("err = %v; want MalformedError", err)
	}
}

// stored is a payload of schema 2 made by hand.
func stored(columns ...byte) []byte { return stored2(nil, columns) }

// tableOf is one table: kind, rows, columns that are there, and their bytes.
func tableOf(kind, rows, mask uint64, columns ...byte) []byte {
	b := binary.AppendUvarint(nil, kind)
	b = binary.AppendUvarint(b, rows)
	b = binary.AppendUvarint(b, mask)
	return append(binary.AppendUvarint(b, uint64(len(columns))), columns...)
}

// head is a time and texts.
func head(s ...string) []byte {
	return all(s).append([]byte{0})
}

func all(s []string) *texts { return &texts{all: s} }

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// TestNewerWriter: kinds of tables and columns that came later are ignored.
func TestNewerWriter(t *testing.T) {
	p := stored2(nil, cat(head("later", "damaged"),
		tableOf(kindGaps, 1, 1<<4|1<<5|1<<63, 0, 3, 0, 1, 0, 2, 9, 9, 9), // reason: the second text; then columns unknown here
		tableOf(99, 1<<40, 1<<50, 1, 2, 3)))
	got, err := DecodePayload(p)
	if err == nil {
		t.Fatalf("a text that was not introduced is no text: %+v", got)
	}
	p = stored2(nil, cat(head("damaged", "later"),
		tableOf(kindGaps, 2, 1<<4|1<<5|1<<63, 0, 1, 1, 9, 9, 9, 9), tableOf(99, 1<<40, 1<<50, 1, 2, 3)))
	got, err = DecodePayload(p)
	want := &telemetry.Set{Gaps: []telemetry.Gap{{Reason: "damaged"}, {Reason: "damaged"}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	var newer *SchemaError
	for _, p := range [][]byte{{3, 1}, {200}, {2, formDict1 + 1, 0}, {2, formLast}} {
		if _, err := DecodePayload(p); !errors.As(err, &newer) || newer.Schema != p[0] || err.Error() == "" {
			t.Errorf("%v: err = %v; want SchemaError", p, err)
		}
	}
}

func TestDecode2Refuses(t *testing.T) {
	sound := tableOf(kindGaps, 1, 0)
	if _, err := DecodePayload(stored2(nil, cat(head(), sound))); err != nil {
		t.Fatalf("the cases' base must be sound: %v", err)
	}
	gap := func(mask uint64, columns ...byte) []byte {
		return stored2(nil, cat(head("x"), tableOf(kindGaps, 2, mask, columns...)))
	}
	probe := func(noise []byte, mask uint64, columns ...byte) []byte {
		return stored2(noise, cat(head(), tableOf(kindTargets, 1, 0), tableOf(kindProbes, 1, mask, columns...)))
	}
	full := payloadOf(t, newSite(5000, 6).gather(2))
	noise, columns, err := unpack(full[1:], MaxDecoded)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string][]byte{
		"only the schema":      {2},
		"only the form":        {2, 0},
		"unknown form":         {2, formLast + 1, 0, 0, 0},
		"bits end early":       {2, formRaw, 9, 1},
		"not zstd":             {2, formDict1, 0, 1, 2, 3},
		"zstd cut off":         full[:len(full)-5],
		"zstd and more":        append(bytes.Clone(full), 0),
		"bomb":                 deflate(dense(), []byte{2, formDict1, 0}, make([]byte, MaxDecoded+1)),
		"no time":              {2, formRaw, 0},
		"texts end early":      stored(0, 5, 1, 1),
		"text too long":        stored2(nil, head(strings.Repeat("a", MaxText+1))),
		"not UTF-8":            stored2(nil, head("\xff")),
		"character cut in two": stored2(nil, head("\xc3", "\xbc")),
		"table ends early":     stored2(nil, cat(head(), sound[:3])),
		"table too long":       stored2(nil, cat(head(), []byte{kindGaps, 1, 0, 9})),
		"tables out of order":  stored2(nil, cat(head(), sound, tableOf(kindSBCs, 1, 0))),
		"table twice":          stored2(nil, cat(head(), sound, sound)),
		"no rows":              stored2(nil, cat(head(), tableOf(kindGaps, 0, 0))),
		"10,001 rows":          stored2(nil, cat(head(), tableOf(kindGaps, MaxRows+1, 0))),
		"12,000 rows":          stored2(nil, cat(head(), tableOf(kindSBCs, 6000, 0), tableOf(kindGaps, 6000, 0))),
		"2^64 rows":            stored2(nil, cat(head(), tableOf(kindGaps, math.MaxUint64, 0))),
		"column missing":       gap(1),
		"column ends early":    gap(1, 0, 1),
		"column too long":      gap(1, 0, 1, 1, 1),
		"run too long":         gap(1, modeRuns, 0, 2),
		"run missing":          gap(1, modeRuns, 0),
		"varint of 11 bytes":   gap(1, cat([]byte{0}, bytes.Repeat([]byte{0xff}, 11), []byte{1})...),
		"no such text":         gap(1<<4, 0, 2, 0),
		"a text too many":      gap(1<<4, 0, 1, 1, 1),
		"noise missing":        gap(1 << 1),
		"noise left over":      stored2([]byte{1, 2}, cat(head(), sound)),
		"no targets":           stored2(nil, cat(head(), tableOf(kindProbes, 1, 0))),
		"target not listed":    probe(nil, 1, 0, 3),
		"33 bits":              probe(nil, 1<<1, cat([]byte{0}, binary.AppendUvarint(nil, 1<<33))...),
		"1,001 attempts":       probe(make([]byte, 9000), 1<<3, 0, 0xd2, 0x0f),
		"attempts without RTT": probe(nil, 1<<3, 0, 2),
		"RTT without attempts": probe([]byte{0xfe, 0xff}, 1<<4),
		"statistic below zero": probe(nil, 1<<5, 0, 1),
		"bits cut off":         stored2(noise[:len(noise)-2], columns),
		"bits too many":        stored2(append(bytes.Clone(noise), 0), columns),
		"columns cut off":      stored2(noise, columns[:len(columns)-1]),
		"columns too many":     stored2(noise, append(bytes.Clone(columns), 1)),
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

// TestHostileAllocation: a few bytes that promise gigabytes do not get more memory
// than twice the limit of a decoded payload.
func TestHostileAllocation(t *testing.T) {
	bomb := deflate(plain(), []byte{2, formZstd, 0}, make([]byte, MaxDecoded))
	long := deflate(plain(), nil, make([]byte, MaxDecoded))
	binary.LittleEndian.PutUint32(long[1:], math.MaxUint32) // says 4 GB
	statuses := stored2(nil, cat(head(), tableOf(kindPBXStatuses, MaxRows, 0)))
	bundle := Bundle{Count: MaxBundleFrames, Size: MaxDecoded, Data: deflate(plain(), []byte{formZstd, 0}, make([]byte, MaxDecoded))}
	cases := map[string]func() error{
		"bomb":            func() error { _, err := DecodePayload(bomb); return err },
		"wrong length":    func() error { _, err := DecodePayload(append([]byte{2, formZstd, 0}, long...)); return err },
		"bomb, schema 1":  func() error { _, err := DecodePayload(append([]byte{1}, cat(magicBytes, long)...)); return err },
		"10,000 statuses": func() error { _, err := DecodePayload(statuses); return err },
		"bundle":          func() error { _, err := bundle.Frames(); return err },
	}
	for name, f := range cases {
		t.Run(name, func(t *testing.T) {
			_ = f() // what is made once does not count
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := f()
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > 2*MaxDecoded {
				t.Errorf("%d bytes allocated (%v)", n, err)
			}
			if err == nil && name != "10,000 statuses" {
				t.Error("accepted")
			}
		})
	}
}

// TestFormatBounds: what the format bounds and no error tells.
func TestFormatBounds(t *testing.T) {
	c := coders.Get().(*coder)
	defer c.release()
	write(c, kindPBXStatuses, make([]telemetry.PBXStatus, 1), c.statuses) // the widest table
	if c.table.number > 64 {
		t.Errorf("%d columns; the mask has 64 bits", c.table.number)
	}
	if len(dictionary1) > 32<<10 {
		t.Errorf("dictionary of %d bytes", len(dictionary1))
	}
}

func TestDeriveID(t *testing.T) {
	for _, parts := range [][]string{{"a"}, {"trunk", "10000"}, {"target", "icmp", "", "Träger"}} {
		if got, want := deriveID(parts[0], parts[1:]...), telemetry.MakeItemID(parts...); got != want {
			t.Errorf("%q: got %x, want %x", parts, got, want)
		}
	}
}

func TestBits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOf(rapid.OneOf(rapid.Uint64(), rapid.Uint64Range(0, 300), rapid.Just(uint64(math.MaxUint64)))).Draw(t, "values")
		ks := rapid.SliceOfN(rapid.UintRange(0, 64), len(values), len(values)).Draw(t, "k")
		var w bitWriter
		for i, v := range values {
			w.golomb(v, ks[i])
			w.rice(uint32(v), ks[i]%32)
		}
		w.flush()
		r := bitReader{b: w.b}
		for i, v := range values {
			if got := r.golomb(ks[i]); got != v {
				t.Fatalf("golomb %d: got %d, want %d", ks[i], got, v)
			}
			if got := r.rice(ks[i] % 32); got != uint32(v) {
				t.Fatalf("rice %d: got %d, want %d", ks[i]%32, got, uint32(v))
			}
		}
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzDecodeColumns fuzzes what is inside the compression of schema 2.
func FuzzDecodeColumns(f *testing.F) {
	for _, set := range []*telemetry.Set{example(), newSite(1, 3).gather(1), {}} {
		noise, columns, err := unpack(payloadOf(f, set)[1:], MaxDecoded)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(noise, columns)
	}
	f.Fuzz(func(t *testing.T, noise, columns []byte) {
		if len(noise)+len(columns) < MaxPayload-maxHead2 {
			decodeAgain(t, stored2(noise, columns))
		}
	})
}
