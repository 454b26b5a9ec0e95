package methods_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"sidetone/agent/internal/probe"
	"sidetone/agent/internal/probe/methods"
	"sidetone/agent/internal/probe/probetest"
	"sidetone/shared/stamp"
	"sidetone/shared/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEveryMethodIsThere(t *testing.T) {
	all := methods.All()
	for _, m := range []telemetry.Method{telemetry.MethodICMP, telemetry.MethodSTAMP, telemetry.MethodTCP,
		telemetry.MethodTLS, telemetry.MethodDNS, telemetry.MethodSTUN} {
		if all[m] == nil {
			t.Errorf("%s has no driver", m)
		}
	}
}

// The whole way on real sockets: a prober with a STAMP target and a TCP target, until
// a window of each is out.
func TestProberOnLoopback(t *testing.T) {
	reflector := reflect(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const interval = 200 * time.Millisecond
	cfg := probe.Config{Window: probe.MinWindow, Targets: []probe.Target{
		{Method: telemetry.MethodSTAMP, Name: "collector", Address: probe.AddressCollector, Interval: interval},
		{Method: telemetry.MethodTCP, Name: "pbx", Address: l.Addr().String(), Interval: interval},
	}}
	var mu sync.Mutex
	got := map[telemetry.ItemID]telemetry.ProbeWindow{}
	ctx, cancel := context.WithTimeout(t.Context(), probetest.Patience)
	defer cancel()
	p, err := probe.New(cfg, probe.Deps{Log: zerolog.Nop(), Methods: methods.All(), Emit: func(s *telemetry.Set) {
		mu.Lock()
		defer mu.Unlock()
		for _, w := range s.ProbeWindows {
			if w.Received > 0 {
				got[w.Target] = w
			}
		}
		if len(got) == len(cfg.Targets) {
			cancel()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	p.SetReflector(reflector)
	if err := p.Run(ctx); err != nil {
		t.Fatal(err)
	}
	for _, target := range cfg.Targets {
		w, ok := got[target.ID()]
		if !ok {
			t.Fatalf("no window of %s", target.Name)
		}
		if w.Sent != w.Received+w.Lost || len(w.RTTUS) != int(w.Sent) || w.RTTMinUS == 0 || w.LengthMS != 2000 {
			t.Errorf("%s: %+v", target.Name, w)
		}
		if stamps := target.Method == telemetry.MethodSTAMP; stamps != (w.LostForward != nil) {
			t.Errorf("%s: forward %v", target.Name, w.LostForward)
		}
	}
}

func TestBadTargetIsNamed(t *testing.T) {
	p, err := probe.New(probe.Config{Targets: []probe.Target{
		{Method: telemetry.MethodTLS, Name: "board", Address: "pbx.example", CAFile: "missing.pem"},
	}}, probe.Deps{Log: zerolog.Nop(), Methods: methods.All(), Emit: func(*telemetry.Set) {}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "board") || !strings.Contains(err.Error(), "missing.pem") {
		t.Errorf("%v", err)
	}
}

// reflect runs a STAMP reflector until the test ends.
func reflect(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	go func() {
		defer close(done)
		sessions := stamp.NewSessions(0, 0)
		buf := make([]byte, 1500)
		for {
			n, src, err := conn.ReadFromUDPAddrPort(buf)
			at := time.Now()
			if err != nil {
				return
			}
			answer, err := stamp.Reflect(nil, buf[:n], at, 64, sessions.Next(stamp.SessionKey{Source: src}, at))
			if err == nil {
				_, _ = conn.WriteToUDPAddrPort(answer, src)
			}
		}
	}()
	return conn.LocalAddr().String()
}
