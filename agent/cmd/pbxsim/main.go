// Command pbxsim is a simulated 3CX phone system, for demonstrations and end-to-end
// tests. See package pbxsim for what it imitates.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/rs/zerolog"

	"sidetone/agent/internal/pbxsim"
	"sidetone/shared/buildinfo"
)

const about = `A simulated 3CX phone system (v20) to read from.

It answers the configuration API over HTTPS with a certificate of its own, by API client and by user sign-in. Calls come and go by themselves; a scenario makes trunks drop and services stop. Steer it from this machine:

  curl --cacert ca.pem -d '{"online":false}' https://127.0.0.1:PORT/sim/trunks/10001
  curl --cacert ca.pem -d '{"status":"Stopped"}' https://127.0.0.1:PORT/sim/services/3CXQueueManager01
  curl --cacert ca.pem -d '{"age":"72h"}' https://127.0.0.1:PORT/sim/backup
  curl --cacert ca.pem -d '{"mode":"502"}' https://127.0.0.1:PORT/sim/fault
  curl --cacert ca.pem https://127.0.0.1:PORT/sim/requests

Faults: hang, 502, html, huge, broken, unreachable, none. Also /sim/sbcs/NAME {"connected":false}, /sim/calls {"count":5}, /sim/auth {"ok":false}, /sim/version {"version":"20.0.10.1"}, /sim/events {"purge":true}, and /sim/state.`

type flags struct {
	Listen       string `default:"127.0.0.1:0" help:"Address to serve on; port 0 takes a free one." placeholder:"ADDR"`
	Generation   string `default:"v20" help:"API generation: v20. (v18 is not simulated yet.)"`
	Build        string `default:"20.0.9.1310" help:"Version of the box; it decides which fields there are." placeholder:"VERSION"`
	FQDN         string `name:"fqdn" default:"pbx.example.com" help:"The name the box goes by." placeholder:"NAME"`
	ClientID     string `name:"client-id" default:"sidetone" help:"API client that may sign in." placeholder:"ID"`
	ClientSecret string `name:"client-secret" default:"sim-secret" help:"Its key." placeholder:"KEY"`
	User         string `default:"100" help:"Extension that may sign in." placeholder:"NUMBER"`
	Password     string `default:"sim-password" help:"Its password." placeholder:"PASSWORD"`
	SecondFactor bool   `help:"The user has two-factor sign-in."`
	WrongAs200   bool   `name:"wrong-as-200" help:"Refuse a wrong password with status 200 and AuthFailed, not with 401."`
	MaxRole      string `default:"system_owners" help:"Role of the tokens; any other is forbidden to read." placeholder:"ROLE"`

	TokenLife   time.Duration `default:"1h" help:"Real life of a token; it always claims one hour."`
	RefuseEnded int           `default:"401" enum:"401,403" help:"Status for an ended token: 401 or 403."`
	Seed        uint64        `default:"1" help:"Seed of the calls and events that come by themselves."`

	Scenario  string           `help:"Timeline of what happens: a TOML file, or the word demo." placeholder:"FILE"`
	ReadyFile string           `help:"File to write, as JSON with the real address, when it serves." placeholder:"FILE"`
	CAOut     string           `name:"ca-out" help:"File to write the CA certificate to (PEM). Its key goes beside it (.key), and both are used again at the next start." placeholder:"FILE"`
	Version   kong.VersionFlag `help:"Print the version and exit."`
}

func main() {
	var f flags
	kong.Parse(&f, kong.Name("pbxsim"), kong.Description(about), kong.Vars{"version": buildinfo.String()})
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	log := zerolog.New(zerolog.ConsoleWriter{Out: os.Stderr, NoColor: true, TimeFormat: time.TimeOnly}).With().Timestamp().Logger()
	err := run(ctx, f, log)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "pbxsim:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, f flags, log zerolog.Logger) error {
	scenario, err := pbxsim.LoadScenario(f.Scenario)
	if err != nil {
		return err
	}
	sim, err := pbxsim.New(pbxsim.Options{
		Generation: f.Generation, Version: f.Build, FQDN: f.FQDN,
		ClientID: f.ClientID, ClientSecret: f.ClientSecret, User: f.User, Password: f.Password,
		SecondFactor: f.SecondFactor, WrongAs200: f.WrongAs200, MaxRole: f.MaxRole, TokenLife: f.TokenLife, RefuseEnded: f.RefuseEnded,
		Seed: f.Seed, Scenario: scenario, Log: log,
	})
	if err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", f.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", f.Listen, err)
	}
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		_ = l.Close()
		return fmt.Errorf("listen on %s: %w", f.Listen, err)
	}
	cert, err := certificate(f.CAOut, f.FQDN, host)
	if err == nil {
		err = announce(f, host, port, cert)
	}
	if err != nil {
		_ = l.Close()
		return err
	}
	log.Info().Str("addr", l.Addr().String()).Msg("the simulated PBX serves")
	return sim.Serve(ctx, l, cert)
}

// certificate reuses the CA of an earlier start when it lies at caFile.
func certificate(caFile string, hosts ...string) (*pbxsim.Certificate, error) {
	if caFile == "" {
		return pbxsim.NewCertificate(hosts...)
	}
	ca, err := os.ReadFile(caFile)
	if errors.Is(err, os.ErrNotExist) {
		return pbxsim.NewCertificate(hosts...)
	}
	if err != nil {
		return nil, fmt.Errorf("read CA certificate: %w", err)
	}
	key, err := os.ReadFile(caFile + ".key")
	if errors.Is(err, os.ErrNotExist) {
		return pbxsim.NewCertificate(hosts...)
	}
	if err != nil {
		return nil, fmt.Errorf("read CA key: %w", err)
	}
	return pbxsim.ReuseCertificate(ca, key, hosts...)
}

// ready is the content of the ready file.
type ready struct {
	Addr   string `json:"addr"`
	URL    string `json:"url"`
	CAFile string `json:"ca_file,omitempty"`
}

// announce writes the CA certificate and then the ready file: who sees the latter
// finds the former.
func announce(f flags, host, port string, cert *pbxsim.Certificate) error {
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	addr := net.JoinHostPort(host, port)
	r := ready{Addr: addr, URL: "https://" + addr}
	if f.CAOut != "" {
		path, err := filepath.Abs(f.CAOut)
		if err != nil {
			return fmt.Errorf("write CA certificate: %w", err)
		}
		if err := errors.Join(writeFile(path+".key", cert.CAKeyPEM), writeFile(path, cert.CAPEM)); err != nil {
			return fmt.Errorf("write CA certificate: %w", err)
		}
		r.CAFile = path
	}
	if f.ReadyFile == "" {
		return nil
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write ready file: %w", err)
	}
	if err := writeFile(f.ReadyFile, append(raw, '\n')); err != nil {
		return fmt.Errorf("write ready file: %w", err)
	}
	return nil
}

// writeFile writes at once: nobody sees half of it.
func writeFile(path string, raw []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(raw)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Chmod(tmp.Name(), 0o644) //nolint:gosec // a public certificate and an address
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	return err
}
