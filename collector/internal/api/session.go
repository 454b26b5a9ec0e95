package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"sidetone/collector/internal/authn"
	"sidetone/collector/internal/authz"
	"sidetone/shared/buildinfo"
)

type sessionOut struct {
	SetCookie *http.Cookie `header:"Set-Cookie"`
	Body      Session
}

func sessionOf(p authz.Principal) Session {
	return Session{SignedIn: true, User: &User{Email: p.Email, Name: p.Name, Role: string(p.Role)}, ProductVersion: buildinfo.Version()}
}

func (a *API) getSession(ctx context.Context, _ *struct{}) (*struct{ Body Session }, error) {
	out := &struct{ Body Session }{}
	if r := from(ctx); r.signedIn {
		out.Body = sessionOf(r.principal)
		return out, nil
	}
	needed, err := a.Authn.SetupNeeded(ctx)
	if err != nil {
		return nil, a.internal(err, "read accounts")
	}
	out.Body = Session{SetupNeeded: needed, ProductVersion: buildinfo.Version()}
	return out, nil
}

type setupIn struct {
	Body struct {
		Code     string `json:"code" maxLength:"100"`
		Email    string `json:"email" maxLength:"254"`
		Name     string `json:"name" maxLength:"100"`
		Password string `json:"password" maxLength:"128"`
	}
}

func (a *API) postSetup(ctx context.Context, in *setupIn) (*sessionOut, error) {
	p, err := a.Authn.Setup(ctx, in.Body.Code, in.Body.Email, in.Body.Name, in.Body.Password)
	if err != nil {
		return nil, a.loginError(err)
	}
	token, err := a.Authn.StartSession(ctx, p, from(ctx).remote)
	if err != nil {
		return nil, a.internal(err, "start session")
	}
	return &sessionOut{SetCookie: authn.Cookie(token), Body: sessionOf(p)}, nil
}

type signInIn struct {
	Body struct {
		Email    string `json:"email" maxLength:"254"`
		Password string `json:"password" maxLength:"128"`
	}
}

func (a *API) postSession(ctx context.Context, in *signInIn) (*sessionOut, error) {
	token, p, err := a.Authn.SignIn(ctx, in.Body.Email, in.Body.Password, from(ctx).remote)
	if err != nil {
		return nil, a.loginError(err)
	}
	return &sessionOut{SetCookie: authn.Cookie(token), Body: sessionOf(p)}, nil
}

func (a *API) deleteSession(ctx context.Context, _ *struct{}) (*struct {
	SetCookie *http.Cookie `header:"Set-Cookie"`
}, error) {
	if err := a.Authn.SignOut(ctx, from(ctx).token); err != nil {
		return nil, a.internal(err, "sign out")
	}
	return &struct {
		SetCookie *http.Cookie `header:"Set-Cookie"`
	}{SetCookie: authn.ClearCookie()}, nil
}

// loginError turns authn's errors into answers for people.
func (a *API) loginError(err error) error {
	var many *authn.TooManyError
	if wrong := fieldErrors(err, func(e *authn.FieldError) (string, error) { return e.Field, e.Err }); wrong != nil {
		return wrong
	}
	switch {
	case errors.As(err, &many):
		seconds := int(many.RetryAfter.Seconds()) + 1
		return huma.ErrorWithHeaders(huma.Error429TooManyRequests(err.Error()),
			http.Header{"Retry-After": {strconv.Itoa(seconds)}})
	case errors.Is(err, authn.ErrBadLogin):
		return huma.Error401Unauthorized(err.Error())
	case errors.Is(err, authn.ErrBadCode):
		return huma.Error403Forbidden(err.Error())
	case errors.Is(err, authn.ErrSetupDone):
		return huma.Error409Conflict(err.Error())
	default:
		return a.internal(err, "sign in")
	}
}

// internal logs an error that is ours and hides its text from the asker.
func (a *API) internal(err error, doing string) error {
	a.Log.Error().Err(err).Msg(doing)
	return huma.Error500InternalServerError("the collector could not " + doing + "; its log says why")
}

// fieldErrors answers with all mistakes in fields of a body that are joined in err, or
// nil when there are none.
func fieldErrors[E error](err error, split func(E) (field string, what error)) error {
	var details []error
	var text []string
	var walk func(error)
	walk = func(err error) {
		if e, ok := err.(E); ok {
			field, what := split(e)
			details = append(details, &huma.ErrorDetail{Message: what.Error(), Location: "body." + field})
			text = append(text, e.Error())
			return
		}
		switch u := err.(type) {
		case interface{ Unwrap() []error }:
			for _, e := range u.Unwrap() {
				walk(e)
			}
		case interface{ Unwrap() error }:
			walk(u.Unwrap())
		}
	}
	walk(err)
	if details == nil {
		return nil
	}
	return huma.Error422UnprocessableEntity(strings.Join(text, "; "), details...)
}
