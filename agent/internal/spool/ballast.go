package spool

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"time"
)

// The ballast is a file of no use but its size: thrown off when the disk is nearly full,
// it gives the room in which records can still be deleted and the database compacted.

const (
	ballastName         = "ballast"
	DefaultBallastBytes = 32 << 20
	// ballastShare bounds the ballast to this share of the disk: on a small one it would
	// be the shortage that it is against.
	ballastShare = 128
	// retryBallast is the time between two tries to make it.
	retryBallast = 10 * time.Minute
	ballastBlock = 1 << 20
)

// tendBallast makes the ballast when there is plenty of space: twice what appends need,
// so that making it never brings the shortage.
func (s *Spool) tendBallast() {
	size := s.cfg.BallastBytes
	path := s.cfg.path(ballastName)
	if s.cfg.NoBallast {
		_ = os.Remove(path)
		return
	}
	now := s.deps.Now()
	if !s.ballastAt.IsZero() && now.Sub(s.ballastAt).Abs() < retryBallast {
		return
	}
	s.ballastAt = now
	if st, err := os.Stat(path); err == nil && uint64(st.Size()) == size {
		return
	}
	free, total, err := s.deps.FreeSpace(s.cfg.Dir)
	if err != nil || size > total/ballastShare {
		return
	}
	if appends, _ := s.limits(total); free < 2*appends+size {
		return
	}
	if err := writeBallast(path, size); err != nil {
		_ = os.Remove(path)
		s.deps.Log.Warn().Err(err).Str("path", path).Msg("ballast of the spool cannot be made")
		return
	}
	if s.ballastGone {
		s.ballastGone = false
		s.note(StateBallastGone, StateOK, "there is room again: the spool has its ballast back")
	}
	s.deps.Log.Info().Str("path", path).Msg("ballast of the spool made: room that is given back when the disk is nearly full")
}

// writeBallast fills the file with what neither compresses nor repeats, so that it takes
// its room on every filesystem. The name comes last: half a ballast is none.
func writeBallast(path string, size uint64) (err error) {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp)
		}
	}()
	block := make([]byte, min(size, ballastBlock))
	src := rand.NewChaCha8([32]byte{1})
	for left := size; left > 0 && err == nil; {
		n := min(left, uint64(len(block)))
		_, _ = src.Read(block) // never fails
		_, err = f.Write(block[:n])
		left -= n
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// dropBallast throws the ballast off and tells whether there was one.
func (s *Spool) dropBallast() bool {
	err := os.Remove(s.cfg.path(ballastName))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.deps.Log.Warn().Err(err).Msg("ballast of the spool cannot be removed")
		}
		return false
	}
	s.ballastAt, s.ballastGone = s.deps.Now(), true
	s.deps.Log.Warn().Msg("disk is nearly full: ballast of the spool removed")
	s.note(StateOK, StateBallastGone, "the disk is nearly full: the spool gave back its ballast")
	return true
}
