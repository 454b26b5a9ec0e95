// Package certid writes and reads what a certificate says about its holder: an
// agent's tenant, agent id and generation. It also holds the name that every
// collector's certificate carries, and the text of an enrolment token.
//
// Tenant and agent stand in the SAN URI spiffe://sidetone/tenant/<t>/agent/<a>;
// the generation, which reveals a cloned machine, in a private extension.
package certid

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strconv"
	"strings"

	"sidetone/shared/telemetry"
)

// ServerName is in every collector's certificate, whatever its addresses are.
// Agents verify this name, so that a collector may be reached by any address.
const ServerName = "collector.sidetone.internal"

const trustDomain = "sidetone"

// generationOID marks the extension with the generation. It lies below 2.25, the
// arc that needs no registration; the number was drawn at random, and fits an int
// of 32 bits. It must never change: certificates in the field carry it.
var generationOID = asn1.ObjectIdentifier{2, 25, 1467093121}

// ErrNoID is the reason when a certificate is not an agent's.
var ErrNoID = errors.New("certificate carries no agent identity")

// ID is who a certificate was given to.
type ID struct {
	Tenant telemetry.TenantID
	Agent  telemetry.AgentID
	// Generation grows by one at each renewal; an old number in use means that a
	// copy of the key exists.
	Generation uint64
}

// String is for logs and messages.
func (id ID) String() string {
	return fmt.Sprintf("tenant %d, agent %d, generation %d", id.Tenant, id.Agent, id.Generation)
}

// URI is the SAN that names the agent.
func URI(id ID) *url.URL {
	return &url.URL{
		Scheme: "spiffe",
		Host:   trustDomain,
		Path:   fmt.Sprintf("/tenant/%d/agent/%d", id.Tenant, id.Agent),
	}
}

// Extension is the extension that holds the generation.
func Extension(id ID) (pkix.Extension, error) {
	value, err := asn1.Marshal(new(big.Int).SetUint64(id.Generation))
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("encode generation %d: %w", id.Generation, err)
	}
	return pkix.Extension{Id: generationOID, Value: value}, nil
}

// FromCert reads the identity of an agent's certificate. It does not verify the
// certificate: the caller has a chain to a root it trusts.
func FromCert(cert *x509.Certificate) (ID, error) {
	if cert == nil || len(cert.URIs) == 0 {
		return ID{}, ErrNoID
	}
	if len(cert.URIs) != 1 {
		return ID{}, fmt.Errorf("%w: %d URIs instead of one", ErrNoID, len(cert.URIs))
	}
	id, err := parseURI(cert.URIs[0])
	if err != nil {
		return ID{}, err
	}
	if id.Generation, err = generation(cert); err != nil {
		return ID{}, err
	}
	return id, nil
}

func parseURI(u *url.URL) (ID, error) {
	parts := strings.Split(u.Path, "/")
	if u.Scheme != "spiffe" || u.Host != trustDomain || len(parts) != 5 || parts[0] != "" ||
		parts[1] != "tenant" || parts[3] != "agent" {
		return ID{}, fmt.Errorf("%w: URI %q", ErrNoID, u.Redacted())
	}
	tenant, errT := parseID(parts[2])
	agent, errA := parseID(parts[4])
	if errT != nil || errA != nil {
		return ID{}, fmt.Errorf("%w: URI %q: %w", ErrNoID, u.Redacted(), errors.Join(errT, errA))
	}
	id := ID{Tenant: telemetry.TenantID(tenant), Agent: telemetry.AgentID(agent)}
	// One identity has one text: no query, no escapes, no leading zeros.
	if u.String() != URI(id).String() {
		return ID{}, fmt.Errorf("%w: URI %q is not in its plain form", ErrNoID, u.Redacted())
	}
	return id, nil
}

func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, errors.New("zero is no id")
	}
	return uint32(n), nil
}

func generation(cert *x509.Certificate) (uint64, error) {
	found := false
	var gen uint64
	for _, e := range cert.Extensions {
		if !e.Id.Equal(generationOID) {
			continue
		}
		if found {
			return 0, fmt.Errorf("%w: two generations", ErrNoID)
		}
		found = true
		n := new(big.Int)
		rest, err := asn1.Unmarshal(e.Value, &n)
		if err != nil || len(rest) != 0 || !n.IsUint64() {
			return 0, fmt.Errorf("%w: generation cannot be read", ErrNoID)
		}
		gen = n.Uint64()
	}
	if !found {
		return 0, fmt.Errorf("%w: no generation", ErrNoID)
	}
	return gen, nil
}

// SPKIHash is the SHA-256 of the certificate's public key (SubjectPublicKeyInfo),
// by which a root is pinned: it survives a re-issue with the same key.
func SPKIHash(cert *x509.Certificate) [32]byte {
	return sha256.Sum256(cert.RawSubjectPublicKeyInfo)
}
