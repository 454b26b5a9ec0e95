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
		f.took(2, seq)
	}
	got := f.answered(2, []wire.Range{{From: 4, To: 1 << 63}, {From: 1, To: 2}})
	if want := []wire.Range{{From: 1, To: 2}, {From: 4, To: 5}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v; want %v", got, want)
	}
	for name, again := range map[string][]wire.Range{
		"twice":       f.answered(2, []wire.Range{{From: 1, To: 2}}),
		"never sent":  f.answered(2, []wire.Range{{From: 6, To: 9}}),
		"other epoch": f.answered(1, []wire.Range{{From: 3, To: 3}}),
	} {
		if again != nil {
			t.Errorf("%s: %v", name, again)
		}
	}
	if f.room() != 7 || f.next != 5 {
		t.Errorf("room %d, next %d", f.room(), f.next)
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
	f.storing = true
	for {
		from, to, ok := f.takeDue(t0, 1000, time.Second)
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

func TestOnlyATrialWhileNothingIsStored(t *testing.T) {
	f := newFlight(256)
	f.storing = false
	f.postpone(1, 100, t0)
	f.postpone(200, 300, t0.Add(-time.Minute))
	from, to, ok := f.takeDue(t0, 256, 15*time.Second)
	if !ok || from != 1 || to != trial {
		t.Errorf("takeDue = %d, %d, %v", from, to, ok)
	}
	if _, _, ok := f.takeDue(t0, 256, 15*time.Second); ok {
		t.Error("a second trial at once")
	}
	if due, _ := f.nextDue(); due != t0.Add(15*time.Second) {
		t.Errorf("next due %v", due.Sub(t0))
	}
	f.storing = true
	later := t0.Add(15 * time.Second)
	if from, to, ok := f.takeDue(later, 256, time.Second); !ok || from != trial+1 || to != 100 {
		t.Errorf("takeDue = %d, %d, %v", from, to, ok)
	}
	if from, to, ok := f.takeDue(later, 50, time.Second); !ok || from != 200 || to != 249 {
		t.Errorf("takeDue = %d, %d, %v", from, to, ok)
	}
}

// TestFlightModel drives the bookkeeping at random against plain sets: no record
// may be forgotten or sent while it is on the way.
func TestFlightModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const window = 20
		f := newFlight(window)
		now := t0
		sent, waiting := map[uint64]bool{}, map[uint64]bool{}
		var next uint64
		t.Repeat(map[string]func(*rapid.T){
			"send": func(t *rapid.T) {
				if f.room() > 0 {
					next++
					f.took(1, next)
					sent[next] = true
				}
			},
			"ack": func(t *rapid.T) {
				from := rapid.Uint64Range(1, next+1).Draw(t, "from")
				to := from + rapid.Uint64Range(0, 5).Draw(t, "n")
				for _, r := range f.answered(1, []wire.Range{{From: from, To: to}}) {
					for s := r.From; s <= r.To; s++ {
						if !sent[s] {
							t.Fatalf("%d answered, was not on the way", s)
						}
						delete(sent, s)
					}
				}
				f.storing = true
			},
			"defer": func(t *rapid.T) {
				from := rapid.Uint64Range(1, next+1).Draw(t, "from")
				for _, r := range f.answered(1, []wire.Range{{From: from, To: from + 3}}) {
					f.storing = false
					f.postpone(r.From, r.To, now.Add(10*time.Second))
					for s := r.From; s <= r.To; s++ {
						delete(sent, s)
						waiting[s] = true
					}
				}
			},
			"time": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 12).Draw(t, "s")) * time.Second)
			},
			"resend": func(t *rapid.T) {
				from, to, ok := f.takeDue(now, f.room(), 10*time.Second)
				for s := from; ok && s <= to; s++ {
					if !waiting[s] || sent[s] {
						t.Fatalf("%d taken, but it does not wait", s)
					}
					delete(waiting, s)
					sent[s] = true
					f.took(1, s)
				}
			},
			"": func(t *rapid.T) {
				if len(f.sent) != len(sent) || f.waiting() != uint64(len(waiting)) || len(sent) > window {
					t.Fatalf("on the way %d of %d, waiting %d of %d", len(f.sent), len(sent), f.waiting(), len(waiting))
				}
				for i := 1; i < len(f.deferred); i++ {
					if f.deferred[i-1].to >= f.deferred[i].from {
						t.Fatalf("spans overlap: %v", f.deferred)
					}
				}
				if _, ok := f.nextDue(); ok != (len(waiting) > 0) {
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
