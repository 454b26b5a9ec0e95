package collectord

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"sidetone/collector/web"
)

// webHandler routes the web address: API, our own metrics and health, and the pages.
func (d *Daemon) webHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/api/", d.api.Handler())
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.registry(), promhttp.HandlerOpts{MaxRequestsInFlight: 3}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if s := d.storage(); !s.OK {
			http.Error(w, "storage: "+s.Detail, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("/", web.Handler())
	return mux
}

// webTLS is the operator's certificate, or one of the collector's own CA.
func (d *Daemon) webTLS() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: d.ca.GetWebCertificate}
	if d.cfg.WebCert == "" {
		return c, nil
	}
	cert, err := tls.LoadX509KeyPair(d.cfg.WebCert, d.cfg.WebKey)
	if err != nil {
		return nil, fmt.Errorf("web_cert and web_key: %w", err)
	}
	c.GetCertificate, c.Certificates = nil, []tls.Certificate{cert}
	return c, nil
}

// webErrors takes what net/http has to say of single connections: scanners and closed
// tabs, nothing that a person must act on.
type webErrors struct{ log zerolog.Logger }

func (w webErrors) Write(b []byte) (int, error) {
	w.log.Debug().Str("reason", strings.TrimSpace(string(b))).Msg("web connection")
	return len(b), nil
}

// runWeb serves until ctx ends, then lets requests finish; streams end at once.
func (d *Daemon) runWeb(ctx context.Context) error {
	srv := &http.Server{
		Handler:           d.webHandler(),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          log.New(webErrors{d.log}, "", 0),
		TLSConfig:         d.webTLSConfig,
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.ServeTLS(d.webListener, "", "") }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := srv.Shutdown(sctx); err != nil {
		srv.Close()
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
