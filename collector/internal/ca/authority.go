package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority signs certificates. The root's key may be absent (kept offline).
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func rootTemplate() *x509.Certificate {
	return &x509.Certificate{
		Subject:    pkix.Name{CommonName: "Sidetone root", SerialNumber: serial().Text(16)[:12]},
		IsCA:       true,
		MaxPathLen: 1,
		KeyUsage:   x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

func clientsTemplate() *x509.Certificate {
	return &x509.Certificate{
		Subject:                     pkix.Name{CommonName: "Sidetone agents"},
		IsCA:                        true,
		MaxPathLenZero:              true,
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		ExtKeyUsage:                 []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		PermittedDNSDomainsCritical: true, // makes the whole name-constraints extension critical
		PermittedURIDomains:         []string{"sidetone"},
	}
}

func serversTemplate() *x509.Certificate {
	return &x509.Certificate{
		Subject:        pkix.Name{CommonName: "Sidetone collectors"},
		IsCA:           true,
		MaxPathLenZero: true,
		KeyUsage:       x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		ExtKeyUsage:    []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
}

// openRoot loads or makes the root. With a certificate and no key it works until a
// new intermediate is needed.
func openRoot(dir string) (authority, error) {
	certPath, keyPath := filepath.Join(dir, "root.crt.pem"), filepath.Join(dir, "root.key.pem")
	cert, err := loadCert(certPath)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return authority{}, err
	}
	if cert != nil {
		key, err := loadKey(keyPath)
		if errors.Is(err, fs.ErrNotExist) {
			return authority{cert: cert}, checkAuthority(certPath, cert, nil, nil)
		}
		if err != nil {
			return authority{}, err
		}
		return authority{key: key, cert: cert}, checkAuthority(certPath, cert, key, nil)
	}
	key, err := loadOrMakeKey(keyPath)
	if err != nil {
		return authority{}, err
	}
	t := rootTemplate()
	setLife(t, authorityLife, time.Time{})
	cert, err = makeCert(certPath, t, t, &key.PublicKey, key)
	if err != nil {
		return authority{}, err
	}
	return authority{key: key, cert: cert}, checkAuthority(certPath, cert, key, nil)
}

// openIntermediate loads or makes an intermediate below root.
func openIntermediate(dir, name string, t *x509.Certificate, root authority) (authority, error) {
	certPath, keyPath := filepath.Join(dir, name+".crt.pem"), filepath.Join(dir, name+".key.pem")
	cert, err := loadCert(certPath)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return authority{}, err
	default:
		key, err := loadKey(keyPath)
		if err != nil {
			return authority{}, err
		}
		return authority{key: key, cert: cert}, checkAuthority(certPath, cert, key, root.cert)
	}
	if root.key == nil {
		return authority{}, fmt.Errorf("%s is missing and root.key.pem, which would sign a new one, is not here: put it back for this start", certPath)
	}
	key, err := loadOrMakeKey(keyPath)
	if err != nil {
		return authority{}, err
	}
	setLife(t, authorityLife, root.cert.NotAfter)
	cert, err = makeCert(certPath, t, root.cert, &key.PublicKey, root.key)
	if err != nil {
		return authority{}, err
	}
	return authority{key: key, cert: cert}, checkAuthority(certPath, cert, key, root.cert)
}

// checkAuthority refuses files that do not belong together or have ended.
func checkAuthority(path string, cert *x509.Certificate, key *ecdsa.PrivateKey, parent *x509.Certificate) error {
	if !cert.IsCA || !cert.BasicConstraintsValid {
		return fmt.Errorf("%s is not the certificate of an authority", path)
	}
	if key != nil && !key.PublicKey.Equal(cert.PublicKey) {
		return fmt.Errorf("%s does not belong to the key beside it: restore both from the same backup", path)
	}
	if parent != nil {
		if err := cert.CheckSignatureFrom(parent); err != nil {
			return fmt.Errorf("%s is not signed by root.crt.pem: restore both from the same backup: %w", path, err)
		}
	}
	if now := time.Now(); now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
		return fmt.Errorf("%s is valid from %s to %s and it is %s now: check this host's clock",
			path, cert.NotBefore.Format(time.RFC3339), cert.NotAfter.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// setLife sets the validity, never beyond the issuer's end.
func setLife(t *x509.Certificate, life time.Duration, issuerEnd time.Time) {
	now := time.Now().UTC()
	t.NotBefore, t.NotAfter = now.Add(-backdate), now.Add(life)
	if !issuerEnd.IsZero() && t.NotAfter.After(issuerEnd) {
		t.NotAfter = issuerEnd
	}
}

// sign makes a certificate from the template; it sets the serial.
func sign(t, parent *x509.Certificate, pub *ecdsa.PublicKey, key *ecdsa.PrivateKey) ([]byte, error) {
	t.SerialNumber = serial()
	t.BasicConstraintsValid = true
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate %s: %w", t.Subject, err)
	}
	return der, nil
}

// makeCert signs and writes a certificate; when another process was first, its
// certificate counts.
func makeCert(path string, t, parent *x509.Certificate, pub *ecdsa.PublicKey, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := sign(t, parent, pub, key)
	if err != nil {
		return nil, err
	}
	if err := writeNew(path, encodeCerts(der), 0o644); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return loadCert(path)
}

func loadOrMakeKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := loadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	text, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	if err := writeNew(path, text, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return loadKey(path)
}

// serial draws 128 bits, positive as RFC 5280 wants it.
func serial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails, by its documentation
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b)
}

// addNames splits names into DNS names and addresses.
func addNames(t *x509.Certificate, names []string) {
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
}

// exposed reports a key that other users can read.
func exposed(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if readableByOthers(info) {
		return &ExposedKeyError{Path: path, Mode: info.Mode().Perm()}
	}
	return nil
}

// ExposedKeyError says that a key file can be read by other users of the host.
type ExposedKeyError struct {
	Path string
	Mode fs.FileMode
}

func (e *ExposedKeyError) Error() string {
	return fmt.Sprintf("key file %s can be read by other users (mode %04o): run chmod 600 %s, and replace the CA if someone may have read it",
		e.Path, e.Mode, e.Path)
}
