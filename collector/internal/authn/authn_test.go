package authn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"sidetone/collector/internal/authz"
)

// memory is a store that keeps everything in maps; the real one passes the contract
// in controldb, which imports this package.
type memory struct {
	mu       sync.Mutex
	users    map[string]User
	sessions map[string]Session
	touched  int
	fail     error
}

func newMemory() *memory { return &memory{users: map[string]User{}, sessions: map[string]Session{}} }

func (m *memory) HasUsers(context.Context) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.users) > 0, m.fail
}

func (m *memory) CreateFirstUser(_ context.Context, u User, _ time.Time) (User, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.users) > 0 {
		return User{}, ErrSetupDone
	}
	u.ID = 1
	m.users[u.Email] = u
	return u, nil
}

func (m *memory) UserByEmail(_ context.Context, email string) (User, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return User{}, m.fail
	}
	u, ok := m.users[email]
	if !ok {
		return User{}, ErrNoUser
	}
	return u, nil
}

func (m *memory) SetPasswordHash(_ context.Context, id int64, hash string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for e, u := range m.users {
		if u.ID == id {
			u.PasswordHash = hash
			m.users[e] = u
		}
	}
	return nil
}

func (m *memory) CreateSession(_ context.Context, hash []byte, id int64, _ string, now time.Time, _ SessionEnds, _ int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, u := range m.users {
		if u.ID == id {
			m.sessions[string(hash)] = Session{User: u, Created: now, LastSeen: now}
		}
	}
	return nil
}

func (m *memory) SessionByHash(_ context.Context, hash []byte) (Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.sessions[string(hash)]
	if !ok {
		return Session{}, ErrNotSignedIn
	}
	return s, nil
}

func (m *memory) TouchSession(_ context.Context, hash []byte, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.sessions[string(hash)]
	s.LastSeen = now
	m.sessions[string(hash)] = s
	m.touched++
	return nil
}

func (m *memory) DeleteSession(_ context.Context, hash []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sessions, string(hash))
	return nil
}

// rig is the service over a fake store, with a clock moved by hand and a cheap hash.
type rig struct {
	*Service
	store *memory
	dir   string
	log   bytes.Buffer
	t     time.Time
}

var cheap = params{memoryKiB: 64, time: 1, threads: 1}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{store: newMemory(), dir: t.TempDir(), t: time.Unix(1e9, 0)}
	s, err := New(Deps{Store: r.store, Dir: r.dir, Log: zerolog.New(&r.log), Now: func() time.Time { return r.t }})
	check(t, err)
	if s.hasher, err = newHasher(cheap); err != nil {
		t.Fatal(err)
	}
	r.Service = s
	return r
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("error %v, want %v", err, target)
	}
}

const (
	email    = "noc@example.org"
	password = "correct horse battery"
	ip       = "192.0.2.1"
)

func (r *rig) owner(t *testing.T) authz.Principal {
	t.Helper()
	code, err := r.SetupCode(t.Context())
	check(t, err)
	p, err := r.Setup(t.Context(), code, email, "Noc", password)
	check(t, err)
	return p
}

func TestSetup(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	code, err := r.SetupCode(ctx)
	check(t, err)
	if len(code) != 19 || strings.Count(code, "-") != 3 {
		t.Errorf("code %q", code)
	}
	path := filepath.Join(r.dir, "setup-code")
	info, err := os.Stat(path)
	check(t, err)
	if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %04o", info.Mode().Perm())
	}
	again, err := New(Deps{Store: r.store, Dir: r.dir, Log: zerolog.Nop()})
	check(t, err)
	if other, err := again.SetupCode(ctx); err != nil || other != code {
		t.Errorf("after a restart the code is %q, %v, was %q", other, err, code)
	}
	if other, err := newRig(t).SetupCode(ctx); err != nil || other == code {
		t.Errorf("two installations share a code: %v", err)
	}
	for _, wrong := range []string{"", "AAAA-AAAA-AAAA-AAAA", code[:18], code + "A", strings.Repeat("A", 1<<20)} {
		_, err := r.Setup(ctx, wrong, email, "Noc", password)
		wantErr(t, err, ErrBadCode)
	}
	_, err = r.Setup(ctx, code, "not an address", "", "short")
	for _, f := range []string{"email", "name", "password"} {
		if err == nil || !strings.Contains(err.Error(), f) {
			t.Errorf("mistakes %v do not name %s", err, f)
		}
	}
	typed := strings.ToLower(strings.ReplaceAll(code, "-", " ")) // as a person types it
	p, err := r.Setup(ctx, " "+typed, " NOC@Example.org ", "Noc", password)
	check(t, err)
	if p.Email != email || p.Role != authz.RoleOwner || !p.Scope().All() {
		t.Errorf("owner %+v", p)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the used code is still there: %v", err)
	}
	_, err = r.Setup(ctx, code, "second@example.org", "X", password)
	wantErr(t, err, ErrSetupDone)
	if c, err := r.SetupCode(ctx); c != "" || err != nil {
		t.Errorf("code %q, %v after the set-up", c, err)
	}
	if strings.Contains(r.store.users[email].PasswordHash, password) {
		t.Error("the password itself is stored")
	}
}

func TestSetupCodeFileDamaged(t *testing.T) {
	r := newRig(t)
	for _, text := range []string{"", "x", "AAAA-AAAA-AAAA-AAA!", strings.Repeat("A", 1<<16)} {
		check(t, os.WriteFile(filepath.Join(r.dir, "setup-code"), []byte(text), 0o600))
		_, err := r.Setup(t.Context(), text, email, "Noc", password)
		wantErr(t, err, ErrBadCode)
		if code, err := r.SetupCode(t.Context()); err != nil || len(code) != 19 {
			t.Errorf("with %.20q in the file: code %q, %v", text, code, err)
		}
	}
}

func TestSetupRaced(t *testing.T) {
	r := newRig(t)
	code, err := r.SetupCode(t.Context())
	check(t, err)
	var made atomic.Int64
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			_, err := r.Setup(t.Context(), code, fmt.Sprintf("u%d@example.org", i), "U", password)
			if err == nil {
				made.Add(1)
			} else if !errors.Is(err, ErrSetupDone) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 {
		t.Errorf("%d owners", made.Load())
	}
}

func TestSignIn(t *testing.T) {
	r := newRig(t)
	owner := r.owner(t)
	ctx := t.Context()
	token, p, err := r.SignIn(ctx, " NOC@example.org", password, ip)
	check(t, err)
	if p != owner || len(token) != 43 {
		t.Errorf("principal %+v, token of %d characters", p, len(token))
	}
	other, _, err := r.SignIn(ctx, email, password, ip)
	check(t, err)
	if other == token {
		t.Error("two sessions share a token")
	}
	for _, c := range []struct{ email, password string }{
		{email, ""}, {email, password + "x"}, {email, strings.ToUpper(password)}, {"nobody@example.org", password},
		{"", ""}, {email, strings.Repeat("x", 1<<20)}, {strings.Repeat("x", 1<<20), password},
	} {
		if _, _, err := r.SignIn(ctx, c.email, c.password, ip); !errors.Is(err, ErrBadLogin) {
			t.Errorf("%.20q, %.20q: %v", c.email, c.password, err)
		}
	}
	for hash := range r.store.sessions {
		if strings.Contains(hash, token) {
			t.Error("the token itself is stored")
		}
	}
	if strings.Contains(r.log.String(), password) {
		t.Error("a password is in the log")
	}
}

func TestSession(t *testing.T) {
	r := newRig(t)
	owner := r.owner(t)
	ctx := t.Context()
	token, _, err := r.SignIn(ctx, email, password, ip)
	check(t, err)
	alive := func(want bool) {
		t.Helper()
		p, err := r.Session(ctx, token)
		if want != (err == nil) || want && p != owner || !want && !errors.Is(err, ErrNotSignedIn) {
			t.Errorf("session: %+v, %v, want alive %v", p, err, want)
		}
	}
	for range 10 {
		alive(true)
	}
	if r.store.touched != 0 {
		t.Errorf("%d writes for requests within a minute", r.store.touched)
	}
	for range 3 { // in use: lives beyond the idle time …
		r.t = r.t.Add(idleLife - time.Second)
		if r.t.Sub(time.Unix(1e9, 0)) < absoluteLife {
			alive(true)
		}
	}
	alive(true)
	r.t = time.Unix(1e9, 0).Add(absoluteLife) // … but not beyond the absolute one
	alive(false)
	if len(r.store.sessions) != 0 {
		t.Error("an ended session is kept")
	}

	token, _, err = r.SignIn(ctx, email, password, ip)
	check(t, err)
	r.t = r.t.Add(idleLife)
	alive(false)

	token, _, err = r.SignIn(ctx, email, password, ip)
	check(t, err)
	alive(true)
	check(t, r.SignOut(ctx, token))
	alive(false)
	check(t, r.SignOut(ctx, token))
	for _, bad := range []string{"", "x", strings.Repeat("x", 43), strings.Repeat("x", 1<<20), token + "="} {
		if _, err := r.Session(ctx, bad); !errors.Is(err, ErrNotSignedIn) {
			t.Errorf("token %.20q: %v", bad, err)
		}
	}
}

func TestCookie(t *testing.T) {
	r := newRig(t)
	owner := r.owner(t)
	token, _, err := r.SignIn(t.Context(), email, password, ip)
	check(t, err)
	w := httptest.NewRecorder()
	http.SetCookie(w, Cookie(token))
	line := w.Header().Get("Set-Cookie")
	for _, want := range []string{"__Host-sidetone=", "Path=/", "Secure", "HttpOnly", "SameSite=Lax"} {
		if !strings.Contains(line, want) {
			t.Errorf("cookie %q lacks %s", line, want)
		}
	}
	if strings.Contains(line, "Domain") {
		t.Errorf("cookie %q has a domain: browsers refuse it with this prefix", line)
	}
	req := httptest.NewRequest("GET", "/", nil)
	if _, err := r.FromRequest(req); !errors.Is(err, ErrNotSignedIn) {
		t.Errorf("without a cookie: %v", err)
	}
	req.AddCookie(Cookie(token))
	if p, err := r.FromRequest(req); err != nil || p != owner {
		t.Errorf("with the cookie: %+v, %v", p, err)
	}
	w = httptest.NewRecorder()
	http.SetCookie(w, ClearCookie())
	if line := w.Header().Get("Set-Cookie"); !strings.Contains(line, "Max-Age=0") || !strings.Contains(line, "__Host-sidetone=;") {
		t.Errorf("clearing cookie %q", line)
	}
}

// guess signs in with a wrong password and reports whether the try was let through.
func (r *rig) guess(t *testing.T, email, from string) bool {
	t.Helper()
	_, _, err := r.SignIn(t.Context(), email, "wrong wrong wrong", from)
	var many *TooManyError
	switch {
	case errors.Is(err, ErrBadLogin):
		return true
	case errors.As(err, &many) && many.RetryAfter > 0:
		return false
	}
	t.Fatalf("guess: %v", err)
	return false
}

func TestGuessingOneAccountFromManyAddresses(t *testing.T) {
	r := newRig(t)
	r.owner(t)
	through := 0
	for i := range 100 {
		if r.guess(t, email, fmt.Sprintf("198.51.100.%d", i)) {
			through++
		}
	}
	if through != accountBurst {
		t.Errorf("%d guesses got through, want %d", through, accountBurst)
	}
	var many *TooManyError
	if _, _, err := r.SignIn(t.Context(), email, password, ip); !errors.As(err, &many) {
		t.Errorf("the account is not slowed: %v", err)
	}
	r.t = r.t.Add(many.RetryAfter) // nobody is locked out for good
	if _, _, err := r.SignIn(t.Context(), email, password, ip); err != nil {
		t.Errorf("after the wait: %v", err)
	}
}

func TestGuessingManyAccountsFromOneAddress(t *testing.T) {
	r := newRig(t)
	r.owner(t)
	through := 0
	for i := range 100 {
		if r.guess(t, fmt.Sprintf("u%d@example.org", i), ip) {
			through++
		}
	}
	if through != addrBurst {
		t.Errorf("%d guesses got through, want %d", through, addrBurst)
	}
	if _, _, err := r.SignIn(t.Context(), email, password, "192.0.2.2"); err != nil {
		t.Errorf("another address suffers: %v", err)
	}
}

func TestHonestSignInsAreFree(t *testing.T) {
	r := newRig(t)
	r.owner(t)
	for range 3 * addrBurst {
		if _, _, err := r.SignIn(t.Context(), email, password, ip); err != nil {
			t.Fatal(err)
		}
	}
	r.store.fail = errors.New("store is down")
	for range 3 * addrBurst {
		if _, _, err := r.SignIn(t.Context(), email, password, ip); !errors.Is(err, r.store.fail) {
			t.Fatalf("our own trouble counts as a guess: %v", err)
		}
	}
}

func TestOldHashIsRenewed(t *testing.T) {
	r := newRig(t)
	r.owner(t)
	old := r.store.users[email].PasswordHash
	var err error
	r.hasher, err = newHasher(params{memoryKiB: 128, time: 1, threads: 1})
	check(t, err)
	_, _, err = r.SignIn(t.Context(), email, password, ip)
	check(t, err)
	if now := r.store.users[email].PasswordHash; now == old || !strings.Contains(now, "m=128,") {
		t.Errorf("hash %q", now)
	}
	_, _, err = r.SignIn(t.Context(), email, password, ip)
	check(t, err)
}

func TestHashing(t *testing.T) {
	h, err := newHasher(defaultParams)
	check(t, err)
	phc, err := h.hash(t.Context(), password)
	check(t, err)
	if !strings.HasPrefix(phc, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("hash %q", phc)
	}
	if good, old, err := h.verify(t.Context(), phc, password); !good || old || err != nil {
		t.Errorf("own hash: %v, %v, %v", good, old, err)
	}
	for _, bad := range []string{
		"", "x", strings.Replace(phc, "argon2id", "argon2i", 1), strings.Replace(phc, "m=19456", "m=4294967295", 1),
		strings.Replace(phc, "t=2", "t=4000000000", 1), strings.Replace(phc, "p=1", "p=0", 1), strings.Replace(phc, "p=1", "p=1x", 1),
		phc[:len(phc)-20], phc + "$", strings.Replace(phc, "v=19", "v=16", 1), phc[:31] + "$" + phc[40:],
	} {
		if _, _, err := h.verify(t.Context(), bad, password); !errors.Is(err, errBadPHC) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// RFC 9106 vectors need a secret and associated data, which the library does not take;
// this one is of the reference implementation's command-line tool.
func TestKnownHash(t *testing.T) {
	h, err := newHasher(cheap)
	check(t, err)
	const phc = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	if good, old, err := h.verify(t.Context(), phc, "password"); !good || !old || err != nil {
		t.Errorf("published hash: %v, %v, %v", good, old, err)
	}
}

func TestHashersAreBounded(t *testing.T) {
	h, err := newHasher(cheap)
	check(t, err)
	h.cores = semaphore.NewWeighted(1)
	check(t, h.cores.Acquire(t.Context(), 1)) // all cores are busy
	ctx, cancel := context.WithCancel(t.Context())
	var gone sync.WaitGroup
	for range maxWaiting {
		h.waiting.Add(1) // stands for a login that waits
	}
	var many *TooManyError
	if _, err := h.hash(ctx, password); !errors.As(err, &many) {
		t.Errorf("one too many: %v", err)
	}
	h.waiting.Add(-1)
	gone.Go(func() {
		if _, err := h.hash(ctx, password); !errors.Is(err, context.Canceled) {
			t.Errorf("a login whose caller went away: %v", err)
		}
	})
	cancel()
	gone.Wait()
	if n := h.waiting.Load(); n != maxWaiting-1 {
		t.Errorf("%d wait, want %d", n, maxWaiting-1)
	}
}

func TestPasswordRules(t *testing.T) {
	for _, c := range []struct {
		password string
		ok       bool
	}{
		{"correct horse battery", true},
		{"пароль очень длинный", true},
		{strings.Repeat("abcdef ", 18), true},
		{"12 chars abcd"[:12], true},
		{"", false}, {"elevenchars", false}, {strings.Repeat("abcdef ", 19), false},
		{"aaaaaaaaaaaaaaaa", false}, {"ababababababab", false}, {"abcd\xffefghijkl", false},
		{"Password1234", false}, {"passwordpassword", false}, {"123456789012", false}, {"Administrator1!", false},
		{"operator@example.org", false}, {"xx-operator-xx", false}, {"Olga Operator", false},
	} {
		err := checkPasswordRules(c.password, "operator@example.org", "Olga Operator")
		if (err == nil) != c.ok {
			t.Errorf("%.30q: %v, want accepted %v", c.password, err, c.ok)
		}
	}
}

func TestAccountRules(t *testing.T) {
	for _, c := range []struct {
		email, name string
		ok          bool
	}{
		{"a@b.example", "A", true},
		{"a@b.example", "Zoë Müller-Łoś", true},
		{"", "A", false}, {"a", "A", false}, {"A <a@b.example>", "A", false}, {"a@b.example\r\nBcc: x@y", "A", false},
		{strings.Repeat("a", 250) + "@b.example", "A", false},
		{"a@b.example", "", false}, {"a@b.example", "a\x00b", false}, {"a@b.example", "\u202ea", false}, {"a@b.example", strings.Repeat("x", 101), false},
	} {
		if err := checkAccount(c.email, c.name, password); (err == nil) != c.ok {
			t.Errorf("%.30q, %.30q: %v, want accepted %v", c.email, c.name, err, c.ok)
		}
	}
}

func FuzzPHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Add("$argon2id$v=19$m=0,t=0,p=0$$")
	f.Add("$$$$$")
	f.Fuzz(func(t *testing.T, s string) {
		p, salt, key, err := parsePHC(s)
		if err != nil {
			return
		}
		if p.memoryKiB == 0 || p.memoryKiB > maxMemoryKiB || p.time == 0 || p.time > maxTime || p.threads == 0 ||
			len(salt) > 64 || len(key) < keyLen || len(key) > 64 {
			t.Errorf("%q was accepted as %s with %d bytes of salt and %d of key", s, p, len(salt), len(key))
		}
	})
}
