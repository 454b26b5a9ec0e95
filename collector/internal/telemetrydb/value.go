package telemetrydb

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// plain writes a value as ClickHouse prints it, without the escapes of any format. A
// NULL is null.
func plain(v any, typ, null string) string {
	rv := reflect.ValueOf(v)
	for rv.IsValid() && rv.Kind() == reflect.Pointer {
		if rv.IsNil() {
			return null
		}
		rv = rv.Elem()
	}
	if !rv.IsValid() {
		return null
	}
	return scalar(rv.Interface(), inner(typ, "Nullable", "LowCardinality"), null)
}

// inner takes wrappers off a type's name.
func inner(typ string, wrappers ...string) string {
	for again := true; again; {
		again = false
		for _, w := range wrappers {
			if rest, ok := strings.CutPrefix(typ, w+"("); ok && strings.HasSuffix(rest, ")") {
				typ, again = rest[:len(rest)-1], true
			}
		}
	}
	return typ
}

func scalar(v any, typ, null string) string {
	switch x := v.(type) {
	case string:
		return x
	case bool:
		return strconv.FormatBool(x)
	case float64:
		return float(x, 64)
	case float32:
		return float(float64(x), 32)
	case time.Time:
		return x.Format(timeLayout(typ))
	}
	rv := reflect.ValueOf(v)
	switch rv.Kind() {
	case reflect.Slice, reflect.Array:
		if s, ok := v.(fmt.Stringer); ok { // UUID, IPv6 and the like
			return s.String()
		}
		elem := inner(typ, "Array")
		parts := make([]string, rv.Len())
		for i := range parts {
			parts[i] = nested(rv.Index(i).Interface(), elem)
		}
		if strings.HasPrefix(typ, "Tuple(") {
			return "(" + strings.Join(parts, ",") + ")"
		}
		return "[" + strings.Join(parts, ",") + "]"
	case reflect.Map:
		return mapText(rv)
	}
	return fmt.Sprint(v)
}

func mapText(rv reflect.Value) string {
	var parts []string
	for it := rv.MapRange(); it.Next(); {
		parts = append(parts, nested(it.Key().Interface(), "")+":"+nested(it.Value().Interface(), ""))
	}
	slices.Sort(parts) // Go's own order differs each time
	return "{" + strings.Join(parts, ",") + "}"
}

// nested writes a value inside an array, tuple or map: strings and times are quoted.
func nested(v any, typ string) string {
	text := plain(v, typ, "NULL")
	switch reflect.Indirect(reflect.ValueOf(v)).Interface().(type) {
	case string, time.Time:
		return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`, "\t", `\t`).Replace(text) + "'"
	}
	return text
}

func float(x float64, bits int) string {
	switch {
	case math.IsNaN(x):
		return "nan"
	case math.IsInf(x, 1):
		return "inf"
	case math.IsInf(x, -1):
		return "-inf"
	}
	if a := math.Abs(x); a != 0 && (a < 1e-6 || a >= 1e21) {
		return strconv.FormatFloat(x, 'e', -1, bits)
	}
	return strconv.FormatFloat(x, 'f', -1, bits)
}

// timeLayout is the form of a Date, DateTime or DateTime64(n, zone).
func timeLayout(typ string) string {
	const seconds = "2006-01-02 15:04:05"
	switch rest, fine := strings.CutPrefix(typ, "DateTime64("); {
	case fine:
		if n := int(rest[0] - '0'); n >= 1 && n <= 9 {
			return seconds + "." + strings.Repeat("0", n)
		}
		return seconds
	case strings.HasPrefix(typ, "Date") && !strings.HasPrefix(typ, "DateTime"):
		return "2006-01-02"
	}
	return seconds
}

// jsonValue writes a value as JSON: numbers bare, times as text, what JSON cannot say
// as null.
func jsonValue(v any, typ string) string {
	rv := reflect.ValueOf(v)
	for rv.IsValid() && rv.Kind() == reflect.Pointer {
		if rv.IsNil() {
			return "null"
		}
		rv = rv.Elem()
	}
	if !rv.IsValid() {
		return "null"
	}
	typ = inner(typ, "Nullable", "LowCardinality")
	switch x := rv.Interface().(type) {
	case string:
		return jsonString(x)
	case bool:
		return strconv.FormatBool(x)
	case time.Time:
		return jsonString(x.Format(timeLayout(typ)))
	case float32, float64:
		if f := rv.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			return "null"
		}
		return scalar(x, typ, "null")
	case fmt.Stringer:
		if strings.HasPrefix(typ, "Decimal") {
			return x.String()
		}
		return jsonString(x.String())
	}
	switch rv.Kind() {
	case reflect.Slice, reflect.Array:
		parts := make([]string, rv.Len())
		for i := range parts {
			parts[i] = jsonValue(rv.Index(i).Interface(), inner(typ, "Array"))
		}
		return "[" + strings.Join(parts, ",") + "]"
	case reflect.Map:
		var parts []string
		for it := rv.MapRange(); it.Next(); {
			parts = append(parts, jsonString(plain(it.Key().Interface(), "", ""))+":"+jsonValue(it.Value().Interface(), ""))
		}
		slices.Sort(parts)
		return "{" + strings.Join(parts, ",") + "}"
	}
	return fmt.Sprint(rv.Interface())
}

func jsonString(s string) string {
	b, err := json.Marshal(strings.ToValidUTF8(s, "\uFFFD"))
	if err != nil {
		return `""`
	}
	return string(b)
}
