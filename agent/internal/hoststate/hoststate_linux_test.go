package hoststate

import (
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       uint64
	}{
		{"usual", "MemTotal:  100 kB\nMemFree:  7 kB\nMemAvailable:      42 kB\n", 42 << 10},
		{"absent", "MemTotal:  100 kB\n", 0},
		{"no number", "MemAvailable:\n", 0},
		{"garbage", "MemAvailable: x kB\n", 0},
		{"empty", "", 0},
	} {
		if got := parseAvailable(c.text); got != c.want {
			t.Errorf("%s: available %d, want %d", c.name, got, c.want)
		}
	}
	for text, want := range map[string]float64{"0.52 0.58 0.59 1/467 1234\n": 0.52, "": 0, "x": 0, "-1 2": 0} {
		if got := parseLoad(text); got != want {
			t.Errorf("load of %q: %v, want %v", text, got, want)
		}
	}
}

func TestReadThisProcess(t *testing.T) {
	first := Read(t.TempDir())
	if first.RSS < 1<<20 || first.RSS > 10<<30 || first.Goroutines < 1 || first.MemoryFree == 0 || first.DiskFree == 0 {
		t.Errorf("reading of this process is not believable: %+v", first)
	}
	sum := 0
	for start := time.Now(); time.Since(start) < 30*time.Millisecond; {
		sum++
	}
	if again := Read(t.TempDir()); again.CPU <= first.CPU && sum > 0 {
		t.Errorf("CPU time went from %s to %s while working", first.CPU, again.CPU)
	}
}
