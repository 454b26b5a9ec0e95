package main

import (
	"context"
	"fmt"
	"os"

	"sidetone/agent/internal/agentd"
	"sidetone/agent/internal/config"
	"sidetone/agent/internal/identity"
	"sidetone/shared/buildinfo"
	"sidetone/shared/svc"
)

// serviceName is the name of the Windows service.
const serviceName = "sidetone-agent"

type enrolCmd struct {
	stateFlag
	Token string `arg:"" help:"The token, as the collector showed it: one word that begins with st1."`
	Force bool   `help:"Replace the identity that this machine has. Its spool is kept and goes to the new one's collector."`
}

func (e *enrolCmd) Run() error {
	ctx, stop := svc.SignalContext(context.Background())
	defer stop()
	id, err := identity.Enrol(ctx, e.StateDir, e.Token, identity.EnrolOptions{Force: e.Force, Version: buildinfo.Version()})
	if err != nil {
		return err
	}
	info := id.Info()
	fmt.Printf("Enrolled as agent %d at site %q of collector %s.\n", info.Agent, info.Site, info.Collector)
	fmt.Println("Next: systemctl restart sidetone-agent (or: sidetone-agent run), then sidetone-agent doctor.")
	return nil
}

type runCmd struct {
	stateFlag
	configFlag
	ReadyFile string `help:"Written when the agent runs: JSON with its identity." placeholder:"FILE"`
	Ledger    string `help:"Append a line for each record that the spool took, for an audit against the database." placeholder:"FILE"`
	LogLevel  string `help:"trace, debug, info, warn or error; overrides the file." enum:",trace,debug,info,warn,error" default:"" placeholder:"LEVEL"`
}

func (r *runCmd) Run() error {
	cfg, err := config.Load(r.Config, agentd.CheckConfig)
	if err != nil {
		return err
	}
	if r.LogLevel != "" {
		cfg.Log.Level = r.LogLevel
	}
	a, err := agentd.Open(agentd.Options{
		StateDir: r.StateDir, Config: cfg, ReadyFile: r.ReadyFile, Ledger: r.Ledger, Log: logger(cfg.Log),
	})
	if err != nil {
		return err
	}
	var failed error
	status := svc.Run(serviceName, func(ctx context.Context) int {
		if failed = a.Run(ctx); failed != nil {
			return 1
		}
		return 0
	})
	if failed == nil && status != 0 {
		return statusError(status)
	}
	return failed
}

// terminal tells whether a person reads standard output.
func terminal() bool {
	st, err := os.Stdout.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}
