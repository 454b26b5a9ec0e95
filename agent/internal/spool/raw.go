package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4/fb"
)

// What is left of a database that Badger cannot open, or of which it opened only a part,
// is read here file by file, without Badger: each block of a table and each entry of a
// log has a checksum of its own, so damage costs only what it touches.

const (
	metaDelete   = 1 << 0
	metaPointer  = 1 << 1 // the value is in the value log, which we never use
	logHeader    = 20     // key id and nonce of Badger's encryption, which we do not use
	versionBytes = 8      // behind each key: math.MaxUint64 - version, big-endian
	maxLog       = 256 << 20
)

// rawEntry is one version of a key as a file has it. Key and value are only valid
// during the call that hands it out.
type rawEntry struct {
	key     []byte
	version uint64
	deleted bool
	value   []byte
}

func newRawEntry(k []byte, meta byte, v []byte) (rawEntry, bool) {
	if len(k) <= versionBytes || meta&metaPointer != 0 {
		return rawEntry{}, false
	}
	at := len(k) - versionBytes
	return rawEntry{k[:at], math.MaxUint64 - binary.BigEndian.Uint64(k[at:]), meta&metaDelete != 0, v}, true
}

// scanFiles hands out every version of every key in the tables and logs of a database,
// as far as they are readable, and tells how many places were not. Files come by name,
// the versions of a key in no order. It stops when each returns false.
func scanFiles(dir string, each func(rawEntry) bool) (bad int) {
	more := true
	next := func(e rawEntry) bool {
		more = more && each(e)
		return more
	}
	for _, kind := range []struct {
		pattern string
		scan    func(string, func(rawEntry) bool) (int, error)
	}{{"*.sst", scanTable}, {"*.mem", scanLog}} {
		list, _ := filepath.Glob(filepath.Join(dir, kind.pattern))
		for _, path := range list {
			n, err := kind.scan(path, next)
			if bad += n; err != nil {
				bad++
			}
			if !more {
				return bad
			}
		}
	}
	return bad
}

// scanTable reads the blocks of a table. bad counts those that cannot be read.
func scanTable(path string, each func(rawEntry) bool) (bad int, err error) {
	defer caught("read table", &err) // offsets are checked, yet it is a file
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	index, err := readIndex(f, st.Size())
	if err != nil {
		return 0, fmt.Errorf("index: %w", err)
	}
	ti := fb.GetRootAsTableIndex(index, 0)
	var o fb.BlockOffset
	for i := range ti.OffsetsLength() {
		if !ti.Offsets(&o, i) {
			return bad, errTable
		}
		b, err := readBlock(f, int64(o.Offset()), int64(o.Len()))
		if err != nil || !scanBlock(b, each) {
			bad++
		}
	}
	return bad, nil
}

// readBlock reads a block and checks it: entries, their offsets (4 bytes each), the
// number of them; behind that, checksum and the length of the checksum.
func readBlock(f io.ReaderAt, start, size int64) ([]byte, error) {
	sum, end, err := readSum(f, start+size)
	if err != nil || end < start {
		return nil, errors.Join(errTable, err)
	}
	return readChecked(f, start, end-start, sum)
}

// scanBlock reads the entries of a checked block. A key shares its beginning with the
// first key of the block: two bytes say how much, two how long the rest is.
func scanBlock(b []byte, each func(rawEntry) bool) bool {
	if len(b) < 4 {
		return false
	}
	n := int64(binary.BigEndian.Uint32(b[len(b)-4:]))
	offsets := int64(len(b)) - 4 - 4*n
	if offsets < 0 {
		return false
	}
	var first, k []byte
	for i := range n {
		from, to := int64(binary.NativeEndian.Uint32(b[offsets+4*i:])), offsets
		if i+1 < n {
			to = int64(binary.NativeEndian.Uint32(b[offsets+4*(i+1):]))
		}
		if from < 0 || to > offsets || to-from < 4 {
			return false
		}
		e := b[from:to]
		shared, rest := int(binary.NativeEndian.Uint16(e)), int(binary.NativeEndian.Uint16(e[2:]))
		if shared > len(first) || 4+rest+2 > len(e) {
			return false
		}
		k = append(append(k[:0], first[:shared]...), e[4:4+rest]...)
		if i == 0 {
			first = append([]byte(nil), k...)
		}
		v := e[4+rest:]
		_, m := binary.Uvarint(v[2:])
		if m <= 0 {
			return false
		}
		if r, ok := newRawEntry(k, v[0], v[2+m:]); ok && !each(r) {
			return true
		}
	}
	return true
}

// scanLog reads the entries of a log, also those behind a damaged place. bad counts the
// places; the unused end of a log is not one.
func scanLog(path string, each func(rawEntry) bool) (bad int, err error) {
	defer caught("read log", &err)
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxLog))
	if err != nil && len(b) <= logHeader {
		return 0, err
	}
	inDamage := false
	for at := logHeader; at < len(b); {
		if b[at] == 0 { // unused: entries begin with a bit of meta
			at++
			continue
		}
		n, e, ok := logEntry(b[at:])
		if n == 0 {
			if !inDamage {
				bad++
				inDamage = true
			}
			at++
			continue
		}
		inDamage = false
		at += n
		if ok && !each(e) {
			break
		}
	}
	return bad, nil
}

// logEntry reads the entry that b begins with: two bytes of meta, lengths of key and
// value and the expiry as varints, key, value, CRC-32C. No entry means n = 0.
func logEntry(b []byte) (n int, e rawEntry, ok bool) {
	var v [3]uint64
	at := 2
	for i := range v {
		if at >= len(b) {
			return 0, e, false
		}
		x, m := binary.Uvarint(b[at:min(len(b), at+binary.MaxVarintLen64)])
		if m <= 0 {
			return 0, e, false
		}
		v[i] = x
		at += m
	}
	klen, vlen := v[0], v[1]
	if klen == 0 || klen > 64<<10 || vlen > maxTable || uint64(at)+klen+vlen+4 > uint64(len(b)) {
		return 0, e, false
	}
	end := at + int(klen+vlen)
	if binary.BigEndian.Uint32(b[end:]) != crc32.Checksum(b[:end], castagnoli) {
		return 0, e, false
	}
	k := b[at : at+int(klen)]
	e, ok = newRawEntry(k, b[0], b[at+int(klen):end])
	return end + 4, e, ok
}
