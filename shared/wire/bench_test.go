package wire

import (
	"fmt"
	"sort"
	"testing"

	"sidetone/shared/telemetry"
)

// What is measured is the load of site: 10 targets and a PBX, counted by samples. The
// names in it are such as the dictionary has not seen; "known" is a site (of 6 targets)
// whose names it has seen, with other values.

var schemas = []struct {
	name   string
	encode func(*telemetry.Set) ([]byte, error)
}{{"schema1", encode1}, {"schema2", EncodePayload}}

// BenchmarkFrame encodes and decodes one self-contained payload.
func BenchmarkFrame(b *testing.B) {
	for _, c := range []struct {
		name   string
		seed   uint64
		rounds int
	}{{"10s", 1001, 1}, {"60s", 1001, 6}, {"300s", 1001, 30}, {"10s-known", 2, 1}, {"60s-known", 2, 6}} {
		s := newSite(c.seed, 10)
		if c.seed == 2 {
			s = newSite(2, 6)
		}
		s.gather(40)
		set := s.gather(c.rounds)
		n, values := samples(set)
		for _, schema := range schemas {
			p, err := schema.encode(set)
			if err != nil {
				b.Fatal(err)
			}
			report := func(b *testing.B) {
				b.ReportAllocs()
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/sample")
				b.ReportMetric(float64(len(p))/float64(n), "B/sample")
				b.ReportMetric(float64(len(p))/float64(values), "B/value")
			}
			b.Run(c.name+"/encode/"+schema.name, func(b *testing.B) {
				for b.Loop() {
					if _, err := schema.encode(set); err != nil {
						b.Fatal(err)
					}
				}
				report(b)
			})
			b.Run(c.name+"/decode/"+schema.name, func(b *testing.B) {
				for b.Loop() {
					if _, err := DecodePayload(p); err != nil {
						b.Fatal(err)
					}
				}
				report(b)
			})
		}
	}
}

// BenchmarkBundle packs and reads an hour of frames of ten seconds in bundles of 32 KiB.
func BenchmarkBundle(b *testing.B) {
	for _, schema := range schemas {
		frames, n := framesOf(b, newSite(2000, 10), 360, 1, schema.encode)
		var bundles []Bundle
		size := bundleBytes(b, frames, 32<<10)
		for rest := frames; len(rest) > 0; {
			m, k, err := PackBundle(rest, 32<<10)
			if err != nil {
				b.Fatal(err)
			}
			bundles, rest = append(bundles, m), rest[k:]
		}
		report := func(b *testing.B) {
			b.ReportAllocs()
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/sample")
			b.ReportMetric(float64(size)/float64(n), "B/sample")
		}
		b.Run("pack/"+schema.name, func(b *testing.B) {
			for b.Loop() {
				bundleBytes(b, frames, 32<<10)
			}
			report(b)
		})
		b.Run("frames/"+schema.name, func(b *testing.B) {
			for b.Loop() {
				for i := range bundles {
					if _, err := bundles[i].Frames(); err != nil {
						b.Fatal(err)
					}
				}
			}
			report(b)
		})
	}
}

// BenchmarkLive gathers as the framer does: a probe window waits live at most, other
// rows ten seconds, and what waits leaves together. It tells the bytes a sample, the
// frames in ten seconds and how long a window waits.
func BenchmarkLive(b *testing.B) {
	for _, live := range []int64{1000, 2000, 3000, 10_000} {
		for _, schema := range schemas {
			b.Run(fmt.Sprintf("%ds/%s", live/1000, schema.name), func(b *testing.B) {
				var size, n, frames, rounds, windows int
				var waited int64
				for b.Loop() {
					s := newSite(uint64(1000+rounds), 10)
					var rows []emitted
					for range 30 {
						rows = append(rows, s.round()...)
					}
					sort.SliceStable(rows, func(i, j int) bool { return rows[i].at < rows[j].at })
					rounds += 30
					for len(rows) > 0 {
						set, due, k := &telemetry.Set{}, rows[0].at+10_000, 0
						for ; k < len(rows) && rows[k].at < due; k++ {
							if len(rows[k].set.ProbeWindows) > 0 {
								due = min(due, rows[k].at+live)
							}
							set.Append(rows[k].set)
						}
						for _, r := range rows[:k] {
							if len(r.set.ProbeWindows) > 0 {
								waited += due - r.at
								windows++
							}
						}
						rows = rows[k:]
						p, err := schema.encode(set)
						if err != nil {
							b.Fatal(err)
						}
						m, _ := samples(set)
						size, n, frames = size+len(p), n+m, frames+1
					}
				}
				b.ReportMetric(float64(size)/float64(n), "B/sample")
				b.ReportMetric(float64(frames)/float64(rounds), "frames/10s")
				b.ReportMetric(float64(waited)/float64(windows)/1000, "s/window")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
