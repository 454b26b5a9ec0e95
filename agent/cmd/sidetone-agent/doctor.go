package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sidetone/agent/internal/agentd"
	"sidetone/agent/internal/config"
	"sidetone/agent/internal/doctor"
	"sidetone/shared/svc"
)

func doctorCommand() *command {
	var d doctorCmd
	return &command{name: "doctor", help: "Say what is wrong and what to do about it.", run: d.run, flags: func(f *flags) {
		d.stateFlag.bind(f)
		d.configFlag.bind(f)
		f.format(&d.Format)
	}}
}

type doctorCmd struct {
	stateFlag
	configFlag
	Format string
}

func (d *doctorCmd) run(string) error {
	ctx, stop := svc.SignalContext(context.Background())
	defer stop()
	cfg, err := config.Load(d.Config, agentd.CheckConfig)
	opts := doctor.Options{StateDir: d.StateDir, ConfigFile: d.Config, ConfigError: err, Config: cfg}
	if cfg != nil {
		opts.SpoolDir = agentd.SpoolConfig(cfg, d.StateDir).Dir
	}
	if c, ok := agentd.ReadClock(d.StateDir); ok {
		opts.Clock = &doctor.Clock{Offset: time.Duration(c.OffsetMS) * time.Millisecond, At: c.At}
	}
	bad := false
	var all []doctor.Finding
	for f := range doctor.Examine(ctx, opts) {
		bad = bad || f.Verdict == doctor.Fail
		all = append(all, f)
		if d.Format == "text" {
			printFinding(f)
		}
	}
	if d.Format == "json" {
		if err := printJSON(all); err != nil {
			return err
		}
	}
	if bad {
		return statusError(1)
	}
	return nil
}

func printFinding(f doctor.Finding) {
	mark := map[doctor.Verdict]string{doctor.OK: "ok  ", doctor.Warn: "warn", doctor.Fail: "FAIL", doctor.Skip: "–   "}[f.Verdict]
	if terminal() {
		colour := map[doctor.Verdict]string{doctor.OK: "32", doctor.Warn: "33", doctor.Fail: "31", doctor.Skip: "90"}[f.Verdict]
		mark = "\x1b[" + colour + "m" + mark + "\x1b[0m"
	}
	fmt.Printf("%s  %-18s %s\n", mark, f.Check, strings.ReplaceAll(f.Detail, "\n", "\n"+strings.Repeat(" ", 25)))
	if f.Advice != "" {
		fmt.Printf("      %-18s → %s\n", "", f.Advice)
	}
}
