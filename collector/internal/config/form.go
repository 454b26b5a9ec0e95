package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// decode reads a document. The decoder stops at its first wrong type, so the form is
// compared with the Go types apart, and all of it is told; what is left without its
// wrong parts is judged as well, so that nobody has to mend a file mistake by mistake.
func decode(text []byte) (Config, error) {
	var c Config
	root := map[string]any{}
	if err := toml.Unmarshal(text, &root); err != nil {
		return c, Mistakes{syntax(err)}
	}
	f := form{lines: keyLines(text)}
	f.table("", root, reflect.TypeFor[Config]())
	if len(f.found) == 0 {
		if err := toml.Unmarshal(text, &c); err != nil {
			return Config{}, Mistakes{syntax(err)}
		}
		return c, nil
	}
	slices.SortStableFunc(f.found, func(a, b formMistake) int { return a.line - b.line })
	var out Mistakes
	for _, m := range f.found {
		out = append(out, m.text)
	}
	return Config{}, append(out, f.values(root)...)
}

// syntax words an error of the decoder.
func syntax(err error) string {
	var de *toml.DecodeError
	if !errors.As(err, &de) {
		return strings.TrimPrefix(err.Error(), "toml: ")
	}
	row, col := de.Position()
	where := fmt.Sprintf("line %d, column %d", row, col)
	if key := strings.Join(de.Key(), "."); key != "" {
		where = key + " (" + where + ")"
	}
	return where + ": " + strings.TrimPrefix(de.Error(), "toml: ")
}

// form gathers what a document's form has wrong, and takes it out of the document.
type form struct {
	lines map[string]int
	found []formMistake
	wrong []string // paths of wrong types
}

type formMistake struct {
	line int
	text string
}

func (f *form) bad(path, text string) {
	line := f.line(path)
	where := path
	if line > 0 {
		where = fmt.Sprintf("%s (line %d)", path, line)
	}
	f.found = append(f.found, formMistake{line, where + ": " + text})
}

// line is that of a key, or of what it is part of.
func (f *form) line(path string) int {
	for path != "" && f.lines[path] == 0 {
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return f.lines[path]
}

// table checks the keys of a table against the fields of a struct.
func (f *form) table(path string, v map[string]any, t reflect.Type) {
	keys := make([]string, 0, len(v))
	for k := range v {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		at := under(path, k)
		field, known := fieldOf(t, k)
		switch {
		case !known:
			f.bad(at, "there is no such setting")
			delete(v, k)
		case !f.value(at, v[k], field.Type):
			delete(v, k)
		}
	}
}

// value reports whether a value may stay.
func (f *form) value(path string, v any, t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct:
		if table, ok := v.(map[string]any); ok {
			f.table(path, table, t)
			return true
		}
	case reflect.Slice:
		if list, ok := v.([]any); ok {
			for i, e := range list {
				if !f.value(fmt.Sprintf("%s[%d]", path, i), e, t.Elem()) {
					list[i] = reflect.Zero(t.Elem()).Interface()
				}
			}
			return true
		}
	case reflect.String:
		if _, ok := v.(string); ok {
			return true
		}
	case reflect.Int:
		if _, ok := v.(int64); ok {
			return true
		}
	}
	f.wrong = append(f.wrong, path)
	f.bad(path, fmt.Sprintf("must be %s, not %s", wanted(t), given(v)))
	return false
}

// values judges what is left of the document, and leaves out what may only follow from
// a value of the wrong type beside it.
func (f *form) values(root map[string]any) Mistakes {
	text, err := toml.Marshal(root)
	if err != nil {
		return nil
	}
	var c Config
	if toml.Unmarshal(text, &c) != nil {
		return nil
	}
	c.Default()
	var m Mistakes
	if !errors.As(c.Validate(), &m) {
		return nil
	}
	return slices.DeleteFunc(m, func(text string) bool {
		path, _, _ := strings.Cut(text, ": ")
		return slices.ContainsFunc(f.wrong, func(w string) bool {
			rest, inside := strings.CutPrefix(path, parent(w))
			return inside && (rest == "" || rest[0] == '.' || rest[0] == '[')
		})
	})
}

// parent is the element of a list that a path lies in, else the path itself.
func parent(path string) string {
	if i := strings.LastIndexByte(path, ']'); i >= 0 {
		return path[:i+1]
	}
	return path
}

func under(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// fieldOf finds the field of a key as the decoder does, which overlooks case.
func fieldOf(t reflect.Type, key string) (reflect.StructField, bool) {
	for i := range t.NumField() {
		if f := t.Field(i); strings.EqualFold(f.Tag.Get("toml"), key) {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct:
		return "a table"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Struct {
			return "a list of tables"
		}
		return "a list of texts in quotes"
	case reflect.Int:
		return "a whole number"
	default:
		return "text in quotes"
	}
}

func given(v any) string {
	switch v.(type) {
	case string:
		return "text"
	case bool:
		return "true or false"
	case int64, float64:
		return "a number"
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	case time.Time, toml.LocalDate, toml.LocalTime, toml.LocalDateTime:
		return "a date or time"
	default:
		return fmt.Sprintf("%T", v)
	}
}

// keyLines finds the line of each key of a document that is known to be valid.
func keyLines(text []byte) map[string]int {
	lines := map[string]int{}
	var p unstable.Parser
	p.Reset(text)
	note := func(path string, it unstable.Iterator) string {
		for it.Next() {
			path = under(path, string(it.Node().Data))
			if _, ok := lines[path]; !ok {
				lines[path] = p.Shape(it.Node().Raw).Start.Line
			}
		}
		return path
	}
	prefix, count := "", map[string]int{}
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table:
			prefix = note("", e.Key())
		case unstable.ArrayTable:
			name := note("", e.Key())
			prefix = fmt.Sprintf("%s[%d]", name, count[name])
			it := e.Key()
			if it.Next() {
				lines[prefix] = p.Shape(it.Node().Raw).Start.Line
			}
			count[name]++
		case unstable.KeyValue:
			note(prefix, e.Key())
		}
	}
	return lines
}
