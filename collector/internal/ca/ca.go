// Package ca is the collector's certificate authority: a root that agents pin, an
// intermediate that signs agents and one that signs the collector's own addresses.
//
// Files in its directory (PEM; keys PKCS #8, mode 0600): root, clients and servers,
// each as x.key.pem and x.crt.pem, and web.pem with the browsers' certificate and
// key. Every file is written whole (temporary file, fsync, link or rename), a key
// before its certificate, so a crash or a second process at first start leaves a
// state that the next Open completes. After the first start the root's key is not
// needed: an operator may take root.key.pem away and keep it offline.
package ca

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sidetone/shared/certid"
	"sidetone/shared/wire"
)

// Lives of certificates. An agent's is short because a lost agent then ends by
// itself; browsers accept 398 days at most, and each renewal asks those who made
// an exception again, hence 90.
const (
	authorityLife = 10 * 365 * 24 * time.Hour
	agentLife     = 7 * 24 * time.Hour
	serverLife    = 30 * 24 * time.Hour
	webLife       = 90 * 24 * time.Hour
	// backdate makes a certificate valid for hosts whose clock is late.
	backdate = time.Hour
)

// maxNames bounds the names of a server certificate.
const maxNames = 64

// Config is what the operator chooses.
type Config struct {
	// Names are the DNS names and IP addresses under which agents and browsers
	// reach the collector.
	Names []string
}

// Validate returns all mistakes.
func (c Config) Validate() []error {
	var errs []error
	if len(c.Names) > maxNames {
		errs = append(errs, fmt.Errorf("names: %d given, at most %d are possible", len(c.Names), maxNames))
	}
	for i, n := range c.Names {
		if net.ParseIP(n) == nil && !validDNSName(n) {
			errs = append(errs, fmt.Errorf("names[%d]: %q is neither a DNS name nor an IP address", i, n))
		}
	}
	return errs
}

// CA holds the authorities' keys and the certificates in use. It is safe for
// concurrent use.
type CA struct {
	dir     string
	root    *x509.Certificate
	clients authority
	servers authority
	server  leaf
	web     leaf
}

// Open loads the authority from dir or makes it there on first use. It refuses key
// files that other users can read.
func Open(dir string, cfg Config) (*CA, error) {
	if errs := cfg.Validate(); len(errs) > 0 {
		return nil, fmt.Errorf("certificate names: %w", errors.Join(errs...))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create CA directory: %w", err)
	}
	root, err := openRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open CA in %s: %w", dir, err)
	}
	c := &CA{dir: dir, root: root.cert}
	if c.clients, err = openIntermediate(dir, "clients", clientsTemplate(), root); err != nil {
		return nil, fmt.Errorf("open CA in %s: %w", dir, err)
	}
	if c.servers, err = openIntermediate(dir, "servers", serversTemplate(), root); err != nil {
		return nil, fmt.Errorf("open CA in %s: %w", dir, err)
	}
	c.server = leaf{issuer: c.servers, root: c.root, life: serverLife, names: serverNames(cfg.Names)}
	c.web = leaf{issuer: c.servers, root: c.root, life: webLife, names: webNames(cfg.Names), file: filepath.Join(dir, "web.pem")}
	return c, nil
}

// RootDER is the root's certificate.
func (c *CA) RootDER() []byte { return c.root.Raw }

// RootSPKI is the hash that enrolment tokens carry.
func (c *CA) RootSPKI() [32]byte { return sha256.Sum256(c.root.RawSubjectPublicKeyInfo) }

// ServerCert is the certificate of the agents' address, with its whole chain, the
// root included: an agent that enrols finds there the root that its token names.
// It is renewed when less than a third of its life is left.
func (c *CA) ServerCert() (*tls.Certificate, error) { return c.server.get(time.Now()) }

// WebCert is the certificate of the web address. It is kept on disk, so that a
// browser's exception outlives a restart.
func (c *CA) WebCert() (*tls.Certificate, error) { return c.web.get(time.Now()) }

// GetWebCertificate is WebCert in the form of tls.Config.GetCertificate.
func (c *CA) GetWebCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.WebCert() }

// ServerTLS is the TLS configuration of the agents' address for one conversation.
// The link asks for an agent's certificate and refuses any that names no agent;
// revocation and generation are the enrolment's to judge, after the handshake.
func (c *CA) ServerTLS(alpn string) (*tls.Config, error) {
	cfg := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{alpn},
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.ServerCert() },
		SessionTicketsDisabled: true, // a ticket would outlive a revocation
	}
	switch alpn {
	case wire.ALPNEnrol:
		return cfg, nil
	case wire.ALPNLink:
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
		cfg.ClientCAs = x509.NewCertPool()
		cfg.ClientCAs.AddCert(c.root)
		cfg.VerifyConnection = verifyAgent
		return cfg, nil
	}
	return nil, fmt.Errorf("no TLS configuration for protocol %q", alpn)
}

// verifyAgent runs after the chain was verified, on every handshake.
func verifyAgent(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("agent sent no certificate")
	}
	_, err := certid.FromCert(cs.PeerCertificates[0])
	return err
}

func serverNames(names []string) []string {
	return append([]string{certid.ServerName}, names...)
}

func webNames(names []string) []string {
	return append([]string{"localhost", "127.0.0.1", "::1"}, names...)
}

// validDNSName accepts host names (RFC 1123), with an asterisk as first label.
func validDNSName(s string) bool {
	s = strings.TrimPrefix(s, "*.")
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, r := range label {
			if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' {
				return false
			}
		}
	}
	return true
}
