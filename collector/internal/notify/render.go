package notify

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sidetone/collector/internal/incident"
	"sidetone/shared/telemetry"
)

// bodyVersion is the version of the webhook's JSON. Fields are only ever added to it.
const bodyVersion = 1

// maxSubject bounds the subject line, in characters.
const maxSubject = 180

// Announce words the messages about an incident, one for each recipient that wants it.
// It is pure: the same incident gives the same messages with the same keys.
func (d *Dispatcher) Announce(inc incident.Incident, kind incident.Kind) []incident.Announcement {
	var out []incident.Announcement
	for _, ch := range d.channels {
		c := ch.Config
		if !c.takes(inc.Path.Tenant, inc.Severity) {
			continue
		}
		for _, to := range c.recipients() {
			key := messageKey(inc, c.Name, to, kind, inc.Reopened)
			out = append(out, incident.Announcement{
				Key: key, Channel: c.Name, Recipient: to, Kind: kind,
				Subject: subject(inc, kind), Text: text(inc, kind), Body: structured(inc, kind, key),
				Thread: messageKey(inc, c.Name, to, incident.KindOpened, 0),
			})
		}
	}
	return out
}

// messageKey is the idempotency key: the same for every try of the same message.
func messageKey(inc incident.Incident, channel, to string, kind incident.Kind, reopened int) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{inc.Key, channel, to, string(kind), strconv.Itoa(reopened)}, "\x00")))
	return hex.EncodeToString(sum[:16])
}

func subject(inc incident.Incident, kind incident.Kind) string {
	word := strings.ToUpper(string(inc.Severity))
	if kind == incident.KindResolved {
		word = "RESOLVED"
	} else if inc.Reopened > 0 {
		word += " again"
	}
	what := inc.Title
	if inc.Subject != "" {
		what += ": " + inc.Subject
	}
	return oneLine(fmt.Sprintf("[%s] %s (%s, %s)", word, what, inc.Path.Site, inc.Path.Customer), maxSubject)
}

func text(inc incident.Incident, kind incident.Kind) string {
	var b strings.Builder
	line := func(label, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-12s %s\n", label+":", oneLine(value, 1000))
		}
	}
	if kind == incident.KindResolved {
		fmt.Fprintf(&b, "%s\n\n", oneLine(inc.Resolution, 1000))
		line("Was", inc.Summary)
	} else {
		fmt.Fprintf(&b, "%s\n\n", oneLine(inc.Summary, 1000))
	}
	line("Tenant", inc.Path.Tenant)
	line("Customer", inc.Path.Customer)
	line("Site", inc.Path.Site)
	line("PBX", inc.Path.PBX)
	line("Severity", string(inc.Severity))
	line("Rule", inc.Cause.Rule)
	line("Opened", stamp(inc.Opened))
	if inc.Reopened > 0 {
		line("Reopened", fmt.Sprintf("%d times, last %s", inc.Reopened, stamp(inc.ReopenedAt)))
	}
	if kind == incident.KindResolved {
		line("Resolved", stamp(inc.Resolved))
		line("Lasted", inc.Resolved.Sub(inc.Opened).Round(time.Second).String())
	}
	line("Incident", strconv.FormatInt(inc.ID, 10))
	if len(inc.Evidence) > 0 {
		b.WriteString("\nEvidence\n")
		for _, e := range inc.Evidence {
			fmt.Fprintf(&b, "  %s: %s\n", oneLine(e.Label, 80), oneLine(e.Value, 1000))
		}
	}
	if inc.Advice != "" && kind == incident.KindOpened {
		fmt.Fprintf(&b, "\nWhat to do\n  %s\n", oneLine(inc.Advice, 2000))
	}
	return b.String()
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func structured(inc incident.Incident, kind incident.Kind, key string) []byte {
	state := string(incident.Open)
	if kind == incident.KindResolved {
		state = string(incident.Resolved)
	}
	b := body{Version: bodyVersion, Kind: kind, IdempotencyKey: key, Incident: bodyIncident{
		IncidentID: inc.ID, Key: inc.Key,
		Tenant: inc.Path.Tenant, Customer: inc.Path.Customer, Site: inc.Path.Site, SiteID: inc.Source.Site, PBX: inc.Path.PBX,
		Rule: inc.Cause.Rule, Title: inc.Title, Severity: string(inc.Severity), Subject: inc.Subject, State: state,
		Opened: telemetry.MS(inc.Opened), Resolved: telemetry.MS(inc.Resolved), Reopened: inc.Reopened,
		Summary: inc.Summary, Resolution: inc.Resolution, Advice: inc.Advice,
		Evidence: make([]bodyEvidence, 0, len(inc.Evidence)),
	}}
	for _, e := range inc.Evidence {
		b.Incident.Evidence = append(b.Incident.Evidence, bodyEvidence{e.Label, e.Value})
	}
	out, err := json.Marshal(b)
	if err != nil {
		panic("notify: a body of plain fields must encode: " + err.Error())
	}
	return out
}

// oneLine keeps a text from breaking out of its line: no control characters, valid
// UTF-8, at most limit characters. Names were cleaned when they were observed; those of
// the tree come from operators, and a second look costs nothing.
func oneLine(s string, limit int) string {
	var b strings.Builder
	n := 0
	for _, r := range strings.ToValidUTF8(s, "") {
		if r < ' ' || r >= 0x7f && r <= 0x9f || r == '\u2028' || r == '\u2029' {
			r = ' '
		}
		if n == limit-1 {
			b.WriteRune('…')
			break
		}
		b.WriteRune(r)
		n++
	}
	return strings.TrimSpace(b.String())
}
