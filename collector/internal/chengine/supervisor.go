package chengine

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"sidetone/shared/backoff"
)

// SuperConfig says which child to keep running.
type SuperConfig struct {
	Exe     string // program that has the engine subcommand; empty means this one
	Lib     string
	DataDir string
	Socket  string
	Log     zerolog.Logger

	// Args replaces "engine --lib … --data-dir … --socket …"; Env adds to the
	// environment.
	Args []string
	Env  []string
}

// State is how the child stands.
type State struct {
	Ready    bool
	Since    time.Time // of Ready or not Ready
	PID      int       // of the running child; 0 when there is none
	Restarts int       // starts after the first
	Err      error     // why it is not ready, when that is known
	Socket   string    // where it serves, and
	Note     string    // why that is not the path that was asked for
}

// Limits of a child's life.
const (
	maxSocketPath = 100 // sun_path holds 108 bytes, and some systems fewer
	startPatience = 60 * time.Second
	killPatience  = 20 * time.Second
	minRestart    = 250 * time.Millisecond
	maxRestart    = 5 * time.Second
	steadyAfter   = time.Minute // a child that served this long was no failed start
	pingEvery     = 50 * time.Millisecond
	maxLogLine    = 64 << 10
)

// Supervisor keeps the engine's child process running.
type Supervisor struct {
	cfg   SuperConfig
	ready chan struct{} // closed when the child answered for the first time
	once  sync.Once

	mu    sync.Mutex
	state State // guarded by mu
}

// New checks the configuration and decides where the socket is.
func New(cfg SuperConfig) (*Supervisor, error) {
	if cfg.Exe == "" {
		exe, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
		cfg.Exe = exe
	}
	var err error
	if cfg.DataDir, err = filepath.Abs(cfg.DataDir); err != nil {
		return nil, err
	}
	if cfg.Socket == "" {
		cfg.Socket = filepath.Join(cfg.DataDir, "engine.sock")
	}
	s := &Supervisor{cfg: cfg, ready: make(chan struct{})}
	s.state.Since = time.Now()
	if len(cfg.Socket) > maxSocketPath {
		short, err := shortSocket(cfg.Socket)
		if err != nil {
			return nil, err
		}
		s.state.Note = fmt.Sprintf("%s is too long for a socket", cfg.Socket)
		s.cfg.Socket = short
	}
	s.state.Socket = s.cfg.Socket
	if s.cfg.Args == nil {
		s.cfg.Args = []string{"engine", "--lib", cfg.Lib, "--data-dir", cfg.DataDir, "--socket", s.cfg.Socket}
	}
	return s, nil
}

// shortSocket is the place that stands in for a socket whose path is too long. It
// follows from the path alone, so that another process of the same user finds it.
func shortSocket(path string) (string, error) {
	sum := sha256.Sum256([]byte(path))
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("sidetone-%d-%x", os.Getuid(), sum[:6]))
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("make a short directory for the engine's socket: %w", err)
	}
	// somebody else's directory of that name would see our data
	if fi, err := os.Lstat(dir); err != nil || !fi.IsDir() || fi.Mode().Perm() != 0o700 || !ownedByUs(fi) {
		return "", fmt.Errorf("the engine's socket needs the directory %s, but that is not ours alone: remove it, or use a shorter --data-dir", dir)
	}
	return filepath.Join(dir, "engine.sock"), nil
}

// Socket is where the engine serves.
func (s *Supervisor) Socket() string { return s.cfg.Socket }

// Ready is closed when the engine has answered for the first time.
func (s *Supervisor) Ready() <-chan struct{} { return s.ready }

// State says how the child stands now.
func (s *Supervisor) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Run keeps a child running until ctx ends, then stops it in order. It returns nil.
func (s *Supervisor) Run(ctx context.Context) error {
	if note := s.State().Note; note != "" {
		s.cfg.Log.Info().Str("path", s.cfg.Socket).Str("reason", note).Msg("engine's socket is in a short directory")
	}
	b := backoff.Backoff{Min: minRestart, Max: maxRestart}
	for first := true; ; first = false {
		if !first {
			s.mu.Lock()
			s.state.Restarts++
			s.mu.Unlock()
		}
		start := time.Now()
		err := s.life(ctx)
		if ctx.Err() != nil {
			s.set(func(st *State) { st.Ready, st.PID, st.Err = false, 0, ctx.Err() })
			return nil
		}
		s.set(func(st *State) { st.Ready, st.PID, st.Err = false, 0, err })
		s.cfg.Log.Warn().Err(err).Msg("engine ended, starting it again")
		if time.Since(start) > steadyAfter {
			b.Reset()
		}
		if b.Wait(ctx) != nil {
			return nil
		}
	}
}

func (s *Supervisor) set(f func(*State)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.state.Ready
	f(&s.state)
	if s.state.Ready != was {
		s.state.Since = time.Now()
	}
}

// life runs one child from its start to its end and says why it ended.
func (s *Supervisor) life(ctx context.Context) error {
	cmd := exec.Command(s.cfg.Exe, s.cfg.Args...)
	cmd.Env = append(append(os.Environ(), s.cfg.Env...), ParentEnv+"=1")
	cmd.SysProcAttr = bindToParent()
	cmd.WaitDelay = time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	logs, logsIn := io.Pipe()
	cmd.Stdout, cmd.Stderr = logsIn, logsIn
	var wg sync.WaitGroup
	var last string
	wg.Go(func() { last = s.passLogs(logs) })

	exited := make(chan error, 1)
	started := make(chan error, 1)
	wg.Go(func() {
		// The kernel watches the thread that started the child, so it must live on.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			exited <- cmd.Wait()
		}
		logsIn.Close()
	})
	if err := <-started; err != nil {
		wg.Wait()
		return fmt.Errorf("start the engine %s: %w", s.cfg.Exe, err)
	}
	s.set(func(st *State) { st.PID = cmd.Process.Pid })
	err = s.attend(ctx, cmd.Process, exited)
	stdin.Close()
	wg.Wait()
	return s.explain(err, last)
}

// attend waits until the child answers, then until it ends or ctx does; it returns
// when the process is gone.
func (s *Supervisor) attend(ctx context.Context, p *os.Process, exited <-chan error) error {
	client := s.client()
	defer client.CloseIdleConnections()
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	patience := time.NewTimer(startPatience)
	defer patience.Stop()
	for {
		select {
		case err := <-exited:
			return err
		case <-ctx.Done():
			return stop(p, exited)
		case <-patience.C:
			p.Kill()
			<-exited
			return fmt.Errorf("the engine did not answer within %s", startPatience)
		case <-tick.C:
			if ping(ctx, client) {
				tick.Stop()
				patience.Stop()
				s.set(func(st *State) { st.Ready, st.Err = true, nil })
				s.once.Do(func() { close(s.ready) })
			}
		}
	}
}

func stop(p *os.Process, exited <-chan error) error {
	p.Signal(syscall.SIGTERM)
	t := time.NewTimer(killPatience)
	defer t.Stop()
	select {
	case err := <-exited:
		return err
	case <-t.C:
		p.Kill()
		return <-exited
	}
}

func (s *Supervisor) client() *http.Client {
	return &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", s.cfg.Socket)
		},
	}}
}

func ping(ctx context.Context, c *http.Client) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine/ping", nil)
	if err != nil {
		return false
	}
	res, err := c.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	io.Copy(io.Discard, res.Body)
	return res.StatusCode == http.StatusOK
}

// passLogs hands the child's lines on and returns the last one.
func (s *Supervisor) passLogs(r io.Reader) (last string) {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 4096), maxLogLine)
	for sc.Scan() {
		if line := sc.Text(); line != "" {
			last = line
			s.cfg.Log.Info().Msg("engine: " + line)
		}
	}
	io.Copy(io.Discard, r) // after a line that is too long, so that the child never blocks
	return last
}

// explain turns the end of the child into a sentence.
func (s *Supervisor) explain(err error, last string) error {
	if inUse := heldByOther(s.cfg.DataDir); inUse != nil {
		return inUse
	}
	switch {
	case err == nil:
		return errors.New("the engine ended by itself")
	case last != "":
		return fmt.Errorf("the engine ended: %w (its last words: %s)", err, last)
	}
	return fmt.Errorf("the engine ended: %w", err)
}

// heldByOther tells, now that our child is gone, whether another engine has the directory.
func heldByOther(dir string) error {
	unlock, err := lockDir(context.Background(), dir, 0)
	if err == nil {
		unlock()
	}
	if errors.Is(err, ErrInUse) {
		return err
	}
	return nil
}
