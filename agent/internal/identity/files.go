package identity

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// meta is identity.json.
type meta struct {
	Collector   string `json:"collector"`
	Tenant      uint32 `json:"tenant"`
	Agent       uint32 `json:"agent"`
	Generation  uint64 `json:"generation"`
	Site        string `json:"site"`
	EnrolmentID string `json:"enrolment_id"`
}

// state is everything that an identity consists of.
type state struct {
	meta  meta
	key   *ecdsa.PrivateKey
	chain []*x509.Certificate
	root  *x509.Certificate
}

// attempt is enrolment.json: an enrolment that was begun and not yet answered.
type attempt struct {
	TokenID     string `json:"token_id"`
	EnrolmentID string `json:"enrolment_id"`
}

// Names of files below the identity directory.
const (
	currentFile = "current"
	attemptFile = "enrolment.json"
	keyFile     = "key.pem"
	chainFile   = "chain.pem"
	rootFile    = "root.pem"
	metaFile    = "identity.json"
	maxFile     = 1 << 16
)

// slots are written in turn; the file "current" names the one that counts.
var slots = [2]string{"a", "b"}

// files is the directory <state-dir>/identity.
type files struct{ dir string }

func newFiles(stateDir string) *files { return &files{dir: filepath.Join(stateDir, "identity")} }

// currentSlot is the slot that counts, or "" when nothing was ever completed.
func (f *files) currentSlot() (string, error) {
	b, err := readFile(filepath.Join(f.dir, currentFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	name := strings.TrimSpace(string(b))
	for _, s := range slots {
		if name == s {
			return s, nil
		}
	}
	return "", damaged(f.dir, fmt.Errorf("file %s names slot %q", currentFile, name))
}

func (f *files) load() (state, error) {
	slot, err := f.currentSlot()
	if err != nil {
		return state{}, err
	}
	if slot == "" {
		return state{}, notEnrolled(f.dir)
	}
	s, err := readSlot(filepath.Join(f.dir, slot))
	if errors.Is(err, fs.ErrPermission) {
		return state{}, fmt.Errorf("read identity: %w: run as the agent's user or as root", err)
	}
	if err != nil {
		return state{}, damaged(f.dir, err)
	}
	return s, nil
}

func readSlot(dir string) (state, error) {
	var s state
	b, err := readFile(filepath.Join(dir, metaFile))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s.meta); err != nil {
		return s, fmt.Errorf("%s: %w", metaFile, err)
	}
	if b, err = readFile(filepath.Join(dir, keyFile)); err != nil {
		return s, err
	}
	if s.key, err = decodeKey(b); err != nil {
		return s, fmt.Errorf("%s: %w", keyFile, err)
	}
	if b, err = readFile(filepath.Join(dir, chainFile)); err != nil {
		return s, err
	}
	if s.chain, err = decodeCerts(b); err != nil {
		return s, fmt.Errorf("%s: %w", chainFile, err)
	}
	if b, err = readFile(filepath.Join(dir, rootFile)); err != nil {
		return s, err
	}
	roots, err := decodeCerts(b)
	if err != nil {
		return s, fmt.Errorf("%s: %w", rootFile, err)
	}
	s.root = roots[0]
	return s, nil
}

// save writes the state into the slot that is not in use and then switches to it:
// a crash leaves either the old identity or the new one.
func (f *files) save(s state) error {
	if err := f.mkdir(); err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	slot := slots[0]
	// A damaged switch is being replaced: either slot will do.
	if used, err := f.currentSlot(); err == nil && used == slot {
		slot = slots[1]
	}
	dir := filepath.Join(f.dir, slot)
	if err := mkdir(dir); err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	key, err := encodeKey(s.key)
	if err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	text, err := json.MarshalIndent(s.meta, "", "  ")
	if err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	for _, file := range []struct {
		name string
		data []byte
	}{
		{keyFile, key}, {chainFile, encodeCerts(s.chain...)}, {rootFile, encodeCerts(s.root)}, {metaFile, append(text, '\n')},
	} {
		if err := writeFile(filepath.Join(dir, file.name), file.data); err != nil {
			return fmt.Errorf("save identity: %w", err)
		}
	}
	if err := writeFile(filepath.Join(f.dir, currentFile), []byte(slot+"\n")); err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	return nil
}

// attempt returns the enrolment id to use with a token: the kept one if an earlier
// try with the same token got no answer, else a new one, which is kept first.
func (f *files) attempt(tokenID string, fresh func() string) (attempt, error) {
	path := filepath.Join(f.dir, attemptFile)
	var a attempt
	if b, err := readFile(path); err == nil && json.Unmarshal(b, &a) == nil && a.TokenID == tokenID && a.EnrolmentID != "" {
		return a, nil
	}
	a = attempt{TokenID: tokenID, EnrolmentID: fresh()}
	if err := f.mkdir(); err != nil {
		return a, err
	}
	b, err := json.Marshal(a)
	if err != nil {
		return a, err
	}
	return a, writeFile(path, append(b, '\n'))
}

// attemptDone forgets the attempt; a leftover would only repeat it.
func (f *files) attemptDone() error {
	if err := os.Remove(filepath.Join(f.dir, attemptFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// mkdir makes the identity directory, and the state directory if it is missing.
func (f *files) mkdir() error {
	if err := os.MkdirAll(filepath.Dir(f.dir), 0o700); err != nil {
		return err
	}
	return mkdir(f.dir)
}

func mkdir(path string) error {
	err := os.Mkdir(path, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return inheritOwner(path)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return b, err
}

// writeFile writes a file (mode 0600) whole or not at all, and durably.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close(), inheritOwner(f.Name())); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return syncDir(filepath.Dir(path))
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func decodeKey(b []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("no PEM private key")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("key is not ECDSA")
	}
	return ec, nil
}

func encodeCerts(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

func decodeCerts(b []byte) ([]*x509.Certificate, error) {
	var ders [][]byte
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return parseChain(ders)
		}
		if block.Type == "CERTIFICATE" {
			ders = append(ders, block.Bytes)
		}
	}
}
