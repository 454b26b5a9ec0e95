// Package dns measures a nameserver by one query over UDP. Each attempt has its own
// socket and so its own port, and a random identifier: an answer is believed when
// both and the question match. NXDOMAIN is an answer like any other; SERVFAIL,
// REFUSED and the like are losses with the fault "answer".
package dns

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/net/dns/dnsmessage"

	"sidetone/agent/internal/probe"
)

// maxAnswer is the largest UDP answer; without EDNS 512 is all that is allowed, but
// servers exist that send more.
const maxAnswer = 4096

// maxRecords is how many records of an answer are looked at.
const maxRecords = 64

type driver struct{}

// New is the method's probe.OpenDriver.
func New(zerolog.Logger) probe.Driver { return driver{} }

func (driver) Close() error { return nil }

func (driver) Open(t probe.Target, sink probe.Sink) (probe.Session, error) {
	q, err := parseQuery(t.Query)
	if err != nil {
		return nil, err
	}
	return &session{sink: sink, question: q}, nil
}

func typeOf(name string) (dnsmessage.Type, bool) {
	t, ok := map[string]dnsmessage.Type{
		"A": dnsmessage.TypeA, "AAAA": dnsmessage.TypeAAAA, "SRV": dnsmessage.TypeSRV,
		"CNAME": dnsmessage.TypeCNAME, "NS": dnsmessage.TypeNS, "MX": dnsmessage.TypeMX,
		"TXT": dnsmessage.TypeTXT, "SOA": dnsmessage.TypeSOA, "PTR": dnsmessage.TypePTR,
	}[strings.ToUpper(name)]
	return t, ok
}

// parseQuery reads "name" or "name TYPE".
func parseQuery(text string) (dnsmessage.Question, error) {
	fields := strings.Fields(text)
	if len(fields) == 0 || len(fields) > 2 {
		return dnsmessage.Question{}, fmt.Errorf("query %q: want a name, and optionally a type after a blank", text)
	}
	kind := dnsmessage.TypeA
	if len(fields) == 2 {
		var ok bool
		if kind, ok = typeOf(fields[1]); !ok {
			return dnsmessage.Question{}, fmt.Errorf("query %q: type %s is not known", text, fields[1])
		}
	}
	name := fields[0]
	if !strings.HasSuffix(name, ".") {
		name += "."
	}
	n, err := dnsmessage.NewName(name)
	if err != nil {
		return dnsmessage.Question{}, fmt.Errorf("query %q: %w", text, err)
	}
	q := dnsmessage.Question{Name: n, Type: kind, Class: dnsmessage.ClassINET}
	if _, err := build(0, q); err != nil {
		return dnsmessage.Question{}, fmt.Errorf("query %q: %w", text, err)
	}
	return q, nil
}

func build(id uint16, q dnsmessage.Question) ([]byte, error) {
	b := dnsmessage.NewBuilder(make([]byte, 0, 512), dnsmessage.Header{ID: id, RecursionDesired: true})
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	if err := b.Question(q); err != nil {
		return nil, err
	}
	return b.Finish()
}

type session struct {
	sink     probe.Sink
	question dnsmessage.Question
}

func (s *session) Close() error { return nil }

// Resolve finds the system's first nameserver.
func (s *session) Resolve(context.Context) (netip.AddrPort, error) {
	ip, err := systemServer()
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("find the system's nameserver: %w; name one in the target's address", err)
	}
	return netip.AddrPortFrom(ip.Unmap(), 53), nil
}

func (s *session) Attempt(ctx context.Context, r probe.Request) probe.Attempt {
	var idBytes [2]byte
	rand.Read(idBytes[:]) // cannot fail, by its documentation
	id := binary.BigEndian.Uint16(idBytes[:])
	query, err := build(id, s.question)
	if err != nil {
		return unsent(err)
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(r.Dst))
	if err != nil {
		return unsent(err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := conn.SetDeadline(r.Deadline); err != nil {
		return unsent(err)
	}
	sent := time.Now()
	if _, err := conn.Write(query); err != nil {
		return unsent(err)
	}
	buf := make([]byte, maxAnswer)
	for {
		n, err := conn.Read(buf)
		at := time.Now()
		if err != nil {
			return probe.LostBy(err)
		}
		a, ours := s.answer(buf[:n], id)
		if !ours {
			s.sink.Foreign()
			continue
		}
		if a.Fault == "" {
			a.Received, a.RTT = at, max(at.Sub(sent), 1)
		}
		return a
	}
}

func unsent(err error) probe.Attempt {
	a := probe.LostBy(err)
	a.Unsent = true
	return a
}

// answer reads an answer, and reports whether it is one to our question.
func (s *session) answer(b []byte, id uint16) (probe.Attempt, bool) {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil || h.ID != id || !h.Response {
		return probe.Attempt{}, false
	}
	q, err := p.Question()
	if err != nil || q.Type != s.question.Type || q.Class != s.question.Class ||
		!strings.EqualFold(q.Name.String(), s.question.Name.String()) {
		return probe.Attempt{}, false
	}
	code := rcode(h.RCode)
	if h.RCode != dnsmessage.RCodeSuccess && h.RCode != dnsmessage.RCodeNameError {
		return probe.Lost(probe.FaultAnswer, code), true
	}
	first, err := s.first(&p)
	switch {
	case err != nil && !h.Truncated:
		return probe.Lost(probe.FaultAnswer, "malformed answer: "+err.Error()), true
	case h.Truncated:
		code += ", truncated"
	}
	if first != "" {
		code += ", " + first
	}
	return probe.Attempt{Detail: code}, true
}

// first is the first record of the type that was asked for, as text; a CNAME may
// stand before it.
func (s *session) first(p *dnsmessage.Parser) (string, error) {
	if err := p.SkipAllQuestions(); err != nil {
		return "", err
	}
	for range maxRecords {
		h, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		if h.Type != s.question.Type {
			if err := p.SkipAnswer(); err != nil {
				return "", err
			}
			continue
		}
		r, err := p.Answer()
		if err != nil {
			return "", err
		}
		return text(r.Body), nil
	}
	return "", nil
}

func text(body dnsmessage.ResourceBody) string {
	switch r := body.(type) {
	case *dnsmessage.AResource:
		return netip.AddrFrom4(r.A).String()
	case *dnsmessage.AAAAResource:
		return netip.AddrFrom16(r.AAAA).String()
	case *dnsmessage.SRVResource:
		return fmt.Sprintf("%d %d %d %s", r.Priority, r.Weight, r.Port, r.Target.String())
	case *dnsmessage.CNAMEResource:
		return r.CNAME.String()
	case *dnsmessage.NSResource:
		return r.NS.String()
	case *dnsmessage.MXResource:
		return fmt.Sprintf("%d %s", r.Pref, r.MX.String())
	case *dnsmessage.PTRResource:
		return r.PTR.String()
	case *dnsmessage.SOAResource:
		return fmt.Sprintf("%s %d", r.NS.String(), r.Serial)
	case *dnsmessage.TXTResource:
		return strings.Join(r.TXT, "")
	}
	return ""
}

// rcode is the name by which operators know a response code (RFC 1035, RFC 2136).
func rcode(c dnsmessage.RCode) string {
	names := []string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED",
		"YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE"}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("RCODE%d", c)
}
