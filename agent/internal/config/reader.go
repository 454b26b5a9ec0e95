package config

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"sidetone/agent/internal/threecx"
	"sidetone/shared/telemetry"
)

// document is a parsed file: values, and the line of each key by its path.
type document struct {
	root  map[string]any
	lines map[string]int
}

// readTOML parses; a mistake of syntax is the only one that can be told then.
func readTOML(b []byte) (document, *Mistake) {
	d := document{root: map[string]any{}, lines: map[string]int{}}
	if err := toml.Unmarshal(b, &d.root); err != nil {
		m := &Mistake{Text: err.Error()}
		var de *toml.DecodeError
		if errors.As(err, &de) {
			m.Line, _ = de.Position()
			m.Path = strings.Join(de.Key(), ".")
			m.Text = strings.TrimPrefix(de.Error(), "toml: ")
		}
		return d, m
	}
	d.findLines(b)
	return d, nil
}

// findLines walks the expressions of a document that is known to be valid.
func (d *document) findLines(b []byte) {
	var p unstable.Parser
	p.Reset(b)
	prefix := ""
	count := map[string]int{}
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table:
			prefix, _ = d.key(&p, "", e.Key())
		case unstable.ArrayTable:
			name, line := d.key(&p, "", e.Key())
			prefix = fmt.Sprintf("%s[%d]", name, count[name])
			count[name]++
			d.lines[prefix] = line
		case unstable.KeyValue:
			name, _ := d.key(&p, prefix, e.Key())
			d.inline(&p, name, e.Value())
		}
	}
}

// inline notes the keys inside { … } and [ { … } ].
func (d *document) inline(p *unstable.Parser, path string, v *unstable.Node) {
	switch v.Kind {
	case unstable.InlineTable:
		for it := v.Children(); it.Next(); {
			kv := it.Node()
			name, _ := d.key(p, path, kv.Key())
			d.inline(p, name, kv.Value())
		}
	case unstable.Array:
		i := 0
		for it := v.Children(); it.Next(); i++ {
			d.inline(p, fmt.Sprintf("%s[%d]", path, i), it.Node())
		}
	}
}

func (d *document) key(p *unstable.Parser, prefix string, it unstable.Iterator) (string, int) {
	line := 0
	for it.Next() {
		n := it.Node()
		prefix = join(prefix, string(n.Data))
		line = p.Shape(n.Raw).Start.Line
		if _, ok := d.lines[prefix]; !ok {
			d.lines[prefix] = line
		}
	}
	return prefix, line
}

func join(prefix, key string) string {
	if prefix == "" {
		return key
	}
	return prefix + "." + key
}

// reader collects the mistakes of a document.
type reader struct {
	lines    map[string]int
	dir      string
	mistakes []Mistake
}

func (r *reader) bad(path, format string, args ...any) {
	r.mistakes = append(r.mistakes, Mistake{Path: path, Line: r.line(path), Text: fmt.Sprintf(format, args...)})
}

// line gives that of a key, or of the section around it.
func (r *reader) line(path string) int {
	for path != "" {
		if n, ok := r.lines[path]; ok {
			return n
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return 0
		}
		path = path[:i]
	}
	return 0
}

func (r *reader) failed(path string) bool {
	return slices.ContainsFunc(r.mistakes, func(m Mistake) bool { return m.Path == path })
}

// table reads the keys of one table and remembers which it knows.
type table struct {
	r      *reader
	path   string
	values map[string]any
	known  []string
}

func (r *reader) table(path string, values map[string]any) *table {
	return &table{r: r, path: path, values: values}
}

func (t *table) bad(key, format string, args ...any) { t.r.bad(join(t.path, key), format, args...) }

// get gives the value of a key, which is known from then on.
func (t *table) get(key string) (any, bool) {
	t.known = append(t.known, key)
	v, ok := t.values[key]
	return v, ok
}

// done reports the keys that nobody asked for.
func (t *table) done() {
	for _, key := range slices.Sorted(maps.Keys(t.values)) {
		if slices.Contains(t.known, key) {
			continue
		}
		if like := nearest(key, t.known); like != "" {
			t.bad(key, "unknown key; did you mean %s?", like)
			continue
		}
		known := slices.Clone(t.known)
		slices.Sort(known)
		known = slices.Compact(known)
		t.bad(key, "unknown key; known here: %s", strings.Join(known, ", "))
	}
}

func (t *table) table(key string) *table {
	v, ok := t.get(key)
	if !ok {
		return nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		t.bad(key, "must be a section: [%s]", join(t.path, key))
		return nil
	}
	return t.r.table(join(t.path, key), m)
}

func (t *table) tables(key string) []*table {
	v, ok := t.get(key)
	if !ok {
		return nil
	}
	var out []*table
	list, ok := v.([]any)
	if !ok {
		t.bad(key, "must be a list of sections: [[%s]]", join(t.path, key))
		return nil
	}
	for i, v := range list {
		path := fmt.Sprintf("%s[%d]", key, i)
		m, ok := v.(map[string]any)
		if !ok {
			t.bad(path, "must be a section: [[%s]]", key)
			continue
		}
		out = append(out, t.r.table(join(t.path, path), m))
	}
	return out
}

func (t *table) text(key string) string {
	v, ok := t.get(key)
	if !ok {
		return ""
	}
	s, ok := v.(string)
	if !ok {
		t.bad(key, "must be text in quotes, not %s", kind(v))
	}
	return s
}

// file is a file name; a relative one starts beside the configuration file.
func (t *table) file(key string) string {
	s := t.text(key)
	if s != "" && !filepath.IsAbs(s) {
		s = filepath.Join(t.r.dir, s)
	}
	return s
}

func (t *table) oneOf(key, otherwise string, allowed ...string) string {
	if _, ok := t.values[key]; !ok {
		t.known = append(t.known, key)
		return otherwise
	}
	s := t.text(key)
	if !slices.Contains(allowed, s) && !t.r.failed(join(t.path, key)) {
		t.bad(key, "%q is none of %s", s, strings.Join(allowed, ", "))
	}
	return s
}

func (t *table) boolean(key string, otherwise bool) bool {
	v, ok := t.get(key)
	if !ok {
		return otherwise
	}
	b, ok := v.(bool)
	if !ok {
		t.bad(key, "must be true or false, not %s", kind(v))
	}
	return b
}

func (t *table) number(key string) int {
	v, ok := t.get(key)
	if !ok {
		return 0
	}
	n, ok := v.(int64)
	if !ok {
		t.bad(key, "must be a whole number, not %s", kind(v))
		return 0
	}
	if n < math.MinInt32 || n > math.MaxInt32 {
		t.bad(key, "%d is out of range", n)
		return 0
	}
	return int(n)
}

func (t *table) duration(key string) time.Duration {
	v, ok := t.get(key)
	if !ok {
		return 0
	}
	s, ok := v.(string)
	if !ok {
		t.bad(key, `must be a duration in quotes, such as "10s", not %s`, kind(v))
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		if days, ok := strings.CutSuffix(s, "d"); ok {
			if n, err := strconv.ParseUint(days, 10, 16); err == nil {
				d = time.Duration(n) * 24 * time.Hour
				if n > 0 {
					return d
				}
			}
		}
		t.bad(key, `%q is not a duration such as "10s", "5m" or "14d"`, s)
		return 0
	}
	if d <= 0 {
		t.bad(key, "%q: must be above zero", s)
		return 0
	}
	return d
}

// isZero tells whether a key is given as 0, where that means none.
func (t *table) isZero(key string) bool { return t.values[key] == int64(0) }

// size is a number of bytes, or text with a unit.
func (t *table) size(key string) uint64 {
	v, ok := t.get(key)
	if !ok {
		return 0
	}
	switch v := v.(type) {
	case int64:
		if v > 0 {
			return uint64(v)
		}
	case string:
		for unit, factor := range map[string]uint64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "KB": 1e3, "MB": 1e6, "GB": 1e9} {
			if digits, ok := strings.CutSuffix(v, unit); ok {
				if n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 32); err == nil && n > 0 {
					return n * factor
				}
			}
		}
	}
	t.bad(key, `must be a number of bytes above zero, or text such as "512 MiB"`)
	return 0
}

// secret reads key, or the file that key_file names. Its value is never quoted.
func (t *table) secret(key string, warnings *[]string) threecx.Secret {
	inline := t.text(key)
	file := t.file(key + "_file")
	if file == "" {
		return threecx.Secret(inline)
	}
	if inline != "" {
		t.bad(key+"_file", "given together with %s: keep only one", key)
		return threecx.Secret(inline)
	}
	b, err := readBounded(file, maxSecret)
	if err != nil {
		t.bad(key+"_file", "%s", err)
		return "unread" // no second mistake for a missing secret
	}
	s := string(bytes.TrimRight(b, "\r\n"))
	if s == "" {
		t.bad(key+"_file", "%s is empty", file)
		return "unread"
	}
	if w := readableByOthers(file); w != "" {
		*warnings = append(*warnings, w)
	}
	return threecx.Secret(s)
}

func method(kind string) telemetry.Method { return telemetry.Method(kind) }

func kind(v any) string {
	switch v.(type) {
	case string:
		return "text"
	case int64, float64:
		return "a number"
	case bool:
		return "true or false"
	case []any:
		return "a list"
	case map[string]any:
		return "a section"
	}
	return "a date"
}

// nearest finds a known key that is at most two typing mistakes away.
func nearest(key string, known []string) string {
	best, bestDistance := "", 3
	for _, k := range known {
		if d := distance(key, k); d < bestDistance && d < len(k) {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance is Levenshtein's, in bytes. Keys are short; a long one is simply far.
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := last
			if a[i] != b[j] {
				cost = 1 + min(last, row[j], row[j+1])
			}
			last, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
