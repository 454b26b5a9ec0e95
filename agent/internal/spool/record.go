package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"sidetone/shared/wire"
)

// Key spaces. Within one, keys are prefix, epoch and seq (or, for gaps, epoch, from
// and to), big-endian, so that Badger's order is the order of sending.
const (
	prefixRecord = 'r' // value: header and payload
	prefixIndex  = 's' // value: class, created, size: opening reads these, not the payloads
	prefixGap    = 't' // value: observed, carrier, tries, reason
	prefixNone   = 'z' // never written, and behind all keys, so in no damaged table
)

const (
	recordFormat = 1
	sealedFormat = 2 // see seal
	headerSize   = 18
	// MaxPayload bounds a payload. A Badger transaction may hold 15 % of a memtable,
	// 157 KB with our 1 MB, and a record is written in one.
	MaxPayload = 128 << 10
	// overhead is what a record costs on disk besides its value: keys, index, blocks.
	overhead = 128
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Record is one entry of the spool.
type Record struct {
	Epoch, Seq uint64
	Class      wire.Class
	// Created is when the record entered the spool, agent's clock.
	Created time.Time
	// CRC is CRC-32C of Payload.
	CRC     uint32
	Payload []byte
}

// errDamaged marks a record that is not what was written.
var errDamaged = errors.New("record is damaged")

func key(prefix byte, numbers ...uint64) []byte {
	k := make([]byte, 1, 1+8*len(numbers))
	k[0] = prefix
	for _, n := range numbers {
		k = binary.BigEndian.AppendUint64(k, n)
	}
	return k
}

// splitKey reads the n numbers of a key.
func splitKey(k []byte, n int) ([]uint64, bool) {
	if len(k) != 1+8*n {
		return nil, false
	}
	out := make([]uint64, n)
	for i := range out {
		out[i] = binary.BigEndian.Uint64(k[1+8*i:])
	}
	return out, true
}

// encodeRecord lays out a value:
//
//	0     format
//	1     class
//	2:10  created, Unix milliseconds
//	10:14 CRC-32C of the payload
//	14:18 CRC-32C of epoch, seq and bytes 0:14
//	18:   payload
//
// The second checksum covers the first, and so the whole value and its key.
func encodeRecord(r *Record) []byte {
	v := make([]byte, headerSize, headerSize+len(r.Payload))
	v[0] = recordFormat
	v[1] = byte(r.Class)
	binary.BigEndian.PutUint64(v[2:], uint64(r.Created.UnixMilli()))
	binary.BigEndian.PutUint32(v[10:], r.CRC)
	binary.BigEndian.PutUint32(v[14:], headerCRC(r.Epoch, r.Seq, v))
	return append(v, r.Payload...)
}

func headerCRC(epoch, seq uint64, v []byte) uint32 {
	var id [16]byte
	binary.BigEndian.PutUint64(id[0:], epoch)
	binary.BigEndian.PutUint64(id[8:], seq)
	return crc32.Update(crc32.Checksum(id[:], castagnoli), castagnoli, v[:14])
}

// decodeRecord checks a value and reads it. The payload shares v's memory; in a sealed
// value it is still encrypted.
func decodeRecord(epoch, seq uint64, v []byte) (Record, error) {
	if len(v) <= headerSize {
		return Record{}, fmt.Errorf("%w: %d bytes", errDamaged, len(v))
	}
	if v[0] != recordFormat && v[0] != sealedFormat {
		return Record{}, fmt.Errorf("%w: format %d", errDamaged, v[0])
	}
	if binary.BigEndian.Uint32(v[14:]) != headerCRC(epoch, seq, v) {
		return Record{}, fmt.Errorf("%w: header checksum", errDamaged)
	}
	r := Record{
		Epoch: epoch, Seq: seq, Class: wire.Class(v[1]),
		Created: time.UnixMilli(int64(binary.BigEndian.Uint64(v[2:]))).UTC(),
		CRC:     binary.BigEndian.Uint32(v[10:]),
		Payload: v[headerSize:],
	}
	if crc32.Checksum(r.Payload, castagnoli) != r.CRC {
		return Record{}, fmt.Errorf("%w: payload checksum", errDamaged)
	}
	return r, nil
}

// indexValue is what opening needs to know of a record: class, created, size.
func indexValue(e entry) []byte {
	v := make([]byte, 13)
	v[0] = byte(e.class)
	binary.BigEndian.PutUint64(v[1:], uint64(e.created))
	binary.BigEndian.PutUint32(v[9:], e.size)
	return v
}

func decodeIndex(seq uint64, v []byte) (entry, bool) {
	if len(v) != 13 {
		return entry{}, false
	}
	return entry{
		seq: seq, class: wire.Class(v[0]),
		created: int64(binary.BigEndian.Uint64(v[1:])), size: binary.BigEndian.Uint32(v[9:]),
	}, true
}

func entryOf(r *Record) entry {
	return entry{
		seq: r.Seq, class: r.Class, created: r.Created.UnixMilli(),
		size: uint32(headerSize + len(r.Payload) + overhead),
	}
}
