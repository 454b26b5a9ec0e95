package pbxsim

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Faults of the box as a whole.
const (
	FaultNone        = "none"
	FaultHang        = "hang"        // no answer
	FaultGateway     = "502"         // the web server without the services behind it
	FaultHTML        = "html"        // a web page with status 200
	FaultHuge        = "huge"        // an answer without end
	FaultBroken      = "broken"      // JSON cut short
	FaultUnreachable = "unreachable" // connections are closed
)

// Action is something that happens to the box.
type Action struct {
	Name   string `toml:"action" json:"action"`
	Target string `toml:"target" json:"target"`
	Value  string `toml:"value" json:"value"`
}

// act is one kind of action. It holds the lock of the box.
type act func(s *Sim, a Action, now time.Time) error

// actions by name.
func actions() map[string]act {
	return map[string]act{
		"trunk_drop":    func(s *Sim, a Action, now time.Time) error { return s.box.setTrunk(a.Target, false, now) },
		"trunk_restore": func(s *Sim, a Action, now time.Time) error { return s.box.setTrunk(a.Target, true, now) },
		"trunk_remove":  func(s *Sim, a Action, _ time.Time) error { return s.box.removeTrunk(a.Target) },
		"service_stop":  func(s *Sim, a Action, now time.Time) error { return s.box.setService(a.Target, "Stopped", now) },
		"service_start": func(s *Sim, a Action, now time.Time) error { return s.box.setService(a.Target, "Running", now) },
		"service_status": func(s *Sim, a Action, now time.Time) error {
			return s.box.setService(a.Target, a.Value, now)
		},
		"sbc_drop":    func(s *Sim, a Action, now time.Time) error { return s.box.setSBC(a.Target, false, now) },
		"sbc_restore": func(s *Sim, a Action, now time.Time) error { return s.box.setSBC(a.Target, true, now) },
		"calls":       func(s *Sim, a Action, now time.Time) error { return s.box.pin(a.Value, now) },
		"backup_fail": func(s *Sim, _ Action, now time.Time) error {
			s.box.backupFail = true
			s.box.backupNow(now)
			return nil
		},
		"backup_ok": func(s *Sim, _ Action, now time.Time) error {
			s.box.backupFail = false
			s.box.backupNow(now)
			return nil
		},
		"backup_age":   func(s *Sim, a Action, now time.Time) error { return s.box.ageBackups(a.Value, now) },
		"unreachable":  func(s *Sim, _ Action, _ time.Time) error { return s.setFault(FaultUnreachable) },
		"reachable":    func(s *Sim, _ Action, _ time.Time) error { return s.setFault(FaultNone) },
		"fault":        func(s *Sim, a Action, _ time.Time) error { return s.setFault(a.Value) },
		"auth_fail":    func(s *Sim, _ Action, _ time.Time) error { s.auth.refuse(true); return nil },
		"auth_ok":      func(s *Sim, _ Action, _ time.Time) error { s.auth.refuse(false); return nil },
		"version":      func(s *Sim, a Action, now time.Time) error { return s.box.update(a.Value, now) },
		"events_purge": func(s *Sim, _ Action, _ time.Time) error { s.box.events, s.box.lastEvent = nil, 0; return nil },
		"events_add":   func(s *Sim, a Action, now time.Time) error { return s.box.addEvents(a.Value, now) },
	}
}

// Do makes a happen now.
func (s *Sim) Do(a Action) error {
	do, ok := actions()[a.Name]
	if !ok {
		return fmt.Errorf("action %q is unknown", a.Name)
	}
	s.mu.Lock()
	err := do(s, a, time.Now())
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w", a.Name, err)
	}
	s.opt.Log.Info().Str("reason", a.Name+" "+a.Target+" "+a.Value).Msg("the simulated PBX changes")
	return nil
}

func (s *Sim) setFault(mode string) error {
	switch mode {
	case FaultNone, FaultHang, FaultGateway, FaultHTML, FaultHuge, FaultBroken, FaultUnreachable:
		s.fault = mode
		return nil
	}
	return fmt.Errorf("fault %q is unknown", mode)
}

func (b *box) setTrunk(number string, online bool, now time.Time) error {
	found := false
	for _, t := range b.trunks {
		if t.number != number && number != "*" {
			continue
		}
		found = true
		if t.online == online {
			continue
		}
		t.online, t.changed = online, now
		word, severity := "Registered", "Info"
		if !online {
			word, severity = "Failed", "Error"
		}
		b.log(now, 4100, severity, "3CX PhoneSystem 01 SIP Server",
			"Trunk "+t.name+" has changed status to "+word, t.name, word)
	}
	if !found {
		return fmt.Errorf("no trunk %q", number)
	}
	return nil
}

func (b *box) removeTrunk(number string) error {
	i := slices.IndexFunc(b.trunks, func(t *trunk) bool { return t.number == number })
	if i < 0 {
		return fmt.Errorf("no trunk %q", number)
	}
	b.trunks = slices.Delete(b.trunks, i, i+1)
	return nil
}

// serviceWords are the vendor's words for the state of a service.
var serviceWords = []string{"Stopped", "StartPending", "StopPending", "Running", "ContinuePending", "PausePending", "Paused"}

func (b *box) setService(name, status string, now time.Time) error {
	if !slices.Contains(serviceWords, status) {
		return fmt.Errorf("status %q is none of %v", status, serviceWords)
	}
	for _, v := range b.services {
		if v.name != name {
			continue
		}
		if v.status != status {
			v.status = status
			if status == "Running" {
				b.log(now, 4097, "Info", v.title, "Service started", v.title)
			} else {
				b.log(now, 4098, "Warning", v.title, "Service told to stop", v.title)
			}
		}
		return nil
	}
	return fmt.Errorf("no service %q", name)
}

func (b *box) setSBC(key string, up bool, now time.Time) error {
	for _, l := range b.sbcs {
		if l.key != key {
			continue
		}
		if l.up != up {
			l.up, l.since = up, now
			word, severity := "Up", "Info"
			if !up {
				word, severity = "Down", "Error"
			}
			b.log(now, 4102, severity, "3CX PhoneSystem 01 SIP Server", "SBC "+l.name+" is "+word, l.name, word)
		}
		return nil
	}
	return fmt.Errorf("no SBC %q", key)
}

// pin holds the number of calls; "" or "walk" lets them come and go again.
func (b *box) pin(value string, now time.Time) error {
	if value == "" || value == "walk" {
		b.pinned = -1
		return nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 || n > 1000 {
		return fmt.Errorf("%q is not a number of calls from 0 to 1000", value)
	}
	b.pinned = n
	b.step(now)
	return nil
}

// ageBackups makes the newest backup as old as value says.
func (b *box) ageBackups(value string, now time.Time) error {
	age, err := time.ParseDuration(value)
	if err != nil || age < 0 {
		return fmt.Errorf("%q is not an age such as 72h", value)
	}
	if len(b.backups) == 0 {
		b.addBackup(now)
	}
	shift := b.lastBackup().Sub(now.Add(-age))
	for i := range b.backups {
		b.backups[i].at = b.backups[i].at.Add(-shift)
	}
	return nil
}

func (b *box) update(version string, now time.Time) error {
	if version == "" {
		return fmt.Errorf("no version given")
	}
	b.version = version
	b.log(now, 10009, "Info", "3CX Management Console", "Update installed", version)
	return nil
}

func (b *box) addEvents(value string, now time.Time) error {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > 5000 {
		return fmt.Errorf("%q is not a number of events from 1 to 5000", value)
	}
	for range n {
		b.noise(now)
	}
	return nil
}
