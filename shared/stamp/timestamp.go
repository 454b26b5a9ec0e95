package stamp

import (
	"math/bits"
	"time"
)

// ntpUnixOffset is the seconds from 1900-01-01 to 1970-01-01 (RFC 5905, figure 4).
const ntpUnixOffset = 2208988800

// eraSeconds is the length of an NTP era; the current one ends in 2036.
const eraSeconds = 1 << 32

// Timestamp is 64 bits on the wire: seconds in the upper half; in the lower half a
// binary fraction (NTP) or nanoseconds (truncated PTP), as the Z bit of the error
// estimate beside it says.
type Timestamp uint64

// NTP converts t to the NTP format, modulo the era.
func NTP(t time.Time) Timestamp {
	sec := uint32(uint64(t.Unix() + ntpUnixOffset)) // wraps with the era, as intended
	frac := uint64(t.Nanosecond()) << 32 / uint64(time.Second)
	return Timestamp(uint64(sec)<<32 | frac)
}

// NTPTime reads the NTP format; of the eras it takes the one nearest to near.
func (t Timestamp) NTPTime(near time.Time) time.Time {
	ns := (uint64(uint32(t))*uint64(time.Second) + 1<<31) >> 32
	return inEra(int64(t>>32)-ntpUnixOffset, int64(ns), near)
}

// PTPTime reads the truncated PTP format (IEEE 1588 by RFC 8186: seconds since
// 1970, nanoseconds); of the eras it takes the one nearest to near.
func (t Timestamp) PTPTime(near time.Time) time.Time {
	return inEra(int64(t>>32), int64(uint32(t)), near)
}

// Time reads the timestamp in the format that e names.
func (t Timestamp) Time(e ErrorEstimate, near time.Time) time.Time {
	if e.PTP() {
		return t.PTPTime(near)
	}
	return t.NTPTime(near)
}

func inEra(sec, ns int64, near time.Time) time.Time {
	const half = eraSeconds / 2
	d := sec - near.Unix()
	switch {
	case d > half:
		sec -= (d + half) / eraSeconds * eraSeconds
	case d < -half:
		sec += (half - d) / eraSeconds * eraSeconds
	}
	return time.Unix(sec, ns).UTC()
}

// ErrorEstimate says how good a timestamp is (RFC 4656, 4.1.2; RFC 8186 for Z):
// S (clock synchronised), Z (PTP format), 6 bits of scale, 8 bits of multiplier;
// the error is multiplier × 2^(scale-32) seconds.
type ErrorEstimate uint16

const (
	flagS = 1 << 15
	flagZ = 1 << 14
)

// MakeErrorEstimate gives the smallest estimate that is not below err, for NTP
// timestamps. The multiplier is never zero: the RFC calls such packets corrupt.
func MakeErrorEstimate(synchronised bool, err time.Duration) ErrorEstimate {
	err = min(max(err, 1), 1<<61) // 73 years; keeps the quotient below within 64 bits
	hi, lo := bits.Mul64(uint64(err), 1<<32)
	units, rem := bits.Div64(hi, lo, uint64(time.Second))
	if rem > 0 {
		units++
	}
	scale := 0
	for units > 255 {
		units = units>>1 + units&1
		scale++
	}
	e := ErrorEstimate(scale<<8) | ErrorEstimate(max(units, 1))
	if synchronised {
		e |= flagS
	}
	return e
}

// Synchronised reports the S bit: the clock follows UTC by an outside source.
func (e ErrorEstimate) Synchronised() bool { return e&flagS != 0 }

// PTP reports the Z bit: the timestamp is truncated PTP and not NTP.
func (e ErrorEstimate) PTP() bool { return e&flagZ != 0 }

// Duration is the error, rounded up to a nanosecond and cut at the longest Duration.
func (e ErrorEstimate) Duration() time.Duration {
	const longest = time.Duration(1<<63 - 1)
	mult, scale := uint64(e&0xff), uint(e>>8&0x3f)
	ns := mult * uint64(time.Second) // below 2^38
	if scale <= 32 {
		shift := 32 - scale
		return time.Duration((ns + 1<<shift - 1) >> shift)
	}
	shift := scale - 32
	if bits.Len64(ns)+int(shift) > 63 {
		return longest
	}
	return time.Duration(ns << shift)
}
