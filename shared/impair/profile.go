package impair

import (
	"errors"
	"fmt"
	"time"
)

// Limits of what a Profile may ask for.
const (
	maxDelay = time.Minute
	minMTU   = 68 // of IPv4, RFC 791
	maxMTU   = 65535

	defaultQueue     = 200 * time.Millisecond
	defaultReorderBy = 20 * time.Millisecond
)

// Profile is what happens to one direction. The zero value passes everything on at once.
type Profile struct {
	// Delay is added to everything, Jitter varies it: evenly by up to as much either way,
	// or as a normal distribution with Jitter as its standard deviation. It never falls
	// below zero.
	Delay, Jitter time.Duration
	Normal        bool

	Loss   float64 // ratio of packets that are lost at random
	Bursts Bursts  // loss in runs, beside that at random

	Reorder   float64       // ratio of packets that are held back, so that later ones pass them
	ReorderBy time.Duration // how long (default 20 ms)
	Duplicate float64       // ratio of packets that come twice

	Rate  int64         // bits a second; 0 is unlimited. UDP counts IP and UDP headers, TCP only what it carries
	Queue time.Duration // longest wait for Rate (default 200 ms): above it UDP drops, TCP stops reading

	MTU       int  // largest IP packet that passes; larger ones vanish without an ICMP message
	Blackhole bool // UDP vanishes, TCP stands still

	CutAfter int64 // resets a TCP connection after as many bytes of this direction; 0 is never
}

// Bursts is the model of Gilbert and Elliott: a good and a bad state, and a chance to
// change at each packet. The zero value loses nothing.
type Bursts struct {
	GoodToBad, BadToGood float64 // chances to change the state
	LossGood, LossBad    float64 // ratios of loss in each state
}

// LossBursts gives bursts that lose the ratio of all packets, in runs of the mean length
// (at least 1; 1 / (1 - ratio) is what chance gives).
func LossBursts(ratio, length float64) Bursts {
	if ratio <= 0 {
		return Bursts{}
	}
	back := 1 / max(length, 1)
	return Bursts{GoodToBad: min(1, back*ratio/(1-min(ratio, 0.999))), BadToGood: back, LossBad: 1}
}

// Ratio is the loss in the long run.
func (b Bursts) Ratio() float64 {
	if b.GoodToBad == 0 {
		return b.LossGood
	}
	bad := b.GoodToBad / (b.GoodToBad + b.BadToGood)
	return bad*b.LossBad + (1-bad)*b.LossGood
}

// Validate says all that is wrong.
func (p Profile) Validate() error {
	var errs []error
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"delay", p.Delay}, {"jitter", p.Jitter}, {"reorder-by", p.ReorderBy}, {"queue", p.Queue}} {
		if d.value < 0 || d.value > maxDelay {
			errs = append(errs, fmt.Errorf("%s is %v: use 0 to %v", d.name, d.value, maxDelay))
		}
	}
	for _, r := range []struct {
		name  string
		value float64
	}{
		{"loss", p.Loss}, {"reorder", p.Reorder}, {"duplicate", p.Duplicate},
		{"bursts: good to bad", p.Bursts.GoodToBad}, {"bursts: bad to good", p.Bursts.BadToGood},
		{"bursts: loss in good", p.Bursts.LossGood}, {"bursts: loss in bad", p.Bursts.LossBad},
	} {
		if !(r.value >= 0 && r.value <= 1) { // also what is not a number
			errs = append(errs, fmt.Errorf("%s is %v: use a ratio from 0 to 1", r.name, r.value))
		}
	}
	if p.Rate < 0 || p.Rate > 0 && p.Rate < 1000 {
		errs = append(errs, fmt.Errorf("rate is %d bit/s: use at least 1000, or 0 for no limit", p.Rate))
	}
	if p.MTU != 0 && (p.MTU < minMTU || p.MTU > maxMTU) {
		errs = append(errs, fmt.Errorf("mtu is %d: use %d to %d, or 0 for no limit", p.MTU, minMTU, maxMTU))
	}
	if p.CutAfter < 0 {
		errs = append(errs, fmt.Errorf("cut is %d bytes: use a positive number, or 0 for never", p.CutAfter))
	}
	return errors.Join(errs...)
}

func (p Profile) validateUDP() error {
	if p.CutAfter != 0 {
		return errors.Join(p.Validate(), errors.New("cut works on TCP connections only: use blackhole or reject"))
	}
	return p.Validate()
}

func (p Profile) validateTCP() error {
	if p.Loss != 0 || p.Bursts != (Bursts{}) || p.Reorder != 0 || p.Duplicate != 0 || p.MTU != 0 {
		return errors.Join(p.Validate(), errors.New("loss, reorder, duplicate and mtu work on UDP only: a TCP proxy sees no packets"))
	}
	return p.Validate()
}

func (p Profile) queue() time.Duration {
	if p.Queue == 0 {
		return defaultQueue
	}
	return p.Queue
}

func (p Profile) reorderBy() time.Duration {
	if p.ReorderBy == 0 {
		return defaultReorderBy
	}
	return p.ReorderBy
}
