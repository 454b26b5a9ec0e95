package pbxsim

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"math/big"
	"net/http"
	"strings"
	"time"
)

// stampFormat has the seven fractional digits of the vendor's platform.
const stampFormat = "2006-01-02T15:04:05.0000000Z07:00"

// stamp writes a time in UTC, stampLocal with the offset of the box's zone: both
// kinds stand side by side in one answer. A time that never was is null.
func stamp(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format(stampFormat)
}

func stampLocal(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.In(time.FixedZone("", 2*3600)).Format(stampFormat)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		panic("pbxsim: encode our own answer: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json; odata.metadata=minimal; odata.streaming=true; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(raw)
}

// writeError answers as the API does to a request it refuses.
func writeError(w http.ResponseWriter, status int, target, code string) {
	message := code
	if target != "" {
		message = target + ":\n" + code
	}
	writeJSON(w, status, map[string]any{"error": map[string]any{
		"code": "", "message": message,
		"details": []any{map[string]any{"code": "", "message": code, "target": target}},
	}})
}

const startPage = `<!doctype html><html><head><title>3CX</title></head><body><div id="app"></div></body></html>`

func writePage(w http.ResponseWriter, status int, page string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, page)
}

func b64(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic("pbxsim: encode our own token: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

func bigInt(b []byte) *big.Int { return new(big.Int).SetBytes(b) }

// silent drops what net/http says of connections that we or the client cut.
func silent() *log.Logger { return log.New(io.Discard, "", 0) }
