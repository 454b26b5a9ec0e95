package spool

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"sidetone/shared/wire"
)

// Encryption at rest is AES-256-GCM of each payload. It keeps payloads from whoever gets
// the disk or a copy of the files without the key; numbers, classes, times and sizes
// stay readable, as the spool needs them to account for what it holds.

const (
	keySize = 32
	// credentialName is the key as a systemd credential.
	credentialName = "sidetone-spool-key"
	// KeyFileName is the usual name of the key file, in the state directory.
	KeyFileName = "spool.key"
	maxKeyFile  = 4 << 10
	nonceSize   = 12
	sealedHead  = headerSize + 4 + nonceSize
	// sealOverhead is what encryption adds to a value: key id, nonce and tag.
	sealOverhead = 4 + nonceSize + 16
)

// errNoKey marks a record whose key is not here; it is a kind of errDamaged.
var errNoKey = fmt.Errorf("%w: it is encrypted with a key that is not here", errDamaged)

type sealKey struct {
	id   uint32
	aead cipher.AEAD
}

func newSealKey(k []byte) (*sealKey, error) {
	block, err := aes.NewCipher(k)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(append([]byte("sidetone spool key id "), k...))
	return &sealKey{binary.BigEndian.Uint32(sum[:]), aead}, nil
}

// keyring holds the keys that records may have been encrypted with, and the one for new
// records: the credential when there is one, the file otherwise.
type keyring struct {
	fresh *sealKey
	byID  map[uint32]*sealKey
}

// loadKeys reads the keys. With encrypt, a key file is made when there is no key.
func loadKeys(cfg Config) (keyring, error) {
	ring := keyring{byID: map[uint32]*sealKey{}}
	var errs []error
	load := func(path string) {
		k, err := readKey(path)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err != nil {
			errs = append(errs, err)
			return
		}
		if ring.fresh == nil {
			ring.fresh = k
		}
		ring.byID[k.id] = k
	}
	if cfg.Credentials != "" {
		load(filepath.Join(cfg.Credentials, credentialName))
	}
	load(cfg.KeyFile)
	if cfg.Encrypt && ring.fresh == nil && len(errs) == 0 {
		if err := makeKey(cfg.KeyFile); err != nil {
			return ring, err
		}
		load(cfg.KeyFile)
	}
	return ring, errors.Join(errs...)
}

// readKey reads 32 bytes, or 64 hexadecimal digits.
func readKey(path string) (*sealKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read spool key: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("read spool key: %w", err)
	}
	k := make([]byte, keySize)
	switch text := bytes.TrimSpace(b); {
	case len(b) == keySize:
		copy(k, b)
	case len(text) == hex.EncodedLen(keySize):
		if _, err := hex.Decode(k, text); err != nil {
			return nil, fmt.Errorf("read spool key %s: not hexadecimal", path)
		}
	default:
		return nil, fmt.Errorf("read spool key %s: want %d bytes or %d hexadecimal digits", path, keySize, hex.EncodedLen(keySize))
	}
	return newSealKey(k)
}

// makeKey writes a new key and makes it durable before anything is encrypted with it.
func makeKey(path string) error {
	var k [keySize]byte
	_, _ = rand.Read(k[:]) // never fails
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make spool key: %w", err)
	}
	_, err = f.WriteString(hex.EncodeToString(k[:]) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close(), syncDir(filepath.Dir(path))); err != nil {
		return fmt.Errorf("make spool key: %w", errors.Join(err, os.Remove(path)))
	}
	return nil
}

// seal lays out an encrypted value:
//
//	0:18   as in encodeRecord, format 2; the checksum of the payload is that of 18:
//	18:22  id of the key
//	22:34  nonce, random: a number may be given again when a crash undid an append
//	34:    ciphertext and tag; epoch, seq, format, class, created and key id are bound to it
func (k *sealKey) seal(r *Record) []byte {
	v := make([]byte, sealedHead, sealedHead+len(r.Payload)+k.aead.Overhead())
	v[0] = sealedFormat
	v[1] = byte(r.Class)
	binary.BigEndian.PutUint64(v[2:], uint64(r.Created.UnixMilli()))
	binary.BigEndian.PutUint32(v[headerSize:], k.id)
	_, _ = rand.Read(v[headerSize+4:]) // never fails
	v = k.aead.Seal(v, v[headerSize+4:sealedHead], r.Payload, sealedWith(r.Epoch, r.Seq, v))
	binary.BigEndian.PutUint32(v[10:], crc32.Checksum(v[headerSize:], castagnoli))
	binary.BigEndian.PutUint32(v[14:], headerCRC(r.Epoch, r.Seq, v))
	return v
}

// sealedWith is what is authenticated besides the payload.
func sealedWith(epoch, seq uint64, v []byte) []byte {
	aad := make([]byte, 0, 30)
	aad = binary.BigEndian.AppendUint64(aad, epoch)
	aad = binary.BigEndian.AppendUint64(aad, seq)
	aad = append(aad, v[:10]...)
	return append(aad, v[headerSize:headerSize+4]...)
}

// unseal decrypts a value whose checksums are right.
func (ring keyring) unseal(epoch, seq uint64, v []byte) (Record, error) {
	if len(v) <= sealedHead {
		return Record{}, fmt.Errorf("%w: %d bytes", errDamaged, len(v))
	}
	r := Record{Epoch: epoch, Seq: seq, Class: wire.Class(v[1]), Created: time.UnixMilli(int64(binary.BigEndian.Uint64(v[2:]))).UTC()}
	id := binary.BigEndian.Uint32(v[headerSize:])
	k := ring.byID[id]
	if k == nil {
		return r, fmt.Errorf("%w: key %08x", errNoKey, id)
	}
	p, err := k.aead.Open(nil, v[headerSize+4:sealedHead], v[sealedHead:], sealedWith(epoch, seq, v))
	if err != nil {
		return r, fmt.Errorf("%w: decryption with key %08x", errDamaged, id)
	}
	r.Payload, r.CRC = p, checksum(p)
	return r, nil
}

// loadKeys reads the keys; without one, a spool that must encrypt stays in memory.
func (s *Spool) loadKeys() {
	ring, err := loadKeys(s.cfg)
	s.keys = ring
	if err == nil {
		return
	}
	if s.cfg.Encrypt && ring.fresh == nil {
		s.degrade(err.Error())
		return
	}
	s.deps.Log.Warn().Err(err).Msg("a spool key cannot be used: records encrypted with it cannot be read")
}

// encode lays out a value, encrypted if so configured.
func (s *Spool) encode(r *Record) ([]byte, error) {
	if !s.cfg.Encrypt {
		return encodeRecord(r), nil
	}
	if s.keys.fresh == nil {
		return nil, errors.New("there is no spool key")
	}
	return s.keys.fresh.seal(r), nil
}

// decode checks a value and reads it. Of one without its key, all but the payload comes
// with errNoKey.
func (s *Spool) decode(epoch, seq uint64, v []byte) (Record, error) {
	return decodeValue(s.keys, epoch, seq, v)
}

func decodeValue(keys keyring, epoch, seq uint64, v []byte) (Record, error) {
	r, err := decodeRecord(epoch, seq, v)
	if err == nil && v[0] == sealedFormat {
		return keys.unseal(epoch, seq, v)
	}
	return r, err
}
