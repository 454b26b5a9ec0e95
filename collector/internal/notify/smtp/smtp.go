// Package smtp sends messages as plain-text mail, one mail to each recipient. The
// Message-ID is made of the idempotency key, so that a second copy of a message is the
// same mail, and a resolution refers to its opening, so that mail programs show them
// together.
package smtp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"os"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"sidetone/collector/internal/incident"
	"sidetone/collector/internal/notify"
)

// Dial connects to a mail server; outbound.Client.DialContext does, with its guard.
type Dial func(ctx context.Context, network, addr string) (net.Conn, error)

// timeout bounds one mail from connecting to the end.
const timeout = 30 * time.Second

// Ports when none is configured.
const (
	portStartTLS = 587
	portTLS      = 465
	portNone     = 25
)

// Sender is one mail server with an address to send from.
type Sender struct {
	cfg    notify.ChannelConfig
	port   int
	tls    *tls.Config
	dial   Dial
	from   *netmail.Address
	domain string
}

// New returns a Sender for a valid configuration.
func New(cfg notify.ChannelConfig, dial Dial) (*Sender, error) {
	if cfg.Kind != notify.KindSMTP {
		return nil, fmt.Errorf("channel %q is not smtp", cfg.Name)
	}
	if errs := cfg.Validate(); len(errs) > 0 {
		return nil, fmt.Errorf("channel %q: %w", cfg.Name, errors.Join(errs...))
	}
	from, err := netmail.ParseAddress(cfg.From)
	if err != nil {
		return nil, fmt.Errorf("channel %q: from: %w", cfg.Name, err)
	}
	s := &Sender{cfg: cfg, port: cfg.Port, dial: dial, from: from,
		tls: &tls.Config{MinVersion: tls.VersionTLS12, ServerName: cfg.Host}}
	_, s.domain, _ = strings.Cut(from.Address, "@")
	if s.port == 0 {
		s.port = map[string]int{notify.TLSFull: portTLS, notify.TLSNone: portNone}[cfg.TLS]
		if s.port == 0 {
			s.port = portStartTLS
		}
	}
	if cfg.CAFile == "" {
		return s, nil
	}
	pem, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("channel %q: ca_file: %w", cfg.Name, err)
	}
	if s.tls.RootCAs, err = x509.SystemCertPool(); err != nil {
		s.tls.RootCAs = x509.NewCertPool()
	}
	if !s.tls.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("channel %q: ca_file: %s holds no certificate", cfg.Name, cfg.CAFile)
	}
	return s, nil
}

// Send sends the mail. A reply of 5xx is a refusal for good, but for a failed sign-in
// or TLS, which an operator can mend on the server: that is tried again.
func (s *Sender) Send(ctx context.Context, m notify.Message) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	msg, err := s.mail(m)
	if err != nil {
		return err
	}
	client, err := s.client(ctx)
	if err != nil {
		return fmt.Errorf("set up mail client: %w", err)
	}
	if err := client.DialWithContext(ctx); err != nil {
		return fmt.Errorf("connect to mail server: %w", err)
	}
	err = client.Send(msg)
	_ = client.Close() // the mail was taken or refused already; QUIT changes nothing
	if err == nil || msg.IsDelivered() {
		return nil
	}
	var se *mail.SendError
	if errors.As(err, &se) && !se.IsTemp() && se.ErrorCode() >= 500 {
		return notify.Permanent("mail server refused: %w", err)
	}
	return fmt.Errorf("send mail: %w", err)
}

// mail builds the mail. Everything that came from outside is one clean line already;
// header values are cleaned once more, because a line break there is an injection.
func (s *Sender) mail(m notify.Message) (*mail.Msg, error) {
	msg := mail.NewMsg(mail.WithEncoding(mail.EncodingQP))
	msg.SetAddrHeaderFromMailAddress(mail.HeaderFrom, s.from)
	to, err := netmail.ParseAddress(m.Recipient)
	if err != nil {
		return nil, notify.Permanent("recipient is not a mail address: %w", err)
	}
	msg.SetAddrHeaderFromMailAddress(mail.HeaderTo, to)
	msg.Subject(header(m.Subject))
	msg.SetDateWithValue(m.Created)
	msg.SetMessageIDWithValue(s.id(m.Key))
	if m.Key != m.Thread {
		msg.SetGenHeader(mail.HeaderInReplyTo, "<"+s.id(m.Thread)+">")
		msg.SetGenHeader(mail.HeaderReferences, "<"+s.id(m.Thread)+">")
	}
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no out-of-office answers
	msg.SetGenHeader("X-Auto-Response-Suppress", "All")
	msg.SetGenHeader("List-Id", "<alerts."+s.domain+">") // RFC 2919: lets people sort
	msg.SetGenHeader("Sidetone-Idempotency-Key", header(m.Key))
	if m.Kind == incident.KindOpened {
		msg.SetGenHeader("Importance", "high")
	}
	msg.SetBodyString(mail.TypeTextPlain, m.Text)
	return msg, nil
}

func (s *Sender) id(key string) string { return header(key) + "@" + s.domain }

// header is a value without anything that ends a line.
func header(v string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, v)
}

func (s *Sender) client(ctx context.Context) (*mail.Client, error) {
	opts := []mail.Option{
		mail.WithPort(s.port), mail.WithTimeout(timeout), mail.WithTLSConfig(s.tls), mail.WithHELO(s.domain),
		mail.WithTLSPolicy(mail.TLSMandatory), mail.WithoutNoop(),
		mail.WithDialContextFunc(func(_ context.Context, network, addr string) (net.Conn, error) {
			return s.connect(ctx, network, addr)
		}),
	}
	if s.cfg.TLS == notify.TLSNone || s.cfg.TLS == notify.TLSFull {
		opts = append(opts, mail.WithTLSPolicy(mail.NoTLS)) // full TLS is made by connect
	}
	if s.cfg.User != "" {
		opts = append(opts, mail.WithUsername(s.cfg.User), mail.WithPassword(s.cfg.Password.Reveal()),
			mail.WithOpportunisticSMTPAuth(mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthPlain, mail.SMTPAuthLogin))
	}
	return mail.NewClient(s.cfg.Host, opts...)
}

// connect dials, begins TLS when the whole connection is to be secured, and ties the
// connection to ctx, since the mail client itself only knows deadlines.
func (s *Sender) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := s.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	if s.cfg.TLS != notify.TLSFull {
		return &tied{conn, stop}, nil
	}
	c := tls.Client(conn, s.tls)
	if err := c.HandshakeContext(ctx); err != nil {
		stop()
		conn.Close()
		return nil, fmt.Errorf("TLS with mail server: %w", err)
	}
	// Not wrapped: the mail client recognises an encrypted connection by its type. The
	// function of ctx stays until ctx ends, which is when Send returns.
	return c, nil
}

// tied is a connection whose closing ends the watch over its context.
type tied struct {
	net.Conn
	stop func() bool
}

func (t *tied) Close() error {
	t.stop()
	return t.Conn.Close()
}
