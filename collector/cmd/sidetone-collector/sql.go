package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"sidetone/collector/internal/collectord"
)

type sqlCmd struct {
	storeFlags
	Format string   `default:"table" help:"table, tsv, csv, json, jsonl or vertical; ClickHouse's names (TSV, JSONEachRow, …) work too."`
	Query  []string `arg:"" optional:"" help:"The statement; \"-\" or nothing reads it from standard input."`
}

// Help is shown under the usage.
func (sqlCmd) Help() string {
	return `Examples:
  sidetone-collector sql "SHOW TABLES FROM sidetone"
  sidetone-collector sql --format csv "SELECT observed, site, target, loss_ratio FROM sidetone.probe_window WHERE loss_ratio > 0"`
}

func (q *sqlCmd) Run() error {
	c, err := load(q.storeFlags, addrFlags{}, nil)
	if err != nil {
		return err
	}
	if err := becomeOwner(c.DataDir); err != nil {
		return err
	}
	text := strings.Join(q.Query, " ")
	if text == "" || text == "-" {
		b, err := io.ReadAll(io.LimitReader(os.Stdin, 1<<20))
		if err != nil {
			return err
		}
		text = string(b)
	}
	if strings.TrimSpace(text) == "" {
		return errors.New("no statement: give it as an argument or on standard input")
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return collectord.RunSQL(ctx, c, exe, text, q.Format, os.Stdout)
}
