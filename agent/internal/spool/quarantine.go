package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	// maxQuarantines bounds the databases that are kept; together they take at most
	// what the spool itself may take.
	maxQuarantines   = 2
	quarantinePrefix = "spool.quarantine-"
	// maxAside bounds the records set aside; with MaxPayload they are 16 MB at most.
	maxAside = 64
)

func stamp(t time.Time) string { return t.UTC().Format("20060102T150405.000Z") }

// quarantine renames a database that cannot be opened, makes the name free, and returns
// the new one. When its files were kept as they were before Badger touched them, those
// are what is kept. The sentinel goes with it, to tell later what waited then.
func (s *Spool) quarantine(dir string, cause error) string {
	name := quarantinePrefix + stamp(s.deps.Now())
	to := s.cfg.path(name)
	from := dir
	if s.before != "" && os.RemoveAll(dir) == nil {
		from, s.before = s.before, ""
	}
	err := os.Rename(from, to)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err != nil {
		s.deps.Log.Error().Err(err).AnErr("reason", cause).Msg("damaged spool cannot be set aside: stop the agent and move the directory away")
		return ""
	}
	s.deps.Log.Error().Err(cause).Str("path", to).Msg("spool database cannot be opened: set aside, a new one is started")
	s.note(StateOK, StateQuarantined, fmt.Sprintf("%s: %s", name, cause))
	_ = copyFile(s.cfg.path(sentinelName), filepath.Join(to, sentinelName)) // a file instead of a directory has no room for it
	keepNewest(s.cfg.Dir, quarantinePrefix+"*", maxQuarantines)
	for _, old := range matches(s.cfg.Dir, quarantinePrefix+"*")[1:] {
		if dirSize(to)+dirSize(old) > s.cfg.MaxBytes {
			s.deps.Log.Warn().Str("path", old).Msg("older quarantined spool removed for want of room")
			_ = os.RemoveAll(old)
		}
	}
	return to
}

// matches lists files by pattern, the newest name first.
func matches(dir, pattern string) []string {
	list, _ := filepath.Glob(filepath.Join(dir, pattern))
	slices.Sort(list)
	slices.Reverse(list)
	return list
}

func keepNewest(dir, pattern string, n int) {
	if list := matches(dir, pattern); len(list) > n {
		for _, old := range list[n:] {
			_ = os.RemoveAll(old)
		}
	}
}

// dirSize is what the files really take: Badger's are sparse and mostly longer than
// what is in them, so this errs on the safe side.
func dirSize(dir string) uint64 {
	var n uint64
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			n += allocated(info)
		}
		return nil
	})
	return n
}

// setAside keeps the bytes of a record that cannot be delivered, for a person. At most
// maxAside files are kept, the oldest go first.
func (s *Spool) setAside(e entry, reason string) {
	var v []byte
	if e.state == inMemory {
		v = s.payloads[e.seq]
	} else if s.db != nil {
		v, _ = s.db.get(key(prefixRecord, s.epochOf(e.seq), e.seq))
	}
	free, appends, _ := s.space()
	if len(v) == 0 || free < appends {
		return
	}
	dir := s.cfg.path("aside")
	keepNewest(dir, "*.record", maxAside-1)
	name := fmt.Sprintf("%s-%d-%d.record", stamp(s.deps.Now()), s.epochOf(e.seq), e.seq)
	if err := os.MkdirAll(dir, 0o700); err == nil {
		err = os.WriteFile(filepath.Join(dir, name), v, 0o600)
		if err != nil {
			s.deps.Log.Warn().Err(err).Msg("record cannot be set aside")
		}
	}
	s.deps.Log.Debug().Uint64("seq", e.seq).Str("path", name).Str("reason", clip(reason)).Msg("record set aside")
}
