package xapi

import (
	"encoding/json"
	"testing"
	"time"
)

func TestLenientFields(t *testing.T) {
	type fields struct {
		N num
		F flag
		T text
		I instant
		S span
	}
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, tc := range []struct {
		name, in string
		want     fields
	}{
		{"as described", `{"N":5,"F":true,"T":"x","I":"2026-07-02T01:30:11Z","S":"PT12.5S"}`,
			fields{num{5, true}, flag{true, true}, "x", instant{at("2026-07-02T01:30:11Z")}, span{12500 * time.Millisecond, true}}},
		{"nulls", `{"N":null,"F":null,"T":null,"I":null,"S":null}`, fields{}},
		{"absent", `{}`, fields{}},
		{"NaN", `{"N":"NaN"}`, fields{}},
		{"INF", `{"N":"-INF"}`, fields{}},
		{"number in text", `{"N":"17","T":17}`, fields{N: num{17, true}, T: "17"}},
		{"truth in text", `{"F":"True"}`, fields{F: flag{true, true}}},
		{"seven digits and an offset", `{"I":"2026-07-02T01:30:11.0412345+02:00"}`,
			fields{I: instant{at("2026-07-01T23:30:11.0412345Z")}}},
		{"twelve digits", `{"I":"2026-07-02T01:30:11.041234567891Z"}`, fields{I: instant{at("2026-07-02T01:30:11.041234567Z")}}},
		{"the year one is no time", `{"I":"0001-01-01T00:00:00.0000000+00:00"}`, fields{}},
		{"days", `{"S":"P3DT4H12M9S"}`, fields{S: span{76*time.Hour + 12*time.Minute + 9*time.Second, true}}},
		{"no duration", `{"S":"P"}`, fields{}},
		{"month in a duration", `{"S":"P3M"}`, fields{}},
		{"huge duration", `{"S":"P99999999999D"}`, fields{}},
		{"other kinds", `{"N":{"a":1},"F":[],"T":{"a":"b"},"I":{},"S":5}`, fields{}},
		{"unknown fields", `{"X":{"Y":[1]},"T":"x"}`, fields{T: "x"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got fields
			if err := unmarshal([]byte(tc.in), &got); err != nil {
				t.Fatal(err)
			}
			if got.N.ok != tc.want.N.ok || got.N.ok && got.N != tc.want.N || got.F != tc.want.F || got.T != tc.want.T ||
				!got.I.t.Equal(tc.want.I.t) || got.S != tc.want.S {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestUnmarshalForgivesFieldsOnly(t *testing.T) {
	var v collection[trunkAnswer]
	if err := unmarshal([]byte(`{"value":[{"Number":"1","Gateway":"none"},{"Number":"2"}]}`), &v); err != nil {
		t.Fatal(err)
	}
	if v.Value == nil || len(*v.Value) != 2 || (*v.Value)[1].Number != "2" {
		t.Errorf("rows after a drifted field: %+v", v.Value)
	}
	for _, bad := range []string{``, `[]`, `"x"`, `{"value":[`, `<html>`} {
		if unmarshal([]byte(bad), &collection[trunkAnswer]{}) == nil {
			t.Errorf("%q was taken for an answer", bad)
		}
	}
}

func TestTrunkKind(t *testing.T) {
	for _, tc := range [][3]string{
		{"Provider", "Provider A", "provider"}, {"BridgeMaster", "South", "bridge"}, {"BridgeSlaveOverTunnel", "", "bridge"},
		{"Provider", "WebMeeting bridge", "bridge"}, {"E1", "ISDN", "other"}, {"", "Trunk 10001", "provider"},
		{"Unknown", "x", "provider"},
	} {
		if got := trunkKind(tc[0], tc[1]); got != tc[2] {
			t.Errorf("type %q, name %q: %q, want %q", tc[0], tc[1], got, tc[2])
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"value":[{"Number":"10001","IsOnline":true,"Gateway":{"Name":"A","Type":"Provider"},"TrunkRegTimes":[{"Name":"fail_code","Value":408}]}]}`))
	f.Add([]byte(`{"value":[{"Name":"SBC","HasConnection":true,"Connection":{"Up":true,"ElapsedTime":"P3DT4H12M9.5S","Latency":"NaN"}}]}`))
	f.Add([]byte(`{"FQDN":"pbx","Version":20,"DiskUsage":-1,"FreeDiskSpace":1e300,"LastBackupDateTime":"2026-07-02T01:30:11.0412345+02:00"}`))
	f.Add([]byte(`{"value":[{"Id":1e19,"EventId":-4,"Type":null,"TimeGenerated":"x"}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var trunks collection[trunkAnswer]
		if unmarshal(raw, &trunks) == nil && trunks.Value != nil {
			for i := range *trunks.Value {
				row := (*trunks.Value)[i].row()
				if len(row.Name) > maxName+8 || len(row.FailCode) > maxWord || len(row.Host) > maxName {
					t.Errorf("a row larger than its limits: %+v", row)
				}
			}
		}
		var sbcs collection[sbcAnswer]
		_ = unmarshal(raw, &sbcs)
		var status statusAnswer
		if unmarshal(raw, &status) == nil {
			_, _, _ = status.DiskUsage.u32(), status.FreeDiskSpace.u64(), status.LastBackupDateTime.ms()
		}
		var events collection[eventAnswer]
		if unmarshal(raw, &events) == nil && events.Value != nil {
			for i := range *events.Value {
				if row := (*events.Value)[i].row(); len(row.Source) > maxName {
					t.Errorf("a row larger than its limits: %+v", row)
				}
			}
		}
		if d, ok := parseSpan(string(raw)); ok && d < 0 {
			t.Errorf("duration %q is negative", raw)
		}
	})
}

func FuzzClaims(f *testing.F) {
	f.Add("eyJhbGciOiJFUzI1NiJ9.eyJleHAiOjF9.sig")
	f.Add("a.b.c")
	f.Add("..")
	f.Fuzz(func(t *testing.T, access string) {
		raw, err := json.Marshal(access)
		if err != nil {
			return
		}
		var ans tokenAnswer
		if unmarshal([]byte(`{"access_token":`+string(raw)+`}`), &ans) != nil {
			return
		}
		g, err := newGrant(&ans, &answer{at: time.Now()}, "")
		if err == nil && (g.life <= 0 || g.life > maxLife) {
			t.Errorf("a life of %s", g.life)
		}
	})
}
