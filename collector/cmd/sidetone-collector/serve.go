package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"sidetone/collector/internal/chengine"
	"sidetone/collector/internal/collectord"
	"sidetone/collector/internal/config"
)

type serveCmd struct {
	storeFlags
	addrFlags
	Web       string `help:"Address of the pages and the API, TCP with TLS (default :443)." env:"SIDETONE_WEB" placeholder:"ADDR"`
	Reflector string `help:"Where STAMP (RFC 8762) and STUN are answered, UDP (default :862)." env:"SIDETONE_REFLECTOR" placeholder:"ADDR"`
	ReadyFile string `help:"Written when everything serves: JSON with the real addresses." env:"SIDETONE_READY_FILE" placeholder:"FILE"`
	LogLevel  string `help:"debug, info, warn or error (default info)." env:"SIDETONE_LOG_LEVEL" placeholder:"LEVEL"`
	LogFormat string `help:"text or json (default text)." env:"SIDETONE_LOG_FORMAT" placeholder:"FORMAT"`
}

// gcPercent: most of what a collector holds are its connections, which live long. With
// Go's 100 the garbage would take as much memory again.
const gcPercent = 50

func (s *serveCmd) Run() error {
	c, err := load(s.storeFlags, s.addrFlags, func(c *config.Config) {
		over(&c.Web, s.Web)
		over(&c.Reflector, s.Reflector)
		over(&c.Log.Level, s.LogLevel)
		over(&c.Log.Format, s.LogFormat)
	})
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	d, err := collectord.Open(ctx, c, collectord.Options{
		Exe: exe, ReadyFile: s.ReadyFile, Log: logger(c.Log), Out: os.Stdout,
	})
	if err != nil {
		return err
	}
	return d.Run(ctx)
}

// logger writes to standard error, for people or as JSON.
func logger(l config.Log) zerolog.Logger {
	level, err := zerolog.ParseLevel(l.Level)
	if err != nil {
		level = zerolog.InfoLevel
	}
	if l.Format == "json" {
		return zerolog.New(os.Stderr).Level(level).With().Timestamp().Logger()
	}
	w := zerolog.ConsoleWriter{Out: os.Stderr, TimeFormat: time.RFC3339, NoColor: os.Getenv("NO_COLOR") != "" || !terminal(os.Stderr)}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}

func terminal(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

type engineCmd struct {
	Lib     string `required:"" help:"Path of libchdb.so."`
	DataDir string `required:"" help:"The engine's data."`
	Socket  string `required:"" help:"Unix socket to serve ClickHouse's HTTP interface on."`
}

func (e *engineCmd) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := zerolog.New(os.Stderr).With().Timestamp().Logger()
	return chengine.Serve(ctx, chengine.ServeConfig{Lib: e.Lib, DataDir: e.DataDir, Socket: e.Socket, Log: log})
}
