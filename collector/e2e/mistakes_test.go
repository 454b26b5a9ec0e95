//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What a newcomer gets wrong: each mistake is answered with a sentence, nothing crashes.
func TestMistakes(t *testing.T) {
	t.Parallel()
	s := newSite(t, "")

	t.Run("tokens", func(t *testing.T) {
		good := s.token()
		wrong := strings.Split(good, ".")
		wrong[3] = strings.Repeat("A", len(wrong[3]))
		expired := s.token("--ttl", "1s")
		over := time.NewTimer(1500 * time.Millisecond)
		<-over.C
		cases := []struct{ name, token, want string }{
			{"wrong token", strings.Join(wrong, "."), "token"},
			{"expired token", expired, "expired"},
			{"not a token", "hello", "token"},
		}
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				state := t.TempDir()
				_, errs, status := output(t, "sidetone-agent", "enrol", c.token, "--state-dir", state)
				if status == 0 || !strings.Contains(strings.ToLower(errs), c.want) {
					t.Fatalf("status %d, message %q: want a failure that says %q", status, errs, c.want)
				}
				t.Log(strings.TrimSpace(errs))
			})
		}
		t.Run("used token", func(t *testing.T) {
			if _, errs, status := output(t, "sidetone-agent", "enrol", good, "--state-dir", t.TempDir()); status != 0 {
				t.Fatal(errs)
			}
			_, errs, status := output(t, "sidetone-agent", "enrol", good, "--state-dir", t.TempDir())
			if status == 0 || !strings.Contains(errs, "used") {
				t.Fatalf("status %d, message %q", status, errs)
			}
			t.Log(strings.TrimSpace(errs))
		})
	})
	t.Run("configuration", func(t *testing.T) { testBrokenConfigs(t, s) })
	t.Run("not enrolled", func(t *testing.T) {
		_, errs, status := output(t, "sidetone-agent", "run", "--state-dir", t.TempDir(), "--config", "")
		if status == 0 || !strings.Contains(errs, "enrol") {
			t.Fatalf("status %d, message %q", status, errs)
		}
	})
	t.Run("3CX", func(t *testing.T) { testPBXMistakes(t, s) })
}

func testBrokenConfigs(t *testing.T, s *site) {
	agentFile := filepath.Join(t.TempDir(), "agent.toml")
	broken := "[pbx]\nurl = \"ftp://x\"\nclientid = \"a\"\n\n[[target]]\nname = \"a\"\nkind = \"pigeon\"\naddress = \"\"\n\n[[target]]\nname = \"b\"\nkind = \"icmp\"\naddress = \"127.0.0.1\"\ninterval = \"1ms\"\n"
	if err := os.WriteFile(agentFile, []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	_, errs, status := output(t, "sidetone-agent", "run", "--state-dir", s.agentState(), "--config", agentFile)
	if status != 2 {
		t.Errorf("agent: status %d, want 2", status)
	}
	wantAll(t, errs, "pbx.url", "clientid", "target[0].kind", "target[0].address", "target[1].interval")

	collectorFile := filepath.Join(t.TempDir(), "collector.toml")
	broken = "agents = \"nowhere\"\nclickhouse = \"mysql://\"\n[log]\nlevel = \"loud\"\n[[channel]]\nname = \"x\"\nkind = \"pigeon\"\n"
	if err := os.WriteFile(collectorFile, []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	_, errs, status = output(t, "sidetone-collector", "serve", "--config", collectorFile, "--data-dir", t.TempDir())
	if status != 2 {
		t.Errorf("collector: status %d, want 2", status)
	}
	wantAll(t, errs, "agents", "clickhouse", "log.level", "channel[0].kind")
}

func wantAll(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("the message does not name %s:\n%s", w, text)
		}
	}
}

// testPBXMistakes runs agents with a wrong password and with an unreachable 3CX: the
// state is a row, the probes go on, the agent lives.
func testPBXMistakes(t *testing.T, s *site) {
	cases := []struct{ name, pbx, state string }{
		{"wrong secret", fmt.Sprintf("url = %q\nclient_id = \"sidetone\"\nclient_secret = \"wrong\"\nca_file = %q", s.pbxURL, s.pbxCA), "auth_failed"},
		{"wrong password", fmt.Sprintf("url = %q\nuser = \"100\"\npassword = \"wrong\"\nca_file = %q", s.pbxURL, s.pbxCA), "auth_failed"},
		{"unreachable", "url = \"https://127.0.0.1:9\"\nclient_id = \"sidetone\"\nclient_secret = \"x\"", "unreachable"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			state := filepath.Join(dir, "state")
			site := "Site of " + c.name
			if _, errs, status := output(t, "sidetone-agent", "enrol", s.token("--site", site), "--state-dir", state); status != 0 {
				t.Fatal(errs)
			}
			file := filepath.Join(dir, "agent.toml")
			if err := os.WriteFile(file, []byte("[pbx]\n"+c.pbx+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			a := start(t, dir, "sidetone-agent", nil, "run", "--state-dir", state, "--config", file)
			eventually(t, 60*time.Second, "PBX state "+c.state+" and probe windows", func() bool {
				return s.count(fmt.Sprintf("SELECT count() FROM sidetone.pbx_status WHERE site = '%s' AND state = '%s'", site, c.state)) > 0 &&
					s.count(fmt.Sprintf("SELECT count() FROM sidetone.probe_window WHERE site = '%s'", site)) > 0
			})
			rows := s.sql(fmt.Sprintf("SELECT detail FROM sidetone.pbx_status WHERE site = '%s' ORDER BY observed DESC LIMIT 1", site))
			t.Log(rows[0]["detail"])
			out, _, status := output(t, "sidetone-agent", "doctor", "--state-dir", state, "--config", file)
			if status == 0 {
				t.Errorf("doctor finds nothing wrong:\n%s", out)
			}
			if status := a.stop(20 * time.Second); status != 0 {
				t.Errorf("the agent ended with status %d", status)
			}
		})
	}
}
