package alert

import (
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"sidetone/shared/telemetry"
)

// Observation is one fact about one subject at one instant.
type Observation struct {
	Source  Source
	DataSet DataSet
	Subject Subject
	// At is the instant on the collector's clock. Zero means "now": the newest instant
	// that the engine was told.
	At time.Time
	// Observed is the instant on the agent's clock. It only orders observations.
	Observed telemetry.UnixMS
	// Late marks data that is too old to judge the present by.
	Late bool
	// Removed says that the subject does not exist any more; Fields are then empty.
	Removed bool
	Fields  []Field
}

// LateAfter is the age from which on data only corrects history.
const LateAfter = 60 * time.Second

// Removed is the state that a StateChange names when a subject was taken away.
const Removed = "removed"

// Bytes of outside text that are kept.
const (
	maxName = 120
	maxText = 300
)

// linearTargets is up to how many targets a search without an index is cheaper.
const linearTargets = 32

// FromSet maps the rows of a set to observations. The newest row is taken as observed
// at receivedAt and the others as much earlier as the agent's clock says, so that a
// wrong clock at a site shifts nothing.
func FromSet(src Source, set *telemetry.Set, receivedAt time.Time, late bool) []Observation {
	n := len(set.ProbeWindows) + len(set.PBXStatuses) + len(set.Trunks) + len(set.Services) + len(set.Backups)
	m := mapper{src: src, late: late, received: receivedAt, newest: newest(set)}
	m.out = make([]Observation, 0, n+4)
	m.arena = make([]Field, 0, 9*len(set.ProbeWindows)+6*len(set.PBXStatuses)+
		8*len(set.Trunks)+3*len(set.Services)+7*len(set.Backups))
	m.probes(set)
	for i := range set.PBXStatuses {
		m.pbx(&set.PBXStatuses[i])
	}
	for i := range set.Trunks {
		m.trunk(&set.Trunks[i])
	}
	for i := range set.Services {
		m.service(&set.Services[i])
	}
	for i := range set.Backups {
		m.backup(&set.Backups[i])
	}
	for i := range set.StateChanges {
		c := &set.StateChanges[i]
		if c.To == Removed {
			m.add("", Subject{Kind: c.Subject, Item: c.Item, Name: clean(c.Name, maxName)}, c.Observed, 0)
			m.out[len(m.out)-1].Removed = true
		}
	}
	return m.out
}

// AgentObservation says how long an agent has not been heard. Its instant is the one
// of the engine's newest tick; set At to say otherwise.
func AgentObservation(src Source, name string, silentFor time.Duration) Observation {
	return Observation{
		Source: src, DataSet: DataAgent,
		Subject: Subject{Kind: telemetry.SubjectAgent, Name: clean(name, maxName)},
		Fields: []Field{
			{Name: "name", Text: clean(name, maxName)},
			{Name: "silent_s", Num: silentFor.Seconds()},
		},
	}
}

// mapper collects observations; their fields share one piece of memory.
type mapper struct {
	src      Source
	late     bool
	received time.Time
	newest   telemetry.UnixMS
	out      []Observation
	arena    []Field
}

// newest is the newest end of an observation, agent's clock. Rows that carry the PBX's
// clock do not count.
func newest(set *telemetry.Set) telemetry.UnixMS {
	var t telemetry.UnixMS
	for i := range set.ProbeWindows {
		t = max(t, windowEnd(&set.ProbeWindows[i]))
	}
	for i := range set.PBXStatuses {
		t = max(t, set.PBXStatuses[i].Observed)
	}
	for i := range set.Trunks {
		t = max(t, set.Trunks[i].Observed)
	}
	for i := range set.Services {
		t = max(t, set.Services[i].Observed)
	}
	for i := range set.Backups {
		t = max(t, set.Backups[i].Observed)
	}
	for i := range set.StateChanges {
		t = max(t, set.StateChanges[i].Observed)
	}
	return t
}

func windowEnd(w *telemetry.ProbeWindow) telemetry.UnixMS {
	return w.Observed + telemetry.UnixMS(w.LengthMS)
}

// at places an instant of the agent's clock on the collector's.
func (m *mapper) at(observed telemetry.UnixMS) time.Time {
	before := time.Duration(m.newest-observed) * time.Millisecond
	if before < 0 || before > LateAfter {
		before = LateAfter // a clock that jumped within one set
	}
	return m.received.Add(-before)
}

// add appends an observation whose fields are the last n of the arena.
func (m *mapper) add(d DataSet, s Subject, observed telemetry.UnixMS, n int) {
	m.out = append(m.out, Observation{
		Source: m.src, DataSet: d, Subject: s, At: m.at(observed), Observed: observed, Late: m.late,
		Fields: m.arena[len(m.arena)-n : len(m.arena) : len(m.arena)],
	})
}

func (m *mapper) text(name, v string) {
	m.arena = append(m.arena, Field{Name: name, Text: clean(v, maxText)})
}

func (m *mapper) num(name string, v float64) {
	m.arena = append(m.arena, Field{Name: name, Num: v})
}

func (m *mapper) flag(name string, v bool) {
	if v {
		m.num(name, 1)
	} else {
		m.num(name, 0)
	}
}

// probes takes the windows in which something was sent.
func (m *mapper) probes(set *telemetry.Set) {
	var index map[telemetry.ItemID]*telemetry.Target
	if len(set.Targets) > linearTargets {
		index = make(map[telemetry.ItemID]*telemetry.Target, len(set.Targets))
		for i := range set.Targets {
			index[set.Targets[i].ID] = &set.Targets[i]
		}
	}
	for i := range set.ProbeWindows {
		w := &set.ProbeWindows[i]
		if w.Sent == 0 {
			continue
		}
		t := findTarget(set.Targets, index, w.Target)
		name := clean(t.Name, maxName)
		n := len(m.arena)
		m.text("name", name)
		m.text("method", string(t.Method))
		m.text("address", t.Address)
		m.text("fault", w.Fault)
		m.num("loss_ratio", float64(w.Lost)/float64(w.Sent))
		m.num("sent", float64(w.Sent))
		m.num("lost", float64(w.Lost))
		if w.Received > 0 {
			m.num("rtt_p50_us", float64(w.RTTP50US))
			m.num("jitter_us", float64(w.JitterUS))
		}
		m.add(DataProbe, Subject{Kind: telemetry.SubjectTarget, Item: w.Target, Name: name}, windowEnd(w), len(m.arena)-n)
	}
}

func findTarget(list []telemetry.Target, index map[telemetry.ItemID]*telemetry.Target, id telemetry.ItemID) telemetry.Target {
	if index != nil {
		if t, ok := index[id]; ok {
			return *t
		}
	} else {
		for i := range list {
			if list[i].ID == id {
				return list[i]
			}
		}
	}
	return telemetry.Target{ID: id, Name: "unnamed target"}
}

func (m *mapper) pbx(s *telemetry.PBXStatus) {
	name := clean(s.FQDN, maxName)
	if name == "" {
		name = "The PBX"
	}
	n := len(m.arena)
	m.text("name", name)
	m.text("state", string(s.State))
	m.text("detail", s.Detail)
	if s.State == telemetry.PBXOK {
		m.text("version", s.Version)
		m.num("answer_ms", float64(s.AnswerMS))
		if s.DiskUsedPercent != nil {
			m.num("disk_used_percent", float64(*s.DiskUsedPercent))
		}
	}
	m.add(DataPBX, Subject{Kind: telemetry.SubjectPBX, Name: name}, s.Observed, len(m.arena)-n)
}

func (m *mapper) trunk(t *telemetry.Trunk) {
	name := clean(t.Name, maxName)
	n := len(m.arena)
	m.text("name", name)
	m.text("number", t.Number)
	m.text("host", t.Host)
	m.text("kind", t.Kind)
	m.text("fail_code", t.FailCode)
	m.flag("registered", t.Registered)
	m.flag("registration_needed", t.RegistrationNeeded)
	m.flag("configuration_issue", t.ConfigurationIssue)
	m.add(DataTrunk, Subject{Kind: telemetry.SubjectTrunk, Item: t.ID, Name: name}, t.Observed, len(m.arena)-n)
}

func (m *mapper) service(s *telemetry.Service) {
	name := clean(s.Name, maxName)
	title := s.Title
	if title == "" {
		title = name
	}
	n := len(m.arena)
	m.text("name", name)
	m.text("title", title)
	m.text("status", s.Status)
	m.add(DataService, Subject{Kind: telemetry.SubjectService, Item: s.ID, Name: name}, s.Observed, len(m.arena)-n)
}

// backup gives the age on the collector's clock; no backup at all is infinitely old.
func (m *mapper) backup(b *telemetry.Backup) {
	n := len(m.arena)
	m.text("name", "Backups")
	m.flag("never", b.Newest == 0)
	if b.Newest == 0 {
		m.num("age_s", math.Inf(1))
	} else {
		m.num("age_s", max(0, m.received.Sub(b.Newest.Time()).Seconds()))
		m.num("newest_ms", float64(b.Newest))
	}
	m.num("count", float64(b.Count))
	m.text("repository", b.Repository)
	if b.ScheduleEnabled != nil {
		m.flag("scheduled", *b.ScheduleEnabled)
	}
	m.add(DataBackup, Subject{Kind: telemetry.SubjectPBX, Name: "Backups"}, b.Observed, len(m.arena)-n)
}

// clean makes hostile text harmless to every later use: one line, valid UTF-8, no
// control or formatting characters (which could reorder what is read), at most limit
// bytes.
func clean(s string, limit int) string {
	if len(s) <= limit && plain(s) {
		return s
	}
	s = s[:min(len(s), 4*limit)] // look at no more than is needed
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == utf8.RuneError, unicode.Is(unicode.Cf, r):
			continue
		case unicode.IsControl(r), unicode.IsSpace(r):
			r = ' '
		}
		if b.Len()+utf8.RuneLen(r) > limit-len("…") {
			return strings.TrimSpace(b.String()) + "…"
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}

func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
