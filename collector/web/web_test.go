package web

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

var longScript = strings.Repeat("export const answer = 42;\n", 200)

func testHandler(t *testing.T) http.Handler {
	t.Helper()
	h, err := newHandler(fstest.MapFS{
		"index.html":         {Data: []byte("<!doctype html><title>start</title>")},
		"favicon.svg":        {Data: []byte("<svg/>")},
		"assets/app-1a2b.js": {Data: []byte(longScript)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func ask(h http.Handler, method, path string, header ...string) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func text(t *testing.T, res *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPaths(t *testing.T) {
	const html, js, svg, prob = "text/html; charset=utf-8", "text/javascript; charset=utf-8", "image/svg+xml", "application/problem+json"
	cases := []struct {
		name, method, path string
		status             int
		contentType, cache string
	}{
		{"start page", "GET", "/", 200, html, cacheAsk},
		{"start page by its file name", "GET", "/index.html", 200, html, cacheAsk},
		{"page of the router", "GET", "/sites/7d0c", 200, html, cacheAsk},
		{"page of the router with a query", "GET", "/setup?code=abc", 200, html, cacheAsk},
		{"page whose id looks like a file", "GET", "/sites/pbx.example.txt", 200, html, cacheAsk},
		{"path that climbs", "GET", "/../../etc/passwd", 200, html, cacheAsk},
		{"hashed asset", "GET", "/assets/app-1a2b.js", 200, js, cacheForEver},
		{"hashed asset, head", "HEAD", "/assets/app-1a2b.js", 200, js, cacheForEver},
		{"asset of an earlier build", "GET", "/assets/app-0000.js", 404, prob, "no-store"},
		{"folder of assets", "GET", "/assets/", 404, prob, "no-store"},
		{"file without a hash", "GET", "/favicon.svg", 200, svg, cacheAsk},
		{"file that is not there", "GET", "/robots.txt", 404, prob, "no-store"},
		{"source map that is not there", "GET", "/assets/app-1a2b.js.map", 404, prob, "no-store"},
		{"unknown API path", "GET", "/api/v1/nothing", 404, prob, "no-store"},
		{"root of the API", "GET", "/api", 404, prob, "no-store"},
		{"page that begins like the API", "GET", "/apiary", 200, html, cacheAsk},
		{"writing", "POST", "/", 405, prob, "no-store"},
		{"writing to an unknown API path", "POST", "/api/v1/nothing", 404, prob, "no-store"},
	}
	h := testHandler(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			res := ask(h, c.method, c.path)
			if res.StatusCode != c.status {
				t.Errorf("status %d, want %d", res.StatusCode, c.status)
			}
			if got := res.Header.Get("Content-Type"); got != c.contentType {
				t.Errorf("content type %q, want %q", got, c.contentType)
			}
			if got := res.Header.Get("Cache-Control"); got != c.cache {
				t.Errorf("cache control %q, want %q", got, c.cache)
			}
			body := text(t, res)
			if c.contentType == html && !strings.Contains(body, "<title>start</title>") {
				t.Errorf("not the start page: %q", body)
			}
			if c.contentType == prob && !json.Valid([]byte(body)) {
				t.Errorf("not JSON: %q", body)
			}
		})
	}
}

func TestSecurityHeadersStandOnEveryAnswer(t *testing.T) {
	want := map[string]string{
		"X-Content-Type-Options":       "nosniff",
		"X-Frame-Options":              "DENY",
		"Referrer-Policy":              "no-referrer",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
	}
	h := testHandler(t)
	for _, path := range []string{"/", "/sites/1", "/assets/app-1a2b.js", "/assets/none.js", "/api/none"} {
		res := ask(h, "GET", path)
		for name, value := range want {
			if got := res.Header.Get(name); got != value {
				t.Errorf("%s: %s is %q, want %q", path, name, got, value)
			}
		}
		csp := res.Header.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'self'", "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'", "form-action 'self'"} {
			if !strings.Contains(csp, part) {
				t.Errorf("%s: policy %q lacks %q", path, csp, part)
			}
		}
		if strings.Contains(csp, "unsafe") || strings.Contains(csp, "data:") {
			t.Errorf("%s: policy %q is too wide", path, csp)
		}
	}
}

func TestGzip(t *testing.T) {
	cases := []struct {
		name, accept string
		packed       bool
	}{
		{"not asked for", "", false},
		{"asked for", "gzip, deflate, br", true},
		{"in capitals", "GZIP", true},
		{"with a weight", "br;q=1.0, gzip;q=0.8", true},
		{"refused", "gzip;q=0", false},
		{"refused, with decimals", "gzip; q=0.000", false},
		{"malformed weight", "gzip;q=much", false},
		{"something like it", "xgzip", false},
	}
	h := testHandler(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			res := ask(h, "GET", "/assets/app-1a2b.js", "Accept-Encoding", c.accept)
			if got := res.Header.Get("Content-Encoding") == "gzip"; got != c.packed {
				t.Fatalf("packed %v, want %v", got, c.packed)
			}
			if res.Header.Get("Vary") != "Accept-Encoding" {
				t.Error("caches are not told that the answer depends on Accept-Encoding")
			}
			body := io.Reader(res.Body)
			if c.packed {
				zr, err := gzip.NewReader(res.Body)
				if err != nil {
					t.Fatal(err)
				}
				body = zr
			}
			if got, err := io.ReadAll(body); err != nil || string(got) != longScript {
				t.Errorf("%d bytes, error %v; want %d bytes", len(got), err, len(longScript))
			}
		})
	}
}

func TestUnchangedPageIsNotSentAgain(t *testing.T) {
	h := testHandler(t)
	for _, accept := range []string{"", "gzip"} {
		first := ask(h, "GET", "/assets/app-1a2b.js", "Accept-Encoding", accept)
		etag := first.Header.Get("Etag")
		if etag == "" {
			t.Fatal("no Etag")
		}
		again := ask(h, "GET", "/assets/app-1a2b.js", "Accept-Encoding", accept, "If-None-Match", etag)
		if again.StatusCode != http.StatusNotModified {
			t.Errorf("accept %q: status %d, want 304", accept, again.StatusCode)
		}
		if again.Header.Get("Cache-Control") != cacheForEver {
			t.Errorf("accept %q: 304 without its cache rule", accept)
		}
		other := ask(h, "GET", "/assets/app-1a2b.js", "Accept-Encoding", accept, "If-None-Match", `"old"`)
		if other.StatusCode != http.StatusOK {
			t.Errorf("accept %q: status %d after a change, want 200", accept, other.StatusCode)
		}
	}
}

func TestBrokenBuilds(t *testing.T) {
	cases := []struct {
		name, want string
		fs         fstest.MapFS
	}{
		{"empty", "index.html is not there", fstest.MapFS{}},
		{"no start page", "index.html is not there", fstest.MapFS{"assets/a.js": {Data: []byte("1")}}},
		{"unknown kind of file", "assets/a.exe: no content type", fstest.MapFS{"index.html": {}, "assets/a.exe": {}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := newHandler(c.fs); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q in it", err, c.want)
			}
		})
	}
}

// TestEmbeddedPages holds for both builds: it looks at what this binary really carries.
func TestEmbeddedPages(t *testing.T) {
	h := Handler()
	res := ask(h, "GET", "/")
	page := text(t, res)
	if res.StatusCode != http.StatusOK {
		t.Fatalf("status %d", res.StatusCode)
	}
	if got := strings.Contains(page, `content="placeholder"`); got == Built() {
		t.Errorf("placeholder %v, built %v", got, Built())
	}
	for what, pattern := range map[string]string{
		"inline style":     `(?i)<style|\sstyle=`,
		"inline script":    `(?is)<script[^>]*>\s*[^<\s]`,
		"inline handler":   `(?i)\son[a-z]+=`,
		"another host":     `(?i)(?:src|href)="(?:[a-z]+:)?//`,
		"script by scheme": `(?i)(?:javascript|data):`,
	} {
		if m := regexp.MustCompile(pattern).FindString(page); m != "" {
			t.Errorf("%s in the start page: %q", what, m)
		}
	}
	for _, m := range regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		got := ask(h, "GET", m[1])
		if got.StatusCode != http.StatusOK || strings.HasPrefix(got.Header.Get("Content-Type"), "text/html") {
			t.Errorf("%s: status %d, %s", m[1], got.StatusCode, got.Header.Get("Content-Type"))
		}
	}
}

// TestNothingFromOtherHosts reads every embedded script and style for absolute
// addresses. Names of XML namespaces and a link in an error's text load nothing.
func TestNothingFromOtherHosts(t *testing.T) {
	harmless := regexp.MustCompile(`^https?://(?:www\.w3\.org/|svelte\.dev/)`)
	address := regexp.MustCompile(`https?://[a-z0-9.-]+/?|@import`)
	err := fs.WalkDir(content(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := fs.ReadFile(content(), name)
		for _, m := range address.FindAllString(string(body), -1) {
			if !harmless.MatchString(m) {
				t.Errorf("%s names %s", name, m)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
