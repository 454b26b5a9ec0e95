package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
)

// Bundle is several frames compressed together: payloads that follow each other
// resemble each other. Each frame keeps its epoch, seq, class and age, and is
// answered by itself. Make it with PackBundle, read it with Frames.
type Bundle struct {
	Count uint32 `cbor:"1,keyasint"` // frames
	// Size is the length of the frames before compression. It is checked before
	// anything is decompressed.
	Size uint32 `cbor:"2,keyasint"`
	// CRC is CRC-32C of the frames before compression.
	CRC uint32 `cbor:"3,keyasint"`
	// Data is a byte that says how the rest is compressed, and the rest: a table with
	// five numbers for each frame, then the payloads.
	Data []byte `cbor:"4,keyasint"`
}

// bundleOverhead is what a bundle message has besides Data, at most.
const bundleOverhead = HeaderLen + 32

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
		items[0].payload = frames[0].Payload // too good a ratio to be believed
		b = bundleOf(items[:1])
	}
	return b, 1, b.check()
}

// bundled is a frame whose payload is not compressed, if that could be had.
type bundled struct {
	frame   *Frame
	payload []byte
}

// gather takes the first frames, as long as their payloads have no more than most
// bytes together, and undoes their compression.
func gather(frames []Frame, most int) ([]bundled, error) {
	var items []bundled
	packed, size := 0, 0
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
		p := uncompressed(f.Payload)
		packed += len(f.Payload)
		size += len(p) + maxEntry
		if i > 0 && (packed > most || size > MaxDecoded) {
			break
		}
		items = append(items, bundled{f, p})
	}
	return items, nil
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
		raw = binary.AppendUvarint(raw, uint64(len(it.payload)))
		epoch, seq, age = f.Epoch, f.Seq, f.AgeMS
	}
	for _, it := range items {
		raw = append(raw, it.payload...)
	}
	b := Bundle{Count: uint32(len(items)), Size: uint32(len(raw)), CRC: crc32.Checksum(raw, castagnoli)}
	b.Data = deflate(plain(), []byte{formZstd}, raw)
	if len(b.Data) > len(raw) {
		b.Data = append([]byte{formRaw}, raw...)
	}
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
	raw, err := m.raw()
	if err != nil {
		return nil, err
	}
	if crc32.Checksum(raw, castagnoli) != m.CRC {
		return nil, errors.New("frames differ from their checksum")
	}
	frames := make([]Frame, m.Count)
	lengths := make([]int, m.Count)
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
		if class == 0 || class > 255 || n > MaxPayload {
			return nil, fmt.Errorf("frame of class %d with a payload of %d bytes", class, n)
		}
		frames[i] = Frame{Epoch: epoch, Seq: seq, Class: Class(class), AgeMS: age}
		lengths[i] = int(n)
	}
	rest := table.b
	for i := range frames {
		n := lengths[i]
		if n > len(rest) {
			return nil, errors.New("payloads end early")
		}
		frames[i].Payload, rest = rest[:n:n], rest[n:]
		frames[i].CRC = crc32.Checksum(frames[i].Payload, castagnoli)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%d bytes too many", len(rest))
	}
	return frames, nil
}

// raw undoes the compression into exactly Size bytes.
func (m *Bundle) raw() ([]byte, error) {
	form, data := m.Data[0], m.Data[1:]
	switch form {
	case formRaw:
		if len(data) != int(m.Size) {
			return nil, fmt.Errorf("%d bytes instead of %d", len(data), m.Size)
		}
		return data, nil
	case formZstd:
		raw, err := inflate(data, int(m.Size))
		if err == nil && len(raw) != int(m.Size) {
			err = fmt.Errorf("decompress: %d bytes instead of %d", len(raw), m.Size)
		}
		return raw, err
	}
	return nil, fmt.Errorf("compressed in the unknown way %d", form)
}

// uncompressed gives a payload that reads the same and is not compressed, so that it
// can be compressed with others; p itself when that cannot be had.
func uncompressed(p []byte) []byte {
	switch {
	case len(p) > 1 && p[0] == 2 && p[1] != formRaw:
		noise, columns, err := unpack2(p[1:])
		if err != nil || len(noise)+len(columns) > MaxPayload-16 {
			return p
		}
		out := binary.AppendUvarint([]byte{2, formRaw}, uint64(len(noise)))
		return append(append(out, noise...), columns...)
	case len(p) > 1 && p[0] == 1:
		raw, err := decompressor().DecodeAll(p[1:], nil)
		if err != nil || len(raw) > MaxPayload-64 {
			return p
		}
		return storedZstd([]byte{1}, raw)
	}
	return p
}

// storedZstd appends a zstd frame that only stores raw (RFC 8878, 3.1.1).
func storedZstd(dst, raw []byte) []byte {
	const maxBlock = 128 << 10
	dst = slices.Grow(dst, len(raw)+32)
	dst = append(dst, magicBytes...)
	dst = append(dst, 2<<6|1<<5) // length in four bytes, which is the window as well
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(raw)))
	for {
		n := min(len(raw), maxBlock)
		head := uint32(n) << 3
		if n == len(raw) {
			head |= 1
		}
		dst = append(dst, byte(head), byte(head>>8), byte(head>>16))
		dst = append(dst, raw[:n]...)
		if raw = raw[n:]; len(raw) == 0 {
			return dst
		}
	}
}
