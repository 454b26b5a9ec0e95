package telemetrydb

import (
	"encoding/hex"
	"math"
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
}

// FrameBlock is the ledger's rows for these frames, or nil for none. It goes in after
// the rows themselves: what the ledger names is there.
func FrameBlock(frames []Frame) *Block {
	n := len(frames)
	if n == 0 {
		return nil
	}
	b := &Block{Table: FrameTable, Rows: n, Columns: make([]Column, 0, 14)}
	b.place(n, func(i int) telemetry.Source { return frames[i].Source })
	epoch, seq, age := make([]uint64, n), make([]uint64, n), make([]uint64, n)
	class, dead := make([]uint8, n), make([]bool, n)
	observed, received := make([]int64, n), make([]int64, n)
	size, rows := make([]uint32, n), make([]uint32, n)
	var refused []byte
	for i := range frames {
		f := &frames[i]
		epoch[i], seq[i], class[i], dead[i] = f.Epoch, f.Seq, f.Class, f.DeadLetter
		age[i] = uint64(max(0, f.Age.Milliseconds()))
		received[i] = clampMS(telemetry.MS(f.ReceivedAt))
		observed[i] = max(0, received[i]-max(0, f.Age.Milliseconds()))
		size[i], rows[i] = clampUint32(f.Bytes), clampUint32(f.Rows)
		if f.DeadLetter {
			refused = append(refused, byte(i), byte(i>>8), byte(i>>16))
		}
	}
	b.Salt = hex.EncodeToString(refused) // the same records with another verdict are another block
	b.Columns = append(b.Columns,
		Column{"epoch", "UInt64", epoch}, Column{"seq", "UInt64", seq}, Column{"class", "UInt8", class},
		Column{"observed", instantType, observed}, Column{"received_at", instantType, received}, Column{"age_ms", "UInt64", age},
		Column{"bytes", "UInt32", size}, Column{"rows", "UInt32", rows}, Column{"dead_letter", "Bool", dead})
	return b
}

func clampUint32(n int) uint32 { return uint32(min(max(int64(n), 0), math.MaxUint32)) }
