package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func parse(t *testing.T, args ...string) flags {
	t.Helper()
	var f flags
	p, err := kong.New(&f, kong.Vars{"version": "test"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Parse(args); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestServesAndAnnounces(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "ready.json")
	f := parse(t, "--listen", "127.0.0.1:0", "--scenario", "demo", "--ready-file", file, "--ca-out", filepath.Join(dir, "ca.pem"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx, f, zerolog.Nop()) }()
	var r ready
	for {
		raw, err := os.ReadFile(file)
		if err == nil {
			if err := json.Unmarshal(raw, &r); err != nil {
				t.Fatalf("the ready file was seen half written: %v", err)
			}
			break
		}
		select {
		case err := <-done:
			t.Fatalf("ended before it served: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	pem, err := os.ReadFile(r.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get(r.URL + "/sim/state")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK || r.URL != "https://"+r.Addr {
		t.Errorf("status %d, ready %+v", resp.StatusCode, r)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	for want, args := range map[string][]string{
		"not simulated yet": {"--generation", "v18"},
		"open scenario":     {"--scenario", "nowhere.toml"},
		"listen on":         {"--listen", "256.0.0.1:1"},
		"write ready file":  {"--ready-file", "/nowhere/at/all/ready.json"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		err := run(ctx, parse(t, args...), zerolog.Nop())
		cancel()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
}

// A simulator that is started again shows a certificate by the same CA.
func TestCAOutlivesARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	first, err := certificate(file, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	if err := announce(flags{CAOut: file}, "127.0.0.1", "1", first); err != nil {
		t.Fatal(err)
	}
	second, err := certificate(file, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.CAPEM, second.CAPEM) {
		t.Fatal("another CA after the restart")
	}
	if err := os.WriteFile(file+".key", []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := certificate(file, "127.0.0.1"); err == nil {
		t.Fatal("a damaged key was not noticed")
	}
}
