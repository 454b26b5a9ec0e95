package wire

import (
	"fmt"

	"sidetone/shared/telemetry"
)

// body is the CBOR map of schema 1.
type body struct {
	Targets      []telemetry.Target           `cbor:"1,keyasint,omitempty"`
	Probes       *probeColumns                `cbor:"2,keyasint,omitempty"`
	PBXStatuses  []telemetry.PBXStatus        `cbor:"3,keyasint,omitempty"`
	Trunks       []telemetry.Trunk            `cbor:"4,keyasint,omitempty"`
	SBCs         []telemetry.SBC              `cbor:"5,keyasint,omitempty"`
	Services     []telemetry.Service          `cbor:"6,keyasint,omitempty"`
	Extensions   []telemetry.ExtensionSummary `cbor:"7,keyasint,omitempty"`
	Backups      []telemetry.Backup           `cbor:"8,keyasint,omitempty"`
	Licences     []telemetry.Licence          `cbor:"9,keyasint,omitempty"`
	EventLog     []telemetry.EventLogEntry    `cbor:"10,keyasint,omitempty"`
	StateChanges []telemetry.StateChange      `cbor:"11,keyasint,omitempty"`
	AgentHealth  []telemetry.AgentHealth      `cbor:"12,keyasint,omitempty"`
	LinkEvents   []telemetry.LinkEvent        `cbor:"13,keyasint,omitempty"`
	Gaps         []telemetry.Gap              `cbor:"14,keyasint,omitempty"`
}

// encode1 encodes a set that is within the limits as a payload of schema 1.
func encode1(set *telemetry.Set) ([]byte, error) {
	set = clipSet(set)
	b := body{
		PBXStatuses: set.PBXStatuses, Trunks: set.Trunks, SBCs: set.SBCs,
		Services: set.Services, Extensions: set.Extensions, Backups: set.Backups, Licences: set.Licences,
		EventLog: set.EventLog, StateChanges: set.StateChanges, AgentHealth: set.AgentHealth,
		LinkEvents: set.LinkEvents, Gaps: set.Gaps,
	}
	b.Targets, b.Probes = encodeProbes(set)
	if len(b.Targets) > MaxRows {
		return nil, &TooLargeError{What: "targets", Has: len(b.Targets), Limit: MaxRows}
	}
	raw, err := encMode.Marshal(&b)
	if err != nil {
		return nil, fmt.Errorf("encode payload: %w", err)
	}
	if len(raw) > MaxDecoded {
		return nil, &TooLargeError{What: "bytes of a payload before compression", Has: len(raw), Limit: MaxDecoded}
	}
	out := plain().EncodeAll(raw, append(make([]byte, 0, len(raw)/2+64), 1))
	if len(out) > MaxPayload {
		return nil, &TooLargeError{What: "bytes of a payload", Has: len(out), Limit: MaxPayload}
	}
	return out, nil
}

// decode1 decodes what follows the byte of schema 1. Texts are not checked yet.
func decode1(p []byte) (*telemetry.Set, error) {
	raw, err := decompressor().DecodeAll(p, nil)
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	if len(raw) > MaxDecoded {
		return nil, fmt.Errorf("%d bytes after decompression", len(raw))
	}
	var b body
	if err := decMode.Unmarshal(raw, &b); err != nil {
		return nil, err
	}
	set := &telemetry.Set{
		Targets: b.Targets, PBXStatuses: b.PBXStatuses, Trunks: b.Trunks, SBCs: b.SBCs,
		Services: b.Services, Extensions: b.Extensions, Backups: b.Backups, Licences: b.Licences,
		EventLog: b.EventLog, StateChanges: b.StateChanges, AgentHealth: b.AgentHealth,
		LinkEvents: b.LinkEvents, Gaps: b.Gaps,
	}
	if n := set.Len(); n > MaxRows {
		return nil, fmt.Errorf("%d rows", n)
	}
	if b.Probes != nil {
		if uint64(b.Probes.Rows) > uint64(MaxRows-set.Len()) {
			return nil, fmt.Errorf("%d probe windows", b.Probes.Rows)
		}
		if set.ProbeWindows, err = b.Probes.decode(b.Targets); err != nil {
			return nil, err
		}
	}
	return set, nil
}
