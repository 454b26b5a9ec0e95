package agentd

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"sidetone/shared/telemetry"
	"sidetone/shared/wire"
)

// ledger is an auditor's record: one line of JSON for each payload that the spool took,
// written after it did. Tests compare it with what the collector stored. A nil ledger
// records nothing.
type ledger struct{ f *os.File }

type ledgerLine struct {
	Epoch uint64         `json:"epoch"`
	Seq   uint64         `json:"seq"`
	Class wire.Class     `json:"class"`
	Rows  map[string]int `json:"rows"`
	// Windows names each probe window: target and start, agent's clock.
	Windows [][2]any `json:"windows"`
}

// openLedger opens the file for appending; no path, no ledger.
func openLedger(path string) (*ledger, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	// A kill may have left half a line: the next one starts afresh.
	if st, err := f.Stat(); err == nil && st.Size() > 0 {
		if _, err := f.WriteString("\n"); err != nil {
			return nil, errors.Join(fmt.Errorf("open ledger: %w", err), f.Close())
		}
	}
	return &ledger{f}, nil
}

// note writes a line in one call, so that a kill leaves at most one incomplete line.
func (l *ledger) note(epoch, seq uint64, class wire.Class, set *telemetry.Set) error {
	if l == nil {
		return nil
	}
	line := ledgerLine{Epoch: epoch, Seq: seq, Class: class, Rows: map[string]int{}, Windows: [][2]any{}}
	for kind, n := range map[string]int{
		"probe_window": len(set.ProbeWindows), "pbx_status": len(set.PBXStatuses), "trunk_state": len(set.Trunks),
		"sbc_state": len(set.SBCs), "service_state": len(set.Services), "extension_summary": len(set.Extensions),
		"backup": len(set.Backups), "licence": len(set.Licences), "event_log": len(set.EventLog),
		"state_change": len(set.StateChanges), "agent_health": len(set.AgentHealth),
		"link_event": len(set.LinkEvents), "gap": len(set.Gaps),
	} {
		if n > 0 {
			line.Rows[kind] = n
		}
	}
	for i := range set.ProbeWindows {
		w := &set.ProbeWindows[i]
		line.Windows = append(line.Windows, [2]any{w.Target, w.Observed})
	}
	b, err := json.Marshal(line)
	if err != nil {
		return err
	}
	_, err = l.f.Write(append(b, '\n'))
	return err
}

func (l *ledger) close() error {
	if l == nil {
		return nil
	}
	return l.f.Close()
}
