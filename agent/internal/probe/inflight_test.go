package probe

import (
	"testing"
	"testing/synctest"
	"time"

	"sidetone/shared/pathstats"
)

// tallySink counts what a socket tells about one target.
type tallySink struct{ late, doubled, foreign []uint32 }

func (s *tallySink) Late(seq uint32, _ pathstats.Far) { s.late = append(s.late, seq) }
func (s *tallySink) Duplicate(seq uint32)             { s.doubled = append(s.doubled, seq) }
func (s *tallySink) Foreign()                         { s.foreign = append(s.foreign, 0) }

func TestInflight(t *testing.T) {
	start := func(f *Inflight[uint32], seq uint32, sink Sink) *Flight {
		now := time.Now()
		fl := &Flight{Sent: now, Check: uint64(seq) + 1000, Req: Request{Seq: seq, Deadline: now.Add(time.Second)}}
		f.Start(seq, fl, sink)
		return fl
	}
	answer := func(f *Inflight[uint32], seq uint32, check uint64) bool {
		at := time.Now()
		return f.Answer(seq, at, func(fl *Flight) (Attempt, bool) {
			return fl.Answered(at, pathstats.Far{}), fl.Check == check
		})
	}
	cases := []struct {
		name string
		do   func(t *testing.T, f *Inflight[uint32], sink *tallySink)
	}{
		{"answered, then doubled", func(t *testing.T, f *Inflight[uint32], sink *tallySink) {
			fl := start(f, 1, sink)
			time.Sleep(30 * time.Millisecond)
			for range 2 {
				if !answer(f, 1, 1001) {
					t.Error("not taken")
				}
			}
			if a := f.Wait(t.Context(), fl); a.RTT != 30*time.Millisecond {
				t.Errorf("%+v", a)
			}
			if len(sink.doubled) != 1 {
				t.Errorf("%+v", sink)
			}
		}},
		{"forged, then answered", func(t *testing.T, f *Inflight[uint32], sink *tallySink) {
			fl := start(f, 1, sink)
			if answer(f, 1, 7) || answer(f, 2, 1001) {
				t.Error("a forged answer was taken")
			}
			time.Sleep(time.Millisecond)
			answer(f, 1, 1001)
			if a := f.Wait(t.Context(), fl); a.RTT != time.Millisecond {
				t.Errorf("%+v", a)
			}
		}},
		{"late, then doubled", func(t *testing.T, f *Inflight[uint32], sink *tallySink) {
			fl := start(f, 1, sink)
			if a := f.Wait(t.Context(), fl); a.RTT != 0 || a.Fault != FaultTimeout {
				t.Errorf("%+v", a)
			}
			for range 2 {
				if !answer(f, 1, 1001) {
					t.Error("not taken")
				}
			}
			if len(sink.late) != 1 || len(sink.doubled) != 1 {
				t.Errorf("%+v", sink)
			}
		}},
		{"read after the deadline before the timer was seen", func(t *testing.T, f *Inflight[uint32], sink *tallySink) {
			fl := start(f, 1, sink)
			time.Sleep(time.Second + 1)
			answer(f, 1, 1001)
			if a := f.Wait(t.Context(), fl); a.RTT != 0 || len(sink.late) != 1 {
				t.Errorf("%+v, %+v: the deadline decides, not who runs first", a, sink)
			}
		}},
		{"an error only explains", func(t *testing.T, f *Inflight[uint32], sink *tallySink) {
			a, b := start(f, 1, sink), start(f, 2, sink)
			f.NoteAll(FaultUnreachable, "says a router")
			answer(f, 1, 1001)
			if got := f.Wait(t.Context(), a); got.RTT == 0 {
				t.Error("an ICMP error ended an attempt")
			}
			if got := f.Wait(t.Context(), b); got.Fault != FaultUnreachable || got.Detail == "" {
				t.Errorf("%+v", got)
			}
		}},
		{"forgotten in the end", func(t *testing.T, f *Inflight[uint32], sink *tallySink) {
			f.Wait(t.Context(), start(f, 1, sink))
			time.Sleep(lateKept + time.Millisecond)
			start(f, 2, sink)
			if answer(f, 1, 1001) || len(f.m) != 1 || len(f.fifo) != 1 {
				t.Errorf("%d kept", len(f.m))
			}
		}},
		{"bounded", func(t *testing.T, f *Inflight[uint32], sink *tallySink) {
			for seq := range uint32(maxInflight + 100) {
				start(f, seq, sink)
			}
			if len(f.m) != maxInflight || len(f.fifo) != maxInflight {
				t.Errorf("%d kept", len(f.m))
			}
			if !answer(f, 100, 1100) || answer(f, 99, 1099) {
				t.Error("not the oldest were dropped")
			}
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.do(t, &Inflight[uint32]{}, &tallySink{}) })
		})
	}
}

func BenchmarkInflight(b *testing.B) {
	var f Inflight[uint32]
	sink := &tallySink{}
	b.ReportAllocs()
	for i := uint32(0); b.Loop(); i++ {
		now := time.Now()
		fl := &Flight{Sent: now, Req: Request{Seq: i, Deadline: now.Add(time.Second)}}
		f.Start(i, fl, sink)
		f.Answer(i, now, func(fl *Flight) (Attempt, bool) { return fl.Answered(now, pathstats.Far{}), true })
		f.Wait(b.Context(), fl)
	}
}
