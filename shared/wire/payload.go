package wire

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

	"sidetone/shared/telemetry"
)

// Schema is the newest payload schema that this program writes and reads. A
// payload is one byte, its schema, then (for schema 1) a zstd frame of one CBOR
// map. The byte stands outside so that a reader knows how to decompress.
//
//	1: CBOR map of row types; probe windows by column, other rows as maps
const Schema = 1

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

// window is what the compressor looks back over. A payload is some kilobytes, and
// the agent has little memory.
const window = 256 << 10

// compressor and decompressor are made at their first use and then never change;
// both may be used by several goroutines at once.
var (
	compressor = sync.OnceValue(func() *zstd.Encoder {
		return must(zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(window), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false),
			zstd.WithSingleSegment(true))) // the length is always there, to be checked before memory is taken
	})
	decompressor = sync.OnceValue(func() *zstd.Decoder {
		// One decoder for each CPU: with a single one, all connections would queue for it.
		return must(zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(MaxDecoded), zstd.WithDecoderMaxWindow(MaxDecoded)))
	})
)

// EncodePayload encodes the rows of set, which it does not change. Texts longer
// than MaxText are cut. More rows or attempts than the limits allow give a
// *TooLargeError; split the set.
func EncodePayload(set *telemetry.Set) ([]byte, error) {
	set = clipSet(set)
	if err := checkCounts(set); err != nil {
		return nil, err
	}
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
	out := compressor().EncodeAll(raw, append(make([]byte, 0, len(raw)/2+64), Schema))
	if len(out) > MaxPayload {
		return nil, &TooLargeError{What: "bytes of a payload", Has: len(out), Limit: MaxPayload}
	}
	return out, nil
}

func checkCounts(set *telemetry.Set) error {
	if n := set.Len(); n > MaxRows {
		return &TooLargeError{What: "rows", Has: n, Limit: MaxRows}
	}
	total := 0
	for i := range set.ProbeWindows {
		n := len(set.ProbeWindows[i].RTTUS)
		if n > MaxWindowRTTs {
			return &TooLargeError{What: "attempts in a window", Has: n, Limit: MaxWindowRTTs}
		}
		total += n
	}
	if total > MaxRTTs {
		return &TooLargeError{What: "attempts", Has: total, Limit: MaxRTTs}
	}
	return nil
}

// DecodePayload decodes what EncodePayload made. The error is a *SchemaError when
// the payload was written by a newer program, else a *MalformedError.
func DecodePayload(p []byte) (*telemetry.Set, error) {
	const what = "payload"
	if len(p) == 0 || len(p) > MaxPayload {
		return nil, malformed(what, "%d bytes", len(p))
	}
	if p[0] > Schema {
		return nil, &SchemaError{Schema: p[0]}
	}
	if p[0] != Schema {
		return nil, malformed(what, "schema %d", p[0])
	}
	raw, err := decompressor().DecodeAll(p[1:], nil)
	if err != nil {
		return nil, malformed(what, "decompress: %w", err)
	}
	if len(raw) > MaxDecoded {
		return nil, malformed(what, "%d bytes after decompression", len(raw))
	}
	var b body
	if err := decMode.Unmarshal(raw, &b); err != nil {
		return nil, &MalformedError{What: what, Cause: err}
	}
	set := &telemetry.Set{
		Targets: b.Targets, PBXStatuses: b.PBXStatuses, Trunks: b.Trunks, SBCs: b.SBCs,
		Services: b.Services, Extensions: b.Extensions, Backups: b.Backups, Licences: b.Licences,
		EventLog: b.EventLog, StateChanges: b.StateChanges, AgentHealth: b.AgentHealth,
		LinkEvents: b.LinkEvents, Gaps: b.Gaps,
	}
	if n := set.Len(); n > MaxRows {
		return nil, malformed(what, "%d rows", n)
	}
	if b.Probes != nil {
		if uint64(b.Probes.Rows) > uint64(MaxRows-set.Len()) {
			return nil, malformed(what, "%d probe windows", b.Probes.Rows)
		}
		if set.ProbeWindows, err = b.Probes.decode(b.Targets); err != nil {
			return nil, &MalformedError{What: what, Cause: err}
		}
	}
	if err := checkSet(set); err != nil {
		return nil, &MalformedError{What: what, Cause: err}
	}
	return set, nil
}
