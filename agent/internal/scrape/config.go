package scrape

import (
	"fmt"
	"time"
)

// Config is the rhythm of reading a PBX. Zero values take the defaults, which need
// about 27 requests a minute; the client's call budget stretches what is set faster
// than it allows.
type Config struct {
	// Interval is between two readings of status, trunks and services: what an
	// operator must hear of at once. A change is a row within Interval and the
	// time of an answer.
	Interval time.Duration
	// Calls, SBCs and so on are between two readings of that kind.
	Calls      time.Duration
	SBCs       time.Duration
	Events     time.Duration
	Extensions time.Duration
	Backups    time.Duration
	Licence    time.Duration
	// CursorFile keeps the place in the PBX's event log over a restart. Empty means
	// no memory: the newest entries are then read again.
	CursorFile string
}

const (
	intervalMin = time.Second
	intervalMax = 5 * time.Minute
)

// WithDefaults fills what is zero, and raises what is below the least interval.
func (c Config) WithDefaults() Config {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.Interval, 10 * time.Second}, {&c.Calls, 20 * time.Second}, {&c.SBCs, 30 * time.Second},
		{&c.Events, time.Minute}, {&c.Extensions, 5 * time.Minute}, {&c.Backups, 10 * time.Minute},
		{&c.Licence, time.Hour},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
		*d.field = max(*d.field, intervalMin)
	}
	return c
}

// Validate lists all mistakes, each with the path of its key.
func (c Config) Validate() []error {
	var errs []error
	if c.Interval != 0 && (c.Interval < intervalMin || c.Interval > intervalMax) {
		errs = append(errs, fmt.Errorf("pbx.interval: %s is outside %s to %s", c.Interval, intervalMin, intervalMax))
	}
	for _, d := range []struct {
		key   string
		value time.Duration
	}{
		{"calls", c.Calls}, {"sbcs", c.SBCs}, {"events", c.Events}, {"extensions", c.Extensions},
		{"backups", c.Backups}, {"licence", c.Licence},
	} {
		if d.value != 0 && (d.value < intervalMin || d.value > 24*time.Hour) {
			errs = append(errs, fmt.Errorf("pbx.%s_interval: %s is outside %s to 24h", d.key, d.value, intervalMin))
		}
	}
	return errs
}
