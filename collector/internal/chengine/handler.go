package chengine

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// handler answers ClickHouse's HTTP interface.
type handler struct {
	queries *pool
	inserts *pool // apart, so that long reads never hold up the rows of the agents
	log     zerolog.Logger
	version string
	zone    string
}

// hello is the first statement of clickhouse-go. It reads this one answer at its own
// protocol revision and all later ones at the revision that the answer names.
const hello = "SELECT displayName(), version(), revision(), timezone()"

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	switch {
	case r.URL.Path == "/ping":
		io.WriteString(w, "Ok.\n")
		return
	case r.URL.Path != "/":
		http.NotFound(w, r)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		w.Header().Set("Allow", "GET, POST")
		http.Error(w, "GET or POST", http.StatusMethodNotAllowed)
		return
	}
	req, err := parseRequest(r)
	out := &answer{w: w}
	if err == nil {
		switch {
		case strings.TrimSpace(req.sql) == hello:
			h.hello(w, req.revision)
			return
		case req.insert != "":
			err = h.insert(r, req)
		default:
			if r.Method == http.MethodGet {
				req.readOnly = true
			}
			err = h.query(r, req, out)
		}
	}
	if err != nil {
		h.log.Debug().Err(err).Int64("dur_ms", time.Since(start).Milliseconds()).Msg("statement refused")
		out.fail(err)
		drain(r.Body)
	}
}

// drain reads what the client still sends, so that it gets round to the answer.
func drain(body io.Reader) { io.Copy(io.Discard, io.LimitReader(body, maxBodyBytes)) }

func (h *handler) query(r *http.Request, req *request, out *answer) error {
	c, err := h.queries.take(r.Context())
	if err != nil {
		return err
	}
	broken := false
	defer func() { h.queries.give(c, broken) }()
	if err := c.prepare(req.settings, req.database); err != nil {
		broken = errors.Is(err, errSession)
		return err
	}
	if err := req.check(c); err != nil {
		return err
	}
	out.format = req.format
	write := func(b []byte) error {
		if err := r.Context().Err(); err != nil {
			return err
		}
		_, err := out.Write(b)
		return err
	}
	if req.streams() {
		err := c.stream(req.sql, req.format, req.params, write)
		if !out.begun && notStreamable(err) {
			err = c.query(req.sql, req.format, req.params, write)
		}
		broken = isBroken(err)
		return err
	}
	err = c.query(req.sql, req.format, req.params, write)
	broken = isBroken(err)
	return err
}

const codeBadArguments = 36

func notStreamable(err error) bool {
	var ex *Exception
	return errors.As(err, &ex) && ex.Code == codeBadArguments && strings.Contains(ex.Text, "Streaming query is not supported")
}

// isBroken: an exception leaves the connection usable, anything else may not.
func isBroken(err error) bool {
	var ex *Exception
	return err != nil && !errors.As(err, &ex)
}

// insertChunk is how much of an insert's body goes to the engine at once.
const insertChunk = 1 << 20

func (h *handler) insert(r *http.Request, req *request) error {
	if req.readOnly {
		return bad(codeReadOnly, "only statements that read are allowed here")
	}
	c, err := h.inserts.take(r.Context())
	if err != nil {
		return err
	}
	broken := false
	defer func() { h.inserts.give(c, broken) }()
	req.settings["max_execution_time"] = "0"               // the client's patience is the limit
	req.settings["input_format_skip_unknown_fields"] = "0" // a wrong column is a mistake, not a default
	if err := c.prepare(req.settings, req.database); err != nil {
		broken = errors.Is(err, errSession)
		return err
	}
	body := &chunks{body: http.MaxBytesReader(nil, r.Body, maxBodyBytes), buf: make([]byte, insertChunk)}
	err = c.insert(req.insert, body.next)
	broken = isBroken(err)
	return err
}

// chunks cuts the body of an insert. Only a clean end is an end: a body that breaks
// off must never be committed.
type chunks struct {
	body  io.Reader
	buf   []byte
	total int
	ended bool
}

func (c *chunks) next() ([]byte, error) {
	n := 0
	for n < len(c.buf) && !c.ended {
		m, err := c.body.Read(c.buf[n:])
		n += m
		switch {
		case err == io.EOF:
			c.ended = true
		case err != nil:
			return nil, fmt.Errorf("the data of the insert ended early: %w", err)
		}
	}
	if c.total += n; c.total == 0 {
		// a client that fails to encode its block sends an empty body
		return nil, bad(codeNoData, "the insert holds no data")
	}
	return c.buf[:n], nil
}

// hello answers the first statement of a client: a block of four columns and one row.
func (h *handler) hello(w http.ResponseWriter, revision uint64) {
	const (
		withBlockInfo     = 1
		withSerialization = 54454 // a byte for each column from here on
	)
	var b []byte
	if revision >= withBlockInfo {
		b = append(b, 1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0)
	}
	b = append(b, 4, 1)
	column := func(name, typ string, value []byte) {
		b = appendString(appendString(b, name), typ)
		if revision >= withSerialization {
			b = append(b, 0)
		}
		b = append(b, value...)
	}
	column("displayName()", "String", appendString(nil, "embedded"))
	column("version()", "String", appendString(nil, h.version))
	column("revision()", "UInt32", []byte{0, 0, 0, 0})
	column("timezone()", "String", appendString(nil, h.zone))
	w.Header().Set("X-ClickHouse-Format", "Native")
	w.Write(b)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// answer writes a result. The head of the response waits for the first bytes, so
// that an early error still gets its status; a late one goes into the body in the
// frame that ClickHouse uses for it.
type answer struct {
	w      http.ResponseWriter
	format string
	tag    string
	begun  bool
}

func (a *answer) Write(b []byte) (int, error) {
	if !a.begun {
		a.begun = true
		var t [8]byte
		rand.Read(t[:])
		a.tag = hex.EncodeToString(t[:])
		a.w.Header().Set("X-ClickHouse-Format", a.format)
		a.w.Header().Set("X-ClickHouse-Exception-Tag", a.tag)
		a.w.Header().Set("Content-Type", contentType(a.format))
	}
	return a.w.Write(b)
}

const exceptionMark = "\r\n__exception__\r\n"

func (a *answer) fail(err error) {
	code, status := 0, http.StatusInternalServerError
	var ex *Exception
	if errors.As(err, &ex) {
		code, status = ex.Code, statusOf(ex.Code)
	}
	text := err.Error()
	if !strings.HasPrefix(text, "Code: ") {
		text = "Code: " + strconv.Itoa(max(code, 1)) + ". " + text
	}
	if a.begun {
		fmt.Fprintf(a.w, "%s%s\r\n%s\n%d %s%s", exceptionMark, a.tag, text, len(text)+1, a.tag, exceptionMark)
		return
	}
	h := a.w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if code > 0 {
		h.Set("X-ClickHouse-Exception-Code", strconv.Itoa(code))
	}
	a.w.WriteHeader(status)
	io.WriteString(a.w, text+"\n")
}

// statusOf sorts ClickHouse's codes as its server does: the client's mistakes below
// 500, the server's troubles above.
func statusOf(code int) int {
	switch code {
	case 60, 81, 218: // unknown table, unknown database, table dropped
		return http.StatusNotFound
	case codeReadOnly, 291, 497:
		return http.StatusForbidden
	case codeNotImplemented:
		return http.StatusNotImplemented
	case 6, 26, 27, 38, 41, 42, 43, 44, 46, 47, 50, 53, 62, 63, 70, 72, 108, 115, 349, 386:
		return http.StatusBadRequest
	case 159: // out of time
		return http.StatusRequestTimeout
	case 202, 241, 252: // too many queries, memory, too many parts
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func contentType(format string) string {
	switch f := strings.ToLower(format); {
	case strings.HasPrefix(f, "csv"):
		return "text/csv; charset=utf-8"
	case strings.HasPrefix(f, "json"):
		return "application/json; charset=utf-8"
	case f == "native" || strings.HasPrefix(f, "rowbinary"):
		return "application/octet-stream"
	}
	return "text/plain; charset=utf-8"
}
