package chengine

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func FuzzParseRequest(f *testing.F) {
	f.Add("query=INSERT+INTO+t+(a)+FORMAT+Native&insert_deduplication_token=x", "\x01\x01\x01a\x06UInt32")
	f.Add("default_format=Native&client_protocol_version=54460", hello)
	f.Add("readonly=2&param_x=1&max_threads=2", "SELECT {x:UInt8}")
	f.Add("query=INSERT+INTO+FUNCTION+file('x')+FORMAT+Native", "x")
	f.Add("a=%zz&;", "SELECT /* */ 1 -- x")
	f.Fuzz(func(t *testing.T, query, body string) {
		r := &http.Request{Method: http.MethodPost, URL: &url.URL{RawQuery: query}, Header: http.Header{}, Body: http.NoBody}
		if body != "" {
			r, _ = http.NewRequest(http.MethodPost, "http://e/", strings.NewReader(body))
			r.URL.RawQuery = query
		}
		req, err := parseRequest(r)
		if err != nil {
			return
		}
		if len(req.params) > maxParams || len(req.sql) > maxStatementBytes {
			t.Errorf("limits do not hold: %d parameters, %d bytes", len(req.params), len(req.sql))
		}
		if intoFunction.MatchString(req.insert) {
			t.Errorf("an insert into a function: %s", req.insert)
		}
		for k := range req.settings {
			if _, ok := defaults()[k]; !ok && !settable[k] {
				t.Errorf("setting %s slips through", k)
			}
		}
		req.streams()
	})
}

func TestOutside(t *testing.T) {
	for sql, want := range map[string]bool{
		"SELECT * FROM file('/etc/passwd')": true, "SELECT * FROM  \"file\" ('x')": true, "select * from URL('http://x', CSV)": true,
		"SELECT * FROM file/* */('x')": true, "SELECT * FROM file -- x\n('x')": true, "SELECT * FROM s3Cluster('a', 'b')": true,
		"SELECT * FROM default.`/etc/passwd`": true, "SELECT * FROM `default`.x": true, "SELECT * FROM remote('h', a.b)": true,
		"SELECT count() FROM sidetone.probe_window": false, "SELECT domain(url) FROM t WHERE file = 1": false,
		"SELECT 'default' AS x": false, "SELECT * FROM numbers(3)": false,
	} {
		if got := outside.MatchString(sql) || overlay.MatchString(sql); got != want {
			t.Errorf("%s: %v", sql, got)
		}
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{`a`: `'a'`, `it's`: `'it\'s'`, `\`: `'\\'`, "a\nb\x00": `'a\nb\0'`} {
		if got := quote(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
	if got := quoteName("a`b\\"); got != "`a\\`b\\\\`" {
		t.Errorf("name: %s", got)
	}
}
