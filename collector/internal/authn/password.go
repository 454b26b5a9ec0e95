package authn

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/sync/semaphore"
)

// params of argon2id.
type params struct {
	memoryKiB, time uint32
	threads         uint8
}

const paramsForm = "m=%d,t=%d,p=%d"

func (p params) String() string { return fmt.Sprintf(paramsForm, p.memoryKiB, p.time, p.threads) }

// defaultParams: OWASP Password Storage Cheat Sheet, argon2id.
var defaultParams = params{memoryKiB: 19 * 1024, time: 2, threads: 1}

// Limits of a stored hash's parameters: what a damaged row may cost us.
const (
	maxMemoryKiB = 256 * 1024
	maxTime      = 16
	saltLen      = 16
	keyLen       = 32
	maxWaiting   = 64 // logins that may wait for a core
)

// hasher computes argon2id, as many at a time as there are cores.
type hasher struct {
	params  params
	dummy   string // hash of nothing anybody can type, for unknown accounts
	cores   *semaphore.Weighted
	waiting atomic.Int64
}

func newHasher(p params) (*hasher, error) {
	h := &hasher{params: p, cores: semaphore.NewWeighted(int64(runtime.GOMAXPROCS(0)))}
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails, by its documentation
	var err error
	h.dummy, err = h.hash(context.Background(), string(b))
	return h, err
}

// run does work on a core of its own; it refuses when too many wait already.
func (h *hasher) run(ctx context.Context, work func()) error {
	if h.waiting.Add(1) > maxWaiting {
		h.waiting.Add(-1)
		return &TooManyError{RetryAfter: 2 * time.Second}
	}
	err := h.cores.Acquire(ctx, 1)
	h.waiting.Add(-1)
	if err != nil {
		return err
	}
	defer h.cores.Release(1)
	work()
	return nil
}

// hash returns the PHC string of a password.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltLen)
	_, _ = rand.Read(salt) // never fails, by its documentation
	p := h.params
	var key []byte
	err := h.run(ctx, func() {
		key = argon2.IDKey([]byte(password), salt, p.time, p.memoryKiB, p.threads, keyLen)
	})
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return fmt.Sprintf("$argon2id$v=%d$%s$%s$%s", argon2.Version, p,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key)), nil
}

// verify compares a password with a PHC string; old says that the string has other
// parameters than today's.
func (h *hasher) verify(ctx context.Context, phc, password string) (good, old bool, err error) {
	p, salt, want, err := parsePHC(phc)
	if err != nil {
		return false, false, err
	}
	var key []byte
	err = h.run(ctx, func() {
		key = argon2.IDKey([]byte(password), salt, p.time, p.memoryKiB, p.threads, uint32(len(want)))
	})
	if err != nil {
		return false, false, err
	}
	return subtle.ConstantTimeCompare(key, want) == 1, p != h.params, nil
}

var errBadPHC = errors.New("stored password hash is damaged: restore the control store, or set the password anew")

func parsePHC(s string) (params, []byte, []byte, error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return params{}, nil, nil, errBadPHC
	}
	var p params
	if _, err := fmt.Sscanf(parts[3], paramsForm, &p.memoryKiB, &p.time, &p.threads); err != nil || parts[3] != p.String() {
		return params{}, nil, nil, errBadPHC
	}
	if p.memoryKiB == 0 || p.memoryKiB > maxMemoryKiB || p.time == 0 || p.time > maxTime || p.threads == 0 {
		return params{}, nil, nil, errBadPHC
	}
	salt, err := base64.RawStdEncoding.Strict().DecodeString(parts[4])
	if err != nil || len(salt) < 8 || len(salt) > 64 {
		return params{}, nil, nil, errBadPHC
	}
	key, err := base64.RawStdEncoding.Strict().DecodeString(parts[5])
	if err != nil || len(key) < keyLen || len(key) > 64 {
		return params{}, nil, nil, errBadPHC
	}
	return p, salt, key, nil
}
