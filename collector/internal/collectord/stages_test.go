package collectord

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// diary notes what happened in which order.
type diary struct {
	mu    sync.Mutex
	lines []string // guarded by mu
}

func (d *diary) note(s string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, s)
}

// stage is one that takes some time to end.
func (d *diary) stage(name string, ending time.Duration) stage {
	return stage{name: name, run: func(ctx context.Context) error {
		<-ctx.Done()
		d.note(name + " asked")
		time.Sleep(ending)
		d.note(name + " ended")
		return nil
	}}
}

func TestStagesStopInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		ctx, cancel := context.WithCancel(t.Context())
		last := d.stage("web", 3*time.Second)
		last.leave = func() { d.note("web leaves") }
		done := make(chan error)
		go func() {
			done <- runStages(ctx, []stage{d.stage("store", time.Second), d.stage("judge", 0), last}, zerolog.Nop())
		}()
		time.Sleep(time.Hour)
		if len(d.lines) != 0 {
			t.Fatalf("before the end: %v", d.lines)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("an orderly stop says %v", err)
		}
		want := []string{"web leaves", "web asked", "web ended", "judge asked", "judge ended", "store asked", "store ended"}
		if !slices.Equal(d.lines, want) {
			t.Errorf("got  %v\nwant %v", d.lines, want)
		}
	})
}

func TestStageThatFallsEndsAll(t *testing.T) {
	broken := errors.New("disk on fire")
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"with an error": {broken, "judge: disk on fire"},
		"by itself":     {nil, "judge: ended by itself"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var d diary
				falls := stage{name: "judge", run: func(context.Context) error {
					time.Sleep(time.Minute)
					return c.err
				}}
				start := time.Now()
				err := runStages(t.Context(), []stage{d.stage("store", time.Second), falls, d.stage("web", time.Second)}, zerolog.Nop())
				if err == nil || err.Error() != c.want || (c.err != nil && !errors.Is(err, c.err)) {
					t.Errorf("got %v, want %s", err, c.want)
				}
				if want := []string{"web asked", "web ended", "store asked", "store ended"}; !slices.Equal(d.lines, want) {
					t.Errorf("got %v", d.lines)
				}
				if took := time.Since(start); took != time.Minute+2*time.Second {
					t.Errorf("took %s", took)
				}
			})
		})
	}
}

func TestStageThatDoesNotStopIsGivenUp(t *testing.T) {
	for name, c := range map[string]struct{ patience, want time.Duration }{
		"its own patience": {time.Minute, time.Minute},
		"the default":      {0, defaultPatience},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var d diary
				release := make(chan struct{})
				stuck := stage{name: "batches", patience: c.patience, run: func(context.Context) error { <-release; return nil }}
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				start := time.Now()
				err := runStages(ctx, []stage{d.stage("store", time.Second), stuck, d.stage("web", 0)}, zerolog.Nop())
				if err == nil || !strings.Contains(err.Error(), "batches did not end within") {
					t.Errorf("got %v", err)
				}
				if took := time.Since(start); took != c.want+time.Second {
					t.Errorf("took %s", took)
				}
				if want := []string{"web asked", "web ended", "store asked", "store ended"}; !slices.Equal(d.lines, want) {
					t.Errorf("the others: %v", d.lines)
				}
				close(release)
			})
		})
	}
}

func TestErrorWhileStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := func(err error) func(context.Context) error {
			return func(ctx context.Context) error { <-ctx.Done(); return err }
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := runStages(ctx, []stage{
			{name: "store", run: ends(errors.New("later"))},
			{name: "web", run: ends(errors.New("first"))},
			{name: "agents", run: ends(context.Canceled)},
		}, zerolog.Nop())
		if err == nil || err.Error() != "web: first" {
			t.Errorf("got %v", err)
		}
	})
}

func TestLatch(t *testing.T) {
	l := newLatch()
	if l.isSet() {
		t.Error("set from the start")
	}
	l.set()
	l.set()
	if !l.isSet() {
		t.Error("not set")
	}
}
