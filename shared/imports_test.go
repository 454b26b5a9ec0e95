// Package shared_test holds the import rules of this module.
package shared_test

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

// may lists, for each package of this module, which others of it may be imported.
// A new arrow gets its reason here, in the same commit.
var may = map[string][]string{
	"backoff":       {},
	"buildinfo":     {},
	"certid":        {"telemetry"}, // tenant and agent ids
	"emodel":        {},
	"fault":         {},
	"impair":        {},
	"cmd/impair":    {"impair", "buildinfo"},
	"link":          {"wire", "certid", "backoff"},
	"link/linktest": {"certid", "link", "wire", "telemetry"}, // certificates and a far end for tests
	"pathstats":     {"telemetry"},
	"stamp":         {},
	"svc":           {},
	"telemetry":     {"fault"},
	"wire":          {"telemetry", "pathstats"}, // what follows from the RTTs of a window is not sent
}

// only lists third-party code that stays in one place.
var only = map[string][]string{
	"github.com/quic-go/quic-go":    {"link"},
	"github.com/klauspost/compress": {"wire"},
	"github.com/fxamacker/cbor/v2":  {"wire"},
	"github.com/pion/stun":          {},
	"github.com/dgraph-io/badger":   {},
	"github.com/ClickHouse":         {},
	"github.com/ebitengine/purego":  {},
	"sidetone/agent":                {},
	"sidetone/collector":            {},
}

const module = "sidetone/shared"

func TestImports(t *testing.T) {
	for _, p := range list(t, "./...") {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		allowed, known := may[name]
		if !known && name != "" {
			t.Errorf("%s is not in the table of this test: say what it may import", name)
		}
		for _, imp := range p.Imports {
			if in, ok := strings.CutPrefix(imp, module+"/"); ok && !slices.Contains(allowed, in) {
				t.Errorf("%s imports %s: not an arrow of the table", name, in)
			}
			for lib, places := range only {
				if under(imp, lib) && !slices.Contains(places, name) {
					t.Errorf("%s imports %s, which stays in %v", name, imp, places)
				}
			}
		}
	}
}
