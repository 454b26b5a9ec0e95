package spool

import (
	"errors"
	"fmt"
	"math"
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
	// NoKey counts records that are whole, and encrypted with a key that is not here.
	NoKey uint64   `json:"no_key_total"`
	Notes []string `json:"notes,omitempty"`
}

// OK says that nothing is wrong.
func (c Check) OK() bool { return c.DamagedTotal == 0 && c.Missing == 0 && c.NoKey == 0 }

// Verify is VerifyConfig with the usual place of keys.
func Verify(dir string, log zerolog.Logger) (Check, error) {
	return VerifyConfig(Config{Dir: dir}, log)
}

// VerifyConfig reads every record of a spool that no agent has open, checks it, decrypts
// it if need be, and changes nothing. Of cfg it takes the directory and where keys are.
func VerifyConfig(cfg Config, log zerolog.Logger) (c Check, err error) {
	cfg = cfg.withDefaults()
	dir := cfg.Dir
	if !exists(cfg.path(dbName)) {
		return c, ErrNoSpool
	}
	lock, err := takeLock(cfg.path(lockName))
	if err != nil {
		return c, err
	}
	defer func() { _ = lock.Close() }()
	dropViews(dir)
	if err := checkTables(cfg.path(dbName), math.MaxInt64); err != nil {
		return c, fmt.Errorf("read spool %s: %w", dir, err)
	}
	view, err := viewOf(dir, cfg.path(dbName), viewPrefix, false)
	if err != nil {
		return c, fmt.Errorf("verify spool %s: %w", dir, err)
	}
	defer func() { _ = os.RemoveAll(view) }()
	cfg.Encrypt = false // make no key
	keys, err := loadKeys(cfg)
	if err != nil {
		c.Notes = append(c.Notes, err.Error())
	}
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
		r, err := decodeValue(keys, n[0], n[1], v)
		if errors.Is(err, errNoKey) {
			c.NoKey++
			return nil
		}
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

func (c *Check) damaged(seq uint64) {
	c.DamagedTotal++
	if len(c.Damaged) < 100 {
		c.Damaged = append(c.Damaged, seq)
	}
}
