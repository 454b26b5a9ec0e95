package collectord

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/rs/zerolog"

	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/chengine"
	"sidetone/collector/internal/config"
	"sidetone/collector/internal/enrolment"
	"sidetone/collector/internal/telemetrydb"
	"sidetone/shared/certid"
)

// TokenSpec says what a token is for.
type TokenSpec struct {
	Tenant, Customer, Site string
	Uses                   int
	TTL                    time.Duration
}

// CreateToken makes an enrolment token, also while serve runs.
func CreateToken(ctx context.Context, cfg config.Config, spec TokenSpec) (certid.Token, time.Time, error) {
	var none certid.Token
	_, port, err := net.SplitHostPort(cfg.Agents)
	if err != nil || port == "0" {
		return none, time.Time{}, errors.New("--agents: the token must name the port that agents connect to, as serve has it")
	}
	db, authority, err := openStore(ctx, cfg)
	if err != nil {
		return none, time.Time{}, err
	}
	defer db.Close()
	svc := enrolment.New(enrolment.Deps{Store: db, CA: authority, Log: zerolog.Nop()})
	return svc.CreateToken(ctx, authz.System(), enrolment.TokenSpec{
		Tenant: spec.Tenant, Customer: spec.Customer, Site: spec.Site, Uses: spec.Uses, TTL: spec.TTL,
		Addr: net.JoinHostPort(cfg.Public, port),
	})
}

// RunSQL runs one statement against the configured ClickHouse and writes its rows. With
// the embedded engine it uses the one that serve runs; when serve does not run it starts
// one for as long as the statement takes.
func RunSQL(ctx context.Context, cfg config.Config, exe, statement, format string, w io.Writer) error {
	dbc := telemetrydb.Config{DSN: cfg.ClickHouse}
	if cfg.ClickHouse == config.DefaultClickHouse {
		socket, stop, err := borrowEngine(ctx, cfg, exe)
		if err != nil {
			return err
		}
		defer stop()
		dbc = telemetrydb.Config{Socket: socket}
	}
	db, err := telemetrydb.Open(ctx, dbc)
	if err != nil {
		return err
	}
	defer db.Close()
	rows, err := db.Query(ctx, statement)
	if err != nil {
		return err
	}
	defer rows.Close()
	return telemetrydb.WriteResult(w, format, rows)
}

// borrowEngine finds a running engine or starts one.
func borrowEngine(ctx context.Context, cfg config.Config, exe string) (socket string, stop func(), err error) {
	nothing := func() {}
	if _, err := os.Stat(cfg.DataDir); err != nil {
		return "", nothing, fmt.Errorf("data directory: %w (is --data-dir the one that serve uses?)", err)
	}
	lib, libErr := chengine.FindLib(cfg.EngineLib)
	sup, err := chengine.New(chengine.SuperConfig{Exe: exe, Lib: lib, DataDir: engineDir(cfg), Socket: engineSocket(cfg), Log: zerolog.Nop()})
	if err != nil {
		return "", nothing, err
	}
	if conn, err := net.DialTimeout("unix", sup.Socket(), time.Second); err == nil {
		conn.Close()
		return sup.Socket(), nothing, nil
	}
	if libErr != nil {
		return "", nothing, libErr
	}
	sctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = sup.Run(sctx) // it reports through State
	}()
	stop = func() { cancel(); <-done }
	select {
	case <-sup.Ready():
		return sup.Socket(), stop, nil
	case <-ctx.Done():
		stop()
		return "", nothing, ctx.Err()
	case <-time.After(60 * time.Second):
		stop()
		return "", nothing, fmt.Errorf("the engine did not start: %w", sup.State().Err)
	}
}
