package pathstats_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"sidetone/shared/pathstats"
	"sidetone/shared/telemetry"
)

// A path is a string, one letter an attempt: "." answered, "f" lost on the way
// there, "r" lost on the way back, "L" answered too late, "u" never sent; "|" ends
// a window, "!" restarts the reflector.
func run(path string, counting bool) []telemetry.ProbeWindow {
	var seq, ours, theirs uint32
	windows := [][]pathstats.Attempt{nil}
	for _, ch := range path {
		switch ch {
		case '|':
			windows = append(windows, nil)
			continue
		case '!':
			theirs = 0
			continue
		}
		a := pathstats.Attempt{Seq: seq, Unsent: ch == 'u', Late: ch == 'L'}
		seq++
		if ch != 'u' {
			ours++
		}
		far := pathstats.Far{Valid: true, Session: 1, SenderSeq: ours, Seq: theirs}
		if !counting {
			far.Seq = ours
		}
		if ch == '.' || ch == 'r' || ch == 'L' {
			theirs++
		}
		if ch == '.' {
			a.RTT, a.Received = ms, time.Duration(seq)*time.Second
		}
		if ch == '.' || ch == 'L' {
			a.Far = far
		}
		windows[len(windows)-1] = append(windows[len(windows)-1], a)
	}
	var c pathstats.Calc
	rows := make([]telemetry.ProbeWindow, len(windows))
	for i, as := range windows {
		var later []pathstats.Attempt
		if i+1 < len(windows) {
			later = windows[i+1]
		}
		c.Window(as, later, &rows[i])
	}
	return rows
}

func TestDirections(t *testing.T) {
	type dir struct{ fwd, rev int } // -1: not known
	unknown := dir{-1, -1}
	cases := []struct {
		name string
		path string
		want []dir
	}{
		{"nothing lost", "....", []dir{{0, 0}}},
		{"forward", "..f.", []dir{{1, 0}}},
		{"reverse", "..r.", []dir{{0, 1}}},
		{"mixed within a window", "..ffr..r.", []dir{{2, 2}}},
		{"before the first answer", "ff..", []dir{unknown}},
		{"at the end, told by the next window", "..f|..", []dir{{1, 0}, {0, 0}}},
		{"at the end, told by the next window, back", "..rr|..", []dir{{0, 2}, {0, 0}}},
		{"at the end, nothing follows", "..f", []dir{unknown}},
		{"some known, some not", "..f..r", []dir{{1, 0}}},
		{"one-directional run over two windows", "..ff|ff..", []dir{{2, 0}, {2, 0}}},
		{"mixed run over two windows", "..fr|rf..", []dir{unknown, unknown}},
		{"outage of a whole window", "....|ffff|....", []dir{{0, 0}, {4, 0}, {0, 0}}},
		{"outage of two windows", "....|ffff|ffff|....", []dir{{0, 0}, unknown, {4, 0}, {0, 0}}},
		{"late is lost in neither direction", "..L..", []dir{{0, 0}}},
		{"late beside lost", "..Lf.", []dir{{1, 0}}},
		{"not sent is lost in neither direction", "..uf.", []dir{{1, 0}}},
		{"only not sent", "..uu.", []dir{{0, 0}}},
		{"reflector began anew", "....f!....r.", []dir{{0, 1}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for i, w := range run(c.path, true) {
				got := unknown
				if w.LostForward != nil && w.LostReverse != nil {
					got = dir{int(*w.LostForward), int(*w.LostReverse)}
				}
				if got != c.want[i] {
					t.Errorf("window %d: %+v, want %+v", i, got, c.want[i])
				}
			}
		})
	}
}

func TestCopyingReflectorTellsNoDirection(t *testing.T) {
	for _, w := range run("....|.f.r.|....", false) {
		if w.LostForward != nil || w.LostReverse != nil {
			t.Errorf("forward %v, reverse %v; want nothing: the reflector copies our numbers", *w.LostForward, *w.LostReverse)
		}
	}
}

func TestOtherMethodsTellNoDirection(t *testing.T) {
	if w := window(sent(0, ms, 0, ms)...); w.LostForward != nil || w.LostReverse != nil {
		t.Error("a direction without a reflector")
	}
}

// On any path: what is told is true, and never more than was lost.
func TestDirectionsAreNeverInvented(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		path := ".." + rapid.StringOfN(rapid.RuneFrom([]rune("......frLu|")), 1, 60, -1).Draw(t, "path") + ".."
		var f, r, lost []uint32
		f, r, lost = append(f, 0), append(r, 0), append(lost, 0)
		for _, ch := range path {
			i := len(f) - 1
			switch ch {
			case '|':
				f, r, lost = append(f, 0), append(r, 0), append(lost, 0)
			case 'f':
				f[i]++
				lost[i]++
			case 'r':
				r[i]++
				lost[i]++
			case 'L', 'u':
				lost[i]++
			}
		}
		for i, w := range run(path, true) {
			if w.Lost != lost[i] {
				t.Fatalf("window %d of %q: lost %d, want %d", i, path, w.Lost, lost[i])
			}
			if w.LostForward != nil && (*w.LostForward > f[i] || *w.LostReverse > r[i]) {
				t.Fatalf("window %d of %q: %d forward, %d reverse; true are %d, %d", i, path, *w.LostForward, *w.LostReverse, f[i], r[i])
			}
		}
	})
}
