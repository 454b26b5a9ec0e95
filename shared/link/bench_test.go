package link_test

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"

	"sidetone/shared/link"
	"sidetone/shared/link/linktest"
	"sidetone/shared/wire"
)

// The benchmarks run both transports in one process, one after the other, so their
// figures can be compared: go test -run '^$' -bench . ./link/

var both = []string{link.TransportQUIC, link.TransportTCP}

// connected gives an agent whose frames are taken by take.
func connected(b *testing.B, transport string, take func(ctx context.Context, c *link.Conn)) *link.Conn {
	b.Helper()
	ca := linktest.NewCA(b, "root")
	ln := ca.Listen("")
	ctx, cancel := context.WithCancel(context.Background())
	a, err := link.Dial(ctx, link.DialConfig{Addr: ln.Addr().String(), Transport: transport, TLS: ca.Agent(agent, soon())})
	if err != nil {
		b.Fatal(err)
	}
	if err := a.Send(ctx, wire.Hello{}); err != nil {
		b.Fatal(err)
	}
	c, err := ln.Accept(ctx)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := c.Recv(ctx); err != nil {
		b.Fatal(err)
	}
	var side sync.WaitGroup
	side.Go(func() { take(ctx, c) })
	b.Cleanup(func() {
		_ = a.CloseWith(wire.CloseShutdown, "")
		cancel()
		side.Wait()
	})
	return a
}

// BenchmarkGoodput sends frames of 200 kB as fast as they are taken.
func BenchmarkGoodput(b *testing.B) {
	for _, transport := range both {
		b.Run(transport, func(b *testing.B) {
			taken := make(chan struct{}, 1024)
			a := connected(b, transport, func(ctx context.Context, c *link.Conn) {
				for {
					if _, err := c.Recv(ctx); err != nil {
						return
					}
					taken <- struct{}{}
				}
			})
			const size = 200_000
			f := wire.Frame{Epoch: 1, Class: 1, Payload: make([]byte, size)}
			b.SetBytes(size)
			b.ReportAllocs()
			b.ResetTimer()
			go func() {
				for range b.N {
					if a.Send(context.Background(), f) != nil {
						return
					}
				}
			}()
			for range b.N {
				<-taken
			}
		})
	}
}

// BenchmarkSmallFrame sends one frame of 235 bytes and waits for its ack.
func BenchmarkSmallFrame(b *testing.B) {
	for _, transport := range both {
		b.Run(transport, func(b *testing.B) {
			ctx := context.Background()
			a := connected(b, transport, func(ctx context.Context, c *link.Conn) {
				for {
					if _, err := c.Recv(ctx); err != nil {
						return
					}
					if c.Send(ctx, wire.Ack{Epoch: 1, Ranges: []wire.Range{{From: 1, To: 1}}}) != nil {
						return
					}
				}
			})
			f := wire.Frame{Epoch: 1, Class: 1, Payload: make([]byte, 235)}
			b.ReportAllocs()
			cpu := cpuTime()
			for b.Loop() {
				if err := a.Send(ctx, f); err != nil {
					b.Fatal(err)
				}
				if _, err := a.Recv(ctx); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

// BenchmarkHandshake makes connections with certificates of both sides, four at a
// time, each with one message.
func BenchmarkHandshake(b *testing.B) {
	for _, transport := range both {
		b.Run(transport, func(b *testing.B) {
			ca := linktest.NewCA(b, "root")
			ln := ca.ListenWith(link.ListenConfig{HandshakesPerSecond: 1_000_000, MaxConnsPerAddr: 12_000})
			ctx, cancel := context.WithCancel(context.Background())
			wait := echo(ctx, ln)
			defer func() { cancel(); wait() }()
			id := ca.Agent(agent, soon())
			cpu := cpuTime()
			next := make(chan struct{})
			var workers sync.WaitGroup
			for range 4 {
				workers.Go(func() {
					for range next {
						c, err := link.Dial(ctx, link.DialConfig{Addr: ln.Addr().String(), Transport: transport, TLS: id})
						if err != nil {
							b.Error(err)
							return
						}
						_ = c.Send(ctx, wire.Frame{Class: 1, Payload: []byte{1}})
						_, _ = c.Recv(ctx)
						c.CutOff()
					}
				})
			}
			for b.Loop() {
				next <- struct{}{}
			}
			close(next)
			workers.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "conns/s")
			b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(b.N), "cpu-us/op")
		})
	}
}

// BenchmarkMemory holds 500 idle connections, both ends in this process, and gives
// what one costs: heap and stacks, and resident memory.
func BenchmarkMemory(b *testing.B) {
	const n = 500
	for _, transport := range both {
		b.Run(transport, func(b *testing.B) {
			ca := linktest.NewCA(b, "root")
			ln := ca.ListenWith(link.ListenConfig{HandshakesPerSecond: 1_000_000})
			ctx, cancel := context.WithCancel(context.Background())
			wait := echo(ctx, ln)
			defer func() { cancel(); wait() }()
			id := ca.Agent(agent, soon())
			for i := 0; b.Loop(); i++ {
				heap, rss := memory()
				var conns []*link.Conn
				for range n {
					c, err := link.Dial(ctx, link.DialConfig{Addr: ln.Addr().String(), Transport: transport, TLS: id})
					if err != nil {
						b.Fatal(err)
					}
					_ = c.Send(ctx, wire.Frame{Class: 1, Payload: make([]byte, 235)})
					if _, err := c.Recv(ctx); err != nil {
						b.Fatal(err)
					}
					conns = append(conns, c)
				}
				heap2, rss2 := memory()
				if i == 0 { // later, memory of the first is used again
					b.ReportMetric(float64(heap2-heap)/n/1024, "KiB-go/conn")
					b.ReportMetric(float64(rss2-rss)/n/1024, "KiB-rss/conn")
				}
				for _, c := range conns {
					c.CutOff()
				}
			}
		})
	}
}

// memory is what Go uses for heap and stacks, and what is resident.
func memory() (heap, rss int64) {
	debug.FreeOSMemory()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	text, _ := os.ReadFile("/proc/self/statm") // nothing elsewhere than on Linux
	if f := strings.Fields(string(text)); len(f) > 1 {
		pages, _ := strconv.ParseInt(f[1], 10, 64)
		rss = pages * int64(os.Getpagesize())
	}
	return int64(m.HeapAlloc + m.StackInuse), rss
}
