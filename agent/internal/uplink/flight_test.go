package uplink

import (
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sidetone/shared/wire"
)

var t0 = time.Unix(1_000_000, 0)

func TestAnswered(t *testing.T) {
	f := newFlight(8)
	for seq := uint64(1); seq <= 5; seq++ {
		f.took(2, seq, seq%2 == 0, 100, t0)
	}
	if f.backlog != 2 || f.bytes != 200 || f.backlogRoom() != 2 {
		t.Errorf("backlog %d, %d bytes, room %d", f.backlog, f.bytes, f.backlogRoom())
	}
	got, took := f.answered(2, []wire.Range{{From: 4, To: 1 << 63}, {From: 1, To: 2}}, t0.Add(time.Second))
	if took != time.Second || f.backlog != 0 || f.bytes != 0 {
		t.Errorf("took %v, backlog %d, %d bytes", took, f.backlog, f.bytes)
	}
	answered := func(epoch uint64, r ...wire.Range) []wire.Range { got, _ := f.answered(epoch, r, t0); return got }
	if want := []wire.Range{{From: 1, To: 2}, {From: 4, To: 5}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v; want %v", got, want)
	}
	for name, again := range map[string][]wire.Range{
		"twice":       answered(2, wire.Range{From: 1, To: 2}),
		"never sent":  answered(2, wire.Range{From: 6, To: 9}),
		"the end":     answered(2, wire.Range{From: forever, To: forever}),
		"backwards":   answered(2, wire.Range{From: 5, To: 1}),
		"other epoch": answered(1, wire.Range{From: 3, To: 3}),
	} {
		if again != nil {
			t.Errorf("%s: %v", name, again)
		}
	}
	if f.room() != 7 {
		t.Errorf("room %d", f.room())
	}
}

func TestDeferredSpansJoin(t *testing.T) {
	f := newFlight(8)
	for seq := uint64(1); seq <= 1000; seq++ {
		f.postpone(seq, seq, t0.Add(time.Duration(seq)*time.Microsecond))
	}
	f.postpone(2000, 2000, t0)
	f.postpone(2001, 2001, t0.Add(time.Minute)) // due much later: on its own
	if len(f.deferred) != 3 || f.waiting() != 1002 {
		t.Errorf("%d spans of %d: %v", len(f.deferred), f.waiting(), f.deferred)
	}
}

func TestDeferredIsBounded(t *testing.T) {
	f := newFlight(8)
	for seq := uint64(0); seq < 3*maxSpans; seq++ {
		f.postpone(2*seq+1, 2*seq+1, t0)
	}
	if len(f.deferred) > maxSpans {
		t.Fatalf("%d spans; limit %d", len(f.deferred), maxSpans)
	}
	covered := map[uint64]bool{}
	for {
		from, to, ok := f.takeDue(t0, 1000, 0, forever)
		if !ok {
			break
		}
		for s := from; s <= to; s++ {
			covered[s] = true
		}
	}
	for seq := uint64(0); seq < 3*maxSpans; seq++ {
		if !covered[2*seq+1] {
			t.Fatalf("record %d was forgotten", 2*seq+1)
		}
	}
}

func TestDueWithinBounds(t *testing.T) {
	f := newFlight(256)
	f.postpone(1, 100, t0)
	f.postpone(200, 300, t0.Add(-time.Minute))
	for _, c := range []struct {
		name         string
		n            int
		lo, hi       uint64
		from, to     uint64
		ok           bool
		waitingAfter uint64
	}{
		{"the middle", 10, 40, 60, 40, 49, true, 191},
		{"behind the middle", 100, 40, 60, 50, 60, true, 180},
		{"none left there", 100, 40, 60, 0, 0, false, 180},
		{"the live lane", 5, 150, forever, 200, 204, true, 175},
		{"the rest, in order", 256, 0, forever, 1, 39, true, 136},
		{"no room", 0, 0, forever, 0, 0, false, 136},
	} {
		from, to, ok := f.takeDue(t0, c.n, c.lo, c.hi)
		if from != c.from || to != c.to || ok != c.ok || f.waiting() != c.waitingAfter {
			t.Errorf("%s: takeDue = %d, %d, %v; %d wait", c.name, from, to, ok, f.waiting())
		}
	}
	f.putOff(t0, 150, t0.Add(time.Minute))
	if at, ok := f.nextDue(0, 150); !ok || !at.Equal(t0.Add(time.Minute)) {
		t.Errorf("put off until %v, %v", at, ok)
	}
	if from, _, ok := f.takeDue(t0, 1, 0, forever); !ok || from != 205 {
		t.Errorf("the other lane was put off too: %d, %v", from, ok)
	}
}

func TestListsOfTheBacklog(t *testing.T) {
	f := newFlight(8)
	f.age(11) // 1…10 wait
	f.age(5)  // never goes back
	f.next = 14
	f.age(15) // all of them were sent while live
	f.age(20)
	if want := []run{{1, 10}, {15, 19}}; !reflect.DeepEqual(f.states, want) || !reflect.DeepEqual(f.samples, want) || f.next != 19 {
		t.Fatalf("states %v, samples %v, next %d", f.states, f.samples, f.next)
	}
	pass(&f.states, 4)
	pass(&f.samples, 15)
	if f.states[0] != (run{5, 10}) || !reflect.DeepEqual(f.samples, []run{{16, 19}}) {
		t.Fatalf("states %v, samples %v", f.states, f.samples)
	}
	pass(&f.samples, 19)
	if len(f.samples) != 0 {
		t.Fatalf("samples %v", f.samples)
	}
}

// TestFlightModel drives the bookkeeping at random against plain sets: no record
// may be forgotten or sent while it is on the way.
func TestFlightModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const window = 20
		f := newFlight(window)
		now := t0
		sent, waiting, listed := map[uint64]bool{}, map[uint64]bool{}, map[uint64]bool{}
		backlog := map[uint64]bool{}
		next := rapid.Uint64Range(1, 40).Draw(t, "next") // of the spool
		f.age(next)
		for s := uint64(1); s < next; s++ {
			listed[s] = true
		}
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) { next += rapid.Uint64Range(1, 4).Draw(t, "n") },
			"live": func(t *rapid.T) {
				if f.room() > 0 && f.next+1 < next {
					f.next++
					f.took(1, f.next, false, 10, now)
					sent[f.next] = true
				}
			},
			"age": func(t *rapid.T) {
				split := rapid.Uint64Range(1, next).Draw(t, "split")
				for s := f.next + 1; s < split; s++ {
					listed[s] = true
				}
				f.age(split)
			},
			"backlog": func(t *rapid.T) {
				if f.backlogRoom() == 0 || len(f.samples) == 0 {
					return
				}
				seq := f.samples[0].from
				if !listed[seq] {
					t.Fatalf("%d is listed, but is elsewhere", seq)
				}
				pass(&f.samples, seq)
				f.took(1, seq, true, 10, now)
				delete(listed, seq)
				sent[seq], backlog[seq] = true, true
			},
			"ack": func(t *rapid.T) {
				from := rapid.Uint64Range(1, next+1).Draw(t, "from")
				to := from + rapid.Uint64Range(0, 5).Draw(t, "n")
				ranges, _ := f.answered(1, []wire.Range{{From: from, To: to}}, now)
				for _, r := range ranges {
					for s := r.From; s <= r.To; s++ {
						if !sent[s] {
							t.Fatalf("%d answered, was not on the way", s)
						}
						delete(sent, s)
						delete(backlog, s)
					}
				}
			},
			"defer": func(t *rapid.T) {
				from := rapid.Uint64Range(1, next+1).Draw(t, "from")
				ranges, _ := f.answered(1, []wire.Range{{From: from, To: from + 3}}, now)
				for _, r := range ranges {
					f.postpone(r.From, r.To, now.Add(10*time.Second))
					for s := r.From; s <= r.To; s++ {
						delete(sent, s)
						delete(backlog, s)
						waiting[s] = true
					}
				}
			},
			"move": func(t *rapid.T) {
				f.recall(now)
				for s := range sent {
					waiting[s] = true
				}
				clear(sent)
				clear(backlog)
			},
			"time": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 12).Draw(t, "s")) * time.Second)
			},
			"resend": func(t *rapid.T) {
				lo := rapid.Uint64Range(0, next).Draw(t, "lo")
				hi := lo + rapid.Uint64Range(0, 50).Draw(t, "more")
				from, to, ok := f.takeDue(now, f.room(), lo, hi)
				for s := from; ok && s <= to; s++ {
					if !waiting[s] || sent[s] || s < lo || s > hi {
						t.Fatalf("%d taken within %d…%d, but it does not wait", s, lo, hi)
					}
					delete(waiting, s)
					sent[s] = true
					f.took(1, s, false, 10, now)
				}
			},
			"": func(t *rapid.T) {
				if len(f.sent) != len(sent) || f.waiting() != uint64(len(waiting)) || len(sent) > window {
					t.Fatalf("on the way %d of %d, waiting %d of %d", len(f.sent), len(sent), f.waiting(), len(waiting))
				}
				if f.backlog != len(backlog) || f.bytes != 10*len(backlog) || f.backlog > window/2 {
					t.Fatalf("backlog %d of %d, %d bytes", f.backlog, len(backlog), f.bytes)
				}
				if n := len(sent) + len(waiting) + len(listed); uint64(n) > f.next {
					t.Fatalf("%d records in three places, %d exist", n, f.next)
				}
				for i := 1; i < len(f.deferred); i++ {
					if f.deferred[i-1].to >= f.deferred[i].from {
						t.Fatalf("spans overlap: %v", f.deferred)
					}
				}
				if _, ok := f.nextDue(0, forever); ok != (len(waiting) > 0) {
					t.Fatal("nextDue disagrees")
				}
			},
		})
	})
}

func TestAges(t *testing.T) {
	start := time.Now()
	at := func(d time.Duration) time.Time { return start.Add(d) }
	a := newAges()
	a.note(at(0), 100)
	a.note(at(time.Second), 105) // too soon, not noted
	a.note(at(10*time.Second), 110)
	a.note(at(20*time.Second), 120)
	now := at(30 * time.Second)
	const hour = time.Hour
	cases := []struct {
		name    string
		seq     uint64
		created time.Time // as the wall clock said
		want    time.Duration
	}{
		{"of this hour, right clock", 115, at(15 * time.Second), 15 * time.Second},
		{"clock was an hour behind", 115, at(15*time.Second - hour), 20 * time.Second}, // did not exist at 10 s
		{"clock was an hour ahead", 115, at(15*time.Second + hour), 10 * time.Second},  // existed at 20 s
		{"newest, clock behind", 125, at(25*time.Second - hour), 10 * time.Second},
		{"newest, clock ahead", 125, at(25*time.Second + hour), 0},
		{"from an earlier run", 50, at(-hour), hour + 30*time.Second},
		{"from an earlier run, clock ahead", 50, at(hour), 30 * time.Second},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := a.age(now, c.seq, c.created.Round(0)); got.Round(time.Millisecond) != c.want {
				t.Errorf("age = %v; want %v", got, c.want)
			}
		})
	}
	if got := newAges().age(now, 1, at(hour).Round(0)); got != 0 {
		t.Errorf("without marks: %v", got)
	}
	for i := range 2 * maxMarks {
		a.note(at(time.Duration(i)*markEvery+hour), uint64(200+i))
	}
	if len(a.marks) != maxMarks {
		t.Errorf("%d marks; limit %d", len(a.marks), maxMarks)
	}
}
