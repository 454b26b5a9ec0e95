package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/rs/zerolog"
)

// store is Badger behind the few calls that the spool makes. No Badger type leaves
// this file. A panic inside a call comes back as an error; a panic in a goroutine of
// Badger's own, and SIGBUS on a full disk, cannot be caught: the free-space guard is
// there so that they do not happen.
type store struct {
	db  *badger.DB
	log *logFlusher // nil: Badger flushes
}

// logFlusher makes writes durable in Badger's place, with one flush instead of two:
// Badger flushes its value log with every write too, in which we have nothing. The log
// of a memtable is a mapped file, and flushing the file flushes what was written to it.
// A new one has the next number.
type logFlusher struct {
	dir string
	id  int
	f   *os.File

	turned bool // a memtable was changed for the next: see turnedOver
}

func newLogFlusher(dir string) (*logFlusher, error) {
	l := &logFlusher{dir: dir, id: -1}
	for _, path := range matches(dir, "*.mem") {
		id := 0
		if _, err := fmt.Sscanf(filepath.Base(path), "%d.mem", &id); err == nil {
			l.id = max(l.id, id)
		}
	}
	if l.id < 0 {
		return nil, errors.New("badger has no log")
	}
	var err error
	l.f, err = os.Open(l.path(l.id))
	return l, err
}

func (l *logFlusher) path(id int) string { return filepath.Join(l.dir, fmt.Sprintf("%05d.mem", id)) }

// flush makes what was written durable. The caller's write was the last one: should the
// memtable have been changed for it, it is in the new log, and the former one was flushed
// by the writes before.
func (l *logFlusher) flush() error {
	for {
		next, err := os.Open(l.path(l.id + 1))
		if errors.Is(err, fs.ErrNotExist) {
			return syncData(l.f)
		}
		if err != nil {
			return err
		}
		_ = l.f.Close() // it was only read
		l.f, l.id, l.turned = next, l.id+1, true
	}
}

// turnedOver tells, once, that a memtable was written to a table since it was last asked.
func (s *store) turnedOver() bool {
	if s.log == nil || !s.log.turned {
		return false
	}
	s.log.turned = false
	return true
}

// write is one change of a key: no value means delete.
type write struct{ key, value []byte }

// errNotFound says that a key has no value.
var errNotFound = errors.New("no such key")

// smallProfile keeps Badger at a few MB of memory and of sparse files; its defaults want
// hundreds. Values stay inside the tables (ValueThreshold is above any
// value), so the value log is empty and needs no garbage collection.
func smallProfile(dir string, log zerolog.Logger) badger.Options {
	const memtable = 1 << 20
	o := badger.DefaultOptions(dir)
	o.Logger = badgerLog{log}
	o.SyncWrites = !flushesLog
	o.MemTableSize = memtable
	o.NumMemtables = 2
	o.NumLevelZeroTables = 2
	o.NumLevelZeroTablesStall = 4
	o.NumCompactors = 2
	o.BaseTableSize = 2 << 20
	o.BaseLevelSize = 64 << 20
	o.ValueLogFileSize = 2 << 20
	o.ValueThreshold = memtable*15/100 - 1
	o.Compression = options.None // payloads are zstd already
	o.BlockCacheSize = 0
	o.IndexCacheSize = 0
	o.DetectConflicts = false // one writer
	o.MetricsEnabled = false  // they are global variables
	o.ChecksumVerificationMode = options.OnBlockRead
	o.VerifyValueChecksum = true
	o.NumGoroutines = 1
	return o
}

func openStore(dir string, logTo zerolog.Logger) (s *store, err error) {
	defer caught("open", &err)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	db, err := badger.Open(smallProfile(dir, logTo))
	if err != nil {
		return nil, err
	}
	if !flushesLog {
		return &store{db: db}, nil
	}
	log, err := newLogFlusher(dir)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &store{db, log}, nil
}

func (s *store) close() (err error) {
	defer caught("close", &err)
	if s.log != nil {
		_ = s.log.f.Close() // it was only read
	}
	return s.db.Close()
}

// compact brings the tables of all levels together, without what was deleted.
func (s *store) compact() (err error) {
	defer caught("compact", &err)
	return s.db.Flatten(1)
}

// write makes all changes or none, and returns when they are on disk.
func (s *store) write(ws []write) (err error) {
	defer caught("write", &err)
	err = s.db.Update(func(txn *badger.Txn) error {
		for _, w := range ws {
			var err error
			if w.value == nil {
				err = txn.Delete(w.key)
			} else {
				err = txn.Set(w.key, w.value)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || s.log == nil {
		return err
	}
	return s.log.flush()
}

// get returns a copy of the value.
func (s *store) get(k []byte) (v []byte, err error) {
	defer caught("read", &err)
	err = s.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(k)
		if errors.Is(err, badger.ErrKeyNotFound) {
			return errNotFound
		}
		if err != nil {
			return err
		}
		v, err = item.ValueCopy(nil)
		return err
	})
	return v, err
}

// scan calls f with each key of a key space and its value, in order. Both are only
// valid during the call.
func (s *store) scan(prefix byte, f func(k, v []byte) error) (err error) {
	defer caught("scan", &err)
	return s.db.View(func(txn *badger.Txn) error {
		o := badger.DefaultIteratorOptions
		o.Prefix = []byte{prefix}
		o.PrefetchSize = 16
		it := txn.NewIterator(o)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			item := it.Item()
			if err := item.Value(func(v []byte) error { return f(item.Key(), v) }); err != nil {
				return err
			}
		}
		return nil
	})
}

// caught turns a panic of the calling goroutine into an error.
func caught(what string, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%s: badger panicked: %v", what, p)
	}
}

// badgerLog passes on what a person may need; the rest is debug.
type badgerLog struct{ log zerolog.Logger }

func (l badgerLog) Errorf(f string, a ...any)   { l.log.Warn().Msgf("badger: "+f, a...) }
func (l badgerLog) Warningf(f string, a ...any) { l.log.Debug().Msgf("badger: "+f, a...) }
func (l badgerLog) Infof(f string, a ...any)    { l.log.Trace().Msgf("badger: "+f, a...) }
func (l badgerLog) Debugf(f string, a ...any)   {}
