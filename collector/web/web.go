// Package web serves the user interface. With the build tag "webui" it embeds what
// web/app was built into (web/dist); without the tag it embeds one placeholder page,
// so that Go builds and tests need no Node. Nothing is loaded from another host.
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
)

// contentSecurityPolicy allows only what comes from the collector itself: no inline
// script, no inline style, no other host, no frame around it. Trusted Types close the
// DOM's own ways to script; the one policy named is Svelte's, for its own templates.
const contentSecurityPolicy = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; " +
	"frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types svelte-trusted-html"

const (
	cacheForEver = "public, max-age=31536000, immutable" // the name holds a hash of the content
	cacheAsk     = "no-cache"                            // keep, but ask each time whether it is still right
)

// contentTypes of all that a build may hold. A fixed list: mime.TypeByExtension reads
// files of the operating system, which may say anything.
var contentTypes = map[string]string{
	".css":  "text/css; charset=utf-8",
	".html": "text/html; charset=utf-8",
	".ico":  "image/x-icon",
	".js":   "text/javascript; charset=utf-8",
	".json": "application/json",
	".png":  "image/png",
	".svg":  "image/svg+xml",
	".txt":  "text/plain; charset=utf-8",

	".webmanifest": "application/manifest+json",
}

// Built says whether the real pages are embedded, and not the placeholder.
func Built() bool { return built }

// Handler serves the embedded pages, and for every other path outside /api the
// start page, whose own router then shows what the path names.
func Handler() http.Handler {
	h, err := newHandler(content())
	if err != nil {
		panic("web: embedded pages: " + err.Error()) // a broken build, not a broken machine
	}
	return h
}

// file is one embedded file, ready to be sent.
type file struct {
	body, packed []byte // packed is nil when gzip does not make it smaller
	etag         string // without quotes
	contentType  string
	cache        string
}

type handler struct {
	files map[string]*file // by URL path
	index *file
}

func newHandler(root fs.FS) (*handler, error) {
	h := &handler{files: map[string]*file{}}
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		f, err := load(root, name)
		if err != nil {
			return err
		}
		h.files["/"+name] = f
		return nil
	})
	if err != nil {
		return nil, err
	}
	if h.index = h.files["/index.html"]; h.index == nil {
		return nil, fmt.Errorf("index.html is not there: build web/app first")
	}
	return h, nil
}

func load(root fs.FS, name string) (*file, error) {
	body, err := fs.ReadFile(root, name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	contentType, ok := contentTypes[path.Ext(name)]
	if !ok {
		return nil, fmt.Errorf("read %s: no content type is known for it", name)
	}
	sum := sha256.Sum256(body)
	f := &file{
		body:        body,
		etag:        base64.RawURLEncoding.EncodeToString(sum[:12]),
		contentType: contentType,
		cache:       cacheAsk,
	}
	if strings.HasPrefix(name, "assets/") {
		f.cache = cacheForEver
	}
	f.packed, err = pack(body)
	return f, err
}

// pack returns body in gzip form, or nil when that saves less than a tenth.
func pack(body []byte) ([]byte, error) {
	var buf bytes.Buffer
	zw, err := gzip.NewWriterLevel(&buf, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := zw.Write(body); err != nil {
		return nil, err
	}
	if err := zw.Close(); err != nil {
		return nil, err
	}
	if buf.Len() > len(body)-len(body)/10 {
		return nil, nil
	}
	return buf.Bytes(), nil
}

// ServeHTTP answers one request.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	if r.URL.Path == "/api" || strings.HasPrefix(r.URL.Path, "/api/") {
		problem(w, http.StatusNotFound, "There is no such path in the API.")
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		problem(w, http.StatusMethodNotAllowed, "Pages can only be read.")
		return
	}
	f, ok := h.files[r.URL.Path]
	switch {
	case ok && f != h.index:
	case !ok && isAsset(r.URL.Path):
		// An old page asking for a script of an earlier build must not get HTML.
		w.Header().Set("Cache-Control", "no-store")
		problem(w, http.StatusNotFound, "There is no such file.")
		return
	default:
		f = h.index
	}
	send(w, r, f)
}

// isAsset says whether a path can only mean a file, never a page of the router.
func isAsset(p string) bool {
	if strings.HasPrefix(p, "/assets/") {
		return true
	}
	if p == "/index.html" {
		return false
	}
	_, known := contentTypes[path.Ext(p)]
	return (known && strings.Count(p, "/") == 1) || path.Ext(p) == ".map"
}

func send(w http.ResponseWriter, r *http.Request, f *file) {
	body, etag := f.body, f.etag
	if f.packed != nil {
		w.Header().Add("Vary", "Accept-Encoding")
		if acceptsGzip(r.Header.Values("Accept-Encoding")) {
			w.Header().Set("Content-Encoding", "gzip")
			body, etag = f.packed, f.etag+"-gzip"
		}
	}
	w.Header().Set("Content-Type", f.contentType)
	w.Header().Set("Cache-Control", f.cache)
	w.Header().Set("Etag", strconv.Quote(etag))
	r.Header.Del("Range") // parts of an encoded body help nobody here
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// acceptsGzip reads Accept-Encoding (RFC 9110, 12.5.3) as far as needed: gzip named
// and not with a weight of zero.
func acceptsGzip(values []string) bool {
	for _, item := range strings.Split(strings.Join(values, ","), ",") {
		name, params, _ := strings.Cut(item, ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		weight, ok := strings.CutPrefix(strings.ReplaceAll(strings.ToLower(params), " ", ""), "q=")
		if !ok {
			return true
		}
		q, err := strconv.ParseFloat(weight, 64)
		return err == nil && q > 0
	}
	return false
}

// secure sets the headers that hold for every answer. Strict-Transport-Security is
// not among them: it would shut out a collector whose certificate is its own.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer") // the set-up code stands in a URL
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()")
}

// problem answers in the form that the API uses for its errors (RFC 9457).
func problem(w http.ResponseWriter, status int, detail string) {
	if w.Header().Get("Cache-Control") == "" {
		w.Header().Set("Cache-Control", "no-store")
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, fmt.Sprintf(`{"status":%d,"title":%q,"detail":%q}`+"\n", status, http.StatusText(status), detail))
}
