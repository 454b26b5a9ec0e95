package doctor

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"sidetone/shared/certid"
	"sidetone/shared/link/linktest"
)

// forward passes TCP connections on to target: a way on which UDP does not get through.
func forward(t *testing.T, target string) string {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer near.Close()
				far, err := net.Dial("tcp", target)
				if err != nil {
					return
				}
				defer far.Close()
				wg.Go(func() {
					_, _ = io.Copy(near, far)
					_ = near.Close()
				})
				_, _ = io.Copy(far, near)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
	})
	return ln.Addr().String()
}

func TestWays(t *testing.T) {
	ca := linktest.NewCA(t, "root")
	far := ca.Listen("").Addr().String()
	agent := ca.Agent(certid.ID{Tenant: 1, Agent: 2}, time.Now().Add(time.Hour))
	proxy := linktest.NewProxy(t, nil).URL(nil)
	deaf := linktest.Reject(t)
	inspected := linktest.NewCA(t, "Corp Inspection").Inspect(far)
	for _, c := range []struct {
		name, addr string
		proxy      bool
		want       []Verdict
		says       string // of the first that is not fine
		advice     string
	}{
		{"all", far, false, []Verdict{OK, OK}, "", ""},
		{"all, and a proxy", far, true, []Verdict{OK, OK, OK}, "", ""},
		{"no UDP", forward(t, far), false, []Verdict{Warn, OK}, "the agent uses TCP", "a firewall rejects UDP"},
		{"nothing", deaf, false, []Verdict{Fail, Fail}, "refused", "a firewall rejects UDP"},
		{"inspected", inspected, false, []Verdict{Fail, Fail}, "refused", "a firewall rejects UDP"},
		{"nothing, not even for the proxy", "127.0.0.1:1", true, []Verdict{Fail, Fail, Fail}, "refused", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := proxy
			if !c.proxy {
				u = nil
			}
			list := checkCollector(t.Context(), c.addr, func() *tls.Config { return agent.Clone() }, u)
			if len(list) != len(c.want) {
				t.Fatalf("findings %+v", list)
			}
			first := true
			for i, f := range list {
				if f.Verdict != c.want[i] || (f.Verdict == OK) != (f.Advice == "") || !strings.HasPrefix(f.Check, "collector over ") {
					t.Errorf("finding %+v; want %s", f, c.want[i])
				}
				if f.Verdict != OK && first {
					first = false
					if !strings.Contains(f.Detail, c.says) || !strings.Contains(f.Advice, c.advice) {
						t.Errorf("finding %+v", f)
					}
				}
			}
			if c.name == "inspected" && !strings.Contains(list[1].Advice, `issuer "CN=Corp Inspection"`) {
				t.Errorf("finding %+v", list[1])
			}
		})
	}
}
