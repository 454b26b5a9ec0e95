// Command impair puts a bad network between two programs. See package impair for what
// it can do.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"sidetone/shared/buildinfo"
	"sidetone/shared/impair"
)

const about = `A bad network between two programs: a proxy for UDP or TCP.

  impair udp --listen 127.0.0.1:8444 --to 127.0.0.1:8443 --delay 20ms --jitter 5ms --loss 1%
  impair tcp --listen 127.0.0.1:8444 --to 127.0.0.1:8443 --delay 20ms --rate 512kbit

The flags hold for both directions; --up and --down take a profile for one of them, in
words like "delay=20ms loss=5% loss-burst=4", in place of the flags. While it runs,
lines on standard input change it:

  up delay=20ms loss=5%     a new profile towards the far end; "down …" and "both …" alike
  both blackhole            nothing passes; "both" alone lets everything pass
  rebind                    UDP: new ports towards the far end
  reject on, reject off     the port is closed, and open again
  cut                       TCP: resets all connections
  counters                  what has passed and what was dropped, as JSON

Ctrl-C ends it and prints the counters.
`

// proxy is either kind.
type proxy interface {
	Addr() netip.AddrPort
	SetProfile(impair.Direction, impair.Profile) error
	Counters(impair.Direction) impair.Counters
	Reject(on bool) error
	Close() error
}

// options are what the command line says.
type options struct {
	kind, listen, to, readyFile string
	seed                        uint64
	up, down                    impair.Profile
}

// words are the flags that make up a profile; those without an argument are switches.
var words = []struct{ name, arg, help string }{
	{"delay", "DURATION", "added to everything"},
	{"jitter", "DURATION", "varies the delay by up to as much either way"},
	{"normal", "", "the jitter is a normal distribution's deviation"},
	{"loss", "RATIO", "how much is lost, as 1% or 0.01"},
	{"loss-burst", "NUMBER", "it is lost in runs of this mean length"},
	{"bursts", "RATIOS", "Gilbert and Elliott: good to bad, bad to good, loss in good, loss in bad, with commas"},
	{"reorder", "RATIO", "how many packets are held back for others to pass"},
	{"reorder-by", "DURATION", "how long (20ms)"},
	{"duplicate", "RATIO", "how many packets come twice"},
	{"rate", "RATE", "bits a second, as 512kbit, 10mbit"},
	{"queue", "DURATION", "longest wait for the rate (200ms)"},
	{"mtu", "BYTES", "larger IP packets vanish"},
	{"blackhole", "", "nothing passes"},
	{"cut", "BYTES", "TCP: resets a connection after as much in one direction, as 1000 or 16kb"},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "impair:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) error {
	o, err := parse(args, errs)
	if err != nil || o == nil {
		return err
	}
	p, err := o.start()
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }()
	if err := announce(o.readyFile, p.Addr()); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(errs, "impair: %s %v to %s; up %q, down %q\n", o.kind, p.Addr(), o.to, o.up, o.down)
	lines := make(chan string)
	go func() { // ends with the program: reading standard input cannot be interrupted
		for s := bufio.NewScanner(in); s.Scan(); {
			select {
			case lines <- s.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case line := <-lines:
			if err := order(p, line, out); err != nil {
				_, _ = fmt.Fprintln(errs, "impair:", err)
			}
		case <-ctx.Done():
			return errors.Join(p.Close(), counters(p, out))
		}
	}
}

// parse reads the command line; without options nor error there is nothing to do.
func parse(args []string, errs io.Writer) (*options, error) {
	if len(args) == 1 && strings.TrimLeft(args[0], "-") == "version" {
		_, err := fmt.Fprintln(errs, "impair", buildinfo.String())
		return nil, err
	}
	o := &options{}
	var up, down string
	f := flag.NewFlagSet("impair udp|tcp", flag.ContinueOnError)
	f.SetOutput(errs)
	f.Usage = func() {
		_, _ = fmt.Fprint(errs, about, "\nFlags:\n")
		f.PrintDefaults()
	}
	f.StringVar(&o.listen, "listen", "127.0.0.1:0", "`ADDR` to listen on; port 0 takes a free one")
	f.StringVar(&o.to, "to", "", "`ADDR` of the far end")
	f.StringVar(&o.readyFile, "ready-file", "", "`FILE` to write, as JSON with the real address, when it listens")
	f.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "`NUMBER` that repeats what chance did (random)")
	f.StringVar(&up, "up", "", "`PROFILE` towards the far end, in place of the flags below")
	f.StringVar(&down, "down", "", "`PROFILE` back from it, in place of the flags below")
	var both []string
	for _, w := range words {
		if w.arg == "" {
			f.BoolFunc(w.name, w.help, func(v string) error { both = append(both, w.name+"="+v); return nil })
			continue
		}
		f.Func(w.name, "`"+w.arg+"`: "+w.help, func(v string) error { both = append(both, w.name+"="+v); return nil })
	}
	if len(args) == 0 || args[0] != "udp" && args[0] != "tcp" {
		f.Usage()
		if len(args) > 0 && strings.Contains(args[0], "help") || len(args) > 0 && args[0] == "-h" {
			return nil, flag.ErrHelp
		}
		return nil, errors.New("say udp or tcp first")
	}
	o.kind = args[0]
	if err := f.Parse(args[1:]); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("%q is not a flag", f.Arg(0))
	}
	if o.to == "" {
		return nil, errors.New("give the far end's address with --to")
	}
	given := map[string]bool{}
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for _, d := range []struct {
		to    *impair.Profile
		name  string
		words string
	}{{&o.up, "up", up}, {&o.down, "down", down}} {
		if !given[d.name] {
			d.words = strings.Join(both, " ")
		}
		var err error
		if *d.to, err = impair.ParseProfile(d.words); err != nil {
			return nil, err
		}
	}
	return o, nil
}

func (o *options) start() (proxy, error) {
	if o.kind == "udp" {
		return impair.ListenUDP(impair.UDPConfig{Listen: o.listen, To: o.to, Seed: o.seed, Up: o.up, Down: o.down})
	}
	return impair.ListenTCP(impair.TCPConfig{Listen: o.listen, To: o.to, Seed: o.seed, Up: o.up, Down: o.down})
}

// announce writes the ready file in one step.
func announce(file string, addr netip.AddrPort) error {
	if file == "" {
		return nil
	}
	raw, err := json.Marshal(map[string]string{"addr": addr.String()})
	if err != nil {
		return fmt.Errorf("write ready file: %w", err)
	}
	if err := errors.Join(os.WriteFile(file+".new", append(raw, '\n'), 0o644), os.Rename(file+".new", file)); err != nil {
		return fmt.Errorf("write ready file: %w", err)
	}
	return nil
}

// order does what a line of standard input says.
func order(p proxy, line string, out io.Writer) error {
	verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	switch verb {
	case "":
		return nil
	case "up", "down", "both":
		profile, err := impair.ParseProfile(rest)
		if err != nil {
			return err
		}
		for _, d := range []impair.Direction{impair.Up, impair.Down} {
			if verb == "both" || verb == d.String() {
				err = errors.Join(err, p.SetProfile(d, profile))
			}
		}
		return err
	case "rebind":
		if u, ok := p.(*impair.UDP); ok {
			return u.Rebind()
		}
		return errors.New("rebind is for udp: a TCP connection does not survive a new port; use cut")
	case "reject":
		on := strings.TrimSpace(rest)
		if on != "on" && on != "off" {
			return errors.New("say reject on, or reject off")
		}
		return p.Reject(on == "on")
	case "cut":
		if t, ok := p.(*impair.TCP); ok {
			t.Cut()
			return nil
		}
		return errors.New("cut is for tcp; use blackhole or reject")
	case "counters":
		return counters(p, out)
	}
	return fmt.Errorf("unknown: %q; there are up, down, both, rebind, reject, cut, counters", verb)
}

// figures are the counters of a direction, for people and scripts.
type figures struct {
	Packets     uint64            `json:"packets"`
	Bytes       uint64            `json:"bytes"`
	SentPackets uint64            `json:"sent_packets"`
	SentBytes   uint64            `json:"sent_bytes"`
	Duplicated  uint64            `json:"duplicated"`
	Reordered   uint64            `json:"reordered"`
	Dropped     map[string]uint64 `json:"dropped"`
}

func counters(p proxy, out io.Writer) error {
	all := make(map[string]figures)
	for _, d := range []impair.Direction{impair.Up, impair.Down} {
		c := p.Counters(d)
		all[d.String()] = figures{c.Packets, c.Bytes, c.SentPackets, c.SentBytes, c.Duplicated, c.Reordered, c.DroppedByName()}
	}
	return json.NewEncoder(out).Encode(all)
}
