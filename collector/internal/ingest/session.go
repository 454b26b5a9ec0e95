package ingest

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"sidetone/shared/certid"
	"sidetone/shared/link"
	"sidetone/shared/wire"
)

// session is one connection of one agent, from hello to close.
type session struct {
	srv    *Server
	conn   *link.Conn
	id     certid.ID
	src    Source
	hello  wire.Hello
	log    zerolog.Logger
	renews *rate.Limiter
	quota  *quota

	done      chan struct{} // closed when the session has ended
	closeOnce sync.Once
	closing   chan struct{} // closed when close has begun
	code      string        // set before closing is closed
	reason    string

	strikes   int       // of the reader
	quotaTold time.Time // of the reader: when the log was last told of the quota

	answers answers
	open    atomic.Int64 // frames without an answer
}

func newSession(s *Server, conn *link.Conn, id certid.ID, src Source, hello wire.Hello) *session {
	return &session{
		srv: s, conn: conn, id: id, src: src, hello: hello,
		log: s.log.With().Uint32("tenant", uint32(src.Tenant)).Uint32("site", uint32(src.Site)).
			Uint32("agent", uint32(src.Agent)).Str("addr", conn.RemoteAddr().String()).Logger(),
		quota:   s.quotas.of(src.Agent, time.Now()),
		renews:  rate.NewLimiter(rate.Every(renewEvery), renewBurst),
		done:    make(chan struct{}),
		closing: make(chan struct{}),
		answers: answers{wake: make(chan struct{}, 1)},
	}
}

// close makes the session end with this code; the first call counts. It does not
// wait.
func (s *session) close(code, reason string) {
	s.closeOnce.Do(func() {
		s.code, s.reason = code, reason
		close(s.closing)
	})
}

// run serves the session to its end.
func (s *session) run(ctx context.Context) {
	defer close(s.done)
	if !s.srv.enter(ctx, s) {
		s.log.Warn().Int("count", s.srv.cfg.MaxConnsPerTenant).Msg("agent turned away: its tenant has too many connections")
		_ = s.conn.CloseWith(link.CloseBusy, "the tenant has as many connections as it may")
		return
	}
	defer s.srv.leave(s)
	s.srv.count.accepted.Add(1)
	live := s.srv.count.liveOver(s.conn.Transport())
	live.Add(1)
	defer live.Add(-1)

	info := ConnInfo{
		Transport: s.conn.Transport(), Remote: s.conn.RemoteAddr().String(), Since: time.Now(),
		CertExpires: s.conn.PeerCert().NotAfter, Hello: s.hello,
		ClockOffset: time.Duration(s.hello.NowMS-time.Now().UnixMilli()) * time.Millisecond,
	}
	if p := s.srv.deps.Presence; p != nil {
		p.Connected(s.src, info)
		defer func() { p.Disconnected(s.src, s.reason) }()
	}
	s.log.Info().Str("version", s.hello.Version).Uint64("epoch", s.hello.Epoch).Uint64("seq", s.hello.NextSeq).Msg("agent connected")
	defer func() { s.log.Info().Str("reason", s.reason).Msg("agent disconnected") }()

	// TLS looks at the time of a certificate only in the handshake.
	expiry := time.AfterFunc(time.Until(info.CertExpires), func() {
		s.close(wire.CloseExpired, "the certificate of the connection has ended, connect with the renewed one")
	})
	defer expiry.Stop()

	var parts sync.WaitGroup
	rctx, stop := context.WithCancel(ctx)
	wctx, stopWriter := context.WithCancel(s.conn.Context())
	defer stopWriter()
	parts.Go(func() { s.read(rctx) })
	parts.Go(func() { s.write(wctx) })
	select {
	case <-s.closing:
	case <-ctx.Done():
		s.close(wire.CloseShutdown, "the collector stops")
	}
	stop() // no more frames; the writer sends what is due and ends
	late := time.AfterFunc(lastTime, stopWriter)
	parts.Wait()
	late.Stop()
	_ = s.conn.CloseWith(s.code, s.reason)
}

// read takes messages until the connection ends, and then closes the session.
func (s *session) read(ctx context.Context) {
	if err := s.conn.Send(ctx, s.srv.welcome(s.conn)); err != nil {
		s.close(wire.CloseProtocol, err.Error())
		return
	}
	for {
		msg, err := s.conn.Recv(ctx)
		var mal *wire.MalformedError
		switch {
		case errors.As(err, &mal):
			s.strike(mal)
			if mal.Fatal {
				s.close(wire.CloseProtocol, mal.Error())
			}
		case ctx.Err() != nil:
			return // run has its own reason
		case err != nil:
			s.close(wire.CloseProtocol, err.Error())
		default:
			s.handle(ctx, msg)
		}
		select {
		case <-s.closing:
			return
		default:
		}
	}
}

func (s *session) handle(ctx context.Context, msg any) {
	switch m := msg.(type) {
	case *wire.Frame:
		s.frame(m)
	case bundle:
		s.bundle(m)
	case *wire.Ping:
		s.answers.ping(*m)
	case *wire.RenewRequest:
		s.renew(ctx, m)
	default:
		s.strike(fmt.Errorf("a %T, which agents do not send here", msg))
	}
}

// bundle is a message that holds frames, each with its own position.
type bundle interface{ Frames() ([]wire.Frame, error) }

// bundle handles the frames of a bundle as if each had come by itself.
func (s *session) bundle(b bundle) {
	frames, err := b.Frames()
	s.srv.count.bundles.Add(1)
	for i := range frames {
		select {
		case <-s.closing: // one of them ended the session
			return
		default:
		}
		s.frame(&frames[i])
	}
	if err != nil {
		s.strike(fmt.Errorf("bundle of %d frames: %w", len(frames), err))
	}
}

// strike counts a message that cannot be used; the third ends the session.
func (s *session) strike(err error) {
	s.srv.count.malformed.Add(1)
	s.strikes++
	s.log.Warn().Err(err).Int("strike", s.strikes).Msg("malformed message from agent")
	if s.strikes >= maxStrikes {
		s.close(wire.CloseProtocol, fmt.Sprintf("%d malformed messages, the last: %v", s.strikes, err))
	}
}

// quotaTellEvery bounds what one agent makes the log say.
const quotaTellEvery = time.Minute

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (s *session) frame(f *wire.Frame) {
	c := &s.srv.count
	c.frames.Add(1)
	c.bytes.Add(uint64(len(f.Payload)))
	if s.open.Add(1) > int64(s.srv.cfg.Window) {
		c.overWindow.Add(1)
		s.close(wire.CloseProtocol, fmt.Sprintf("more than %d frames without an answer", s.srv.cfg.Window))
		return
	}
	at := position{f.Epoch, f.Seq}
	if retry, ok := s.quota.take(len(f.Payload), time.Now()); !ok {
		c.overQuota.Add(1)
		c.deferred.Add(1)
		if time.Since(s.quotaTold) > quotaTellEvery {
			s.quotaTold = time.Now()
			s.log.Warn().Uint64("epoch", f.Epoch).Uint64("seq", f.Seq).Int64("dur_ms", retry.Milliseconds()).Msg("agent is over its quota: frames deferred")
		}
		s.answers.postpone(at, retry)
		return
	}
	if crc32.Checksum(f.Payload, castagnoli) != f.CRC {
		c.rejectedChecksum.Add(1)
		s.answers.reject(at, rejectChecksum)
		s.strike(fmt.Errorf("frame %d/%d: wrong checksum", f.Epoch, f.Seq))
		return
	}
	rows, err := f.Rows()
	var newer *wire.SchemaError
	if errors.As(err, &newer) {
		c.newerSchema.Add(1)
		c.deferred.Add(1)
		s.log.Warn().Err(err).Uint64("epoch", f.Epoch).Uint64("seq", f.Seq).Msg("frame deferred")
		s.answers.postpone(at, schemaRetry)
		return
	}
	if err != nil {
		c.rejectedMalformed.Add(1)
		s.answers.reject(at, rejectMalformed+": "+err.Error())
		s.strike(fmt.Errorf("frame %d/%d: %w", f.Epoch, f.Seq, err))
		return
	}
	d := &Delivery{
		Source: s.src, Epoch: f.Epoch, Seq: f.Seq, Class: f.Class,
		Age:        time.Duration(min(f.AgeMS, uint64(maxAge.Milliseconds()))) * time.Millisecond,
		ReceivedAt: time.Now(), Rows: rows, Bytes: len(f.Payload),
	}
	var once atomic.Bool
	d.Done = func(err error) {
		if once.CompareAndSwap(false, true) {
			s.answer(at, err)
		}
	}
	for _, o := range s.srv.deps.Observers {
		o.Delivered(d)
	}
	if !s.srv.deps.Sink.Offer(d) {
		d.Done(ErrDefer)
	}
}

// answer notes what became of a frame. It runs on any goroutine, also after the end.
func (s *session) answer(at position, err error) {
	c := &s.srv.count
	var reject *RejectError
	switch {
	case err == nil:
		c.acked.Add(1)
		s.answers.ack(at)
	case errors.As(err, &reject):
		c.rejectedStorage.Add(1)
		s.answers.reject(at, rejectSink+": "+reject.Reason)
	default:
		c.deferred.Add(1)
		s.answers.postpone(at, s.srv.cfg.Retry)
	}
}

func (s *session) renew(ctx context.Context, m *wire.RenewRequest) {
	var resp wire.RenewResponse
	if s.renews.Allow() {
		rctx, cancel := context.WithTimeout(ctx, renewTime)
		chain, generation, err := s.srv.deps.Agents.Renew(rctx, s.id, m.CSR)
		cancel()
		switch {
		case errors.Is(err, ErrRevoked), errors.Is(err, ErrUnknown), errors.Is(err, ErrStaleGeneration):
			s.close(wire.CloseRevoked, err.Error())
			return
		case err != nil:
			s.log.Warn().Err(err).Msg("certificate not renewed")
			resp.Error = err.Error()
		default:
			s.srv.count.renewals.Add(1)
			resp.Chain, resp.Generation = chain, generation
		}
	} else {
		resp.Error = "too many renewals, wait a minute"
	}
	if err := s.conn.Send(ctx, resp); err != nil {
		s.close(wire.CloseProtocol, err.Error())
	}
}

func (s *session) drain(d wire.Drain) { s.answers.leave(d) }

// write sends the answers, gathered for a moment, until the session closes; then
// it sends the last ones.
func (s *session) write(ctx context.Context) {
	pause := time.NewTimer(0)
	if !pause.Stop() {
		<-pause.C
	}
	for {
		select {
		case <-s.answers.wake:
		case <-s.closing:
			s.flush(ctx)
			return
		}
		pause.Reset(ackEvery)
		select {
		case <-pause.C:
		case <-s.closing:
			pause.Stop()
			s.flush(ctx)
			return
		}
		if !s.flush(ctx) {
			return
		}
	}
}

// flush sends the answers that are due.
func (s *session) flush(ctx context.Context) bool {
	msgs, n := s.answers.take()
	// Before sending: the agent may send as many frames as it has answers.
	s.open.Add(-int64(n))
	for _, m := range msgs {
		if err := s.conn.Send(ctx, m); err != nil {
			s.close(wire.CloseProtocol, err.Error())
			return false
		}
	}
	return true
}
