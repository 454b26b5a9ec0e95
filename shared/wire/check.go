package wire

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits and texts of each message; see the interface message.

func (m *Hello) check() error { return checkTexts(m.texts()) }
func (m *Hello) texts() []*string {
	return []*string{&m.Version, &m.BootID, &m.Hostname, &m.OS, &m.Arch}
}

func (m *Welcome) check() error     { return checkTexts(m.texts()) }
func (m *Welcome) texts() []*string { return []*string{&m.Version, &m.Observed} }

func (m *Frame) check() error {
	if len(m.Payload) > MaxPayload {
		return fmt.Errorf("payload of %d bytes, limit %d", len(m.Payload), MaxPayload)
	}
	if m.Class == 0 {
		return errors.New("frame without a class")
	}
	return nil
}
func (m *Frame) texts() []*string { return nil }

func (m *Ack) check() error     { return checkRanges(m.Ranges) }
func (m *Ack) texts() []*string { return nil }

func (m *Defer) check() error     { return checkRanges(m.Ranges) }
func (m *Defer) texts() []*string { return nil }

func (m *Reject) check() error     { return checkTexts(m.texts()) }
func (m *Reject) texts() []*string { return []*string{&m.Reason} }

func (m *Drain) check() error     { return checkTexts(m.texts()) }
func (m *Drain) texts() []*string { return []*string{&m.Reason} }

func (m *RenewRequest) check() error     { return nil }
func (m *RenewRequest) texts() []*string { return nil }

func (m *RenewResponse) check() error {
	return errors.Join(checkChain(m.Chain), checkTexts(m.texts()))
}
func (m *RenewResponse) texts() []*string { return []*string{&m.Error} }

func (m *Close) check() error     { return checkTexts(m.texts()) }
func (m *Close) texts() []*string { return []*string{&m.Code, &m.Reason} }

func (m *EnrolRequest) check() error { return checkTexts(m.texts()) }
func (m *EnrolRequest) texts() []*string {
	return []*string{&m.Token, &m.EnrolmentID, &m.Hostname, &m.OS, &m.Arch, &m.Version}
}

func (m *EnrolResponse) check() error {
	return errors.Join(checkChain(m.Chain), checkTexts(m.texts()))
}
func (m *EnrolResponse) texts() []*string { return []*string{&m.Site, &m.Code, &m.Error} }

func checkRanges(ranges []Range) error {
	if len(ranges) > MaxRanges {
		return fmt.Errorf("%d ranges, limit %d", len(ranges), MaxRanges)
	}
	for _, r := range ranges {
		if r.From > r.To {
			return fmt.Errorf("range from %d to %d runs backwards", r.From, r.To)
		}
	}
	return nil
}

func checkChain(chain [][]byte) error {
	if len(chain) > MaxChain {
		return fmt.Errorf("chain of %d certificates, limit %d", len(chain), MaxChain)
	}
	return nil
}

// clip makes s valid UTF-8 of at most n bytes, cutting between characters.
func clip(s string, n int) string {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
