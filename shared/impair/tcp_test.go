package impair

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// farTCP hands out the connections that reach the far end.
func farTCP(t *testing.T) (addr string, conns <-chan *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ch := make(chan *net.TCPConn, 100)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(ch)
				return
			}
			_ = c.SetDeadline(time.Now().Add(patience))
			ch <- c.(*net.TCPConn)
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
		for c := range ch {
			_ = c.Close()
		}
	})
	return l.Addr().String(), ch
}

func tcp(t *testing.T, cfg TCPConfig) *TCP {
	t.Helper()
	cfg.Listen = "127.0.0.1:0"
	p, err := ListenTCP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if p.Conns() != 0 {
			t.Errorf("%d connections after Close", p.Conns())
		}
	})
	return p
}

// through opens a connection and gives both ends.
func through(t *testing.T, p *TCP, conns <-chan *net.TCPConn) (near, far *net.TCPConn) {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	far = <-conns
	t.Cleanup(func() { _ = c.Close(); _ = far.Close() })
	return c.(*net.TCPConn), far
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// callReset opens a connection that is expected to be reset, which may show at once.
func callReset(p *TCP) error {
	c, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, err = c.Read(make([]byte, 1))
	return err
}

func TestTCPPassesEverythingOn(t *testing.T) {
	addr, conns := farTCP(t)
	p := tcp(t, TCPConfig{To: addr, Buffer: 40_000, Up: Profile{Jitter: time.Millisecond}, Down: Profile{Delay: time.Millisecond}})
	near, far := through(t, p, conns)
	rng := rand.New(rand.NewPCG(3, 4))
	sent := make([]byte, 1<<20)
	for i := range sent {
		sent[i] = byte(rng.Uint32())
	}
	var wg sync.WaitGroup
	wg.Go(func() { // the far end answers with the same
		_, _ = io.Copy(far, far)
		_ = far.CloseWrite()
	})
	wg.Go(func() {
		for rest := sent; len(rest) > 0; {
			n := min(len(rest), 1+rng.IntN(30_000))
			if _, err := near.Write(rest[:n]); err != nil {
				t.Error(err)
				return
			}
			rest = rest[n:]
		}
		_ = near.CloseWrite()
	})
	got, err := io.ReadAll(near)
	wg.Wait()
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d bytes of %d came back, or changed: %v", len(got), len(sent), err)
	}
	eventually(t, "ended", func() bool { return p.Conns() == 0 })
	for _, d := range []Direction{Up, Down} {
		if c := p.Counters(d); c.Bytes != 1<<20 || c.SentBytes != 1<<20 || c.Lost() != 0 {
			t.Errorf("%v: counted %+v", d, c)
		}
	}
}

func TestTCPDelay(t *testing.T) {
	addr, conns := farTCP(t)
	p := tcp(t, TCPConfig{To: addr, Up: Profile{Delay: 30 * time.Millisecond}, Down: Profile{Delay: 20 * time.Millisecond}})
	near, far := through(t, p, conns)
	b := make([]byte, 1)
	for range 5 {
		begun := time.Now()
		_, err1 := near.Write(b)
		_, err2 := io.ReadFull(far, b)
		_, err3 := far.Write(b)
		_, err4 := io.ReadFull(near, b)
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begun); d < 50*time.Millisecond {
			t.Errorf("a round trip of %v, less than the delay", d)
		}
	}
}

func TestTCPRate(t *testing.T) {
	addr, conns := farTCP(t)
	p := tcp(t, TCPConfig{To: addr, Up: Profile{Rate: 800_000, Queue: 50 * time.Millisecond}})
	near, far := through(t, p, conns)
	begun := time.Now()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = near.Write(make([]byte, 50_000))
		_ = near.CloseWrite()
	})
	n, err := io.Copy(io.Discard, far)
	wg.Wait()
	if d := time.Since(begun); err != nil || n != 50_000 || d < 500*time.Millisecond {
		t.Errorf("%d bytes over 800 kbit/s took %v, want at least 500 ms: %v", n, d, err)
	}
	if err := p.SetProfile(Up, Profile{}); err != nil {
		t.Fatal(err)
	}
}

// A reader that waits for the rate goes on at once when it is lifted.
func TestTCPRateLifted(t *testing.T) {
	addr, conns := farTCP(t)
	p := tcp(t, TCPConfig{To: addr, Up: Profile{Rate: 8000}}) // 512 bytes take half a second
	near, far := through(t, p, conns)
	if _, err := near.Write(make([]byte, 50_000)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "first piece", func() bool { return p.Counters(Up).Packets > 0 })
	if err := p.SetProfile(Up, Profile{}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(far, make([]byte, 50_000)); err != nil { // the deadline is 30 s; at 8000 bit/s it takes 50
		t.Error(err)
	}
}

func TestTCPBlackhole(t *testing.T) {
	addr, conns := farTCP(t)
	p := tcp(t, TCPConfig{To: addr})
	near, far := through(t, p, conns)
	if err := p.SetProfile(Up, Profile{Blackhole: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := near.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "taken", func() bool { return p.Counters(Up).Bytes == 5 })
	if p.Counters(Up).SentBytes != 0 {
		t.Fatal("a black hole passed something on")
	}
	late, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	eventually(t, "second call", func() bool { return p.Conns() == 2 })
	if len(conns) != 0 {
		t.Error("the far end heard of a call through a black hole")
	}
	if err := p.SetProfile(Up, Profile{}); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(far, b); err != nil || string(b) != "hello" {
		t.Errorf("after the black hole: %q, %v", b, err)
	}
	_ = (<-conns).Close() // the second call
}

func TestTCPCutAfter(t *testing.T) {
	addr, conns := farTCP(t)
	p := tcp(t, TCPConfig{To: addr, Up: Profile{CutAfter: 1000}})
	near, far := through(t, p, conns)
	if _, err := near.Write(make([]byte, 999)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(far, make([]byte, 999)); err != nil {
		t.Fatal(err)
	}
	if _, err := near.Write(make([]byte, 2000)); err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, far)
	if n > 1 || !isReset(err) {
		t.Errorf("after the cut came %d bytes and %v, want at most 1 and a reset", n, err)
	}
	if _, err := near.Read(make([]byte, 1)); !isReset(err) {
		t.Errorf("the near side sees %v, want a reset", err)
	}
	if c := p.Counters(Up); c.SentBytes != 1000 || c.Dropped[DropCut] != 1 {
		t.Errorf("counted %+v", c)
	}
}

func TestTCPCutAndReject(t *testing.T) {
	addr, conns := farTCP(t)
	p := tcp(t, TCPConfig{To: addr})
	// One that the proxy has just called is ended in order: so something passes first.
	opened := func() (near, far *net.TCPConn) {
		near, far = through(t, p, conns)
		if _, err := near.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		return near, far
	}
	near, far := opened()
	p.Cut()
	for _, c := range []*net.TCPConn{near, far} {
		if _, err := c.Read(make([]byte, 1)); !isReset(err) {
			t.Errorf("after Cut: %v, want a reset", err)
		}
	}
	near, _ = opened()
	if err := p.Reject(true); err != nil {
		t.Fatal(err)
	}
	if _, err := near.Read(make([]byte, 1)); !isReset(err) {
		t.Errorf("after Reject: %v, want a reset", err)
	}
	if c, err := net.Dial("tcp", p.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a new connection: %v, %v, want refused", c, err)
	}
	if err := p.Reject(false); err != nil {
		t.Fatal(err)
	}
	opened()
	if d := p.Counters(Up).Dropped; d[DropCut] != 1 || d[DropReject] != 1 {
		t.Errorf("counted %v", d)
	}
}

func TestTCPPassesResetsAndRefusalsOn(t *testing.T) {
	addr, conns := farTCP(t)
	p := tcp(t, TCPConfig{To: addr, MaxConns: 1})
	near, far := through(t, p, conns)
	if err := callReset(p); !isReset(err) {
		t.Errorf("one connection too many sees %v, want a reset", err)
	}
	abort(far)
	if _, err := near.Read(make([]byte, 1)); !isReset(err) {
		t.Errorf("the far end's reset is %v here", err)
	}
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	q := tcp(t, TCPConfig{To: gone.Addr().String()})
	if err := callReset(q); !isReset(err) {
		t.Errorf("nobody listens at the far end, and it is %v here", err)
	}
	eventually(t, "counted", func() bool { return q.Counters(Up).Dropped[DropSend] == 1 })
}

// A far end that does not read holds the sender up, and the proxy takes no more memory
// than it may.
func TestTCPBackPressure(t *testing.T) {
	addr, conns := farTCP(t)
	p := tcp(t, TCPConfig{To: addr, Buffer: 64 << 10})
	near, far := through(t, p, conns)
	const total = 16 << 20
	var wg sync.WaitGroup
	wg.Go(func() {
		for left := total; left > 0; left -= 64 << 10 {
			if _, err := near.Write(make([]byte, 64<<10)); err != nil {
				t.Error(err)
				return
			}
		}
		_ = near.CloseWrite()
	})
	eventually(t, "held up", func() bool {
		c := p.Counters(Up)
		return c.Bytes-c.SentBytes >= 48<<10
	})
	if c := p.Counters(Up); c.Bytes-c.SentBytes > 64<<10+2*tcpPiece {
		t.Errorf("%d bytes under way", c.Bytes-c.SentBytes)
	}
	if n, err := io.Copy(io.Discard, far); n != total || err != nil {
		t.Errorf("%d bytes of %d: %v", n, total, err)
	}
	wg.Wait()
}
