package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/rs/zerolog"

	"sidetone/agent/internal/spool"
)

func spoolCommand() *command {
	return &command{name: "spool", help: "Look after the records that wait to be sent.", sub: []*command{
		spoolStatusCommand(), spoolVerifyCommand(), spoolSalvageCommand(), spoolDiscardCommand(), spoolCheckCommand(),
	}}
}

type spoolFlags struct {
	stateFlag
	configFlag
	Format string
}

func (f *spoolFlags) bind(set *flags) {
	f.stateFlag.bind(set)
	f.configFlag.bind(set)
	set.format(&f.Format)
}

// dir is where the spool lies.
func (f *spoolFlags) dir() string { return f.settings().Dir }

func printJSON(v any) error {
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func spoolStatusCommand() *command {
	var s spoolStatusCmd
	return &command{name: "status", help: "How many records wait, how old, how large; also while the agent runs.", flags: s.bind, run: s.run}
}

type spoolStatusCmd struct{ spoolFlags }

func (s *spoolStatusCmd) run(string) error {
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

func spoolVerifyCommand() *command {
	var s spoolVerifyCmd
	return &command{name: "verify", help: "Read and check every record; exit status 1 when something is wrong. The agent must be stopped.",
		flags: s.bind, run: s.run}
}

type spoolVerifyCmd struct{ spoolFlags }

func (s *spoolVerifyCmd) run(string) error {
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
