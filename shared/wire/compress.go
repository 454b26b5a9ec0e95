package wire

import (
	_ "embed" // the dictionaries
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// dictionary1 is what payloads have in common: names of services, headers of tables.
// A released dictionary never changes; a better one gets a number of its own.
//
//go:generate go test -run TestTrainDictionary -train .
//go:embed dictionary-1.zstd
var dictionary1 []byte

// window is what the compressor looks back over. The agent has little memory.
const window = 256 << 10

// The compressors and the decompressor are made at their first use and then never
// change; they may be used by several goroutines at once. An agent whose link never
// fails makes only dense.
var (
	// dense makes small things out of payloads.
	dense = sync.OnceValue(func() *zstd.Encoder {
		return must(zstd.NewWriter(nil, append(encoderOptions(), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderDict(dictionary1))...))
	})
	// plain does without a dictionary, for schema 1 and bundles.
	plain = sync.OnceValue(func() *zstd.Encoder {
		return must(zstd.NewWriter(nil, append(encoderOptions(), zstd.WithEncoderLevel(zstd.SpeedDefault))...))
	})
	decompressor = sync.OnceValue(func() *zstd.Decoder {
		// One decoder for each CPU: with a single one, all connections would queue for it.
		return must(zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true), zstd.WithDecoderDicts(dictionary1),
			zstd.WithDecoderMaxMemory(MaxDecoded), zstd.WithDecoderMaxWindow(MaxDecoded)))
	})
)

func encoderOptions() []zstd.EOption {
	return []zstd.EOption{zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window), zstd.WithLowerEncoderMem(true),
		zstd.WithEncoderCRC(false),   // the frame has one
		zstd.WithSingleSegment(true)} // the length is always there, to be checked before memory is taken
}

// magic stands before every zstd frame (RFC 8878, 3.1.1) and is not sent.
const magic = 0xfd2fb528

var magicBytes = binary.LittleEndian.AppendUint32(nil, magic)

// deflate appends a zstd frame without its magic number to dst.
func deflate(e *zstd.Encoder, dst, raw []byte) []byte {
	n := len(dst)
	dst = e.EncodeAll(raw, dst)
	return append(dst[:n], dst[n+len(magicBytes):]...)
}

// inflate decompresses what deflate appended, which must say itself how long it is: no more
// than that is allocated.
func inflate(data []byte, most int) ([]byte, error) {
	size, err := inflatedLen(data)
	if err != nil {
		return nil, err
	}
	if size > most {
		return nil, fmt.Errorf("decompress: %d bytes, limit %d", size, most)
	}
	data = append(append(make([]byte, 0, len(magicBytes)+len(data)), magicBytes...), data...)
	raw, err := decompressor().DecodeAll(data, make([]byte, 0, size))
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	if len(raw) != size {
		return nil, fmt.Errorf("decompress: %d bytes instead of %d", len(raw), size)
	}
	return raw, nil
}

// inflatedLen is what the frame's header says.
func inflatedLen(data []byte) (int, error) {
	var h zstd.Header
	if err := h.Decode(append(append(make([]byte, 0, 32), magicBytes...), data[:min(len(data), zstd.HeaderMaxSize)]...)); err != nil {
		return 0, fmt.Errorf("decompress: %w", err)
	}
	if !h.HasFCS || h.FrameContentSize > MaxDecoded {
		return 0, fmt.Errorf("decompress: length unknown or over %d", MaxDecoded)
	}
	return int(h.FrameContentSize), nil
}
