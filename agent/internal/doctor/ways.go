package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"sidetone/shared/link"
	"sidetone/shared/wire"
)

const (
	dialTimeout = 15 * time.Second
	// verdictTime is how long the collector has to refuse a certificate after the
	// handshake: with TLS 1.3 the client learns it only then.
	verdictTime = time.Second
)

// checkCollector tries each way to the collector, all at once: QUIC, which the agent
// likes best, TCP, and the proxy if there is one. As long as one works, the others that
// do not are no more than a warning.
func checkCollector(ctx context.Context, addr string, tlsOf func() *tls.Config, proxy *url.URL) []Finding {
	ways := []link.DialConfig{{Transport: link.TransportQUIC}, {Transport: link.TransportTCP}}
	if proxy != nil {
		ways = append(ways, link.DialConfig{Transport: link.TransportProxy, Proxy: proxy})
	}
	list := make([]Finding, len(ways))
	var wg sync.WaitGroup
	for i, w := range ways {
		w.Addr, w.TLS, w.Log = addr, tlsOf(), zerolog.Nop()
		wg.Go(func() { list[i] = checkWay(ctx, w) })
	}
	wg.Wait()
	works := ""
	for i, f := range list {
		if f.Verdict == OK && works == "" {
			works = wayName(ways[i])
		}
	}
	for i := range list {
		if f := &list[i]; f.Verdict == Fail && works != "" {
			f.Verdict = Warn
			f.Detail += "; the agent uses " + works
		}
	}
	return list
}

func wayName(w link.DialConfig) string {
	switch w.Transport {
	case link.TransportQUIC:
		return "QUIC (UDP)"
	case link.TransportTCP:
		return "TCP"
	}
	return "the proxy " + w.Proxy.Host
}

// checkWay connects, waits whether the collector refuses the certificate, and leaves.
func checkWay(ctx context.Context, w link.DialConfig) Finding {
	f := Finding{Check: "collector over " + wayName(w), Verdict: OK}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	start := time.Now()
	conn, err := link.Dial(ctx, w)
	if err == nil {
		took := time.Since(start)
		rctx, stop := context.WithTimeout(ctx, verdictTime)
		_, rerr := conn.Recv(rctx) // it waits for our hello and says nothing, unless it refuses
		stop()
		var refused *link.DialError
		var closed *link.ClosedError
		if errors.As(rerr, &refused) || errors.As(rerr, &closed) {
			err = rerr
		}
		_ = conn.CloseWith(wire.CloseShutdown, "doctor") // it may be closed already
		f.Detail = fmt.Sprintf("%s answers in %s, and its certificate is the right one", w.Addr, took.Round(time.Millisecond))
	}
	if err == nil {
		return f
	}
	f.Verdict, f.Detail = Fail, err.Error()
	f.Advice = "Allow outbound UDP and TCP to " + w.Addr + ", and look at the collector's log."
	var d *link.DialError
	if errors.As(err, &d) && d.Advice != "" {
		f.Advice = d.Advice
		if d.Cause != nil { // the advice has a line of its own
			f.Detail = d.Kind + ": " + d.Cause.Error()
		}
	}
	return f
}
