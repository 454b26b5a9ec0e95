package loadgen

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"sidetone/shared/wire"
)

// Ledger is what a fleet has produced, and what of it was acked.
type Ledger struct {
	Transport string        `json:"transport"`
	Began     time.Time     `json:"began"`
	Ended     time.Time     `json:"ended"`
	Agents    []AgentLedger `json:"agents"`
}

// AgentLedger is one agent's part. Seqs begin with 1; each up to Highest is acked, in
// a gap, or pending.
type AgentLedger struct {
	Agent   uint32 `json:"agent"`
	Tenant  uint32 `json:"tenant"`
	Epoch   uint64 `json:"epoch"`
	Highest uint64 `json:"highest_seq"`

	Records uint64       `json:"records"`
	Bytes   uint64       `json:"bytes"`  // of payloads
	Values  uint64       `json:"values"` // observed ones; statistics that follow from them are not counted
	Acked   []wire.Range `json:"acked"`
	Gaps    []GapRange   `json:"gaps,omitempty"`
	Pending uint64       `json:"pending"` // without an answer at the end

	Rows      rowCounts `json:"rows"`       // produced
	AckedRows rowCounts `json:"acked_rows"` // of these
	Lost      rowCounts `json:"lost_rows"`  // in gaps
}

// GapRange is records that were given up, ends included.
type GapRange struct {
	From   uint64 `json:"from"`
	To     uint64 `json:"to"`
	Reason string `json:"reason"`
}

// Kinds of rows, by the name of their view in ClickHouse.
const (
	kindWindow = iota
	kindStatus
	kindTrunk
	kindService
	kindHealth
	kindGap
	kindCount
)

var kindNames = [kindCount]string{"probe_window", "pbx_status", "trunk_state", "service_state", "agent_health", "gap"}

// rowCounts counts rows of each kind.
type rowCounts [kindCount]uint64

func (c *rowCounts) add(o *rowCounts) {
	for i := range c {
		c[i] += o[i]
	}
}

func (c *rowCounts) sum() (n uint64) {
	for _, v := range c {
		n += v
	}
	return n
}

// MarshalJSON names the kinds.
func (c rowCounts) MarshalJSON() ([]byte, error) {
	m := map[string]uint64{}
	for i, v := range c {
		m[kindNames[i]] = v
	}
	return json.Marshal(m)
}

// UnmarshalJSON refuses kinds that are not known: they would not be compared.
func (c *rowCounts) UnmarshalJSON(text []byte) error {
	var m map[string]uint64
	if err := json.Unmarshal(text, &m); err != nil {
		return err
	}
	for name, v := range m {
		i := slices.Index(kindNames[:], name)
		if i < 0 {
			return fmt.Errorf("kind of row %q is not known", name)
		}
		c[i] = v
	}
	return nil
}

// addAck notes seq in the ascending ranges of acked ones.
func (l *AgentLedger) addAck(seq uint64) {
	i := len(l.Acked)
	for i > 0 && l.Acked[i-1].From > seq {
		i--
	}
	switch {
	case i > 0 && l.Acked[i-1].To >= seq:
		return
	case i > 0 && l.Acked[i-1].To+1 == seq:
		l.Acked[i-1].To = seq
	case i < len(l.Acked) && l.Acked[i].From == seq+1:
		l.Acked[i].From = seq
	default:
		l.Acked = slices.Insert(l.Acked, i, wire.Range{From: seq, To: seq})
	}
	if i > 0 && i < len(l.Acked) && l.Acked[i-1].To+1 == l.Acked[i].From {
		l.Acked[i-1].To = l.Acked[i].To
		l.Acked = slices.Delete(l.Acked, i, i+1)
	}
}

func (l *AgentLedger) addGap(seq uint64, reason string) {
	if n := len(l.Gaps); n > 0 && l.Gaps[n-1].Reason == reason && l.Gaps[n-1].To+1 == seq {
		l.Gaps[n-1].To = seq
		return
	}
	l.Gaps = append(l.Gaps, GapRange{From: seq, To: seq, Reason: reason})
}

// Write replaces the file at path.
func (l *Ledger) Write(path string) error { return writeJSON(path, l, 0o644) }

// ReadLedger reads what Write wrote.
func ReadLedger(path string) (*Ledger, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	l := &Ledger{}
	if err := json.Unmarshal(text, l); err != nil {
		return nil, fmt.Errorf("read ledger %s: %w", path, err)
	}
	return l, nil
}
