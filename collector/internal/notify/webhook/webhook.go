// Package webhook sends messages as signed JSON over HTTP. The receiver checks
// Sidetone-Signature ("t=<Unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<body>">") with the
// shared secret and drops what it saw before by Sidetone-Idempotency-Key.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sidetone/collector/internal/notify"
	"sidetone/collector/internal/outbound"
	"sidetone/shared/buildinfo"
)

// Headers of a request.
const (
	HeaderSignature = "Sidetone-Signature"
	HeaderKey       = "Sidetone-Idempotency-Key"
)

// Doer sends a request; outbound.Client does.
type Doer interface {
	Do(*http.Request) (*outbound.Response, error)
}

// Sender is one webhook.
type Sender struct {
	url    string
	secret []byte
	client Doer
	now    func() time.Time
}

// New returns a Sender for a valid configuration.
func New(cfg notify.ChannelConfig, client Doer) (*Sender, error) {
	if cfg.Kind != notify.KindWebhook {
		return nil, fmt.Errorf("channel %q is not a webhook", cfg.Name)
	}
	if errs := cfg.Validate(); len(errs) > 0 {
		return nil, fmt.Errorf("channel %q: %w", cfg.Name, errors.Join(errs...))
	}
	return &Sender{url: cfg.URL, secret: []byte(cfg.Secret.Reveal()), client: client, now: time.Now}, nil
}

// Send posts the message. 2xx is success; other 4xx than 408 and 429, and redirects,
// are refusals for good; all else is tried again.
func (s *Sender) Send(ctx context.Context, m notify.Message) error {
	ctx, cancel := context.WithTimeout(ctx, outbound.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(m.Body))
	if err != nil {
		return notify.Permanent("make request: %w", stripURL(err))
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "sidetone-collector/"+buildinfo.Version())
	req.Header.Set(HeaderKey, m.Key)
	if len(s.secret) > 0 {
		req.Header.Set(HeaderSignature, Sign(s.secret, s.now(), m.Body))
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return fmt.Errorf("post: %w", stripURL(err))
	}
	return s.judge(resp)
}

func (s *Sender) judge(r *outbound.Response) error {
	switch {
	case r.Status >= 200 && r.Status < 300:
		return nil
	case r.Status >= 300 && r.Status < 400:
		return notify.Permanent("receiver answered %d: redirects are not followed, configure the final address", r.Status)
	case r.Status == http.StatusRequestTimeout, r.Status == http.StatusTooManyRequests, r.Status >= 500:
		err := fmt.Errorf("receiver answered %d: %.100s", r.Status, r.Body)
		if after := s.retryAfter(r.Header.Get("Retry-After")); after > 0 {
			return &notify.LaterError{Err: err, After: after}
		}
		return err
	}
	return notify.Permanent("receiver answered %d: %.100s", r.Status, r.Body)
}

// retryAfter reads seconds or a date (RFC 9110, 10.2.3).
func (s *Sender) retryAfter(v string) time.Duration {
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return t.Sub(s.now())
	}
	return 0
}

// Sign makes the value of the signature header.
func Sign(secret []byte, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac(secret, t, body))
}

func mac(secret []byte, t string, body []byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(t))
	h.Write([]byte{'.'})
	h.Write(body)
	return h.Sum(nil)
}

// stripURL takes the URL out of an error: its path is often a secret.
func stripURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// ErrSignature is the error of Verify.
var ErrSignature = errors.New("signature does not match")

// Verify is what a receiver does with the signature header: it compares in constant
// time and refuses what was signed longer ago, or further ahead, than tolerance.
func Verify(secret []byte, signature string, body []byte, now time.Time, tolerance time.Duration) error {
	t, v1, _ := strings.Cut(signature, ",")
	t, okT := strings.CutPrefix(t, "t=")
	v1, okV := strings.CutPrefix(v1, "v1=")
	unix, errT := strconv.ParseInt(t, 10, 64)
	sum, errV := hex.DecodeString(v1)
	if !okT || !okV || errT != nil || errV != nil || !hmac.Equal(sum, mac(secret, t, body)) {
		return ErrSignature
	}
	if age := now.Sub(time.Unix(unix, 0)); age > tolerance || age < -tolerance {
		return fmt.Errorf("%w: signed at %d", ErrSignature, unix)
	}
	return nil
}
