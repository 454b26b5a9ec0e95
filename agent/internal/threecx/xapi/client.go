// Package xapi reads a 3CX v20 through its configuration API (OData below
// /xapi/v1), signed in as an API client or as a user.
//
// It is built to do no harm: only the paths of threecx.Paths, only GET, one token
// that is kept as long as the PBX honours it, a call budget, limits on time and
// size, and a hard stop after three refused sign-ins. Decoding is lenient, because
// fields come and go between builds; secrets in an answer have no field to land in.
package xapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"sidetone/agent/internal/threecx"
	"sidetone/shared/buildinfo"
)

const (
	// maxBody is the largest answer read. A page of 100 users is below 200 kB.
	maxBody = 8 << 20
	// requestTimeout covers one request from dialling to the last byte.
	requestTimeout = 15 * time.Second
	// budgetBurst lets the first round of a start pass without waiting.
	budgetBurst = 30
	// maxHeader limits the header of an answer.
	maxHeader = 64 << 10
)

// Deps is what the program hands in.
type Deps struct {
	Log zerolog.Logger
	// Transport replaces the network; nil means the real one.
	Transport http.RoundTripper
}

// Client reads one PBX. It is safe for concurrent use; its methods that read give
// rows stamped with the agent's clock at the time of the answer, and errors that
// wrap a kind of package threecx.
type Client struct {
	cfg     threecx.Config
	base    *url.URL
	tls     *tls.Config // nil when the transport was given
	http    *http.Client
	budget  *rate.Limiter
	session *session
	caps    *capabilities
	log     zerolog.Logger
}

// New checks cfg and makes a client. It does not touch the network.
func New(cfg threecx.Config, deps Deps) (*Client, error) {
	if errs := cfg.Validate(); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	base, err := url.Parse(strings.TrimSuffix(cfg.URL, "/"))
	if err != nil {
		return nil, fmt.Errorf("pbx.url: %w", err)
	}
	c := &Client{cfg: cfg, base: base, caps: newCapabilities(), log: deps.Log}
	transport := deps.Transport
	if transport == nil {
		if c.tls, err = tlsConfig(cfg); err != nil {
			return nil, err
		}
		transport = &http.Transport{
			// No proxy: the PBX is beside us, and the credentials are meant for it alone.
			TLSClientConfig:        c.tls.Clone(),
			TLSHandshakeTimeout:    requestTimeout,
			MaxConnsPerHost:        2,
			MaxIdleConnsPerHost:    2,
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: maxHeader,
		}
	}
	c.http = &http.Client{
		Transport: transport,
		// Following would carry the token to where the PBX, or who sits between, points.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	perMinute := cfg.RequestsPerMinute
	if perMinute == 0 {
		perMinute = threecx.DefaultRequestsPerMinute
	}
	c.budget = rate.NewLimiter(rate.Every(time.Minute/time.Duration(perMinute)), min(budgetBurst, perMinute))
	c.session = newSession(c)
	return c, nil
}

// Close drops idle connections. The client can still be used.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func tlsConfig(cfg threecx.Config) (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: cfg.ServerName}
	if cfg.CAFile == "" {
		return out, nil
	}
	pem, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("pbx.ca_file: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("pbx.ca_file: %s holds no PEM certificate", cfg.CAFile)
	}
	out.RootCAs = pool
	return out, nil
}

// answer is one HTTP answer, read whole.
type answer struct {
	status int
	header http.Header
	body   []byte
	took   time.Duration
	at     time.Time
}

// do sends one request within the budget and reads the answer within the limits.
func (c *Client) do(ctx context.Context, req *http.Request) (*answer, error) {
	if err := c.budget.Wait(ctx); err != nil {
		return nil, threecx.Errorf(threecx.ErrBusy, err, "the call budget of %d requests a minute is used up",
			int(c.budget.Limit()*60+0.5))
	}
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req = req.WithContext(ctx)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "sidetone-agent/"+buildinfo.Version())
	start := time.Now()
	resp, err := c.http.Do(req)
	if err != nil {
		if parent.Err() != nil {
			return nil, parent.Err()
		}
		return nil, c.unreachable(err)
	}
	defer func() { _ = resp.Body.Close() }()
	a := &answer{status: resp.StatusCode, header: resp.Header, took: time.Since(start), at: time.Now()}
	if resp.ContentLength > maxBody {
		return nil, tooLarge(req.URL.Path)
	}
	a.body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		if parent.Err() != nil {
			return nil, parent.Err()
		}
		return nil, c.unreachable(err)
	}
	if len(a.body) > maxBody {
		return nil, tooLarge(req.URL.Path)
	}
	return a, nil
}

func tooLarge(path string) error {
	return threecx.Errorf(threecx.ErrAnswer, nil, "the answer to %s is larger than %d MiB", path, maxBody>>20)
}

// get asks for p with the OData options of query and decodes the answer into v.
func (c *Client) get(ctx context.Context, p threecx.Path, query string, v any) (*answer, error) {
	if !threecx.Allowed(p) {
		return nil, fmt.Errorf("read %s: the path is not on the list of what may be read", p)
	}
	if until, reason := c.caps.refused(p); reason != "" {
		return nil, threecx.Errorf(threecx.ErrUnsupported, nil, "%s %s; asked again at %s",
			p, reason, until.UTC().Format("15:04 UTC"))
	}
	tok, err := c.session.token(ctx)
	if err != nil {
		return nil, err
	}
	a, err := c.authorised(ctx, p, query, tok)
	if err != nil {
		return nil, err
	}
	if c.session.refuses(a.status, tok) {
		age := tok.age()
		again, err := c.session.replace(ctx, tok)
		if err != nil {
			return nil, err
		}
		if a, err = c.authorised(ctx, p, query, again); err != nil {
			return nil, err
		}
		c.session.replaced(age, a.status)
		tok = again
	}
	if a.status == http.StatusOK {
		c.session.accepted(tok)
	}
	if err := c.judge(p, a); err != nil {
		return nil, err
	}
	return a, c.decode(p, a, v)
}

func (c *Client) authorised(ctx context.Context, p threecx.Path, query string, tok token) (*answer, error) {
	u := *c.base
	u.Path, u.RawQuery = string(p), query
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", p, err)
	}
	req.Header.Set("Authorization", "Bearer "+tok.access)
	return c.do(ctx, req)
}

// judge turns a status that is not 200 into an error, and remembers what this PBX
// does not offer.
func (c *Client) judge(p threecx.Path, a *answer) error {
	switch {
	case a.status == http.StatusOK:
		return nil
	case a.status == http.StatusUnauthorized:
		return threecx.Errorf(threecx.ErrBusy, nil,
			"the PBX refuses a token it has just given: does another program use the same client id? Give Sidetone its own")
	case a.status == http.StatusForbidden:
		if p.Essential() {
			c.session.distrust()
			return threecx.Errorf(threecx.ErrRights, nil, "%s is forbidden (%s): "+
				"give the sign-in the role System Owner, and list this machine in the console restrictions", p, c.session.roleText())
		}
		c.caps.refuse(p, "is forbidden to us ("+c.session.roleText()+")")
		return threecx.Errorf(threecx.ErrUnsupported, nil, "%s is forbidden to us (%s)", p, c.session.roleText())
	case a.status == http.StatusNotFound:
		if p.Essential() {
			return threecx.Errorf(threecx.ErrNot3CX, nil, "%s is not there: is this a 3CX v20?", p)
		}
		c.caps.refuse(p, "is not in this build")
		return threecx.Errorf(threecx.ErrUnsupported, nil, "%s is not in this build", p)
	case a.status >= 300 && a.status < 400:
		return threecx.Errorf(threecx.ErrNot3CX, nil, "%s redirects elsewhere: use the address of the 3CX itself", p)
	case a.status == http.StatusTooManyRequests:
		return threecx.Errorf(threecx.ErrBusy, nil, "the PBX asks us to slow down (429)")
	case a.status >= 502 && a.status <= 504:
		return threecx.Errorf(threecx.ErrBusy, nil,
			"the web server answers %d: the 3CX services behind it are stopped or starting", a.status)
	case a.status >= 500:
		return threecx.Errorf(threecx.ErrBusy, nil, "%s is answered with %d", p, a.status)
	}
	return &statusError{err: threecx.Errorf(threecx.ErrAnswer, nil, "%s is answered with %d", p, a.status), status: a.status}
}

// statusError lets a reading fall back when the PBX refuses its options.
type statusError struct {
	err    *threecx.Error
	status int
}

func (e *statusError) Error() string { return e.err.Error() }

func (e *statusError) Unwrap() error { return e.err }

// refusesOptions tells whether err is a refusal of the OData options of a request.
func refusesOptions(err error) bool {
	var se *statusError
	return errors.As(err, &se) && se.status == http.StatusBadRequest
}

// getOr asks with query and, when the PBX refuses the options (400), with plain.
func (c *Client) getOr(ctx context.Context, p threecx.Path, query, plain string, v any) error {
	_, err := c.get(ctx, p, query, v)
	if refusesOptions(err) {
		_, err = c.get(ctx, p, plain, v)
	}
	return err
}
