package impair

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

const (
	tcpDialTime = 10 * time.Second
	tcpPiece    = 16 << 10  // read and written at a time
	tcpMinPiece = 512       // the same when the line is slow
	tcpKernel   = 128 << 10 // the kernel's buffers: by themselves they grow to megabytes
	tcpMarks    = 4096      // pieces under way
)

// session is one connection through a TCP proxy.
type session struct {
	proxy  *TCP
	near   *net.TCPConn
	ctx    context.Context
	cancel context.CancelFunc // resets both sides
	once   sync.Once
}

// reset ends the session with RSTs to both sides.
func (s *session) reset(d Direction, why Reason) {
	s.once.Do(func() { s.proxy.lanes[d].dropped(why) })
	s.cancel()
}

func (s *session) run() {
	t := s.proxy
	defer func() {
		s.cancel()
		t.mu.Lock()
		delete(t.sessions, s)
		t.mu.Unlock()
	}()
	for { // the far end is not to hear of a call that vanishes
		profile, changed := t.lanes[Up].profile()
		if !profile.Blackhole {
			break
		}
		select {
		case <-changed:
		case <-s.ctx.Done():
			abort(s.near)
			return
		}
	}
	dial := net.Dialer{Timeout: tcpDialTime}
	c, err := dial.DialContext(s.ctx, "tcp", t.cfg.To)
	if err != nil {
		s.reset(Up, DropSend)
		abort(s.near)
		return
	}
	far := c.(*net.TCPConn)
	for _, c := range []*net.TCPConn{s.near, far} {
		_ = c.SetReadBuffer(tcpKernel)
		_ = c.SetWriteBuffer(tcpKernel)
	}
	aborted := make(chan struct{})
	stop := context.AfterFunc(s.ctx, func() {
		abort(s.near)
		abort(far)
		close(aborted)
	})
	up, down := newPipe(s, Up, s.near, far), newPipe(s, Down, far, s.near)
	var wg sync.WaitGroup
	for _, f := range []func(){up.read, up.write, down.read, down.write} {
		wg.Go(f)
	}
	wg.Wait()
	if !stop() {
		<-aborted
		return
	}
	_ = s.near.Close()
	_ = far.Close()
}

// pipe is one direction of a session: what was read stands in a ring until it is due.
type pipe struct {
	session    *session
	dir        Direction
	lane       *lane
	from, to   *net.TCPConn
	more, less chan struct{} // capacity 1: something was put in, taken out

	mu    sync.Mutex
	ring  []byte // guarded by mu; grows up to the proxy's Buffer
	first int    // guarded by mu: where the oldest byte stands
	held  int    // guarded by mu
	marks []mark // guarded by mu
	gone  int    // guarded by mu: how many of marks are done
}

// mark is a piece of the stream that leaves at a time; size 0 is its end.
type mark struct {
	due  time.Duration
	size int
}

func newPipe(s *session, d Direction, from, to *net.TCPConn) *pipe {
	return &pipe{session: s, dir: d, lane: s.proxy.lanes[d], from: from, to: to, more: make(chan struct{}, 1), less: make(chan struct{}, 1)}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// put adds a piece, unless there is no room now.
func (p *pipe) put(b []byte, due time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	limit := p.session.proxy.cfg.Buffer
	if p.held+len(b) > limit || len(p.marks)-p.gone >= tcpMarks {
		return false
	}
	if need := p.held + len(b); need > len(p.ring) {
		bigger := make([]byte, min(limit, max(2*len(p.ring), need, 2*tcpPiece)))
		n := copy(bigger, p.ring[p.first:min(p.first+p.held, len(p.ring))])
		copy(bigger[n:], p.ring[:p.held-n])
		p.ring, p.first = bigger, 0
	}
	if len(b) > 0 {
		at := (p.first + p.held) % len(p.ring)
		n := copy(p.ring[at:], b)
		copy(p.ring, b[n:])
		p.held += len(b)
	}
	if p.gone > 0 && len(p.marks) == cap(p.marks) {
		p.marks = append(p.marks[:0], p.marks[p.gone:]...)
		p.gone = 0
	}
	p.marks = append(p.marks, mark{due, len(b)})
	signal(p.more)
	return true
}

// next is the oldest piece.
func (p *pipe) next() (mark, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.marks) == p.gone {
		return mark{}, false
	}
	return p.marks[p.gone], true
}

// take removes up to len(b) bytes of the oldest piece.
func (p *pipe) take(b []byte) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	oldest := &p.marks[p.gone]
	n := min(len(b), oldest.size)
	c := copy(b[:n], p.ring[p.first:])
	copy(b[c:n], p.ring)
	p.first = (p.first + n) % len(p.ring)
	p.held -= n
	if oldest.size -= n; oldest.size == 0 {
		p.gone++
	}
	signal(p.less)
	return n
}

// read takes what comes in, as fast as the line of the profile.
func (p *pipe) read() {
	s, t := p.session, p.session.proxy
	buf := make([]byte, tcpPiece)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		profile, _ := p.lane.profile()
		size := tcpPiece
		if profile.Rate > 0 { // about 10 ms of it
			size = int(min(tcpPiece, max(tcpMinPiece, profile.Rate/800)))
		}
		n, err := p.from.Read(buf[:size])
		if err != nil && !errors.Is(err, io.EOF) {
			s.cancel() // one side reset it: so is the other
			return
		}
		if n == 0 && err == nil {
			continue
		}
		due, waiting := p.lane.piece(t.now(), n)
		for !p.put(buf[:n], due) {
			select {
			case <-p.less:
			case <-s.ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
		for waiting > profile.queue() { // look again when the profile changes
			var changed <-chan struct{}
			if profile, changed = p.lane.profile(); profile.Rate == 0 {
				break
			}
			begun := t.now()
			timer.Reset(max(0, waiting-profile.queue()))
			select {
			case <-timer.C:
			case <-changed:
			case <-s.ctx.Done():
				return
			}
			waiting -= t.now() - begun
		}
	}
}

// write passes on what is due.
func (p *pipe) write() {
	s, t := p.session, p.session.proxy
	buf := make([]byte, tcpPiece)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var passed int64
	for {
		m, some := p.next()
		profile, changed := p.lane.profile()
		wait := m.due - t.now()
		switch {
		case !some:
			changed, wait = nil, time.Hour
		case profile.Blackhole:
			wait = time.Hour
		}
		if wait > 0 {
			timer.Reset(wait)
			var more <-chan struct{}
			if !some {
				more = p.more
			}
			select {
			case <-timer.C:
			case <-more:
			case <-changed:
			case <-s.ctx.Done():
				return
			}
			continue
		}
		if m.size == 0 {
			_ = p.to.CloseWrite()
			return
		}
		room := len(buf)
		if profile.CutAfter > 0 {
			room = int(min(int64(room), max(0, profile.CutAfter-passed)))
		}
		if room > 0 {
			n := p.take(buf[:room])
			if _, err := p.to.Write(buf[:n]); err != nil {
				s.cancel()
				return
			}
			passed += int64(n)
			p.lane.sent(n)
		}
		if profile.CutAfter > 0 && passed >= profile.CutAfter {
			s.reset(p.dir, DropCut)
			return
		}
	}
}
