package wire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"sidetone/shared/telemetry"
)

// merge appends the rows of all items as those of one payload: for each item how many
// rows of each type are its own and which targets it lists, then the columns. The bits
// are valid until release.
func (c *coder) merge(raw []byte, items []bundled) (out, noise []byte) {
	all := &telemetry.Set{}
	place := map[telemetry.Target]int{}
	any := false
	for _, it := range items {
		if it.rows == nil {
			continue
		}
		any = true
		raw = binary.AppendUvarint(raw, uint64(len(it.rows.Targets)))
		next := 0
		for _, t := range it.rows.Targets {
			at, ok := place[t]
			if !ok {
				at = len(all.Targets)
				place[t] = at
				all.Targets = append(all.Targets, t)
			}
			raw = binary.AppendUvarint(raw, zigzag(int64(at-next)))
			next = at + 1
		}
		rows := *it.rows
		rows.Targets = nil
		all.Append(&rows)
		for _, n := range lengths(it.rows) {
			raw = binary.AppendUvarint(raw, uint64(n))
		}
	}
	if !any {
		return raw, nil
	}
	// There is no error: what a payload may hold was checked when they were read, and
	// PackBundle bounds the rest.
	noise, columns, _ := c.encode(all)
	return append(raw, columns...), noise
}

// lengths is the number of rows of each type, in the order of the kinds.
func lengths(s *telemetry.Set) [kindGaps - 1]int {
	return [...]int{len(s.ProbeWindows), len(s.PBXStatuses), len(s.Trunks), len(s.SBCs), len(s.Services), len(s.Extensions), len(s.Backups),
		len(s.Licences), len(s.EventLog), len(s.StateChanges), len(s.AgentHealth), len(s.LinkEvents), len(s.Gaps)}
}

// share is one frame's part of merged rows.
type share struct {
	targets []uint32
	rows    [kindGaps - 1]uint32
}

// part undoes merge: it makes the payloads of the frames that have none of their own.
func part(frames []Frame, own []int, noise, raw []byte) error {
	shares, columns, err := readShares(own, raw)
	if err != nil {
		return err
	}
	if len(shares) == 0 {
		if len(raw)+len(noise) > 0 {
			return fmt.Errorf("%d bytes too many", len(raw)+len(noise))
		}
		return nil
	}
	c := coders.Get().(*coder)
	defer c.release()
	all, err := c.decode(noise, columns)
	if err != nil {
		return err
	}
	listed := all.Targets
	total := 0
	for i, n := range own {
		if n >= 0 {
			continue
		}
		set, err := shares[0].take(all, listed)
		if err != nil {
			return err
		}
		shares = shares[1:]
		noise, columns, err := c.encode(set)
		if err != nil {
			return err
		}
		set.Targets = c.list // with those that windows have and the share does not list
		p := stored2(noise, columns)
		if total += len(p); len(p) > MaxPayload || total > MaxDecoded {
			return errors.New("payloads are too long")
		}
		frames[i].Payload, frames[i].rows = p, set
	}
	if n := all.Len(); n > 0 {
		return fmt.Errorf("%d rows too many", n)
	}
	return nil
}

func readShares(own []int, raw []byte) (shares []share, columns []byte, err error) {
	in := column{b: raw}
	total := uint64(0)
	for _, n := range own {
		if n >= 0 {
			continue
		}
		targets := in.take()
		if total += targets; total > uint64(len(in.b)) {
			return nil, nil, fmt.Errorf("%d targets in %d bytes", total, len(in.b))
		}
		s := share{targets: make([]uint32, targets)}
		next := int64(0)
		for i := range s.targets {
			at := next + unzigzag(in.take())
			if at < 0 || at >= MaxRows {
				return nil, nil, fmt.Errorf("target %d", at)
			}
			s.targets[i] = uint32(at)
			next = at + 1
		}
		for i := range s.rows {
			s.rows[i] = in.count()
		}
		if in.err != nil {
			return nil, nil, in.err
		}
		shares = append(shares, s)
	}
	return shares, in.b, nil
}

// take moves the share's rows from the front of all into a set of their own.
func (s *share) take(all *telemetry.Set, listed []telemetry.Target) (*telemetry.Set, error) {
	set := &telemetry.Set{}
	for _, at := range s.targets {
		if int(at) >= len(listed) {
			return nil, fmt.Errorf("target %d of %d", at, len(listed))
		}
		set.Targets = append(set.Targets, listed[at])
	}
	ok := cut(s.rows[0], &all.ProbeWindows, &set.ProbeWindows) && cut(s.rows[1], &all.PBXStatuses, &set.PBXStatuses) &&
		cut(s.rows[2], &all.Trunks, &set.Trunks) && cut(s.rows[3], &all.SBCs, &set.SBCs) &&
		cut(s.rows[4], &all.Services, &set.Services) && cut(s.rows[5], &all.Extensions, &set.Extensions) &&
		cut(s.rows[6], &all.Backups, &set.Backups) && cut(s.rows[7], &all.Licences, &set.Licences) &&
		cut(s.rows[8], &all.EventLog, &set.EventLog) && cut(s.rows[9], &all.StateChanges, &set.StateChanges) &&
		cut(s.rows[10], &all.AgentHealth, &set.AgentHealth) && cut(s.rows[11], &all.LinkEvents, &set.LinkEvents) &&
		cut(s.rows[12], &all.Gaps, &set.Gaps)
	if !ok {
		return nil, errors.New("rows end early")
	}
	return set, nil
}

func cut[T any](n uint32, from, to *[]T) bool {
	if int64(n) > int64(len(*from)) {
		return false
	}
	if n > 0 {
		*to, *from = (*from)[:n:n], (*from)[n:]
	}
	return true
}
