package telemetrydb

import (
	"encoding/hex"
	"math"
	"slices"
	"time"

	"sidetone/shared/telemetry"
)

// FrameTable is the frame ledger's.
const FrameTable = "frame_raw"

// Frame is a frame whose rows are stored.
type Frame struct {
	Source     telemetry.Source
	Epoch, Seq uint64
	Class      uint8
	ReceivedAt time.Time
	Age        time.Duration // of the record in the agent's spool
	Bytes      int           // of the payload
	Rows       int
	DeadLetter bool // its content was refused; it is in dead_letter
	// Minutes of its windows and PBX readings: what must be rolled up anew when they
	// come late.
	Minutes []uint32
}

// MinutesOf lists the minutes (Unix time / 60, the agent's clock) in which rows lie that
// are rolled up, ascending. A clock that is too far off is not believed.
func MinutesOf(set *telemetry.Set, receivedAt time.Time) []uint32 {
	now := telemetry.MS(receivedAt)
	var out []uint32
	add := func(at telemetry.UnixMS) {
		if at < now-clockBack || at > now+clockAhead || at < 0 {
			return
		}
		m := uint32(at / 60_000)
		if n := len(out); n == 0 || out[n-1] != m { // rows mostly come in order
			out = append(out, m)
		}
	}
	for i := range set.ProbeWindows {
		add(set.ProbeWindows[i].Observed)
	}
	for i := range set.PBXStatuses {
		add(set.PBXStatuses[i].Observed)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// How far an agent's clock may be off, as clock_flag has it in the tables.
const (
	clockBack  = telemetry.UnixMS(30 * 24 * 3600 * 1000)
	clockAhead = telemetry.UnixMS(24 * 3600 * 1000)
)

// FrameBlock is the ledger's rows for these frames, or nil for none. It goes in after
// the rows themselves: what the ledger names is there.
func FrameBlock(frames []Frame) *Block {
	n := len(frames)
	if n == 0 {
		return nil
	}
	b := &Block{Table: FrameTable, Rows: n, Columns: make([]Column, 0, 15)}
	b.place(n, func(i int) telemetry.Source { return frames[i].Source })
	epoch, seq, age := make([]uint64, n), make([]uint64, n), make([]uint64, n)
	class, dead := make([]uint8, n), make([]bool, n)
	observed, received := make([]int64, n), make([]int64, n)
	size, rows := make([]uint32, n), make([]uint32, n)
	minutes := make([][]uint32, n)
	var refused []byte
	for i := range frames {
		f := &frames[i]
		epoch[i], seq[i], class[i], dead[i] = f.Epoch, f.Seq, f.Class, f.DeadLetter
		age[i] = uint64(max(0, f.Age.Milliseconds()))
		received[i] = clampMS(telemetry.MS(f.ReceivedAt))
		observed[i] = max(0, received[i]-max(0, f.Age.Milliseconds()))
		minutes[i] = f.Minutes
		size[i], rows[i] = clampUint32(f.Bytes), clampUint32(f.Rows)
		if f.DeadLetter {
			refused = append(refused, byte(i), byte(i>>8), byte(i>>16))
		}
	}
	b.Salt = hex.EncodeToString(refused) // the same records with another verdict are another block
	b.Columns = append(b.Columns,
		Column{"epoch", "UInt64", epoch}, Column{"seq", "UInt64", seq}, Column{"class", "UInt8", class},
		Column{"observed", instantType, observed}, Column{"received_at", instantType, received}, Column{"age_ms", "UInt64", age},
		Column{"bytes", "UInt32", size}, Column{"rows", "UInt32", rows}, Column{"dead_letter", "Bool", dead}, Column{"minutes", "Array(UInt32)", minutes})
	return b
}

func clampUint32(n int) uint32 { return uint32(min(max(int64(n), 0), math.MaxUint32)) }
