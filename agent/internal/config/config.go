// Package config reads the agent's file (TOML): types, defaults, and every mistake in
// it at once, with path and line. A file that does not exist means the defaults.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sidetone/agent/internal/probe"
	"sidetone/agent/internal/spool"
	"sidetone/agent/internal/threecx"
	"sidetone/agent/internal/uplink"
)

// maxFile bounds the configuration file and the files of secrets.
const (
	maxFile   = 1 << 20
	maxSecret = 4 << 10
)

// Config is the whole file.
type Config struct {
	// PBX is nil when there is no [pbx]: only the network is measured.
	PBX     *PBX
	Targets []probe.Target
	Spool   spool.Config
	Link    uplink.Config // but for Addr, which is not in the file
	Log     Log
	Agent   Agent

	// Warnings are not mistakes, but a person should hear of them.
	Warnings []string
}

// PBX is the section [pbx].
type PBX struct {
	threecx.Config
	// Times between two readings; zero means the default.
	Interval, Calls, SBCs, Events, Extensions, Backups, Licence time.Duration
}

// Log is the section [log].
type Log struct {
	Level  string // trace, debug, info, warn, error
	Format string // text, json, or auto: text on a terminal
}

// Agent is the section [agent].
type Agent struct {
	// DefaultTargets says whether collector, PBX and resolver are measured without
	// being listed.
	DefaultTargets bool
}

// Mistake is one thing to put right.
type Mistake struct {
	Path string // such as target[2].address; "" for the file as a whole
	Line int    // 0 when it is not known
	Text string
}

// Error is everything that is wrong with a file.
type Error struct {
	File     string
	Mistakes []Mistake
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d mistake", e.File, len(e.Mistakes))
	if len(e.Mistakes) != 1 {
		b.WriteByte('s')
	}
	for _, m := range e.Mistakes {
		fmt.Fprintf(&b, "\n  %s", m.in(e.File))
	}
	return b.String()
}

func (m Mistake) in(file string) string {
	s := filepath.Base(file)
	if m.Line > 0 {
		s += fmt.Sprintf(":%d", m.Line)
	}
	if m.Path != "" {
		s += ": " + m.Path
	}
	return s + ": " + m.Text
}

// Check gives further mistakes of a read configuration, each error beginning with the
// path of its key and a colon.
type Check func(*Config) []error

// Load reads the file. The error is an *Error with all mistakes, or says why the file
// cannot be read at all.
func Load(path string, checks ...Check) (*Config, error) {
	b, err := readBounded(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		b = nil
	} else if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	c, mistakes := parse(b, filepath.Dir(path), checks...)
	if len(mistakes) > 0 {
		return nil, &Error{File: path, Mistakes: mistakes}
	}
	if c.secret() {
		if w := readableByOthers(path); w != "" {
			c.Warnings = append(c.Warnings, w)
		}
	}
	return c, nil
}

// secret tells whether the file itself holds one.
func (c *Config) secret() bool {
	return c.PBX != nil && (c.PBX.ClientSecret != "" || c.PBX.Password != "") || c.Link.ProxyPassword()
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return b, nil
}

// parse reads the text of a file; relative paths in it start at dir.
func parse(b []byte, dir string, checks ...Check) (*Config, []Mistake) {
	c := &Config{Log: Log{Level: "info", Format: "auto"}, Agent: Agent{DefaultTargets: true}}
	doc, mistake := readTOML(b)
	if mistake != nil {
		return c, []Mistake{*mistake}
	}
	r := &reader{lines: doc.lines, dir: dir}
	root := r.table("", doc.root)
	if pbx := root.table("pbx"); pbx != nil {
		c.PBX = readPBX(pbx, c)
	}
	for _, t := range root.tables("target") {
		c.Targets = append(c.Targets, readTarget(t))
	}
	if t := root.table("spool"); t != nil {
		c.Spool = spool.Config{
			MaxBytes: t.size("max_bytes"), MaxAge: t.duration("max_age"), Dir: t.file("dir"),
			Encrypt: t.boolean("encrypt", false), KeyFile: t.file("key_file"),
		}
		c.Spool.NoBallast = t.isZero("ballast_bytes")
		if _, given := t.get("ballast_bytes"); given && !c.Spool.NoBallast {
			c.Spool.BallastBytes = t.size("ballast_bytes")
		}
		t.done()
	}
	if t := root.table("link"); t != nil {
		c.Link = uplink.Config{BackfillKbit: t.number("backfill_kbit"), Proxy: t.text("proxy")}
		if v, ok := t.values["backfill_kbit"]; ok && v == int64(0) {
			t.bad("backfill_kbit", "must be above zero")
		}
		t.done()
	}
	if t := root.table("log"); t != nil {
		c.Log.Level = t.oneOf("level", c.Log.Level, "trace", "debug", "info", "warn", "error")
		c.Log.Format = t.oneOf("format", c.Log.Format, "auto", "text", "json")
		t.done()
	}
	if t := root.table("agent"); t != nil {
		c.Agent.DefaultTargets = t.boolean("default_targets", c.Agent.DefaultTargets)
		t.done()
	}
	root.done()

	r.validate(c, checks)
	slices.SortStableFunc(r.mistakes, func(a, b Mistake) int { return a.Line - b.Line })
	return c, r.mistakes
}

func readPBX(t *table, c *Config) *PBX {
	p := &PBX{Config: threecx.Config{
		URL: t.text("url"), ClientID: t.text("client_id"), User: t.text("user"),
		CAFile: t.file("ca_file"), ServerName: t.text("server_name"),
		RequestsPerMinute: t.number("requests_per_minute"),
	}}
	p.ClientSecret = t.secret("client_secret", &c.Warnings)
	p.Password = t.secret("password", &c.Warnings)
	for _, d := range []struct {
		key   string
		field *time.Duration
	}{
		{"interval", &p.Interval}, {"calls_interval", &p.Calls}, {"sbcs_interval", &p.SBCs},
		{"events_interval", &p.Events}, {"extensions_interval", &p.Extensions},
		{"backups_interval", &p.Backups}, {"licence_interval", &p.Licence},
	} {
		*d.field = t.duration(d.key)
	}
	t.done()
	return p
}

func readTarget(t *table) probe.Target {
	out := probe.Target{
		Name: t.text("name"), Method: method(t.text("kind")), Address: t.text("address"),
		Interval: t.duration("interval"), Timeout: t.duration("timeout"),
		ServerName: t.text("server_name"), CAFile: t.file("ca_file"), Query: t.text("query"),
	}
	t.done()
	return out
}

// validate asks each section's owner. A key whose reading failed is not judged twice.
func (r *reader) validate(c *Config, checks []Check) {
	var errs []error
	if c.PBX != nil {
		errs = append(errs, c.PBX.Validate()...)
	}
	for _, err := range (probe.Config{Targets: c.Targets}).Validate() {
		errs = append(errs, errors.New(targetPath(err.Error())))
	}
	errs = append(errs, c.Spool.Validate()...)
	errs = append(errs, c.Link.Validate()...)
	for _, check := range checks {
		errs = append(errs, check(c)...)
	}
	for _, err := range errs {
		path, text, ok := strings.Cut(err.Error(), ": ")
		if !ok {
			path, text = "", err.Error()
		}
		if !r.failed(path) {
			r.bad(path, "%s", text)
		}
	}
}

// targetPath turns probe's names of fields into those of the file.
func targetPath(s string) string {
	s = strings.ReplaceAll(s, "targets[", "target[")
	return strings.Replace(s, "].method:", "].kind:", 1)
}
