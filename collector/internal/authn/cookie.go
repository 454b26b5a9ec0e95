package authn

import (
	"net/http"

	"sidetone/collector/internal/authz"
)

// CookieName has the prefix with which browsers hold us to Secure, Path=/ and no
// Domain (RFC 6265bis).
const CookieName = "__Host-sidetone"

// Cookie carries a session's token. It ends with the browser's session; the real
// end is kept on our side.
func Cookie(token string) *http.Cookie {
	return &http.Cookie{
		Name: CookieName, Value: token, Path: "/",
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}

// ClearCookie makes the browser forget the token.
func ClearCookie() *http.Cookie {
	c := Cookie("")
	c.MaxAge = -1
	return c
}

// TokenFromRequest is the session token of a request, or "".
func TokenFromRequest(r *http.Request) string {
	c, err := r.Cookie(CookieName)
	if err != nil {
		return ""
	}
	return c.Value
}

// FromRequest says who sent a request, or ErrNotSignedIn.
func (s *Service) FromRequest(r *http.Request) (authz.Principal, error) {
	return s.Session(r.Context(), TokenFromRequest(r))
}
