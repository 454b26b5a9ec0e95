package authn

import (
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Rules for a password (NIST SP 800-63B: length counts, composition rules do not).
const (
	minPassword      = 12
	maxPassword      = 128 // characters
	maxPasswordBytes = 4 * maxPassword
	minDistinct      = 5 // different characters
	maxEmail         = 254
	maxUserName      = 100
)

// FieldError is a mistake in one field of a form. Several come joined.
type FieldError struct {
	Field string // "email", "name" or "password"
	Err   error
}

func (e *FieldError) Error() string { return e.Field + " " + e.Err.Error() }
func (e *FieldError) Unwrap() error { return e.Err }

// checkAccount returns all mistakes of a new account.
func checkAccount(email, name, password string) error {
	var errs []error
	add := func(field string, err error) {
		if err != nil {
			errs = append(errs, &FieldError{Field: field, Err: err})
		}
	}
	add("email", checkEmail(email))
	add("name", checkName(name))
	add("password", checkPasswordRules(password, email, name))
	return errors.Join(errs...)
}

func checkEmail(s string) error {
	if s == "" {
		return errors.New("is missing")
	}
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s || len(s) > maxEmail || strings.ContainsAny(s, "\r\n\x00") {
		return errors.New("is not an email address")
	}
	return nil
}

func checkName(s string) error {
	switch {
	case s == "":
		return errors.New("is missing")
	case !utf8.ValidString(s), strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return errors.New("has characters that cannot be shown")
	case utf8.RuneCountInString(s) > maxUserName:
		return fmt.Errorf("is longer than %d characters", maxUserName)
	}
	return nil
}

func checkPasswordRules(password, email, name string) error {
	if !utf8.ValidString(password) {
		return errors.New("is not valid text")
	}
	n := utf8.RuneCountInString(password)
	if n < minPassword {
		return fmt.Errorf("must have at least %d characters", minPassword)
	}
	if n > maxPassword {
		return fmt.Errorf("must have at most %d characters", maxPassword)
	}
	distinct := map[rune]bool{}
	for _, r := range password {
		distinct[r] = true
	}
	lower := strings.ToLower(password)
	local, _, _ := strings.Cut(email, "@")
	switch {
	case len(distinct) < minDistinct:
		return fmt.Errorf("must have at least %d different characters", minDistinct)
	case lower == email, lower == strings.ToLower(name), len(local) >= 8 && strings.Contains(lower, local):
		return errors.New("must not be your name or address")
	case common(lower):
		return errors.New("is one of those that are tried first: choose another")
	}
	return nil
}

// common knows the long passwords that lists of leaked ones begin with: a word of
// the stems, repeated or followed by digits.
func common(lower string) bool {
	trimmed := strings.TrimRight(lower, "0123456789!.?")
	for _, stem := range []string{"", "password", "passw0rd", "passwort", "administrator", "changeme", "letmein", "welcome", "qwerty", "qwertyuiop", "qwertz", "sidetone", "iloveyou", "3cx"} {
		if trimmed == stem || trimmed == stem+stem {
			return true
		}
	}
	return false
}

func normalEmail(s string) string { return strings.ToLower(strings.TrimSpace(s)) }
