package pbxsim

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// row is one entity as it is answered.
type row = map[string]any

const maxTop = 100

// optionError is a refused OData option: 400 with the option as target.
type optionError struct{ target, code string }

func (e *optionError) Error() string { return e.target + ": " + e.code }

func refuseOption(target string) error {
	return &optionError{target: target, code: "WARNINGS.XAPI.INVALID"}
}

// query applies the OData options to rows; count is the number before paging, or -1
// when it was not asked for.
func (o Options) query(rows []row, q url.Values) (out []row, count int, err error) {
	for key := range q {
		switch key {
		case "$top", "$skip", "$count", "$filter", "$orderby", "$select", "$expand", "$search":
		default:
			if strings.HasPrefix(key, "$") {
				return nil, 0, refuseOption(key)
			}
		}
	}
	if o.ExpandFails && q.Has("$expand") {
		return nil, 0, refuseOption("$expand")
	}
	if rows, err = filter(rows, q.Get("$filter")); err != nil {
		return nil, 0, err
	}
	if err = orderRows(rows, q.Get("$orderby")); err != nil {
		return nil, 0, err
	}
	count = -1
	if q.Get("$count") == "true" {
		count = len(rows)
		if o.CountLies {
			count = 0
		}
	}
	skip, err := natural(q, "$skip", 0)
	if err != nil {
		return nil, 0, err
	}
	top, err := natural(q, "$top", maxTop)
	if err != nil || top > maxTop {
		return nil, 0, refuseOption("$top")
	}
	rows = rows[min(skip, len(rows)):]
	rows = rows[:min(top, len(rows))]
	rows, err = o.selectFields(rows, q)
	return rows, count, err
}

func natural(q url.Values, key string, none int) (int, error) {
	if !q.Has(key) {
		return none, nil
	}
	n, err := strconv.Atoi(q.Get(key))
	if err != nil || n < 0 {
		return 0, refuseOption(key)
	}
	return n, nil
}

// selectFields keeps the named fields; a field that this build lacks is refused.
func (o Options) selectFields(rows []row, q url.Values) ([]row, error) {
	if !q.Has("$select") {
		return rows, nil
	}
	if o.NoSelect {
		return nil, refuseOption("$select")
	}
	names := strings.Split(q.Get("$select"), ",")
	out := make([]row, len(rows))
	for i, r := range rows {
		out[i] = row{}
		for _, n := range names {
			v, ok := r[n]
			if !ok && !o.Drift {
				return nil, refuseOption(n)
			}
			if ok {
				out[i][n] = v
			}
		}
	}
	return out, nil
}

// filter understands comparisons joined by "and": Id ge 5 and Type eq 'Error'.
func filter(rows []row, expr string) ([]row, error) {
	rows = slices.Clone(rows)
	if expr == "" {
		return rows, nil
	}
	for _, term := range strings.Split(expr, " and ") {
		parts := strings.SplitN(strings.TrimSpace(term), " ", 3)
		if len(parts) != 3 {
			return nil, refuseOption("$filter")
		}
		field, op, literal := parts[0], parts[1], parts[2]
		if len(rows) > 0 {
			if _, ok := rows[0][field]; !ok {
				return nil, refuseOption(field)
			}
		}
		var bad error
		rows = slices.DeleteFunc(rows, func(r row) bool {
			c, err := compare(r[field], literal)
			if err != nil {
				bad = err
			}
			switch op {
			case "eq":
				return c != 0
			case "gt":
				return c <= 0
			case "ge":
				return c < 0
			}
			bad = refuseOption("$filter")
			return false
		})
		if bad != nil {
			return nil, bad
		}
	}
	return rows, nil
}

// compare puts a field's value beside a literal of the filter language.
func compare(v any, literal string) (int, error) {
	switch have := v.(type) {
	case bool:
		return cmp.Compare(strconv.FormatBool(have), literal), nil
	case string:
		if want, ok := strings.CutPrefix(literal, "'"); ok {
			return cmp.Compare(have, strings.ReplaceAll(strings.TrimSuffix(want, "'"), "''", "'")), nil
		}
		a, err1 := time.Parse(time.RFC3339Nano, have)
		b, err2 := time.Parse(time.RFC3339Nano, literal)
		if err1 != nil || err2 != nil {
			return 0, refuseOption("$filter")
		}
		return a.Compare(b), nil
	case nil:
		return -1, nil
	}
	want, err := strconv.ParseFloat(literal, 64)
	if err != nil {
		return 0, refuseOption("$filter")
	}
	return cmp.Compare(asFloat(v), want), nil
}

func asFloat(v any) float64 {
	f, err := strconv.ParseFloat(fmt.Sprint(v), 64)
	if err != nil {
		return 0
	}
	return f
}

// orderRows sorts by one field, "Name" or "Name desc".
func orderRows(rows []row, by string) error {
	if by == "" {
		return nil
	}
	field, direction, _ := strings.Cut(by, " ")
	sign := 1
	switch direction {
	case "", "asc":
	case "desc":
		sign = -1
	default:
		return refuseOption("$orderby")
	}
	if len(rows) > 0 {
		if _, ok := rows[0][field]; !ok {
			return refuseOption(field)
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int {
		x, isText := a[field].(string)
		y, _ := b[field].(string)
		if isText {
			return sign * cmp.Compare(x, y)
		}
		return sign * cmp.Compare(asFloat(a[field]), asFloat(b[field]))
	})
	return nil
}
