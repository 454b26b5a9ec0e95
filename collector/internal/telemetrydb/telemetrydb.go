// Package telemetrydb keeps what was observed in ClickHouse: tables, migrations, the
// blocks of an insert, and queries that see only the tenants of a Scope.
//
// The engine may be the embedded one or a server; both are reached through
// clickhouse-go, and the same migrations and queries run on both. Every insert is one
// immutable block under a token that belongs to exactly its rows, so an insert with an
// unknown outcome is simply sent again. See DESIGN.md.
package telemetrydb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Database is the name of the database, with either engine.
const Database = "sidetone"

// Config says where the engine is: exactly one of Socket and DSN.
type Config struct {
	// Socket is the unix socket of the embedded engine.
	Socket string
	// DSN names one or more servers: clickhouse://user:password@host1:9000,host2:9000.
	// The database in it, if any, is only where the connection starts.
	DSN string
	// MaxConns bounds the connections; 0 means the default.
	MaxConns int
}

const (
	defaultMaxConns = 8
	dialTimeout     = 5 * time.Second
	readTimeout     = 90 * time.Second // above the engine's own limit of a statement
)

// DB is a connection to the engine. It is safe for concurrent use.
type DB struct {
	conn driver.Conn
	http bool // the embedded engine: settings travel in addresses

	buffers sync.Pool // of *[]byte: encoded blocks

	mu      sync.Mutex
	version *driver.ServerVersion // guarded by mu; nil until the engine answered
}

// Open prepares the connection; it does not wait for the engine.
func Open(_ context.Context, cfg Config) (*DB, error) {
	opt, err := cfg.options()
	if err != nil {
		return nil, err
	}
	if opt.MaxOpenConns = cfg.MaxConns; opt.MaxOpenConns == 0 {
		opt.MaxOpenConns = defaultMaxConns
	}
	opt.MaxIdleConns = opt.MaxOpenConns
	opt.DialTimeout = dialTimeout
	opt.ReadTimeout = readTimeout
	conn, err := clickhouse.Open(opt)
	if err != nil {
		return nil, fmt.Errorf("open ClickHouse: %w", err)
	}
	return &DB{conn: conn, http: opt.Protocol == clickhouse.HTTP}, nil
}

func (c Config) options() (*clickhouse.Options, error) {
	switch {
	case (c.Socket == "") == (c.DSN == ""):
		return nil, errors.New("open ClickHouse: give either the embedded engine's socket or a DSN")
	case c.DSN != "":
		opt, err := clickhouse.ParseDSN(c.DSN)
		if err != nil {
			return nil, fmt.Errorf("ClickHouse DSN: %w", err)
		}
		if opt.Compression == nil && opt.Protocol == clickhouse.Native {
			opt.Compression = &clickhouse.Compression{Method: clickhouse.CompressionLZ4}
		}
		// Every statement names its database. One in the DSN would be asked for at the
		// handshake, before the first migration has made it.
		opt.Auth.Database = ""
		return opt, nil
	}
	return &clickhouse.Options{
		Protocol: clickhouse.HTTP,
		Addr:     []string{"engine"},
		DialContext: func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", c.Socket)
		},
		TransportFunc: func(t *http.Transport) (http.RoundTripper, error) {
			t.Proxy = nil // the environment's proxy is for the world outside
			return t, nil
		},
	}, nil
}

// Close ends the connections.
func (db *DB) Close() error { return db.conn.Close() }

// Ping asks the engine for a sign of life.
func (db *DB) Ping(ctx context.Context) error {
	if err := db.conn.Ping(ctx); err != nil {
		return fmt.Errorf("ping ClickHouse: %w", cause(err))
	}
	return nil
}

// atLeast reports whether the engine is of this version or newer.
func (db *DB) atLeast(ctx context.Context, major, minor uint64) (bool, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.version == nil {
		v, err := db.conn.ServerVersion()
		if err != nil {
			return false, fmt.Errorf("version of ClickHouse: %w", cause(err))
		}
		db.version = v
	}
	v := db.version.Version
	return v.Major > major || v.Major == major && v.Minor >= minor, ctx.Err()
}

// code is ClickHouse's number of the error, or 0 when it did not come from there.
func code(err error) int32 {
	var ex *clickhouse.Exception
	if errors.As(err, &ex) {
		return ex.Code
	}
	return 0
}

// cause drops what the HTTP client puts around an error: the address holds the whole
// statement and all settings, which hide what happened.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
