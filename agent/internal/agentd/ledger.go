package agentd

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"sidetone/shared/telemetry"
	"sidetone/shared/wire"
)

// ledger is an auditor's list of what was produced: one JSON line for each record that
// the spool took, written after it was taken. What ClickHouse holds can be checked
// against it.
type ledger struct{ f *os.File }

func openLedger(path string) (*ledger, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	// A kill may have left half a line: the next one starts afresh.
	if st, err := f.Stat(); err == nil && st.Size() > 0 {
		if _, err := f.WriteString("\n"); err != nil {
			return nil, errors.Join(fmt.Errorf("ledger: %w", err), f.Close())
		}
	}
	return &ledger{f}, nil
}

func (l *ledger) close() error { return l.f.Close() }

// line is one record. Windows are pairs of target id and start in Unix milliseconds.
type line struct {
	Epoch   uint64         `json:"epoch"`
	Seq     uint64         `json:"seq"`
	Class   wire.Class     `json:"class"`
	Rows    map[string]int `json:"rows"`
	Windows [][2]uint64    `json:"windows,omitempty"`
}

func (l *ledger) write(epoch, seq uint64, class wire.Class, set *telemetry.Set) error {
	out := line{Epoch: epoch, Seq: seq, Class: class, Rows: map[string]int{}}
	for _, c := range []struct {
		name string
		n    int
	}{
		{"probe_window", len(set.ProbeWindows)}, {"pbx_status", len(set.PBXStatuses)}, {"trunk_state", len(set.Trunks)},
		{"sbc_state", len(set.SBCs)}, {"service_state", len(set.Services)}, {"extension_summary", len(set.Extensions)},
		{"backup", len(set.Backups)}, {"licence", len(set.Licences)}, {"event_log", len(set.EventLog)},
		{"state_change", len(set.StateChanges)}, {"agent_health", len(set.AgentHealth)},
		{"link_event", len(set.LinkEvents)}, {"gap", len(set.Gaps)},
	} {
		if c.n > 0 {
			out.Rows[c.name] = c.n
		}
	}
	for i := range set.ProbeWindows {
		w := &set.ProbeWindows[i]
		out.Windows = append(out.Windows, [2]uint64{uint64(w.Target), uint64(w.Observed)})
	}
	text, err := json.Marshal(out)
	if err != nil {
		return err
	}
	_, err = l.f.Write(append(text, '\n')) // one write, so that kill -9 cuts no other line
	return err
}
