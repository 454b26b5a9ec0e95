// Package config reads the collector's file (TOML) once, strictly: an unknown key is
// an error, and all mistakes are reported together, each with its path. Flags and
// environment variables override the file; that merging is the command's matter.
package config

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"sidetone/collector/internal/notify"
	"sidetone/collector/internal/telemetrydb"
)

// Config is what an operator chooses. The zero value of a field means its default.
type Config struct {
	// DataDir holds the control store, the CA's keys and the embedded engine's data.
	DataDir string `toml:"data_dir"`
	// Agents is where agents connect (UDP), Web the pages and the API (TCP, HTTPS),
	// Reflector where STAMP and STUN are answered (UDP). host:port, the host may be empty.
	Agents    string `toml:"agents"`
	Web       string `toml:"web"`
	Reflector string `toml:"reflector"`
	// Public is the host name or address by which agents and browsers reach this
	// machine. Tokens and certificates carry it.
	Public string `toml:"public"`
	// ClickHouse is "embedded" or a DSN such as clickhouse://user:password@host:9000.
	ClickHouse string `toml:"clickhouse"`
	// Control is "sqlite" (a file in DataDir).
	Control string `toml:"control"`
	// EngineLib is the path of libchdb.so; empty searches the usual places.
	EngineLib string `toml:"engine_lib"`
	// WebCert and WebKey are a PEM certificate and key for the pages; both empty means
	// a certificate of the collector's own CA.
	WebCert string `toml:"web_cert"`
	WebKey  string `toml:"web_key"`

	Log      Log                    `toml:"log"`
	Outbound Outbound               `toml:"outbound"`
	Channels []notify.ChannelConfig `toml:"channel"`

	Limits Limits `toml:"limits"`

	// Retention is how long measurements are kept, Tenants those with times of their own.
	Retention telemetrydb.Retention `toml:"retention"`
	Tenants   []Tenant              `toml:"tenant"`
}

// Limits are what agents may take of the collector; 0 is the default of ingest and link.
type Limits struct {
	EnrolsPerMinute   int `toml:"enrols_per_minute"` // of one address
	ConnsPerAddress   int `toml:"conns_per_address"`
	ConnsPerTenant    int `toml:"conns_per_tenant"` // 0: no limit
	AgentBytesPerSec  int `toml:"agent_bytes_per_second"`
	AgentFramesPerSec int `toml:"agent_frames_per_second"`
}

// maxLimit bounds each of them: more is a mistake.
const maxLimit = 1_000_000_000

func (l Limits) mistakes() Mistakes {
	var m Mistakes
	for _, f := range []struct {
		key string
		n   int
	}{
		{"enrols_per_minute", l.EnrolsPerMinute}, {"conns_per_address", l.ConnsPerAddress}, {"conns_per_tenant", l.ConnsPerTenant},
		{"agent_bytes_per_second", l.AgentBytesPerSec}, {"agent_frames_per_second", l.AgentFramesPerSec},
	} {
		if f.n < 0 || f.n > maxLimit {
			m = append(m, fmt.Sprintf("limits.%s: %d is not 0 to %d", f.key, f.n, maxLimit))
		}
	}
	return m
}

// Tenant is what differs for one tenant.
type Tenant struct {
	Name      string                `toml:"name"`
	Retention telemetrydb.Retention `toml:"retention"` // what is left out is as for all
}

// Log says how much is written and in which form.
type Log struct {
	Level  string `toml:"level"`  // debug, info, warn, error
	Format string `toml:"format"` // text or json
}

// Outbound guards addresses that operators give, such as webhooks.
type Outbound struct {
	// Allow lists networks that may be reached although they are private, e.g. "10.0.0.0/8".
	Allow []string `toml:"allow"`
}

// Defaults, for a collector on a machine of its own.
const (
	DefaultDataDir    = "/var/lib/sidetone-collector"
	DefaultAgents     = ":443"
	DefaultWeb        = ":443"
	DefaultReflector  = ":862"
	DefaultClickHouse = "embedded"
	DefaultControl    = "sqlite"
)

// Mistakes is every fault of a configuration, each with its path.
type Mistakes []string

func (m Mistakes) Error() string {
	if len(m) == 1 {
		return m[0]
	}
	return fmt.Sprintf("%d mistakes:\n  %s", len(m), strings.Join(m, "\n  "))
}

// maxFile bounds the file; a real one has a few kilobytes.
const maxFile = 1 << 20

// Load reads the file; path "" gives the zero Config. It reports what the file's form
// has wrong; Validate judges the values after flags were merged in.
func Load(path string) (Config, error) {
	if path == "" {
		return Config{}, nil
	}
	text, err := readFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	c, err := decode(text)
	if err != nil {
		return c, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes: it is no configuration", path, maxFile)
	}
	return text, err
}

// Default fills what is empty.
func (c *Config) Default() {
	set := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	set(&c.DataDir, DefaultDataDir)
	set(&c.Agents, DefaultAgents)
	set(&c.Web, DefaultWeb)
	set(&c.Reflector, DefaultReflector)
	set(&c.ClickHouse, DefaultClickHouse)
	set(&c.Control, DefaultControl)
	set(&c.Log.Level, "info")
	set(&c.Log.Format, "text")
	if c.Public == "" {
		c.Public = publicName(c.Agents)
	}
}

// publicName is the host of the agents' address when that is a real one, else this
// machine's name.
func publicName(agents string) string {
	host, _, err := net.SplitHostPort(agents)
	if err == nil && host != "" {
		if ip, err := netip.ParseAddr(host); err != nil || !ip.IsUnspecified() {
			return host
		}
	}
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}

// Validate returns all mistakes, or nil. Call it after Default.
func (c *Config) Validate() error {
	var m Mistakes
	bad := func(path, format string, a ...any) { m = append(m, path+": "+fmt.Sprintf(format, a...)) }
	for _, a := range []struct{ path, value string }{{"agents", c.Agents}, {"web", c.Web}, {"reflector", c.Reflector}} {
		if _, _, err := net.SplitHostPort(a.value); err != nil {
			bad(a.path, "%q is not host:port (the host may be empty, as in \":443\")", a.value)
		}
	}
	if strings.ContainsAny(c.Public, "/ ") {
		bad("public", "%q is not a host name or address: leave out scheme and path", c.Public)
	}
	if !filepath.IsAbs(c.DataDir) {
		bad("data_dir", "%q is not an absolute path", c.DataDir)
	}
	if c.ClickHouse != "embedded" && !strings.HasPrefix(c.ClickHouse, "clickhouse://") {
		bad("clickhouse", "neither \"embedded\" nor a DSN that begins with clickhouse://")
	}
	if c.Control != "sqlite" {
		bad("control", "%q is not known: \"sqlite\" is the control store of this version", c.Control)
	}
	if (c.WebCert == "") != (c.WebKey == "") {
		bad("web_cert", "web_cert and web_key go together: give both or neither")
	}
	switch c.Log.Level {
	case "debug", "info", "warn", "error":
	default:
		bad("log.level", "%q is not one of debug, info, warn, error", c.Log.Level)
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		bad("log.format", "%q is neither text nor json", c.Log.Format)
	}
	if _, err := c.Outbound.Prefixes(); err != nil {
		var nets Mistakes
		errors.As(err, &nets)
		m = append(m, nets...)
	}
	m = append(m, c.Limits.mistakes()...)
	m = append(m, c.channelMistakes()...)
	m = append(m, c.retentionMistakes()...)
	if len(m) == 0 {
		return nil
	}
	return m
}

func (c *Config) channelMistakes() Mistakes {
	var m Mistakes
	seen := map[string]int{}
	for i, ch := range c.Channels {
		for _, err := range ch.Validate() {
			m = append(m, fmt.Sprintf("channel[%d].%v", i, err))
		}
		if j, twice := seen[ch.Name]; twice && ch.Name != "" {
			m = append(m, fmt.Sprintf("channel[%d].name: %q is already the name of channel[%d]", i, ch.Name, j))
		}
		seen[ch.Name] = i
	}
	return m
}

func (c *Config) retentionMistakes() Mistakes {
	var m Mistakes
	for _, err := range c.Retention.Validate() {
		m = append(m, fmt.Sprintf("retention.%v", err))
	}
	seen := map[string]int{}
	for i, t := range c.Tenants {
		if j, twice := seen[t.Name]; twice {
			m = append(m, fmt.Sprintf("tenant[%d].name: %q is already the name of tenant[%d]", i, t.Name, j))
		}
		seen[t.Name] = i
		if t.Name == "" {
			m = append(m, fmt.Sprintf("tenant[%d].name: give the name of a tenant", i))
		}
		for _, err := range t.Retention.Validate() {
			m = append(m, fmt.Sprintf("tenant[%d].retention.%v", i, err))
		}
	}
	return m
}

// Prefixes parses the allowed networks.
func (o Outbound) Prefixes() ([]netip.Prefix, error) {
	var out []netip.Prefix
	var m Mistakes
	for i, s := range o.Allow {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			m = append(m, fmt.Sprintf("outbound.allow[%d]: %q is not a network such as 10.0.0.0/8", i, s))
			continue
		}
		out = append(out, p)
	}
	if len(m) > 0 {
		return nil, m
	}
	return out, nil
}
