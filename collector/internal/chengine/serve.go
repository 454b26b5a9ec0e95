package chengine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// ServeConfig says what the child process serves.
type ServeConfig struct {
	Lib     string // path of libchdb.so
	DataDir string // the engine's directory; made when missing
	Socket  string // path of the unix socket
	Log     zerolog.Logger

	// Queries and Inserts are how many statements of each kind run at once; 0 means
	// the default.
	Queries, Inserts int
}

const (
	defaultQueries = 4
	defaultInserts = 1 // one insert keeps two cores busy
	stopPatience   = 15 * time.Second
	lockPatience   = 10 * time.Second // a predecessor may still be closing
)

// ParentEnv is set by Supervisor: the child then ends when its standard input does,
// which is when the parent is gone.
const ParentEnv = "SIDETONE_ENGINE_PARENT"

// ErrInUse is the cause when another process uses the directory.
var ErrInUse = errors.New("another process uses the engine's directory")

// Serve runs the engine until ctx ends, or until the parent does when a Supervisor
// started this process. Running statements get some time to finish. Call it once in a
// process, and nothing else that uses signals' handlers of C beside it.
func Serve(ctx context.Context, cfg ServeConfig) error {
	if cfg.Queries == 0 {
		cfg.Queries = defaultQueries
	}
	if cfg.Inserts == 0 {
		cfg.Inserts = defaultInserts
	}
	if os.Getenv(ParentEnv) != "" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		go func() { // ends with the process: reading standard input cannot be broken off
			io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("make the engine's directory: %w", err)
	}
	unlock, err := lockDir(ctx, cfg.DataDir, lockPatience)
	if err != nil {
		return err
	}
	defer unlock()
	lib, err := openLibrary(cfg.Lib)
	if err != nil {
		return err
	}
	open := func() (*conn, error) { return lib.open(filepath.Clean(cfg.DataDir)) }
	keep, err := open() // the last connection to close shuts the engine down
	if err != nil {
		return err
	}
	defer keep.close()
	h, err := newHandler(cfg, keep, open)
	if err != nil {
		return err
	}
	defer h.queries.close()
	defer h.inserts.close()
	return serveHTTP(ctx, cfg, h)
}

func newHandler(cfg ServeConfig, c *conn, open func() (*conn, error)) (*handler, error) {
	h := &handler{log: cfg.Log}
	err := c.query("SELECT version(), timezone()", "TSV", nil, func(b []byte) error {
		h.version, h.zone, _ = strings.Cut(strings.TrimSpace(string(b)), "\t")
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("first statement of the engine: %w", err)
	}
	if h.queries, err = newPool(cfg.Queries, open); err != nil {
		return nil, err
	}
	if h.inserts, err = newPool(cfg.Inserts, open); err != nil {
		h.queries.close()
		return nil, err
	}
	return h, nil
}

func serveHTTP(ctx context.Context, cfg ServeConfig, h *handler) error {
	if err := os.Remove(cfg.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the old socket: %w", err) // the lock says that nobody listens
	}
	ln, err := listenOwner(ctx, cfg.Socket)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", cfg.Socket, err)
	}
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxStatementBytes + 64<<10, // an insert's statement is in the address
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	cfg.Log.Info().Str("version", h.version).Str("path", cfg.DataDir).Str("addr", cfg.Socket).Msg("engine serves")
	select {
	case err := <-done:
		return fmt.Errorf("engine on %s: %w", cfg.Socket, err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	if err := srv.Shutdown(stop); err != nil {
		srv.Close()
		<-done
		// closing a connection under a running statement would crash: leave it to the exit
		return fmt.Errorf("stop the engine: statements still ran after %s: %w", stopPatience, err)
	}
	<-done
	cfg.Log.Info().Msg("engine stopped")
	return nil
}

// listenOwner makes a socket that only this user may open, from the first instant on.
func listenOwner(ctx context.Context, path string) (net.Listener, error) {
	restore := narrowUmask()
	defer restore()
	return new(net.ListenConfig).Listen(ctx, "unix", path)
}
