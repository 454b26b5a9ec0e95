package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/rs/zerolog"

	"sidetone/agent/internal/agentd"
	"sidetone/agent/internal/config"
	"sidetone/agent/internal/spool"
)

type spoolCmd struct {
	Status spoolStatusCmd `cmd:"" help:"How many records wait, how old, how large; also while the agent runs."`
	Verify spoolVerifyCmd `cmd:"" help:"Read and check every record. The agent must be stopped."`
}

type spoolFlags struct {
	stateFlag
	configFlag
	Format string `help:"text or json." enum:"text,json" default:"text"`
}

// dir is where the spool lies; a configuration that cannot be read falls back to the
// usual place, since this is a tool for bad days.
func (f *spoolFlags) dir() string {
	cfg, err := config.Load(f.Config)
	if err != nil {
		fmt.Fprintf(os.Stderr, "sidetone-agent: %v\n", err)
		cfg = &config.Config{}
	}
	return agentd.SpoolConfig(cfg, f.StateDir).Dir
}

func printJSON(v any) error {
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

type spoolStatusCmd struct{ spoolFlags }

func (s *spoolStatusCmd) Run() error {
	dir := s.dir()
	r, err := spool.ReadStatus(dir)
	if err != nil {
		return fmt.Errorf("spool %s: %w", dir, err)
	}
	if s.Format == "json" {
		return printJSON(r)
	}
	running := "no agent has it open"
	if r.Running {
		running = fmt.Sprintf("open by process %d, as of %s ago", r.PID, time.Since(r.Written).Round(time.Second))
	}
	fmt.Printf("spool       %s (%s)\n", dir, running)
	fmt.Printf("records     %d waiting, %d bytes of %d\n", r.Records, r.Bytes, r.MaxBytes)
	if !r.Oldest.IsZero() {
		fmt.Printf("oldest      %s (%s ago)\n", r.Oldest.Local().Format(time.DateTime), time.Since(r.Oldest).Round(time.Second))
	}
	fmt.Printf("epoch       %d, next seq %d\n", r.Epoch, r.NextSeq)
	fmt.Printf("dropped     %d since the agent's start, %d gaps not confirmed yet\n", r.DroppedTotal, r.Gaps)
	if r.Degraded {
		fmt.Printf("degraded    %s: new records are kept in memory only\n", r.Reason)
	}
	return nil
}

type spoolVerifyCmd struct{ spoolFlags }

func (s *spoolVerifyCmd) Run() error {
	dir := s.dir()
	c, err := spool.Verify(dir, zerolog.Nop())
	if err != nil {
		return fmt.Errorf("verify spool %s: %w", dir, err)
	}
	if s.Format == "json" {
		if err := printJSON(c); err != nil {
			return err
		}
	} else {
		fmt.Printf("%d records, %d bytes of payload, %d gaps; %d damaged, %d missing\n",
			c.Records, c.Bytes, c.Gaps, c.DamagedTotal, c.Missing)
		for _, seq := range c.Damaged {
			fmt.Printf("  damaged: seq %d\n", seq)
		}
	}
	if !c.OK() {
		return statusError(1)
	}
	return nil
}
