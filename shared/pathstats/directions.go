package pathstats

// directions tells losses on the way there from losses on the way back, by the
// reflector's own sequence numbers.
//
// Between two answers, the reflector's numbers grow by one for each packet that it
// answered. With S the growth of our numbers and R the growth of the reflector's,
// S - R packets never reached it, and R - 1 of its answers never reached us.
//
// What cannot be told stays unknown: losses before the first answer of a session,
// after its last one, and in a run of mixed directions that spans two windows. A
// reflector that only copies our number (stateless, RFC 8762, 4.2) tells nothing; it
// shows itself because we never send our number 0, so that a counting reflector
// cannot agree with it.
type directions struct {
	anchor   Far // the last answer, by the order of sending
	has      bool
	counting bool // the reflector counts by itself
	carried  int  // attempts lost since anchor in windows before this one
}

// tally is the outcome of one window.
type tally struct{ forward, reverse, unknown uint32 }

func (d *directions) window(attempts, later []Attempt) (forward, reverse *uint32) {
	var t tally
	var lost bool
	run := 0
	for i := range attempts {
		a := &attempts[i]
		lost = lost || a.RTT <= 0
		if a.Far.Valid {
			d.settle(&a.Far, run, d.carried, &t)
			d.anchor, d.has = a.Far, true
			run, d.carried = 0, 0
		} else if a.RTT <= 0 && !a.Unsent && !a.Late {
			run++
		}
	}
	if run > 0 {
		next, beyond := firstAnswer(later)
		if next != nil {
			d.settle(next, run, d.carried+beyond, &t)
		} else {
			t.unknown += uint32(run)
		}
	}
	d.carried += run
	if !d.counting || lost && t.forward+t.reverse == 0 && t.unknown > 0 {
		return nil, nil
	}
	f, r := t.forward, t.reverse
	return &f, &r
}

// firstAnswer finds the first attempt that tells the reflector's number, and how
// many before it went unanswered.
func firstAnswer(later []Attempt) (*Far, int) {
	n := 0
	for i := range later {
		if later[i].Far.Valid {
			return &later[i].Far, n
		}
		if !later[i].Unsent {
			n++
		}
	}
	return nil, n
}

// settle spreads the losses between the anchor and next: in of them lie in this
// window, outside in others.
func (d *directions) settle(next *Far, in, outside int, t *tally) {
	if d.has && d.anchor.Session != next.Session {
		d.has, d.counting = false, false
	}
	if next.Seq != next.SenderSeq {
		d.counting = true
	}
	if in == 0 {
		return
	}
	sent, answered := int32(next.SenderSeq-d.anchor.SenderSeq), int32(next.Seq-d.anchor.Seq)
	if !d.has || !d.counting || sent <= 0 || answered <= 0 {
		t.unknown += uint32(in) // no anchor, or the reflector began anew or was overtaken
		return
	}
	// A packet that was doubled on the way there is answered twice: the numbers then
	// grow faster than ours, and no more than all of the losses can be on the way back.
	fwd := max(sent-answered, 0)
	rev := min(answered, sent) - 1
	switch {
	case outside == 0:
		f := min(uint32(fwd), uint32(in))
		r := min(uint32(rev), uint32(in)-f)
		t.forward += f
		t.reverse += r
		t.unknown += uint32(in) - f - r
	case fwd == 0:
		t.reverse += uint32(in)
	case rev == 0:
		t.forward += uint32(in)
	default:
		t.unknown += uint32(in)
	}
}
