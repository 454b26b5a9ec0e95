package certid

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"
)

// issue makes a self-signed certificate with these URIs and extensions.
func issue(t testing.TB, uris []*url.URL, exts []pkix.Extension) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(4e9, 0),
		URIs: uris, ExtraExtensions: exts,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestRoundTrip(t *testing.T) {
	for _, id := range []ID{
		{Tenant: 1, Agent: 1, Generation: 0},
		{Tenant: 7, Agent: 42, Generation: 3},
		{Tenant: math.MaxUint32, Agent: math.MaxUint32, Generation: math.MaxUint64},
	} {
		ext, err := Extension(id)
		if err != nil {
			t.Fatal(err)
		}
		got, err := FromCert(issue(t, []*url.URL{URI(id)}, []pkix.Extension{ext}))
		if err != nil || got != id {
			t.Errorf("FromCert = %v, %v; want %v", got, err, id)
		}
	}
}

func TestFromCertRefuses(t *testing.T) {
	good := ID{Tenant: 7, Agent: 42, Generation: 3}
	ext, err := Extension(good)
	if err != nil {
		t.Fatal(err)
	}
	negative, _ := asn1.Marshal(-1)
	uri := func(s string) []*url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return []*url.URL{u}
	}
	cases := []struct {
		name string
		uris []*url.URL
		exts []pkix.Extension
	}{
		{"no URI", nil, []pkix.Extension{ext}},
		{"two URIs", []*url.URL{URI(good), URI(good)}, []pkix.Extension{ext}},
		{"other scheme", uri("https://sidetone/tenant/7/agent/42"), []pkix.Extension{ext}},
		{"other domain", uri("spiffe://other/tenant/7/agent/42"), []pkix.Extension{ext}},
		{"other path", uri("spiffe://sidetone/tenant/7/user/42"), []pkix.Extension{ext}},
		{"more path", uri("spiffe://sidetone/tenant/7/agent/42/x"), []pkix.Extension{ext}},
		{"tenant zero", uri("spiffe://sidetone/tenant/0/agent/42"), []pkix.Extension{ext}},
		{"agent too large", uri("spiffe://sidetone/tenant/7/agent/4294967296"), []pkix.Extension{ext}},
		{"leading zero", uri("spiffe://sidetone/tenant/07/agent/42"), []pkix.Extension{ext}},
		{"query", uri("spiffe://sidetone/tenant/7/agent/42?x=1"), []pkix.Extension{ext}},
		{"no generation", []*url.URL{URI(good)}, nil},
		{"generation of rubbish", []*url.URL{URI(good)}, []pkix.Extension{{Id: generationOID, Value: []byte{1, 2, 3}}}},
		{"generation below zero", []*url.URL{URI(good)}, []pkix.Extension{{Id: generationOID, Value: negative}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if id, err := FromCert(issue(t, c.uris, c.exts)); !errors.Is(err, ErrNoID) {
				t.Errorf("FromCert = %v, %v; want ErrNoID", id, err)
			}
		})
	}
	if _, err := FromCert(nil); !errors.Is(err, ErrNoID) {
		t.Errorf("FromCert(nil) = %v; want ErrNoID", err)
	}
}

func goodToken() Token {
	tok := Token{Addr: "collector.example.net:443", ID: "tk_1", Secret: "abc-DEF_0123456789abcdef"}
	for i := range tok.RootSPKI {
		tok.RootSPKI[i] = byte(i)
	}
	return tok
}

func TestToken(t *testing.T) {
	for _, addr := range []string{"collector.example.net:443", "192.0.2.7:65535", "[2001:db8::1]:8443"} {
		tok := goodToken()
		tok.Addr = addr
		got, err := ParseToken(" \t" + tok.String() + "\r\n")
		if err != nil || got != tok {
			t.Errorf("ParseToken(%s) = %v, %v", addr, got, err)
		}
	}
	if red := goodToken().Redacted(); strings.Contains(red, goodToken().Secret) || !strings.Contains(red, "tk_1") {
		t.Errorf("Redacted = %q", red)
	}
}

func TestTokenRefuses(t *testing.T) {
	good := goodToken()
	part := func(i int, s string) string {
		p := strings.Split(good.String(), ".")
		p[i] = s
		return strings.Join(p, ".")
	}
	with := func(edit func(*Token)) string {
		tok := good
		edit(&tok)
		return tok.String()
	}
	cases := map[string]string{
		"empty":            "",
		"a sentence":       "please enrol me",
		"other version":    part(0, "st2"),
		"cut off":          good.String()[:len(good.String())-60],
		"one char missing": good.String()[:len(good.String())-1],
		"too long":         part(3, strings.Repeat("a", maxTokenLen)),
		"address rubbish":  part(1, "!!!"),
		"no port":          with(func(t *Token) { t.Addr = "host" }),
		"port zero":        with(func(t *Token) { t.Addr = "host:0" }),
		"port too large":   with(func(t *Token) { t.Addr = "host:65536" }),
		"no host":          with(func(t *Token) { t.Addr = ":443" }),
		"host with path":   with(func(t *Token) { t.Addr = "host/x:443" }),
		"host with space":  with(func(t *Token) { t.Addr = "ho st:443" }),
		"no id":            part(2, ""),
		"id of quotes":     part(2, "a'b"),
		"no secret":        part(3, ""),
		"redacted":         good.Redacted(),
		"short hash":       part(4, "AAAA"),
	}
	for name, text := range cases {
		t.Run(name, func(t *testing.T) {
			tok, err := ParseToken(text)
			if !errors.Is(err, ErrBadToken) {
				t.Fatalf("ParseToken = %v, %v; want ErrBadToken", tok, err)
			}
			if strings.Contains(err.Error(), good.Secret) {
				t.Errorf("the error repeats the secret: %v", err)
			}
		})
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(goodToken().String())
	f.Add(goodToken().Redacted())
	f.Add("st1....")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := ParseToken(s)
		if err != nil {
			return
		}
		if again, err := ParseToken(tok.String()); err != nil || again != tok {
			t.Errorf("%q: read back as %v, %v", s, again, err)
		}
	})
}

func FuzzFromCert(f *testing.F) {
	ext, err := Extension(ID{Tenant: 7, Agent: 42, Generation: 3})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(issue(f, []*url.URL{URI(ID{Tenant: 7, Agent: 42})}, []pkix.Extension{ext}).Raw)
	f.Fuzz(func(t *testing.T, der []byte) {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		if id, err := FromCert(cert); err == nil && (id.Tenant == 0 || id.Agent == 0) {
			t.Errorf("accepted the identity %v", id)
		}
	})
}
