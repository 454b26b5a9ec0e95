package link

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"

	"github.com/quic-go/quic-go"
	"golang.org/x/time/rate"

	"sidetone/shared/wire"
)

func (l *Listener) startQUIC() (err error) {
	limiter := rate.NewLimiter(rate.Limit(l.cfg.HandshakesPerSecond), l.cfg.HandshakesPerSecond)
	resetKey, tokenKey := quic.StatelessResetKey(l.cfg.ResetKey), quic.TokenGeneratorKey(l.cfg.TokenKey)
	l.tr = &quic.Transport{
		Conn:              l.socket,
		StatelessResetKey: &resetKey,
		TokenGeneratorKey: &tokenKey,
		ConnContext:       l.admit,
		VerifySourceAddress: func(remote net.Addr) bool {
			// An address that is not proved may be anybody's: it gets no more than half
			// of its share, so that nobody can fill the share of another.
			if limiter.Allow() && !l.gate.crowded(gateKey(remote)) {
				return false
			}
			l.retries.Add(1)
			return true
		},
	}
	qc := quicConfig()
	qc.MaxIncomingStreams = 1
	qc.AllowConnectionWindowIncrease = l.windows.grow
	l.ln, err = l.tr.Listen(&tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: l.tlsFor}, qc)
	return err
}

var errFull = errors.New("no room for another connection")

// admission follows a connection from its first packet to its end.
type admission struct{ shaken atomic.Bool }

type admissionKey struct{}

// admit counts a connection from its first packet to its end.
func (l *Listener) admit(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	key, t := gateKey(info.RemoteAddr), &l.quicTally
	if !t.enter(l.gate, key) {
		return nil, errFull
	}
	adm := new(admission)
	context.AfterFunc(ctx, func() {
		t.leave(l.gate, key)
		if !adm.shaken.Load() {
			t.failed.Add(1)
		}
	})
	return context.WithValue(ctx, admissionKey{}, adm), nil
}

func (l *Listener) acceptQUIC() error {
	opening := make(chan struct{}, maxOpening)
	for {
		qc, err := l.ln.Accept(l.ctx)
		if err != nil {
			return err
		}
		if adm, ok := qc.Context().Value(admissionKey{}).(*admission); ok {
			adm.shaken.Store(true)
		}
		l.windows.open(qc)
		context.AfterFunc(qc.Context(), func() { l.windows.close(qc) })
		select {
		case opening <- struct{}{}:
			l.group.Go(func() error {
				defer func() { <-opening }()
				l.openQUIC(qc)
				return nil
			})
		default:
			l.quicTally.busy.Add(1)
			_ = qc.CloseWithError(codes[CloseBusy], "too many new connections")
		}
	}
}

// openQUIC waits for the peer's stream and hands the connection to Accept.
func (l *Listener) openQUIC(qc *quic.Conn) {
	ctx, cancel := context.WithTimeout(l.ctx, openTime)
	defer cancel()
	stream, err := qc.AcceptStream(ctx)
	if err != nil {
		l.quicTally.withoutHello.Add(1)
		_ = qc.CloseWithError(codes[wire.CloseProtocol], "no stream in time")
		return
	}
	select {
	case l.readyQUIC <- newConn(&quicCarrier{Stream: stream, conn: qc}):
	case <-qc.Context().Done():
	case <-ctx.Done():
		l.quicTally.busy.Add(1)
		_ = qc.CloseWithError(codes[CloseBusy], "the collector is busy")
	}
}
