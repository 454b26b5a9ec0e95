// Package identity keeps who this agent is: its private key, its certificate with
// the generation inside, the pinned root and the collector's address. It enrols
// with a token and renews; DESIGN.md has the files and what a crash leaves behind.
package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"sidetone/shared/certid"
	"sidetone/shared/telemetry"
	"sidetone/shared/wire"
)

// Info says who the agent is.
type Info struct {
	Collector           string // host:port of the address that the token named
	Tenant              telemetry.TenantID
	Agent               telemetry.AgentID
	Generation          uint64
	Site                string // name, for people
	EnrolmentID         string
	NotBefore, NotAfter time.Time // life of the newest certificate
}

// Identity is an enrolled agent's identity. It is safe for concurrent use.
type Identity struct {
	files *files
	root  *x509.Certificate
	meta  meta

	mu      sync.Mutex
	current tls.Certificate   // guarded by mu; Leaf is set
	id      certid.ID         // guarded by mu; what current says
	pending *ecdsa.PrivateKey // guarded by mu; key of the last NewCSR
}

// Open loads the identity from the state directory: ErrNotEnrolled when there is none.
func Open(dir string) (*Identity, error) { return open(newFiles(dir)) }

func open(f *files) (*Identity, error) {
	s, err := f.load()
	if err != nil {
		return nil, err
	}
	return newIdentity(f, s)
}

// newIdentity checks that the parts of a state belong together.
func newIdentity(f *files, s state) (*Identity, error) {
	id, err := verifyChain(s.root, s.chain, &s.key.PublicKey)
	if err != nil {
		return nil, damaged(f.dir, err)
	}
	if uint32(id.Tenant) != s.meta.Tenant || uint32(id.Agent) != s.meta.Agent {
		return nil, damaged(f.dir, fmt.Errorf("certificate is of %s, identity.json of tenant %d, agent %d", id, s.meta.Tenant, s.meta.Agent))
	}
	return &Identity{files: f, root: s.root, meta: s.meta, current: keyPair(s), id: id}, nil
}

func keyPair(s state) tls.Certificate {
	c := tls.Certificate{PrivateKey: s.key, Leaf: s.chain[0]}
	for _, cert := range s.chain {
		c.Certificate = append(c.Certificate, cert.Raw)
	}
	return c
}

// verifyChain checks a chain (leaf first) against the pinned root: an agent's
// certificate for this key. The leaf's own life does not count here: an agent whose
// certificate ended while it was dark still knows who it is.
func verifyChain(root *x509.Certificate, chain []*x509.Certificate, key *ecdsa.PublicKey) (certid.ID, error) {
	leaf := chain[0]
	if !key.Equal(leaf.PublicKey) {
		return certid.ID{}, errors.New("certificate does not belong to the key")
	}
	opts := x509.VerifyOptions{
		Roots:         x509.NewCertPool(),
		Intermediates: x509.NewCertPool(),
		CurrentTime:   leaf.NotBefore,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	// An intermediate or root made within the same hour begins later than the
	// backdated leaf does.
	for _, c := range append([]*x509.Certificate{root}, chain[1:]...) {
		if c.NotBefore.After(opts.CurrentTime) {
			opts.CurrentTime = c.NotBefore
		}
	}
	opts.Roots.AddCert(root)
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(opts); err != nil {
		return certid.ID{}, err
	}
	return certid.FromCert(leaf)
}

// TLS is the configuration for dialling a collector: only the pinned root counts,
// the fixed server name makes any address work, and each handshake presents the
// newest certificate. The caller sets NextProtos.
func (i *Identity) TLS() *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(i.root)
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		RootCAs:    roots,
		ServerName: certid.ServerName,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			i.mu.Lock()
			defer i.mu.Unlock()
			c := i.current
			return &c, nil
		},
	}
}

// Info says who this is.
func (i *Identity) Info() Info {
	i.mu.Lock()
	defer i.mu.Unlock()
	return Info{
		Collector: i.meta.Collector, Tenant: i.id.Tenant, Agent: i.id.Agent, Generation: i.id.Generation,
		Site: i.meta.Site, EnrolmentID: i.meta.EnrolmentID,
		NotBefore: i.current.Leaf.NotBefore, NotAfter: i.current.Leaf.NotAfter,
	}
}

// RenewalDue reports whether two thirds of the certificate's life are over, plus a
// spread of up to a twelfth that differs between agents and generations, so that a
// fleet enrolled in one hour does not renew in one hour.
func (i *Identity) RenewalDue(now time.Time) bool {
	i.mu.Lock()
	leaf := i.current.Leaf
	i.mu.Unlock()
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	var spread time.Duration
	if sn := leaf.SerialNumber.Bytes(); len(sn) > 0 {
		spread = life / 12 * time.Duration(sn[len(sn)-1]) / 255
	}
	return !now.Before(leaf.NotBefore.Add(life*2/3 + spread))
}

// NewCSR makes a new key and a certificate request for it. The key is used when
// Install brings its certificate; until then the old pair stays in use.
func (i *Identity) NewCSR() ([]byte, error) {
	key, der, err := newCSR()
	if err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.pending = key
	return der, nil
}

func newCSR() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("make certificate request: %w", err)
	}
	return key, der, nil
}

// Install puts the answer to the last NewCSR in place: on disk first, whole or not
// at all, then for the next handshake. An answer that is not for the same agent, or
// not newer, changes nothing.
func (i *Identity) Install(chain [][]byte, generation uint64) error {
	certs, err := parseChain(chain)
	if err != nil {
		return fmt.Errorf("install certificate: %w", err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.pending == nil {
		return errors.New("install certificate: no request is open")
	}
	id, err := verifyChain(i.root, certs, &i.pending.PublicKey)
	switch {
	case err != nil:
		return fmt.Errorf("install certificate: %w", err)
	case id.Tenant != i.id.Tenant || id.Agent != i.id.Agent:
		return fmt.Errorf("install certificate: it is for %s, this is %s", id, i.id)
	case id.Generation != generation || generation <= i.id.Generation:
		return fmt.Errorf("install certificate: it has generation %d, answer says %d, in use is %d", id.Generation, generation, i.id.Generation)
	}
	s := state{meta: i.meta, key: i.pending, chain: certs, root: i.root}
	s.meta.Generation = generation
	if err := i.files.save(s); err != nil {
		return fmt.Errorf("install certificate: %w", err)
	}
	i.meta, i.current, i.id, i.pending = s.meta, keyPair(s), id, nil
	return nil
}

// maxCert bounds one certificate; those of this system have some 600 bytes.
const maxCert = 8192

func parseChain(ders [][]byte) ([]*x509.Certificate, error) {
	if len(ders) == 0 || len(ders) > wire.MaxChain {
		return nil, fmt.Errorf("chain has %d certificates, must have 1 to %d", len(ders), wire.MaxChain)
	}
	var certs []*x509.Certificate
	for n, der := range ders {
		if len(der) > maxCert {
			return nil, fmt.Errorf("certificate %d of the chain has %d bytes, at most %d are possible", n, len(der), maxCert)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the chain: %w", n, err)
		}
		certs = append(certs, c)
	}
	return certs, nil
}
