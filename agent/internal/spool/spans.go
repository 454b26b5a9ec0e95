package spool

import "slices"

// span is sequence numbers from…to, ends included.
type span struct{ from, to uint64 }

// spans is a set of sequence numbers as sorted spans that do not touch each other.
// Acks come nearly in order, so it stays short.
type spans []span

// find gives the index of the first span that ends at or after seq.
func (s spans) find(seq uint64) int {
	i, _ := slices.BinarySearchFunc(s, seq, func(a span, seq uint64) int {
		switch {
		case a.to < seq:
			return -1
		case a.to > seq:
			return 1
		}
		return 0
	})
	return i
}

func (s spans) has(seq uint64) bool { return s.overlaps(span{seq, seq}) }

func (s *spans) add(seq uint64) {
	i := s.find(seq)
	if i < len(*s) && (*s)[i].from <= seq {
		return
	}
	left := i > 0 && (*s)[i-1].to+1 == seq
	right := i < len(*s) && (*s)[i].from == seq+1
	switch {
	case left && right:
		(*s)[i-1].to = (*s)[i].to
		*s = slices.Delete(*s, i, i+1)
	case left:
		(*s)[i-1].to = seq
	case right:
		(*s)[i].from = seq
	default:
		*s = slices.Insert(*s, i, span{seq, seq})
	}
}

func (s *spans) remove(seq uint64) {
	i := s.find(seq)
	if i >= len(*s) || (*s)[i].from > seq {
		return
	}
	sp := (*s)[i]
	switch {
	case sp.from == sp.to:
		*s = slices.Delete(*s, i, i+1)
	case sp.from == seq:
		(*s)[i].from++
	case sp.to == seq:
		(*s)[i].to--
	default:
		(*s)[i].to = seq - 1
		*s = slices.Insert(*s, i+1, span{seq + 1, sp.to})
	}
}

func (s spans) count() uint64 {
	var n uint64
	for _, sp := range s {
		n += sp.to - sp.from + 1
	}
	return n
}

func (s spans) overlaps(sp span) bool {
	i := s.find(sp.from)
	return i < len(s) && s[i].from <= sp.to
}
