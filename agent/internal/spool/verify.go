package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rs/zerolog"
)

// Check is the result of Verify.
type Check struct {
	Epoch, NextSeq uint64   `json:"-"`
	Records        uint64   `json:"records"`
	Bytes          uint64   `json:"payload_bytes"`
	Gaps           uint64   `json:"gaps"`
	Damaged        []uint64 `json:"damaged,omitempty"` // at most 100 are listed
	DamagedTotal   uint64   `json:"damaged_total"`
	// Missing counts records that the sentinel promises and the database lacks.
	Missing uint64 `json:"missing_total"`
}

// OK says that nothing is wrong.
func (c Check) OK() bool { return c.DamagedTotal == 0 && c.Missing == 0 }

// Verify reads every record of a spool that no agent has open, checks it, and changes
// nothing.
func Verify(dir string, log zerolog.Logger) (Check, error) {
	var c Check
	if _, err := os.Stat(filepath.Join(dir, dbName)); errors.Is(err, fs.ErrNotExist) {
		return c, ErrNoSpool
	}
	if inUse(dir) {
		return c, ErrLocked
	}
	view, err := viewOf(dir)
	if err != nil {
		return c, fmt.Errorf("verify spool %s: %w", dir, err)
	}
	defer func() { _ = os.RemoveAll(view) }()
	db, err := openStore(view, log)
	if err != nil {
		return c, fmt.Errorf("open spool %s: %w", dir, err)
	}
	defer func() { _ = db.close() }()
	idx, _, gaps, err := loadAll(db)
	if err != nil {
		return c, fmt.Errorf("read spool %s: %w", dir, err)
	}
	c.Gaps = uint64(gaps.len())
	var seen spans
	err = db.scan(prefixRecord, func(k, v []byte) error {
		n, ok := splitKey(k, 2)
		if !ok {
			return nil
		}
		c.Records++
		seen.add(n[1])
		r, err := decodeRecord(n[0], n[1], v)
		if err != nil {
			c.damaged(n[1])
			return nil
		}
		c.Bytes += uint64(len(r.Payload))
		return nil
	})
	if err != nil {
		return c, fmt.Errorf("read spool %s: %w", dir, err)
	}
	idx.each(0, func(e entry) bool {
		if !seen.has(e.seq) {
			c.damaged(e.seq)
		}
		return true
	})
	if p, err := readSentinel(filepath.Join(dir, sentinelName)); err == nil && p != nil {
		c.Epoch, c.NextSeq = p.Epoch, p.Next
		c.Missing = p.missing(seen).count()
	}
	return c, nil
}

// viewOf makes a second directory of the same database, which may be opened and even
// changed without harm: tables, which are never changed in place, are linked, the rest
// is copied. Badger's own read-only mode does not open what was killed.
func viewOf(dir string) (view string, err error) {
	view, err = os.MkdirTemp(dir, "verify-")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(view))
		}
	}()
	files, err := os.ReadDir(filepath.Join(dir, dbName))
	if err != nil {
		return view, err
	}
	for _, f := range files {
		from, to := filepath.Join(dir, dbName, f.Name()), filepath.Join(view, f.Name())
		switch {
		case f.Name() == "LOCK" || !f.Type().IsRegular():
		case filepath.Ext(f.Name()) == ".sst" && os.Link(from, to) == nil:
		default:
			if err := copyFile(from, to); err != nil {
				return view, err
			}
		}
	}
	return view, nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func (c *Check) damaged(seq uint64) {
	c.DamagedTotal++
	if len(c.Damaged) < 100 {
		c.Damaged = append(c.Damaged, seq)
	}
}
