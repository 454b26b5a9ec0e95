package probe

import "time"

// stepLimit is how far the wall clock may leave the monotonic one before windows
// are aligned anew: after a correction at boot, or a sleep of the machine.
const stepLimit = 2 * time.Second

// clock measures on monotonic time, as durations since the prober's start.
type clock struct{ base time.Time }

func (c clock) now() time.Duration                { return time.Since(c.base) }
func (c clock) mono(t time.Time) time.Duration    { return t.Sub(c.base) }
func (c clock) instant(d time.Duration) time.Time { return c.base.Add(d) }

// alignment puts the boundaries of windows on monotonic time, so that they fall on
// multiples of the window's length of wall time. Windows of all agents so align.
type alignment struct {
	mono   time.Duration // a boundary
	wall   time.Time     // what the wall clock says there; no monotonic reading
	length time.Duration
}

// align is made from one reading of both clocks.
func align(mono time.Duration, wall time.Time, length time.Duration) alignment {
	wall = wall.Round(0).UTC()
	into := time.Duration(wall.UnixNano() % int64(length))
	return alignment{mono: mono - into, wall: wall.Add(-into), length: length}
}

// boundary is the last boundary not after mono.
func (a alignment) boundary(mono time.Duration) time.Duration {
	d := mono - a.mono
	n := d / a.length
	if d < 0 && d%a.length != 0 {
		n--
	}
	return a.mono + n*a.length
}

// label is the wall clock of an instant by this alignment.
func (a alignment) label(mono time.Duration) time.Time { return a.wall.Add(mono - a.mono) }

// stepped reports whether the wall clock has left the alignment.
func (a alignment) stepped(mono time.Duration, wall time.Time) bool {
	return wall.Round(0).Sub(a.label(mono)).Abs() > stepLimit
}
