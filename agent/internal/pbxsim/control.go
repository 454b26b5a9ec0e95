package pbxsim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// controlBase is where tests and demonstrations steer the box.
const controlBase = "/sim/"

const maxControlBody = 64 << 10

// order is the body of a control request; each path reads its own fields.
type order struct {
	Online    *bool  `json:"online"`    // trunks
	Connected *bool  `json:"connected"` // sbcs
	Status    string `json:"status"`    // services
	Count     string `json:"count"`     // calls, events
	Age       string `json:"age"`       // backup
	OK        *bool  `json:"ok"`        // backup, auth
	Mode      string `json:"mode"`      // fault
	Version   string `json:"version"`   // version
	Purge     bool   `json:"purge"`     // events
}

// UnmarshalJSON accepts a count as number or text.
func (o *order) UnmarshalJSON(raw []byte) error {
	type plain order
	aux := struct {
		*plain
		Count json.RawMessage `json:"count"`
	}{plain: (*plain)(o)}
	if err := json.Unmarshal(raw, &aux); err != nil {
		return err
	}
	o.Count = strings.Trim(string(aux.Count), `"`)
	return nil
}

func (s *Sim) serveControl(w http.ResponseWriter, r *http.Request) {
	if !isLoopback(r.RemoteAddr) {
		http.Error(w, "the control API answers this machine only", http.StatusForbidden)
		return
	}
	path := strings.TrimPrefix(r.URL.Path, controlBase)
	if r.Method == http.MethodGet {
		s.serveControlGet(w, path)
		return
	}
	var o order
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxControlBody)).Decode(&o)
	if err != nil && !errors.Is(err, io.EOF) {
		http.Error(w, "read the body: "+err.Error(), http.StatusBadRequest)
		return
	}
	kind, target, _ := strings.Cut(path, "/")
	a, err := o.action(r.Method, kind, target)
	if err == nil {
		err = s.Do(a)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"done": a})
}

func (s *Sim) serveControlGet(w http.ResponseWriter, path string) {
	switch path {
	case "requests":
		s.auth.mu.Lock()
		signIns := s.auth.signIns
		s.auth.mu.Unlock()
		violations := s.Violations()
		if violations == nil {
			violations = []string{}
		}
		writeJSON(w, http.StatusOK, map[string]any{
			"requests": s.Requests(), "violations": violations, "sign_ins": signIns})
	case "state":
		s.mu.Lock()
		defer s.mu.Unlock()
		trunks, services, sbcs := map[string]bool{}, map[string]string{}, map[string]bool{}
		for _, t := range s.box.trunks {
			trunks[t.number] = t.online
		}
		for _, v := range s.box.services {
			services[v.name] = v.status
		}
		for _, l := range s.box.sbcs {
			sbcs[l.key] = l.up
		}
		writeJSON(w, http.StatusOK, map[string]any{
			"trunks": trunks, "services": services, "sbcs": sbcs, "calls": len(s.box.calls),
			"events": len(s.box.events), "last_backup": stamp(s.box.lastBackup()), "fault": s.fault, "version": s.box.version,
		})
	default:
		http.Error(w, "there are /sim/requests and /sim/state", http.StatusNotFound)
	}
}

// action translates a control request into what happens.
func (o order) action(method, kind, target string) (Action, error) {
	either := func(on *bool, yes, no, field string) (Action, error) {
		if on == nil {
			return Action{}, fmt.Errorf("%s: give {%q: true} or false", kind, field)
		}
		if *on {
			return Action{Name: yes, Target: target}, nil
		}
		return Action{Name: no, Target: target}, nil
	}
	switch {
	case kind == "trunks" && method == http.MethodDelete:
		return Action{Name: "trunk_remove", Target: target}, nil
	case method != http.MethodPost:
		return Action{}, fmt.Errorf("method %s: use POST", method)
	case kind == "trunks":
		return either(o.Online, "trunk_restore", "trunk_drop", "online")
	case kind == "sbcs":
		return either(o.Connected, "sbc_restore", "sbc_drop", "connected")
	case kind == "services":
		return Action{Name: "service_status", Target: target, Value: o.Status}, nil
	case kind == "calls":
		return Action{Name: "calls", Value: o.Count}, nil
	case kind == "backup" && o.Age != "":
		return Action{Name: "backup_age", Value: o.Age}, nil
	case kind == "backup":
		return either(o.OK, "backup_ok", "backup_fail", "ok")
	case kind == "auth":
		return either(o.OK, "auth_ok", "auth_fail", "ok")
	case kind == "fault":
		return Action{Name: "fault", Value: o.Mode}, nil
	case kind == "version":
		return Action{Name: "version", Value: o.Version}, nil
	case kind == "events" && o.Purge:
		return Action{Name: "events_purge"}, nil
	case kind == "events":
		return Action{Name: "events_add", Value: o.Count}, nil
	}
	return Action{}, fmt.Errorf("nothing is steered by %s%s", controlBase, kind)
}
