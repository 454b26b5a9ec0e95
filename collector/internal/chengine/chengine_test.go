package chengine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sidetone/collector/internal/chengine"
	"sidetone/collector/internal/chengine/enginetest"
)

func TestMain(m *testing.M) {
	enginetest.Child()
	if os.Getenv(parentEnv) != "" {
		beParent()
	}
	goleak.VerifyTestMain(m)
}

// client speaks HTTP over the engine's socket.
type client struct {
	t testing.TB
	h *http.Client
}

func newClient(t testing.TB, socket string) *client {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &client{t, &http.Client{Transport: tr, Timeout: 30 * time.Second}}
}

func (c *client) do(params url.Values, body io.Reader) (status int, code, text string) {
	c.t.Helper()
	res, err := c.h.Post("http://engine/?"+params.Encode(), "application/octet-stream", body)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return res.StatusCode, res.Header.Get("X-ClickHouse-Exception-Code"), string(b)
}

func (c *client) sql(q string, kv ...string) string {
	c.t.Helper()
	status, _, text := c.do(values(kv...), strings.NewReader(q))
	if status != http.StatusOK {
		c.t.Fatalf("%s: %d %s", q, status, text)
	}
	return strings.TrimSpace(text)
}

func values(kv ...string) url.Values {
	v := url.Values{}
	for i := 0; i+1 < len(kv); i += 2 {
		v.Set(kv[i], kv[i+1])
	}
	return v
}

func TestInterface(t *testing.T) {
	s, _ := enginetest.Start(t, t.TempDir())
	c := newClient(t, s.Socket())

	t.Run("answers", func(t *testing.T) {
		for _, tc := range []struct {
			name, sql string
			params    []string
			want      string
		}{
			{"plain", "SELECT 1", nil, "1"},
			{"format in the statement", "SELECT 1 AS x FORMAT JSONEachRow", nil, `{"x":1}`},
			{"format in the address", "SELECT 'a,b' AS x", []string{"default_format", "CSV"}, `"a,b"`},
			{"bound parameter", "SELECT {x:String}", []string{"param_x", "it's; DROP"}, "it\\'s; DROP"},
			{"bound array", "SELECT arraySum({x:Array(UInt32)})", []string{"param_x", "[1,2,3]"}, "6"},
			{"setting", "SELECT getSetting('max_threads')", []string{"max_threads", "1"}, "1"},
			{"setting is gone afterwards", "SELECT changed FROM system.settings WHERE name='max_threads'", nil, "0"},
			{"database", "SELECT currentDatabase()", []string{"database", "system"}, "system"},
			{"database is gone afterwards", "SELECT currentDatabase()", nil, "default"},
			{"not a select", "SHOW TABLES FROM system LIKE 'one'", nil, "one"},
			{"comment first", "-- one\n/* two */ (SELECT 3)", nil, "3"},
			{"more rows than a block", "SELECT number FROM numbers(200000) FORMAT Null", nil, ""},
		} {
			t.Run(tc.name, func(t *testing.T) {
				c := &client{t, c.h}
				if got := c.sql(tc.sql, tc.params...); got != tc.want {
					t.Errorf("got %q, want %q", got, tc.want)
				}
			})
		}
	})

	t.Run("refusals", func(t *testing.T) {
		for _, tc := range []struct {
			name, sql string
			params    []string
			status    int
			code      string
			says      string
		}{
			{"unknown table", "SELECT * FROM nope", nil, 404, "60", "nope"},
			{"syntax", "SELECT FROM WHERE", nil, 400, "62", "Syntax error"},
			{"two statements", "SELECT 1; SELECT 2", nil, 400, "62", "one statement"},
			{"SET", "SET max_threads = 1", nil, 501, "48", "address"},
			{"unknown setting", "SELECT 1", []string{"zookeeper_log", "1"}, 400, "115", "zookeeper_log"},
			{"wrong value of a setting", "SELECT 1", []string{"max_threads", "many"}, 0, "", ""},
			{"read-only", "CREATE TABLE default.ro (a UInt8) ENGINE = Memory", []string{"readonly", "2"}, 403, "164", "read"},
			{"read-only, file", "SELECT * FROM file('/etc/passwd', 'LineAsString')", []string{"readonly", "2"}, 403, "164", "outside"},
			{"read-only, file as a table", "SELECT * FROM default.`/etc/passwd`", []string{"readonly", "2"}, 403, "164", "outside"},
			{"nothing", "  ", nil, 400, "62", "no statement"},
			{"too long", "SELECT '" + strings.Repeat("x", 1<<20) + "'", nil, 400, "62", "longer"},
			{"late error", "SELECT throwIf(number = 3) FROM numbers(5)", nil, 0, "395", ""},
			{"out of time", "SELECT sleepEachRow(1) FROM numbers(30) SETTINGS max_block_size=1", []string{"max_execution_time", "1"}, 0, "", ""},
		} {
			t.Run(tc.name, func(t *testing.T) {
				c := &client{t, c.h}
				status, code, text := c.do(values(tc.params...), strings.NewReader(tc.sql))
				if status == 200 && !strings.Contains(text, "__exception__") {
					t.Fatalf("not refused: %s", text)
				}
				if tc.status != 0 && status != tc.status || tc.code != "" && code != tc.code || !strings.Contains(text, tc.says) {
					t.Errorf("got %d, code %s, %q; want %d, %s, %q", status, code, text, tc.status, tc.code, tc.says)
				}
				if got := c.sql("SELECT 1"); got != "1" {
					t.Errorf("after it, SELECT 1 is %q", got)
				}
			})
		}
	})
}

// block is a Native block of one UInt32 column.
func block(n int, from uint32) []byte {
	b := []byte{1}
	for v := n; ; v >>= 7 {
		if v < 0x80 {
			b = append(b, byte(v))
			break
		}
		b = append(b, byte(v)|0x80)
	}
	b = append(b, "\x01a\x06UInt32"...)
	for i := range uint32(n) {
		v := from + i
		b = append(b, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
	}
	return b
}

func TestInsert(t *testing.T) {
	s, _ := enginetest.Start(t, t.TempDir())
	c := newClient(t, s.Socket())
	c.sql("CREATE TABLE default.t (a UInt32) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 100")
	const into = "INSERT INTO default.t (a) FORMAT Native"

	insert := func(body io.Reader, kv ...string) (int, string) {
		status, _, text := c.do(values(append([]string{"query", into}, kv...)...), body)
		return status, text
	}
	count := func() string { return c.sql("SELECT count(), uniqExact(a) FROM default.t") }

	if status, text := insert(bytes.NewReader(block(600_000, 0))); status != 200 {
		t.Fatalf("insert: %d %s", status, text)
	}
	if got := count(); got != "600000\t600000" {
		t.Fatalf("rows %q", got)
	}
	for range 2 {
		if status, text := insert(bytes.NewReader(block(10, 1_000_000)), "insert_deduplication_token", "x"); status != 200 {
			t.Fatalf("insert with token: %d %s", status, text)
		}
	}
	if got := count(); got != "600010\t600010" {
		t.Fatalf("a repeated token was stored again: %q", got)
	}
	for name, body := range map[string]io.Reader{
		"empty":        strings.NewReader(""),
		"cut short":    bytes.NewReader(block(1000, 2_000_000)[:500]),
		"not a block":  strings.NewReader("SELECT 1"),
		"other column": strings.NewReader(strings.Replace(string(block(5, 0)), "\x01a", "\x01b", 1)),
	} {
		if status, text := insert(body); status == 200 {
			t.Errorf("%s: accepted: %s", name, text)
		}
	}
	if status, _, text := c.do(values("query", into, "readonly", "2"), bytes.NewReader(block(5, 0))); status != 403 {
		t.Errorf("insert of a reader: %d %s", status, text)
	}
	// a client that dies in the middle of its body
	conn, err := net.Dial("unix", s.Socket())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /?%s HTTP/1.1\r\nHost: e\r\nTransfer-Encoding: chunked\r\n\r\n", values("query", into).Encode())
	whole := block(1000, 3_000_000)
	fmt.Fprintf(conn, "%x\r\n%s\r\n", len(whole), whole)
	conn.Close()
	if got := count(); got != "600010\t600010" {
		t.Errorf("a refused insert left rows: %q", got)
	}
}

func TestKilledChildComesBack(t *testing.T) {
	s, stop := enginetest.Start(t, t.TempDir())
	c := newClient(t, s.Socket())
	c.sql("CREATE TABLE default.t (a UInt32) ENGINE = MergeTree ORDER BY a SETTINGS fsync_after_insert = 1")
	if status, _, text := c.do(values("query", "INSERT INTO default.t (a) FORMAT Native"), bytes.NewReader(block(5, 0))); status != 200 {
		t.Fatal(text)
	}
	pid := s.State().PID
	enginetest.Kill(t, s)
	waitFor(t, "another child", func() bool { st := s.State(); return st.Ready && st.PID != pid })
	if got := c.sql("SELECT count() FROM default.t"); got != "5" {
		t.Errorf("rows after the kill: %s", got)
	}
	if st := s.State(); st.Restarts != 1 {
		t.Errorf("restarts %d", st.Restarts)
	}
	stop()
	if st := s.State(); st.Ready || st.PID != 0 {
		t.Errorf("after the stop: %+v", st)
	}
}

// waitFor polls: what it waits for happens in another process.
func waitFor(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.After(60 * time.Second)
	for !f() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("no %s in a minute", what)
		}
	}
}

func TestSecondOnTheSameDirectory(t *testing.T) {
	dir := t.TempDir()
	s1, stop1 := enginetest.Start(t, dir)
	s2, err := chengine.New(enginetest.Config(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s2.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	waitFor(t, "refusal", func() bool { return errors.Is(s2.State().Err, chengine.ErrInUse) })
	if msg := s2.State().Err.Error(); !strings.Contains(msg, dir) || !strings.Contains(msg, fmt.Sprint(s1.State().PID)) {
		t.Errorf("the refusal names neither directory nor process: %s", msg)
	}
	stop1() // and the second takes over
	waitFor(t, "take-over", func() bool { return s2.State().Ready })
}

func TestSocketPath(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("d", 100), "engine.sock")
	s, err := chengine.New(chengine.SuperConfig{Exe: "/nonexistent", DataDir: t.TempDir(), Socket: long})
	if err != nil {
		t.Fatal(err)
	}
	st := s.State()
	if len(st.Socket) > 100 || st.Socket != s.Socket() || !strings.Contains(st.Note, "too long") {
		t.Errorf("state %+v", st)
	}
	dir := filepath.Dir(st.Socket)
	t.Cleanup(func() { os.RemoveAll(dir) })
	fi, err := os.Stat(dir)
	if err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("directory of the socket: %v, %v", fi, err)
	}
	again, err := chengine.New(chengine.SuperConfig{Exe: "/nonexistent", DataDir: t.TempDir(), Socket: long})
	if err != nil || again.Socket() != s.Socket() {
		t.Errorf("another process would look elsewhere: %v, %v", again, err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := chengine.New(chengine.SuperConfig{Exe: "/nonexistent", DataDir: t.TempDir(), Socket: long}); err == nil {
		t.Error("a directory that others can read is accepted")
	}
}

func TestFindLib(t *testing.T) {
	dir := t.TempDir()
	lib := filepath.Join(dir, "libchdb.so")
	if err := os.WriteFile(lib, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv(chengine.LibEnv, "")
	if got, err := chengine.FindLib(lib); got != lib || err != nil {
		t.Errorf("explicit: %q, %v", got, err)
	}
	if _, err := chengine.FindLib(dir); !errors.Is(err, chengine.ErrNoLib) {
		t.Errorf("a directory: %v", err)
	}
	t.Setenv(chengine.LibEnv, lib)
	if got, err := chengine.FindLib(""); got != lib || err != nil {
		t.Errorf("environment: %q, %v", got, err)
	}
	t.Setenv(chengine.LibEnv, filepath.Join(dir, "gone"))
	if _, err := chengine.FindLib(""); !errors.Is(err, chengine.ErrNoLib) || !strings.Contains(err.Error(), "fetch-engine.sh") {
		t.Errorf("no advice in %v", err)
	}
}
