// Package notifytest has real receivers for tests of notifications: a mail server and a
// web server that remember what came, and answer as they are told. They listen on the
// loopback address only.
package notifytest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/mail"
	"strings"
	"sync"
)

// maxMail bounds what the sink takes of one mail.
const maxMail = 1 << 20

// Mail is one mail that was taken.
type Mail struct {
	From string   // envelope
	To   []string // envelope
	Data []byte
	TLS  bool
	User string // signed in as, or ""
}

// Parse reads the header and the body.
func (m Mail) Parse() (*mail.Message, error) { return mail.ReadMessage(bytes.NewReader(m.Data)) }

// SMTPConfig says how the server behaves.
type SMTPConfig struct {
	// TLS, when set, is offered by STARTTLS, or used from the first byte with Implicit.
	TLS      *tls.Config
	Implicit bool
	// User and Password, when set, must be given before a mail is taken.
	User, Password string
	// Reply, when set, may answer a command in the server's place: with a full reply
	// line, or "" for the usual one. "HANG" leaves the client waiting. The end of the
	// mail's data is the command ".".
	Reply func(command string) string
}

// SMTP is a mail server.
type SMTP struct {
	cfg SMTPConfig
	ln  net.Listener
	wg  sync.WaitGroup

	mu    sync.Mutex
	mails []Mail            // guarded by mu
	conns map[net.Conn]bool // guarded by mu
	news  chan struct{}     // closed and renewed when a mail comes; guarded by mu
	dials int               // guarded by mu
}

// ListenSMTP starts a mail server on a free port.
func ListenSMTP(cfg SMTPConfig) (*SMTP, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &SMTP{cfg: cfg, ln: ln, conns: map[net.Conn]bool{}, news: make(chan struct{})}
	s.wg.Go(s.accept)
	return s, nil
}

// Port is where the server listens, on 127.0.0.1.
func (s *SMTP) Port() int { return s.ln.Addr().(*net.TCPAddr).Port }

// Close ends the server and every connection.
func (s *SMTP) Close() {
	s.ln.Close()
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// Mails is what was taken so far.
func (s *SMTP) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Mail(nil), s.mails...)
}

// Dials counts connections.
func (s *SMTP) Dials() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dials
}

// Wait returns once n mails were taken, or with the error of ctx.
func (s *SMTP) Wait(ctx context.Context, n int) ([]Mail, error) {
	for {
		s.mu.Lock()
		got, news := append([]Mail(nil), s.mails...), s.news
		s.mu.Unlock()
		if len(got) >= n {
			return got, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return got, fmt.Errorf("%d mails instead of %d: %w", len(got), n, ctx.Err())
		}
	}
}

func (s *SMTP) accept() {
	for {
		c, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[c] = true
		s.dials++
		s.mu.Unlock()
		s.wg.Go(func() {
			defer func() {
				c.Close()
				s.mu.Lock()
				delete(s.conns, c)
				s.mu.Unlock()
			}()
			s.serve(c)
		})
	}
}

// talk is one conversation.
type talk struct {
	s    *SMTP
	conn net.Conn
	in   *bufio.Reader
	tls  bool
	user string
	mail *Mail
}

func (s *SMTP) serve(c net.Conn) {
	t := &talk{s: s, conn: c}
	if s.cfg.Implicit {
		t.conn, t.tls = tls.Server(c, s.cfg.TLS), true
	}
	t.in = bufio.NewReader(t.conn)
	if !t.say("220 sink ready") {
		return
	}
	for {
		line, err := t.in.ReadString('\n')
		if err != nil || len(line) > 4096 {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		if r := t.scripted(line); r != "" {
			if !t.say(r) {
				return
			}
			continue
		}
		if !t.command(line) {
			return
		}
	}
}

func (t *talk) say(line string) bool {
	_, err := io.WriteString(t.conn, line+"\r\n")
	return err == nil
}

// scripted asks the test; a hanging answer waits for the client to go.
func (t *talk) scripted(line string) string {
	if t.s.cfg.Reply == nil {
		return ""
	}
	r := t.s.cfg.Reply(line)
	if r == "HANG" {
		_, _ = io.Copy(io.Discard, t.in)
		return "421 gone"
	}
	return r
}

// command answers one line and reports whether the conversation goes on.
func (t *talk) command(line string) bool {
	verb, arg, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "EHLO", "HELO":
		return t.hello()
	case "STARTTLS":
		if !t.say("220 go ahead") {
			return false
		}
		t.conn, t.tls = tls.Server(t.conn, t.s.cfg.TLS), true
		t.in = bufio.NewReader(t.conn)
		return true
	case "AUTH":
		return t.auth(arg)
	case "MAIL":
		if t.s.cfg.User != "" && t.user == "" {
			return t.say("530 sign in first")
		}
		t.mail = &Mail{From: address(arg), TLS: t.tls, User: t.user}
		return t.say("250 ok")
	case "RCPT":
		if t.mail == nil {
			return t.say("503 MAIL first")
		}
		t.mail.To = append(t.mail.To, address(arg))
		return t.say("250 ok")
	case "DATA":
		return t.data()
	case "RSET":
		t.mail = nil
		return t.say("250 ok")
	case "NOOP":
		return t.say("250 ok")
	case "QUIT":
		t.say("221 bye")
		return false
	}
	return t.say("502 not known")
}

func (t *talk) hello() bool {
	ext := "250-sink\r\n250-8BITMIME\r\n"
	if t.s.cfg.TLS != nil && !t.tls {
		ext += "250-STARTTLS\r\n"
	}
	if t.s.cfg.User != "" && (t.tls || t.s.cfg.TLS == nil) {
		ext += "250-AUTH PLAIN LOGIN\r\n"
	}
	return t.say(ext + "250 ENHANCEDSTATUSCODES")
}

func (t *talk) auth(arg string) bool {
	mech, initial, _ := strings.Cut(arg, " ")
	raw, err := base64.StdEncoding.DecodeString(initial)
	if strings.ToUpper(mech) != "PLAIN" || err != nil {
		return t.say("504 only PLAIN")
	}
	if string(raw) != "\x00"+t.s.cfg.User+"\x00"+t.s.cfg.Password {
		return t.say("535 5.7.8 wrong user or password")
	}
	t.user = t.s.cfg.User
	return t.say("235 welcome")
}

func (t *talk) data() bool {
	if t.mail == nil || len(t.mail.To) == 0 {
		return t.say("503 RCPT first")
	}
	if !t.say("354 end with a dot") {
		return false
	}
	var b bytes.Buffer
	for {
		line, err := t.in.ReadString('\n')
		if err != nil || b.Len() > maxMail {
			return false
		}
		if line == ".\r\n" {
			break
		}
		b.WriteString(strings.TrimPrefix(line, "."))
	}
	if r := t.scripted("."); r != "" {
		return t.say(r)
	}
	t.mail.Data = b.Bytes()
	t.s.take(*t.mail)
	t.mail = nil
	return t.say("250 taken")
}

func (s *SMTP) take(m Mail) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mails = append(s.mails, m)
	close(s.news)
	s.news = make(chan struct{})
}

// address is the part in angle brackets.
func address(arg string) string {
	_, rest, _ := strings.Cut(arg, "<")
	a, _, _ := strings.Cut(rest, ">")
	return a
}
