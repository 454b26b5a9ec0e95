package pbxsim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	fullRole = "system_owners"
	// The box refuses sign-ins for throttlePause after throttleMax of them in a
	// minute, and stops answering an address for blockPause after blockMax wrong ones.
	throttleMax   = 20
	throttlePause = 180 * time.Second
	blockMax      = 10
	blockPause    = 900 * time.Second
	claimedLife   = time.Hour
	maxSignInBody = 64 << 10
)

// auth gives and judges tokens.
type auth struct {
	opt Options
	key *ecdsa.PrivateKey

	mu        sync.Mutex // guards what follows
	tokens    map[string]issued
	byClient  map[string]string // client id: its one valid token
	refresh   map[string]bool
	refusing  bool // wrong, whatever is given
	recent    []time.Time
	throttled time.Time // until
	wrong     map[string]int
	blocked   map[string]time.Time
	signIns   int
}

type issued struct {
	at   time.Time
	role string
}

func newAuth(opt Options) (*auth, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make token key: %w", err)
	}
	return &auth{
		opt: opt, key: key, tokens: map[string]issued{}, byClient: map[string]string{},
		refresh: map[string]bool{}, wrong: map[string]int{}, blocked: map[string]time.Time{},
	}, nil
}

// refuse makes all credentials wrong, and ends all tokens; or makes them right again.
func (a *auth) refuse(on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refusing = on
	if on {
		clear(a.tokens)
		clear(a.byClient)
		clear(a.refresh)
	}
}

// blacklisted tells whether addr is not answered at all.
func (a *auth) blacklisted(addr string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Now().Before(a.blocked[hostOf(addr)])
}

func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}

func isLoopback(addr string) bool {
	ip := net.ParseIP(hostOf(addr))
	return ip != nil && ip.IsLoopback()
}

// judge tells whether a request's bearer token is good: 0, or the status to refuse with.
func (a *auth) judge(r *http.Request) int {
	access, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	a.mu.Lock()
	defer a.mu.Unlock()
	t, known := a.tokens[access]
	switch {
	case !found || !known && !a.signedByUs(access):
		return http.StatusUnauthorized
	case !known || time.Since(t.at) >= a.opt.TokenLife:
		return a.opt.RefuseEnded
	case t.role != fullRole:
		return http.StatusForbidden
	}
	return 0
}

// signedByUs: a token that was once good is refused in the manner of ended ones.
func (a *auth) signedByUs(access string) bool {
	signed, sig, ok := cutLast(access)
	raw, err := base64.RawURLEncoding.DecodeString(sig)
	if !ok || err != nil || len(raw) != 64 {
		return false
	}
	sum := sha256.Sum256([]byte(signed))
	return ecdsa.Verify(&a.key.PublicKey, sum[:], bigInt(raw[:32]), bigInt(raw[32:]))
}

// serveToken answers /connect/token.
func (a *auth) serveToken(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxSignInBody)
	if r.ParseMultipartForm(maxSignInBody) != nil && r.ParseForm() != nil {
		writeJSON(w, http.StatusBadRequest, map[string]any{"error": "invalid_request"})
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.throttle(w) {
		return
	}
	switch r.FormValue("grant_type") {
	case "client_credentials":
		if a.refusing || r.FormValue("client_id") != a.opt.ClientID || r.FormValue("client_secret") != a.opt.ClientSecret {
			a.countWrong(r.RemoteAddr)
			writeJSON(w, http.StatusUnauthorized, map[string]any{
				"error": "unauthorized", "error_description": "The client credentials are not valid."})
			return
		}
		delete(a.wrong, hostOf(r.RemoteAddr))
		delete(a.tokens, a.byClient[a.opt.ClientID])
		access := a.issue(a.opt.ClientID)
		a.byClient[a.opt.ClientID] = access
		writeJSON(w, http.StatusOK, tokenBody(access, nil))
	case "refresh_token":
		given := r.FormValue("refresh_token")
		if c, err := r.Cookie("RefreshTokenCookie"); given == "" && err == nil {
			given = c.Value
		}
		if a.refusing || r.FormValue("client_id") != "Webclient" || !a.refresh[given] {
			writeJSON(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
			return
		}
		writeJSON(w, http.StatusOK, tokenBody(a.issue(a.opt.User), given))
	default:
		writeJSON(w, http.StatusBadRequest, map[string]any{"error": "unsupported_grant_type"})
	}
}

// serveLogin answers the user sign-in.
func (a *auth) serveLogin(w http.ResponseWriter, r *http.Request) {
	var in struct{ Username, Password, SecurityCode string }
	if json.NewDecoder(http.MaxBytesReader(w, r.Body, maxSignInBody)).Decode(&in) != nil {
		writeError(w, http.StatusBadRequest, "", "WARNINGS.XAPI.INVALID")
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.throttle(w) {
		return
	}
	if a.refusing || in.Username != a.opt.User || in.Password != a.opt.Password {
		a.countWrong(r.RemoteAddr)
		if a.opt.WrongAs200 {
			writeJSON(w, http.StatusOK, map[string]any{"Status": "AuthFailed", "Token": nil, "TwoFactorAuth": nil})
			return
		}
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if a.opt.SecondFactor && in.SecurityCode == "" {
		writeJSON(w, http.StatusOK, map[string]any{
			"Status": "Required2FA", "Token": nil, "TwoFactorAuth": map[string]any{"Type": "Authenticator"}})
		return
	}
	delete(a.wrong, hostOf(r.RemoteAddr))
	refresh := "BAIT-refresh-" + rand.Text()
	a.refresh[refresh] = true
	writeJSON(w, http.StatusOK, map[string]any{
		"Status": "AuthSuccess", "Token": tokenBody(a.issue(a.opt.User), refresh), "TwoFactorAuth": nil})
}

func tokenBody(access string, refresh any) map[string]any {
	return map[string]any{"token_type": "Bearer", "expires_in": 60, "access_token": access, "refresh_token": refresh}
}

// throttle refuses a burst of sign-ins. The lock is held.
func (a *auth) throttle(w http.ResponseWriter) bool {
	now := time.Now()
	a.signIns++
	for len(a.recent) > 0 && now.Sub(a.recent[0]) > time.Minute {
		a.recent = a.recent[1:]
	}
	if a.recent = append(a.recent, now); len(a.recent) > throttleMax {
		a.throttled, a.recent = now.Add(throttlePause), nil
	}
	if now.Before(a.throttled) {
		w.WriteHeader(http.StatusForbidden)
		return true
	}
	return false
}

func (a *auth) countWrong(addr string) {
	host := hostOf(addr)
	if a.wrong[host]++; a.wrong[host] >= blockMax {
		delete(a.wrong, host)
		a.blocked[host] = time.Now().Add(blockPause)
	}
}

// issue makes a token; the lock is held.
func (a *auth) issue(subject string) string {
	now := time.Now()
	for t, i := range a.tokens {
		if now.Sub(i.at) > a.opt.TokenLife {
			delete(a.tokens, t)
		}
	}
	head := b64(map[string]any{"alg": "ES256", "typ": "JWT", "kid": "sim"})
	body := b64(map[string]any{
		"iss": "https://" + a.opt.FQDN, "sub": subject, "jti": rand.Text(), "nbf": now.Unix(),
		"iat": now.Unix(), "exp": now.Add(claimedLife).Unix(), "MaxRole": a.opt.MaxRole,
		"roles": []string{"MyUser", "Reports", "PhoneSystemAdmin", "Trunks", "Admin", "MachineAdmin"},
	})
	sum := sha256.Sum256([]byte(head + "." + body))
	r, s, err := ecdsa.Sign(rand.Reader, a.key, sum[:])
	if err != nil {
		panic("pbxsim: sign a token with our own key: " + err.Error())
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	access := head + "." + body + "." + base64.RawURLEncoding.EncodeToString(sig)
	a.tokens[access] = issued{at: now, role: a.opt.MaxRole}
	return access
}
