package controldbtest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sidetone/collector/internal/authn"
	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/controldb"
)

var owner = authn.User{Email: "noc@example.org", Name: "N. O'Caller", Role: authz.RoleOwner, PasswordHash: "$argon2id$…"}

func authnContract(t *testing.T, open Open) {
	t.Run("first user", func(t *testing.T) { firstUser(t, open(t)) })
	t.Run("first user, raced", func(t *testing.T) { firstUserRace(t, open(t)) })
	t.Run("session", func(t *testing.T) { session(t, open(t)) })
	t.Run("sessions end", func(t *testing.T) { sessionsEnd(t, open(t)) })
}

func firstUser(t *testing.T, db *controldb.DB) {
	ctx := t.Context()
	if has, err := db.HasUsers(ctx); has || err != nil {
		t.Errorf("an empty store has users: %v, %v", has, err)
	}
	u, err := db.CreateFirstUser(ctx, owner, noon)
	if err != nil || u.ID == 0 {
		t.Fatalf("user %+v, %v", u, err)
	}
	if has, err := db.HasUsers(ctx); !has || err != nil {
		t.Errorf("no users: %v, %v", has, err)
	}
	_, err = db.CreateFirstUser(ctx, authn.User{Email: "other@example.org"}, noon)
	want(t, err, authn.ErrSetupDone)
	if got, err := db.UserByEmail(ctx, owner.Email); err != nil || got != u {
		t.Errorf("read %+v, %v, want %+v", got, err, u)
	}
	_, err = db.UserByEmail(ctx, "other@example.org")
	want(t, err, authn.ErrNoUser)
	if err := db.SetPasswordHash(ctx, u.ID, "new"); err != nil {
		t.Error(err)
	}
	if got, _ := db.UserByEmail(ctx, owner.Email); got.PasswordHash != "new" {
		t.Errorf("hash %q", got.PasswordHash)
	}
	want(t, db.SetPasswordHash(ctx, u.ID+1, "x"), authn.ErrNoUser)
}

func firstUserRace(t *testing.T, db *controldb.DB) {
	var made atomic.Int64
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			u := owner
			u.Email = fmt.Sprintf("u%d@example.org", i)
			switch _, err := db.CreateFirstUser(t.Context(), u, noon); {
			case err == nil:
				made.Add(1)
			case !errors.Is(err, authn.ErrSetupDone):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 {
		t.Errorf("%d first users", made.Load())
	}
}

func session(t *testing.T, db *controldb.DB) {
	ctx := t.Context()
	u, err := db.CreateFirstUser(ctx, owner, noon)
	if err != nil {
		t.Fatal(err)
	}
	hash := []byte("hash of a token")
	if err := db.CreateSession(ctx, hash, u.ID, "192.0.2.1", noon, authn.SessionEnds{}, 9); err != nil {
		t.Fatal(err)
	}
	later := noon.Add(time.Hour)
	if err := db.TouchSession(ctx, hash, later); err != nil {
		t.Fatal(err)
	}
	s, err := db.SessionByHash(ctx, hash)
	if err != nil || s.User != u || !s.Created.Equal(noon) || !s.LastSeen.Equal(later) {
		t.Errorf("session %+v, %v", s, err)
	}
	_, err = db.SessionByHash(ctx, []byte("another"))
	want(t, err, authn.ErrNotSignedIn)
	for range 2 { // a repeat is no error
		if err := db.DeleteSession(ctx, hash); err != nil {
			t.Error(err)
		}
	}
	_, err = db.SessionByHash(ctx, hash)
	want(t, err, authn.ErrNotSignedIn)
	if err := db.CreateSession(ctx, hash, u.ID+1, "", noon, authn.SessionEnds{}, 9); err == nil {
		t.Error("a session of nobody was kept: foreign keys are off")
	}
}

func sessionsEnd(t *testing.T, db *controldb.DB) {
	ctx := t.Context()
	u, err := db.CreateFirstUser(ctx, owner, noon)
	if err != nil {
		t.Fatal(err)
	}
	start := func(name string, at time.Time, ends authn.SessionEnds, keep int) {
		t.Helper()
		if err := db.CreateSession(ctx, []byte(name), u.ID, "", at, ends, keep); err != nil {
			t.Fatal(err)
		}
	}
	alive := func(names ...string) {
		t.Helper()
		for _, n := range []string{"a", "b", "c", "d"} {
			_, err := db.SessionByHash(ctx, []byte(n))
			wanted := false
			for _, w := range names {
				wanted = wanted || w == n
			}
			if (err == nil) != wanted {
				t.Errorf("session %s: %v, alive should be %v", n, err, names)
			}
		}
	}
	start("a", noon, authn.SessionEnds{}, 9)
	start("b", noon.Add(1*time.Minute), authn.SessionEnds{}, 9)
	start("c", noon.Add(2*time.Minute), authn.SessionEnds{SeenBefore: noon}, 9)
	alive("b", "c")
	start("d", noon.Add(3*time.Minute), authn.SessionEnds{}, 2)
	alive("c", "d")
}
