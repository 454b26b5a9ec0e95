package pbxsim

import (
	"net/http"
	"strings"
)

// forbidden says why a request must never be made by a monitor, or "".
func forbidden(method, path string) string {
	if method != http.MethodGet && method != http.MethodHead {
		if method == http.MethodPost && (path == tokenPath || path == loginPath) {
			return ""
		}
		return "changes the box"
	}
	lower := strings.ToLower(path)
	for _, f := range []struct{ part, reason string }{
		{"pbx.apitoken", "hands out a secret"},
		{"pbx.getrequesthelplink", "hands out a secret"},
		{"/parameters", "hands out passwords"},
		{"/mytokens", "hands out secrets"},
		{"/securitytokens", "hands out secrets"},
		{"pbx.exporttrunk", "hands out passwords"},
		{"pbx.exportextensions", "hands out passwords"},
		{"pbx.generateprovlink", "hands out a secret"},
		{"pbx.download", "hands out content"},
		{"/contacts", "hands out personal data"},
		{"/chathistoryview", "hands out content"},
		{"/chatmessageshistoryview", "hands out content"},
		{"pbx.init", "changes the box"},
		{"pbx.startcheck", "stops services"},
		{"pbx.runanalysis", "works on live traffic"},
		{"pbx.refreshregistration", "changes the box"},
		{"restartoperatingsystem", "changes the box"},
		{"garbagecollect", "loads the box"},
		{"purge", "changes the box"},
		{"dropcall", "drops a call"},
		{"installupdates", "changes the box"},
		{"pbx.backup", "changes the box"},
		{"/activitylog", "hands out SIP traces"},
	} {
		if strings.Contains(lower, f.part) {
			return f.reason
		}
	}
	return ""
}
