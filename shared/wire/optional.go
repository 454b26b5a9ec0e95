package wire

// Values that may be missing are two columns: whether it is there, and what it is.
// A value that is not there counts as the one before, so that it costs nothing.

// presence is the first of the two columns, in there. usual is what a first row has
// that costs nothing.
func (t *table) presence(usual bool) {
	noise := t.noise
	t.noise = false
	defer func() { t.noise = noise }()
	if !t.encoding {
		if _, some := t.load(); !some {
			clear(t.deltas)
		}
	}
	for i := range t.there {
		expect := usual
		if b := t.before[i]; b >= 0 {
			expect = t.there[b]
		}
		if !t.encoding {
			t.there[i] = expect != (t.deltas[i] != 0)
			continue
		}
		t.deltas[i] = 0
		if t.there[i] != expect {
			t.deltas[i] = 1
		}
	}
	if t.encoding {
		t.emit(0)
	}
}

// maybe is a number that may be missing.
func maybe[T any, V ~uint32 | ~uint64 | ~int64](t *table, rows []T, usual bool, f func(*T) **V) {
	if t.encoding {
		for i := range rows {
			p := *f(&rows[i])
			t.there[i] = p != nil
			if p != nil {
				t.values[i] = uint64(*p)
			} else if b := t.before[i]; b >= 0 {
				t.values[i] = t.values[b]
			} else {
				t.values[i] = 0
			}
		}
		t.presence(usual)
		t.differences()
		return
	}
	t.presence(usual)
	if !t.sums() {
		clear(t.values)
	}
	own := make([]V, count(t.there))
	for i, there := range t.there {
		if !there {
			continue
		}
		own[0] = V(t.values[i])
		if uint64(own[0]) != t.values[i] {
			t.fail(errRange)
			return
		}
		*f(&rows[i]) = &own[0]
		own = own[1:]
	}
}

// maybeTrue is a truth that may be missing, and usually is there.
func maybeTrue[T any](t *table, rows []T, f func(*T) **bool) {
	if t.encoding {
		for i := range rows {
			p := *f(&rows[i])
			t.there[i] = p != nil
			t.values[i] = 0
			if p != nil && *p {
				t.values[i] = 1
			} else if b := t.before[i]; p == nil && b >= 0 {
				t.values[i] = t.values[b]
			}
		}
		t.presence(true)
		t.differences()
		return
	}
	t.presence(true)
	if !t.sums() {
		clear(t.values)
	}
	own := make([]bool, count(t.there))
	for i, there := range t.there {
		if !there {
			continue
		}
		own[0] = t.values[i] != 0
		*f(&rows[i]) = &own[0]
		own = own[1:]
	}
}

func count(there []bool) int {
	n := 0
	for _, is := range there {
		if is {
			n++
		}
	}
	return n
}
