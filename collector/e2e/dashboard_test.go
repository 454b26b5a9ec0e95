//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Every query of the Grafana dashboards runs on the real tables and gives rows.
func TestGrafanaDashboards(t *testing.T) {
	t.Parallel()
	s := newSite(t, "")
	s.startAgent("")
	eventually(t, 60*time.Second, "windows, PBX status and trunks", func() bool {
		return s.count("SELECT count() FROM sidetone.probe_window") > 0 && s.count("SELECT count() FROM sidetone.pbx_status") > 0 &&
			s.count("SELECT count() FROM sidetone.trunk_state") > 0
	})
	files, err := filepath.Glob(filepath.Join(root, "deploy", "grafana", "dashboards", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards (%v)", err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			Title  string
			Panels []struct {
				Title   string
				Targets []struct{ RawSQL string }
			}
			Templating struct {
				List []struct{ Name, Query string }
			}
		}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		for _, v := range d.Templating.List {
			t.Run(d.Title+"/variable "+v.Name, func(t *testing.T) { s.dashboardQuery(t, v.Query, true) })
		}
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				// a fault-free site has no incidents and no gaps to list
				mayBeEmpty := strings.Contains(p.Title, "ncident") || strings.Contains(p.Title, "Gap") || strings.Contains(p.Title, "change")
				t.Run(d.Title+"/"+p.Title, func(t *testing.T) { s.dashboardQuery(t, q.RawSQL, !mayBeEmpty) })
			}
		}
	}
}

// dashboardQuery puts values where Grafana would and runs the query.
func (s *site) dashboardQuery(t *testing.T, query string, wantRows bool) {
	t.Helper()
	if query == "" {
		t.Fatal("empty query")
	}
	query = strings.NewReplacer(
		"$__fromTime", "(now() - 3600)", "$__toTime", "now()", "$__interval_s", "10",
		"${site:sqlstring}", "'Test site'", "${customer:sqlstring}", "'Test customer'",
	).Replace(query)
	if strings.Contains(query, "$") {
		t.Fatalf("a macro that this test does not know: %s", query)
	}
	rows, err := sqlIn(t, s.collectorData(), query)
	if err != nil {
		t.Fatal(err)
	}
	if wantRows && len(rows) == 0 {
		t.Errorf("no rows: %s", query)
	}
}
