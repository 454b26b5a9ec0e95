package threecx

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
)

// DefaultRequestsPerMinute is the call budget: about twice what the default rhythm
// of package scrape needs, and a tenth of what public clients do without harm.
const DefaultRequestsPerMinute = 60

// maxRequestsPerMinute keeps an operator from turning the agent into a load test.
const maxRequestsPerMinute = 1200

// Secret is text that must not be shown: it prints as ***.
type Secret string

const hidden = "***"

// String hides the secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return s.String() }

// MarshalText hides the secret from JSON, TOML and logs.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Reveal gives the secret itself, for the request that needs it.
func (s Secret) Reveal() string { return string(s) }

// Config is how to reach and sign in to one PBX: by ClientID and ClientSecret (an
// API client), or by User and Password (an extension with the owner's role).
type Config struct {
	URL          string
	ClientID     string
	ClientSecret Secret
	User         string
	Password     Secret
	// CAFile names a PEM file of a private CA, trusted besides the system's.
	CAFile string
	// ServerName is the name expected in the PBX's certificate when URL holds an
	// address instead (the agent on the box itself connects to 127.0.0.1).
	ServerName string
	// RequestsPerMinute is the call budget; 0 means DefaultRequestsPerMinute.
	RequestsPerMinute int
}

// ByClient tells which way of signing in is configured.
func (c Config) ByClient() bool { return c.ClientID != "" }

// Validate lists all mistakes, each with the path of its key.
func (c Config) Validate() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := validateURL(c.URL); err != nil {
		bad("pbx.url: %w", err)
	}
	switch {
	case c.ClientID == "" && c.User == "":
		bad("pbx.client_id: empty, and so is pbx.user: give client_id and client_secret, or user and password")
	case c.ClientID != "" && c.User != "":
		bad("pbx.user: given together with pbx.client_id: keep only one way of signing in")
	}
	if c.ClientID != "" && c.ClientSecret == "" {
		bad("pbx.client_secret: empty, but pbx.client_id is given")
	}
	if c.ClientID == "" && c.ClientSecret != "" {
		bad("pbx.client_secret: given without pbx.client_id")
	}
	if c.User != "" && c.Password == "" {
		bad("pbx.password: empty, but pbx.user is given")
	}
	if c.User == "" && c.Password != "" {
		bad("pbx.password: given without pbx.user")
	}
	if c.CAFile != "" {
		if _, err := os.Stat(c.CAFile); err != nil {
			bad("pbx.ca_file: %w", err)
		}
	}
	if strings.ContainsAny(c.ServerName, "/: \t") {
		bad("pbx.server_name: %q is not a host name", c.ServerName)
	}
	if c.RequestsPerMinute < 0 || c.RequestsPerMinute > maxRequestsPerMinute {
		bad("pbx.requests_per_minute: %d is outside 1 to %d", c.RequestsPerMinute, maxRequestsPerMinute)
	}
	return errs
}

func validateURL(raw string) error {
	if raw == "" {
		return errors.New("empty: give the address of the PBX, such as https://pbx.example.com:5001")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return fmt.Errorf("not a URL: %w", unwrapURL(err))
	}
	switch {
	case u.Host == "" || u.Hostname() == "":
		return fmt.Errorf("%q has no host: write it like https://pbx.example.com:5001", raw)
	case u.User != nil:
		return errors.New("holds a user name or password: use the keys for them")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return errors.New("http:// is allowed to this machine only: passwords would travel readable; use https://")
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("scheme %q: use https://", u.Scheme)
	case u.Path != "" && u.Path != "/", u.RawQuery != "", u.Fragment != "":
		return errors.New("holds a path: give scheme, host and port only")
	}
	return nil
}

// unwrapURL drops the URL that url.Error repeats: it could hold a password.
func unwrapURL(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
