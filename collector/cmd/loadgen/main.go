// Command loadgen measures a collector with a fleet of simulated agents: it enrols them,
// lets them work, and compares what they produced with what is stored.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/rs/zerolog"

	"sidetone/collector/internal/loadgen"
)

const description = `Load generator of Sidetone: thousands of agents in one process, over the real link.

  loadgen enrol --data-dir DIR --agents 1000 --sites 100 --out agents.json
  loadgen run --agents agents.json --duration 5m --ledger ledger.json --report report.json
  loadgen verify --ledger ledger.json --data-dir DIR

A collector admits 30 enrolments a minute from one address unless its configuration has
limits.enrols_per_minute.`

type cli struct {
	Enrol  enrolCmd  `cmd:"" help:"Enrol agents and keep their identities in a file."`
	Run    runCmd    `cmd:"" help:"Let the agents work; Ctrl-C stops in order."`
	Verify verifyCmd `cmd:"" help:"Compare a ledger with what is in ClickHouse; status 1 when anything differs."`
}

// collectorFlags find sidetone-collector and its data.
type collectorFlags struct {
	CollectorBin string `help:"sidetone-collector (default: beside this program)." placeholder:"FILE"`
	DataDir      string `help:"The collector's data directory." placeholder:"DIR"`
	Config       string `help:"The collector's configuration." placeholder:"FILE"`
	EngineLib    string `help:"Path of libchdb.so, when the collector does not run." env:"SIDETONE_ENGINE_LIB" placeholder:"FILE"`
}

func (c *collectorFlags) bin() (string, error) {
	if c.CollectorBin != "" {
		return c.CollectorBin, nil
	}
	exe, err := os.Executable()
	return filepath.Join(filepath.Dir(exe), "sidetone-collector"), err
}

func (c *collectorFlags) flags() (out []string) {
	for _, f := range []struct{ name, value string }{{"--data-dir", c.DataDir}, {"--config", c.Config}, {"--engine-lib", c.EngineLib}} {
		if f.value != "" {
			out = append(out, f.name, f.value)
		}
	}
	return out
}

type enrolCmd struct {
	collectorFlags
	Token     []string `help:"Enrolment token; several are used in turn." placeholder:"TOKEN"`
	Public    string   `help:"Agents' address for tokens that are made here (with --data-dir)." placeholder:"HOST:PORT"`
	Sites     int      `help:"Sites to make with --data-dir; the agents are spread over them." default:"10"`
	Agents    int      `required:"" help:"How many agents."`
	Transport string   `default:"quic" help:"quic or tcp."`
	Out       string   `required:"" help:"File for the identities; it holds private keys." placeholder:"FILE"`
}

func (e *enrolCmd) Run(ctx context.Context) error {
	tokens := e.Token
	if len(tokens) == 0 {
		var err error
		if tokens, err = e.makeTokens(ctx); err != nil {
			return err
		}
	}
	f, err := loadgen.Enrol(ctx, tokens, e.Agents, e.Transport, os.Stderr)
	if err != nil {
		return err
	}
	return f.Write(e.Out)
}

// makeTokens makes a site for each token, all of one tenant.
func (e *enrolCmd) makeTokens(ctx context.Context) (tokens []string, err error) {
	if e.DataDir == "" && e.Config == "" || e.Sites < 1 {
		return nil, errors.New("give --token, or --data-dir and --sites so that tokens can be made")
	}
	bin, err := e.bin()
	if err != nil {
		return nil, err
	}
	sites := min(e.Sites, e.Agents)
	for i := range sites {
		args := append([]string{"token", "create"}, e.flags()...)
		args = append(args, "--tenant", "Load", "--customer", "Load", "--site", fmt.Sprintf("Load site %04d", i+1),
			"--uses", fmt.Sprint((e.Agents+sites-1)/sites), "--quiet")
		if e.Public != "" {
			args = append(args, "--agents", e.Public)
		}
		cmd := exec.CommandContext(ctx, bin, args...)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("%s token create: %w", bin, err)
		}
		tokens = append(tokens, strings.TrimSpace(string(out)))
	}
	return tokens, nil
}

type runCmd struct {
	Agents    string        `required:"" help:"Identities, from enrol." placeholder:"FILE"`
	Collector string        `help:"host:port (default: that of the enrolment)." placeholder:"ADDR"`
	Transport string        `default:"quic" help:"quic or tcp."`
	Duration  time.Duration `default:"5m" help:"How long to produce."`
	Interval  time.Duration `default:"10s" help:"Interval of probe windows and readings; a shorter one is more load."`
	Ramp      time.Duration `help:"Over how long the agents begin (default 5 ms each)."`
	Settle    time.Duration `default:"60s" help:"How long outstanding acks are waited for at the end."`
	Ledger    string        `required:"" help:"File for what was produced." placeholder:"FILE"`
	Report    string        `required:"" help:"File for the figures, JSON." placeholder:"FILE"`
	ReadyFile string        `help:"Written when every agent has been connected." placeholder:"FILE"`
	PID       []string      `name:"pid" help:"Record memory and CPU of a process and its children: NAME=PID or NAME=@PIDFILE." placeholder:"NAME=PID"`
}

func (r *runCmd) Run(ctx context.Context) error {
	f, err := loadgen.ReadFile(r.Agents)
	if err != nil {
		return err
	}
	cfg := loadgen.Config{Addr: r.Collector, Transport: r.Transport, Duration: r.Duration, Interval: r.Interval, Ramp: r.Ramp, Settle: r.Settle}
	for _, text := range r.PID {
		p, err := loadgen.ParseProcess(text)
		if err != nil {
			return err
		}
		cfg.Watch = append(cfg.Watch, p)
	}
	deps := loadgen.Deps{Log: zerolog.New(zerolog.ConsoleWriter{Out: os.Stderr}).Level(zerolog.WarnLevel).With().Timestamp().Logger(), Progress: os.Stderr}
	if r.ReadyFile != "" {
		deps.Ready = func() {
			if err := os.WriteFile(r.ReadyFile, []byte("ready\n"), 0o644); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}
	fleet, err := loadgen.New(cfg, f, deps)
	if err != nil {
		return err
	}
	ledger, report, err := fleet.Run(ctx)
	if err != nil {
		return err
	}
	if fleet.Renewed() {
		err = f.Write(r.Agents)
	}
	err = errors.Join(err, ledger.Write(r.Ledger), report.Write(r.Report))
	fmt.Println(report.Summary())
	if err == nil && report.Pending > 0 {
		err = fmt.Errorf("%d records have no answer", report.Pending)
	}
	return err
}

type verifyCmd struct {
	collectorFlags
	Ledger string `required:"" help:"Of run." placeholder:"FILE"`
}

func (v *verifyCmd) Run(ctx context.Context) error {
	l, err := loadgen.ReadLedger(v.Ledger)
	if err != nil {
		return err
	}
	bin, err := v.bin()
	if err != nil {
		return err
	}
	stored, err := loadgen.Load(ctx, loadgen.Command(bin, v.flags()...), l)
	if err != nil {
		return err
	}
	diffs := loadgen.Compare(l, stored)
	for _, d := range diffs {
		fmt.Println(d)
	}
	fmt.Println(l.Summary(stored))
	if len(diffs) > 0 {
		return fmt.Errorf("%d differences", len(diffs))
	}
	return nil
}

func main() {
	var c cli
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	k := kong.Parse(&c, kong.Name("loadgen"), kong.Description(description), kong.ConfigureHelp(kong.HelpOptions{Compact: true}), kong.BindTo(ctx, (*context.Context)(nil)))
	err := k.Run()
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "loadgen: %v\n", err)
		os.Exit(1)
	}
}
