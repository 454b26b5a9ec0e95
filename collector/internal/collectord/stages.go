package collectord

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// stage is a part with a life: Run returns only when all its goroutines ended.
type stage struct {
	name string
	run  func(context.Context) error
	// leave, if set, is called before the stage's context ends: say goodbye to peers.
	leave func()
	// patience is how long the stage may take to end; 0 means defaultPatience.
	patience time.Duration
}

const defaultPatience = 15 * time.Second

// running is a started stage.
type running struct {
	stage
	cancel context.CancelFunc
	done   chan error
}

// runStages starts the stages in their order, data sinks first, and runs until ctx
// ends or a stage ends by itself. Then it stops them in reverse, each only when the
// one before has ended, so that what is on its way reaches its sink.
func runStages(ctx context.Context, stages []stage, log zerolog.Logger) error {
	var fell = make(chan error, len(stages))
	var started []*running
	for _, s := range stages {
		sctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		r := &running{stage: s, cancel: cancel, done: make(chan error, 1)}
		started = append(started, r)
		go func() {
			err := s.run(sctx)
			if sctx.Err() == nil { // nobody asked it to end
				if err == nil {
					err = errors.New("ended by itself")
				}
				fell <- fmt.Errorf("%s: %w", s.name, err)
			}
			r.done <- err
		}()
	}
	var first error
	select {
	case <-ctx.Done():
	case first = <-fell:
	}
	for i := len(started) - 1; i >= 0; i-- {
		if err := started[i].stop(log); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// stop ends one stage and waits for it.
func (r *running) stop(log zerolog.Logger) error {
	if r.leave != nil {
		r.leave()
	}
	r.cancel()
	patience := r.patience
	if patience == 0 {
		patience = defaultPatience
	}
	select {
	case err := <-r.done:
		if err != nil && !errors.Is(err, context.Canceled) {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		return nil
	case <-time.After(patience):
		log.Warn().Str("reason", r.name).Msg("a part did not end in time, going on without it")
		return fmt.Errorf("%s did not end within %s", r.name, patience)
	}
}

// latch is a condition that becomes true once.
type latch struct {
	once sync.Once
	ch   chan struct{}
}

func newLatch() *latch { return &latch{ch: make(chan struct{})} }

func (l *latch) set() { l.once.Do(func() { close(l.ch) }) }

func (l *latch) isSet() bool {
	select {
	case <-l.ch:
		return true
	default:
		return false
	}
}
