package alert

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Op compares a field with a value.
type Op string

// The comparisons. In and NotIn compare text with a list.
const (
	Above   Op = ">"
	AtLeast Op = ">="
	Below   Op = "<"
	AtMost  Op = "<="
	Equal   Op = "=="
	Differs Op = "!="
	In      Op = "in"
	NotIn   Op = "not in"
)

// Test is one comparison. Value serves numbers, Text serves text, Any serves In and
// NotIn. A field that is not known satisfies no test.
type Test struct {
	Field string
	Op    Op
	Value float64
	Text  string
	Any   []string
}

// Rolling replaces a ratio of one observation by that over the last Over.
type Rolling struct {
	Field       string // the ratio that is replaced
	Part, Whole string // the counts that it is made of
	Over        time.Duration
}

// Variant is another wording, used when its tests hold at the moment of firing.
type Variant struct {
	When                   []Test
	Title, Summary, Advice string
}

// Rule is what must hold for how long at a subject, and what to say then. All tests
// of a list must hold. Texts may name fields in braces: {name}.
type Rule struct {
	ID      string
	DataSet DataSet
	// Where picks the subjects that the rule is about.
	Where []Test
	// Condition fires after it held for FireFor.
	Condition []Test
	FireFor   time.Duration
	// Clear resolves after it held for ClearFor; empty means "Condition does not hold".
	Clear    []Test
	ClearFor time.Duration
	Rolling  *Rolling
	// NoDataAfter ends a pending hold that is not observed for this long, and resolves
	// a subject that is not reported for this long while its agent reports others of
	// the data set. Zero means never.
	NoDataAfter time.Duration

	Severity Severity
	Title    string
	Summary  string
	Advice   string
	Cleared  string // one sentence for the message of resolution
	Variants []Variant
	// Evidence lists the fields that a transition carries, with labels.
	Evidence []Label
}

// Label gives a field a name for people.
type Label struct{ Field, Label string }

// Validate returns every mistake of the rule.
func (r *Rule) Validate() error {
	var errs []error
	bad := func(format string, a ...any) {
		errs = append(errs, fmt.Errorf("rule %q: "+format, append([]any{r.ID}, a...)...))
	}
	known, ok := fields[r.DataSet]
	if r.ID == "" {
		bad("id is missing")
	}
	if !ok {
		bad("data_set %q does not exist", r.DataSet)
		return errors.Join(errs...)
	}
	if r.Severity.Rank() == 0 {
		bad("severity %q is not one of info, warning, critical", r.Severity)
	}
	if len(r.Condition) == 0 {
		bad("condition is empty")
	}
	if r.FireFor < 0 || r.ClearFor < 0 || r.NoDataAfter < 0 {
		bad("a duration is negative")
	}
	lists := map[string][]Test{"where": r.Where, "condition": r.Condition, "clear": r.Clear}
	for i, v := range r.Variants {
		lists[fmt.Sprintf("variant[%d].when", i)] = v.When
	}
	for name, list := range lists {
		for i, t := range list {
			if err := t.check(known); err != nil {
				bad("%s[%d]: %w", name, i, err)
			}
		}
	}
	if p := r.Rolling; p != nil {
		if known[p.Field] != unitRatio || known[p.Part] != unitNumber || known[p.Whole] != unitNumber || p.Over <= 0 {
			bad("rolling needs a ratio, two counts and a duration")
		}
	}
	for i, e := range r.Evidence {
		if _, ok := known[e.Field]; !ok {
			bad("evidence[%d]: field %q is not in %s", i, e.Field, r.DataSet)
		}
	}
	return errors.Join(errs...)
}

func (t Test) check(known map[string]unit) error {
	u, ok := known[t.Field]
	if !ok {
		return fmt.Errorf("there is no field %q", t.Field)
	}
	switch t.Op {
	case Above, AtLeast, Below, AtMost:
		if !u.numeric() {
			return fmt.Errorf("%s is text and has no order", t.Field)
		}
	case Equal, Differs:
	case In, NotIn:
		if u.numeric() || len(t.Any) == 0 {
			return fmt.Errorf("%q needs a text field and a list", t.Op)
		}
	default:
		return fmt.Errorf("comparison %q does not exist", t.Op)
	}
	return nil
}

// holds reports whether the test is satisfied. numeric says how to compare.
func (t *Test) holds(f Field, numeric bool) bool {
	switch t.Op {
	case Above:
		return f.Num > t.Value
	case AtLeast:
		return f.Num >= t.Value
	case Below:
		return f.Num < t.Value
	case AtMost:
		return f.Num <= t.Value
	case Equal:
		return numeric && f.Num == t.Value || !numeric && f.Text == t.Text
	case Differs:
		return numeric && f.Num != t.Value || !numeric && f.Text != t.Text
	case In:
		return slices.Contains(t.Any, f.Text)
	case NotIn:
		return !slices.Contains(t.Any, f.Text)
	}
	return false
}

// truth is the answer to a list of tests.
type truth int

const (
	no truth = iota
	yes
	unknown // a field was missing
)

// compiled is a rule with what its evaluation needs at hand.
type compiled struct {
	Rule
	units map[string]unit
	hold  hold
}

func compile(r Rule) *compiled {
	return &compiled{Rule: r, units: fields[r.DataSet], hold: hold{
		fireFor: r.FireFor, clearFor: r.ClearFor, noDataAfter: r.NoDataAfter,
		// An average over a time says nothing about the time after it, so that only
		// observations carry such a rule on.
		ticks: r.Rolling == nil,
	}}
}

// all answers whether every test holds. rolled, when not nil, replaces one field.
func (c *compiled) all(tests []Test, list []Field, rolled *Field) truth {
	answer := yes
	for i := range tests {
		t := &tests[i]
		f, ok := Field{}, false
		if rolled != nil && rolled.Name == t.Field {
			f, ok = *rolled, true
		} else {
			f, ok = field(list, t.Field)
		}
		if !ok {
			answer = unknown
			continue
		}
		if !t.holds(f, c.units[t.Field].numeric()) {
			return no
		}
	}
	return answer
}

// judge turns an observation into what the state machine understands.
func (c *compiled) judge(list []Field, rolled *Field) verdict {
	fire := c.all(c.Condition, list, rolled)
	if fire == yes {
		return bad
	}
	if len(c.Clear) > 0 {
		if c.all(c.Clear, list, rolled) == yes {
			return good
		}
		return neither
	}
	if fire == no {
		return good
	}
	return neither
}
