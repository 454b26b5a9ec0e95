package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/rs/zerolog"

	"sidetone/agent/internal/spool"
)

type spoolCmd struct {
	Status  spoolStatusCmd  `cmd:"" help:"How many records wait, how old, how large; also while the agent runs."`
	Verify  spoolVerifyCmd  `cmd:"" help:"Read and check every record; exit status 1 when something is wrong. The agent must be stopped."`
	Salvage spoolSalvageCmd `cmd:"" help:"Put back what can be read of databases that were set aside. The agent must be stopped."`
	Discard spoolDiscardCmd `cmd:"" help:"Throw the backlog away, with a note of it at the collector. The agent must be stopped."`
	Check   spoolCheckCmd   `cmd:"" hidden:"" help:"Open a database for trial."`
}

type spoolFlags struct {
	stateFlag
	configFlag
	Format string `help:"text or json." enum:"text,json" default:"text"`
}

// dir is where the spool lies.
func (f *spoolFlags) dir() string { return f.settings().Dir }

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
	sc := s.settings()
	if err := becomeOwner(sc.Dir); err != nil {
		return err
	}
	c, err := spool.VerifyConfig(sc, zerolog.Nop())
	if err != nil {
		return fmt.Errorf("verify spool %s: %w", sc.Dir, stopFirst(err))
	}
	if s.Format == "json" {
		if err := printJSON(c); err != nil {
			return err
		}
	} else {
		fmt.Printf("%d records, %d bytes of payload, %d gaps; %d damaged, %d missing\n",
			c.Records, c.Bytes, c.Gaps, c.DamagedTotal, c.Missing)
		if c.NoKey > 0 {
			fmt.Printf("  %d are encrypted with a key that is not here\n", c.NoKey)
		}
		for _, note := range c.Notes {
			fmt.Printf("  %s\n", note)
		}
		for _, seq := range c.Damaged {
			fmt.Printf("  damaged: seq %d\n", seq)
		}
	}
	if !c.OK() {
		return statusError(1)
	}
	return nil
}
