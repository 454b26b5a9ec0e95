// Command sidetone-agent measures the network from beside a 3CX phone system, reads
// the state of the PBX, and sends what it learns to a Sidetone collector.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/rs/zerolog"

	"sidetone/agent/internal/config"
	"sidetone/agent/internal/identity"
	"sidetone/shared/buildinfo"
)

// Exit statuses besides 0 and 1. Starting again helps with neither.
const (
	exitConfig      = 2 // the configuration, or the command line, is wrong
	exitNotEnrolled = 3
)

// memoryLimit is the soft limit of this process: it must never press the PBX beside it.
// gcPercent lets garbage grow by a third of what lives instead of doubling it: 2.4 MB
// less resident, and no more processor time that could be measured at our rates.
const (
	memoryLimit = 64 << 20
	gcPercent   = 30
)

const description = `Agent of Sidetone: measures the network from beside a 3CX phone system, reads the
state of the PBX, keeps all of it in a crash-safe spool, and sends it, outbound only,
to a collector.

First steps, with a token from the collector ("Add site", or sidetone-collector token create):
  sidetone-agent enrol TOKEN      make this machine known to the collector, once
  sidetone-agent doctor           what is wrong, and what to do about it
  sidetone-agent run              measure and send (the service does this)

Without a configuration file only the network is measured. To read a 3CX, give its
address and an API client in the [pbx] section:
  [pbx]
  url = "https://pbx.example.com:5001"
  client_id = "sidetone"
  client_secret_file = "pbx.secret"`

// commandLine is all that this program can do.
func commandLine() *command {
	return &command{name: "sidetone-agent", more: description, sub: []*command{
		enrolCommand(), runCommand(), doctorCommand(), spoolCommand(),
		{name: "version", help: "Print the version.", run: func(string) error {
			fmt.Println("sidetone-agent", buildinfo.String())
			return nil
		}},
	}}
}

// stateFlag and configFlag are shared by the subcommands.
type stateFlag struct{ StateDir string }

func (s *stateFlag) bind(f *flags) {
	dir, _ := defaultPaths()
	f.text(&s.StateDir, "state-dir", "DIR", dir, "SIDETONE_STATE_DIR", "Where identity and spool live (default "+dir+").")
}

type configFlag struct{ Config string }

func (c *configFlag) bind(f *flags) {
	_, file := defaultPaths()
	f.text(&c.Config, "config", "FILE", file, "SIDETONE_CONFIG", "Configuration file, TOML (default "+file+"; it need not exist).")
}

func main() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	// quic-go would print to standard error that its buffer is small; this agent sends
	// little, and must not change the machine's settings.
	if err := os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true"); err != nil {
		fmt.Fprintln(os.Stderr, "sidetone-agent:", err)
	}
	err := commandLine().execute(os.Args[1:], os.Stdout)
	if err == nil {
		return
	}
	var status statusError
	if errors.As(err, &status) {
		os.Exit(int(status))
	}
	fmt.Fprintf(os.Stderr, "sidetone-agent: %v\n", err)
	var (
		mistakes *config.Error
		usage    *usageError
	)
	switch {
	case errors.As(err, &mistakes), errors.As(err, &usage):
		os.Exit(exitConfig)
	case errors.Is(err, identity.ErrNotEnrolled):
		os.Exit(exitNotEnrolled)
	}
	os.Exit(1)
}

// statusError ends the program with a status; what is wrong has been said.
type statusError int

func (s statusError) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// defaultPaths are the state directory and the configuration file.
func defaultPaths() (stateDir, configFile string) {
	if runtime.GOOS != "windows" {
		return "/var/lib/sidetone-agent", "/etc/sidetone/agent.toml"
	}
	base := os.Getenv("ProgramData")
	if base == "" {
		base = `C:\ProgramData`
	}
	base = filepath.Join(base, "Sidetone")
	return base, filepath.Join(base, "agent.toml")
}

// logger writes to standard error: for people on a terminal, as JSON otherwise, unless
// the format says which.
func logger(l config.Log) zerolog.Logger {
	level, err := zerolog.ParseLevel(l.Level)
	if err != nil {
		level = zerolog.InfoLevel
	}
	text := l.Format == "text"
	if l.Format == "auto" || l.Format == "" {
		st, err := os.Stderr.Stat()
		text = err == nil && st.Mode()&os.ModeCharDevice != 0
	}
	if !text {
		return zerolog.New(os.Stderr).Level(level).With().Timestamp().Logger()
	}
	w := zerolog.ConsoleWriter{Out: os.Stderr, TimeFormat: time.DateTime, NoColor: os.Getenv("NO_COLOR") != ""}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}
