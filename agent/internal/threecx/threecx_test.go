package threecx_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"sidetone/agent/internal/threecx"
	"sidetone/shared/telemetry"
)

// denied is what must never be asked for, whatever the reason: each pattern is held
// against every entry of the allow-list.
var denied = map[string]string{
	`(?i)Pbx\.(Start|Stop|Restart|Enable|Disable|Refresh|Run|Test|Backup$|Backup\()`:                          "changes the box or works on live traffic",
	`(?i)(Purge|GarbageCollect|InstallUpdates|DropCall|RestartOperatingSystem)`:                               "changes the box",
	`(?i)Pbx\.(Set|Init|Export|Generate|Regenerate|Download|Replace|Edit|Link|Unlink|Revoke|Request|Refresh)`: "writes, or hands out secrets or content",
	`(?i)APIToken|GetRequestHelpLink|MyTokens|SecurityTokens`:                                                 "hands out tokens",
	`(?i)/Parameters|GetParameterByName`:                                                                      "hands out all parameters, passwords among them",
	`(?i)/(Contacts|ChatHistoryView|ChatMessagesHistoryView|Recordings|Voicemails?)`:                          "content and personal data",
	`(?i)/(CallHistoryView|CallLog|ReportCallLog|ReportAuditLog|ActivityLog)`:                                 "call data and SIP traces; off unless asked for",
	`(?i)/MyUser`:                      "personal data",
	`[?#]|\$|%|\.\.|//`:                "options, escapes and steps upwards have no place in a path",
	`\((?:[^)]+)\)`:                    "arguments name single items",
	`^/connect|^/webclient`:            "signing in is not reading",
	`(?i)/Users/Pbx\.|GetBackupExtras`: "per-user and per-file functions",
}

func TestAllowList(t *testing.T) {
	entry := regexp.MustCompile(`^/xapi/v1/[A-Z][A-Za-z]+(/Pbx\.(Get|System)[A-Za-z]+\(\))?$`)
	for _, p := range threecx.Paths() {
		if !entry.MatchString(string(p)) {
			t.Errorf("%s does not have the shape of a reading path", p)
		}
		for pattern, reason := range denied {
			if regexp.MustCompile(pattern).MatchString(string(p)) {
				t.Errorf("%s must not be on the list: %s (%s)", p, reason, pattern)
			}
		}
		if !threecx.Allowed(p) {
			t.Errorf("%s is listed and yet not allowed", p)
		}
	}
}

// The table itself must catch what it is for.
func TestDenyTableCatches(t *testing.T) {
	for _, p := range []string{
		"/xapi/v1/SystemStatus/Pbx.APIToken()", "/xapi/v1/Parameters", "/xapi/v1/MyTokens", "/xapi/v1/SecurityTokens",
		"/xapi/v1/Trunks(12)/Pbx.ExportTrunk()", "/xapi/v1/Users/Pbx.ExportExtensions()", "/xapi/v1/Contacts",
		"/xapi/v1/MyUser/Pbx.GenerateProvLink()", "/xapi/v1/Recordings/Pbx.DownloadRecording(recId=1)",
		"/xapi/v1/ChatHistoryView", "/xapi/v1/ChatMessagesHistoryView", "/xapi/v1/EventLogs/Pbx.DownloadEventLogs()",
		"/xapi/v1/Trunks/Pbx.InitMasterBridge()", "/xapi/v1/Parameters/Pbx.GetParameterByName(name='x')",
		"/xapi/v1/Firewall/Pbx.StartCheck", "/xapi/v1/Services/Pbx.Restart", "/xapi/v1/Services/Pbx.RestartOperatingSystem",
		"/xapi/v1/Trunks/Pbx.RefreshRegistration", "/xapi/v1/Trunks(1)/Pbx.RunAnalysis", "/xapi/v1/Backups/Pbx.Backup",
		"/xapi/v1/EventLogs/Pbx.PurgeEventLog", "/xapi/v1/Services/Pbx.GarbageCollect", "/xapi/v1/ActiveCalls(7)/Pbx.DropCall",
		"/xapi/v1/SystemStatus/Pbx.GetRequestHelpLink(x=1)", "/connect/token", "/xapi/v1/InstallUpdates",
	} {
		caught := false
		for pattern := range denied {
			caught = caught || regexp.MustCompile(pattern).MatchString(p)
		}
		if !caught {
			t.Errorf("the table lets %s pass", p)
		}
		if threecx.Allowed(threecx.Path(p)) {
			t.Errorf("%s is allowed", p)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := threecx.Config{URL: "https://pbx.example.com:5001", ClientID: "sidetone", ClientSecret: "k"}
	for _, tc := range []struct {
		name   string
		change func(*threecx.Config)
		want   []string // beginnings of the mistakes, in order
	}{
		{"API client", func(*threecx.Config) {}, nil},
		{"user", func(c *threecx.Config) { *c = threecx.Config{URL: good.URL, User: "100", Password: "p", CAFile: ca} }, nil},
		{"trailing slash", func(c *threecx.Config) { c.URL += "/" }, nil},
		{"plain HTTP to this machine", func(c *threecx.Config) { c.URL = "http://127.0.0.1:5004" }, nil},
		{"nothing at all", func(c *threecx.Config) { *c = threecx.Config{} }, []string{"pbx.url: empty", "pbx.client_id: empty"}},
		{"plain HTTP elsewhere", func(c *threecx.Config) { c.URL = "http://10.0.0.5:5000" }, []string{"pbx.url: http:// is allowed to this machine only"}},
		{"no scheme", func(c *threecx.Config) { c.URL = "pbx.example.com" }, []string{"pbx.url:"}},
		{"other scheme", func(c *threecx.Config) { c.URL = "ftp://pbx.example.com" }, []string{"pbx.url: scheme"}},
		{"path", func(c *threecx.Config) { c.URL += "/xapi/v1" }, []string{"pbx.url: holds a path"}},
		{"credentials in the URL", func(c *threecx.Config) { c.URL = "https://a:b@pbx.example.com" }, []string{"pbx.url: holds a user name"}},
		{"both ways", func(c *threecx.Config) { c.User, c.Password = "100", "p" }, []string{"pbx.user: given together"}},
		{"no key", func(c *threecx.Config) { c.ClientSecret = "" }, []string{"pbx.client_secret: empty"}},
		{"no password", func(c *threecx.Config) { *c = threecx.Config{URL: good.URL, User: "100"} }, []string{"pbx.password: empty"}},
		{"all at once", func(c *threecx.Config) {
			*c = threecx.Config{URL: "x", ClientSecret: "k", Password: "p", CAFile: "/nowhere/ca.pem", ServerName: "a b", RequestsPerMinute: -1}
		}, []string{"pbx.url:", "pbx.client_id:", "pbx.client_secret:", "pbx.password:", "pbx.ca_file:", "pbx.server_name:", "pbx.requests_per_minute:"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := good
			tc.change(&c)
			errs := c.Validate()
			if len(errs) != len(tc.want) {
				t.Fatalf("mistakes %v, want %d", errs, len(tc.want))
			}
			for i, want := range tc.want {
				if !strings.HasPrefix(errs[i].Error(), want) {
					t.Errorf("mistake %d is %q, want %q…", i, errs[i], want)
				}
			}
		})
	}
}

func TestSecretIsHidden(t *testing.T) {
	c := threecx.Config{URL: "https://p", User: "100", Password: "hunter2", ClientSecret: "hunter2"}
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{
		fmt.Sprint(c), fmt.Sprintf("%v %+v %#v %s %q %x", c, c, c, c.Password, c.Password, c.Password), string(raw),
	} {
		if strings.Contains(shown, "hunter2") || strings.Contains(shown, "68756e74657232") {
			t.Errorf("shown: %s", shown)
		}
	}
	if c.Password.Reveal() != "hunter2" {
		t.Error("the secret itself is lost")
	}
}

func TestStateOfErrors(t *testing.T) {
	for kind, want := range map[error]telemetry.PBXState{
		nil: telemetry.PBXOK, threecx.ErrUnreachable: telemetry.PBXUnreachable, threecx.ErrNot3CX: telemetry.PBXUnreachable,
		threecx.ErrCredentials: telemetry.PBXAuthFailed, threecx.ErrSecondFactor: telemetry.PBXAuthFailed,
		threecx.ErrRights: telemetry.PBXAuthFailed, threecx.ErrBusy: telemetry.PBXBusy, threecx.ErrAnswer: telemetry.PBXBusy,
		errors.New("other"): telemetry.PBXUnreachable,
	} {
		err := kind
		if kind != nil {
			err = fmt.Errorf("read: %w", threecx.Errorf(kind, nil, "text"))
		}
		if got := threecx.State(err); got != want {
			t.Errorf("%v is %q, want %q", kind, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("Provider A\x00\x1b[31m\u2028", 10)
	f.Add("\xff\xfe broken", 5)
	f.Add(strings.Repeat("ü", 400), 300)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		if limit < 0 || limit > 1<<16 {
			return
		}
		out := threecx.Clean(s, limit)
		if len(out) > limit || !utf8.ValidString(out) || strings.ContainsAny(out, "\x00\n\r\x1b\u2028") {
			t.Errorf("Clean(%q, %d) = %q", s, limit, out)
		}
	})
}
