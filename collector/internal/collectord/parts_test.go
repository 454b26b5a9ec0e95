package collectord

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/ca"
	"sidetone/collector/internal/chengine/enginetest"
	"sidetone/collector/internal/config"
	"sidetone/collector/internal/controldb/sqlite"
	"sidetone/collector/internal/enrolment"
	"sidetone/collector/internal/incident"
	"sidetone/collector/internal/ingest"
	"sidetone/collector/internal/inventory"
)

func TestMain(m *testing.M) {
	enginetest.Child()
	goleak.VerifyTestMain(m)
}

func TestLinkKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "link-keys")
	first, err := linkKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	if first[0] == first[1] || first[0] == [32]byte{} {
		t.Error("the keys are not two random ones")
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	again, err := linkKeys(path)
	if err != nil || again != first {
		t.Errorf("other keys after a restart (%v)", err)
	}
	other, err := linkKeys(filepath.Join(t.TempDir(), "link-keys"))
	if err != nil || other == first {
		t.Errorf("two collectors have the same keys (%v)", err)
	}
	for name, text := range map[string][]byte{"empty": {}, "short": make([]byte, 63), "long": make([]byte, 65)} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := linkKeys(path)
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: %v", name, err)
		}
		if got, _ := os.ReadFile(path); !bytes.Equal(got, text) {
			t.Errorf("%s: the file was changed", name)
		}
	}
	if _, err := linkKeys(filepath.Join(t.TempDir(), "none", "link-keys")); err == nil {
		t.Error("keys that cannot be kept are used")
	}
	left, err := filepath.Glob(path + ".*")
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestHistory(t *testing.T) {
	h := newHistory()
	inc := func(id int64, title string) incident.Incident { return incident.Incident{ID: id, Title: title} }
	h.add(inc(1, "old"))
	h.add(inc(2, "two"))
	h.add(inc(1, "new"))
	got := h.take()
	slices.SortFunc(got, func(a, b incident.Incident) int { return int(a.ID - b.ID) })
	if len(got) != 2 || got[0].Title != "new" || got[1].Title != "two" {
		t.Errorf("%+v", got)
	}
	if len(h.take()) != 0 {
		t.Error("taken twice")
	}
	h.add(inc(1, "newest"))
	h.putBack(got)
	got = h.take()
	slices.SortFunc(got, func(a, b incident.Incident) int { return int(a.ID - b.ID) })
	if len(got) != 2 || got[0].Title != "newest" || got[1].Title != "two" {
		t.Errorf("after putting back: %+v", got)
	}

	for i := range int64(historyWaiting + 5) {
		h.add(inc(i, "a"))
	}
	h.add(inc(7, "b")) // known: its newest state finds room
	h.putBack([]incident.Incident{inc(historyWaiting+100, "c")})
	got = h.take()
	if len(got) != historyWaiting {
		t.Errorf("%d wait", len(got))
	}
	if !slices.ContainsFunc(got, func(i incident.Incident) bool { return i.ID == 7 && i.Title == "b" }) {
		t.Error("the newest state of a known incident was left out")
	}
}

func TestCertNames(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	base := []string{"localhost", "127.0.0.1", "::1"}
	for _, c := range []struct {
		name, public, web string
		want              []string
	}{
		{"any address", "monitor.example.com", ":443", append([]string{"monitor.example.com"}, append(base, host)...)},
		{"one address", "monitor.example.com", "192.0.2.7:443", append([]string{"monitor.example.com"}, append(base, host, "192.0.2.7")...)},
		{"unspecified", host, "[::]:443", append([]string{host}, base...)},
		{"unspecified 4", host, "0.0.0.0:443", append([]string{host}, base...)},
		{"name", host, "pages.example.com:443", append([]string{host}, append(base, "pages.example.com")...)},
		{"twice", "localhost", "127.0.0.1:0", append(slices.Clone(base), host)},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := certNames(config.Config{Public: c.public, Web: c.web})
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if errs := (ca.Config{Names: got}).Validate(); len(errs) != 0 {
				t.Errorf("the CA refuses them: %v", errs)
			}
		})
	}
}

func TestIngestError(t *testing.T) {
	own := errors.New("disk full")
	for _, c := range []struct{ in, want error }{
		{nil, nil},
		{enrolment.ErrRevoked, ingest.ErrRevoked},
		{enrolment.ErrUnknown, ingest.ErrUnknown},
		{fmt.Errorf("look up: %w", enrolment.ErrStaleGeneration), ingest.ErrStaleGeneration},
		{own, own},
		{context.Canceled, context.Canceled},
	} {
		if got := ingestError(c.in); got != c.want {
			t.Errorf("%v gives %v, want %v", c.in, got, c.want)
		}
	}
}

func TestPortOf(t *testing.T) {
	if p := portOf(&net.UDPAddr{Port: 4443}); p != 4443 {
		t.Errorf("port %d", p)
	}
	if p := portOf(&net.TCPAddr{Port: 4443}); p != 0 {
		t.Errorf("a TCP address gives %d", p)
	}
}

func TestCreateToken(t *testing.T) {
	cfg := config.Config{DataDir: filepath.Join(t.TempDir(), "new", "dir"), Public: "monitor.example.com", Agents: ":4443"}
	cfg.Default()
	token, expires, err := CreateToken(t.Context(), cfg, TokenSpec{Tenant: "T", Customer: "C", Site: "S", Uses: 2, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if token.Addr != "monitor.example.com:4443" || time.Until(expires) > time.Hour || time.Until(expires) < 59*time.Minute {
		t.Errorf("%+v until %s", token, expires)
	}
	authority, err := ca.Open(filepath.Join(cfg.DataDir, "ca"), ca.Config{Names: certNames(cfg)})
	if err != nil || authority.RootSPKI() != token.RootSPKI {
		t.Errorf("the token pins another root (%v)", err)
	}
	second, _, err := CreateToken(t.Context(), cfg, TokenSpec{Tenant: "T", Customer: "C", Site: "S"})
	if err != nil || second.RootSPKI != token.RootSPKI || second.ID == token.ID {
		t.Errorf("second token %+v, %v", second, err)
	}
	db, err := sqlite.Open(filepath.Join(cfg.DataDir, "control.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	kept, err := db.Token(t.Context(), token.ID)
	if err != nil || kept.UsesLeft != 2 {
		t.Errorf("kept: %+v, %v", kept, err)
	}
	sites, err := inventory.New(db).Sites(t.Context(), authz.System())
	if err != nil || len(sites) != 1 || sites[0].Name != "S" {
		t.Errorf("sites: %+v, %v", sites, err)
	}
	info, err := os.Stat(cfg.DataDir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("data directory: %v, %v", info.Mode(), err)
	}

	for name, change := range map[string]func(*config.Config, *TokenSpec){
		"port 0":      func(c *config.Config, _ *TokenSpec) { c.Agents = ":0" },
		"no port":     func(c *config.Config, _ *TokenSpec) { c.Agents = "monitor" },
		"no site":     func(_ *config.Config, s *TokenSpec) { s.Site = "" },
		"too long":    func(_ *config.Config, s *TokenSpec) { s.TTL = 10000 * time.Hour },
		"no data dir": func(c *config.Config, _ *TokenSpec) { c.DataDir = filepath.Join(cfg.DataDir, "control.db", "x") },
	} {
		t.Run(name, func(t *testing.T) {
			c, s := cfg, TokenSpec{Tenant: "T", Customer: "C", Site: "S"}
			change(&c, &s)
			if tok, _, err := CreateToken(t.Context(), c, s); err == nil {
				t.Errorf("made %+v", tok)
			}
		})
	}
}
