package api

import (
	"context"
	"encoding/json"
	"mime"
	"net"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"sidetone/collector/internal/authz"
)

// request is what the guards found out about a request.
type request struct {
	principal authz.Principal
	signedIn  bool
	remote    string
	token     string
}

type requestKey struct{}

func withRequest(ctx context.Context, r request) context.Context {
	return context.WithValue(ctx, requestKey{}, r)
}

// from returns it; without guards in front the zero value sees nothing.
func from(ctx context.Context) request {
	r, _ := ctx.Value(requestKey{}).(request)
	return r
}

// scope is what the asker may see.
func scope(ctx context.Context) authz.Scope { return from(ctx).principal.Scope() }

// remoteIP is the address of the other end, without its port.
func remoteIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func isJSON(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && t == "application/json"
}

// problem writes an RFC 9457 problem, in the same form as huma does.
func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(&huma.ErrorModel{ // the other end may be gone
		Status: status, Title: http.StatusText(status), Detail: detail,
	})
}
