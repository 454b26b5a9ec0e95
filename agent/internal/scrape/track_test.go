package scrape

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sidetone/agent/internal/threecx"
	"sidetone/shared/telemetry"
)

func TestTracker(t *testing.T) {
	type step struct {
		in   string // items as id:state, ! marks a bad one
		want string // changes as id:from>to
	}
	for _, tc := range []struct {
		name  string
		steps []step
	}{
		{"quiet", []step{{"1:up 2:up", ""}, {"1:up 2:up", ""}}},
		{"bad at the start", []step{{"1:up 2:!down", "2:>down"}, {"1:up 2:!down", ""}, {"1:up 2:up", "2:down>up"}}},
		{"there and back", []step{{"1:up", ""}, {"1:!down", "1:up>down"}, {"1:up", "1:down>up"}}},
		{"added later", []step{{"1:up", ""}, {"1:up 2:up", "2:>up"}}},
		{"short list once", []step{{"1:up 2:up", ""}, {"1:up", ""}, {"1:up 2:up", ""}, {"1:up", ""}, {"1:up", "2:up>removed"}}},
		{"removed and back", []step{{"1:up", ""}, {"", ""}, {"", "1:up>removed"}, {"", ""}, {"1:up", "1:>up"}}},
		{"changed while missing", []step{{"1:up", ""}, {"", ""}, {"1:!down", "1:up>down"}}},
		{"empty at first", []step{{"", ""}, {"1:up", "1:>up"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr := newTracker("trunk")
			for i, st := range tc.steps {
				var items []item
				for _, f := range strings.Fields(st.in) {
					id, state, _ := strings.Cut(f, ":")
					good := strings.TrimPrefix(state, "!")
					items = append(items, item{id: telemetry.MakeItemID(id), name: id, state: good, bad: good != state})
				}
				var got []string
				for _, c := range tr.observe(5, items) {
					if c.Observed != 5 || c.Subject != "trunk" {
						t.Errorf("change %+v", c)
					}
					got = append(got, c.Name+":"+c.From+">"+c.To)
				}
				if s := strings.Join(got, " "); s != st.want {
					t.Errorf("step %d: %q, want %q", i, s, st.want)
				}
			}
		})
	}
}

func TestPBXTracker(t *testing.T) {
	var tr pbxTracker
	for i, st := range []struct {
		state   telemetry.PBXState
		version string
		want    string
	}{
		{telemetry.PBXUnreachable, "", ">unreachable"},
		{telemetry.PBXUnreachable, "", ""},
		{telemetry.PBXOK, "20.0.8.1", "unreachable>ok"},
		{telemetry.PBXBusy, "", "ok>busy"},
		{telemetry.PBXOK, "20.0.9.1", "busy>ok 20.0.8.1>20.0.9.1"},
		{telemetry.PBXOK, "20.0.9.1", ""},
	} {
		var got []string
		for _, c := range tr.observe(&telemetry.PBXStatus{State: st.state, Version: st.version}) {
			got = append(got, c.From+">"+c.To)
		}
		if s := strings.Join(got, " "); s != st.want {
			t.Errorf("step %d: %q, want %q", i, s, st.want)
		}
	}
}

func TestCursorFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cursor")
	c := cursor{file: file}
	if err := c.load(); err != nil || c.at.Known {
		t.Fatalf("a missing file: %v, %+v", err, c.at)
	}
	for _, last := range []int64{10, 20, 30} {
		if err := c.advance(threecx.EventCursor{Known: true, Last: last}); err != nil {
			t.Fatal(err)
		}
	}
	again := cursor{file: file}
	if err := again.load(); err != nil || again.at.Last != 20 {
		t.Errorf("after a crash: %v, %+v, want the place before the last", err, again.at)
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	if err := again.load(); err != nil || again.at.Last != 30 {
		t.Errorf("after an orderly stop: %v, %+v", err, again.at)
	}
	for name, content := range map[string]string{
		"garbage": "\x00\xff", "other": `{"last_event":"x"}`, "negative": `{"last_event":-4}`, "huge": strings.Repeat(" ", 5000), "empty": "",
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		bad := cursor{file: file}
		if err := bad.load(); err == nil || bad.at.Known {
			t.Errorf("%s: %v, %+v", name, err, bad.at)
		}
	}
}

func TestConfig(t *testing.T) {
	if errs := (Config{}).Validate(); len(errs) != 0 {
		t.Errorf("defaults: %v", errs)
	}
	if errs := (Config{Interval: time.Millisecond, Calls: -1, Licence: 48 * time.Hour}).Validate(); len(errs) != 3 ||
		!strings.HasPrefix(errs[0].Error(), "pbx.interval:") || !strings.HasPrefix(errs[1].Error(), "pbx.calls_interval:") {
		t.Errorf("mistakes: %v", errs)
	}
	if c := (Config{Interval: -time.Hour, Backups: time.Nanosecond}).WithDefaults(); c.Interval != time.Second || c.Backups != time.Second {
		t.Errorf("a rhythm without rest: %+v", c)
	}
	if c := (Config{Interval: time.Minute}).WithDefaults(); c.Interval != time.Minute || c.SBCs != 30*time.Second {
		t.Errorf("config %+v", c)
	}
}
