package certid

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Limits of a token's text and of its parts.
const (
	maxTokenLen  = 1024
	maxAddrLen   = 261 // 255 of a DNS name, colon, 5 of a port
	maxIDLen     = 64
	maxSecretLen = 128
)

const tokenPrefix = "st1"

// ErrBadToken is the reason when a text is no enrolment token.
var ErrBadToken = errors.New("not an enrolment token")

// Token is what an operator hands to an agent that is to enrol. Its text is
//
//	st1.<base64url(host:port)>.<token id>.<secret>.<base64url(SHA-256 of root SPKI)>
type Token struct {
	Addr     string   // host:port of the collector's address for agents
	ID       string   // names the token in lists and logs; not secret
	Secret   string   // shown once
	RootSPKI [32]byte // SPKIHash of the root that signs collectors and agents
}

// String is the whole text, with the secret. For logs use Redacted.
func (t Token) String() string { return t.text(t.Secret) }

// Redacted is the text without the secret.
func (t Token) Redacted() string { return t.text("***") }

func (t Token) text(secret string) string {
	enc := base64.RawURLEncoding
	return strings.Join([]string{
		tokenPrefix, enc.EncodeToString([]byte(t.Addr)), t.ID, secret, enc.EncodeToString(t.RootSPKI[:]),
	}, ".")
}

// ParseToken reads the text of a token; white space around it is ignored. No error
// repeats any part of the text, because it may hold a secret.
func ParseToken(s string) (Token, error) {
	s = strings.TrimSpace(s)
	if len(s) > maxTokenLen {
		return Token{}, fmt.Errorf("%w: longer than %d characters", ErrBadToken, maxTokenLen)
	}
	parts := strings.Split(s, ".")
	if parts[0] != tokenPrefix {
		return Token{}, fmt.Errorf("%w: it must begin with %q; copy the whole line that the collector printed", ErrBadToken, tokenPrefix+".")
	}
	if len(parts) != 5 {
		return Token{}, fmt.Errorf("%w: %d parts instead of 5; was it cut when copied?", ErrBadToken, len(parts))
	}
	addr, err := base64.RawURLEncoding.Strict().DecodeString(parts[1])
	if err != nil || !validAddr(string(addr)) {
		return Token{}, fmt.Errorf("%w: its second part is not an address; was it cut when copied?", ErrBadToken)
	}
	if !validWord(parts[2], maxIDLen) || !validWord(parts[3], maxSecretLen) {
		return Token{}, fmt.Errorf("%w: id or secret is empty, too long or has strange characters", ErrBadToken)
	}
	root, err := base64.RawURLEncoding.Strict().DecodeString(parts[4])
	if err != nil || len(root) != 32 {
		return Token{}, fmt.Errorf("%w: its last part is not a hash; was it cut when copied?", ErrBadToken)
	}
	return Token{Addr: string(addr), ID: parts[2], Secret: parts[3], RootSPKI: [32]byte(root)}, nil
}

func validAddr(s string) bool {
	if len(s) > maxAddrLen {
		return false
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return false
	}
	for _, r := range host {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune(`/\@?#"<>`, r) {
			return false
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n != 0
}

// validWord tells whether s is letters, digits, "-" and "_" only.
func validWord(s string, limit int) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
		default:
			return false
		}
	}
	return true
}
