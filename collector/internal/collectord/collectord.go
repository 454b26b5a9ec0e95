// Package collectord builds the collector's parts, starts them, and stops them in the
// order of the data. It is the one package that knows every other; what it does itself
// is wiring.
package collectord

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"sidetone/collector/internal/alert"
	"sidetone/collector/internal/api"
	"sidetone/collector/internal/authn"
	"sidetone/collector/internal/batch"
	"sidetone/collector/internal/ca"
	"sidetone/collector/internal/chengine"
	"sidetone/collector/internal/config"
	"sidetone/collector/internal/controldb"
	"sidetone/collector/internal/controldb/sqlite"
	"sidetone/collector/internal/enrolment"
	"sidetone/collector/internal/fleet"
	"sidetone/collector/internal/incident"
	"sidetone/collector/internal/ingest"
	"sidetone/collector/internal/inventory"
	"sidetone/collector/internal/live"
	"sidetone/collector/internal/notify"
	"sidetone/collector/internal/reflector"
	"sidetone/collector/internal/telemetrydb"
	"sidetone/shared/link"
)

// Options is what the command hands in.
type Options struct {
	Exe       string // this program, for the engine child
	ReadyFile string
	Log       zerolog.Logger
	Out       io.Writer // for what a person must read once: the setup code
}

// Daemon is an open collector.
type Daemon struct {
	cfg  config.Config
	opts Options
	log  zerolog.Logger

	lock      *os.File
	control   *controldb.DB
	ca        *ca.CA
	inventory *inventory.Inventory
	enrolment *enrolment.Service
	authn     *authn.Service

	engine    *chengine.Supervisor // nil with a ClickHouse server
	telemetry *telemetrydb.DB
	migrated  *latch
	batch     *batch.Batcher

	alert     *alert.Engine
	incidents *incident.Manager
	notify    *notify.Dispatcher
	history   *history

	fleet  *fleet.Fleet
	live   *live.Hub
	mirror *mirror
	judge  chan *ingest.Delivery
	chores chan func(context.Context)

	listener     *link.Listener
	ingest       *ingest.Server
	reflector    *reflector.Reflector
	api          *api.API
	webListener  net.Listener
	webTLSConfig *tls.Config
}

// choresWaiting bounds small writes to the control store that wait their turn.
const choresWaiting = 1024

// Open builds everything and opens the sockets; nothing runs yet. When it fails it has
// closed what it opened.
func Open(ctx context.Context, cfg config.Config, opts Options) (_ *Daemon, err error) {
	d := &Daemon{
		cfg: cfg, opts: opts, log: opts.Log, migrated: newLatch(),
		fleet: fleet.New(time.Now()), live: live.New(),
		judge: make(chan *ingest.Delivery, queueLength), chores: make(chan func(context.Context), choresWaiting),
	}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.lock, err = lockData(cfg.DataDir); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{d.openControl, d.openTelemetry, d.openAlerting, d.openSockets} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	d.api = api.New(api.Deps{
		Inventory: d.inventory, Fleet: d.fleet, Live: d.live, Incidents: d.incidents, Telemetry: d.telemetry,
		Authn: d.authn, Enrolment: d.enrolment, Storage: d.storage, AgentsAddr: d.agentsAddr, Log: d.log,
	})
	return d, nil
}

// openStore opens the parts that live on the control store and the CA; the commands
// beside serve use it, too.
func openStore(ctx context.Context, cfg config.Config) (*controldb.DB, *ca.CA, error) {
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("data directory: %w", err)
	}
	db, err := sqlite.Open(filepath.Join(cfg.DataDir, "control.db"))
	if err != nil {
		return nil, nil, err
	}
	if err := db.Migrate(ctx); err != nil {
		db.Close()
		return nil, nil, err
	}
	authority, err := ca.Open(filepath.Join(cfg.DataDir, "ca"), ca.Config{Names: certNames(cfg)})
	if err != nil {
		db.Close()
		return nil, nil, err
	}
	return db, authority, nil
}

// certNames are the names under which agents and browsers reach this machine.
func certNames(cfg config.Config) []string {
	names := []string{cfg.Public, "localhost", "127.0.0.1", "::1"}
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	if host, _, err := net.SplitHostPort(cfg.Web); err == nil && host != "" {
		if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
			names = append(names, host)
		}
	}
	seen := map[string]bool{}
	out := names[:0]
	for _, n := range names {
		if !seen[n] {
			seen[n] = true
			out = append(out, n)
		}
	}
	return out
}

func (d *Daemon) openControl(ctx context.Context) (err error) {
	if d.control, d.ca, err = openStore(ctx, d.cfg); err != nil {
		return err
	}
	d.inventory = inventory.New(d.control)
	d.enrolment = enrolment.New(enrolment.Deps{Store: d.control, CA: d.ca, Log: d.log})
	d.mirror = newMirror(d.inventory)
	if _, err := d.mirror.load(ctx); err != nil {
		return err
	}
	if err := d.knowFleet(ctx); err != nil {
		return err
	}
	d.authn, err = authn.New(authn.Deps{Store: d.control, Dir: d.cfg.DataDir, Log: d.log})
	return err
}

func (d *Daemon) openTelemetry(ctx context.Context) (err error) {
	dbc := telemetrydb.Config{DSN: d.cfg.ClickHouse}
	if d.cfg.ClickHouse == config.DefaultClickHouse {
		lib, err := chengine.FindLib(d.cfg.EngineLib)
		if err != nil {
			return config.Mistakes{"engine_lib: " + err.Error()} // starting again does not help
		}
		d.engine, err = chengine.New(chengine.SuperConfig{
			Exe: d.opts.Exe, Lib: lib, DataDir: engineDir(d.cfg), Socket: engineSocket(d.cfg), Log: d.log,
		})
		if err != nil {
			return err
		}
		dbc = telemetrydb.Config{Socket: d.engine.Socket()}
	}
	if d.telemetry, err = telemetrydb.Open(ctx, dbc); err != nil {
		return err
	}
	d.batch = batch.New(batch.Config{}, batch.Deps{Store: d.telemetry, Log: d.log})
	return nil
}

func engineDir(cfg config.Config) string    { return filepath.Join(cfg.DataDir, "engine") }
func engineSocket(cfg config.Config) string { return filepath.Join(cfg.DataDir, "engine.sock") }

func (d *Daemon) openAlerting(ctx context.Context) (err error) {
	if d.alert, err = alert.New(alert.Defaults(), alert.Deps{Store: d.control, Log: d.log}); err != nil {
		return err
	}
	channels, err := openChannels(d.cfg)
	if err != nil {
		return err
	}
	if d.notify, err = notify.New(channels, notify.Deps{Store: d.control, Log: d.log}); err != nil {
		return err
	}
	d.history = newHistory()
	d.incidents = incident.New(incident.Config{}, incident.Deps{
		Store: d.control, Names: names{d.inventory}, Announcer: d.notify, Log: d.log,
		OnChange: func(i incident.Incident) {
			d.history.add(i)
			d.live.Touch(i.Source)
		},
	})
	return d.reconcile(ctx)
}

func (d *Daemon) openSockets(context.Context) (err error) {
	keys, err := linkKeys(filepath.Join(d.cfg.DataDir, "link-keys"))
	if err != nil {
		return err
	}
	if d.reflector, err = reflector.New(reflector.Config{Addr: d.cfg.Reflector}, d.log); err != nil {
		return err
	}
	shared, clash := oneAddress(d.cfg.Agents, d.cfg.Web)
	if clash {
		d.log.Warn().Str("addr", d.cfg.Agents).Msg("agents and web have one port on different addresses: agents are heard over UDP only; give both the same address, or two ports")
	}
	d.listener, err = link.Listen(link.ListenConfig{Addr: d.cfg.Agents, TLS: d.ca.ServerTLS, ResetKey: keys[0], TokenKey: keys[1],
		MaxConnsPerAddr: d.cfg.Limits.ConnsPerAddress, ShareTCP: shared, DisableTCP: clash, Log: d.log})
	if err != nil {
		return fmt.Errorf("agents: %w", err)
	}
	limits := d.cfg.Limits
	d.ingest = ingest.New(ingest.Config{
		ReflectorPort: portOf(d.reflector.Addr()), EnrolsPerMinute: limits.EnrolsPerMinute, MaxConnsPerTenant: limits.ConnsPerTenant,
		BytesPerSecond: limits.AgentBytesPerSec, FramesPerSecond: limits.AgentFramesPerSec,
	}, ingest.Deps{
		Listener: d.listener, Sink: d.batch, Observers: []ingest.Observer{observer{d}},
		Agents: agents{d.enrolment}, Enroller: enroller{d.enrolment, d.mirror.touch}, Presence: presence{d}, Log: d.log,
	})
	if d.webTLSConfig, err = d.webTLS(); err != nil {
		return err
	}
	if shared {
		d.webListener = d.listener.Others()
	} else if d.webListener, err = net.Listen("tcp", d.cfg.Web); err != nil {
		return fmt.Errorf("web: %w", err)
	}
	return nil
}

// oneAddress tells whether agents and pages are on one address: they then share its
// TCP port, by the protocol that a client asks for. clash: the ports are the same, the
// hosts are not, so that the port is not to be had twice.
func oneAddress(agents, web string) (shared, clash bool) {
	_, agentsPort, aerr := net.SplitHostPort(agents)
	_, webPort, werr := net.SplitHostPort(web)
	if aerr != nil || werr != nil || agentsPort != webPort || agentsPort == "0" {
		return false, false
	}
	return agents == web, agents != web
}

// linkKeys reads or makes the two keys that must survive a restart, so that agents
// learn at once that the process before is gone.
func linkKeys(path string) (keys [2][32]byte, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		text = make([]byte, 64)
		rand.Read(text) // never fails
		if err = os.WriteFile(path+".tmp", text, 0o600); err == nil {
			err = os.Rename(path+".tmp", path) // whole or not at all
		}
	}
	if err != nil {
		return keys, fmt.Errorf("link keys: %w", err)
	}
	if len(text) != 64 {
		return keys, fmt.Errorf("link keys: %s is damaged: remove it, agents will reconnect", path)
	}
	copy(keys[0][:], text[:32])
	copy(keys[1][:], text[32:])
	return keys, nil
}

func portOf(a net.Addr) uint16 {
	if u, ok := a.(*net.UDPAddr); ok {
		return uint16(u.Port)
	}
	return 0
}

// agentsAddr is what tokens name: the public host and the port that is really open.
func (d *Daemon) agentsAddr() string {
	return net.JoinHostPort(d.cfg.Public, strconv.Itoa(int(portOf(d.listener.Addr()))))
}

// later runs a small write to the control store in its turn; when too many wait it is
// left out: the next hello or reading brings it again.
func (d *Daemon) later(f func(context.Context)) {
	select {
	case d.chores <- f:
	default:
		d.log.Warn().Msg("too many writes wait for the control store, one was left out")
	}
}

// close releases what Open got. Parts that ran have ended before.
func (d *Daemon) close() {
	if d.listener != nil {
		d.listener.Close()
	}
	if d.webListener != nil {
		d.webListener.Close()
	}
	if d.reflector != nil {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		_ = d.reflector.Run(ended) // closes its socket, if that is still open
	}
	if d.telemetry != nil {
		d.telemetry.Close()
	}
	if d.control != nil {
		d.control.Close()
	}
	if d.lock != nil {
		d.lock.Close()
	}
}
