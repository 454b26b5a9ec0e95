package chengine

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// library holds the C functions of libchdb. A pointer that C owns is an
// unsafe.Pointer that Go never dereferences, except to copy bytes out.
type library struct {
	connect      func(argc int32, argv unsafe.Pointer) unsafe.Pointer
	closeConn    func(conn unsafe.Pointer)
	queryParams  func(conn unsafe.Pointer, q unsafe.Pointer, qlen uintptr, f unsafe.Pointer, flen uintptr, names, nameLens, values, valueLens unsafe.Pointer, n uintptr) unsafe.Pointer
	streamParams func(conn unsafe.Pointer, q unsafe.Pointer, qlen uintptr, f unsafe.Pointer, flen uintptr, names, nameLens, values, valueLens unsafe.Pointer, n uintptr) unsafe.Pointer
	streamFetch  func(conn, stream unsafe.Pointer) unsafe.Pointer
	streamCancel func(conn, stream unsafe.Pointer)
	insertOpen   func(conn unsafe.Pointer, q unsafe.Pointer, qlen uintptr, f unsafe.Pointer, flen uintptr) unsafe.Pointer
	insertAppend func(stream unsafe.Pointer, p unsafe.Pointer, n uintptr) int32
	insertDone   func(stream unsafe.Pointer) unsafe.Pointer
	insertCancel func(stream unsafe.Pointer)
	insertError  func(stream unsafe.Pointer) string
	insertFree   func(stream unsafe.Pointer)
	resultBuffer func(result unsafe.Pointer) unsafe.Pointer
	resultLength func(result unsafe.Pointer) uintptr
	resultError  func(result unsafe.Pointer) string
	resultFree   func(result unsafe.Pointer)
	classify     func(conn unsafe.Pointer, q unsafe.Pointer, qlen uintptr, db unsafe.Pointer, dblen uintptr, out unsafe.Pointer) int32
}

// openLibrary loads libchdb and keeps its signal handlers out of the way. It may be
// called once in a process: the library cannot be unloaded.
func openLibrary(path string) (*library, error) {
	h, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return nil, fmt.Errorf("load engine %s: %w", path, err)
	}
	l := &library{}
	var setHandlers func(int32)
	for _, f := range []struct {
		name string
		ptr  any
	}{
		{"chdb_set_signal_handlers_enabled", &setHandlers},
		{"chdb_connect", &l.connect},
		{"chdb_close_conn", &l.closeConn},
		{"chdb_query_with_params_n", &l.queryParams},
		{"chdb_stream_query_with_params_n", &l.streamParams},
		{"chdb_stream_fetch_result", &l.streamFetch},
		{"chdb_stream_cancel_query", &l.streamCancel},
		{"chdb_stream_insert_n", &l.insertOpen},
		{"chdb_stream_append", &l.insertAppend},
		{"chdb_stream_done", &l.insertDone},
		{"chdb_stream_cancel_insert", &l.insertCancel},
		{"chdb_stream_insert_error", &l.insertError},
		{"chdb_destroy_insert_stream", &l.insertFree},
		{"chdb_result_buffer", &l.resultBuffer},
		{"chdb_result_length", &l.resultLength},
		{"chdb_result_error", &l.resultError},
		{"chdb_destroy_query_result", &l.resultFree},
		{"chdb_classify_query_n", &l.classify},
	} {
		sym, err := purego.Dlsym(h, f.name)
		if err != nil {
			return nil, fmt.Errorf("engine %s has no function %s: fetch the version that scripts/fetch-engine.sh names", path, f.name)
		}
		purego.RegisterFunc(f.ptr, sym)
	}
	if err := keepSignals(func() { setHandlers(0) }); err != nil {
		return nil, fmt.Errorf("engine %s: %w", path, err)
	}
	return l, nil
}

// sigactionSize is room for glibc's struct sigaction (152 bytes on 64-bit Linux).
const sigactionSize = 256

// keepSignals calls f and puts back every signal handler of this process that f
// changed: switching the library's handlers off resets Go's, too.
func keepSignals(f func()) error {
	sym, err := purego.Dlsym(purego.RTLD_DEFAULT, "sigaction")
	if err != nil {
		return fmt.Errorf("the C library has no sigaction: %w", err)
	}
	var sigaction func(sig int32, act, old unsafe.Pointer) int32
	purego.RegisterFunc(&sigaction, sym)

	const signals = 65
	var saved [signals]*[sigactionSize]byte
	for sig := range int32(signals) {
		buf := new([sigactionSize]byte)
		if sig > 0 && sigaction(sig, nil, unsafe.Pointer(buf)) == 0 {
			saved[sig] = buf
		}
	}
	f()
	for sig, buf := range saved {
		if buf != nil {
			sigaction(int32(sig), unsafe.Pointer(buf), nil) // KILL and STOP refuse, rightly
		}
	}
	return nil
}

// conn is one connection to the engine. It runs one statement at a time and must not
// be used by two goroutines at once.
type conn struct {
	lib    *library
	handle unsafe.Pointer // what connect gave and closeConn takes
	raw    unsafe.Pointer // what the statements take
	session
}

func (l *library) open(dataDir string) (*conn, error) {
	args := [][]byte{[]byte("clickhouse\x00"), []byte("--path=" + dataDir + "\x00")}
	argv := make([]unsafe.Pointer, len(args))
	var pin runtime.Pinner
	defer pin.Unpin()
	for i := range args {
		pin.Pin(&args[i][0])
		argv[i] = unsafe.Pointer(&args[i][0])
	}
	pin.Pin(&argv[0])
	handle := l.connect(int32(len(argv)), unsafe.Pointer(&argv[0]))
	if handle == nil {
		return nil, fmt.Errorf("the engine does not open %s: another process may use it, or the directory is not writable", dataDir)
	}
	c := &conn{lib: l, handle: handle, raw: *(*unsafe.Pointer)(handle)}
	if c.raw == nil {
		return nil, fmt.Errorf("the engine gives no connection to %s", dataDir)
	}
	return c, nil
}

func (c *conn) close() {
	c.lib.closeConn(c.handle)
	c.raw, c.handle = nil, nil
}

// cbytes pins the bytes of s; a nil pointer never reaches C.
func cbytes(pin *runtime.Pinner, s string) unsafe.Pointer {
	b := make([]byte, len(s)+1)
	copy(b, s)
	pin.Pin(&b[0])
	return unsafe.Pointer(&b[0])
}

// param is a bound parameter {name:Type} of a statement.
type param struct{ name, value string }

type cparams struct {
	names, values         []unsafe.Pointer
	nameLens, valueLens   []uintptr
	pn, pnl, pv, pvl      unsafe.Pointer
	statement, format     unsafe.Pointer
	statementLen, formLen uintptr
}

func newCParams(pin *runtime.Pinner, sql, format string, params []param) *cparams {
	p := &cparams{
		statement: cbytes(pin, sql), statementLen: uintptr(len(sql)),
		format: cbytes(pin, format), formLen: uintptr(len(format)),
	}
	for _, x := range params {
		p.names = append(p.names, cbytes(pin, x.name))
		p.nameLens = append(p.nameLens, uintptr(len(x.name)))
		p.values = append(p.values, cbytes(pin, x.value))
		p.valueLens = append(p.valueLens, uintptr(len(x.value)))
	}
	if len(params) > 0 {
		pin.Pin(&p.names[0])
		pin.Pin(&p.nameLens[0])
		pin.Pin(&p.values[0])
		pin.Pin(&p.valueLens[0])
		p.pn, p.pnl = unsafe.Pointer(&p.names[0]), unsafe.Pointer(&p.nameLens[0])
		p.pv, p.pvl = unsafe.Pointer(&p.values[0]), unsafe.Pointer(&p.valueLens[0])
	}
	return p
}

// take hands the bytes of a result to write and frees it.
func (l *library) take(res unsafe.Pointer, write func([]byte) error) error {
	if res == nil {
		return errors.New("the engine gave no result")
	}
	defer l.resultFree(res)
	if text := l.resultError(res); text != "" {
		return newException(text)
	}
	n := l.resultLength(res)
	buf := l.resultBuffer(res)
	if n == 0 || buf == nil || write == nil {
		return nil
	}
	return write(unsafe.Slice((*byte)(buf), int(n)))
}

// query runs a statement whose result is small and hands over all of it.
func (c *conn) query(sql, format string, params []param, write func([]byte) error) error {
	var pin runtime.Pinner
	defer pin.Unpin()
	p := newCParams(&pin, sql, format, params)
	res := c.lib.queryParams(c.raw, p.statement, p.statementLen, p.format, p.formLen, p.pn, p.pnl, p.pv, p.pvl, uintptr(len(params)))
	return c.lib.take(res, write)
}

// stream runs a statement and hands its result over piece by piece; an error of write
// cancels the statement and is returned.
func (c *conn) stream(sql, format string, params []param, write func([]byte) error) error {
	var pin runtime.Pinner
	defer pin.Unpin()
	p := newCParams(&pin, sql, format, params)
	s := c.lib.streamParams(c.raw, p.statement, p.statementLen, p.format, p.formLen, p.pn, p.pnl, p.pv, p.pvl, uintptr(len(params)))
	if s == nil {
		return errors.New("the engine gave no stream")
	}
	defer c.lib.resultFree(s)
	if text := c.lib.resultError(s); text != "" {
		return newException(text)
	}
	for {
		res := c.lib.streamFetch(c.raw, s)
		if res == nil {
			return nil
		}
		got := false
		err := c.lib.take(res, func(b []byte) error { got = true; return write(b) })
		if err != nil {
			var ex *Exception
			if !errors.As(err, &ex) {
				c.lib.streamCancel(c.raw, s)
			}
			return err
		}
		if !got {
			return nil
		}
	}
}

// insert runs "INSERT INTO t (columns)" with Native blocks from next, which returns
// no bytes at the end. The insert is committed when insert returns nil, and not
// otherwise unless the error is of the commit itself.
func (c *conn) insert(sql string, next func() ([]byte, error)) error {
	var pin runtime.Pinner
	defer pin.Unpin()
	p := newCParams(&pin, sql, "Native", nil)
	s := c.lib.insertOpen(c.raw, p.statement, p.statementLen, p.format, p.formLen)
	if s == nil {
		return errors.New("the engine gave no insert stream")
	}
	defer c.lib.insertFree(s)
	if text := c.lib.insertError(s); text != "" {
		c.lib.insertCancel(s)
		return newException(text)
	}
	for {
		b, err := next()
		if err != nil {
			c.lib.insertCancel(s)
			return err
		}
		if len(b) == 0 {
			return c.lib.take(c.lib.insertDone(s), nil)
		}
		pin.Pin(&b[0])
		if c.lib.insertAppend(s, unsafe.Pointer(&b[0]), uintptr(len(b))) != 0 {
			text := c.lib.insertError(s)
			if text == "" {
				// the text of a parse error comes with the end of the stream
				if err := c.lib.take(c.lib.insertDone(s), nil); err != nil {
					return err
				}
				text = "the engine refused the data without saying why"
			} else {
				c.lib.insertCancel(s)
			}
			return newException(text)
		}
	}
}

// classify asks the engine what kind of statement sql is.
func (c *conn) classify(sql, database string) (statements, class uint32, err error) {
	var pin runtime.Pinner
	defer pin.Unpin()
	var out struct{ size, statements, flags, class uint32 }
	out.size = uint32(unsafe.Sizeof(out))
	q, db := cbytes(&pin, sql), cbytes(&pin, database)
	if st := c.lib.classify(c.raw, q, uintptr(len(sql)), db, uintptr(len(database)), unsafe.Pointer(&out)); st != 0 {
		return 0, classUnknown, fmt.Errorf("the engine cannot classify the statement (state %d)", st)
	}
	return out.statements, out.class, nil
}
