package notifytest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// Request is one request that came.
type Request struct {
	Header http.Header
	Body   []byte
	At     time.Time
}

// HTTP is a web server that takes POSTs.
type HTTP struct {
	ln      net.Listener
	server  *http.Server
	respond func(n int, r Request, w http.ResponseWriter)
	wg      sync.WaitGroup

	mu   sync.Mutex
	got  []Request     // guarded by mu
	news chan struct{} // guarded by mu
}

// ListenHTTP starts a web server on a free port. respond answers the n-th request,
// counted from 1; nil answers 204 to all.
func ListenHTTP(respond func(n int, r Request, w http.ResponseWriter)) (*HTTP, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	h := &HTTP{ln: ln, respond: respond, news: make(chan struct{})}
	h.server = &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	h.wg.Go(func() { _ = h.server.Serve(ln) }) // returns when Close is called
	return h, nil
}

// URL is the server's address.
func (h *HTTP) URL() string { return "http://" + h.ln.Addr().String() + "/hook" }

// Close ends the server and every connection.
func (h *HTTP) Close() {
	h.server.Close()
	h.wg.Wait()
}

// ServeHTTP remembers the request and answers it.
func (h *HTTP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxMail))
	if err != nil {
		return
	}
	req := Request{Header: r.Header, Body: body, At: time.Now()}
	h.mu.Lock()
	h.got = append(h.got, req)
	n := len(h.got)
	close(h.news)
	h.news = make(chan struct{})
	h.mu.Unlock()
	if h.respond == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	h.respond(n, req, w)
}

// Requests is what came so far.
func (h *HTTP) Requests() []Request {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Request(nil), h.got...)
}

// Wait returns once n requests came, or with the error of ctx.
func (h *HTTP) Wait(ctx context.Context, n int) ([]Request, error) {
	for {
		h.mu.Lock()
		got, news := append([]Request(nil), h.got...), h.news
		h.mu.Unlock()
		if len(got) >= n {
			return got, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return got, fmt.Errorf("%d requests instead of %d: %w", len(got), n, ctx.Err())
		}
	}
}
