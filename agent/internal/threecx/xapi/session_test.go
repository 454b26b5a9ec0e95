package xapi_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sidetone/agent/internal/pbxsim"
	"sidetone/agent/internal/threecx"
	"sidetone/agent/internal/threecx/xapi"
)

// Whatever the real life of tokens and the manner of refusing, the status is read
// without a failure, and sign-ins stay rare.
func TestTokenLives(t *testing.T) {
	for _, tc := range []struct {
		name   string
		how    string
		opt    pbxsim.Options
		most   int // token requests in two hours
		logins int // of them with the password
	}{
		{"an hour", byClient, pbxsim.Options{TokenLife: time.Hour}, 3, 0},
		{"a minute, 401", byClient, pbxsim.Options{TokenLife: time.Minute, RefuseEnded: 401}, 150, 0},
		{"a minute, 403", byClient, pbxsim.Options{TokenLife: time.Minute, RefuseEnded: 403}, 150, 0},
		{"ten minutes, 403", byClient, pbxsim.Options{TokenLife: 10 * time.Minute, RefuseEnded: 403}, 14, 0},
		{"user, an hour", byUser, pbxsim.Options{TokenLife: time.Hour}, 3, 1},
		{"user, a minute, 403", byUser, pbxsim.Options{TokenLife: time.Minute, RefuseEnded: 403}, 150, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, c, rec := newPair(t, tc.how, tc.opt, nil)
				for i, err := range poll(t, c, 2*time.Hour) {
					if err != nil {
						t.Fatalf("reading %d: %v", i, err)
					}
				}
				at := rec.signIns()
				if len(at) > tc.most {
					t.Errorf("%d token requests, want at most %d", len(at), tc.most)
				}
				spaced(t, at)
				if n := rec.count(threecx.SignInUser); n != tc.logins {
					t.Errorf("%d sign-ins with the password, want %d", n, tc.logins)
				}
				if learned := c.SignIn().LearnedLife; tc.opt.TokenLife < time.Hour && (learned == 0 || learned > tc.opt.TokenLife) {
					t.Errorf("learned life %s of %s", learned, tc.opt.TokenLife)
				}
			})
		})
	}
}

func spaced(t *testing.T, at []time.Time) {
	t.Helper()
	for i := 1; i < len(at); i++ {
		if gap := at[i].Sub(at[i-1]); gap < 10*time.Second {
			t.Errorf("token requests %d and %d are %s apart", i-1, i, gap)
		}
	}
}

func TestWrongCredentialsStopForGood(t *testing.T) {
	for _, tc := range []struct {
		name string
		how  string
		opt  pbxsim.Options
	}{
		{"API client", byClient, pbxsim.Options{}},
		{"user refused with 401", byUser, pbxsim.Options{}},
		{"user refused with 200", byUser, pbxsim.Options{WrongAs200: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, c, rec := newPair(t, tc.how, tc.opt, wrongPassword)
				_, err := c.SystemStatus(t.Context())
				if !errors.Is(err, threecx.ErrCredentials) || strings.Contains(err.Error(), "guess") {
					t.Fatalf("first try: %v", err)
				}
				errs := poll(t, c, 24*time.Hour)
				last := errs[len(errs)-1]
				if !errors.Is(last, threecx.ErrCredentials) || !strings.Contains(last.Error(), "restart the agent") {
					t.Errorf("last try: %v", last)
				}
				at := rec.signIns()
				if len(at) != 3 {
					t.Fatalf("%d sign-ins in a day, want 3", len(at))
				}
				if at[1].Sub(at[0]) < 30*time.Second || at[2].Sub(at[1]) < 30*time.Second {
					t.Errorf("sign-ins at %v", at)
				}
				if st := c.SignIn(); !st.Stopped || st.Wrong != 3 || st.LastError == "" {
					t.Errorf("state %+v", st)
				}
			})
		})
	}
}

func TestCredentialsThatBecomeRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim, c, _ := newPair(t, byClient, pbxsim.Options{}, nil)
		if _, err := c.SystemStatus(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := sim.Do(pbxsim.Action{Name: "auth_fail"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		if _, err := c.SystemStatus(t.Context()); !errors.Is(err, threecx.ErrCredentials) {
			t.Errorf("after the key was withdrawn: %v", err)
		}
		if err := sim.Do(pbxsim.Action{Name: "auth_ok"}); err != nil {
			t.Fatal(err)
		}
		errs := poll(t, c, 4*time.Minute)
		if errs[len(errs)-1] != nil {
			t.Errorf("with the right key again: %v", errs[len(errs)-1])
		}
		if st := c.SignIn(); st.Wrong != 0 || st.Stopped || st.LastError != "" {
			t.Errorf("state %+v", st)
		}
	})
}

func TestSecondFactor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c, rec := newPair(t, byUser, pbxsim.Options{SecondFactor: true}, nil)
		for _, err := range poll(t, c, time.Hour) {
			if !errors.Is(err, threecx.ErrSecondFactor) {
				t.Fatal(err)
			}
		}
		if n := len(rec.signIns()); n < 2 || n > 4 {
			t.Errorf("%d sign-ins in an hour", n)
		}
	})
}

func TestReducedRights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c, rec := newPair(t, byUser, pbxsim.Options{MaxRole: "users"}, nil)
		for _, err := range poll(t, c, time.Hour) {
			if !errors.Is(err, threecx.ErrRights) || !strings.Contains(err.Error(), "role users") {
				t.Fatal(err)
			}
		}
		spaced(t, rec.signIns())
		if n := len(rec.signIns()); n > 20 {
			t.Errorf("%d token requests in an hour", n)
		}
		if c.SignIn().Role != "users" {
			t.Errorf("state %+v", c.SignIn())
		}
	})
}

// Two programs with one client id end each other's tokens: ours must give way.
func TestAnotherProgramTakesTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim, c, rec := newPair(t, byClient, pbxsim.Options{}, nil)
		other, err := xapi.New(threecx.Config{
			URL: "https://pbx.example.com", ClientID: "sidetone", ClientSecret: "sim-secret",
		}, xapi.Deps{Transport: pbxsim.Transport{Handler: sim}})
		if err != nil {
			t.Fatal(err)
		}
		busy := 0
		for range 360 {
			if _, err := c.SystemStatus(t.Context()); errors.Is(err, threecx.ErrBusy) {
				busy++
			} else if err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
			_, _ = other.SystemStatus(t.Context())
			time.Sleep(5 * time.Second)
		}
		spaced(t, rec.signIns())
		if n := len(rec.signIns()); n > 120 || busy == 0 {
			t.Errorf("%d token requests in an hour, busy %d times", n, busy)
		}
		if st := c.SignIn(); st.Stopped {
			t.Errorf("state %+v", st)
		}
	})
}
