package impair

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// ParseProfile reads what String writes: words like "delay=20ms jitter=5ms loss=1%
// loss-burst=4 rate=512kbit blackhole". A ratio is 0.01 or 1%; a rate is in bit/s or ends
// in kbit, mbit, gbit; cut is bytes or ends in kb, mb.
func ParseProfile(text string) (Profile, error) {
	var (
		p     Profile
		burst float64
	)
	for _, word := range strings.Fields(text) {
		name, value, _ := strings.Cut(word, "=")
		if err := p.set(name, value, &burst); err != nil {
			return Profile{}, fmt.Errorf("profile %q: %q: %w", text, word, err)
		}
	}
	if burst != 0 {
		p.Loss, p.Bursts = 0, LossBursts(p.Loss, burst)
	}
	if err := p.Validate(); err != nil {
		return Profile{}, fmt.Errorf("profile %q: %w", text, err)
	}
	return p, nil
}

func (p *Profile) set(name, value string, burst *float64) (err error) {
	switch name {
	case "delay":
		p.Delay, err = time.ParseDuration(value)
	case "jitter":
		p.Jitter, err = time.ParseDuration(value)
	case "normal":
		p.Normal, err = parseSwitch(value)
	case "loss":
		p.Loss, err = parseRatio(value)
	case "loss-burst":
		if *burst, err = strconv.ParseFloat(value, 64); err == nil && !(*burst >= 1 && *burst <= 1e6) {
			err = fmt.Errorf("a mean run of lost packets is 1 to 1e6 long")
		}
	case "bursts":
		p.Bursts, err = parseBursts(value)
	case "reorder":
		p.Reorder, err = parseRatio(value)
	case "reorder-by":
		p.ReorderBy, err = time.ParseDuration(value)
	case "duplicate":
		p.Duplicate, err = parseRatio(value)
	case "rate":
		p.Rate, err = parseScaled(value, map[string]float64{"kbit": 1e3, "mbit": 1e6, "gbit": 1e9, "bit": 1})
	case "queue":
		p.Queue, err = time.ParseDuration(value)
	case "mtu":
		p.MTU, err = strconv.Atoi(value)
	case "blackhole":
		p.Blackhole, err = parseSwitch(value)
	case "cut":
		p.CutAfter, err = parseScaled(value, map[string]float64{"kb": 1e3, "mb": 1e6, "b": 1})
	default:
		err = fmt.Errorf("unknown; there are delay, jitter, normal, loss, loss-burst, bursts, reorder, reorder-by, duplicate, rate, queue, mtu, blackhole, cut")
	}
	return err
}

func parseSwitch(text string) (bool, error) {
	if text == "" {
		return true, nil
	}
	return strconv.ParseBool(text)
}

func parseRatio(text string) (float64, error) {
	number, percent := strings.CutSuffix(text, "%")
	v, err := strconv.ParseFloat(number, 64)
	if percent {
		v /= 100
	}
	return v, err
}

// parseBursts reads GoodToBad,BadToGood,LossGood,LossBad.
func parseBursts(text string) (b Bursts, err error) {
	parts := strings.Split(text, ",")
	if len(parts) != 4 {
		return b, fmt.Errorf("give four ratios: good to bad, bad to good, loss in good, loss in bad")
	}
	for i, to := range []*float64{&b.GoodToBad, &b.BadToGood, &b.LossGood, &b.LossBad} {
		if *to, err = parseRatio(parts[i]); err != nil {
			return b, err
		}
	}
	return b, nil
}

// parseScaled reads a whole number with a unit; the longest unit that fits counts.
func parseScaled(text string, units map[string]float64) (int64, error) {
	number, scale := strings.ToLower(text), 1.0
	unit := ""
	for u := range units {
		if strings.HasSuffix(number, u) && len(u) > len(unit) {
			unit = u
		}
	}
	if unit != "" {
		number, scale = strings.TrimSuffix(number, unit), units[unit]
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, err
	}
	if v *= scale; !(v >= 0 && v <= 1e15) {
		return 0, fmt.Errorf("out of range")
	}
	return int64(math.Round(v)), nil
}

// String is the profile as ParseProfile reads it; "" passes everything on.
func (p Profile) String() string {
	var words []string
	add := func(there bool, name, value string) {
		if there {
			words = append(words, name+"="+value)
		}
	}
	ratio := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	add(p.Delay != 0, "delay", p.Delay.String())
	add(p.Jitter != 0, "jitter", p.Jitter.String())
	add(p.Normal, "normal", "true")
	add(p.Loss != 0, "loss", ratio(p.Loss))
	b := p.Bursts
	add(b != Bursts{}, "bursts", strings.Join([]string{ratio(b.GoodToBad), ratio(b.BadToGood), ratio(b.LossGood), ratio(b.LossBad)}, ","))
	add(p.Reorder != 0, "reorder", ratio(p.Reorder))
	add(p.ReorderBy != 0, "reorder-by", p.ReorderBy.String())
	add(p.Duplicate != 0, "duplicate", ratio(p.Duplicate))
	add(p.Rate != 0, "rate", strconv.FormatInt(p.Rate, 10))
	add(p.Queue != 0, "queue", p.Queue.String())
	add(p.MTU != 0, "mtu", strconv.Itoa(p.MTU))
	add(p.Blackhole, "blackhole", "true")
	add(p.CutAfter != 0, "cut", strconv.FormatInt(p.CutAfter, 10))
	return strings.Join(words, " ")
}
