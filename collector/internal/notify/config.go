package notify

import (
	"fmt"
	"net/mail"
	"net/url"
	"strings"

	"sidetone/collector/internal/incident"
)

// Kinds of channels.
const (
	KindWebhook = "webhook"
	KindSMTP    = "smtp"
)

// Ways of securing the connection to a mail server.
const (
	TLSStart = "starttls" // the default: refuse to go on without it
	TLSFull  = "tls"
	TLSNone  = "none"
)

// Secret is a text that never shows in logs or dumps. Reveal gives the text itself.
type Secret string

// String hides the text.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// GoString hides the text.
func (s Secret) GoString() string { return `"` + s.String() + `"` }

// MarshalText hides the text in JSON and TOML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Reveal returns the text.
func (s Secret) Reveal() string { return string(s) }

// ChannelConfig is one way to notify, as an operator writes it: a [[channel]] table.
type ChannelConfig struct {
	Name string `toml:"name"`
	Kind string `toml:"kind"`

	// webhook
	URL    string `toml:"url"`
	Secret Secret `toml:"secret"`

	// smtp
	To       []string `toml:"to"`
	From     string   `toml:"from"`
	Host     string   `toml:"host"`
	Port     int      `toml:"port"`
	User     string   `toml:"user"`
	Password Secret   `toml:"password"`
	TLS      string   `toml:"tls"`
	// CAFile is a PEM file of authorities to trust for this mail server, besides the system's.
	CAFile string `toml:"ca_file"`

	// Tenant limits the channel to one tenant, by name; empty means all.
	Tenant string `toml:"tenant"`
	// MinSeverity is info (the default), warning or critical.
	MinSeverity string `toml:"min_severity"`
}

// Limits of a channel.
const (
	maxName       = 64
	maxRecipients = 50
)

// Validate returns every mistake, each beginning with the name of its setting.
func (c ChannelConfig) Validate() []error {
	var errs []error
	bad := func(path, format string, a ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, a...)))
	}
	switch {
	case c.Name == "":
		bad("name", "is missing")
	case len(c.Name) > maxName || strings.ContainsFunc(c.Name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		bad("name", "must be at most %d bytes without control characters", maxName)
	}
	if c.MinSeverity != "" && incident.Severity(c.MinSeverity).Rank() == 0 {
		bad("min_severity", "%q is not one of info, warning, critical", c.MinSeverity)
	}
	switch c.Kind {
	case KindWebhook:
		c.checkWebhook(bad)
	case KindSMTP:
		c.checkSMTP(bad)
	default:
		bad("kind", "%q is neither \"webhook\" nor \"smtp\"", c.Kind)
	}
	return errs
}

func (c ChannelConfig) checkWebhook(bad func(path, format string, a ...any)) {
	u, err := url.Parse(c.URL)
	switch {
	case c.URL == "":
		bad("url", "is missing")
	case err != nil:
		bad("url", "is not a URL")
	case u.Scheme != "https" && u.Scheme != "http":
		bad("url", "must begin with https:// or http://")
	case u.Host == "":
		bad("url", "names no host")
	case u.User != nil:
		bad("url", "must not hold a user or password")
	case u.Fragment != "":
		bad("url", "must not hold a fragment")
	}
	if c.Secret != "" && len(c.Secret) < 16 {
		bad("secret", "is shorter than 16 characters: anyone could guess the signature")
	}
	for _, s := range []struct{ path, value string }{
		{"from", c.From}, {"host", c.Host}, {"user", c.User}, {"password", c.Password.Reveal()},
		{"tls", c.TLS}, {"ca_file", c.CAFile}, {"to", strings.Join(c.To, "")},
	} {
		if s.value != "" {
			bad(s.path, "belongs to kind \"smtp\"")
		}
	}
	if c.Port != 0 {
		bad("port", "belongs to kind \"smtp\"")
	}
}

func (c ChannelConfig) checkSMTP(bad func(path, format string, a ...any)) {
	if c.Host == "" {
		bad("host", "is missing")
	} else if strings.ContainsAny(c.Host, "/ \t\r\n@") {
		bad("host", "%q is not a host name or address", c.Host)
	}
	if c.Port < 0 || c.Port > 65535 {
		bad("port", "%d is not a port", c.Port)
	}
	if a, err := mail.ParseAddress(c.From); err != nil || strings.ContainsAny(a.Address, "\r\n") {
		bad("from", "%q is not a mail address", c.From)
	}
	if len(c.To) == 0 {
		bad("to", "is missing")
	}
	if len(c.To) > maxRecipients {
		bad("to", "has %d addresses, at most %d: use a distribution list", len(c.To), maxRecipients)
	}
	seen := map[string]bool{}
	for i, t := range c.To {
		if a, err := mail.ParseAddress(t); err != nil || strings.ContainsAny(a.Address, "\r\n") {
			bad(fmt.Sprintf("to[%d]", i), "%q is not a mail address", t)
		}
		if seen[t] {
			bad(fmt.Sprintf("to[%d]", i), "%q is named twice", t)
		}
		seen[t] = true
	}
	switch c.TLS {
	case "", TLSStart, TLSFull:
	case TLSNone:
		if c.Password != "" {
			bad("tls", "\"none\" would send the password in clear: use \"starttls\" or \"tls\"")
		}
	default:
		bad("tls", "%q is not one of starttls, tls, none", c.TLS)
	}
	if (c.User == "") != (c.Password == "") {
		bad("user", "user and password go together: give both or neither")
	}
	if c.URL != "" {
		bad("url", "belongs to kind \"webhook\"")
	}
	if c.Secret != "" {
		bad("secret", "belongs to kind \"webhook\"")
	}
}

// recipients is who a channel notifies. A webhook has one: its scheme and host, since
// the rest of the URL is often a secret.
func (c ChannelConfig) recipients() []string {
	if c.Kind == KindSMTP {
		return c.To
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return []string{"webhook"}
	}
	return []string{u.Scheme + "://" + u.Host}
}

// takes reports whether the channel wants to know of such an incident.
func (c ChannelConfig) takes(tenant string, s incident.Severity) bool {
	return (c.Tenant == "" || c.Tenant == tenant) && s.Rank() >= incident.Severity(c.MinSeverity).Rank()
}
