package spool

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Views are second directories of the same database, which may be opened and even
// changed without harm: tables, which are never changed in place, are linked, the rest
// is copied. Badger's own read-only mode does not open what was killed.
const (
	viewPrefix   = "verify-" // of Verify and CheckDir
	beforePrefix = "before-" // what Open keeps until the promise was compared
)

// dropViews removes what a killed process left. The caller holds the lock.
func dropViews(dir string) {
	for _, pattern := range []string{viewPrefix + "*", beforePrefix + "*"} {
		for _, v := range matches(dir, pattern) {
			_ = os.RemoveAll(v)
		}
	}
}

// viewOf makes a view of the database db in dir. A table that cannot be linked is
// copied, or, with onlyLinks, an error.
func viewOf(dir, db, prefix string, onlyLinks bool) (view string, err error) {
	files, err := os.ReadDir(db)
	if err != nil {
		return "", err
	}
	view, err = os.MkdirTemp(dir, prefix)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(view))
		}
	}()
	for _, f := range files {
		from, to := filepath.Join(db, f.Name()), filepath.Join(view, f.Name())
		if f.Name() == "LOCK" || !f.Type().IsRegular() {
			continue
		}
		if filepath.Ext(f.Name()) == ".sst" {
			err := os.Link(from, to)
			if err == nil {
				continue
			}
			if onlyLinks {
				return view, err
			}
		}
		if err := copyFile(from, to); err != nil {
			return view, err
		}
	}
	return view, nil
}

// copyFile copies a file and leaves out what is zero: most of Badger's logs is a hole.
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
	return errors.Join(copySparse(out, in), out.Close())
}

func copySparse(out *os.File, in io.Reader) error {
	buf := make([]byte, 64<<10)
	at := int64(0)
	for {
		n, err := io.ReadFull(in, buf)
		if n > 0 && !allZero(buf[:n]) {
			if _, err := out.WriteAt(buf[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return out.Truncate(at)
		}
		if err != nil {
			return err
		}
	}
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// holdsData tells whether a database has more than an empty one.
func holdsData(db string) bool {
	for _, pattern := range []string{"*.sst", "*.mem"} {
		if list, _ := filepath.Glob(filepath.Join(db, pattern)); len(list) > 0 {
			return true
		}
	}
	return false
}

// keepBefore keeps the files as they are before the database is opened: what Badger
// then leaves out, it also removes. Without room for it, opening goes on all the same.
func (s *Spool) keepBefore(db string) {
	s.dropBefore()
	if !holdsData(db) {
		return
	}
	view, err := viewOf(s.cfg.Dir, db, beforePrefix, true)
	if err != nil {
		s.deps.Log.Debug().Err(err).Msg("files of the spool are not kept while it opens")
		return
	}
	s.before = view
}

func (s *Spool) dropBefore() {
	if s.before != "" {
		_ = os.RemoveAll(s.before)
		s.before = ""
	}
}

// exists is false only when there is certainly nothing.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
