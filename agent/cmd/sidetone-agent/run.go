package main

import (
	"context"
	"fmt"
	"os"

	"sidetone/agent/internal/agentd"
	"sidetone/agent/internal/config"
	"sidetone/agent/internal/identity"
	"sidetone/agent/internal/uplink"
	"sidetone/shared/buildinfo"
	"sidetone/shared/certid"
	"sidetone/shared/svc"
)

// serviceName is the name of the Windows service.
const serviceName = "sidetone-agent"

func enrolCommand() *command {
	var e enrolCmd
	return &command{name: "enrol", alias: "enroll", arg: "TOKEN", help: "Enrol this machine with a token from the collector.",
		more: "TOKEN is one word that begins with st1., as the collector showed it.",
		flags: func(f *flags) {
			e.bind(f)
			f.on(&e.force, "force", "Replace the identity that this machine has. Its spool is kept and goes to the new one's collector.")
			f.text(&e.proxy, "proxy", "URL", "", "", "HTTP proxy to fall back to, http://[user:password@]host:port (default: HTTPS_PROXY).")
		},
		run: e.run,
	}
}

type enrolCmd struct {
	stateFlag
	force bool
	proxy string
}

func (e *enrolCmd) run(token string) error {
	ctx, stop := svc.SignalContext(context.Background())
	defer stop()
	tok, err := certid.ParseToken(token)
	if err != nil {
		return err
	}
	// As for the link later: from the flag, else from the environment.
	proxy, err := uplink.Config{Addr: tok.Addr, Proxy: e.proxy}.ProxyURL()
	if err != nil {
		return fmt.Errorf("--proxy: %w", err)
	}
	id, err := identity.Enrol(ctx, e.StateDir, token, identity.EnrolOptions{Force: e.force, Version: buildinfo.Version(), Proxy: proxy})
	if err != nil {
		return err
	}
	info := id.Info()
	fmt.Printf("Enrolled as agent %d at site %q of collector %s.\n", info.Agent, info.Site, info.Collector)
	fmt.Println("Next: systemctl restart sidetone-agent (or: sidetone-agent run), then sidetone-agent doctor.")
	return nil
}

func runCommand() *command {
	var r runCmd
	return &command{name: "run", help: "Measure, read the PBX, and send.", run: r.run, flags: func(f *flags) {
		r.stateFlag.bind(f)
		r.configFlag.bind(f)
		f.text(&r.readyFile, "ready-file", "FILE", "", "", "Written when the agent runs: JSON with its identity.")
		f.text(&r.ledger, "ledger", "FILE", "", "", "Append a line for each record that the spool took, for an audit against the database.")
		f.choice(&r.logLevel, "log-level", "LEVEL", "", "trace, debug, info, warn or error; overrides the file.",
			"trace", "debug", "info", "warn", "error")
	}}
}

type runCmd struct {
	stateFlag
	configFlag
	readyFile, ledger, logLevel string
}

func (r *runCmd) run(string) error {
	cfg, err := config.Load(r.Config, agentd.CheckConfig)
	if err != nil {
		return err
	}
	if r.logLevel != "" {
		cfg.Log.Level = r.logLevel
	}
	a, err := agentd.Open(agentd.Options{
		StateDir: r.StateDir, Config: cfg, ReadyFile: r.readyFile, Ledger: r.ledger, Log: logger(cfg.Log),
		Precheck: spoolPrecheck(),
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
