package spool

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"sidetone/shared/wire"
)

func sealedConfig(t *testing.T) Config {
	return Config{Dir: filepath.Join(t.TempDir(), "spool"), Encrypt: true, Credentials: t.TempDir()}
}

// inFiles tells whether a text stands anywhere in the spool's files.
func inFiles(t *testing.T, dir, text string) bool {
	t.Helper()
	found := false
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		found = found || bytes.Contains(b, []byte(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestEncryptionSwitchedOnAndOff(t *testing.T) {
	cfg := sealedConfig(t)
	cfg.Encrypt = false
	s := open(t, cfg, testDeps(t))
	add(t, s, wire.ClassSample, "the plain one")
	closeIt(t, s)
	cfg.Encrypt = true
	s = open(t, cfg, testDeps(t))
	add(t, s, wire.ClassState, "the secret one")
	closeIt(t, s)
	cfg.Encrypt = false
	s = open(t, cfg, testDeps(t))
	add(t, s, wire.ClassSample, "plain again")
	rs := readAll(t, s)
	var texts []string
	for _, r := range rs {
		texts = append(texts, string(r.Payload))
		if r.CRC != checksum(r.Payload) {
			t.Errorf("record %d: checksum", r.Seq)
		}
	}
	if got := strings.Join(texts, ", "); got != "the plain one, the secret one, plain again" || rs[1].Class != wire.ClassState {
		t.Errorf("records %q", got)
	}
	closeIt(t, s)
	if !inFiles(t, cfg.Dir, "plain one") || inFiles(t, cfg.Dir, "secret one") {
		t.Error("what should be readable in the files is not, or the other way round")
	}
	st, err := os.Stat(filepath.Join(filepath.Dir(cfg.Dir), KeyFileName))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v %v", st, err)
	}
	c, err := VerifyConfig(cfg, zerolog.Nop())
	if err != nil || !c.OK() || c.Records != 3 {
		t.Errorf("verify: %+v %v", c, err)
	}
}

func TestMissingKey(t *testing.T) {
	cfg := sealedConfig(t)
	s := open(t, cfg, testDeps(t))
	epoch, _ := add(t, s, wire.ClassSample, "one")
	add(t, s, wire.ClassSample, "two")
	closeIt(t, s)
	remove(t, filepath.Join(filepath.Dir(cfg.Dir), KeyFileName))
	c, err := VerifyConfig(cfg, zerolog.Nop())
	if err != nil || c.OK() || c.NoKey != 2 || c.DamagedTotal != 0 {
		t.Errorf("verify without the key: %+v %v", c, err)
	}
	var events []Event
	deps := testDeps(t)
	deps.Event = func(e Event) { events = append(events, e) }
	s = open(t, cfg, deps)
	add(t, s, wire.ClassSample, "three")
	if rs := readAll(t, s); len(rs) != 1 || string(rs[0].Payload) != "three" {
		t.Errorf("records %+v", rs)
	}
	if gs := s.TakeGaps(9); gapText(gs) != "1-2 damaged" || gs[0].Epoch != epoch {
		t.Errorf("gaps %s", gapText(gs))
	}
	if len(events) == 0 || !strings.Contains(events[0].Detail, "key that is not here") {
		t.Errorf("events %+v", events)
	}
}

func TestCredentialGoesFirst(t *testing.T) {
	cfg := sealedConfig(t)
	s := open(t, cfg, testDeps(t))
	add(t, s, wire.ClassSample, "by the file")
	closeIt(t, s)
	key := bytes.Repeat([]byte{7}, keySize)
	if err := os.WriteFile(filepath.Join(cfg.Credentials, credentialName), []byte(hex.EncodeToString(key)+"\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	s = open(t, cfg, testDeps(t))
	add(t, s, wire.ClassSample, "by the credential")
	if n := len(readAll(t, s)); n != 2 {
		t.Errorf("%d records, want 2", n)
	}
	closeIt(t, s)
	remove(t, filepath.Join(filepath.Dir(cfg.Dir), KeyFileName))
	s = open(t, cfg, testDeps(t))
	if rs := readAll(t, s); len(rs) != 1 || string(rs[0].Payload) != "by the credential" {
		t.Errorf("records %+v", rs)
	}
}

// TestUnusableKey: nothing that should be encrypted is written without a key.
func TestUnusableKey(t *testing.T) {
	cfg := sealedConfig(t)
	now := time.Now()
	deps := testDeps(t)
	deps.Now = func() time.Time { return now }
	key := filepath.Join(filepath.Dir(cfg.Dir), KeyFileName)
	if err := os.WriteFile(key, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, cfg, deps)
	add(t, s, wire.ClassSample, "the secret one")
	if st := s.Status(); !st.Degraded || !strings.Contains(st.Reason, key) {
		t.Errorf("status %+v", st)
	}
	remove(t, key)
	now = now.Add(2 * retryOpen)
	s.upkeep()
	if st := s.Status(); st.Degraded || st.Records != 1 {
		t.Errorf("status with a key %+v", st)
	}
	closeIt(t, s)
	if inFiles(t, cfg.Dir, "secret one") {
		t.Error("written without a key")
	}
}

func TestSealIsBound(t *testing.T) {
	k, err := newSealKey(bytes.Repeat([]byte{1}, keySize))
	if err != nil {
		t.Fatal(err)
	}
	ring := keyring{fresh: k, byID: map[uint32]*sealKey{k.id: k}}
	r := &Record{Epoch: 5, Seq: 6, Class: wire.ClassState, Created: time.UnixMilli(7), Payload: []byte("payload")}
	v := k.seal(r)
	if got, err := decodeValue(ring, 5, 6, v); err != nil || string(got.Payload) != "payload" || got.Class != wire.ClassState {
		t.Fatalf("%+v %v", got, err)
	}
	if len(v) != headerSize+len(r.Payload)+sealOverhead {
		t.Errorf("%d bytes", len(v))
	}
	if bytes.Equal(v, k.seal(r)) {
		t.Error("two nonces are the same")
	}
	if _, err := decodeValue(keyring{}, 5, 6, v); !errors.Is(err, errNoKey) || !errors.Is(err, errDamaged) {
		t.Errorf("without the key: %v", err)
	}
	for i := range v {
		b := bytes.Clone(v)
		b[i] ^= 1
		if _, err := decodeValue(ring, 5, 6, b); !errors.Is(err, errDamaged) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		// Also when whoever changed it put the checksums right.
		if i < 10 || i >= headerSize {
			fixSums(5, 6, b)
			if _, err := decodeValue(ring, 5, 6, b); !errors.Is(err, errDamaged) {
				t.Errorf("byte %d changed and checksums put right: %v", i, err)
			}
		}
	}
	fixSums(5, 9, v)
	if _, err := decodeValue(ring, 5, 9, v); !errors.Is(err, errDamaged) {
		t.Errorf("under another number: %v", err)
	}
}

func fixSums(epoch, seq uint64, v []byte) {
	binary.BigEndian.PutUint32(v[10:], checksum(v[headerSize:]))
	binary.BigEndian.PutUint32(v[14:], headerCRC(epoch, seq, v))
}
