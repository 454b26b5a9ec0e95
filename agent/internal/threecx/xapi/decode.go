package xapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"sidetone/agent/internal/threecx"
	"sidetone/shared/telemetry"
)

// unmarshal decodes body into v. A field of an unexpected kind is left empty, as
// if it were absent: that is drift between builds, not a broken answer.
func unmarshal(body []byte, v any) error {
	err := json.Unmarshal(body, v)
	var te *json.UnmarshalTypeError
	if errors.As(err, &te) && te.Field != "" {
		return nil
	}
	return err
}

func looksLikeHTML(a *answer) bool {
	return strings.HasPrefix(strings.ToLower(a.header.Get("Content-Type")), "text/html") ||
		bytes.HasPrefix(bytes.TrimLeft(a.body, "\xef\xbb\xbf \t\r\n"), []byte("<"))
}

// decode reads a 200. The web client answers unknown paths with its start page.
func (c *Client) decode(p threecx.Path, a *answer, v any) error {
	if looksLikeHTML(a) {
		if p.Essential() {
			return threecx.Errorf(threecx.ErrNot3CX, nil, "%s is answered with a web page: is this a 3CX v20?", p)
		}
		c.caps.refuse(p, "is answered with a web page")
		return threecx.Errorf(threecx.ErrUnsupported, nil, "%s is answered with a web page", p)
	}
	if err := unmarshal(a.body, v); err != nil {
		return threecx.Errorf(threecx.ErrAnswer, err, "the answer to %s is not the JSON it should be", p)
	}
	return nil
}

// The types below never fail: what they cannot read is as good as absent.

// num is a number, or a number in a string; "NaN" and "INF" count as absent.
type num struct {
	v  float64
	ok bool
}

func (n *num) UnmarshalJSON(b []byte) error {
	v, err := strconv.ParseFloat(strings.Trim(string(b), `"`), 64)
	n.v, n.ok = v, err == nil && !math.IsNaN(v) && !math.IsInf(v, 0)
	return nil
}

func (n num) u32() *uint32 {
	if !n.ok || n.v < 0 {
		return nil
	}
	v := uint32(min(n.v, math.MaxUint32))
	return &v
}

func (n num) u64() *uint64 {
	if !n.ok || n.v < 0 {
		return nil
	}
	v := uint64(min(n.v, 1<<63))
	return &v
}

func (n num) i64() int64 {
	if !n.ok {
		return 0
	}
	return int64(min(max(n.v, -(1<<62)), 1<<62))
}

// flag is a truth value.
type flag struct{ v, ok bool }

func (f *flag) UnmarshalJSON(b []byte) error {
	v, err := strconv.ParseBool(strings.ToLower(strings.Trim(string(b), `"`)))
	f.v, f.ok = v, err == nil
	return nil
}

func (f flag) ptr() *bool {
	if !f.ok {
		return nil
	}
	v := f.v
	return &v
}

// text is a string; a number is taken as its digits.
type text string

func (t *text) UnmarshalJSON(b []byte) error {
	*t = ""
	if len(b) == 0 || b[0] == '{' || b[0] == '[' || string(b) == "null" {
		return nil
	}
	var s string
	if json.Unmarshal(b, &s) == nil {
		*t = text(s)
		return nil
	}
	*t = text(b)
	return nil
}

// clean is the text made fit for a row.
func (t text) clean(limit int) string { return threecx.Clean(strings.TrimSpace(string(t)), limit) }

// instant is a time with any offset and any number of fractional digits.
type instant struct{ t time.Time }

func (i *instant) UnmarshalJSON(b []byte) error {
	i.t = time.Time{}
	s := strings.Trim(string(b), `"`)
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05Z07:00"} {
		if t, err := time.Parse(layout, s); err == nil && t.Year() > 1 && t.Year() < 10000 {
			i.t = t
			return nil
		}
	}
	return nil
}

func (i instant) ms() telemetry.UnixMS { return telemetry.MS(i.t) }

// span is an ISO 8601 duration of days and smaller, such as P2DT3H4M5.06S.
type span struct {
	d  time.Duration
	ok bool
}

func (s *span) UnmarshalJSON(b []byte) error {
	s.d, s.ok = parseSpan(strings.Trim(string(b), `"`))
	return nil
}

func parseSpan(s string) (time.Duration, bool) {
	rest, found := strings.CutPrefix(s, "P")
	if !found || rest == "" {
		return 0, false
	}
	units := map[byte]float64{'D': 86400}
	var total float64
	for rest != "" {
		if rest[0] == 'T' {
			units = map[byte]float64{'H': 3600, 'M': 60, 'S': 1}
			rest = rest[1:]
			continue
		}
		end := strings.IndexFunc(rest, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
		if end <= 0 {
			return 0, false
		}
		v, err := strconv.ParseFloat(rest[:end], 64)
		unit, known := units[rest[end]]
		if err != nil || !known {
			return 0, false
		}
		total += v * unit
		rest = rest[end+1:]
	}
	const longest = 100 * 365 * 86400
	if total > longest {
		return 0, false
	}
	return time.Duration(total * float64(time.Second)), true
}
