package loadgen

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sidetone/shared/wire"
)

// answers is a database that answers as the test wants.
type answers struct {
	frames, windows, broken string
	repeated                int
	asked                   []string
}

func (a *answers) query(_ context.Context, sql string) (string, error) {
	a.asked = append(a.asked, sql)
	switch {
	case strings.Contains(sql, "row_number()"):
		return a.frames, nil
	case strings.Contains(sql, "UNION ALL"):
		return a.broken, nil
	case strings.Contains(sql, "_raw WHERE"):
		if strings.Contains(sql, "probe_window") {
			return fmt.Sprintf("0\t0\t%d\n", a.repeated), nil
		}
		return "0\t0\t0\n", nil
	case strings.Contains(sql, "sidetone.probe_window "):
		return a.windows, nil
	}
	return "", nil
}

// twoAgents have made ten records of one window each; the second lost its seq 4.
func twoAgents() *Ledger {
	one := AgentLedger{Agent: 1, Epoch: 100, Highest: 10, Acked: []wire.Range{{From: 1, To: 10}}}
	one.Rows[kindWindow], one.AckedRows[kindWindow] = 10, 10
	two := AgentLedger{Agent: 2, Epoch: 101, Highest: 10, Acked: []wire.Range{{From: 1, To: 3}, {From: 5, To: 10}}, Gaps: []GapRange{{4, 4, "evicted"}}}
	two.Rows[kindWindow], two.AckedRows[kindWindow], two.Lost[kindWindow] = 10, 9, 1
	return &Ledger{Agents: []AgentLedger{one, two}}
}

func TestCompare(t *testing.T) {
	const (
		goodFrames  = "1\t100\t1\t10\t0\n2\t101\t1\t3\t0\n2\t101\t5\t10\t0\n"
		goodWindows = "1\t100\t10\t10\n2\t101\t9\t9\n"
	)
	for _, c := range []struct {
		name            string
		frames, windows string
		broken          string
		want            []string
	}{
		{"the same", goodFrames, goodWindows, "", nil},
		{"the gap was stored after all", "1\t100\t1\t10\t0\n2\t101\t1\t10\t0\n", "1\t100\t10\t10\n2\t101\t10\t10\n", "", nil},
		{"an acked record is not there", "1\t100\t1\t5\t0\n1\t100\t7\t10\t0\n2\t101\t1\t3\t0\n2\t101\t5\t10\t0\n", "1\t100\t9\t9\n2\t101\t9\t9\n", "",
			[]string{"agent 1 epoch 100: acked, but not stored: 6 (1 records)", "agent 1 epoch 100: probe_window: 9 rows, produced 10"}},
		{"a row twice", goodFrames, "1\t100\t11\t10\n2\t101\t9\t9\n", "", []string{"agent 1 epoch 100: probe_window: 11 rows, but 10 identities"}},
		{"a row too many", goodFrames, "1\t100\t10\t10\n2\t101\t11\t11\n", "", []string{"agent 2 epoch 101: probe_window: 11 rows, produced only 10"}},
		{"a row too few", goodFrames, "1\t100\t10\t10\n2\t101\t8\t8\n", "", []string{"agent 2 epoch 101: probe_window: 8 rows, acked 9"}},
		{"nothing of an agent", "1\t100\t1\t10\t0\n", "1\t100\t10\t10\n", "",
			[]string{"agent 2 epoch 101: acked, but not stored: 1-3, 5-10 (9 records)", "agent 2 epoch 101: probe_window: 0 rows, acked 9"}},
		{"never produced", "1\t100\t1\t12\t0\n2\t101\t1\t3\t0\n2\t101\t5\t10\t0\n", goodWindows, "", []string{"agent 1 epoch 100: stored, but never produced: 11-12 (2 records)"}},
		{"an epoch of nobody", goodFrames + "1\t101\t1\t2\t0\n", goodWindows, "", []string{"agent 1 epoch 101: 2 frames of an epoch that the ledger does not have"}},
		{"a dead letter", "1\t100\t1\t10\t1\n2\t101\t1\t3\t0\n2\t101\t5\t10\t0\n", goodWindows, "", []string{"agent 1 epoch 100: 1 frames in dead_letter"}},
		{"a frame without its rows", goodFrames, goodWindows, "1\t100\t3\t12\t11\n", []string{"agent 1 epoch 100 seq 3: the frame ledger says 12 rows, there are 11"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := &answers{frames: c.frames, windows: c.windows, broken: c.broken, repeated: 3}
			l := twoAgents()
			s, err := Load(t.Context(), db.query, l)
			if err != nil {
				t.Fatal(err)
			}
			if got := Compare(l, s); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			if s.Repeated != 3 {
				t.Errorf("repeated = %d", s.Repeated)
			}
			for _, sql := range db.asked {
				if !strings.Contains(sql, "epoch BETWEEN 100 AND 101") {
					t.Errorf("asks about more than the run: %s", sql)
				}
			}
		})
	}
}

func TestPendingIsADifference(t *testing.T) {
	l := twoAgents()
	l.Agents[0].Acked, l.Agents[0].AckedRows, l.Agents[0].Pending = []wire.Range{{From: 1, To: 8}}, rowCounts{kindWindow: 8}, 2
	db := &answers{frames: "1\t100\t1\t9\t0\n2\t101\t1\t3\t0\n2\t101\t5\t10\t0\n", windows: "1\t100\t9\t9\n2\t101\t9\t9\n"}
	s, err := Load(t.Context(), db.query, l)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := Compare(l, s), []string{"agent 1 epoch 100: neither acked nor stored nor a gap: 10 (1 records)"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestLoadTellsWhatWentWrong(t *testing.T) {
	broken := errors.New("no engine")
	if _, err := Load(t.Context(), func(context.Context, string) (string, error) { return "", broken }, twoAgents()); !errors.Is(err, broken) {
		t.Errorf("err = %v", err)
	}
	if _, err := Load(t.Context(), func(context.Context, string) (string, error) { return "one\ttwo\n", nil }, twoAgents()); err == nil {
		t.Error("an answer without numbers was taken")
	}
}

func TestLedgerFile(t *testing.T) {
	l := twoAgents()
	path := t.TempDir() + "/ledger.json"
	if err := l.Write(path); err != nil {
		t.Fatal(err)
	}
	again, err := ReadLedger(path)
	if err != nil || !reflect.DeepEqual(l, again) {
		t.Errorf("read %+v, %v", again, err)
	}
	if err := json.Unmarshal([]byte(`{"unheard_of":1}`), new(rowCounts)); err == nil {
		t.Error("a kind that is not known would not be compared")
	}
}

// TestRanges compares acked ranges, and their difference, with plain sets.
func TestRanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := &AgentLedger{}, &AgentLedger{}
		in := map[*AgentLedger]map[uint64]bool{a: {}, b: {}}
		for _, l := range []*AgentLedger{a, b} {
			for _, seq := range rapid.SliceOf(rapid.Uint64Range(1, 30)).Draw(t, "seqs") {
				l.addAck(seq)
				in[l][seq] = true
			}
			for i, r := range l.Acked {
				if r.From > r.To || i > 0 && l.Acked[i-1].To+1 >= r.From {
					t.Fatalf("ranges %v", l.Acked)
				}
			}
			if size(l.Acked) != uint64(len(in[l])) {
				t.Fatalf("%v are not %d", l.Acked, len(in[l]))
			}
		}
		left := map[uint64]bool{}
		for _, r := range without(a.Acked, b.Acked) {
			for seq := r.From; seq <= r.To; seq++ {
				left[seq] = true
			}
		}
		for seq := uint64(1); seq <= 30; seq++ {
			if want := in[a][seq] && !in[b][seq]; left[seq] != want {
				t.Fatalf("%v without %v: %d is %v", a.Acked, b.Acked, seq, left[seq])
			}
		}
	})
}

func TestHistogram(t *testing.T) {
	var h histogram
	for i := 1; i <= 10_000; i++ {
		h.add(time.Duration(i) * time.Millisecond)
	}
	l := h.latencies()
	for _, c := range []struct{ got, want float64 }{{l.P50, 5000}, {l.P95, 9500}, {l.P99, 9900}} {
		if c.got < c.want || c.got > c.want*1.04 {
			t.Errorf("%v; want %v and at most 4 %% more", c.got, c.want)
		}
	}
	if l.Count != 10_000 || l.Max != 10_000 {
		t.Errorf("latencies = %+v", l)
	}
	for _, us := range []uint64{0, 1, 31, 32, 63, 64, 1000, 1 << 40} {
		i := bucketOf(us)
		if upperOf(i) < us || i > 0 && upperOf(i-1) >= us {
			t.Errorf("%d is in bucket %d, up to %d", us, i, upperOf(i))
		}
	}
}

func TestProcess(t *testing.T) {
	for text, want := range map[string]Process{"a=1": {Name: "a", PID: 1}, "b=@/run/x.pid": {Name: "b", PIDFile: "/run/x.pid"}} {
		if got, err := ParseProcess(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "a", "a=", "=1", "a=0", "a=@", "a=b"} {
		if _, err := ParseProcess(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}
