package xapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/url"
	"syscall"

	"sidetone/agent/internal/threecx"
)

// unreachable says in words why no answer came. It branches on types only.
func (c *Client) unreachable(err error) error {
	say := func(format string, args ...any) error {
		return threecx.Errorf(threecx.ErrUnreachable, err, "%s: "+format, append([]any{c.base.Host}, args...)...)
	}
	var (
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
		record   tls.RecordHeaderError
		alert    tls.AlertError
		dns      *net.DNSError
		netErr   net.Error
	)
	switch {
	case errors.As(err, &unknown):
		return say("its certificate is signed by an authority this machine does not know: set pbx.ca_file to that authority's certificate")
	case errors.As(err, &hostname):
		return say("its certificate is for another name: use the PBX's FQDN in pbx.url, or set pbx.server_name to it")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return say("its certificate is out of date, or this machine's clock is wrong")
	case errors.As(err, &invalid):
		return say("its certificate is not valid: %s", invalid.Error())
	case errors.As(err, &record):
		return say("it does not speak TLS on this port: check the port in pbx.url")
	case errors.As(err, &alert):
		return say("it ended the TLS handshake: %s", alert.Error())
	case errors.As(err, &dns) && dns.IsNotFound:
		return say("the name does not resolve: check pbx.url and this machine's DNS")
	case errors.As(err, &dns):
		return say("asking DNS for the name gave no answer")
	case errors.Is(err, syscall.ECONNREFUSED):
		return say("nothing listens there (connection refused): is the PBX running, is the port right?")
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return say("no route to it")
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return say("no answer within %s", requestTimeout)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return say("it closed the connection without an answer")
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	return say("%s", err)
}
