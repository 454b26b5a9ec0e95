package scrape

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"sidetone/agent/internal/threecx"
)

// cursor is the place in the event log, kept in a small file.
//
// The file holds the place of the reading before the last: its rows have long
// reached the spool, while those of the last may still be gathered. After a crash
// some entries are read twice, none is lost; they carry the PBX's own id.
type cursor struct {
	file    string
	at      threecx.EventCursor
	written int64 // what the file holds; 0 = nothing
}

type cursorFile struct {
	LastEvent int64 `json:"last_event"`
}

// maxCursorFile is far more than the file ever holds.
const maxCursorFile = 4 << 10

func (c *cursor) load() error {
	if c.file == "" {
		return nil
	}
	info, err := os.Stat(c.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open event cursor: %w", err)
	}
	if info.Size() > maxCursorFile {
		return fmt.Errorf("open event cursor %s: it is too large", c.file)
	}
	raw, err := os.ReadFile(c.file)
	if err != nil {
		return fmt.Errorf("open event cursor: %w", err)
	}
	var f cursorFile
	if err := json.Unmarshal(raw, &f); err != nil || f.LastEvent < 0 {
		return fmt.Errorf("open event cursor %s: it is damaged", c.file)
	}
	c.at = threecx.EventCursor{Known: true, Last: f.LastEvent}
	c.written = f.LastEvent
	return nil
}

// advance moves on to next and writes down where we were before.
func (c *cursor) advance(next threecx.EventCursor) error {
	before := c.at
	c.at = next
	return c.keep(before)
}

// close writes down the last place: at an orderly stop what was read is kept by
// those who got it.
func (c *cursor) close() error { return c.keep(c.at) }

func (c *cursor) keep(at threecx.EventCursor) error {
	if c.file == "" || !at.Known || at.Last == c.written {
		return nil
	}
	raw, err := json.Marshal(cursorFile{LastEvent: at.Last})
	if err != nil {
		return fmt.Errorf("keep event cursor: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(c.file), ".event-cursor-*")
	if err != nil {
		return fmt.Errorf("keep event cursor: %w", err)
	}
	_, err = tmp.Write(raw)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), c.file)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("keep event cursor: %w", err)
	}
	c.written = at.Last
	return nil
}
