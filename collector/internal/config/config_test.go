package config

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"sidetone/collector/internal/notify"
	"sidetone/collector/internal/telemetrydb"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// check does what the command does with a file, flags apart.
func check(path string) error {
	c, err := Load(path)
	if err != nil {
		return err
	}
	c.Default()
	return c.Validate()
}

// TestMistakes compares what is said of each file in testdata with the text beside it.
func TestMistakes(t *testing.T) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".toml"), func(t *testing.T) {
			err := check(f)
			var m Mistakes
			if !errors.As(err, &m) {
				t.Fatalf("no mistakes, but %v", err)
			}
			golden := strings.TrimSuffix(f, ".toml") + ".txt"
			got := err.Error() + "\n"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "collector.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const whole = `
data_dir = "/srv/sidetone"
agents = "collector.example.com:4443"
web = ":8443"
reflector = ":8620"
public = "monitor.example.com"
clickhouse = "clickhouse://u:p@db:9000/sidetone"
control = "sqlite"
engine_lib = "/opt/libchdb.so"
web_cert = "/etc/ssl/web.pem"
web_key = "/etc/ssl/web.key"

[log]
level = "debug"
format = "json"

[outbound]
allow = ["10.0.0.0/8", "fd00::/8"]

[[channel]]
name = "mail"
kind = "smtp"
host = "mail.example.com"
port = 587
user = "u"
password = "correct horse"
tls = "starttls"
from = "sidetone@example.com"
to = ["noc@example.com"]
min_severity = "warning"

[[channel]]
name = "hook"
kind = "webhook"
url = "https://example.com/hook"
secret = "0123456789abcdef"
tenant = "Example"

[limits]
enrols_per_minute = 600
conns_per_address = 6000
conns_per_tenant = 5000
agent_bytes_per_second = 1000000
agent_frames_per_second = 100

[retention]
raw_days = 14
minute_days = 100
hour_days = 800
change_days = 500
incident_days = 700
dead_letter_days = 60
ledger_days = 60

[[tenant]]
name = "Example"
[tenant.retention]
raw_days = 7
`

func TestWholeFile(t *testing.T) {
	c, err := Load(write(t, whole))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		DataDir: "/srv/sidetone", Agents: "collector.example.com:4443", Web: ":8443", Reflector: ":8620", Public: "monitor.example.com",
		ClickHouse: "clickhouse://u:p@db:9000/sidetone", Control: "sqlite", EngineLib: "/opt/libchdb.so",
		WebCert: "/etc/ssl/web.pem", WebKey: "/etc/ssl/web.key",
		Log: Log{"debug", "json"}, Outbound: Outbound{Allow: []string{"10.0.0.0/8", "fd00::/8"}},
		Channels: []notify.ChannelConfig{
			{Name: "mail", Kind: "smtp", Host: "mail.example.com", Port: 587, User: "u", Password: "correct horse", TLS: "starttls",
				From: "sidetone@example.com", To: []string{"noc@example.com"}, MinSeverity: "warning"},
			{Name: "hook", Kind: "webhook", URL: "https://example.com/hook", Secret: "0123456789abcdef", Tenant: "Example"},
		},
		Limits:    Limits{EnrolsPerMinute: 600, ConnsPerAddress: 6000, ConnsPerTenant: 5000, AgentBytesPerSec: 1_000_000, AgentFramesPerSec: 100},
		Retention: telemetrydb.Retention{RawDays: 14, MinuteDays: 100, HourDays: 800, ChangeDays: 500, IncidentDays: 700, DeadLetterDays: 60, LedgerDays: 60},
		Tenants:   []Tenant{{Name: "Example", Retention: telemetrydb.Retention{RawDays: 7}}},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %#v\nwant %#v", c, want)
	}
	c.Default()
	if !reflect.DeepEqual(c, want) {
		t.Errorf("defaults changed what was set: %#v", c)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if s := fmt.Sprintf("%v %+v %#v", c, c, c); strings.Contains(s, "correct horse") || strings.Contains(s, "0123456789abcdef") {
		t.Error("printing the configuration shows a secret")
	}
}

// TestWholeFileNamesEverySetting keeps the file above complete.
func TestWholeFileNamesEverySetting(t *testing.T) {
	for _, typ := range []reflect.Type{reflect.TypeFor[Config](), reflect.TypeFor[Log](), reflect.TypeFor[Outbound](), reflect.TypeFor[Limits](), reflect.TypeFor[Tenant](), reflect.TypeFor[telemetrydb.Retention]()} {
		for i := range typ.NumField() {
			if key := typ.Field(i).Tag.Get("toml"); key == "" || !strings.Contains(whole, key) {
				t.Errorf("%s.%s has key %q, which the whole file does not show", typ, typ.Field(i).Name, key)
			}
		}
	}
}

func TestDefaults(t *testing.T) {
	for _, path := range []string{"", write(t, ""), write(t, "# nothing\n")} {
		c, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(c, Config{}) {
			t.Errorf("%q is not the zero Config: %+v", path, c)
		}
		c.Default()
		host, err := os.Hostname()
		if err != nil {
			t.Fatal(err)
		}
		want := Config{
			DataDir: "/var/lib/sidetone-collector", Agents: ":443", Web: ":443", Reflector: ":862", Public: host,
			ClickHouse: "embedded", Control: "sqlite", Log: Log{"info", "text"},
		}
		if !reflect.DeepEqual(c, want) {
			t.Errorf("got %+v", c)
		}
		if err := c.Validate(); err != nil {
			t.Errorf("the defaults are refused: %v", err)
		}
	}
}

func TestPublicName(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for agents, want := range map[string]string{
		":443":                       host,
		"0.0.0.0:443":                host,
		"[::]:443":                   host,
		"192.0.2.1:443":              "192.0.2.1",
		"[2001:db8::1]:443":          "2001:db8::1",
		"collector.example.com:4443": "collector.example.com",
		"no port":                    host,
	} {
		if got := publicName(agents); got != want {
			t.Errorf("publicName(%q) = %q, want %q", agents, got, want)
		}
	}
}

func TestFileThatCannotBeRead(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "none.toml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := Load(t.TempDir()); err == nil {
		t.Error("a directory was read")
	}
	big := write(t, strings.Repeat("#", maxFile)+"\n")
	if _, err := Load(big); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("a file above the limit: %v", err)
	}
	if _, err := Load(write(t, strings.Repeat("#", maxFile))); err != nil {
		t.Errorf("a file at the limit: %v", err)
	}
}

func TestErrorShowsNoSecret(t *testing.T) {
	for _, text := range []string{
		"clickhouse = \"http://u:s3cretword@db\"\n",
		"[[channel]]\nname=\"a\"\nkind=\"smtp\"\npassword=\"s3cretword\"\nport=\"x\"\n",
		"[[channel]]\nname=\"a\"\nkind=\"webhook\"\nurl=\"https://x.example/\"\nsecret=\"s3cretword\"\n",
		"[[channel]]\nname=\"a\"\nkind=\"webhook\"\nurl=\"https://x.example/\"\nsecret=[\"s3cretword\"]\n",
	} {
		err := check(write(t, text))
		if err == nil || strings.Contains(err.Error(), "s3cretword") {
			t.Errorf("%s\nsays %v", text, err)
		}
	}
}

// FuzzDecode holds that decode never panics, and that its own look at the form agrees
// with the strict decoder's.
func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, text := range []string{whole, "", "AGENTS = ':1'\n", "[a.b.c]\n[[channel]]\n[channel.x]\n", "channel = [[]]\n", "[[channel]]\nport = 1.0\n",
		"'' = 1\n[log.\"x.y\"]\n", "channel = []\nlog = {}\n", "[[channel]]\nto = [[1]]\nport = 07:32:00\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := decode(text)
		var strict Config
		serr := toml.NewDecoder(strings.NewReader(string(text))).DisallowUnknownFields().Decode(&strict)
		if (err == nil) != (serr == nil) {
			t.Fatalf("decode says %v, the strict decoder %v", err, serr)
		}
		if err == nil {
			if !reflect.DeepEqual(c, strict) {
				t.Fatalf("got %#v, want %#v", c, strict)
			}
			c.Default()
			_ = c.Validate() // must not panic either
			return
		}
		var m Mistakes
		if !errors.As(err, &m) || len(m) == 0 {
			t.Fatalf("an error that is no list of mistakes: %v", err)
		}
	})
}
