package identity_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sidetone/agent/internal/identity"
	"sidetone/shared/certid"
)

func TestRenew(t *testing.T) {
	t.Parallel()
	c := newCollector(t).serve(t)
	dir := t.TempDir()
	i := enrol(t, dir, c.token("one"))
	for g := uint64(2); g <= 5; g++ {
		csr, err := i.NewCSR()
		check(t, err)
		if got := knock(t, c, i); got != id(g-1) {
			t.Errorf("before the answer the collector saw %v", got)
		}
		check(t, i.Install(c.agentChain(t, csr, id(g)), g))
		again, err := identity.Open(dir)
		check(t, err)
		if again.Info() != i.Info() || i.Info().Generation != g {
			t.Errorf("in use %+v, on disk %+v", i.Info(), again.Info())
		}
		if got := knock(t, c, i); got != id(g) {
			t.Errorf("after the answer the collector saw %v", got)
		}
		if err := i.Install(c.agentChain(t, csr, id(g+1)), g+1); err == nil {
			t.Error("one request was answered twice")
		}
	}
	privateFiles(t, dir)
}

func TestInstallRefuses(t *testing.T) {
	t.Parallel()
	c, other := newCollector(t), newCollector(t)
	c.serve(t)
	dir := t.TempDir()
	i := enrol(t, dir, c.token("one"))
	before := i.Info()
	old, err := i.NewCSR()
	check(t, err)
	csr, err := i.NewCSR()
	check(t, err)
	cases := []struct {
		name       string
		chain      [][]byte
		generation uint64
	}{
		{"nothing", nil, 2},
		{"same generation", c.agentChain(t, csr, id(1)), 1},
		{"another generation than said", c.agentChain(t, csr, id(3)), 2},
		{"another agent", c.agentChain(t, csr, certid.ID{Tenant: 2, Agent: 10, Generation: 2}), 2},
		{"another tenant", c.agentChain(t, csr, certid.ID{Tenant: 3, Agent: 9, Generation: 2}), 2},
		{"another collector", other.agentChain(t, csr, id(2)), 2},
		{"an older request", c.agentChain(t, old, id(2)), 2},
		{"endless chain", append(c.agentChain(t, csr, id(2)), c.server.Certificate...), 2},
		{"no intermediate", c.agentChain(t, csr, id(2))[:1], 2},
	}
	for _, tc := range cases {
		if err := i.Install(tc.chain, tc.generation); err == nil {
			t.Errorf("%s: installed", tc.name)
		}
	}
	again, err := identity.Open(dir)
	check(t, err)
	if i.Info() != before || again.Info() != before {
		t.Errorf("a refused answer changed %+v to %+v, on disk %+v", before, i.Info(), again.Info())
	}
	check(t, i.Install(c.agentChain(t, csr, id(2)), 2)) // the request is still open
}

func TestUseWhileRenewing(t *testing.T) {
	t.Parallel()
	c := newCollector(t).serve(t)
	i := enrol(t, t.TempDir(), c.token("one"))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		cfg := i.TLS()
		for last := uint64(0); ; {
			select {
			case <-stop:
				return
			default:
			}
			cert, err := cfg.GetClientCertificate(nil)
			if err != nil {
				t.Error(err)
				return
			}
			who, err := certid.FromCert(cert.Leaf)
			if err != nil || who.Generation < last {
				t.Errorf("presented %v, %v after generation %d", who, err, last)
				return
			}
			last = who.Generation
			i.Info()
			i.RenewalDue(time.Now())
		}
	})
	for g := uint64(2); g <= 20; g++ {
		csr, err := i.NewCSR()
		check(t, err)
		check(t, i.Install(c.agentChain(t, csr, id(g)), g))
	}
	close(stop)
	wg.Wait()
}

func TestRenewalDue(t *testing.T) {
	t.Parallel()
	c := newCollector(t).serve(t)
	earliest, latest := 1.0, 0.0
	for range 12 {
		i := enrol(t, t.TempDir(), c.token("one"))
		info := i.Info()
		life := info.NotAfter.Sub(info.NotBefore)
		at := func(share float64) bool {
			return i.RenewalDue(info.NotBefore.Add(time.Duration(share * float64(life))))
		}
		if at(0) || at(0.66) || !at(0.751) || !at(1) || !at(5) {
			t.Error("due outside two thirds to three quarters of the life")
		}
		share := 0.66
		for !at(share) {
			share += 0.001
		}
		earliest, latest = min(earliest, share), max(latest, share)
	}
	if latest-earliest < 0.01 { // 12 draws of 1/12: closer only once in 10^9 runs
		t.Errorf("a fleet renews within %f of a life", latest-earliest)
	}
}

// Each case damages the files of an enrolled agent that has renewed once.
func TestOpenAfterDamage(t *testing.T) {
	t.Parallel()
	c, other := newCollector(t), newCollector(t)
	c.serve(t)
	other.serve(t)
	foreign := t.TempDir()
	enrol(t, foreign, other.token("one"))

	write := func(name, text string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)) }
	}
	steal := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			b, err := os.ReadFile(filepath.Join(foreign, "identity", "a", name))
			check(t, err)
			check(t, os.WriteFile(filepath.Join(dir, "b", name), b, 0o600))
		}
	}
	cut := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			info, err := os.Stat(filepath.Join(dir, name))
			check(t, err)
			check(t, os.Truncate(filepath.Join(dir, name), info.Size()/2))
		}
	}
	cases := []struct {
		name   string
		damage func(*testing.T, string)
		kind   error // nil = opens with generation 2
	}{
		{"untouched", func(*testing.T, string) {}, nil},
		{"cut off while the other slot was written", write("a/key.pem", "half a k"), nil},
		{"other slot gone", func(t *testing.T, dir string) { check(t, os.RemoveAll(filepath.Join(dir, "a"))) }, nil},
		{"temporary file left", write("b/.key.pem-123", "x"), nil},
		{"attempt left", write("enrolment.json", `{"token_id":"one","enrolment_id":"x"}`), nil},
		{"never switched", func(t *testing.T, dir string) { check(t, os.Remove(filepath.Join(dir, "current"))) }, identity.ErrNotEnrolled},
		{"switch empty", write("current", ""), identity.ErrDamaged},
		{"switch elsewhere", write("current", "../../etc"), identity.ErrDamaged},
		{"slot gone", func(t *testing.T, dir string) { check(t, os.RemoveAll(filepath.Join(dir, "b"))) }, identity.ErrDamaged},
		{"key cut", cut("b/key.pem"), identity.ErrDamaged},
		{"chain cut", cut("b/chain.pem"), identity.ErrDamaged},
		{"root cut", cut("b/root.pem"), identity.ErrDamaged},
		{"identity.json cut", cut("b/identity.json"), identity.ErrDamaged},
		{"identity.json huge", write("b/identity.json", strings.Repeat(" ", 1<<17)), identity.ErrDamaged},
		{"identity.json of another agent", write("b/identity.json", `{"tenant":2,"agent":8}`), identity.ErrDamaged},
		{"key of another", steal("key.pem"), identity.ErrDamaged},
		{"chain of another", steal("chain.pem"), identity.ErrDamaged},
		{"root of another", steal("root.pem"), identity.ErrDamaged},
	}
	whole := t.TempDir()
	i := enrol(t, whole, c.token("one"))
	csr, err := i.NewCSR()
	check(t, err)
	check(t, i.Install(c.agentChain(t, csr, id(2)), 2))
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			check(t, os.CopyFS(dir, os.DirFS(whole)))
			tc.damage(t, filepath.Join(dir, "identity"))
			if tc.kind != nil {
				unusable(t, c, dir, tc.kind)
				return
			}
			got, err := identity.Open(dir)
			check(t, err)
			if got.Info() != i.Info() {
				t.Errorf("opened %+v, was %+v", got.Info(), i.Info())
			}
		})
	}
}

// unusable checks that a state is refused for the reason, is not replaced without
// being told to, and can be replaced.
func unusable(t *testing.T, c *collector, dir string, kind error) {
	t.Helper()
	_, err := identity.Open(dir)
	wantErr(t, err, kind)
	if kind == identity.ErrDamaged {
		_, err := identity.Enrol(t.Context(), dir, c.token("two"), identity.EnrolOptions{})
		wantErr(t, err, identity.ErrDamaged)
	}
	_, err = identity.Enrol(t.Context(), dir, c.token("two"), identity.EnrolOptions{Force: true})
	check(t, err)
	got, err := identity.Open(dir)
	check(t, err)
	if got.Info().Generation != 1 {
		t.Errorf("after enrolling again: %+v", got.Info())
	}
}

// An agent that was dark for weeks still knows who it is: what becomes of an ended
// certificate is the collector's to say.
func TestEndedCertificateOpens(t *testing.T) {
	t.Parallel()
	c := newCollector(t).serve(t)
	ended := time.Now().Add(-30 * 24 * time.Hour)
	c.agentLife = [2]time.Time{ended.Add(-7 * 24 * time.Hour), ended}
	dir := t.TempDir()
	enrol(t, dir, c.token("one"))
	i, err := identity.Open(dir)
	check(t, err)
	if !i.Info().NotAfter.Before(time.Now()) || !i.RenewalDue(time.Now()) {
		t.Errorf("info %+v: it ended a month ago and must be due", i.Info())
	}
}
