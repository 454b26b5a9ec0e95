package link

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sidetone/shared/wire"
)

// pipeCarrier is a carrier over a net.Pipe, for what a sound peer never sends.
type pipeCarrier struct {
	net.Conn
	ctx    context.Context
	cancel context.CancelFunc
	closed string // code given to close
}

func newPipe() (*Conn, *pipeCarrier, net.Conn) {
	near, far := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	p := &pipeCarrier{Conn: near, ctx: ctx, cancel: cancel}
	return newConn(p), p, far
}

func (p *pipeCarrier) close(code, _ string)        { p.closed = code; p.cancel(); _ = p.Conn.Close() }
func (p *pipeCarrier) explain(err error) error     { return explainQUIC("pipe", err) }
func (p *pipeCarrier) context() context.Context    { return p.ctx }
func (p *pipeCarrier) peerCert() *x509.Certificate { return nil }
func (p *pipeCarrier) localAddr() net.Addr         { return p.LocalAddr() }
func (p *pipeCarrier) remoteAddr() net.Addr        { return p.RemoteAddr() }
func (p *pipeCarrier) alpn() string                { return wire.ALPNLink }
func (p *pipeCarrier) transport() string           { return "pipe" }
func (p *pipeCarrier) lowerEffort(bool)            {}
func (p *pipeCarrier) linger(d time.Duration)      { lingerUntil(p.ctx, d) }

// raw is a message header and body, sound or not.
func raw(length uint32, typ wire.Type, body ...byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, length)
	return append(append(b, byte(typ)), body...)
}

func TestMalformedMessageLeavesTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, far := newPipe()
		defer far.Close()
		go func() {
			_, _ = far.Write(raw(3, wire.TypeHello, 0xff, 0xff)) // not CBOR
			_, _ = far.Write(raw(2, 99, 0xa0))                   // unknown type
			_, _ = far.Write(raw(4, wire.TypeDrain, 0xa1, 0x01, 0x05))
		}()
		for range 2 {
			var mal *wire.MalformedError
			if _, err := c.Recv(t.Context()); !errors.As(err, &mal) || mal.Fatal {
				t.Errorf("Recv = %v; want a MalformedError that is not fatal", err)
			}
		}
		if msg, err := c.Recv(t.Context()); err != nil || msg.(*wire.Drain).MaxDelayMS != 5 {
			t.Errorf("Recv = %v, %v", msg, err)
		}
		if p.closed != "" {
			t.Errorf("closed with %s", p.closed)
		}
	})
}

func TestLengthOverTheLimitIsFatal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, far := newPipe()
		defer far.Close()
		go func() {
			_, _ = far.Write(raw(0xffffffff, wire.TypeFrame))
			_, _ = far.Read(make([]byte, 1024)) // the Close
		}()
		var mal *wire.MalformedError
		if _, err := c.Recv(t.Context()); !errors.As(err, &mal) || !mal.Fatal {
			t.Errorf("Recv = %v; want a fatal MalformedError", err)
		}
		if p.closed != wire.CloseProtocol {
			t.Errorf("closed with %q", p.closed)
		}
		var closed *ClosedError
		if _, err := c.Recv(t.Context()); !errors.As(err, &closed) || !closed.Local {
			t.Errorf("Recv = %v; want ClosedError", err)
		}
	})
}

// TestSlowPeer: a message must be whole ten seconds after its first byte; silence
// between messages is the transport's matter.
func TestSlowPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, far := newPipe()
		defer far.Close()
		var peer sync.WaitGroup
		defer peer.Wait()
		peer.Go(func() {
			time.Sleep(time.Hour)
			_, _ = far.Write(raw(4, wire.TypeDrain, 0xa1, 0x01, 0x05))
			for _, b := range raw(4, wire.TypeDrain, 0xa1, 0x01, 0x05) { // a byte every 5 s
				if _, err := far.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(5 * time.Second)
			}
		})
		if _, err := c.Recv(t.Context()); err != nil {
			t.Fatalf("an idle hour: %v", err)
		}
		start := time.Now()
		var lost *LostError
		if _, err := c.Recv(t.Context()); !errors.As(err, &lost) || lost.Reason != "the peer is too slow" {
			t.Errorf("Recv = %v; want LostError", err)
		}
		if d := time.Since(start); d != recvTime {
			t.Errorf("gave up after %v", d)
		}
	})
}

func TestPeerThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, far := newPipe()
		defer far.Close()
		start := time.Now()
		var other sync.WaitGroup
		defer other.Wait()
		other.Go(func() { // waits for its turn, and no longer than its own context
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			time.Sleep(time.Millisecond)
			if err := c.Send(ctx, wire.Drain{}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("second Send = %v", err)
			}
		})
		var lost *LostError
		if err := c.Send(t.Context(), wire.Drain{}); !errors.As(err, &lost) {
			t.Errorf("Send = %v; want LostError", err)
		}
		if d := time.Since(start); d != sendTime || p.closed == "" {
			t.Errorf("gave up after %v, closed with %q", d, p.closed)
		}
	})
}

func TestCloseWithAStuckPeerIsQuick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, far := newPipe()
		defer far.Close()
		start := time.Now()
		_ = c.CloseWith(wire.CloseRevoked, "revoked")
		_ = c.CloseWith(wire.CloseShutdown, "again") // changes nothing
		if d := time.Since(start); d > closeSendTime+lingerTime || p.closed != wire.CloseRevoked {
			t.Errorf("took %v, closed with %q", d, p.closed)
		}
	})
}

func TestCancelledSendClosesOnlyWhenBytesMayBeOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, far := newPipe()
		defer far.Close()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.Send(ctx, wire.Drain{}); !errors.Is(err, context.Canceled) || p.closed != "" {
			t.Errorf("Send = %v, closed with %q", err, p.closed)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Send(ctx, wire.Drain{}); err == nil || p.closed == "" {
			t.Errorf("Send = %v, closed with %q", err, p.closed)
		}
	})
}

// FuzzRecv: whatever bytes come, Recv ends with a message or a typed error.
func FuzzRecv(f *testing.F) {
	hello, err := wire.AppendMessage(nil, wire.Hello{Capability: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(hello)
	f.Add(raw(0xffffffff, wire.TypeFrame))
	f.Add(bytes.Repeat(raw(2, wire.TypeDrain, 0xa0), 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, _, far := newPipe()
		go func() {
			_, _ = far.Write(b)
			_ = far.Close()
		}()
		for {
			_, err := c.Recv(context.Background())
			var (
				mal    *wire.MalformedError
				lost   *LostError
				closed *ClosedError
			)
			switch {
			case err == nil:
			case errors.As(err, &mal):
			case errors.As(err, &lost), errors.As(err, &closed):
				return
			default:
				t.Fatalf("Recv = %T %v", err, err)
			}
		}
	})
}

// FuzzProxyAnswer: a proxy may say anything; the answer is bounded and fit to be shown.
func FuzzProxyAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\n\r\n"))
	f.Add([]byte("HTTP/1.0 200 \x1b[31m\n\n"))
	f.Add([]byte("HTTP/1.1 2000 OK\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		status, text, offers, err := readAnswer(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return
		}
		if status < -99 || status > 999 || len(text) > maxProxyLine+3 || len(offers) > 4 || strings.ContainsAny(text, "\x1b\r\n") {
			t.Errorf("%d %q %q", status, text, offers)
		}
	})
}
