package pbxsim

import (
	"errors"
	"net/http"
	"strings"
)

const (
	apiBase   = "/xapi/v1"
	tokenPath = "/connect/token"
	loginPath = "/webclient/api/Login/GetAccessToken"
)

// ServeHTTP answers as the box would in its present state.
func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, controlBase) {
		s.serveControl(w, r)
		return
	}
	violation := forbidden(r.Method, r.URL.Path)
	s.count(r.Method, r.URL.Path, violation)
	if violation != "" {
		s.opt.Log.Error().Str("path", r.URL.Path).Str("reason", violation).Msg("a request that must never be made")
		writeError(w, http.StatusForbidden, r.URL.Path, "WARNINGS.XAPI.FORBIDDEN")
		return
	}
	if s.auth.blacklisted(r.RemoteAddr) {
		panic(http.ErrAbortHandler)
	}
	if s.serveFault(w, r) {
		return
	}
	switch {
	case r.URL.Path == tokenPath && r.Method == http.MethodPost:
		s.auth.serveToken(w, r)
	case r.URL.Path == loginPath && r.Method == http.MethodPost:
		s.auth.serveLogin(w, r)
	case strings.HasPrefix(r.URL.Path, apiBase):
		s.serveAPI(w, r)
	default:
		writePage(w, http.StatusOK, startPage)
	}
}

// serveFault answers in the manner of the present fault, if there is one.
func (s *Sim) serveFault(w http.ResponseWriter, r *http.Request) bool {
	switch s.currentFault() {
	case FaultUnreachable:
		panic(http.ErrAbortHandler)
	case FaultHang:
		<-r.Context().Done()
		return true
	case FaultGateway:
		writePage(w, http.StatusBadGateway, "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>")
		return true
	case FaultHTML:
		writePage(w, http.StatusOK, startPage)
		return true
	case FaultBroken:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"@odata.context":"https://pbx/xapi/v1/$metadata#X","FQDN":"pbx.exa`))
		return true
	case FaultHuge:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"value":[`))
		filler := []byte(strings.Repeat(`{"Number":"1"},`, 4096))
		for range 1024 { // 60 MB
			if _, err := w.Write(filler); err != nil || r.Context().Err() != nil {
				break
			}
		}
		return true
	}
	return false
}

func (s *Sim) serveAPI(w http.ResponseWriter, r *http.Request) {
	if status := s.auth.judge(r); status != 0 {
		w.WriteHeader(status)
		return
	}
	if r.Method != http.MethodGet {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("X-3CX-Version", s.box.version)
	path := strings.TrimPrefix(r.URL.Path, apiBase)
	if path == "/Services" {
		switch {
		case s.opt.NoServices:
			path = ""
		case s.opt.ForbidServices:
			writeError(w, http.StatusForbidden, "", "WARNINGS.XAPI.FORBIDDEN")
			return
		}
	}
	if one, ok := s.singleton(path); ok {
		s.writeOne(w, r, path, one)
		return
	}
	rows, ok := s.collection(path)
	if !ok {
		writeError(w, http.StatusNotFound, "", "WARNINGS.XAPI.NOT_FOUND")
		return
	}
	s.writeRows(w, r, path, rows)
}

func (s *Sim) context(path string) string {
	return "https://" + s.box.fqdn + apiBase + "/$metadata#" + strings.TrimPrefix(path, "/")
}

func (s *Sim) writeOne(w http.ResponseWriter, r *http.Request, path string, one row) {
	if s.opt.NoID {
		delete(one, "Id")
	}
	rows, err := s.opt.selectFields([]row{one}, r.URL.Query())
	if err != nil {
		writeOptionError(w, err)
		return
	}
	out := s.drift(rows[0])
	out["@odata.context"] = s.context(path)
	writeJSON(w, http.StatusOK, out)
}

func (s *Sim) writeRows(w http.ResponseWriter, r *http.Request, path string, rows []row) {
	rows, count, err := s.opt.query(rows, r.URL.Query())
	if err != nil {
		writeOptionError(w, err)
		return
	}
	out := row{"@odata.context": s.context(path)}
	if count >= 0 {
		out["@odata.count"] = count
	}
	for i := range rows {
		rows[i] = s.drift(rows[i])
	}
	if !s.opt.NoValue {
		out["value"] = rows
	}
	writeJSON(w, http.StatusOK, out)
}

func writeOptionError(w http.ResponseWriter, err error) {
	var oe *optionError
	if errors.As(err, &oe) {
		writeError(w, http.StatusBadRequest, oe.target, oe.code)
		return
	}
	w.WriteHeader(http.StatusInternalServerError)
}

// drift makes an answer like that of a build we never saw: fields missing, null, of
// another kind, and new.
func (s *Sim) drift(in row) row {
	if !s.opt.Drift {
		return in
	}
	out := row{"SomethingNew": row{"Deep": []any{1, "two", nil}}, "AnotherPassword": baitSecret}
	for k, v := range in {
		switch s.box.rng.IntN(6) {
		case 0: // absent
			if k != "Number" && k != "Name" && k != "Id" && k != "Version" {
				continue
			}
			out[k] = v
		case 1:
			if k == "Number" || k == "Name" || k == "Id" || k == "Version" {
				out[k] = v
				continue
			}
			out[k] = nil
		case 2:
			switch n := v.(type) {
			case int, int64:
				out[k] = "NaN"
			default:
				out[k] = n
			}
		default:
			out[k] = v
		}
	}
	return out
}
