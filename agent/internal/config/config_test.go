package config

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"sidetone/agent/internal/probe"
	"sidetone/agent/internal/uplink"
	"sidetone/shared/telemetry"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func load(t *testing.T, text string) (*Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(path)
}

func TestMissingFileMeansDefaults(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "none.toml"), ""} {
		c, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if c.PBX != nil || len(c.Targets) != 0 || !c.Agent.DefaultTargets || c.Log.Level != "info" || c.Log.Format != "auto" {
			t.Errorf("defaults are %+v", c)
		}
	}
}

func TestWholeFile(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "pbx.secret")
	if err := os.WriteFile(secret, []byte("from the file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, []byte("pem"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "agent.toml")
	text := `
[pbx]
url = "https://pbx.example.com:5001"
client_id = "sidetone"
client_secret_file = "pbx.secret"
ca_file = "ca.pem"
interval = "5s"

[[target]]
name = "carrier"
kind = "icmp"
address = "192.0.2.1"
interval = "2s"
timeout = "500ms"

[[target]]
name = "names"
kind = "dns"
address = "system"
query = "sip.example.com"

[spool]
max_bytes = "256 MiB"
max_age = "7d"
dir = "queue"
encrypt = true
key_file = "keys/spool"
ballast_bytes = 0

[link]
backfill_kbit = 512
proxy = "http://proxy.example.com:3128"

[log]
level = "debug"
format = "json"

[agent]
default_targets = false
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if c.PBX.ClientSecret.Reveal() != "from the file" || c.PBX.CAFile != ca || c.PBX.Interval != 5*time.Second {
		t.Errorf("pbx: %+v", c.PBX)
	}
	want := probe.Target{Method: telemetry.MethodICMP, Name: "carrier", Address: "192.0.2.1", Interval: 2 * time.Second, Timeout: 500 * time.Millisecond}
	if len(c.Targets) != 2 || c.Targets[0] != want || c.Targets[1].Query != "sip.example.com" {
		t.Errorf("targets: %+v", c.Targets)
	}
	if !c.Spool.Encrypt || c.Spool.KeyFile != filepath.Join(dir, "keys/spool") || !c.Spool.NoBallast || c.Spool.BallastBytes != 0 {
		t.Errorf("spool: %+v", c.Spool)
	}
	if c.Spool.MaxBytes != 256<<20 || c.Spool.MaxAge != 7*24*time.Hour || c.Spool.Dir != filepath.Join(dir, "queue") {
		t.Errorf("spool: %+v", c.Spool)
	}
	if c.Link != (uplink.Config{BackfillKbit: 512, Proxy: "http://proxy.example.com:3128"}) {
		t.Errorf("link: %+v", c.Link)
	}
	if c.Log != (Log{"debug", "json"}) || c.Agent.DefaultTargets || len(c.Warnings) != 0 {
		t.Errorf("log %+v, agent %+v, warnings %v", c.Log, c.Agent, c.Warnings)
	}
	if s := fmt.Sprintf("%v %+v %#v", c.PBX, c.PBX, c.PBX); strings.Contains(s, "from the file") {
		t.Error("printing the configuration shows the secret")
	}
}

// TestMistakes compares what is said of each file in testdata with the text beside it.
func TestMistakes(t *testing.T) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			_, err := Load(f)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("error %v, want an *Error", err)
			}
			got := strings.ReplaceAll(e.Error(), "testdata"+string(filepath.Separator), "") + "\n"
			golden := strings.TrimSuffix(f, ".toml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("said\n%swant\n%s", got, want)
			}
			if strings.Contains(got, "hunter2") {
				t.Error("a secret is shown")
			}
		})
	}
}

func TestFurtherChecks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.toml")
	if err := os.WriteFile(path, []byte("[log]\nlevel = \"info\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(path, func(*Config) []error {
		return []error{errors.New("log.level: not today"), errors.New("something else")}
	})
	if err == nil || !strings.Contains(err.Error(), "agent.toml:2: log.level: not today") || !strings.Contains(err.Error(), "something else") {
		t.Errorf("error %v", err)
	}
}

func TestSecretsThatOthersCanRead(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no mode on Windows")
	}
	path := filepath.Join(t.TempDir(), "agent.toml")
	text := "[pbx]\nurl = \"https://pbx.example.com\"\nuser = \"100\"\npassword = \"x\"\n"
	for mode, want := range map[os.FileMode]int{0o600: 0, 0o640: 0, 0o644: 1} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		c, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Warnings) != want {
			t.Errorf("mode %o: warnings %v", mode, c.Warnings)
		}
	}
}

func TestDefaultTargets(t *testing.T) {
	kinds := func(ts []probe.Target) string {
		var out []string
		for _, x := range ts {
			out = append(out, fmt.Sprintf("%s %s", x.Method, x.Address))
		}
		return strings.Join(out, ", ")
	}
	for _, c := range []struct{ name, text, host, want string }{
		{"collector by address", "", "192.0.2.9", "stamp collector, stun collector, icmp 192.0.2.9"},
		{"collector by name", "", "collector.example.com", "stamp collector, stun collector, icmp collector.example.com, dns system"},
		{"with a PBX", "[pbx]\nurl = \"https://pbx.example.com:5001\"\nuser = \"100\"\npassword = \"x\"\n", "192.0.2.9",
			"stamp collector, stun collector, icmp 192.0.2.9, tcp pbx.example.com:5001, tls pbx.example.com:5001, dns system"},
		{"PBX on its usual port", "[pbx]\nurl = \"https://[2001:db8::5]\"\nuser = \"100\"\npassword = \"x\"\n", "192.0.2.9",
			"stamp collector, stun collector, icmp 192.0.2.9, tcp [2001:db8::5]:443, tls [2001:db8::5]:443"},
		{"own target instead", "[[target]]\nname = \"mine\"\nkind = \"icmp\"\naddress = \"192.0.2.9\"\n", "192.0.2.9",
			"icmp 192.0.2.9, stamp collector, stun collector"},
		{"switched off", "[agent]\ndefault_targets = false\n", "192.0.2.9", ""},
	} {
		cfg, err := load(t, c.text)
		if err != nil {
			t.Fatal(c.name, err)
		}
		all := cfg.AllTargets(c.host)
		if got := kinds(all); got != c.want {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.want)
		}
		if errs := (probe.Config{Targets: all}).Validate(); len(errs) > 0 {
			t.Errorf("%s: the defaults are not valid: %v", c.name, errs)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("target = [{name = \"x\", kind = \"icmp\"}, 3]\n[spool]\nmax_bytes = 9223372036854775807\n"))
	f.Add([]byte("pbx.url.x = 1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, mistakes := parse(b, "/nowhere")
		if c == nil {
			t.Fatal("no configuration")
		}
		for _, m := range mistakes {
			if m.Text == "" || m.Line < 0 {
				t.Errorf("mistake %+v", m)
			}
		}
	})
}
