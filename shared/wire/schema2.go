package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"sidetone/shared/telemetry"
)

// Kinds of tables in a payload of schema 2. A number is never given twice; a reader
// skips kinds that it does not know.
const (
	kindTargets      = 1
	kindProbes       = 2
	kindPBXStatuses  = 3
	kindTrunks       = 4
	kindSBCs         = 5
	kindServices     = 6
	kindExtensions   = 7
	kindBackups      = 8
	kindLicences     = 9
	kindEventLog     = 10
	kindStateChanges = 11
	kindAgentHealth  = 12
	kindLinkEvents   = 13
	kindGaps         = 14
)

// coder encodes or decodes one payload of schema 2 at a time.
type coder struct {
	table table
	texts texts
	near  telemetry.UnixMS // the first time of the payload
	list  []telemetry.Target
	place map[telemetry.ItemID]int // of each target in list, when encoding

	tables []byte

	// Scratch space of probes.
	attempts, lowest, scratch []uint32
	windows, expected         []telemetry.ProbeWindow

	rows int // when decoding
}

// coders keeps coders for their buffers: what an encoding allocates is its result.
var coders = sync.Pool{New: func() any {
	return &coder{texts: texts{index: make(map[string]int)}, place: make(map[telemetry.ItemID]int)}
}}

// kept bounds the buffers that a coder keeps for the next payload, by rows.
const kept = 4096

func (c *coder) release() {
	if len(c.table.deltas) > kept || len(c.tables) > 64*kept || len(c.scratch) > kept {
		return
	}
	c.texts.reset()
	clear(c.windows)
	clear(c.place)
	c.expected, c.list, c.table.bitsIn, c.table.in = nil, nil, bitReader{}, nil
	coders.Put(c)
}

// encode gives bits and columns of the set; both are only valid until release.
func (c *coder) encode(set *telemetry.Set) (noise, columns []byte, err error) {
	c.texts.reset()
	c.table.bitsOut = bitWriter{b: c.table.bitsOut.b[:0]}
	c.tables = c.tables[:0]
	c.near = firstTime(set)
	c.list = allTargets(set, c.place)
	if len(c.list) > MaxRows {
		return nil, nil, &TooLargeError{What: "targets", Has: len(c.list), Limit: MaxRows}
	}
	write(c, kindTargets, c.list, c.targets)
	write(c, kindProbes, set.ProbeWindows, c.probes)
	write(c, kindPBXStatuses, set.PBXStatuses, c.statuses)
	write(c, kindTrunks, set.Trunks, c.trunks)
	write(c, kindSBCs, set.SBCs, c.sbcs)
	write(c, kindServices, set.Services, c.services)
	write(c, kindExtensions, set.Extensions, c.extensions)
	write(c, kindBackups, set.Backups, c.backups)
	write(c, kindLicences, set.Licences, c.licences)
	write(c, kindEventLog, set.EventLog, c.eventLog)
	write(c, kindStateChanges, set.StateChanges, c.stateChanges)
	write(c, kindAgentHealth, set.AgentHealth, c.agentHealth)
	write(c, kindLinkEvents, set.LinkEvents, c.linkEvents)
	write(c, kindGaps, set.Gaps, c.gaps)
	c.table.bitsOut.flush()

	out := binary.AppendUvarint(c.table.out[:0], zigzag(int64(c.near)))
	out = append(c.texts.append(out), c.tables...)
	c.table.out = out
	return c.table.bitsOut.b, out, nil
}

// write writes a table: its kind, how many rows and which columns it has, its length.
func write[T any](c *coder, kind uint64, rows []T, describe func(*table, []T)) {
	if len(rows) == 0 {
		return
	}
	t := &c.table
	t.encoding = true
	t.begin(len(rows))
	describe(t, rows)
	out := binary.AppendUvarint(c.tables, kind)
	out = binary.AppendUvarint(out, uint64(len(rows)))
	out = binary.AppendUvarint(out, t.mask)
	out = binary.AppendUvarint(out, uint64(len(t.out)))
	c.tables = append(out, t.out...)
}

// allTargets is the set's targets and a bare one for every other that a window has:
// nothing measured is lost. It fills the place of each.
func allTargets(set *telemetry.Set, place map[telemetry.ItemID]int) []telemetry.Target {
	clear(place)
	if len(set.ProbeWindows) == 0 {
		return set.Targets
	}
	list := set.Targets[:len(set.Targets):len(set.Targets)]
	for i := len(list) - 1; i >= 0; i-- {
		place[list[i].ID] = i
	}
	for i := range set.ProbeWindows {
		id := set.ProbeWindows[i].Target
		if _, ok := place[id]; !ok {
			place[id] = len(list)
			list = append(list, telemetry.Target{ID: id})
		}
	}
	return list
}

// firstTime is a time that the others of the set are near to.
func firstTime(s *telemetry.Set) telemetry.UnixMS {
	switch {
	case len(s.ProbeWindows) > 0:
		return s.ProbeWindows[0].Observed
	case len(s.PBXStatuses) > 0:
		return s.PBXStatuses[0].Observed
	case len(s.Trunks) > 0:
		return s.Trunks[0].Observed
	case len(s.Services) > 0:
		return s.Services[0].Observed
	case len(s.SBCs) > 0:
		return s.SBCs[0].Observed
	case len(s.AgentHealth) > 0:
		return s.AgentHealth[0].Observed
	case len(s.StateChanges) > 0:
		return s.StateChanges[0].Observed
	case len(s.LinkEvents) > 0:
		return s.LinkEvents[0].Observed
	}
	return 0
}

// decode reads what encode wrote.
func (c *coder) decode(noise, columns []byte) (*telemetry.Set, error) {
	c.texts.reset()
	c.table.bitsIn = bitReader{b: noise}
	c.list, c.rows = nil, 0
	near, n := binary.Uvarint(columns)
	if n <= 0 {
		return nil, errors.New("no time")
	}
	c.near = telemetry.UnixMS(unzigzag(near))
	rest, err := c.texts.read(columns[n:])
	if err != nil {
		return nil, err
	}
	set := &telemetry.Set{}
	for last := uint64(0); len(rest) > 0; {
		h := column{b: rest}
		kind, rows, mask, size := h.take(), h.take(), h.take(), h.take()
		switch {
		case h.err != nil || size > uint64(len(h.b)):
			return nil, errors.New("tables end early")
		case kind <= last:
			return nil, fmt.Errorf("table %d comes after table %d", kind, last)
		case rows == 0 || kind <= kindGaps && rows > MaxRows:
			return nil, fmt.Errorf("%d rows in table %d", rows, kind)
		}
		c.table.encoding, c.table.in = false, h.b[:size]
		if err := c.read(set, kind, int(rows), mask); err != nil {
			return nil, fmt.Errorf("table %d: %w", kind, err)
		}
		rest, last = h.b[size:], kind
	}
	return set, c.table.bitsIn.end()
}

func (c *coder) read(set *telemetry.Set, kind uint64, rows int, mask uint64) (err error) {
	if kind <= kindGaps && kind != kindTargets {
		if c.rows += rows; c.rows > MaxRows {
			return fmt.Errorf("%d rows in the payload", c.rows)
		}
	}
	switch kind {
	case kindTargets:
		set.Targets, err = rowsOf(c, rows, mask, c.targets)
		c.list = set.Targets
	case kindProbes:
		set.ProbeWindows, err = rowsOf(c, rows, mask, c.probes)
	case kindPBXStatuses:
		set.PBXStatuses, err = rowsOf(c, rows, mask, c.statuses)
	case kindTrunks:
		set.Trunks, err = rowsOf(c, rows, mask, c.trunks)
	case kindSBCs:
		set.SBCs, err = rowsOf(c, rows, mask, c.sbcs)
	case kindServices:
		set.Services, err = rowsOf(c, rows, mask, c.services)
	case kindExtensions:
		set.Extensions, err = rowsOf(c, rows, mask, c.extensions)
	case kindBackups:
		set.Backups, err = rowsOf(c, rows, mask, c.backups)
	case kindLicences:
		set.Licences, err = rowsOf(c, rows, mask, c.licences)
	case kindEventLog:
		set.EventLog, err = rowsOf(c, rows, mask, c.eventLog)
	case kindStateChanges:
		set.StateChanges, err = rowsOf(c, rows, mask, c.stateChanges)
	case kindAgentHealth:
		set.AgentHealth, err = rowsOf(c, rows, mask, c.agentHealth)
	case kindLinkEvents:
		set.LinkEvents, err = rowsOf(c, rows, mask, c.linkEvents)
	case kindGaps:
		set.Gaps, err = rowsOf(c, rows, mask, c.gaps)
	}
	return err
}

// rowsOf reads a table of n rows, which is within the limits.
func rowsOf[T any](c *coder, n int, mask uint64, describe func(*table, []T)) ([]T, error) {
	t := &c.table
	t.begin(n)
	t.mask = mask
	rows := make([]T, n)
	describe(t, rows)
	if err := t.end(); err != nil {
		return nil, err
	}
	return rows, nil
}
