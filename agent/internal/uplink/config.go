package uplink

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

// Config is chosen by the operator, but for Addr, which the enrolment gave.
type Config struct {
	Addr string // host:port of the collector
	// BackfillKbit is the cap of the uplink while there is backlog, in kbit/s.
	BackfillKbit int
	// Proxy is http://[user:password@]host:port, or https; ProxyNone for none, and "" for
	// what the environment says (HTTPS_PROXY, NO_PROXY).
	Proxy string
}

// ProxyNone as Config.Proxy means that the environment's proxy is not used either.
const ProxyNone = "none"

// DefaultBackfillKbit is what three G.711 calls take (87 kbit/s each way): little
// against the uplink of a site with a PBX, and still far more than an agent produces.
const (
	DefaultBackfillKbit = 256
	minBackfillKbit     = 16
	maxBackfillKbit     = 1_000_000
)

func (c Config) withDefaults() Config {
	if c.BackfillKbit == 0 {
		c.BackfillKbit = DefaultBackfillKbit
	}
	return c
}

// Validate lists all mistakes, each with the path of its key.
func (c Config) Validate() []error {
	var errs []error
	if n := c.BackfillKbit; n != 0 && (n < minBackfillKbit || n > maxBackfillKbit) {
		errs = append(errs, fmt.Errorf("link.backfill_kbit: %d is outside %d to %d", n, minBackfillKbit, maxBackfillKbit))
	}
	if c.Proxy != "" && c.Proxy != ProxyNone {
		if _, err := parseProxy(c.Proxy); err != nil {
			errs = append(errs, fmt.Errorf("link.proxy: %w", err))
		}
	}
	return errs
}

// errProxy does not repeat the text, which may hold a password.
var errProxy = errors.New("must be http://host:port or https://host:port, with user:password@ before the host if the proxy wants them, or none")

func parseProxy(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" {
		return nil, errProxy
	}
	return u, nil
}

// ProxyPassword tells whether there is a password in Proxy.
func (c Config) ProxyPassword() bool {
	u, err := parseProxy(c.Proxy)
	if err != nil || u.User == nil {
		return false
	}
	_, set := u.User.Password()
	return set
}

// ProxyURL is the proxy to use on the way to the collector, nil when there is none.
func (c Config) ProxyURL() (*url.URL, error) {
	switch c.Proxy {
	case ProxyNone:
		return nil, nil
	case "":
		u, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: c.Addr}})
		if err != nil {
			return nil, errors.New("HTTPS_PROXY " + errProxy.Error())
		}
		if u != nil && u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("HTTPS_PROXY names a %s proxy: %w", u.Scheme, errProxy)
		}
		return u, nil
	}
	return parseProxy(c.Proxy)
}
