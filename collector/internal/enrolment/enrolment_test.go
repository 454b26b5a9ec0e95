package enrolment_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rs/zerolog"

	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/ca"
	"sidetone/collector/internal/controldb"
	"sidetone/collector/internal/controldb/sqlite"
	"sidetone/collector/internal/enrolment"
	"sidetone/shared/certid"
	"sidetone/shared/wire"
)

// rig is an enrolment over a real store and a real CA, with a clock moved by hand.
type rig struct {
	*enrolment.Service
	db *controldb.DB
	ca *ca.CA

	mu  sync.Mutex
	now time.Time
}

func newRig(t *testing.T, log io.Writer) *rig {
	t.Helper()
	dir := t.TempDir()
	db, err := sqlite.Open(filepath.Join(dir, "control.db"))
	check(t, err)
	t.Cleanup(func() { check(t, db.Close()) })
	check(t, db.Migrate(t.Context()))
	authority, err := ca.Open(filepath.Join(dir, "ca"), ca.Config{})
	check(t, err)
	r := &rig{db: db, ca: authority, now: time.Now()}
	r.Service = enrolment.New(enrolment.Deps{Store: db, CA: authority, Log: zerolog.New(log), Now: r.clock})
	return r
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) pass(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rig) token(t *testing.T, uses int) certid.Token {
	t.Helper()
	tok, _, err := r.CreateToken(t.Context(), authz.System(), enrolment.TokenSpec{
		Tenant: "MSP", Customer: "Acme", Site: "HQ", Uses: uses, Addr: "collector.example:4430"})
	check(t, err)
	return tok
}

func csr(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	check(t, err)
	return der
}

func request(t *testing.T, tok certid.Token, enrolmentID string) wire.EnrolRequest {
	t.Helper()
	return wire.EnrolRequest{Token: tok.String(), EnrolmentID: enrolmentID, CSR: csr(t), Hostname: "pbx1", OS: "linux", Arch: "amd64", Version: "1"}
}

// system sees everything.
var system = authz.System()

var remote = &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 40000}

func enrolmentID(n int) string { return fmt.Sprintf("enrolment-of-agent-%d", n) }

// identityOf checks a response and reads the certificate's identity.
func identityOf(t *testing.T, resp wire.EnrolResponse) certid.ID {
	t.Helper()
	if resp.Code != "" {
		t.Fatalf("refused: %s: %s", resp.Code, resp.Error)
	}
	leaf, err := x509.ParseCertificate(resp.Chain[0])
	check(t, err)
	id, err := certid.FromCert(leaf)
	check(t, err)
	if uint32(id.Tenant) != resp.Tenant || uint32(id.Agent) != resp.Agent || id.Generation != resp.Generation {
		t.Errorf("certificate of %v, response %d/%d/%d", id, resp.Tenant, resp.Agent, resp.Generation)
	}
	return id
}

func wantCode(t *testing.T, resp wire.EnrolResponse, code string) {
	t.Helper()
	if resp.Code != code || resp.Error == "" || len(resp.Chain) != 0 {
		t.Errorf("code %q (%q, chain %d), want %q", resp.Code, resp.Error, len(resp.Chain), code)
	}
}

func TestEnrol(t *testing.T) {
	r := newRig(t, io.Discard)
	tok := r.token(t, 1)
	resp := r.Enrol(t.Context(), remote, request(t, tok, enrolmentID(1)))
	id := identityOf(t, resp)
	if resp.Site != "HQ" || !bytes.Equal(resp.Root, r.ca.RootDER()) || id.Generation != 1 {
		t.Errorf("response %+v", resp)
	}
	a, err := r.Lookup(t.Context(), id)
	if err != nil || a.Source.Agent != id.Agent || a.Source.Tenant != id.Tenant || a.SiteName != "HQ" {
		t.Errorf("lookup %+v, %v", a, err)
	}
	_, err = r.Lookup(t.Context(), certid.ID{Tenant: id.Tenant + 1, Agent: id.Agent, Generation: 1})
	wantErr(t, err, enrolment.ErrUnknown)
	_, err = r.Lookup(t.Context(), certid.ID{Tenant: id.Tenant, Agent: id.Agent + 1, Generation: 1})
	wantErr(t, err, enrolment.ErrUnknown)
}

func wantErr(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("error %v, want %v", err, target)
	}
}

func TestRefusals(t *testing.T) {
	r := newRig(t, io.Discard)
	tok, used := r.token(t, 1), r.token(t, 1)
	identityOf(t, r.Enrol(t.Context(), remote, request(t, used, enrolmentID(1))))
	old := r.token(t, 1)
	r.pass(24 * time.Hour)
	fresh := r.token(t, 1)

	edit := func(f func(*wire.EnrolRequest)) wire.EnrolRequest {
		req := request(t, fresh, enrolmentID(2))
		f(&req)
		return req
	}
	wrongSecret, unknown := fresh, fresh
	wrongSecret.Secret = tok.Secret
	unknown.ID = "AAAAAAAAAAAA"
	forged := csr(t)
	forged[len(forged)-1] ^= 1
	cases := []struct {
		name string
		req  wire.EnrolRequest
		code string
	}{
		{"expired", request(t, old, enrolmentID(2)), wire.EnrolExpiredToken},
		{"expired and used", request(t, used, enrolmentID(2)), wire.EnrolExpiredToken},
		{"wrong secret", request(t, wrongSecret, enrolmentID(2)), wire.EnrolBadToken},
		{"unknown id", request(t, unknown, enrolmentID(2)), wire.EnrolBadToken},
		{"no token", edit(func(r *wire.EnrolRequest) { r.Token = "" }), wire.EnrolBadToken},
		{"token of a megabyte", edit(func(r *wire.EnrolRequest) { r.Token = strings.Repeat("x", 1<<20) }), wire.EnrolBadToken},
		{"no enrolment id", edit(func(r *wire.EnrolRequest) { r.EnrolmentID = "" }), wire.EnrolBadRequest},
		{"long enrolment id", edit(func(r *wire.EnrolRequest) { r.EnrolmentID = strings.Repeat("x", 65) }), wire.EnrolBadRequest},
		{"strange enrolment id", edit(func(r *wire.EnrolRequest) { r.EnrolmentID = "'; DROP TABLE agent; --" }), wire.EnrolBadRequest},
		{"no CSR", edit(func(r *wire.EnrolRequest) { r.CSR = nil }), wire.EnrolBadRequest},
		{"CSR of another key", edit(func(r *wire.EnrolRequest) { r.CSR = forged }), wire.EnrolBadRequest},
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			from := &net.UDPAddr{IP: net.IPv4(198, 51, 100, byte(i)), Port: 1}
			wantCode(t, r.Enrol(t.Context(), from, c.req), c.code)
		})
	}
	// Wrong and unknown must not be told apart.
	a := r.Enrol(t.Context(), remote, request(t, wrongSecret, enrolmentID(2)))
	b := r.Enrol(t.Context(), remote, request(t, unknown, enrolmentID(2)))
	if a.Error != b.Error {
		t.Errorf("%q and %q tell which ids exist", a.Error, b.Error)
	}
	// None of it spent the token or left an agent.
	identityOf(t, r.Enrol(t.Context(), remote, request(t, fresh, enrolmentID(2))))
	wantCode(t, r.Enrol(t.Context(), remote, request(t, fresh, enrolmentID(3))), wire.EnrolUsedToken)
	if paths, err := r.db.Paths(t.Context(), authz.System(), nil); err != nil || len(paths) != 2 {
		t.Errorf("%d agents, %v, want 2", len(paths), err)
	}
}

func TestRepeatIsTheSameAgent(t *testing.T) {
	r := newRig(t, io.Discard)
	tok, other := r.token(t, 1), r.token(t, 1)
	first := identityOf(t, r.Enrol(t.Context(), remote, request(t, tok, enrolmentID(1))))
	second := identityOf(t, r.Enrol(t.Context(), remote, request(t, tok, enrolmentID(1))))
	if second.Agent != first.Agent || second.Generation != first.Generation+1 {
		t.Errorf("first %v, repeated %v", first, second)
	}
	if _, err := r.Lookup(t.Context(), second); err != nil {
		t.Error(err)
	}
	wantCode(t, r.Enrol(t.Context(), remote, request(t, other, enrolmentID(1))), wire.EnrolBadRequest)
	wantCode(t, r.Enrol(t.Context(), remote, request(t, tok, enrolmentID(2))), wire.EnrolUsedToken)
	check(t, r.Revoke(t.Context(), authz.System(), first.Agent))
	wantCode(t, r.Enrol(t.Context(), remote, request(t, tok, enrolmentID(1))), wire.EnrolUsedToken)
}

func TestOneUseRaced(t *testing.T) {
	r := newRig(t, io.Discard)
	tok := r.token(t, 1)
	const agents = 8
	codes := make([]string, agents)
	reqs := make([]wire.EnrolRequest, agents)
	for i := range reqs {
		reqs[i] = request(t, tok, enrolmentID(i))
	}
	var wg sync.WaitGroup
	for i := range agents {
		wg.Go(func() { codes[i] = r.Enrol(t.Context(), remote, reqs[i]).Code })
	}
	wg.Wait()
	count := map[string]int{}
	for _, c := range codes {
		count[c]++
	}
	if count[""] != 1 || count[wire.EnrolUsedToken] != agents-1 {
		t.Errorf("answers %v, want one identity and %d used tokens", count, agents-1)
	}
}

func TestGuessingIsSlowed(t *testing.T) {
	r := newRig(t, io.Discard)
	tok := r.token(t, 1)
	wrong := tok
	wrong.Secret = "AAAA"
	guess := request(t, wrong, enrolmentID(1))
	busy := 0
	for range 100 {
		if r.Enrol(t.Context(), remote, guess).Code == wire.EnrolBusy {
			busy++
		}
	}
	if busy != 50 {
		t.Errorf("%d of 100 guesses were turned away, want 50", busy)
	}
	wantCode(t, r.Enrol(t.Context(), remote, request(t, tok, enrolmentID(1))), wire.EnrolBusy)
	elsewhere := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 1}
	identityOf(t, r.Enrol(t.Context(), elsewhere, request(t, tok, enrolmentID(1))))

	// A roll-out behind one address is not guessing.
	many := r.token(t, 60)
	for i := range 60 {
		identityOf(t, r.Enrol(t.Context(), elsewhere, request(t, many, enrolmentID(100+i))))
	}
}

func TestRenewAndClone(t *testing.T) {
	r := newRig(t, io.Discard)
	ctx := t.Context()
	id := identityOf(t, r.Enrol(ctx, remote, request(t, r.token(t, 1), enrolmentID(1))))
	use := func(g uint64, target error) {
		t.Helper()
		who := id
		who.Generation = g
		if _, err := r.Lookup(ctx, who); !errors.Is(err, target) {
			t.Errorf("generation %d: %v, want %v", g, err, target)
		}
	}
	renew := func(from, want uint64) {
		t.Helper()
		who := id
		who.Generation = from
		chain, g, err := r.Renew(ctx, who, csr(t))
		if err != nil || g != want {
			t.Fatalf("renewal of %d: generation %d, %v, want %d", from, g, err, want)
		}
		leaf, err := x509.ParseCertificate(chain[0])
		check(t, err)
		if got, err := certid.FromCert(leaf); err != nil || got.Generation != want || got.Agent != id.Agent || got.Tenant != id.Tenant {
			t.Errorf("renewed as %v, %v", got, err)
		}
	}
	use(1, nil)
	renew(1, 2)
	renew(1, 2) // the answer was lost: the same again, as often as it takes
	renew(1, 2)
	use(1, nil) // still on the old connection
	use(2, nil)
	use(1, enrolment.ErrStaleGeneration) // from now on only a copy has this one
	if _, _, err := r.Renew(ctx, id, csr(t)); !errors.Is(err, enrolment.ErrStaleGeneration) {
		t.Errorf("a copy was renewed: %v", err)
	}
	renew(2, 3)
	use(3, nil)
	use(9, nil) // this store is older than the certificate: it came from a backup
	use(3, enrolment.ErrStaleGeneration)
	if _, _, err := r.Renew(ctx, certid.ID{Tenant: id.Tenant, Agent: id.Agent, Generation: 9}, []byte("x")); !errors.Is(err, ca.ErrBadCSR) {
		t.Errorf("bad CSR: %v", err)
	}
}

func TestRevoke(t *testing.T) {
	r := newRig(t, io.Discard)
	ctx := t.Context()
	id := identityOf(t, r.Enrol(ctx, remote, request(t, r.token(t, 1), enrolmentID(1))))
	wantErr(t, r.Revoke(ctx, authz.Tenants(id.Tenant+1), id.Agent), enrolment.ErrUnknown)
	if ok, err := r.Known(ctx, id.Agent); !ok || err != nil {
		t.Errorf("known %v, %v", ok, err)
	}
	check(t, r.Revoke(ctx, authz.Tenants(id.Tenant), id.Agent))
	if ok, err := r.Known(ctx, id.Agent); ok || err != nil {
		t.Errorf("known after revocation: %v, %v", ok, err)
	}
	_, err := r.Lookup(ctx, id)
	wantErr(t, err, enrolment.ErrRevoked)
	_, _, err = r.Renew(ctx, id, csr(t))
	wantErr(t, err, enrolment.ErrRevoked)
}

func TestTokenMistakes(t *testing.T) {
	r := newRig(t, io.Discard)
	good := enrolment.TokenSpec{Tenant: "T", Site: "S", Addr: "c.example:443"}
	cases := []struct {
		name  string
		spoil func(*enrolment.TokenSpec)
		field string
	}{
		{"no tenant", func(s *enrolment.TokenSpec) { s.Tenant = "  " }, "tenant"},
		{"no site", func(s *enrolment.TokenSpec) { s.Site = "" }, "site"},
		{"control character", func(s *enrolment.TokenSpec) { s.Site = "a\nb" }, "site"},
		{"right-to-left override", func(s *enrolment.TokenSpec) { s.Customer = "a\u202eb" }, "customer"},
		{"long name", func(s *enrolment.TokenSpec) { s.Tenant = strings.Repeat("x", 201) }, "tenant"},
		{"bad UTF-8", func(s *enrolment.TokenSpec) { s.Tenant = "a\xff" }, "tenant"},
		{"negative uses", func(s *enrolment.TokenSpec) { s.Uses = -1 }, "uses"},
		{"too many uses", func(s *enrolment.TokenSpec) { s.Uses = 10_001 }, "uses"},
		{"too long a life", func(s *enrolment.TokenSpec) { s.TTL = 91 * 24 * time.Hour }, "hours"},
		{"negative life", func(s *enrolment.TokenSpec) { s.TTL = -1 }, "hours"},
		{"no port", func(s *enrolment.TokenSpec) { s.Addr = "c.example" }, "address"},
		{"port 0", func(s *enrolment.TokenSpec) { s.Addr = "c.example:0" }, "address"},
		{"no host", func(s *enrolment.TokenSpec) { s.Addr = ":443" }, "address"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			spec := good
			c.spoil(&spec)
			_, _, err := r.CreateToken(t.Context(), authz.System(), spec)
			var field *enrolment.FieldError
			if !errors.As(err, &field) || field.Field != c.field {
				t.Errorf("error %v, want one of field %q", err, c.field)
			}
		})
	}
	_, _, err := r.CreateToken(t.Context(), authz.Scope{}, good)
	wantErr(t, err, enrolment.ErrForbidden)
	tok, expires, err := r.CreateToken(t.Context(), authz.System(), good)
	check(t, err)
	if back, err := certid.ParseToken(tok.String()); err != nil || back != tok || tok.RootSPKI != r.ca.RootSPKI() {
		t.Errorf("token %v, %v", back.Redacted(), err)
	}
	if d := expires.Sub(r.clock()); d < 24*time.Hour-time.Second || d > 24*time.Hour {
		t.Errorf("life %s, want 24 h", d)
	}
	stored, err := r.db.Token(t.Context(), tok.ID)
	check(t, err)
	if len(stored.SecretHash) != 32 || bytes.Contains(stored.SecretHash, []byte(tok.Secret)) || len(tok.Secret) != 43 {
		t.Error("the secret is not kept as a hash, or has not 256 bits")
	}
}

// Hostile text is cut and cleaned before it is stored or logged; secrets never are.
func TestHostileApplicant(t *testing.T) {
	var log bytes.Buffer
	r := newRig(t, &log)
	tok := r.token(t, 1)
	req := request(t, tok, enrolmentID(1))
	req.Hostname = "evil\r\n{\"level\":\"error\"}\x00" + strings.Repeat("ä", 1<<16)
	req.OS = "\xff\u202elinux"
	id := identityOf(t, r.Enrol(t.Context(), remote, req))
	paths, err := r.db.Paths(t.Context(), authz.System(), &id.Agent)
	check(t, err)
	p := paths[0]
	if len(p.Hostname) > 253 || !strings.HasPrefix(p.Hostname, `evil{"level":"error"}ä`) || p.OS != "linux" {
		t.Errorf("hostname %q, OS %q", p.Hostname, p.OS)
	}
	wrong := tok
	wrong.Secret = "wrong-secret-canary"
	r.Enrol(t.Context(), remote, request(t, wrong, enrolmentID(2)))
	if strings.Contains(log.String(), tok.Secret) || strings.Contains(log.String(), "canary") {
		t.Errorf("a secret is in the log:\n%s", log.String())
	}
	if n := strings.Count(log.String(), "\n"); n != 2 {
		t.Errorf("%d log lines, want 2:\n%s", n, log.String())
	}
}

// A store that fails is the collector's trouble: the agent is told to come again.
func TestStoreDown(t *testing.T) {
	r := newRig(t, io.Discard)
	tok := r.token(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantCode(t, r.Enrol(ctx, remote, request(t, tok, enrolmentID(1))), wire.EnrolBusy)
	identityOf(t, r.Enrol(t.Context(), remote, request(t, tok, enrolmentID(1))))
}

func FuzzApplicant(f *testing.F) {
	f.Add("enrolment-of-agent-1", "pbx1", "linux")
	f.Add("", "\xff\u202e\x00", strings.Repeat("ä", 200))
	f.Fuzz(func(t *testing.T, enrolmentID, hostname, os string) {
		a, err := enrolment.CleanApplicant(wire.EnrolRequest{EnrolmentID: enrolmentID, Hostname: hostname, OS: os})
		if err != nil {
			return
		}
		if a.EnrolmentID != enrolmentID || len(enrolmentID) > 64 {
			t.Errorf("enrolment id %q became %q", enrolmentID, a.EnrolmentID)
		}
		if len(a.Hostname) > 253 || len(a.OS) > 64 {
			t.Errorf("kept %d and %d bytes", len(a.Hostname), len(a.OS))
		}
		for _, text := range []string{a.Hostname, a.OS} {
			if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("kept %q", text)
			}
		}
	})
}
