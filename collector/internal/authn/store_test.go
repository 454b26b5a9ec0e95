package authn_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"sidetone/collector/internal/authn"
	"sidetone/collector/internal/controldb/sqlite"
)

// TestOverTheRealStore goes the whole way once, with the real hash and real SQLite,
// and a second collector on the same store.
func TestOverTheRealStore(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	open := func() *authn.Service {
		t.Helper()
		db, err := sqlite.Open(filepath.Join(dir, "control.db"))
		check(t, err)
		t.Cleanup(func() { check(t, db.Close()) })
		check(t, db.Migrate(t.Context()))
		s, err := authn.New(authn.Deps{Store: db, Dir: dir, Log: zerolog.Nop(), Now: func() time.Time { return now }})
		check(t, err)
		return s
	}
	s, second := open(), open()
	ctx := t.Context()
	code, err := s.SetupCode(ctx)
	check(t, err)
	owner, err := second.Setup(ctx, code, "noc@example.org", "Noc", "correct horse battery")
	check(t, err)
	if _, err := s.Setup(ctx, code, "x@example.org", "X", "correct horse battery"); !errors.Is(err, authn.ErrSetupDone) {
		t.Errorf("a second owner: %v", err)
	}
	token, p, err := s.SignIn(ctx, "NOC@example.org", "correct horse battery", "192.0.2.1:5")
	check(t, err)
	if p != owner {
		t.Errorf("signed in as %+v, owner is %+v", p, owner)
	}
	if got, err := second.Session(ctx, token); err != nil || got != owner {
		t.Errorf("session at the other collector: %+v, %v", got, err)
	}
	if _, _, err := s.SignIn(ctx, "noc@example.org", "wrong horse battery", "192.0.2.1:5"); !errors.Is(err, authn.ErrBadLogin) {
		t.Errorf("wrong password: %v", err)
	}
	check(t, s.SignOut(ctx, token))
	if _, err := second.Session(ctx, token); !errors.Is(err, authn.ErrNotSignedIn) {
		t.Errorf("after signing out: %v", err)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
