//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// firewall is a table of nftables for one port; it is gone after the test.
type firewall struct {
	t     *testing.T
	table string
	port  string
}

func newFirewall(t *testing.T, addr string) *firewall {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil || os.Getuid() != 0 {
		t.Skip("a firewall needs nftables and root")
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	f := &firewall{t: t, table: fmt.Sprintf("sidetone_%d_%s", os.Getpid(), port), port: port}
	f.nft("add", "table", "inet", f.table)
	t.Cleanup(func() { f.nft("delete", "table", "inet", f.table) })
	f.nft("add", "chain", "inet", f.table, "input", "{ type filter hook input priority 0 ; }")
	return f
}

func (f *firewall) nft(args ...string) {
	f.t.Helper()
	if out, err := exec.Command("nft", args...).CombinedOutput(); err != nil {
		f.t.Fatalf("nft %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// rule adds a rule for packets to and from the port; PORT stands for "dport N".
func (f *firewall) rule(text string) {
	f.t.Helper()
	f.nft(append([]string{"add", "rule", "inet", f.table, "input"}, strings.Fields(strings.ReplaceAll(text, "PORT", "dport "+f.port))...)...)
}

func (f *firewall) open() {
	f.t.Helper()
	f.nft("flush", "chain", "inet", f.table, "input")
}

// lastUp is transport and reason of the newest connection after the given time.
func (s *site) lastUp(after time.Time) (transport, reason string) {
	rows, err := sqlIn(s.t, s.collectorData(), fmt.Sprintf(`SELECT transport, reason FROM sidetone.link_event
		WHERE event IN ('up', 'moved') AND observed > fromUnixTimestamp64Milli(%d) ORDER BY observed DESC LIMIT 1`, after.UnixMilli()))
	if err != nil || len(rows) == 0 {
		return "", ""
	}
	return fmt.Sprint(rows[0]["transport"]), fmt.Sprint(rows[0]["reason"])
}

// UDP is dropped, rejected, opened, and dropped again under a connection: the agent is
// connected by TCP within 30 s each time, says why, is back on QUIC when it can be, and
// loses nothing.
func TestFirewalls(t *testing.T) {
	t.Parallel()
	s := newSite(t, "")
	f := newFirewall(t, s.agentsUDP)
	up := func(what, want string, since time.Time, limit time.Duration, reason string) {
		t.Helper()
		var transport, why string
		took := eventually(t, limit, what+": connected by "+want, func() bool {
			transport, why = s.lastUp(since)
			return transport == want
		})
		t.Logf("%s: %s after %v, reason %q", what, transport, took.Round(100*time.Millisecond), why)
		if !strings.Contains(why, reason) {
			t.Errorf("%s: the reason %q does not say %q", what, why, reason)
		}
	}
	f.rule("udp PORT drop")
	began := time.Now()
	s.startAgent("")
	up("UDP dropped from the start", "tcp", began, 30*time.Second, "black-holed")

	f.open()
	opened := time.Now()
	up("UDP opened", "quic", opened, 150*time.Second, "")

	f.rule("udp PORT drop")
	dropped := time.Now()
	up("UDP dropped under a connection", "tcp", dropped, 75*time.Second, "")

	if soak() {
		f.open()
		f.rule("udp PORT reject")
		s.agent.kill()
		up("UDP rejected", "tcp", time.Now(), 30*time.Second, "rejected")
		f.open()
		up("UDP opened", "quic", time.Now(), 11*time.Minute, "")
		f.rule("tcp PORT reject")
		s.agent.kill()
		up("QUIC only", "quic", time.Now(), 30*time.Second, "")
	}
	s.account(60 * time.Second)
}
