package ingest

import (
	"net"
	"reflect"
	"testing"
	"time"

	"sidetone/shared/wire"
)

func TestRanges(t *testing.T) {
	cases := []struct {
		name string
		in   []position
		want []group
	}{
		{"none", nil, nil},
		{"one", []position{{1, 5}}, []group{{1, []wire.Range{{From: 5, To: 5}}}}},
		{"in a row, out of order", []position{{1, 7}, {1, 5}, {1, 6}}, []group{{1, []wire.Range{{From: 5, To: 7}}}}},
		{"twice", []position{{1, 5}, {1, 5}}, []group{{1, []wire.Range{{From: 5, To: 5}}}}},
		{"a hole", []position{{1, 5}, {1, 7}}, []group{{1, []wire.Range{{From: 5, To: 5}, {From: 7, To: 7}}}}},
		{"two epochs", []position{{2, 1}, {1, 9}}, []group{{1, []wire.Range{{From: 9, To: 9}}}, {2, []wire.Range{{From: 1, To: 1}}}}},
		{"the largest", []position{{1, 1<<64 - 1}, {1, 0}}, []group{{1, []wire.Range{{From: 0, To: 0}, {From: 1<<64 - 1, To: 1<<64 - 1}}}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := ranges(c.in); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %v; want %v", got, c.want)
			}
		})
	}
	var many []position
	for i := range uint64(wire.MaxRanges + 1) {
		many = append(many, position{1, 2 * i})
	}
	for _, g := range ranges(many) {
		if _, err := wire.AppendMessage(nil, wire.Ack{Epoch: g.epoch, Ranges: g.ranges}); err != nil {
			t.Error(err)
		}
	}
	if n := len(ranges(many)); n != 2 {
		t.Errorf("%d groups; want 2", n)
	}
}

func TestAddrLimiter(t *testing.T) {
	l := newAddrLimiter(2)
	now := time.Unix(1_000_000, 0)
	at := func(ip string) net.Addr { return &net.UDPAddr{IP: net.ParseIP(ip), Port: 1} }
	steps := []struct {
		ip   string
		wait time.Duration
		want bool
	}{
		{"192.0.2.1", 0, true}, {"192.0.2.1", 0, true}, {"192.0.2.1", 0, false},
		{"192.0.2.2", 0, true}, // another address
		{"192.0.2.1", 31 * time.Second, true},
		{"2001:db8::1", 0, true}, {"2001:db8::2", 0, true}, {"2001:db8::3", 0, false}, // one /64
		{"2001:db8:0:1::3", 0, true},
	}
	for i, s := range steps {
		now = now.Add(s.wait)
		if got := l.allow(at(s.ip), now); got != s.want {
			t.Errorf("step %d, %s: %v; want %v", i, s.ip, got, s.want)
		}
	}
}

func TestAddrLimiterIsBounded(t *testing.T) {
	l := newAddrLimiter(2)
	now := time.Unix(1_000_000, 0)
	addr := func(i int) net.Addr { return &net.UDPAddr{IP: net.IPv4(10, byte(i>>16), byte(i>>8), byte(i)), Port: 1} }
	for i := range maxLimited + 100 {
		l.allow(addr(i), now)
	}
	if len(l.by) != maxLimited {
		t.Errorf("%d addresses remembered; limit %d", len(l.by), maxLimited)
	}
	if l.allow(addr(maxLimited+200), now) {
		t.Error("the rest shares one allowance, which is used up")
	}
	if !l.allow(addr(maxLimited+300), now.Add(time.Hour)) || len(l.by) > 2 {
		t.Errorf("%d addresses after an hour", len(l.by))
	}
}
