package authn

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sidetone/collector/internal/authz"
)

func codePath(dir string) string { return filepath.Join(dir, "setup-code") }

// codeAlphabet has no I, L, O, U (Crockford's base 32): nothing to mistake when typing.
const codeAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// codeLen characters of 5 bits: 80 bits, out of reach of guessing over a network.
const codeLen = 16

// SetupNeeded reports whether no user exists yet.
func (s *Service) SetupNeeded(ctx context.Context) (bool, error) {
	has, err := s.store.HasUsers(ctx)
	if err != nil {
		return false, fmt.Errorf("look for users: %w", err)
	}
	return !has, nil
}

// SetupCode returns the code with which the first owner is made, or "" when that is
// done. It is the same across restarts: it lies in the data directory, readable by
// the collector's user only, until it is used.
func (s *Service) SetupCode(ctx context.Context) (string, error) {
	s.setup.Lock()
	defer s.setup.Unlock()
	needed, err := s.SetupNeeded(ctx)
	if err != nil {
		return "", err
	}
	if !needed {
		return "", s.removeCode()
	}
	code, err := s.readCode()
	if err == nil {
		return code, nil
	}
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNoCode) {
		return "", fmt.Errorf("read setup code: %w", err)
	}
	code = newCode()
	if err := s.writeCode(code); err != nil {
		return "", fmt.Errorf("write setup code %s: %w", s.codeFile, err)
	}
	return code, nil
}

// Setup makes the first owner, once.
func (s *Service) Setup(ctx context.Context, code, email, name, password string) (authz.Principal, error) {
	s.setup.Lock()
	defer s.setup.Unlock()
	needed, err := s.SetupNeeded(ctx)
	if err != nil {
		return authz.Principal{}, err
	}
	if !needed {
		return authz.Principal{}, ErrSetupDone
	}
	want, err := s.readCode()
	if err != nil {
		s.log.Warn().Err(err).Msg("no setup code to compare with: restart the collector to get one")
		return authz.Principal{}, ErrBadCode
	}
	a, b := sha256.Sum256([]byte(plainCode(code))), sha256.Sum256([]byte(plainCode(want)))
	if subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
		return authz.Principal{}, ErrBadCode
	}
	email, name = normalEmail(email), strings.TrimSpace(name)
	if err := checkAccount(email, name, password); err != nil {
		return authz.Principal{}, err
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return authz.Principal{}, err
	}
	u, err := s.store.CreateFirstUser(ctx, User{Email: email, Name: name, Role: authz.RoleOwner, PasswordHash: hash}, s.now())
	if err != nil {
		return authz.Principal{}, fmt.Errorf("create the first owner: %w", err)
	}
	if err := s.removeCode(); err != nil {
		s.log.Warn().Err(err).Msg("used setup code not removed; it opens nothing any more")
	}
	return u.principal(), nil
}

func newCode() string {
	b := make([]byte, codeLen*5/8)
	_, _ = rand.Read(b) // never fails, by its documentation
	plain := base32.NewEncoding(codeAlphabet).WithPadding(base32.NoPadding).EncodeToString(b)
	return plain[:4] + "-" + plain[4:8] + "-" + plain[8:12] + "-" + plain[12:]
}

// plainCode undoes what people do to a code when they type it.
func plainCode(s string) string {
	if len(s) > 64 {
		return ""
	}
	return strings.NewReplacer("-", "", " ", "", "O", "0", "I", "1", "L", "1").Replace(strings.ToUpper(strings.TrimSpace(s)))
}

var errNoCode = errors.New("file holds no setup code")

func (s *Service) readCode() (string, error) {
	f, err := os.Open(s.codeFile)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 256))
	if err != nil {
		return "", err
	}
	code := strings.TrimSpace(string(b))
	plain := plainCode(code)
	if len(plain) != codeLen || strings.Trim(plain, codeAlphabet) != "" {
		return "", errNoCode
	}
	return code, nil
}

func (s *Service) writeCode(code string) error {
	f, err := os.CreateTemp(filepath.Dir(s.codeFile), ".setup-code-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(code + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), s.codeFile)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

func (s *Service) removeCode() error {
	if err := os.Remove(s.codeFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove setup code: %w", err)
	}
	return nil
}
