// Package chengine runs the embedded ClickHouse engine: libchdb in a child process
// that speaks ClickHouse's HTTP interface on a unix socket.
//
// Serve is the child: it opens the library, keeps a few connections to it and
// answers requests. Supervisor is the parent's side: it starts the child, waits until
// it answers, and starts it again when it ends, so that a native crash costs a restart
// of the engine and nothing else. Nothing outside this package knows that the library
// exists: clients see a ClickHouse server. DESIGN.md has the details.
package chengine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// LibEnv names the environment variable with the path of the library.
const LibEnv = "SIDETONE_ENGINE_LIB"

const libName = "libchdb.so"

// ErrNoLib is the cause when the library is nowhere to be found.
var ErrNoLib = errors.New("the embedded engine is not installed")

// FindLib says where the library is: the explicit path when given, then the
// environment, then the usual places beside the program and in the system.
func FindLib(explicit string) (string, error) {
	if explicit == "" {
		explicit = os.Getenv(LibEnv)
	}
	if explicit != "" {
		if !isFile(explicit) {
			return "", fmt.Errorf("%w: there is no file %s; fetch it with: scripts/fetch-engine.sh %s",
				ErrNoLib, explicit, filepath.Dir(explicit))
		}
		return explicit, nil
	}
	places := usualPlaces()
	for _, p := range places {
		if isFile(p) {
			return p, nil
		}
	}
	return "", fmt.Errorf("%w: %s is in none of %s; fetch it with scripts/fetch-engine.sh DIR, name it with --engine-lib or %s, "+
		"or use a ClickHouse server with --clickhouse clickhouse://…", ErrNoLib, libName, strings.Join(places, ", "), LibEnv)
}

func usualPlaces() []string {
	var out []string
	if exe, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(exe); err == nil {
			exe = real
		}
		dir := filepath.Dir(exe)
		out = append(out,
			filepath.Join(dir, "..", "build", "engine", libName),
			filepath.Join(dir, "..", "lib", "sidetone", libName))
	}
	return append(out, filepath.Join("/usr/lib/sidetone", libName))
}

func isFile(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular()
}

// Exception is an error that the engine reported.
type Exception struct {
	Code int // ClickHouse's error code; 0 when the text names none
	Text string
}

func (e *Exception) Error() string { return e.Text }

// newException reads the code from a text such as "Code: 60. DB::Exception: …".
func newException(text string) *Exception {
	e := &Exception{Text: strings.TrimSpace(text)}
	if rest, ok := strings.CutPrefix(e.Text, "Code: "); ok {
		for _, c := range rest {
			if c < '0' || c > '9' || e.Code > 1<<20 {
				break
			}
			e.Code = e.Code*10 + int(c-'0')
		}
	}
	return e
}
