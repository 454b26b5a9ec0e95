package chengine

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// Limits of what a request may bring.
const (
	maxStatementBytes = 1 << 20   // a statement; ClickHouse's own default is a quarter of it
	maxBodyBytes      = 256 << 20 // the data of an insert; a full batch is below 64 MB
	maxParams         = 256
	maxSettingBytes   = 4096
)

// ClickHouse's numbers for what this package itself refuses.
const (
	codeNotImplemented = 48
	codeSyntax         = 62
	codeUnknownSetting = 115
	codeReadOnly       = 164
	codeTooLarge       = 62
	codeNoData         = 108
)

// request is one request in the terms of the engine.
type request struct {
	sql      string
	insert   string // "INSERT INTO t (columns)" when the body is Native data; else empty
	database string
	format   string
	readOnly bool
	settings map[string]string
	params   []param
	revision uint64 // of the client's protocol; 0 when it names none
}

// settable lists the settings that a request may make. Everything else is refused:
// some reach files and other hosts, or weaken what an acknowledgement promises.
var settable = map[string]bool{
	"additional_table_filters": true, "allow_experimental_analyzer": true,
	"alter_sync": true, "async_insert": true, "cancel_http_readonly_queries_on_client_close": true,
	"date_time_input_format": true, "date_time_output_format": true,
	"deduplicate_blocks_in_dependent_materialized_views": true, "deduplicate_insert": true,
	"do_not_merge_across_partitions_select_final": true, "final": true,
	"group_by_overflow_mode": true, "http_write_exception_in_output_format": true,
	"insert_deduplicate": true, "insert_deduplication_token": true, "join_use_nulls": true,
	"log_comment": true, "log_queries": true, "max_block_size": true, "max_bytes_to_read": true,
	"max_columns_to_read": true, "max_execution_time": true, "max_insert_block_size": true, "max_memory_usage": true,
	"max_partitions_per_insert_block": true, "max_query_size": true, "max_result_bytes": true, "max_result_rows": true,
	"max_rows_to_group_by": true, "max_rows_to_read": true, "max_threads": true,
	"min_insert_block_size_bytes": true, "min_insert_block_size_rows": true, "mutations_sync": true,
	"optimize_move_to_prewhere_if_final": true, "output_format_json_quote_64bit_integers": true,
	"output_format_json_quote_denormals": true, "output_format_pretty_max_rows": true,
	"read_overflow_mode": true, "result_overflow_mode": true, "session_timezone": true,
	"throw_on_max_partitions_per_insert_block": true, "timeout_overflow_mode": true,
	"use_skip_indexes_if_final": true, "wait_for_async_insert": true,
}

// spoken are parameters of the interface itself that need nothing here.
var spoken = map[string]bool{
	"query": true, "database": true, "default_format": true, "client_protocol_version": true,
	"query_id": true, "quota_key": true, "wait_end_of_query": true, "buffer_size": true,
	"user": true, "send_progress_in_http_headers": true, "readonly": true, "enable_http_compression": true,
}

// defaults hold where a request says nothing.
func defaults() map[string]string {
	return map[string]string{
		"async_insert":       "0", // an answer must mean: stored
		"max_execution_time": "60",
		"max_memory_usage":   "2000000000",
		"log_queries":        "0",
	}
}

func bad(code int, format string, a ...any) error {
	return &Exception{Code: code, Text: fmt.Sprintf("Code: %d. ", code) + fmt.Sprintf(format, a...)}
}

// parseRequest reads everything but the data of an insert, which stays in the body.
func parseRequest(r *http.Request) (*request, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, bad(codeSyntax, "the address cannot be read: %v", err)
	}
	req := &request{settings: defaults(), format: q.Get("default_format"), database: q.Get("database")}
	if req.format == "" {
		req.format = r.Header.Get("X-ClickHouse-Format")
	}
	if req.format == "" {
		req.format = "TabSeparated"
	}
	if err := req.takeURL(q); err != nil {
		return nil, err
	}
	if r.Header.Get("Content-Encoding") != "" || q.Get("compress") == "1" || q.Get("decompress") == "1" {
		return nil, bad(codeNotImplemented, "this interface does not compress: it is on the same machine")
	}
	req.sql = q.Get("query")
	if r.Method == http.MethodPost && req.takeInsert() {
		return req, nil
	}
	return req, req.takeBody(r)
}

func (req *request) takeURL(q url.Values) error {
	for k, vs := range q {
		v := vs[len(vs)-1]
		name, isParam := strings.CutPrefix(k, "param_")
		switch {
		case isParam:
			if len(req.params) >= maxParams {
				return bad(codeTooLarge, "more than %d parameters", maxParams)
			}
			req.params = append(req.params, param{name, v})
		case settable[k]:
			if len(v) > maxSettingBytes {
				return bad(codeTooLarge, "setting %s is longer than %d bytes", k, maxSettingBytes)
			}
			req.settings[k] = v
		case k == "compress", k == "decompress":
		case !spoken[k]:
			return bad(codeUnknownSetting, "setting %q is not one that a request may make here", k)
		}
	}
	req.readOnly = q.Get("readonly") != "" && q.Get("readonly") != "0"
	if v := q.Get("client_protocol_version"); v != "" {
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil {
			return bad(codeSyntax, "client_protocol_version %q is not a number", v)
		}
		req.revision = n
	}
	return nil
}

var (
	nativeInsert = regexp.MustCompile(`(?is)^\s*(INSERT\s+INTO\s+.*?)\s+FORMAT\s+Native\s*;?\s*$`)
	intoFunction = regexp.MustCompile(`(?i)\bFUNCTION\b`)
)

// takeInsert recognises an insert whose rows are the body.
func (req *request) takeInsert() bool {
	m := nativeInsert.FindStringSubmatch(req.sql)
	if m == nil || len(req.sql) > maxStatementBytes || intoFunction.MatchString(m[1]) {
		return false
	}
	req.insert = m[1]
	return true
}

func (req *request) takeBody(r *http.Request) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxStatementBytes+1))
	if err != nil {
		return bad(codeSyntax, "the request ended early: %v", err)
	}
	if len(body) > 0 && req.sql != "" {
		req.sql += "\n"
	}
	req.sql += string(body)
	switch {
	case len(req.sql) > maxStatementBytes:
		return bad(codeTooLarge, "the statement is longer than %d bytes; data goes in as INSERT … FORMAT Native with the statement in the address", maxStatementBytes)
	case strings.TrimSpace(req.sql) == "":
		return bad(codeSyntax, "the request holds no statement")
	case nativeInsert.MatchString(req.sql):
		return bad(codeNoData, "INSERT … FORMAT Native belongs into the address, its data into the body")
	}
	return nil
}

var (
	comments   = `(?:\s|/\*.*?\*/|--[^\n]*(?:\n|$)|\()*`
	selects    = regexp.MustCompile(`(?is)^` + comments + `(SELECT|WITH)\b`)
	ownFormat  = regexp.MustCompile(`(?i)\bFORMAT\s+([A-Za-z0-9]+)`)
	outside    = regexp.MustCompile("(?is)\\b(file|fileCluster|url|urlCluster|s3|s3Cluster|gcs|oss|cosn|azureBlobStorage\\w*|hdfs\\w*|remote|remoteSecure|cluster|clusterAllReplicas|mysql|postgresql|sqlite|mongodb|redis|jdbc|odbc|executable|iceberg\\w*|deltaLake\\w*|hudi\\w*|paimon\\w*|python|ytsaurus|arrowFlight|input|catboostEvaluate)[`\"]?" + `(?:\s|/\*.*?\*/|--[^\n]*\n)*\(`)
	overlay    = regexp.MustCompile("(?is)\\bdefault[`\"]?\\s*\\.")
	streamable = map[string]bool{"native": true, "tabseparated": true, "tsv": true, "csv": true, "jsoneachrow": true, "rowbinary": true}
)

// streams reports whether the answer can be taken from the engine piece by piece: a
// SELECT in a format without head and foot.
func (req *request) streams() bool {
	return selects.MatchString(req.sql) && !ownFormat.MatchString(req.sql) && streamable[strings.ToLower(req.format)]
}

// check refuses what must not reach the engine. The engine has no users: this and
// the owner-only socket are the whole of access control.
func (req *request) check(c *conn) error {
	n, class, err := c.classify(req.sql, c.database)
	switch {
	case err != nil:
		return err
	case n > 1:
		return bad(codeSyntax, "one statement at a time, not %d", n)
	case class == classControl:
		return bad(codeNotImplemented, "SET, USE, SYSTEM and KILL do not work here: settings and database belong into the address of each request")
	case class >= classUnknown:
		// the engine's own words say best where the mistake is
		if err := c.query("EXPLAIN AST "+req.sql, "Null", nil, nil); err != nil {
			return err
		}
		return bad(codeSyntax, "the engine does not know this kind of statement")
	case req.readOnly && class != classReadOnly:
		return bad(codeReadOnly, "only statements that read are allowed here")
	case req.readOnly && (outside.MatchString(req.sql) || overlay.MatchString(req.sql)):
		return bad(codeReadOnly, "reading from outside the database (files, addresses, the database \"default\") is not allowed here")
	}
	return nil
}
