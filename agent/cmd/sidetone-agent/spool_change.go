package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sidetone/agent/internal/agentd"
	"sidetone/agent/internal/config"
	"sidetone/agent/internal/spool"
)

// settings are the spool's, as the agent would have them; a configuration that cannot be
// read falls back to the usual ones, since these are tools for bad days.
func (f *spoolFlags) settings() spool.Config {
	cfg, err := config.Load(f.Config)
	if err != nil {
		fmt.Fprintf(os.Stderr, "sidetone-agent: %v\n", err)
		cfg = &config.Config{}
	}
	return agentd.SpoolConfig(cfg, f.StateDir)
}

// open opens the spool for a change. The agent must be stopped.
func (f *spoolFlags) open() (*spool.Spool, error) {
	sc := f.settings()
	if _, err := spool.ReadStatus(sc.Dir); err != nil {
		return nil, fmt.Errorf("spool %s: %w", sc.Dir, err)
	}
	if err := becomeOwner(sc.Dir); err != nil {
		return nil, err
	}
	s, err := spool.Open(sc, spool.Deps{Log: logger(config.Log{Level: "warn"}), Precheck: spoolPrecheck()})
	return s, stopFirst(err)
}

// spoolPrecheck opens a database for trial in a process of its own: this program again,
// with checkArgs. It is nil when this program does not know its own file.
func spoolPrecheck() func(ctx context.Context, dir string) error {
	exe, err := os.Executable()
	if err != nil {
		return nil
	}
	return spool.ExecChecker(exe, checkArgs...)
}

// stopFirst says what to do when the agent has the spool open.
func stopFirst(err error) error {
	if errors.Is(err, spool.ErrLocked) {
		return fmt.Errorf("%w: stop the agent first (systemctl stop sidetone-agent)", err)
	}
	return err
}

// checkArgs is the hidden subcommand that opens a database for trial.
var checkArgs = []string{"spool", "check", "--dir"}

func spoolCheckCommand() *command {
	var dir string
	return &command{name: "check", hidden: true, help: "Open a database for trial.",
		flags: func(f *flags) { f.text(&dir, "dir", "DIR", "", "", "The database.") },
		run:   func(string) error { return checkSpool(dir) },
	}
}

func checkSpool(dir string) error {
	err := spool.CheckDir(dir)
	if errors.Is(err, spool.ErrNotChecked) {
		fmt.Fprintf(os.Stderr, "sidetone-agent: %v\n", err)
		return statusError(spool.ExitNotChecked)
	}
	return err
}

func spoolSalvageCommand() *command {
	var s spoolSalvageCmd
	return &command{name: "salvage", help: "Put back what can be read of databases that were set aside. The agent must be stopped.",
		more: salvageHelp, run: s.run, flags: func(f *flags) {
			s.bind(f)
			f.texts(&s.from, "from", "DIR", "quarantine (the default): what the agent set aside and was not read to the end; or a directory: one of those, or a copy of a spool.")
		}}
}

type spoolSalvageCmd struct {
	spoolFlags
	from []string
}

const salvageHelp = `When the database of the spool is damaged, the agent sets it aside as
spool.quarantine-TIME, starts a new one, and puts back at once what it can read in a few
seconds. This command reads the rest: every block and log entry whose checksum is right.
Records that were acknowledged or dropped meanwhile stay away; the others wait again under
their own epoch and number, so that the collector stores each once, and the gaps that
were reported as damaged fill up.

The agent must be stopped. Nothing is deleted: remove the directory when all is well.
With encryption and a key given by systemd, set CREDENTIALS_DIRECTORY to where it is.`

func (s *spoolSalvageCmd) run(string) (err error) {
	from := s.from
	if len(from) == 1 && from[0] == "quarantine" {
		from = nil
	}
	for i, dir := range from {
		if from[i], err = filepath.Abs(dir); err != nil {
			return err
		}
	}
	sp, err := s.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sp.Close()) }()
	list, err := sp.Salvage(from...)
	if s.Format == "json" {
		return errors.Join(err, printJSON(list))
	}
	if len(list) == 0 && err == nil {
		fmt.Println("nothing to salvage: no database was set aside, or all were read to the end")
	}
	for _, r := range list {
		fmt.Printf("%s\n  %d records put back, %d wait already, %d delivered or dropped before\n", r.From, r.Restored, r.Present, r.Done)
		if n := r.Old + r.Room + r.Taken; n > 0 {
			fmt.Printf("  %d not put back: %d too old, %d for want of room, %d whose number another record has\n", n, r.Old, r.Room, r.Taken)
		}
		if r.Damaged > 0 {
			fmt.Printf("  %d places are damaged and cannot be read\n", r.Damaged)
		}
		if r.Complete {
			fmt.Println("  read to the end: this directory is not needed any more")
		}
	}
	return err
}

func spoolDiscardCommand() *command {
	var s spoolDiscardCmd
	return &command{name: "discard", help: "Throw the backlog away, with a note of it at the collector. The agent must be stopped.",
		more: discardHelp, run: s.run, flags: func(f *flags) {
			s.bind(f)
			f.on(&s.backlog, "backlog", "Throw away what waits to be sent; must be given.")
			f.text(&s.before, "before", "TIME", "", "", `Only what is older: a time such as 2026-11-24T06:00:00Z or "2026-11-24 06:00" (local), or an age such as 36h.`)
			f.on(&s.yes, "yes", "Do not ask.")
		}}
}

type spoolDiscardCmd struct {
	spoolFlags
	backlog, yes bool
	before       string
}

const discardHelp = `Use it when a long backlog is not worth its bandwidth. The records are gone for good;
their numbers are told to the collector, which shows the hole as discarded by a person.
The agent must be stopped.`

func (s *spoolDiscardCmd) run(string) (err error) {
	if !s.backlog {
		return &usageError{"spool discard throws away records for good: say --backlog if that is meant"}
	}
	before, err := parseBefore(s.before, time.Now())
	if err != nil {
		return err
	}
	sp, err := s.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sp.Close()) }()
	b := sp.Backlog(before)
	if b.Records > 0 && !s.yes {
		fmt.Printf("Throw away %s? Type yes: ", backlogText(b))
		if line, _ := bufio.NewReader(os.Stdin).ReadString('\n'); strings.TrimSpace(line) != "yes" {
			fmt.Println("nothing was thrown away")
			return statusError(1)
		}
	}
	if b.Records > 0 {
		if b, err = sp.Discard(before); err != nil {
			return err
		}
	}
	if s.Format == "json" {
		return printJSON(b)
	}
	if b.Records == 0 {
		fmt.Println("nothing waits")
		return nil
	}
	fmt.Printf("thrown away: %s\n", backlogText(b))
	return nil
}

func backlogText(b spool.Backlog) string {
	return fmt.Sprintf("%d records, %d bytes, seq %d to %d, from %s to %s", b.Records, b.Bytes, b.From, b.To,
		b.Oldest.Local().Format(time.DateTime), b.Newest.Local().Format(time.DateTime))
}

// parseBefore reads a time, or an age.
func parseBefore(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	for _, layout := range []string{time.DateTime, "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("--before %q: want a time such as 2026-11-24T06:00:00Z, or an age such as 36h", s)
}
