package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dgraph-io/badger/v4/fb"
)

// Badger opens its tables in goroutines of its own, where a damaged index or last
// block is a panic or an exit that nobody can catch. So both are checked here first.
// What still ends the process while the database opens is caught by the count of
// openings that did not return: the database is then set aside at the third start.

const (
	openingName = "opening"
	// maxDied is how many openings in a row may end with the process, for a machine
	// that was switched off just then.
	maxDied = 2
	// maxTable bounds what is believed of a table; ours have 2 MB and somewhat more.
	maxTable = 64 << 20
)

var errDied = errors.New("the process ended while opening it")

// mayOpenDB counts the opening; opened ends it.
func (s *Spool) mayOpenDB() error {
	path := s.cfg.path(openingName)
	died := 0
	if b, err := os.ReadFile(path); err == nil {
		died, _ = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	if died >= maxDied {
		s.openedDB()
		return fmt.Errorf("%w, %d times", errDied, died)
	}
	// Without the file there is no fence, which is no reason not to open.
	_ = os.WriteFile(path, []byte(strconv.Itoa(died+1)), 0o600)
	return nil
}

func (s *Spool) openedDB() { _ = os.Remove(s.cfg.path(openingName)) }

// checkTables looks at what Badger reads of each table when it opens: the index and the
// last block. Of the newest tables, up to full bytes, it reads all blocks.
func checkTables(dir string, full int64) error {
	for _, path := range matches(dir, "*.sst") {
		if st, err := os.Stat(path); err == nil {
			full -= st.Size()
		}
		if err := checkTable(path, full >= 0); err != nil {
			return fmt.Errorf("table %s: %w", filepath.Base(path), err)
		}
	}
	return nil
}

var errTable = errors.New("is damaged")

// checkTable reads a table from its end: length of a checksum (4 bytes, big-endian),
// checksum, length of the index, index; before them the blocks, each of which ends with
// the length of a checksum and the checksum before that.
func checkTable(path string, all bool) (err error) {
	defer caught("check table", &err) // the index is walked after its checksum, yet it is a file
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	index, err := readIndex(f, st.Size())
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	ti := fb.GetRootAsTableIndex(index, 0)
	var o fb.BlockOffset
	n := ti.OffsetsLength()
	if n == 0 {
		return fmt.Errorf("index: %w", errTable)
	}
	for i := range n {
		if !all && i < n-1 {
			continue
		}
		if !ti.Offsets(&o, i) {
			return fmt.Errorf("index: %w", errTable)
		}
		if _, err := readBlock(f, int64(o.Offset()), int64(o.Len())); err != nil {
			return fmt.Errorf("block %d of %d: %w", i+1, n, err)
		}
	}
	return nil
}

// readIndex reads the index of a table of this size.
func readIndex(f io.ReaderAt, size int64) ([]byte, error) {
	sum, at, err := readSum(f, size)
	if err != nil {
		return nil, err
	}
	n, at, err := readLen(f, at)
	if err != nil {
		return nil, err
	}
	return readChecked(f, at-int64(n), int64(n), sum)
}

// readSum reads the checksum that ends at end, and tells where it begins.
func readSum(f io.ReaderAt, end int64) (sum uint64, at int64, err error) {
	n, at, err := readLen(f, end)
	if err != nil {
		return 0, 0, err
	}
	if at -= int64(n); n > 64 || at < 0 {
		return 0, 0, errTable
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, at); err != nil {
		return 0, 0, err
	}
	sum, ok := checksumOf(b)
	if !ok {
		return 0, 0, errTable
	}
	return sum, at, nil
}

func readChecked(f io.ReaderAt, at, n int64, sum uint64) ([]byte, error) {
	if at < 0 || n < 0 || n > maxTable {
		return nil, errTable
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, at); err != nil {
		return nil, errors.Join(errTable, err)
	}
	if uint64(crc32.Checksum(b, castagnoli)) != sum {
		return nil, errTable
	}
	return b, nil
}

func readLen(f io.ReaderAt, end int64) (n uint32, at int64, err error) {
	if end < 4 {
		return 0, 0, errTable
	}
	var b [4]byte
	if _, err := f.ReadAt(b[:], end-4); err != nil {
		return 0, 0, err
	}
	return binary.BigEndian.Uint32(b[:]), end - 4, nil
}

// checksumOf reads the two fields of Badger's Checksum message: algorithm, which must
// be CRC-32C (0, so usually left out), and sum.
func checksumOf(b []byte) (sum uint64, ok bool) {
	for len(b) > 0 {
		field, n := binary.Uvarint(b)
		if n <= 0 {
			return 0, false
		}
		v, m := binary.Uvarint(b[n:])
		if m <= 0 {
			return 0, false
		}
		switch field {
		case 1 << 3:
			if v != 0 {
				return 0, false
			}
		case 2 << 3:
			sum, ok = v, true
		default:
			return 0, false
		}
		b = b[n+m:]
	}
	return sum, ok
}
