package xapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"sidetone/agent/internal/threecx"
)

// Check diagnoses the connection step by step: reach, TLS, sign-in, rights, version,
// then each kind of data. The error is the first step that failed; the report then
// ends there.
func (c *Client) Check(ctx context.Context) (threecx.Report, error) {
	var r threecx.Report
	if c.tls != nil {
		if err := c.checkReach(ctx, &r); err != nil {
			return r, err
		}
	}
	tok, err := c.session.token(ctx)
	if err != nil {
		return r, failStep(&r, "sign-in", err)
	}
	how := "as API client " + c.cfg.ClientID
	if !c.cfg.ByClient() {
		how = "as user " + c.cfg.User
	}
	r.Steps = append(r.Steps, threecx.Step{Name: "sign-in", OK: true, Detail: how})
	r.Role = tok.role
	status, err := c.SystemStatus(ctx)
	if err != nil {
		name := "version"
		if errors.Is(err, threecx.ErrRights) {
			name = "rights"
		}
		return r, failStep(&r, name, err)
	}
	rights := threecx.Step{Name: "rights", OK: true, Detail: c.session.roleText()}
	if tok.role != "" && tok.role != fullRole {
		rights.OK = false
		rights.Advice = "some data may be missing: give the sign-in the role System Owner"
	}
	r.FQDN, r.Version = status.FQDN, status.Version
	r.Steps = append(r.Steps, rights,
		threecx.Step{Name: "version", OK: true, Detail: status.FQDN + " runs " + status.Version})
	return r, c.checkReadings(ctx, &r)
}

func failStep(r *threecx.Report, name string, err error) error {
	step := threecx.Step{Name: name, Detail: err.Error()}
	var e *threecx.Error
	if errors.As(err, &e) {
		step.Detail, step.Advice = e.Kind.Error(), e.Text
	}
	r.Steps = append(r.Steps, step)
	return err
}

func (c *Client) checkReach(ctx context.Context, r *threecx.Report) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	port := c.base.Port()
	if port == "" {
		port = c.base.Scheme // "https" and "http" name their own port
	}
	addr := net.JoinHostPort(c.base.Hostname(), port)
	var d net.Dialer
	start := time.Now()
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return failStep(r, "reach", c.unreachable(err))
	}
	defer func() { _ = conn.Close() }()
	r.Steps = append(r.Steps, threecx.Step{Name: "reach", OK: true,
		Detail: fmt.Sprintf("%s connected in %d ms", conn.RemoteAddr(), time.Since(start).Milliseconds())})
	if c.base.Scheme != "https" {
		return nil
	}
	cfg := c.tls.Clone()
	if cfg.ServerName == "" {
		cfg.ServerName = c.base.Hostname()
	}
	secure := tls.Client(conn, cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		return failStep(r, "tls", c.unreachable(err))
	}
	leaf := secure.ConnectionState().PeerCertificates[0]
	r.Steps = append(r.Steps, threecx.Step{Name: "tls", OK: true, Detail: fmt.Sprintf("certificate by %s, valid to %s",
		threecx.Clean(leaf.Issuer.CommonName, maxName), leaf.NotAfter.UTC().Format(time.DateOnly))})
	return nil
}

// checkReadings asks for each kind of data once. What a PBX does not offer is
// reported, not an error.
func (c *Client) checkReadings(ctx context.Context, r *threecx.Report) error {
	readings := []struct {
		path threecx.Path
		read func() error
	}{
		{threecx.PathTrunks, func() error { return second(c.Trunks(ctx)) }},
		{threecx.PathServices, func() error { return second(c.Services(ctx)) }},
		{threecx.PathSBCs, func() error { return second(c.SBCs(ctx)) }},
		{threecx.PathActiveCalls, func() error { return second(c.ActiveCalls(ctx, nil)) }},
		{threecx.PathEventLogs, func() error { return second(c.EventLogs(ctx, threecx.EventCursor{})) }},
		{threecx.PathUsers, func() error { return second(c.Extensions(ctx)) }},
		{threecx.PathBackups, func() error { return second(c.Backups(ctx)) }},
		{threecx.PathLicence, func() error { return second(c.Licence(ctx)) }},
	}
	for _, rd := range readings {
		err := rd.read()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.Readings = append(r.Readings, threecx.Reading{Path: rd.path, OK: err == nil, Detail: threecx.Detail(err)})
	}
	return nil
}

func second[T any](_ T, err error) error { return err }
