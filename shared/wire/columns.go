package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"sidetone/shared/telemetry"
)

// probeColumns is a table of probe windows, one field a column. A numeric column is
// a byte string of one varint for each row; an empty one is zero in every row, which
// is also how a column that an older writer did not know reads. Most columns hold a
// difference to something near, so that the numbers are small.
type probeColumns struct {
	Rows     uint32 `cbor:"1,keyasint"`
	Target   []byte `cbor:"2,keyasint,omitempty"` // index into the payload's targets
	Observed []byte `cbor:"3,keyasint,omitempty"` // zig-zag, to the row before
	LengthMS []byte `cbor:"4,keyasint,omitempty"`

	Sent       []byte `cbor:"5,keyasint,omitempty"`
	Received   []byte `cbor:"6,keyasint,omitempty"`
	Lost       []byte `cbor:"7,keyasint,omitempty"`
	Late       []byte `cbor:"8,keyasint,omitempty"`
	Duplicated []byte `cbor:"9,keyasint,omitempty"`
	Reordered  []byte `cbor:"10,keyasint,omitempty"`

	Attempts []byte `cbor:"11,keyasint,omitempty"` // how many entries of RTT are this row's
	// RTT has 0 for a lost attempt, else 1 + zig-zag of the difference to the last
	// RTT of the row (to its minimum for the first).
	RTT []byte `cbor:"12,keyasint,omitempty"`

	Min  []byte `cbor:"13,keyasint,omitempty"`
	P10  []byte `cbor:"14,keyasint,omitempty"` // zig-zag, to Min; and so on up to Max
	P50  []byte `cbor:"15,keyasint,omitempty"`
	P90  []byte `cbor:"16,keyasint,omitempty"`
	P99  []byte `cbor:"17,keyasint,omitempty"`
	Max  []byte `cbor:"18,keyasint,omitempty"`
	Mean []byte `cbor:"19,keyasint,omitempty"` // zig-zag, to P50

	Jitter     []byte `cbor:"20,keyasint,omitempty"`
	IPDVP95    []byte `cbor:"21,keyasint,omitempty"`
	LossRunMax []byte `cbor:"22,keyasint,omitempty"`
	BurstRatio []byte `cbor:"23,keyasint,omitempty"`

	LostForward []byte `cbor:"24,keyasint,omitempty"` // 0 is "not known", else 1 + count
	LostReverse []byte `cbor:"25,keyasint,omitempty"`

	Fault  []string `cbor:"26,keyasint,omitempty"`
	Detail []string `cbor:"27,keyasint,omitempty"`
}

// number is one column while it is written.
type number struct {
	b    []byte
	some bool // a value other than zero was written
}

func (n *number) put(v uint64) {
	n.some = n.some || v != 0
	n.b = binary.AppendUvarint(n.b, v)
}

func (n *number) diff(v, base uint32) { n.put(zigzag(int64(v) - int64(base))) }

func (n *number) bytes() []byte {
	if !n.some {
		return nil
	}
	return n.b
}

func zigzag(v int64) uint64   { return uint64(v)<<1 ^ uint64(v>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

// optional encodes a count that may be unknown.
func optional(p *uint32) uint64 {
	if p == nil {
		return 0
	}
	return uint64(*p) + 1
}

// encodeProbes returns the set's targets and its probe windows as columns. A window
// whose target the set does not list gets a bare target: nothing measured is lost.
func encodeProbes(set *telemetry.Set) ([]telemetry.Target, *probeColumns) {
	rows := set.ProbeWindows
	if len(rows) == 0 {
		return set.Targets, nil
	}
	targets := set.Targets[:len(set.Targets):len(set.Targets)]
	index := make(map[telemetry.ItemID]uint64, len(targets))
	for i := len(targets) - 1; i >= 0; i-- {
		index[targets[i].ID] = uint64(i)
	}
	var c columnWriter
	var before telemetry.UnixMS
	for i := range rows {
		w := &rows[i]
		at, ok := index[w.Target]
		if !ok {
			at = uint64(len(targets))
			index[w.Target] = at
			targets = append(targets, telemetry.Target{ID: w.Target})
		}
		c.target.put(at)
		// The difference may wrap; adding it again wraps back.
		c.observed.put(zigzag(int64(w.Observed) - int64(before)))
		before = w.Observed
		c.add(w)
	}
	out := c.columns()
	out.Rows = uint32(len(rows))
	return targets, out
}

type columnWriter struct {
	target, observed, length                                number
	sent, received, lost, late, duplicated, reordered       number
	attempts, rtt                                           number
	least, p10, p50, p90, p99, most, mean                   number
	jitter, ipdv, lossRun, burst, lostForward, lostBackward number
	fault, detail                                           []string
	anyFault, anyDetail                                     bool
}

func (c *columnWriter) add(w *telemetry.ProbeWindow) {
	c.length.put(uint64(w.LengthMS))
	c.sent.put(uint64(w.Sent))
	c.received.put(uint64(w.Received))
	c.lost.put(uint64(w.Lost))
	c.late.put(uint64(w.Late))
	c.duplicated.put(uint64(w.Duplicated))
	c.reordered.put(uint64(w.Reordered))

	c.attempts.put(uint64(len(w.RTTUS)))
	last := w.RTTMinUS
	for _, rtt := range w.RTTUS {
		if rtt == 0 {
			c.rtt.put(0)
			continue
		}
		c.rtt.put(1 + zigzag(int64(rtt)-int64(last)))
		last = rtt
	}
	c.least.put(uint64(w.RTTMinUS))
	c.p10.diff(w.RTTP10US, w.RTTMinUS)
	c.p50.diff(w.RTTP50US, w.RTTP10US)
	c.p90.diff(w.RTTP90US, w.RTTP50US)
	c.p99.diff(w.RTTP99US, w.RTTP90US)
	c.most.diff(w.RTTMaxUS, w.RTTP99US)
	c.mean.diff(w.RTTMeanUS, w.RTTP50US)

	c.jitter.put(uint64(w.JitterUS))
	c.ipdv.put(uint64(w.IPDVP95US))
	c.lossRun.put(uint64(w.LossRunMax))
	c.burst.put(uint64(w.BurstRatioMilli))
	c.lostForward.put(optional(w.LostForward))
	c.lostBackward.put(optional(w.LostReverse))

	c.fault = append(c.fault, w.Fault)
	c.detail = append(c.detail, w.Detail)
	c.anyFault = c.anyFault || w.Fault != ""
	c.anyDetail = c.anyDetail || w.Detail != ""
}

func (c *columnWriter) columns() *probeColumns {
	p := &probeColumns{
		Target: c.target.bytes(), Observed: c.observed.bytes(), LengthMS: c.length.bytes(),
		Sent: c.sent.bytes(), Received: c.received.bytes(), Lost: c.lost.bytes(), Late: c.late.bytes(),
		Duplicated: c.duplicated.bytes(), Reordered: c.reordered.bytes(),
		Attempts: c.attempts.bytes(),
		RTT:      c.rtt.b, // also when all were lost: its length says how many there are
		Min:      c.least.bytes(), P10: c.p10.bytes(), P50: c.p50.bytes(), P90: c.p90.bytes(),
		P99: c.p99.bytes(), Max: c.most.bytes(), Mean: c.mean.bytes(),
		Jitter: c.jitter.bytes(), IPDVP95: c.ipdv.bytes(), LossRunMax: c.lossRun.bytes(),
		BurstRatio: c.burst.bytes(), LostForward: c.lostForward.bytes(), LostReverse: c.lostBackward.bytes(),
	}
	if c.anyFault {
		p.Fault = c.fault
	}
	if c.anyDetail {
		p.Detail = c.detail
	}
	return p
}

// column is one column while it is read.
type column struct {
	b     []byte
	zeros bool // the column is absent: every row is zero
	err   error
}

func (c *column) take() uint64 {
	if c.zeros || c.err != nil {
		return 0
	}
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.err = errors.New("column ends early")
		return 0
	}
	c.b = c.b[n:]
	return v
}

// count reads an unsigned number of 32 bits.
func (c *column) count() uint32 {
	v := c.take()
	if v > math.MaxUint32 && c.err == nil {
		c.err = errors.New("number is too large")
	}
	return uint32(v)
}

// diff reads a difference to base.
func (c *column) diff(base uint32) uint32 { return c.shift(c.take(), base) }

func (c *column) shift(zz uint64, base uint32) uint32 {
	d := unzigzag(zz)
	v := int64(base) + d // base has 32 bits; an overflow is caught by the bounds of d
	if (d < -math.MaxUint32 || d > math.MaxUint32 || v < 0 || v > math.MaxUint32) && c.err == nil {
		c.err = errors.New("difference leaves the range")
	}
	return uint32(v)
}

// optional reads a count that may be unknown.
func (c *column) optional() *uint32 {
	v := c.take()
	if v == 0 {
		return nil
	}
	if v-1 > math.MaxUint32 {
		if c.err == nil {
			c.err = errors.New("number is too large")
		}
		return nil
	}
	n := uint32(v - 1)
	return &n
}

// decode checks the columns and gives the rows. Rows is within MaxRows.
func (p *probeColumns) decode(targets []telemetry.Target) ([]telemetry.ProbeWindow, error) {
	n := int(p.Rows)
	if n == 0 {
		return nil, errors.New("no probe windows in the columns")
	}
	for _, s := range [][]string{p.Fault, p.Detail} {
		if len(s) != 0 && len(s) != n {
			return nil, fmt.Errorf("text column of %d for %d rows", len(s), n)
		}
	}
	rows := make([]telemetry.ProbeWindow, n)
	r := p.reader()
	before := int64(0)
	for i := range rows {
		w := &rows[i]
		at := r.target.take()
		if at >= uint64(len(targets)) {
			return nil, fmt.Errorf("row %d: target %d of %d", i, at, len(targets))
		}
		w.Target = targets[at].ID
		before += unzigzag(r.observed.take())
		w.Observed = telemetry.UnixMS(before)
		r.row(w)
		if len(p.Fault) != 0 {
			w.Fault = p.Fault[i]
		}
		if len(p.Detail) != 0 {
			w.Detail = p.Detail[i]
		}
	}
	if err := r.rtts(rows, p); err != nil {
		return nil, err
	}
	return rows, r.end()
}

type columnReader struct {
	target, observed, length                                column
	sent, received, lost, late, duplicated, reordered       column
	attempts, rtt                                           column
	least, p10, p50, p90, p99, most, mean                   column
	jitter, ipdv, lossRun, burst, lostForward, lostBackward column
}

func (p *probeColumns) reader() *columnReader {
	c := func(b []byte) column { return column{b: b, zeros: len(b) == 0} }
	return &columnReader{
		target: c(p.Target), observed: c(p.Observed), length: c(p.LengthMS),
		sent: c(p.Sent), received: c(p.Received), lost: c(p.Lost), late: c(p.Late),
		duplicated: c(p.Duplicated), reordered: c(p.Reordered),
		attempts: c(p.Attempts), rtt: column{b: p.RTT},
		least: c(p.Min), p10: c(p.P10), p50: c(p.P50), p90: c(p.P90), p99: c(p.P99), most: c(p.Max), mean: c(p.Mean),
		jitter: c(p.Jitter), ipdv: c(p.IPDVP95), lossRun: c(p.LossRunMax), burst: c(p.BurstRatio),
		lostForward: c(p.LostForward), lostBackward: c(p.LostReverse),
	}
}

func (r *columnReader) row(w *telemetry.ProbeWindow) {
	w.LengthMS = r.length.count()
	w.Sent = r.sent.count()
	w.Received = r.received.count()
	w.Lost = r.lost.count()
	w.Late = r.late.count()
	w.Duplicated = r.duplicated.count()
	w.Reordered = r.reordered.count()
	w.RTTMinUS = r.least.count()
	w.RTTP10US = r.p10.diff(w.RTTMinUS)
	w.RTTP50US = r.p50.diff(w.RTTP10US)
	w.RTTP90US = r.p90.diff(w.RTTP50US)
	w.RTTP99US = r.p99.diff(w.RTTP90US)
	w.RTTMaxUS = r.most.diff(w.RTTP99US)
	w.RTTMeanUS = r.mean.diff(w.RTTP50US)
	w.JitterUS = r.jitter.count()
	w.IPDVP95US = r.ipdv.count()
	w.LossRunMax = r.lossRun.count()
	w.BurstRatioMilli = r.burst.count()
	w.LostForward = r.lostForward.optional()
	w.LostReverse = r.lostBackward.optional()
}

// rtts reads the attempts of all rows into one array, allocated after its length
// is known to be within the limits and within the bytes that are there.
func (r *columnReader) rtts(rows []telemetry.ProbeWindow, p *probeColumns) error {
	total, lengths := 0, r.attempts
	for range rows {
		n := lengths.take()
		if n > MaxWindowRTTs {
			return fmt.Errorf("%d attempts in a window", n)
		}
		total += int(n)
	}
	if total > MaxRTTs || total > len(p.RTT) {
		return fmt.Errorf("%d attempts in %d bytes", total, len(p.RTT))
	}
	all := make([]uint32, total)
	for i := range rows {
		n := int(r.attempts.take())
		if n == 0 {
			continue
		}
		own := all[:n:n]
		all = all[n:]
		last := rows[i].RTTMinUS
		for j := range own {
			v := r.rtt.take()
			if v == 0 {
				continue
			}
			own[j] = r.rtt.shift(v-1, last)
			if own[j] == 0 && r.rtt.err == nil {
				r.rtt.err = errors.New("an RTT of zero that is not a loss")
			}
			last = own[j]
		}
		rows[i].RTTUS = own
	}
	return nil
}

// end tells whether every column was sound and read to its end.
func (r *columnReader) end() error {
	for i, c := range []*column{
		&r.target, &r.observed, &r.length, &r.sent, &r.received, &r.lost, &r.late, &r.duplicated, &r.reordered,
		&r.attempts, &r.rtt, &r.least, &r.p10, &r.p50, &r.p90, &r.p99, &r.most, &r.mean,
		&r.jitter, &r.ipdv, &r.lossRun, &r.burst, &r.lostForward, &r.lostBackward,
	} {
		if c.err != nil {
			return fmt.Errorf("column %d: %w", i+2, c.err)
		}
		if len(c.b) != 0 {
			return fmt.Errorf("column %d: %d bytes too many", i+2, len(c.b))
		}
	}
	return nil
}
