package probe

import (
	"time"

	"sidetone/shared/pathstats"
	"sidetone/shared/telemetry"
)

// window collects the attempts that were sent between start and end, in monotonic
// time. Its attempts have successive numbers from first on.
type window struct {
	start, end time.Duration
	label      telemetry.UnixMS
	first      uint32

	attempts   []pathstats.Attempt
	done       []bool
	pending    int
	duplicated uint32

	fault, detail string // of the last lost attempt
	lastLost      uint32
	answer        string // what the last answered attempt learnt

	state   string // the last state that an attempt learnt
	stateAt time.Time
}

func newWindow(start time.Duration, al alignment, first uint32, capacity int) *window {
	return &window{
		start: start, end: start + al.length, label: telemetry.MS(al.label(start)), first: first,
		attempts: make([]pathstats.Attempt, 0, capacity), done: make([]bool, 0, capacity),
	}
}

// at returns the attempt with this number, or nil.
func (w *window) at(seq uint32) *pathstats.Attempt {
	if i := seq - w.first; i < uint32(len(w.attempts)) {
		return &w.attempts[i]
	}
	return nil
}

func (w *window) add(seq uint32) {
	w.attempts = append(w.attempts, pathstats.Attempt{Seq: seq})
	w.done = append(w.done, false)
	w.pending++
}

// complete records the outcome of an attempt of this window.
func (w *window) complete(seq uint32, a *Attempt, received time.Duration, now time.Time) {
	p := w.at(seq)
	if i := seq - w.first; !w.done[i] {
		w.done[i] = true
		w.pending--
	}
	if a.State != "" {
		w.state, w.stateAt = a.State, now
	}
	if a.RTT > 0 {
		p.RTT, p.Received, p.Far = a.RTT, received, a.Far
		if a.Detail != "" {
			w.answer = a.Detail
		}
		return
	}
	p.Unsent = a.Unsent
	if w.fault == "" || seq-w.first >= w.lastLost-w.first {
		w.fault, w.detail, w.lastLost = a.Fault, a.Detail, seq
	}
}

// row closes the window. Attempts without an outcome have exceeded their timeout.
func (w *window) row(calc *pathstats.Calc, target telemetry.ItemID, later []pathstats.Attempt) telemetry.ProbeWindow {
	if w.pending > 0 && w.fault == "" {
		w.fault = FaultTimeout
	}
	r := telemetry.ProbeWindow{
		Target: target, Observed: w.label, LengthMS: uint32((w.end - w.start) / time.Millisecond),
		Duplicated: w.duplicated, Fault: w.fault,
	}
	calc.Window(w.attempts, later, &r)
	r.Detail = w.answer
	if w.fault != "" && w.detail != "" {
		r.Detail = w.detail
	}
	r.Detail = cleanDetail(r.Detail)
	return r
}
