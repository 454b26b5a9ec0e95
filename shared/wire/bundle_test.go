package wire

import (
	"bytes"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"sidetone/shared/telemetry"
)

func sealed(epoch, seq uint64, p []byte) Frame {
	return Frame{Epoch: epoch, Seq: seq, Class: ClassSample, AgeMS: 1000 - seq, CRC: crc32.Checksum(p, castagnoli), Payload: p}
}

func payloadOf(t testing.TB, set *telemetry.Set) []byte {
	t.Helper()
	p, err := EncodePayload(set)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// someFrames is n frames whose payloads differ a little.
func someFrames(t testing.TB, n int) []Frame {
	var frames []Frame
	for i := range n {
		set := typical(4, 2)
		set.Gaps = []telemetry.Gap{{From: uint64(i), To: uint64(i), Reason: "damaged"}}
		frames = append(frames, sealed(3, uint64(10+i), payloadOf(t, set)))
	}
	return frames
}

// smallFrames is n frames of one row each.
func smallFrames(t testing.TB, n int) (frames []Frame) {
	for i := range n {
		frames = append(frames, sealed(3, uint64(10+i), payloadOf(t, &telemetry.Set{Gaps: []telemetry.Gap{{From: uint64(i), To: 1, Reason: "damaged"}}})))
	}
	return frames
}

func bundleMessage(t testing.TB) *Bundle {
	t.Helper()
	b, _, err := PackBundle([]Frame{*frameOf(t), sealed(4, 1, frameOf(t).Payload)}, MaxFrame)
	if err != nil {
		t.Fatal(err)
	}
	return &b
}

// sameFrames tells whether got holds the rows of want under the same positions.
func sameFrames(t testing.TB, got, want []Frame) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d frames of %d", len(got), len(want))
	}
	for i := range got {
		g, w := got[i], want[i]
		if g.Epoch != w.Epoch || g.Seq != w.Seq || g.Class != w.Class || g.AgeMS != w.AgeMS {
			t.Errorf("frame %d: got %d/%d class %d age %d", i, g.Epoch, g.Seq, g.Class, g.AgeMS)
		}
		if g.CRC != crc32.Checksum(g.Payload, castagnoli) {
			t.Errorf("frame %d: wrong checksum", i)
		}
		gs, gerr := DecodePayload(g.Payload)
		if rows, err := g.Rows(); !reflect.DeepEqual(rows, gs) || (err == nil) != (gerr == nil) {
			t.Errorf("frame %d: its rows are %+v, %v", i, rows, err)
		}
		ws, werr := DecodePayload(w.Payload)
		if !reflect.DeepEqual(gs, ws) || (gerr == nil) != (werr == nil) {
			t.Errorf("frame %d: got %+v, %v; want %+v, %v", i, gs, gerr, ws, werr)
		}
	}
}

func TestBundleRoundTrip(t *testing.T) {
	newer := []byte{200, 1, 2, 3}
	junk := bytes.Repeat([]byte("\x01junk"), 50)
	cases := map[string][]Frame{
		"one":              someFrames(t, 1),
		"many":             someFrames(t, 40),
		"at the limit":     smallFrames(t, MaxBundleFrames),
		"of both schemas":  append(someFrames(t, 3), *frameOf(t)),
		"extreme numbers":  {{Epoch: 1<<64 - 1, Seq: 1<<64 - 1, Class: 255, AgeMS: 1<<64 - 1}, {Class: 1}, {Epoch: 1 << 63, Seq: 1 << 63, Class: 1}},
		"a newer schema":   {sealed(1, 1, newer), someFrames(t, 1)[0]},
		"not to be read":   {sealed(1, 1, junk), sealed(1, 2, junk[:5])},
		"every kind":       {sealed(1, 7, payloadOf(t, example())), *frameOf(t)},
		"nothing in it":    {sealed(1, 1, payloadOf(t, &telemetry.Set{}))},
		"hardly any bytes": {sealed(1, 1, []byte{0})},
	}
	for name, frames := range cases {
		t.Run(name, func(t *testing.T) {
			b, n, err := PackBundle(frames, MaxFrame)
			if err != nil || n != len(frames) {
				t.Fatalf("packed %d of %d: %v", n, len(frames), err)
			}
			msg, err := AppendMessage(nil, b)
			if err != nil {
				t.Fatal(err)
			}
			typ, body := split(t, msg)
			m, err := DecodeMessage(typ, body)
			if err != nil {
				t.Fatal(err)
			}
			got, err := m.(*Bundle).Frames()
			if err != nil {
				t.Fatal(err)
			}
			sameFrames(t, got, frames)
		})
	}
}

func TestBundleGolden(t *testing.T) {
	path := filepath.Join("testdata", "bundle-2.bin")
	golden(t, path, func() ([]byte, error) { return AppendMessage(nil, bundleMessage(t)) })
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	typ, body := split(t, b)
	m, err := DecodeMessage(typ, body)
	if err != nil {
		t.Fatalf("a bundle of capability 2 must always be readable: %v", err)
	}
	got, err := m.(*Bundle).Frames()
	if err != nil {
		t.Fatal(err)
	}
	sameFrames(t, got, []Frame{*frameOf(t), sealed(4, 1, frameOf(t).Payload)})
}

func TestBundleFits(t *testing.T) {
	frames := someFrames(t, 200)
	for _, most := range []int{0, 1, 1500, 4000, 32 << 10} {
		rest, packed := frames, 0
		for len(rest) > 0 {
			b, n, err := PackBundle(rest, most)
			if err != nil || n < 1 {
				t.Fatalf("packed %d: %v", n, err)
			}
			msg, err := AppendMessage(nil, &b)
			if err != nil {
				t.Fatal(err)
			}
			if n > 1 && len(msg) > most {
				t.Errorf("%d frames in %d bytes, limit %d", n, len(msg), most)
			}
			got, err := b.Frames()
			if err != nil {
				t.Fatal(err)
			}
			sameFrames(t, got, rest[:n])
			rest, packed = rest[n:], packed+1
		}
		if most > 1000 && packed > 150 {
			t.Errorf("%d bundles of %d frames at %d bytes", packed, len(frames), most)
		}
	}
	if b, n, err := PackBundle(smallFrames(t, MaxBundleFrames+1), 8*MaxFrame); err != nil || n != MaxBundleFrames {
		t.Errorf("packed %d (%d bytes), %v", n, len(b.Data), err)
	}
}

// TestBundleGains: frames of an outage are a fraction of what they are one by one.
func TestBundleGains(t *testing.T) {
	frames := someFrames(t, 50)
	alone := 0
	for _, f := range frames {
		alone += len(f.Payload)
	}
	b, n, err := PackBundle(frames, MaxFrame)
	if err != nil || n != len(frames) || len(b.Data) > alone/2 {
		t.Errorf("%d frames of %d bytes became %d, %v", n, alone, len(b.Data), err)
	}
}

func TestPackBundleFindsDamage(t *testing.T) {
	frames := someFrames(t, 3)
	frames[1].CRC++
	if _, n, err := PackBundle(frames, MaxFrame); n != 1 || err != nil {
		t.Errorf("packed %d, %v; want the sound frame before the damaged one", n, err)
	}
	var mal *MalformedError
	if _, n, err := PackBundle(frames[1:], MaxFrame); n != 1 || !errors.As(err, &mal) {
		t.Errorf("packed %d, %v; want MalformedError", n, err)
	}
	if _, _, err := PackBundle([]Frame{{}}, MaxFrame); !errors.As(err, &mal) {
		t.Errorf("no class: %v; want MalformedError", err)
	}
	if _, n, err := PackBundle(nil, MaxFrame); n != 0 || err == nil {
		t.Errorf("no frames: packed %d, %v", n, err)
	}
}

// TestBundleRatio: what compresses beyond belief is sent in another way.
func TestBundleRatio(t *testing.T) {
	big := sealed(1, 1, compress(bytes.Repeat([]byte{0}, MaxPayload-100)))
	frames := []Frame{big, big, big}
	for len(frames) > 0 {
		b, n, err := PackBundle(frames, MaxFrame)
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.Frames()
		if err != nil {
			t.Fatal(err)
		}
		sameFrames(t, got, frames[:n])
		frames = frames[n:]
	}
}

func TestBundleRefuses(t *testing.T) {
	sound := func() Bundle { return *bundleMessage(t) }
	raw := func(count uint32, b ...byte) Bundle {
		return Bundle{Count: count, Size: uint32(len(b)), CRC: crc32.Checksum(b, castagnoli), Data: append([]byte{formRaw, 0}, b...)}
	}
	edit := func(f func(*Bundle)) Bundle { b := sound(); f(&b); return b }
	bomb := deflate(plain(), []byte{formZstd}, make([]byte, MaxDecoded))
	two := deflate(plain(), nil, bytes.Repeat([]byte{1}, 300))
	if b := raw(1, append(append([]byte{0, 0, 1, 0, 0, 0}, make([]byte, 12)...), 1, 0, 0, kindGaps, 1, 0, 0)...); func() bool { _, err := b.Frames(); return err != nil }() {
		t.Fatal("the merged cases' base must be sound")
	}
	if b := raw(1, 0, 0, 1, 0, 1); func() bool { _, err := b.Frames(); return err != nil }() {
		t.Fatal("the table's base must be sound")
	}
	cases := map[string]Bundle{
		"nothing":              {},
		"no frames":            edit(func(b *Bundle) { b.Count = 0 }),
		"fewer frames":         edit(func(b *Bundle) { b.Count-- }),
		"more frames":          edit(func(b *Bundle) { b.Count++ }),
		"1,025 frames":         edit(func(b *Bundle) { b.Count = MaxBundleFrames + 1 }),
		"another size":         edit(func(b *Bundle) { b.Size++ }),
		"size over the limit":  edit(func(b *Bundle) { b.Size = MaxDecoded + 1 }),
		"ratio over the limit": {Count: 1, Size: MaxDecoded, Data: bomb[:200]},
		"bomb":                 {Count: 1, Size: 1000, Data: bomb},
		"two zstd frames":      {Count: 1, Size: 300, Data: append(append(append([]byte{formZstd}, two...), magicBytes...), two...)},
		"another checksum":     edit(func(b *Bundle) { b.CRC++ }),
		"unknown form":         edit(func(b *Bundle) { b.Data[0] = 77 }),
		"cut off":              edit(func(b *Bundle) { b.Data = b.Data[:len(b.Data)-3] }),
		"no data":              edit(func(b *Bundle) { b.Data = nil }),
		"no class":             raw(1, 0, 0, 0, 0, 1),
		"class 256":            raw(1, 0, 0, 0x80, 2, 0, 1),
		"payload missing":      raw(1, 0, 0, 1, 0, 2),
		"payload left over":    raw(1, 0, 0, 1, 0, 1, 9),
		"huge payload":         raw(1, 0, 0, 1, 0, 0xff, 0xff, 0xff, 0x7f),
		"varint cut":           raw(1, 0, 0, 1, 0, 0x80),
		"no merged rows":       raw(1, 0, 0, 1, 0, 0),
		"target not there":     raw(1, append([]byte{0, 0, 1, 0, 0, 1, 0}, make([]byte, 13+2)...)...),
		"4,000,000,000 target": raw(1, append([]byte{0, 0, 1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f}, make([]byte, 13+2)...)...),
		"row not there":        raw(1, append([]byte{0, 0, 1, 0, 0, 0, 1}, make([]byte, 12+2)...)...),
		"row left over":        raw(1, append(append([]byte{0, 0, 1, 0, 0, 0}, make([]byte, 13+2)...), kindGaps, 1, 0, 0)...),
	}
	for name, b := range cases {
		t.Run(name, func(t *testing.T) {
			var mal *MalformedError
			if got, err := b.Frames(); !errors.As(err, &mal) || got != nil {
				t.Errorf("got %v, %v; want MalformedError", got, err)
			}
		})
	}
}

func FuzzBundle(f *testing.F) {
	b := bundleMessage(f)
	_, raw, err := unpack(b.Data, MaxDecoded)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b.Count, raw)
	f.Add(uint32(1), []byte{0, 0, 1, 0, 0})
	f.Fuzz(func(t *testing.T, count uint32, raw []byte) {
		b := Bundle{Count: count, Size: uint32(len(raw)), CRC: crc32.Checksum(raw, castagnoli), Data: append([]byte{formRaw, 0}, raw...)}
		frames, err := b.Frames()
		if err != nil {
			return
		}
		again, n, err := PackBundle(frames, MaxFrame)
		if err != nil || n < 1 {
			t.Fatalf("what was read cannot be packed: %v", err)
		}
		got, err := again.Frames()
		if err != nil {
			t.Fatal(err)
		}
		sameFrames(t, got, frames[:n])
	})
}
