package loadgen

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sidetone/shared/certid"
)

// File is the identities of a fleet. It holds private keys.
type File struct {
	Addr   string     `json:"addr"` // of the collector
	Root   []byte     `json:"root"` // DER
	Agents []Identity `json:"agents"`
}

// Identity is one agent's.
type Identity struct {
	Tenant     uint32   `json:"tenant"`
	Agent      uint32   `json:"agent"`
	Generation uint64   `json:"generation"`
	Key        []byte   `json:"key"`   // PKCS #8, DER
	Chain      [][]byte `json:"chain"` // DER, leaf first
}

// maxFile bounds an agents' file: an identity has about 2 KiB.
const maxFile = maxFleet * 16 << 10

// ReadFile reads the identities of a fleet.
func ReadFile(path string) (*File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read agents: %w", err)
	}
	if st.Size() > maxFile {
		return nil, fmt.Errorf("read agents %s: larger than %d bytes", path, maxFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read agents: %w", err)
	}
	f := &File{}
	if err := json.Unmarshal(text, f); err != nil {
		return nil, fmt.Errorf("read agents %s: %w", path, err)
	}
	return f, nil
}

// Write puts the identities where only their owner reads them, whole or not at all.
func (f *File) Write(path string) error { return writeJSON(path, f, 0o600) }

// writeJSON replaces path by v as JSON.
func writeJSON(path string, v any, mode os.FileMode) error {
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = tmp.Write(append(text, '\n'))
	err = errors.Join(err, tmp.Chmod(mode), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// roots is shared by all agents: parsing it a thousand times would only cost memory.
func (f *File) roots() (*x509.CertPool, error) {
	root, err := x509.ParseCertificate(f.Root)
	if err != nil {
		return nil, fmt.Errorf("agents' file: root: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	return pool, nil
}

// pair is the identity for TLS.
func (id *Identity) pair() (*tls.Certificate, error) {
	key, err := x509.ParsePKCS8PrivateKey(id.Key)
	if err != nil {
		return nil, fmt.Errorf("agent %d: key: %w", id.Agent, err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("agent %d: key is a %T", id.Agent, key)
	}
	if len(id.Chain) == 0 {
		return nil, fmt.Errorf("agent %d: no certificate", id.Agent)
	}
	leaf, err := x509.ParseCertificate(id.Chain[0])
	if err != nil {
		return nil, fmt.Errorf("agent %d: certificate: %w", id.Agent, err)
	}
	if !ec.PublicKey.Equal(leaf.PublicKey) {
		return nil, fmt.Errorf("agent %d: the certificate is of another key", id.Agent)
	}
	who, err := certid.FromCert(leaf)
	if err != nil {
		return nil, fmt.Errorf("agent %d: certificate: %w", id.Agent, err)
	}
	if uint32(who.Agent) != id.Agent || uint32(who.Tenant) != id.Tenant {
		return nil, fmt.Errorf("agent %d: the certificate is of %s", id.Agent, who)
	}
	return &tls.Certificate{Certificate: id.Chain, PrivateKey: ec, Leaf: leaf}, nil
}

// renewalDue is at two thirds of a certificate's life.
func renewalDue(leaf *x509.Certificate) time.Time {
	return leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) * 2 / 3)
}
