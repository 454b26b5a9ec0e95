// Package link is both halves of the conversation between agent and collector:
// dial, listen, messages with deadlines, orderly close. It knows transports and
// messages, not what they are about.
//
// A Conn is one bidirectional stream of messages under mutual TLS. The stream runs
// over QUIC, over TCP, or over TCP through an HTTP proxy; each is a carrier.
// DESIGN.md has the states and the limits.
package link

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"sidetone/shared/wire"
)

// Deadlines of a message. A peer that is slower is either broken or hostile.
const (
	// recvTime is from the first byte of a message to its last.
	recvTime = 10 * time.Second
	// sendTime is for handing one whole message to the transport.
	sendTime = 15 * time.Second
	// closeSendTime and lingerTime bound an orderly close: telling the peer, and
	// waiting until it has read what was sent before.
	closeSendTime = 250 * time.Millisecond
	lingerTime    = 250 * time.Millisecond
	// lastWordTime is for finding out why a peer has gone.
	lastWordTime = 100 * time.Millisecond
)

const (
	readBuffer = 4 << 10
	// keepBuffer is the largest buffer that an idle connection keeps.
	keepBuffer = 16 << 10
	// chunk is how much of a body is allocated before its bytes have come.
	chunk = 32 << 10
)

// carrier is one established connection of one transport.
type carrier interface {
	io.ReadWriter
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	// linger gives the peer a moment to read what was sent last, and to close.
	linger(time.Duration)
	// close ends the connection and frees what belongs to it; where the transport
	// can, it tells the peer code and reason.
	close(code, reason string)
	// explain turns an error of Read or Write into a *ClosedError, *DialError or
	// *LostError.
	explain(error) error
	context() context.Context // ends with the connection
	peerCert() *x509.Certificate
	localAddr() net.Addr
	remoteAddr() net.Addr
	alpn() string
	transport() string
	lowerEffort(on bool)
}

// Conn is a connection to the peer. Send and CloseWith may be called by several
// goroutines at once; Recv by one at a time.
type Conn struct {
	c carrier

	sending chan struct{} // held while out and the sending side of c are used
	out     []byte

	receiving chan struct{} // held while in, body and the receiving side of c are used
	in        *bufio.Reader
	body      []byte

	ended  atomic.Pointer[ClosedError] // what Recv reports from now on
	closed sync.Once
}

func newConn(c carrier) *Conn {
	return &Conn{c: c, sending: make(chan struct{}, 1), receiving: make(chan struct{}, 1),
		in: bufio.NewReaderSize(c, readBuffer)}
}

// Send sends one message: any of the wire message types. It returns when the
// transport has taken the message, which does not mean that the peer has it. An
// error other than one of encoding leaves the connection closed.
func (c *Conn) Send(ctx context.Context, msg any) error {
	select {
	case c.sending <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("send %T: %w", msg, ctx.Err())
	}
	defer func() { <-c.sending }()
	return c.send(ctx, msg, sendTime)
}

// send has the sending side.
func (c *Conn) send(ctx context.Context, msg any, limit time.Duration) error {
	if e := c.ended.Load(); e != nil {
		return e
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("send %T: %w", msg, err)
	}
	b, err := wire.AppendMessage(c.out[:0], msg)
	if err != nil {
		return err
	}
	if cap(b) <= keepBuffer {
		c.out = b[:0]
	}
	if err := c.c.SetWriteDeadline(time.Now().Add(limit)); err != nil {
		return c.broken("send", c.lastWord(err))
	}
	release := expire(ctx, c.c.SetWriteDeadline)
	_, err = c.c.Write(b)
	release()
	if err != nil {
		// Part of the message may be out: what follows would not be understood.
		return c.broken("send", errors.Join(ctx.Err(), c.lastWord(err)))
	}
	return nil
}

// lastWord looks, after err of a Write, for what the peer said before it went: over
// TCP the reason lies in what was received. It returns that, or err.
func (c *Conn) lastWord(err error) error {
	if c.c.transport() == TransportQUIC || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	t := time.NewTimer(lastWordTime)
	defer t.Stop()
	select {
	case c.receiving <- struct{}{}:
	case <-t.C: // somebody receives, and will see it
		return err
	}
	defer func() { <-c.receiving }()
	_ = c.c.SetReadDeadline(time.Now().Add(lastWordTime))
	for {
		typ, body, rerr := c.readRaw()
		if rerr != nil {
			var refused *DialError
			if errors.As(c.c.explain(rerr), &refused) {
				return rerr
			}
			return err
		}
		if typ != wire.TypeClose {
			continue // of no use any more: what was not acked is sent again
		}
		if msg, derr := wire.DecodeMessage(typ, body); derr == nil {
			m := msg.(*wire.Close)
			c.end(&ClosedError{Code: m.Code, Reason: m.Reason})
		}
		return err
	}
}

// Recv returns the next message, as a pointer to its wire type. Errors:
//   - *wire.MalformedError: this message is unusable; unless Fatal, Recv may be
//     called again.
//   - *ClosedError: one side has closed the connection, with code and reason.
//   - *DialError: the peer refused our certificate (with TLS 1.3 that is seen
//     only after the dial).
//   - *LostError: the connection is gone without a word.
//   - the error of ctx: nothing was lost, Recv may be called again, unless the
//     message had begun; then the connection is closed.
func (c *Conn) Recv(ctx context.Context) (any, error) {
	if e := c.ended.Load(); e != nil {
		return nil, e
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case c.receiving <- struct{}{}:
		defer func() { <-c.receiving }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := c.c.SetReadDeadline(time.Time{}); err != nil {
		return nil, c.broken("receive", err)
	}
	defer expire(ctx, c.c.SetReadDeadline)()
	if _, err := c.in.Peek(1); err != nil {
		if ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, ctx.Err()
		}
		return nil, c.broken("receive", err)
	}
	typ, body, err := c.readMessage(ctx)
	var mal *wire.MalformedError
	if errors.As(err, &mal) {
		_ = c.CloseWith(wire.CloseProtocol, mal.Error())
		return nil, mal
	}
	if err != nil {
		return nil, c.broken("receive", errors.Join(ctx.Err(), err))
	}
	msg, err := wire.DecodeMessage(typ, body)
	if cap(body) <= keepBuffer {
		c.body = body[:0]
	}
	if err != nil {
		return nil, err
	}
	if m, ok := msg.(*wire.Close); ok {
		c.end(&ClosedError{Code: m.Code, Reason: m.Reason})
		c.shut(m.Code, "")
		return nil, c.ended.Load()
	}
	return msg, nil
}

// readMessage reads a message whose first byte has come.
func (c *Conn) readMessage(ctx context.Context) (wire.Type, []byte, error) {
	_ = c.c.SetReadDeadline(time.Now().Add(recvTime))
	if ctx.Err() != nil { // expire may have come before, and was overwritten
		_ = c.c.SetReadDeadline(past)
	}
	return c.readRaw()
}

// readRaw reads a message under the deadline that is set.
func (c *Conn) readRaw() (wire.Type, []byte, error) {
	var h [wire.HeaderLen]byte
	if _, err := io.ReadFull(c.in, h[:]); err != nil {
		return 0, nil, err
	}
	typ, n, err := wire.ParseHeader(h)
	if err != nil {
		return 0, nil, err
	}
	body := c.body[:0]
	c.body = nil
	for len(body) < n {
		// A length alone does not get its memory: it grows as the bytes arrive.
		want := min(n-len(body), max(chunk, len(body)))
		have := len(body)
		body = append(body, make([]byte, want)...)
		if _, err := io.ReadFull(c.in, body[have:]); err != nil {
			return 0, nil, err
		}
	}
	return typ, body, nil
}

var past = time.Unix(1, 0)

// expire makes the blocking call end when ctx does. The returned function undoes
// it, and waits until it cannot happen any more.
func expire(ctx context.Context, setDeadline func(time.Time) error) func() {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		_ = setDeadline(past)
	})
	return func() {
		if !stop() {
			<-done
		}
	}
}

// broken closes a connection that failed and says why it did.
func (c *Conn) broken(doing string, err error) error {
	if e := c.ended.Load(); e != nil {
		return e
	}
	why := c.c.explain(err)
	var closed *ClosedError
	if errors.As(why, &closed) {
		c.end(closed)
	}
	c.shut(wire.CloseProtocol, doing+": "+why.Error())
	if e := c.ended.Load(); e != nil {
		return e
	}
	return why
}

func (c *Conn) end(e *ClosedError) { c.ended.CompareAndSwap(nil, e) }

func (c *Conn) shut(code, reason string) {
	c.closed.Do(func() { c.c.close(code, reason) })
}

// CloseWith ends the connection and tells the peer why. It gives what was sent
// before a moment to arrive; for the rest no promise is made: the peer sends again
// what was not acked.
func (c *Conn) CloseWith(code, reason string) error {
	c.end(&ClosedError{Code: code, Reason: reason, Local: true})
	c.closed.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeSendTime)
		defer cancel()
		select {
		case c.sending <- struct{}{}:
			if b, err := wire.AppendMessage(nil, wire.Close{Code: code, Reason: reason}); err == nil {
				_ = c.c.SetWriteDeadline(time.Now().Add(closeSendTime))
				if _, err := c.c.Write(b); err == nil {
					c.c.linger(lingerTime)
				}
			}
			<-c.sending
		case <-ctx.Done(): // a Send is stuck
		case <-c.c.context().Done():
		}
		c.c.close(code, reason)
	})
	return nil
}

// PeerCert is the certificate that the peer proved to hold, nil when it showed none.
func (c *Conn) PeerCert() *x509.Certificate { return c.c.peerCert() }

// RemoteAddr is the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.c.remoteAddr() }

// LocalAddr is our address.
func (c *Conn) LocalAddr() net.Addr { return c.c.localAddr() }

// ALPN tells which conversation this is: wire.ALPNLink or wire.ALPNEnrol.
func (c *Conn) ALPN() string { return c.c.alpn() }

// Transport names what carries the connection: one of the Transport constants.
func (c *Conn) Transport() string { return c.c.transport() }

// SetLowerEffort marks the packets that are sent from now on as less dear than
// others (DSCP LE, RFC 8622), or no longer so. It does what the system can.
func (c *Conn) SetLowerEffort(on bool) { c.c.lowerEffort(on) }

// Context ends with the connection. Over TCP its end is noticed by a Recv or Send:
// keep a Recv running.
func (c *Conn) Context() context.Context { return c.c.context() }
