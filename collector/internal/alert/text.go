package alert

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// render puts fields into a text: {name} stands for a field's value, and a part in
// square brackets is left out when a field in it is not known or empty.
func (c *compiled) render(text string, list []Field) string {
	if !strings.ContainsAny(text, "{[") {
		return text
	}
	var b strings.Builder
	for text != "" {
		open := strings.IndexByte(text, '[')
		if open < 0 {
			c.fill(&b, text, list)
			break
		}
		c.fill(&b, text[:open], list)
		inside, rest, _ := strings.Cut(text[open+1:], "]")
		var part strings.Builder
		if c.fill(&part, inside, list) {
			b.WriteString(part.String())
		}
		text = rest
	}
	return b.String()
}

// fill reports whether every field was there. What a field holds is never read as text
// to fill.
func (c *compiled) fill(b *strings.Builder, text string, list []Field) bool {
	complete := true
	for {
		before, rest, found := strings.Cut(text, "{")
		b.WriteString(before)
		if !found {
			return complete
		}
		name, after, _ := strings.Cut(rest, "}")
		word := ""
		if f, ok := field(list, name); ok {
			word = c.word(f)
		}
		if word == "" {
			complete = false
			word = "?"
		}
		b.WriteString(word)
		text = after
	}
}

// word is a field's value for a person.
func (c *compiled) word(f Field) string {
	if math.IsInf(f.Num, 0) || math.IsNaN(f.Num) {
		return ""
	}
	switch c.units[f.Name] {
	case unitText:
		return f.Text
	case unitRatio:
		return strconv.FormatFloat(100*f.Num, 'f', 1, 64) + " %"
	case unitSeconds:
		return duration(time.Duration(f.Num * float64(time.Second)))
	case unitTime:
		return time.UnixMilli(int64(f.Num)).UTC().Format("2006-01-02 15:04:05 UTC")
	case unitFlag:
		if f.Num != 0 {
			return "yes"
		}
		return "no"
	}
	return strconv.FormatFloat(f.Num, 'f', -1, 64)
}

// duration words a duration with its two largest units.
func duration(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	switch {
	case s < 120:
		return fmt.Sprintf("%d s", s)
	case s < 2*3600:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	case s < 48*3600:
		return fmt.Sprintf("%d h %d min", s/3600, s%3600/60)
	}
	return fmt.Sprintf("%d d %d h", s/86400, s%86400/3600)
}

// evidence is the fields that the rule shows, as far as they are known.
func (c *compiled) evidence(list []Field) []Evidence {
	var out []Evidence
	for _, l := range c.Evidence {
		if f, ok := field(list, l.Field); ok {
			if w := c.word(f); w != "" {
				out = append(out, Evidence{Label: l.Label, Value: w})
			}
		}
	}
	return out
}

// wording picks the texts for what was just observed.
func (c *compiled) wording(list []Field) (title, summary, advice string) {
	title, summary, advice = c.Title, c.Summary, c.Advice
	for i := range c.Variants {
		v := &c.Variants[i]
		if c.all(v.When, list, nil) == yes {
			title, summary, advice = v.Title, v.Summary, v.Advice
			break
		}
	}
	return c.render(title, list), c.render(summary, list), c.render(advice, list)
}
