// Command sidetone-collector takes the measurements of Sidetone agents, stores them in
// ClickHouse, judges them, tells people, and serves the pages and the API.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/alecthomas/kong"

	"sidetone/collector/internal/config"
	"sidetone/shared/buildinfo"
)

// Exit statuses besides 0 and 1.
const exitConfig = 2 // the configuration is wrong: starting again does not help

const description = `Collector of Sidetone: takes the measurements of agents, stores them in ClickHouse,
judges them, tells people, and serves the pages and the API.

First steps:
  sidetone-collector serve                                     start (see the setup code it prints)
  sidetone-collector token create --tenant "My MSP" \
      --customer "Example Ltd" --site "Head office"            a token for one agent
  sidetone-agent enrol TOKEN                                   on the machine beside the PBX
  sidetone-collector sql "SELECT * FROM sidetone.probe_window ORDER BY observed DESC LIMIT 5"

Each setting can come from a flag, from an environment variable (SIDETONE_…), or from the
TOML file given by --config, in this order of precedence.`

type cli struct {
	Serve   serveCmd   `cmd:"" help:"Run the collector."`
	Token   tokenCmd   `cmd:"" help:"Make enrolment tokens."`
	SQL     sqlCmd     `cmd:"" name:"sql" help:"Run SQL against the configured ClickHouse, also while serve runs."`
	Engine  engineCmd  `cmd:"" hidden:"" help:"The embedded ClickHouse engine; serve starts it as a child."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

type versionCmd struct{}

func (versionCmd) Run() error {
	fmt.Println("sidetone-collector", buildinfo.String())
	return nil
}

func main() {
	var c cli
	k := kong.Parse(&c, kong.Name("sidetone-collector"), kong.Description(description), kong.ShortUsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	err := k.Run()
	if err == nil {
		return
	}
	fmt.Fprintf(os.Stderr, "sidetone-collector: %v\n", err)
	var m config.Mistakes
	if errors.As(err, &m) {
		os.Exit(exitConfig)
	}
	os.Exit(1)
}
