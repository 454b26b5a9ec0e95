package identity

import (
	"errors"
	"fmt"
)

// Kinds of trouble. They come inside a *Problem, which adds the advice.
var (
	ErrNotEnrolled     = errors.New("this agent is not enrolled")
	ErrAlreadyEnrolled = errors.New("this agent is enrolled already")
	ErrDamaged         = errors.New("the stored identity is damaged")
	ErrBadToken        = errors.New("the enrolment token is wrong")
	ErrExpiredToken    = errors.New("the enrolment token has expired")
	ErrUsedToken       = errors.New("the enrolment token was used already")
	ErrUnreachable     = errors.New("the collector cannot be reached")
	ErrRootMismatch    = errors.New("the collector's certificate is not the one that the token names")
	ErrClock           = errors.New("this host's clock is wrong")
	ErrRefused         = errors.New("the collector refused the enrolment")
	ErrBusy            = errors.New("the collector is busy")
	ErrBadAnswer       = errors.New("the collector's answer cannot be used")
)

// Problem is an error that a person can act on.
type Problem struct {
	Kind   error  // one of the kinds above
	Detail string // what exactly; may be empty
	Advice string // what to do
	Err    error  // the cause; may be nil
}

func (p *Problem) Error() string {
	s := p.Kind.Error()
	if p.Detail != "" {
		s += ": " + p.Detail
	}
	if p.Err != nil {
		s += fmt.Sprintf(" (%v)", p.Err)
	}
	return s + ". " + p.Advice
}

// Unwrap makes errors.Is work on the kind and on the cause.
func (p *Problem) Unwrap() []error {
	if p.Err == nil {
		return []error{p.Kind}
	}
	return []error{p.Kind, p.Err}
}

const adviceNewToken = "Make a new token on the collector and enrol with it."

func notEnrolled(dir string) error {
	return &Problem{Kind: ErrNotEnrolled, Detail: "no identity in " + dir,
		Advice: "Get a token from the collector and run: sidetone-agent enrol TOKEN"}
}

func damaged(dir string, err error) error {
	return &Problem{Kind: ErrDamaged, Detail: dir, Err: err,
		Advice: "Restore the directory from a backup, or enrol again with a new token and --force."}
}
