package telemetrydb_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"sidetone/collector/internal/chengine/enginetest"
	"sidetone/collector/internal/telemetrydb"
	"sidetone/shared/telemetry"
)

const benchRows = 100_000

func benchSets() []*telemetry.Set {
	var out []*telemetry.Set
	for i := range benchRows / 10 {
		s := &telemetry.Set{}
		for j := range 10 {
			w := telemetry.ProbeWindow{Target: telemetry.ItemID(j + 1), Observed: telemetry.MS(time.Now()), LengthMS: 10000, Sent: 10, Received: 10,
				RTTUS: make([]uint32, 10), RTTMinUS: 1000, RTTP50US: 1100, RTTMaxUS: 1300, JitterUS: 20}
			for k := range w.RTTUS {
				w.RTTUS[k] = 1000 + uint32((i*j*k)%300)
			}
			s.ProbeWindows = append(s.ProbeWindows, w)
		}
		out = append(out, s)
	}
	return out
}

// BenchmarkBuild is rows into blocks.
func BenchmarkBuild(b *testing.B) {
	sets := benchSets()
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		blocks := telemetrydb.NewBlocks(telemetrydb.NewKnown())
		for i, s := range sets {
			blocks.Add(source, 1, uint64(i), now, s)
		}
		if len(blocks.Blocks()) != 1 {
			b.Fatal("blocks")
		}
	}
	b.ReportMetric(float64(b.N)*benchRows/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkInsert stores a block of 100,000 probe windows, through this package and,
// beside it, with nothing but clickhouse-go and the same columns.
func BenchmarkInsert(b *testing.B) {
	sup, _ := enginetest.Start(b, b.TempDir())
	db, err := telemetrydb.Open(context.Background(), telemetrydb.Config{Socket: sup.Socket()})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	if err := db.Migrate(context.Background()); err != nil {
		b.Fatal(err)
	}
	blocks := telemetrydb.NewBlocks(telemetrydb.NewKnown())
	for i, s := range benchSets() {
		blocks.Add(source, 1, uint64(i), time.Now(), s)
	}
	blk := blocks.Blocks()[0]
	cpu := func() time.Duration { return ownCPU(b) + childCPU(b, sup.State().PID) }
	var began time.Duration
	rate := func(b *testing.B) {
		b.ReportMetric(float64(b.N)*benchRows/b.Elapsed().Seconds(), "rows/s")
		b.ReportMetric((cpu()-began).Seconds()/float64(b.N)/benchRows*1e6, "cpu-s/Mrow")
	}
	n := 0
	b.Run("telemetrydb", func(b *testing.B) {
		b.ReportAllocs()
		began = cpu()
		for b.Loop() {
			n++
			if err := db.InsertBlock(context.Background(), blk, fmt.Sprint("bench", n)); err != nil {
				b.Fatal(err)
			}
		}
		rate(b)
	})
	b.Run("clickhouse-go alone", func(b *testing.B) {
		conn, err := clickhouse.Open(&clickhouse.Options{Protocol: clickhouse.HTTP, Addr: []string{"engine"},
			DialContext: func(ctx context.Context, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", sup.Socket())
			}})
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		list := ""
		for i, c := range blk.Columns {
			if i > 0 {
				list += ", "
			}
			list += c.Name
		}
		b.ReportAllocs()
		began = cpu()
		for b.Loop() {
			n++
			ctx := clickhouse.Context(context.Background(), clickhouse.WithSettings(clickhouse.Settings{"insert_deduplication_token": fmt.Sprint("bench", n)}))
			batch, err := conn.PrepareBatch(ctx, "INSERT INTO sidetone.probe_window_raw ("+list+")")
			if err != nil {
				b.Fatal(err)
			}
			for i, c := range blk.Columns {
				if err := batch.Column(i).Append(c.Values); err != nil {
					b.Fatal(err)
				}
			}
			if err := batch.Send(); err != nil {
				b.Fatal(err)
			}
		}
		rate(b)
	})
	// the limit: a body that is ready, and the engine
	b.Run("engine alone", func(b *testing.B) {
		list := make([]string, len(blk.Columns))
		for i, c := range blk.Columns {
			list[i] = c.Name
		}
		body, err := telemetrydb.EncodeNative(blk)
		if err != nil {
			b.Fatal(err)
		}
		client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", sup.Socket())
		}}}
		defer client.CloseIdleConnections()
		b.ReportAllocs()
		began = cpu()
		for b.Loop() {
			n++
			q := url.Values{"query": {"INSERT INTO sidetone.probe_window_raw (" + strings.Join(list, ", ") + ") FORMAT Native"}, "insert_deduplication_token": {fmt.Sprint("bench", n)}}
			res, err := client.Post("http://engine/?"+q.Encode(), "application/octet-stream", bytes.NewReader(body))
			if err != nil {
				b.Fatal(err)
			}
			if res.Body.Close(); res.StatusCode != http.StatusOK {
				b.Fatal(res.Status)
			}
		}
		rate(b)
	})
}

// ownCPU is the processor time of this process.
func ownCPU(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// childCPU is that of the engine, in steps of 10 ms.
func childCPU(b *testing.B, pid int) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	var sum int64
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += n
	}
	return time.Duration(sum) * 10 * time.Millisecond
}
