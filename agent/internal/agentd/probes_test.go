package agentd

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeProber ends as it is told to.
type fakeProber struct {
	err       error // nil: runs until ctx ends
	mu        sync.Mutex
	reflector string
}

func (f *fakeProber) Run(ctx context.Context) error {
	if f.err != nil {
		return f.err
	}
	<-ctx.Done()
	return nil
}

func (f *fakeProber) SetReflector(addr string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reflector = addr
}

func (f *fakeProber) OverrunTotal() uint64 { return 7 }

// TestProbesStartAgain: a prober that ends is told of and built anew, and knows what the
// former one knew.
func TestProbesStartAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("no socket")
		last := &fakeProber{}
		list := []*fakeProber{{err: broken}, nil, last} // the second cannot even be built
		var told []string
		p := &probes{now: &fakeProber{err: broken}, fail: func(err error) { told = append(told, err.Error()) }}
		p.make = func() (prober, error) {
			next := list[0]
			list = list[1:]
			if next == nil {
				return nil, errors.New("no driver")
			}
			return next, nil
		}
		p.SetReflector("192.0.2.1:862")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		time.Sleep(10 * time.Minute)
		last.mu.Lock()
		if last.reflector != "192.0.2.1:862" {
			t.Errorf("the new prober's reflector is %q", last.reflector)
		}
		last.mu.Unlock()
		if want := []string{"no socket", "no socket", "no driver"}; !slices.Equal(told, want) {
			t.Errorf("told %q; want %q", told, want)
		}
		if n := p.OverrunTotal(); n != 21 {
			t.Errorf("overrun %d", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
