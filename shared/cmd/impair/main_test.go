package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sidetone/shared/impair"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name     string
		args     string
		up, down string
		err      string
	}{
		{"both directions", "udp --to a:1 --delay 20ms --loss=1% --blackhole", "delay=20ms loss=0.01 blackhole", "delay=20ms loss=0.01 blackhole", ""},
		{"one of its own", "tcp -to a:1 --rate 512kbit --down delay=1s", "rate=512kbit", "delay=1s", ""},
		{"a clear one of its own", "udp --to a:1 --delay 20ms --up=", "", "delay=20ms", ""},
		{"runs of loss", "udp --to a:1 --loss-burst 4 --loss 20%", "loss=20% loss-burst=4", "loss=20% loss-burst=4", ""},
		{"no kind", "--to a:1", "", "", "udp or tcp"},
		{"no far end", "udp", "", "", "--to"},
		{"wrong value", "udp --to a:1 --loss 200%", "", "", "ratio"},
		{"unknown flag", "udp --to a:1 --speed 3", "", "", "speed"},
		{"more words", "udp --to a:1 fast", "", "", "fast"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, err := parse(strings.Fields(c.args), io.Discard)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("got %v, want an error with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			up, _ := impair.ParseProfile(c.up)
			down, _ := impair.ParseProfile(c.down)
			if o.up != up || o.down != down {
				t.Errorf("up %q, down %q, want %q, %q", o.up, o.down, up, down)
			}
		})
	}
	var help bytes.Buffer
	if _, err := parse([]string{"udp", "--help"}, &help); !errors.Is(err, flag.ErrHelp) || !strings.Contains(help.String(), "--listen") {
		t.Errorf("help: %v, %s", err, &help)
	}
}

// program is one that runs here, told by its standard input what to do.
type program struct {
	t     *testing.T
	addr  string
	in    *io.PipeWriter
	out   *bufferedPipe
	end   func() error
	ended bool
}

// bufferedPipe keeps what was written, for other goroutines to see.
type bufferedPipe struct {
	mu  sync.Mutex
	all bytes.Buffer // guarded by mu
}

func (b *bufferedPipe) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *bufferedPipe) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

func start(t *testing.T, args ...string) *program {
	t.Helper()
	ready := filepath.Join(t.TempDir(), "ready")
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	out, errs := &bufferedPipe{}, &bufferedPipe{}
	done := make(chan error, 1)
	go func() { done <- run(ctx, append(args, "--ready-file", ready), r, out, errs) }()
	p := &program{t: t, in: w, out: out}
	p.end = func() error {
		if p.ended {
			return nil
		}
		p.ended = true
		cancel()
		_ = w.Close()
		return <-done
	}
	t.Cleanup(func() { _ = p.end() })
	p.until("ready", func() bool {
		raw, err := os.ReadFile(ready)
		var said map[string]string
		if err != nil || json.Unmarshal(raw, &said) != nil {
			return false
		}
		p.addr = said["addr"]
		return true
	})
	return p
}

func (p *program) until(what string, ok func() bool) {
	p.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			p.t.Fatalf("not in time: %s", what)
		}
	}
}

func (p *program) say(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		p.t.Fatal(err)
	}
}

func TestUDPProgram(t *testing.T) {
	far, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	_ = far.SetDeadline(time.Now().Add(30 * time.Second))
	p := start(t, "udp", "--to", far.LocalAddr().String(), "--seed", "1", "--delay", "1ms")
	c, err := net.Dial("udp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	from := func() string {
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 100)
		n, a, err := far.ReadFromUDP(b)
		if err != nil || string(b[:n]) != "hello" {
			t.Fatalf("%q, %v", b[:n], err)
		}
		return a.String()
	}
	first := from()
	p.say("rebind")
	p.say("counters")
	p.until("rebound", func() bool { return strings.Count(p.out.String(), "\n") == 1 })
	if again := from(); again == first {
		t.Errorf("still from %s after rebind", again)
	}
	p.say("nonsense")
	p.say("cut")
	p.say("up loss=200%")
	p.say("up mtu=100")
	p.say("counters")
	p.until("changed", func() bool { return strings.Count(p.out.String(), "\n") == 2 })
	if _, err := c.Write(make([]byte, 200)); err != nil {
		t.Fatal(err)
	}
	p.until("too large", func() bool {
		p.say("counters")
		return strings.Contains(p.out.String(), `"dropped":{"mtu":1}`)
	})
	if err := p.end(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(p.out.String()), "\n")
	var last map[string]figures
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
		t.Fatal(err)
	}
	if up := last["up"]; up.Packets != 3 || up.SentPackets != 2 || up.SentBytes != 10 {
		t.Errorf("counted %+v", up)
	}
}

func TestTCPProgram(t *testing.T) {
	far, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	p := start(t, "tcp", "--to", far.Addr().String(), "--cut", "3")
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	d, err := far.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := c.Write([]byte("four")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("after the cut: %v, want a reset", err)
	}
	p.say("rebind")
	p.say("reject on")
	p.until("refused", func() bool {
		c, err := net.Dial("tcp", p.addr)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	p.say("reject off")
	p.until("open", func() bool {
		c, err := net.Dial("tcp", p.addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}
