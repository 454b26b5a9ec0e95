package pbxsim_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"sidetone/agent/internal/pbxsim"
)

// vendorFile finds the vendor's description of the API, which is not ours to ship.
func vendorFile(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Skip("no workspace root: nowhere to look for the vendor's OpenAPI file")
		}
		dir = filepath.Dir(dir)
	}
	for _, base := range []string{os.Getenv("SIDETONE_3CX_DIR"), filepath.Join(dir, "..", "shared", "3cx")} {
		if found, _ := filepath.Glob(filepath.Join(base, "xapi-v20*.openapi.yaml")); base != "" && len(found) > 0 {
			return found[0]
		}
	}
	t.Skip("the vendor's OpenAPI file is not beside the repository (set SIDETONE_3CX_DIR)")
	return ""
}

// The simulator's answers, whole and reduced by options, hold against the vendor's
// own description.
func TestAnswersFollowTheVendorsDescription(t *testing.T) {
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromFile(vendorFile(t))
	if err != nil {
		t.Fatalf("load the vendor's file: %v", err)
	}
	sim := newSim(t, pbxsim.Options{})
	for _, a := range []pbxsim.Action{
		{Name: "trunk_drop", Target: "10001"}, {Name: "service_stop", Target: "3CXIVR01"}, {Name: "sbc_drop", Target: "SBC81aa"},
		{Name: "calls", Value: "9"}, {Name: "events_add", Value: "40"},
	} {
		if err := sim.Do(a); err != nil {
			t.Fatal(err)
		}
	}
	access := signIn(t, sim)
	for _, path := range []string{
		"/SystemStatus", "/SystemStatus/Pbx.SystemExtensions()", "/ActiveCalls", "/Trunks", "/Sbcs", "/Services",
		"/LicenseStatus", "/Backups", "/Backups/Pbx.GetBackupSettings()", "/Backups/Pbx.GetBackupRepositorySettings()",
		"/EventLogs", "/Users",
	} {
		t.Run(strings.Trim(path, "/"), func(t *testing.T) {
			item := doc.Paths.Value(path)
			if item == nil || item.Get == nil {
				t.Fatal("the vendor does not describe it")
			}
			media := item.Get.Responses.Status(http.StatusOK).Value.Content.Get("application/json")
			if media == nil || media.Schema == nil {
				t.Fatal("the vendor describes no answer")
			}
			status, body := get(t, sim, access, "/xapi/v1"+path)
			if status != http.StatusOK {
				t.Fatalf("status %d: %s", status, body)
			}
			var v any
			if err := json.Unmarshal(body, &v); err != nil {
				t.Fatal(err)
			}
			if err := media.Schema.Value.VisitJSON(v, openapi3.MultiErrors(), openapi3.EnableFormatValidation()); err != nil {
				t.Errorf("%v", err)
			}
			unknown(t, path, v, media.Schema.Value)
		})
	}
}

// unknown reports fields that the vendor's schema does not have: a typing error in
// the simulator would otherwise pass as an extra field.
func unknown(t *testing.T, at string, v any, s *openapi3.Schema) {
	t.Helper()
	switch x := v.(type) {
	case map[string]any:
		for k, sub := range x {
			if strings.HasPrefix(k, "@") {
				continue
			}
			p := property(s, k)
			if p == nil {
				t.Errorf("%s has a field %s that the vendor does not know", at, k)
				continue
			}
			unknown(t, at+"."+k, sub, p)
		}
	case []any:
		for _, sub := range x {
			if items := itemsOf(s); items != nil {
				unknown(t, at+"[]", sub, items)
			}
		}
	}
}

func property(s *openapi3.Schema, name string) *openapi3.Schema {
	if p, ok := s.Properties[name]; ok {
		return p.Value
	}
	for _, part := range s.AllOf {
		if p := property(part.Value, name); p != nil {
			return p
		}
	}
	return nil
}

func itemsOf(s *openapi3.Schema) *openapi3.Schema {
	if s.Items != nil {
		return s.Items.Value
	}
	for _, part := range s.AllOf {
		if i := itemsOf(part.Value); i != nil {
			return i
		}
	}
	return nil
}
