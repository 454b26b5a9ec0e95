package agentd

import (
	"encoding/json"
	"fmt"
	"os"

	"sidetone/shared/buildinfo"
)

// ready is the content of the ready file.
type ready struct {
	PID       int    `json:"pid"`
	StateDir  string `json:"state_dir"`
	Agent     uint32 `json:"agent"`
	Tenant    uint32 `json:"tenant"`
	Site      string `json:"site"`
	Collector string `json:"collector"`
	Version   string `json:"version"`
}

// announce says that the agent runs: in the log, to systemd, and in the ready file.
func (a *Agent) announce() error {
	info := a.identity.Info()
	for _, w := range a.opts.Config.Warnings {
		a.log.Warn().Msg(w)
	}
	a.log.Info().Str("version", buildinfo.String()).Uint32("tenant", uint32(info.Tenant)).Uint32("agent", uint32(info.Agent)).
		Str("site", info.Site).Str("addr", info.Collector).Str("path", a.opts.StateDir).Msg("agent runs")
	if err := a.notifier.Ready(); err != nil {
		a.log.Warn().Err(err).Msg("systemd cannot be told that the agent runs")
	}
	if a.opts.ReadyFile == "" {
		return nil
	}
	b, err := json.Marshal(ready{
		PID: os.Getpid(), StateDir: a.opts.StateDir, Agent: uint32(info.Agent), Tenant: uint32(info.Tenant),
		Site: info.Site, Collector: info.Collector, Version: buildinfo.Version(),
	})
	if err != nil {
		return err
	}
	tmp := a.opts.ReadyFile + ".tmp"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write ready file: %w", err)
	}
	if err := os.Rename(tmp, a.opts.ReadyFile); err != nil {
		return fmt.Errorf("write ready file: %w", err)
	}
	return nil
}
