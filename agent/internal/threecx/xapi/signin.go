package xapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sidetone/agent/internal/threecx"
)

const (
	// fullRole is the MaxRole of a token that may read everything.
	fullRole = "system_owners"
	// unknownLife is assumed of a token that does not tell its end; a refusal teaches better.
	unknownLife = 55 * time.Minute
	maxLife     = 24 * time.Hour
	// maxToken limits what is taken for a token.
	maxToken = 16 << 10
)

// errStarting marks answers of a web server whose 3CX services are not there.
var errStarting = errors.New("services not running")

// grant is a token as given.
type grant struct {
	access  string
	refresh string
	role    string
	life    time.Duration
	at      time.Time
}

// tokenAnswer is the body of /connect/token, and the Token of a user sign-in.
type tokenAnswer struct {
	AccessToken  text `json:"access_token"`
	RefreshToken text `json:"refresh_token"`
	Error        text `json:"error"`
}

// loginAnswer is the body of a user sign-in.
type loginAnswer struct {
	Status        text
	Token         *tokenAnswer
	TwoFactorAuth json.RawMessage
}

// askToken asks for a token: with the refresh token if there is one, else with the
// credentials of the configuration.
func (c *Client) askToken(ctx context.Context, refresh string) (grant, error) {
	var req *http.Request
	var err error
	switch {
	case refresh != "":
		req, err = c.tokenRequest(ctx, url.Values{
			"client_id": {"Webclient"}, "grant_type": {"refresh_token"}, "refresh_token": {refresh}})
		if err == nil {
			req.AddCookie(&http.Cookie{Name: "RefreshTokenCookie", Value: refresh})
		}
	case c.cfg.ByClient():
		req, err = c.tokenRequest(ctx, url.Values{
			"client_id": {c.cfg.ClientID}, "client_secret": {c.cfg.ClientSecret.Reveal()},
			"grant_type": {"client_credentials"}})
	default:
		req, err = c.loginRequest(ctx)
	}
	if err != nil {
		return grant{}, fmt.Errorf("sign in: %w", err)
	}
	a, err := c.do(ctx, req)
	if err != nil {
		return grant{}, err
	}
	if err := c.judgeSignIn(a, req.URL.Path); err != nil {
		return grant{}, err
	}
	if refresh == "" && !c.cfg.ByClient() {
		return c.loginGrant(a)
	}
	var t tokenAnswer
	if err := unmarshal(a.body, &t); err != nil {
		return grant{}, notAPI(req.URL.Path)
	}
	return newGrant(&t, a, refresh)
}

func (c *Client) tokenRequest(ctx context.Context, form url.Values) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base.String()+threecx.SignInClient,
		strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return req, nil
}

func (c *Client) loginRequest(ctx context.Context) (*http.Request, error) {
	body, err := json.Marshal(map[string]string{
		"SecurityCode": "", "Username": c.cfg.User, "Password": c.cfg.Password.Reveal()})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base.String()+threecx.SignInUser,
		strings.NewReader(string(body)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	return req, nil
}

// judgeSignIn sorts the answers of both sign-in paths that are not 200.
func (c *Client) judgeSignIn(a *answer, path string) error {
	switch {
	case a.status == http.StatusOK:
		if looksLikeHTML(a) {
			return notAPI(path)
		}
		return nil
	case a.status == http.StatusUnauthorized,
		a.status == http.StatusBadRequest && c.cfg.ByClient() && !looksLikeHTML(a),
		a.status == http.StatusBadRequest && path == threecx.SignInClient:
		return c.wrong()
	case a.status == http.StatusForbidden:
		return threecx.Errorf(threecx.ErrBusy, nil,
			"the PBX refuses to sign anyone in from here (403): it may have blocked this address; look at its blocklist")
	case a.status == http.StatusNotFound, a.status == http.StatusMethodNotAllowed,
		a.status >= 300 && a.status < 400:
		return notAPI(path)
	case a.status >= 502 && a.status <= 504:
		return threecx.Errorf(threecx.ErrBusy, errStarting,
			"the web server answers %d: the 3CX services behind it are stopped or starting", a.status)
	}
	return threecx.Errorf(threecx.ErrBusy, nil, "signing in is answered with %d", a.status)
}

func (c *Client) wrong() error {
	if c.cfg.ByClient() {
		return threecx.Errorf(threecx.ErrCredentials, nil,
			"the PBX refuses client id %q with its key: make a new key in the Admin Console under Integrations > API", c.cfg.ClientID)
	}
	return threecx.Errorf(threecx.ErrCredentials, nil, "the PBX refuses user %q with its password", c.cfg.User)
}

func notAPI(path string) error {
	return threecx.Errorf(threecx.ErrNot3CX, nil,
		"%s does not answer as a 3CX v20 does: check address and port; older versions are not supported yet", path)
}

func (c *Client) loginGrant(a *answer) (grant, error) {
	var l loginAnswer
	if err := unmarshal(a.body, &l); err != nil {
		return grant{}, notAPI(threecx.SignInUser)
	}
	second := len(l.TwoFactorAuth) > 0 && string(l.TwoFactorAuth) != "null"
	switch {
	case strings.EqualFold(string(l.Status), "AuthSuccess"):
		return newGrant(l.Token, a, "")
	case strings.EqualFold(string(l.Status), "Required2FA") || second:
		return grant{}, threecx.Errorf(threecx.ErrSecondFactor, nil,
			"user %q signs in with a second factor: use an API client, or an extension without one", c.cfg.User)
	case l.Status == "":
		return grant{}, notAPI(threecx.SignInUser)
	}
	return grant{}, c.wrong()
}

// newGrant reads a token's own claims. They are not verified: the token is only
// handed back to who gave it, over TLS.
func newGrant(t *tokenAnswer, a *answer, refresh string) (grant, error) {
	if t == nil || t.AccessToken == "" || len(t.AccessToken) > maxToken || len(t.RefreshToken) > maxToken {
		return grant{}, threecx.Errorf(threecx.ErrAnswer, nil, "signing in gave no usable token")
	}
	g := grant{access: string(t.AccessToken), refresh: string(t.RefreshToken), life: unknownLife, at: a.at}
	if g.refresh == "" {
		g.refresh = refresh
	}
	cl := parseClaims(g.access)
	g.role = threecx.Clean(string(cl.MaxRole), 64)
	if !cl.Exp.ok {
		return g, nil
	}
	// The life is a difference of the PBX's own times, so that a wrong clock here or
	// there does not matter.
	from := float64(a.at.Unix())
	switch {
	case cl.Iat.ok:
		from = cl.Iat.v
	case cl.Nbf.ok:
		from = cl.Nbf.v
	default:
		if t, err := http.ParseTime(a.header.Get("Date")); err == nil {
			from = float64(t.Unix())
		}
	}
	life := time.Duration(min(max(cl.Exp.v-from, 0), maxLife.Seconds()) * float64(time.Second))
	if life <= 0 {
		life = oldToken
	}
	g.life = life
	return g, nil
}

type claims struct {
	Exp     num `json:"exp"`
	Iat     num `json:"iat"`
	Nbf     num `json:"nbf"`
	MaxRole text
}

// parseClaims reads the claims of a JWT; what is not one has none.
func parseClaims(access string) claims {
	var cl claims
	parts := strings.Split(access, ".")
	if len(parts) != 3 {
		return cl
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil || unmarshal(raw, &cl) != nil {
		return claims{}
	}
	return cl
}
