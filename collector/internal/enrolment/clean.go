package enrolment

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"sidetone/shared/wire"
)

// Limits of what an agent says of itself.
const (
	minEnrolmentID = 16
	maxEnrolmentID = 64
	maxHostname    = 253
	maxWord        = 64
)

// applicant checks and cleans what an agent says of itself.
func applicant(req wire.EnrolRequest) (Applicant, error) {
	if n := len(req.EnrolmentID); n < minEnrolmentID || n > maxEnrolmentID {
		return Applicant{}, fmt.Errorf("enrolment id has %d characters, must have %d to %d", n, minEnrolmentID, maxEnrolmentID)
	}
	for _, r := range req.EnrolmentID {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' {
			return Applicant{}, errors.New("enrolment id has strange characters")
		}
	}
	return Applicant{
		EnrolmentID: req.EnrolmentID,
		Hostname:    cleanText(req.Hostname, maxHostname),
		OS:          cleanText(req.OS, maxWord),
		Arch:        cleanText(req.Arch, maxWord),
		Version:     cleanText(req.Version, maxWord),
	}, nil
}

// cleanText keeps the printable part of hostile text, up to limit bytes.
func cleanText(s string, limit int) string {
	var b strings.Builder
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			continue
		}
		if b.Len()+utf8.RuneLen(r) > limit {
			break
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}

// cleanName trims a name in place and says what is wrong with it.
func cleanName(s *string) error {
	*s = strings.TrimSpace(*s)
	switch n := utf8.RuneCountInString(*s); {
	case n == 0:
		return errors.New("is missing")
	case n > maxName:
		return fmt.Errorf("has %d characters, at most %d are possible", n, maxName)
	case !utf8.ValidString(*s):
		return errors.New("is not valid UTF-8")
	}
	for _, r := range *s {
		if !unicode.IsPrint(r) {
			return errors.New("has a control character or an invisible one")
		}
	}
	return nil
}
