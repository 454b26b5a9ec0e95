package wire

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/klauspost/compress/zstd"

	"sidetone/shared/telemetry"
)

var train = flag.Bool("train", false, "write the newest dictionary anew; only while no release has it")

// TestTrainDictionary makes the dictionary from what sites measure that no other test
// uses (seeds below 1000). Its history is the columns of a few sites, as they leave
// one by one, in ten seconds and in a minute.
func TestTrainDictionary(t *testing.T) {
	if !*train {
		t.Skip("only with -train")
	}
	columns := func(set *telemetry.Set) []byte { // without a dictionary, as there may be none yet
		c := coders.Get().(*coder)
		defer c.release()
		_, columns, err := c.encode(set)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Clone(columns)
	}
	var contents [][]byte
	var history []byte
	for seed := uint64(1); seed <= 60; seed++ {
		s := newSite(seed, 4+int(seed%12))
		s.gather(int(seed % 5))
		var own [][]byte
		for _, e := range s.round() {
			own = append(own, columns(e.set))
		}
		own = append(own, columns(example()), columns(s.gather(6)), columns(s.gather(1)))
		contents = append(contents, own...)
		if seed <= 2 {
			for _, c := range own {
				history = append(history, c...)
			}
		}
	}
	d, err := zstd.BuildDict(zstd.BuildDictOptions{ID: 1, Contents: contents, History: history, Offsets: [3]int{1, 4, 8}, Level: zstd.SpeedBestCompression})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("dictionary-1.zstd", d, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", len(d))
}
