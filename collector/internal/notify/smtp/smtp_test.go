package smtp_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sidetone/collector/internal/incident"
	"sidetone/collector/internal/notify"
	"sidetone/collector/internal/notify/notifytest"
	"sidetone/collector/internal/notify/smtp"
	"sidetone/collector/internal/outbound"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func listen(t *testing.T, cfg notifytest.SMTPConfig) *notifytest.SMTP {
	t.Helper()
	s, err := notifytest.ListenSMTP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func config(port int) notify.ChannelConfig {
	return notify.ChannelConfig{Name: "mail", Kind: notify.KindSMTP, Host: "127.0.0.1", Port: port,
		From: "Überwachung <noc@example.com>", To: []string{"a@example.com"}, TLS: notify.TLSNone}
}

func sender(t *testing.T, cfg notify.ChannelConfig) *smtp.Sender {
	t.Helper()
	client := outbound.New(outbound.Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	s, err := smtp.New(cfg, client.DialContext)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func message(kind incident.Kind) notify.Message {
	m := notify.Message{ID: 7, Attempt: 1, Created: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC), Announcement: incident.Announcement{
		Key: "aaaa", Thread: "aaaa", Kind: kind, Channel: "mail", Recipient: "Anna <a@example.com>",
		Subject: "[CRITICAL] Trunk not registered: Müller", Text: "Trunk <b>Müller</b>\n.\nline = 2\n"}}
	if kind == incident.KindResolved {
		m.Key = "bbbb"
	}
	return m
}

func TestMailAndItsThread(t *testing.T) {
	sink := listen(t, notifytest.SMTPConfig{})
	s := sender(t, config(sink.Port()))
	for _, k := range []incident.Kind{incident.KindOpened, incident.KindResolved} {
		if err := s.Send(t.Context(), message(k)); err != nil {
			t.Fatal(err)
		}
	}
	got := sink.Mails()
	if len(got) != 2 || got[0].From != "noc@example.com" || got[0].To[0] != "a@example.com" {
		t.Fatalf("got %+v", got)
	}
	open, err := got[0].Parse()
	if err != nil {
		t.Fatal(err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(open.Header.Get("Subject"))
	if err != nil || subject != "[CRITICAL] Trunk not registered: Müller" {
		t.Errorf("subject %q, %v", subject, err)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(open.Body))
	if text := strings.ReplaceAll(string(body), "\r\n", "\n"); err != nil || !strings.HasPrefix(text, "Trunk <b>Müller</b>\n.\nline = 2\n") {
		t.Errorf("body %q, %v", text, err)
	}
	for name, want := range map[string]string{
		"Message-Id": "<aaaa@example.com>", "Auto-Submitted": "auto-generated", "List-Id": "<alerts.example.com>",
		"Sidetone-Idempotency-Key": "aaaa", "References": "", "Date": "Mon, 04 May 2026 03:02:01 +0000",
	} {
		if got := open.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if ct := open.Header.Get("Content-Type"); !strings.HasPrefix(ct, "text/plain") {
		t.Errorf("content type %q", ct)
	}
	back, err := got[1].Parse()
	if err != nil {
		t.Fatal(err)
	}
	if back.Header.Get("Message-Id") != "<bbbb@example.com>" || back.Header.Get("References") != "<aaaa@example.com>" ||
		back.Header.Get("In-Reply-To") != "<aaaa@example.com>" {
		t.Errorf("the resolution does not refer to its opening: %v", back.Header)
	}
}

func TestHeaderInjection(t *testing.T) {
	sink := listen(t, notifytest.SMTPConfig{})
	m := message(incident.KindOpened)
	m.Subject = "Trunk\r\nBcc: victim@example.org\r\n\r\n<html>" + strings.Repeat("A", 64<<10)
	m.Key = "k\r\nX-Evil: 1"
	if err := sender(t, config(sink.Port())).Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	got := sink.Mails()[0]
	p, err := got.Parse()
	if err != nil {
		t.Fatal(err)
	}
	if len(got.To) != 1 || p.Header.Get("Bcc") != "" || p.Header.Get("X-Evil") != "" {
		t.Fatalf("injected: to %v header %v", got.To, p.Header)
	}
	m.Recipient = "a@example.com>\r\nRCPT TO:<victim@example.org"
	var perm *notify.PermanentError
	if err := sender(t, config(sink.Port())).Send(t.Context(), m); !errors.As(err, &perm) || len(sink.Mails()) != 1 {
		t.Fatalf("a recipient that is no address: %v", err)
	}
}

func TestAnswers(t *testing.T) {
	cases := map[string]struct {
		command, reply string
		permanent      bool
	}{
		"greylisted":       {"RCPT", "451 4.7.1 later", false},
		"no such user":     {"RCPT", "550 5.1.1 no such user", true},
		"sender refused":   {"MAIL", "553 5.7.1 not you", true},
		"too many":         {"MAIL", "421 4.7.0 too many", false},
		"content refused":  {".", "554 5.6.0 spam", true},
		"no space":         {".", "452 4.3.1 no space", false},
		"greeting refused": {"EHLO", "502 no", false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			sink := listen(t, notifytest.SMTPConfig{Reply: func(line string) string {
				if strings.HasPrefix(line, c.command) || c.command == "EHLO" && strings.HasPrefix(line, "HELO") {
					return c.reply
				}
				return ""
			}})
			err := sender(t, config(sink.Port())).Send(t.Context(), message(incident.KindOpened))
			var p *notify.PermanentError
			if err == nil || errors.As(err, &p) != c.permanent {
				t.Fatalf("error %v, permanent wanted: %v", err, c.permanent)
			}
			if len(sink.Mails()) != 0 {
				t.Error("a refused mail was taken")
			}
		})
	}
	t.Run("taken, but the reset fails", func(t *testing.T) {
		sink := listen(t, notifytest.SMTPConfig{Reply: func(line string) string {
			if line == "RSET" {
				return "500 what?"
			}
			return ""
		}})
		if err := sender(t, config(sink.Port())).Send(t.Context(), message(incident.KindOpened)); err != nil || len(sink.Mails()) != 1 {
			t.Fatalf("error %v with %d mails: it would be sent twice", err, len(sink.Mails()))
		}
	})
}

func TestHangingServerEndsWithTheContext(t *testing.T) {
	hung := make(chan struct{}, 1)
	sink := listen(t, notifytest.SMTPConfig{Reply: func(line string) string {
		if strings.HasPrefix(line, "MAIL") {
			hung <- struct{}{}
			return "HANG"
		}
		return ""
	}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- sender(t, config(sink.Port())).Send(ctx, message(incident.KindOpened)) }()
	<-hung
	cancel()
	if err := <-done; err == nil {
		t.Fatal("no error")
	}
}

func TestGuardedDial(t *testing.T) {
	sink := listen(t, notifytest.SMTPConfig{})
	s, err := smtp.New(config(sink.Port()), outbound.New(outbound.Config{}).DialContext)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), message(incident.KindOpened)); !errors.Is(err, outbound.ErrDenied) || sink.Dials() != 0 {
		t.Fatalf("error %v, %d connections", err, sink.Dials())
	}
}

func TestTLSAndSignIn(t *testing.T) {
	serverTLS, caFile := certificate(t)
	base := func(port int, mode string) notify.ChannelConfig {
		c := config(port)
		c.TLS, c.CAFile, c.User, c.Password = mode, caFile, "noc", "pass-word"
		return c
	}
	for _, mode := range []string{notify.TLSStart, notify.TLSFull} {
		sink := listen(t, notifytest.SMTPConfig{TLS: serverTLS, Implicit: mode == notify.TLSFull, User: "noc", Password: "pass-word"})
		t.Run(mode, func(t *testing.T) {
			if err := sender(t, base(sink.Port(), mode)).Send(t.Context(), message(incident.KindOpened)); err != nil {
				t.Fatal(err)
			}
			if m := sink.Mails()[0]; !m.TLS || m.User != "noc" {
				t.Fatalf("got %+v", m)
			}
		})
		t.Run(mode+" with a wrong password is tried again", func(t *testing.T) {
			c := base(sink.Port(), mode)
			c.Password = "wrong"
			err := sender(t, c).Send(t.Context(), message(incident.KindOpened))
			var p *notify.PermanentError
			if err == nil || errors.As(err, &p) || strings.Contains(err.Error(), "wrong\"") {
				t.Fatalf("error %v", err)
			}
		})
		t.Run(mode+" with an unknown authority", func(t *testing.T) {
			c := base(sink.Port(), mode)
			c.CAFile = ""
			err := sender(t, c).Send(t.Context(), message(incident.KindOpened))
			var unknown *tls.CertificateVerificationError
			if !errors.As(err, &unknown) || len(sink.Mails()) != 1 {
				t.Fatalf("error %v", err)
			}
		})
	}
	t.Run("a server without STARTTLS gets nothing", func(t *testing.T) {
		sink := listen(t, notifytest.SMTPConfig{})
		c := config(sink.Port())
		c.TLS = notify.TLSStart
		if err := sender(t, c).Send(t.Context(), message(incident.KindOpened)); err == nil || len(sink.Mails()) != 0 {
			t.Fatalf("error %v: the mail went in clear", err)
		}
	})
}

// certificate makes an authority and a server certificate for 127.0.0.1.
func certificate(t *testing.T) (*tls.Config, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, file
}
