package telemetrydb

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// formatter writes rows in one format.
type formatter interface {
	head(w *bufio.Writer, columns []ResultColumn)
	row(w *bufio.Writer, columns []ResultColumn, row []any)
	foot(w *bufio.Writer, columns []ResultColumn)
}

// Formats lists the formats of WriteResult by ClickHouse's names.
const Formats = "Pretty (default), TSV, TSVWithNames, CSV, CSVWithNames, JSON, JSONEachRow, Vertical"

func newFormatter(name string) (formatter, error) {
	switch strings.ToLower(name) {
	case "", "table", "pretty", "prettycompact":
		return &prettyFormat{}, nil
	case "tsv", "tabseparated":
		return &lineFormat{sep: "\t", cell: tsvCell, name: tsvEscape}, nil
	case "tsvwithnames", "tabseparatedwithnames":
		return &lineFormat{sep: "\t", cell: tsvCell, name: tsvEscape, names: true}, nil
	case "csv":
		return &lineFormat{sep: ",", cell: csvCell, name: csvQuote}, nil
	case "csvwithnames":
		return &lineFormat{sep: ",", cell: csvCell, name: csvQuote, names: true}, nil
	case "json":
		return &jsonFormat{}, nil
	case "jsoneachrow", "jsonl", "jsonlines", "ndjson":
		return jsonLines{}, nil
	case "vertical":
		return &verticalFormat{}, nil
	case "null":
		return nothing{}, nil
	}
	return nil, fmt.Errorf("format %q is not known; there are: %s", name, Formats)
}

// WriteResult writes the rows as they come. An empty format means the statement's own
// FORMAT clause, or a table for people.
func WriteResult(w io.Writer, format string, r *Result) error {
	f, err := newFormatter(cmp.Or(format, r.Format))
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 64<<10)
	f.head(out, r.Columns)
	for row := r.Next(); row != nil; row = r.Next() {
		f.row(out, r.Columns, row)
		if err := writeErr(out); err != nil {
			return err
		}
	}
	if err := r.Err(); err != nil {
		out.Flush()
		return err
	}
	f.foot(out, r.Columns)
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// writeErr gives the writer's lasting error, which a write of nothing returns.
func writeErr(w *bufio.Writer) error {
	if _, err := w.Write(nil); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

type lineFormat struct {
	sep   string
	cell  func(v any, typ string) string
	name  func(string) string
	names bool
}

func (f *lineFormat) head(w *bufio.Writer, columns []ResultColumn) {
	if !f.names {
		return
	}
	for i, c := range columns {
		if i > 0 {
			w.WriteString(f.sep)
		}
		w.WriteString(f.name(c.Name))
	}
	w.WriteByte('\n')
}

func (f *lineFormat) row(w *bufio.Writer, columns []ResultColumn, row []any) {
	for i, v := range row {
		if i > 0 {
			w.WriteString(f.sep)
		}
		w.WriteString(f.cell(v, columns[i].Type))
	}
	w.WriteByte('\n')
}

func (f *lineFormat) foot(*bufio.Writer, []ResultColumn) {}

const nullMark = `\N`

var tsvEscaper = strings.NewReplacer(`\`, `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`, "\x00", `\0`, "\b", `\b`, "\f", `\f`)

func tsvEscape(s string) string { return tsvEscaper.Replace(s) }

func tsvCell(v any, typ string) string {
	text := plain(v, typ, nullMark)
	if text == nullMark && isNil(v) {
		return text
	}
	if isNested(typ) {
		return text // strings inside are escaped already
	}
	return tsvEscape(text)
}

func csvQuote(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

func csvCell(v any, typ string) string {
	if isNil(v) {
		return nullMark
	}
	text := plain(v, typ, nullMark)
	t := inner(typ, "Nullable", "LowCardinality")
	if strings.HasPrefix(t, "Int") || strings.HasPrefix(t, "UInt") || strings.HasPrefix(t, "Float") || strings.HasPrefix(t, "Decimal") || t == "Bool" {
		return text
	}
	return csvQuote(text)
}

func isNested(typ string) bool {
	t := inner(typ, "Nullable", "LowCardinality")
	return strings.HasPrefix(t, "Array(") || strings.HasPrefix(t, "Map(") || strings.HasPrefix(t, "Tuple(")
}

func isNil(v any) bool { return plain(v, "", "\x00") == "\x00" }

type jsonLines struct{}

func (jsonLines) head(*bufio.Writer, []ResultColumn) {}
func (jsonLines) foot(*bufio.Writer, []ResultColumn) {}
func (jsonLines) row(w *bufio.Writer, columns []ResultColumn, row []any) {
	writeObject(w, columns, row)
	w.WriteByte('\n')
}

func writeObject(w *bufio.Writer, columns []ResultColumn, row []any) {
	w.WriteByte('{')
	for i, v := range row {
		if i > 0 {
			w.WriteByte(',')
		}
		w.WriteString(jsonString(columns[i].Name))
		w.WriteByte(':')
		w.WriteString(jsonValue(v, columns[i].Type))
	}
	w.WriteByte('}')
}

type jsonFormat struct{ rows int }

func (f *jsonFormat) head(w *bufio.Writer, columns []ResultColumn) {
	w.WriteString("{\n  \"meta\": [")
	for i, c := range columns {
		if i > 0 {
			w.WriteString(", ")
		}
		fmt.Fprintf(w, `{"name": %s, "type": %s}`, jsonString(c.Name), jsonString(c.Type))
	}
	w.WriteString("],\n  \"data\": [")
}

func (f *jsonFormat) row(w *bufio.Writer, columns []ResultColumn, row []any) {
	if f.rows > 0 {
		w.WriteByte(',')
	}
	f.rows++
	w.WriteString("\n    ")
	writeObject(w, columns, row)
}

func (f *jsonFormat) foot(w *bufio.Writer, _ []ResultColumn) {
	fmt.Fprintf(w, "\n  ],\n  \"rows\": %d\n}\n", f.rows)
}

type nothing struct{}

func (nothing) head(*bufio.Writer, []ResultColumn)       {}
func (nothing) row(*bufio.Writer, []ResultColumn, []any) {}
func (nothing) foot(*bufio.Writer, []ResultColumn)       {}

type verticalFormat struct{ rows int }

func (f *verticalFormat) head(*bufio.Writer, []ResultColumn) {}
func (f *verticalFormat) foot(*bufio.Writer, []ResultColumn) {}
func (f *verticalFormat) row(w *bufio.Writer, columns []ResultColumn, row []any) {
	f.rows++
	title := fmt.Sprintf("Row %d:", f.rows)
	fmt.Fprintf(w, "%s\n%s\n", title, strings.Repeat("─", len(title)))
	width := 0
	for _, c := range columns {
		width = max(width, utf8.RuneCountInString(c.Name))
	}
	for i, v := range row {
		fmt.Fprintf(w, "%-*s %s\n", width+1, columns[i].Name+":", visible(plain(v, columns[i].Type, "NULL")))
	}
	w.WriteByte('\n')
}

// prettyRows is how many rows of a table share one width.
const prettyRows = 500

// prettyFormat draws tables of up to prettyRows rows.
type prettyFormat struct {
	waiting [][]string
	rows    int
}

func (f *prettyFormat) head(*bufio.Writer, []ResultColumn) {}

func (f *prettyFormat) row(w *bufio.Writer, columns []ResultColumn, row []any) {
	cells := make([]string, len(row))
	for i, v := range row {
		cells[i] = visible(plain(v, columns[i].Type, "NULL"))
	}
	f.waiting = append(f.waiting, cells)
	f.rows++
	if len(f.waiting) == prettyRows {
		f.draw(w, columns)
	}
}

func (f *prettyFormat) foot(w *bufio.Writer, columns []ResultColumn) {
	if len(f.waiting) > 0 || f.rows == 0 && len(columns) > 0 {
		f.draw(w, columns)
	}
	unit := "rows"
	if f.rows == 1 {
		unit = "row"
	}
	fmt.Fprintf(w, "%d %s\n", f.rows, unit)
}

func (f *prettyFormat) draw(w *bufio.Writer, columns []ResultColumn) {
	widths := make([]int, len(columns))
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = visible(c.Name)
		widths[i] = utf8.RuneCountInString(names[i])
	}
	for _, cells := range f.waiting {
		for i, c := range cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	rule := func(left, mid, right string) {
		w.WriteString(left)
		for i, n := range widths {
			if i > 0 {
				w.WriteString(mid)
			}
			w.WriteString(strings.Repeat("─", n+2))
		}
		w.WriteString(right + "\n")
	}
	line := func(cells []string) {
		for i, c := range cells {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c))
			if isNumber(columns[i].Type) {
				w.WriteString("│ " + pad + c + " ")
			} else {
				w.WriteString("│ " + c + pad + " ")
			}
		}
		w.WriteString("│\n")
	}
	rule("┌", "┬", "┐")
	line(names)
	rule("├", "┼", "┤")
	for _, cells := range f.waiting {
		line(cells)
	}
	rule("└", "┴", "┘")
	f.waiting = f.waiting[:0]
}

func isNumber(typ string) bool {
	t := inner(typ, "Nullable", "LowCardinality")
	return strings.HasPrefix(t, "Int") || strings.HasPrefix(t, "UInt") || strings.HasPrefix(t, "Float") || strings.HasPrefix(t, "Decimal")
}

// visible shows control characters: names come from phone systems and could otherwise
// write to the terminal.
func visible(s string) string {
	clean := func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }
	if strings.IndexFunc(s, clean) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case clean(r):
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
