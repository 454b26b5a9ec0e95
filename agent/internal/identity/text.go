package identity

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxText bounds text that the collector sends for people.
const maxText = 300

// printable keeps what can be shown on a terminal without harm.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			continue
		}
		if b.Len()+utf8.RuneLen(r) > maxText {
			break
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}
