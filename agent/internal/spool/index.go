package spool

import (
	"slices"

	"sidetone/shared/wire"
)

// entry is what the spool remembers of each live record, 24 bytes.
type entry struct {
	seq     uint64
	created int64 // Unix milliseconds
	size    uint32
	class   wire.Class
	state   entryState
}

type entryState uint8

const (
	onDisk entryState = iota
	inMemory
	dead
)

// index lists the live records in the order of seq, which grows over all epochs of a
// spool. Removed entries stay as dead until they are half of the list.
type index struct {
	entries []entry
	head    int // no live entry before it
	dead    int // at or behind head

	bytes    uint64 // of live records, on disk and in memory
	memBytes uint64 // of those in memory
	disk     spans
	memory   spans
}

// add appends an entry, whose seq is above all others.
func (x *index) add(e entry) {
	x.entries = append(x.entries, e)
	x.bytes += uint64(e.size)
	if e.state == inMemory {
		x.memBytes += uint64(e.size)
		x.memory.add(e.seq)
	} else {
		x.disk.add(e.seq)
	}
}

// at gives the position of the first entry with this seq or a higher one.
func (x *index) at(seq uint64) int {
	i, _ := slices.BinarySearchFunc(x.entries[x.head:], seq, func(e entry, seq uint64) int {
		switch {
		case e.seq < seq:
			return -1
		case e.seq > seq:
			return 1
		}
		return 0
	})
	return x.head + i
}

// find gives the live entry with this seq.
func (x *index) find(seq uint64) (entry, bool) {
	i := x.at(seq)
	if i == len(x.entries) || x.entries[i].seq != seq || x.entries[i].state == dead {
		return entry{}, false
	}
	return x.entries[i], true
}

// remove forgets a live entry.
func (x *index) remove(seq uint64) {
	i := x.at(seq)
	if i == len(x.entries) || x.entries[i].seq != seq || x.entries[i].state == dead {
		return
	}
	e := &x.entries[i]
	x.bytes -= uint64(e.size)
	if e.state == inMemory {
		x.memBytes -= uint64(e.size)
		x.memory.remove(seq)
	} else {
		x.disk.remove(seq)
	}
	e.state = dead
	x.dead++
	for x.head < len(x.entries) && x.entries[x.head].state == dead {
		x.head++
		x.dead--
	}
	if x.head == len(x.entries) {
		x.entries, x.head = x.entries[:0], 0
	}
	if gone := x.head + x.dead; gone > 64 && gone > len(x.entries)/2 {
		x.entries = slices.DeleteFunc(x.entries, func(e entry) bool { return e.state == dead })
		x.head, x.dead = 0, 0
	}
}

// stored says that an entry in memory has been written to disk.
func (x *index) stored(seq uint64) {
	i := x.at(seq)
	if i == len(x.entries) || x.entries[i].seq != seq || x.entries[i].state != inMemory {
		return
	}
	x.entries[i].state = onDisk
	x.memBytes -= uint64(x.entries[i].size)
	x.memory.remove(seq)
	x.disk.add(seq)
}

// oldest gives the first live entry.
func (x *index) oldest() (entry, bool) {
	if x.head == len(x.entries) {
		return entry{}, false
	}
	return x.entries[x.head], true
}

// last gives the highest live seq, or 0.
func (x *index) last() uint64 {
	var n uint64
	for _, s := range []spans{x.disk, x.memory} {
		if len(s) > 0 {
			n = max(n, s[len(s)-1].to)
		}
	}
	return n
}

func (x *index) count() int { return len(x.entries) - x.head - x.dead }

// each calls f for live entries from seq upwards until f returns false. f must not
// change the index.
func (x *index) each(seq uint64, f func(entry) bool) {
	for i := x.at(seq); i < len(x.entries); i++ {
		if x.entries[i].state != dead && !f(x.entries[i]) {
			return
		}
	}
}
