package main

import (
	"errors"
	"path/filepath"

	"sidetone/collector/internal/config"
)

// storeFlags are what every subcommand needs in order to find the collector's data.
type storeFlags struct {
	Config     string `help:"TOML file with any of these settings." env:"SIDETONE_CONFIG" placeholder:"FILE"`
	DataDir    string `help:"Where the control store, the keys and the embedded engine's data live (default /var/lib/sidetone-collector)." env:"SIDETONE_DATA_DIR" placeholder:"DIR"`
	ClickHouse string `name:"clickhouse" help:"\"embedded\" (default) or a DSN: clickhouse://user:password@host:9000" env:"SIDETONE_CLICKHOUSE" placeholder:"embedded|DSN"`
	Control    string `help:"Control store: \"sqlite\" (default)." env:"SIDETONE_CONTROL" placeholder:"sqlite"`
	EngineLib  string `help:"Path of libchdb.so, when it is not in a usual place." env:"SIDETONE_ENGINE_LIB" placeholder:"FILE"`
}

// addrFlags are where the collector is reached.
type addrFlags struct {
	Agents string `help:"Where agents connect, UDP (default :443)." env:"SIDETONE_AGENTS" placeholder:"ADDR"`
	Public string `help:"Name or address by which agents and browsers reach this machine; it goes into tokens and certificates (default: the host of --agents, else this machine's name)." env:"SIDETONE_PUBLIC" placeholder:"HOST"`
}

// load merges file, flags and defaults, and judges the result.
func load(s storeFlags, a addrFlags, more func(*config.Config)) (config.Config, error) {
	c, err := config.Load(s.Config)
	if err != nil {
		var m config.Mistakes
		if !errors.As(err, &m) {
			err = config.Mistakes{err.Error()} // a file that cannot be read is a mistake like any other
		}
		return c, err
	}
	over(&c.DataDir, s.DataDir)
	over(&c.ClickHouse, s.ClickHouse)
	over(&c.Control, s.Control)
	over(&c.EngineLib, s.EngineLib)
	over(&c.Agents, a.Agents)
	over(&c.Public, a.Public)
	if more != nil {
		more(&c)
	}
	c.Default()
	if abs, err := filepath.Abs(c.DataDir); err == nil && s.DataDir != "" {
		c.DataDir = abs // a flag is relative to where it was typed; a file's path must be absolute
	}
	return c, c.Validate()
}

func over(dst *string, flag string) {
	if flag != "" {
		*dst = flag
	}
}
