package wire

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"sidetone/shared/pathstats"
	"sidetone/shared/telemetry"
)

// probes describes the columns of probe windows. What follows from the RTTs is
// computed by the reader as well; the columns of the statistics hold only what
// differs from that. The RTTs themselves are noise: they go to the bits.
func (c *coder) probes(t *table, rows []telemetry.ProbeWindow) {
	type R = telemetry.ProbeWindow
	c.windowTargets(t, rows)
	integer(t, rows, func(r *R) *uint32 { return &r.LengthMS })
	c.windowTimes(t.noisy(), rows)
	c.rtts(t, rows)
	if t.err != nil {
		return
	}
	c.expect(t, rows)
	for _, f := range derived {
		c.residual(t, rows, f)
	}
	c.jitter(t.noisy(), rows)
	c.residual(t.noisy(), rows, func(r *R) *uint32 { return &r.IPDVP95US })
	integer(t, rows, func(r *R) *uint32 { return &r.Late })
	integer(t, rows, func(r *R) *uint32 { return &r.Duplicated })
	integer(t, rows, func(r *R) *uint32 { return &r.Reordered })
	maybe(t, rows, false, func(r *R) **uint32 { return &r.LostForward })
	maybe(t, rows, false, func(r *R) **uint32 { return &r.LostReverse })
	text(t, &c.texts, rows, false, func(r *R) *string { return &r.Fault })
	text(t, &c.texts, rows, false, func(r *R) *string { return &r.Detail })
}

// derived are the fields that pathstats.Derive fills, in the wire's order.
var derived = [...]func(*telemetry.ProbeWindow) *uint32{
	func(r *telemetry.ProbeWindow) *uint32 { return &r.Sent },
	func(r *telemetry.ProbeWindow) *uint32 { return &r.Received },
	func(r *telemetry.ProbeWindow) *uint32 { return &r.Lost },
	func(r *telemetry.ProbeWindow) *uint32 { return &r.RTTMinUS },
	func(r *telemetry.ProbeWindow) *uint32 { return &r.RTTP10US },
	func(r *telemetry.ProbeWindow) *uint32 { return &r.RTTP50US },
	func(r *telemetry.ProbeWindow) *uint32 { return &r.RTTP90US },
	func(r *telemetry.ProbeWindow) *uint32 { return &r.RTTP99US },
	func(r *telemetry.ProbeWindow) *uint32 { return &r.RTTMaxUS },
	func(r *telemetry.ProbeWindow) *uint32 { return &r.RTTMeanUS },
	func(r *telemetry.ProbeWindow) *uint32 { return &r.LossRunMax },
	func(r *telemetry.ProbeWindow) *uint32 { return &r.BurstRatioMilli },
}

// windowTargets is the column of each window's target: 0 for the one expected, else 1
// and its place among the targets. At first each target is expected once, in order.
func (c *coder) windowTargets(t *table, rows []telemetry.ProbeWindow) {
	if !t.encoding {
		if _, there := t.load(); !there {
			clear(t.deltas)
		}
	}
	p := &c.texts.path
	p.begin()
	unseen := 0
	for i := range rows {
		expect := p.next()
		if expect < 0 {
			expect = unseen
		}
		at := expect
		if t.encoding {
			if at >= len(c.list) || c.list[at].ID != rows[i].Target {
				at = c.place[rows[i].Target]
			}
			t.deltas[i] = 0
			if at != expect {
				t.deltas[i] = uint64(at) + 1
			}
		} else {
			if d := t.deltas[i]; d > 0 {
				at = int(min(d-1, MaxRows))
			}
			if at >= len(c.list) {
				t.fail(fmt.Errorf("target %d of %d", at, len(c.list)))
				return
			}
			rows[i].Target = c.list[at].ID
		}
		unseen = max(unseen, at+1)
		t.before[i] = p.visit(at, i)
	}
	if t.encoding {
		t.emit(0)
	}
}

// windowTimes is the column of the windows' beginnings: a window mostly begins where
// the one before of its target ended.
func (c *coder) windowTimes(t *table, rows []telemetry.ProbeWindow) {
	if !t.encoding {
		if _, there := t.load(); !there {
			clear(t.deltas)
		}
	}
	above := c.near
	for i := range rows {
		expect := above
		if w := predecessor(t, rows, i); w != nil {
			expect = w.Observed + telemetry.UnixMS(w.LengthMS)
		}
		if t.encoding {
			t.deltas[i] = zigzag(int64(rows[i].Observed - expect))
		} else {
			rows[i].Observed = expect + telemetry.UnixMS(unzigzag(t.deltas[i]))
		}
		above = rows[i].Observed
	}
	if t.encoding {
		t.emit(0)
	}
}

// predecessor is the window before row i of the same target, nil when there is none.
func predecessor(t *table, rows []telemetry.ProbeWindow, i int) *telemetry.ProbeWindow {
	if b := t.before[i]; b >= 0 && rows[b].Target == rows[i].Target {
		return &rows[b]
	}
	return nil
}

// rtts writes or reads the attempts: two columns, their number and the lowest RTT of
// each window, and in the bits for each window whether some were lost, which, and how far each
// RTT lies above the lowest.
func (c *coder) rtts(t *table, rows []telemetry.ProbeWindow) {
	c.attempts, c.lowest = sized(c.attempts, len(rows)), sized(c.lowest, len(rows))
	if t.encoding {
		for i := range rows {
			c.attempts[i] = uint32(len(rows[i].RTTUS))
			c.lowest[i] = lowest(rows[i].RTTUS)
		}
	} else {
		clear(c.attempts)
		clear(c.lowest)
	}
	same := func(v *uint32) *uint32 { return v }
	integer(t, c.attempts, same)
	integer(t.noisy(), c.lowest, same)
	if t.err != nil {
		return
	}
	if !t.encoding {
		if err := c.readRTTs(rows); err != nil {
			t.fail(err)
		}
		return
	}
	for i := range rows {
		c.putRTTs(rows[i].RTTUS, c.lowest[i])
	}
}

func lowest(rtts []uint32) uint32 {
	var low uint32
	for _, v := range rtts {
		if v != 0 && (low == 0 || v < low) {
			low = v
		}
	}
	return low
}

func (c *coder) putRTTs(rtts []uint32, low uint32) {
	if len(rtts) == 0 {
		return
	}
	sum, n := uint64(0), 0
	for _, v := range rtts {
		if v != 0 {
			sum += uint64(v - low)
			n++
		}
	}
	w := &c.table.bitsOut
	if n == len(rtts) {
		w.put(0, 1)
	} else {
		w.put(1, 1)
		for _, v := range rtts {
			if v == 0 {
				w.put(1, 1)
			} else {
				w.put(0, 1)
			}
		}
	}
	k := riceParameter(sum, n)
	w.put(uint64(k), 5)
	for _, v := range rtts {
		if v != 0 {
			w.rice(v-low, k)
		}
	}
}

// readRTTs reads the attempts of all rows into one array, allocated after its length
// is known to be within the limits and within the bits that are there.
func (c *coder) readRTTs(rows []telemetry.ProbeWindow) error {
	total := 0
	for _, n := range c.attempts {
		if n > MaxWindowRTTs {
			return fmt.Errorf("%d attempts in a window", n)
		}
		total += int(n)
	}
	if left := c.table.bitsIn.left(); total > MaxRTTs || total > left {
		return fmt.Errorf("%d attempts in %d bits", total, left)
	}
	all := make([]uint32, total)
	for i := range rows {
		n := c.attempts[i]
		if n == 0 {
			if c.lowest[i] != 0 {
				return errors.New("an RTT without an attempt")
			}
			continue
		}
		rows[i].RTTUS, all = all[:n:n], all[n:]
		if err := c.takeRTTs(rows[i].RTTUS, c.lowest[i]); err != nil {
			return err
		}
	}
	return nil
}

func (c *coder) takeRTTs(rtts []uint32, low uint32) error {
	r := &c.table.bitsIn
	lost := 0
	if r.take(1) == 1 {
		for i := range rtts {
			rtts[i] = uint32(r.take(1)) // 1 for a while means lost
			lost += int(rtts[i])
		}
	}
	if (low == 0) != (lost == len(rtts)) {
		return errors.New("lowest RTT does not fit the losses")
	}
	k := uint(r.take(5))
	for i, gone := range rtts {
		if gone == 1 {
			rtts[i] = 0
			continue
		}
		v := uint64(low) + uint64(r.rice(k))
		if v > math.MaxUint32 {
			return errRange
		}
		rtts[i] = uint32(v)
	}
	return nil
}

// expect computes the statistics as far as they follow from the RTTs: when reading
// into the rows themselves, when writing beside them.
func (c *coder) expect(t *table, rows []telemetry.ProbeWindow) {
	c.expected = rows
	if t.encoding {
		c.windows = sized(c.windows, len(rows))
		c.expected = c.windows
	}
	for i := range c.expected {
		e := &c.expected[i]
		if t.encoding {
			*e = telemetry.ProbeWindow{RTTUS: rows[i].RTTUS}
		}
		c.scratch = pathstats.Derive(e, c.scratch)
		e.IPDVP95US = c.variation(predecessor(t, rows, i), e)
	}
}

// residual is a column of differences to what was expected.
func (c *coder) residual(t *table, rows []telemetry.ProbeWindow, f func(*telemetry.ProbeWindow) *uint32) {
	if t.encoding {
		for i := range rows {
			t.deltas[i] = zigzag(int64(*f(&rows[i])) - int64(*f(&c.expected[i])))
		}
		t.emit(0)
		return
	}
	if _, there := t.load(); !there {
		return
	}
	for i := range rows {
		t.add(f(&rows[i]), t.deltas[i])
	}
}

// add adds a difference to a number of 32 bits.
func (t *table) add(p *uint32, zz uint64) {
	d := unzigzag(zz)
	v := int64(*p) + d
	if d < -math.MaxUint32 || d > math.MaxUint32 || v < 0 || v > math.MaxUint32 {
		t.fail(errRange)
		return
	}
	*p = uint32(v)
}

// jitter is a column of differences to an estimate that needs the jitter of the
// window before.
func (c *coder) jitter(t *table, rows []telemetry.ProbeWindow) {
	if !t.encoding {
		if _, there := t.load(); !there {
			clear(t.deltas)
		}
	}
	for i := range rows {
		expect := expectedJitter(predecessor(t, rows, i), &rows[i])
		if t.encoding {
			t.deltas[i] = zigzag(int64(rows[i].JitterUS) - int64(expect))
			continue
		}
		rows[i].JitterUS = expect
		t.add(&rows[i].JitterUS, t.deltas[i])
	}
	if t.encoding {
		t.emit(0)
	}
}

// expectedJitter is about what pathstats finds: the state that goes on from window to
// window is only known to the microsecond, and that before the first window not at all.
// It must never change: it is part of the format. Whole numbers only, in 1/256 µs.
func expectedJitter(before, w *telemetry.ProbeWindow) uint32 {
	var last uint32
	var j int64
	if before != nil {
		last, j = lastRTT(before.RTTUS), int64(before.JitterUS)<<8
	} else {
		j = meanStep(w.RTTUS) << 8
	}
	any := false
	for _, v := range w.RTTUS {
		if v == 0 {
			continue
		}
		if last != 0 {
			j += (distance(v, last)<<8 - j) >> 4
		}
		last, any = v, true
	}
	if !any {
		return 0
	}
	return uint32((j + 128) >> 8)
}

// meanStep is the mean distance of successive answers.
func meanStep(rtts []uint32) int64 {
	var sum, n int64
	last := uint32(0)
	for _, v := range rtts {
		if v == 0 {
			continue
		}
		if last != 0 {
			sum += distance(v, last)
			n++
		}
		last = v
	}
	if n == 0 {
		return 0
	}
	return sum / n
}

func distance(a, b uint32) int64 {
	d := int64(a) - int64(b)
	return max(d, -d)
}

func lastRTT(rtts []uint32) uint32 {
	for i := len(rtts) - 1; i >= 0; i-- {
		if rtts[i] != 0 {
			return rtts[i]
		}
	}
	return 0
}

// variation is the 95th percentile of the distances of attempts that follow each
// other, as pathstats finds it when the far end gives no timestamps. It must never
// change: it is part of the format.
func (c *coder) variation(before, w *telemetry.ProbeWindow) uint32 {
	d := c.scratch[:0]
	last := uint32(0)
	if before != nil && len(before.RTTUS) > 0 {
		last = before.RTTUS[len(before.RTTUS)-1]
	}
	for _, v := range w.RTTUS {
		if v != 0 && last != 0 {
			d = append(d, uint32(distance(v, last)))
		}
		last = v
	}
	c.scratch = d
	if len(d) == 0 {
		return 0
	}
	rank := (95*len(d) + 99) / 100
	if rank == len(d) {
		return slices.Max(d)
	}
	slices.Sort(d)
	return d[rank-1]
}
