package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"sidetone/shared/telemetry"
)

// Bundle is several frames compressed together: their rows are merged, since payloads
// that follow each other resemble each other. Each frame keeps its epoch, seq, class
// and age, and is answered by itself. Make it with PackBundle, read it with Frames.
type Bundle struct {
	Count uint32 `cbor:"1,keyasint"` // frames
	// Size is the length of the frames before compression. It is checked before
	// anything is decompressed.
	Size uint32 `cbor:"2,keyasint"`
	// CRC is CRC-32C of the frames before compression.
	CRC uint32 `cbor:"3,keyasint"`
	// Data is in the form of a payload of schema 2: bits, and compressed a table with
	// five numbers for each frame, the payloads that are not merged, and how the merged
	// rows are shared out, and they themselves.
	Data []byte `cbor:"4,keyasint"`
}

// bundleOverhead is what a bundle message has besides Data, at most.
const bundleOverhead = HeaderLen + 32

// mergedRows bounds the rows of a bundle that we make, because merging takes memory.
const mergedRows = 5000

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// PackBundle makes a bundle of the first n frames: of as many as fit into a message
// of maxBytes, but at least of one. It compares each payload with its CRC. The error is a
// *MalformedError when the first frame is damaged, and n is then 1: go on without it.
func PackBundle(frames []Frame, maxBytes int) (b Bundle, n int, err error) {
	if len(frames) == 0 {
		return b, 0, errors.New("pack bundle: no frames")
	}
	most := min(maxBytes, MaxFrame) - bundleOverhead
	items, err := gather(frames, 4*most)
	if err != nil {
		return b, 1, err
	}
	for n = len(items); n > 1; {
		b = bundleOf(items[:n])
		if len(b.Data) <= most && b.check() == nil {
			return b, n, nil
		}
		n = max(1, min(n-1, n*most/len(b.Data)))
	}
	if b = bundleOf(items[:1]); b.check() != nil {
		items[0].rows = nil // too good a ratio to be believed
		b = bundleOf(items[:1])
	}
	return b, 1, b.check()
}

// bundled is a frame and its rows; a payload that cannot be read here goes as it is.
type bundled struct {
	frame *Frame
	rows  *telemetry.Set
}

// gather takes the first frames, as long as their payloads have no more than most
// bytes together, and reads them.
func gather(frames []Frame, most int) ([]bundled, error) {
	var items []bundled
	packed, size, rows := 0, 0, 0
	for i := range frames[:min(len(frames), MaxBundleFrames)] {
		f := &frames[i]
		err := f.check()
		if err == nil && crc32.Checksum(f.Payload, castagnoli) != f.CRC {
			err = errors.New("payload differs from its checksum")
		}
		if err != nil {
			if i > 0 {
				return items, nil
			}
			return nil, &MalformedError{What: fmt.Sprintf("frame %d/%d", f.Epoch, f.Seq), Cause: err}
		}
		set, n := readable(f.Payload)
		packed += len(f.Payload)
		size += n + maxEntry
		if set != nil {
			rows += set.Len() + len(set.Targets)
		}
		if i > 0 && (packed > most || size > MaxDecoded || rows > mergedRows) {
			break
		}
		items = append(items, bundled{f, set})
	}
	return items, nil
}

// readable gives the rows of a payload that a bundle's reader can make again, and the
// length of the payload that it will make.
func readable(p []byte) (*telemetry.Set, int) {
	set, err := DecodePayload(p)
	if err != nil {
		return nil, len(p)
	}
	// Made again, a payload has the length that it had. Only an odd one, near the limit
	// or of another writer, must be tried.
	if n, ok := uncompressedLen(p); ok && n < MaxPayload/4 {
		return set, n
	}
	c := coders.Get().(*coder)
	defer c.release()
	noise, columns, err := c.encode(set)
	if n := len(noise) + len(columns) + maxHead2; err == nil && n <= MaxPayload {
		return set, n
	}
	return nil, len(p)
}

// maxEntry is the length of one frame's numbers in the table, at most.
const maxEntry = 3*binary.MaxVarintLen64 + 2*binary.MaxVarintLen32

func bundleOf(items []bundled) Bundle {
	var raw []byte
	var epoch, seq, age uint64
	for _, it := range items {
		f := it.frame
		// Differences may wrap; adding them again wraps back.
		raw = binary.AppendUvarint(raw, zigzag(int64(f.Epoch-epoch)))
		raw = binary.AppendUvarint(raw, zigzag(int64(f.Seq-seq-1)))
		raw = binary.AppendUvarint(raw, uint64(f.Class))
		raw = binary.AppendUvarint(raw, zigzag(int64(f.AgeMS-age)))
		own := 0 // 0: its rows are among the merged
		if it.rows == nil {
			own = len(f.Payload) + 1
		}
		raw = binary.AppendUvarint(raw, uint64(own))
		epoch, seq, age = f.Epoch, f.Seq, f.AgeMS
	}
	for _, it := range items {
		if it.rows == nil {
			raw = append(raw, it.frame.Payload...)
		}
	}
	c := coders.Get().(*coder)
	defer c.release()
	raw, noise := c.merge(raw, items)
	b := Bundle{Count: uint32(len(items)), Size: uint32(len(raw) + len(noise))}
	b.CRC = crc32.Update(crc32.Checksum(noise, castagnoli), castagnoli, raw)
	b.Data = pack(nil, noise, raw)
	return b
}

func (m *Bundle) check() error {
	switch {
	case m.Count == 0 || m.Count > MaxBundleFrames:
		return fmt.Errorf("%d frames in a bundle, limit %d", m.Count, MaxBundleFrames)
	case m.Size > MaxDecoded:
		return fmt.Errorf("bundle of %d bytes, limit %d", m.Size, MaxDecoded)
	case int64(m.Size) > bundleSlack+MaxBundleRatio*int64(len(m.Data)):
		return fmt.Errorf("bundle of %d bytes in %d: more than %d to 1", m.Size, len(m.Data), MaxBundleRatio)
	case len(m.Data) == 0 || len(m.Data) > MaxFrame-bundleOverhead:
		return fmt.Errorf("%d bytes of data in a bundle", len(m.Data))
	}
	return nil
}
func (m *Bundle) texts() []*string { return nil }

// Frames gives the frames. Their payloads are not compressed and so differ from what
// lay in the spool, but DecodePayload reads them; the CRC of each is of its payload
// as given here. Every error is a *MalformedError.
func (m *Bundle) Frames() ([]Frame, error) {
	frames, err := m.frames()
	if err != nil {
		return nil, &MalformedError{What: "bundle", Cause: err}
	}
	return frames, nil
}

func (m *Bundle) frames() ([]Frame, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	noise, raw, err := unpack(m.Data, int(m.Size))
	switch {
	case err != nil:
		return nil, err
	case len(noise)+len(raw) != int(m.Size):
		return nil, fmt.Errorf("%d bytes instead of %d", len(noise)+len(raw), m.Size)
	case crc32.Update(crc32.Checksum(noise, castagnoli), castagnoli, raw) != m.CRC:
		return nil, errors.New("frames differ from their checksum")
	}
	frames := make([]Frame, m.Count)
	own := make([]int, m.Count)
	table := column{b: raw}
	epoch, seq, age := uint64(0), uint64(0), uint64(0)
	for i := range frames {
		epoch += uint64(unzigzag(table.take()))
		seq += uint64(unzigzag(table.take())) + 1
		class := table.take()
		age += uint64(unzigzag(table.take()))
		n := table.take()
		if table.err != nil {
			return nil, table.err
		}
		if class == 0 || class > 255 || n > MaxPayload+1 {
			return nil, fmt.Errorf("frame of class %d with a payload of %d bytes", class, int64(n)-1)
		}
		frames[i] = Frame{Epoch: epoch, Seq: seq, Class: Class(class), AgeMS: age}
		own[i] = int(n) - 1
	}
	rest := table.b
	for i, n := range own {
		if n > len(rest) {
			return nil, errors.New("payloads end early")
		}
		if n >= 0 {
			frames[i].Payload, rest = rest[:n:n], rest[n:]
		}
	}
	if err := part(frames, own, noise, rest); err != nil {
		return nil, err
	}
	for i := range frames {
		frames[i].CRC = crc32.Checksum(frames[i].Payload, castagnoli)
	}
	return frames, nil
}
