package spool

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"sidetone/shared/wire"
)

// BenchmarkAppend compares one append after the other with the least that durability
// costs on this disk: the same bytes at the end of one file, and a flush.
func BenchmarkAppend(b *testing.B) {
	payload := bytes.Repeat([]byte("p"), 1<<10)
	b.Run("spool", func(b *testing.B) {
		s := open(b, Config{Dir: b.TempDir()}, testDeps(b))
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := s.Append(wire.ClassSample, payload); err != nil {
				b.Fatal(err)
			}
		}
		perSecond(b, 1)
	})
	b.Run("file", func(b *testing.B) { segment(b, payload, 1) })
}

// BenchmarkAppendBatch is the same with 50 records a flush.
func BenchmarkAppendBatch(b *testing.B) {
	const n = 50
	payload := bytes.Repeat([]byte("p"), 1<<10)
	batch := make([][]byte, n)
	for i := range batch {
		batch[i] = payload
	}
	b.Run("spool", func(b *testing.B) {
		s := open(b, Config{Dir: b.TempDir()}, testDeps(b))
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := s.AppendBatch(wire.ClassSample, batch); err != nil {
				b.Fatal(err)
			}
		}
		perSecond(b, n)
	})
	b.Run("file", func(b *testing.B) { segment(b, payload, n) })
}

func perSecond(b *testing.B, each int) {
	b.ReportMetric(float64(b.N*each)/b.Elapsed().Seconds(), "records/s")
}

// segment appends to a plain file: length, checksum, payload; one flush for each batch.
func segment(b *testing.B, payload []byte, batch int) {
	f, err := os.Create(filepath.Join(b.TempDir(), "segment"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = buf[:0]
		for range batch {
			buf = binary.BigEndian.AppendUint32(buf, uint32(len(payload)))
			buf = binary.BigEndian.AppendUint32(buf, crc32.Checksum(payload, castagnoli))
			buf = append(buf, payload...)
		}
		if _, err := f.Write(buf); err != nil {
			b.Fatal(err)
		}
		if err := syncData(f); err != nil {
			b.Fatal(err)
		}
	}
	perSecond(b, batch)
}
