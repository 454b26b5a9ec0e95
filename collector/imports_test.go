// Package collector_test holds the import rules of this module.
package collector_test

import (
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// pkg is what the test needs of `go list -json`.
type pkg struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
}

func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,TestImports,XTestImports,Deps"}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var pkgs []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

func under(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

// siblings lists the arrows between parts (internal/x to internal/y) that are
// allowed. Everything else between siblings is forbidden; a child may import its
// parent. A new arrow gets its reason here, in the same commit.
var siblings = map[string][]string{
	"batch":     {"telemetrydb", "ingest"}, // inserts the blocks; is the sink that ingest declares
	"ingest":    {},
	"incident":  {"alert"},
	"notify":    {"incident", "outbound"},
	"authn":     {"outbound"},
	"live":      {"alert"},
	"api":       {"inventory", "authn", "fleet", "live", "incident", "alert", "telemetrydb", "enrolment"}, // renders their types
	"controldb": {"inventory", "enrolment", "authn", "alert", "incident", "notify"},                       // stores their records
	"loadgen":   {},                                                                                       // agents: what it knows of a collector comes over the link, or from its command line
	"config":    {"notify", "outbound", "telemetrydb"},                                                    // each part owns its section's type and Validate
}

// anyone may be imported by every part.
var anyone = []string{
	"authz",    // who may see what is an argument everywhere
	"throttle", // a leaf: token buckets in a bounded table, against guessing
}

// everything is the one package that knows every other.
const everything = "collectord"

// only lists third-party code that stays in one place.
var only = map[string][]string{
	"github.com/ClickHouse/clickhouse-go": {"internal/telemetrydb"},
	"github.com/ebitengine/purego":        {"internal/chengine"},
	"github.com/pion/stun":                {"internal/reflector"}, // answers STUN on the reflector's port
	"github.com/quic-go/quic-go":          {},
	"github.com/fxamacker/cbor":           {},
	"modernc.org/sqlite":                  {"internal/controldb/sqlite"},
	"github.com/wneessen/go-mail":         {"internal/notify/smtp"},
	"sidetone/agent":                      {},
}

// shipped must not contain what only tests need.
var shipped = map[string][]string{
	"sidetone/collector/cmd/sidetone-collector": {"testing", "sidetone/shared/impair", "sidetone/shared/faultfs", "sidetone/collector/internal/loadgen"},
}

const module = "sidetone/collector"

func TestImports(t *testing.T) {
	for _, p := range list(t, "./...") {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		for _, imp := range p.Imports {
			checkSibling(t, name, strings.TrimPrefix(imp, module+"/"), imp)
			for lib, places := range only {
				if under(imp, lib) && !slices.Contains(places, name) {
					t.Errorf("%s imports %s, which stays in %v", name, imp, places)
				}
			}
		}
		for _, bad := range shipped[p.ImportPath] {
			if slices.Contains(p.Deps, bad) {
				t.Errorf("%s is shipped with %s in it", p.ImportPath, bad)
			}
		}
	}
}

// part is the second element of internal/part/…, or "".
func part(name string) string {
	rest, ok := strings.CutPrefix(name, "internal/")
	if !ok {
		return ""
	}
	p, _, _ := strings.Cut(rest, "/")
	return p
}

func checkSibling(t *testing.T, from, to, imp string) {
	a, b := part(from), part(to)
	if !strings.HasPrefix(imp, module) || a == "" || b == "" || a == everything {
		return
	}
	if a == b {
		if from != to && under(to, from) && to != from {
			t.Errorf("%s imports its child %s: children import their parent, never the reverse", from, to)
		}
		return
	}
	if !slices.Contains(siblings[a], b) && !slices.Contains(anyone, b) {
		t.Errorf("%s imports its sibling %s: not an arrow of the table", from, to)
	}
}
