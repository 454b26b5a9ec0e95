package wire

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"time"

	"sidetone/shared/pathstats"
	"sidetone/shared/telemetry"
)

// site makes what the agent of one site measures: targets at one attempt a second in
// windows of ten, and a PBX that is read every ten seconds. RTTs are a base and
// log-normal noise of microseconds, sizes jitter by pages, counters move.
type site struct {
	rnd      *rand.Rand
	now      int64 // ms; the beginning of the round
	rounds   int
	targets  []*probed
	trunks   []telemetry.Trunk
	services []telemetry.Service
	sbcs     []telemetry.SBC
	status   telemetry.PBXStatus
	health   telemetry.AgentHealth
}

type probed struct {
	row          telemetry.Target
	calc         pathstats.Calc
	base, spread float64 // ns
	sigma, loss  float64
	seq          uint32
	at           int64 // ms after the beginning of a round
	stamp        bool
}

var (
	serviceNames = [][2]string{
		{"3CXPhoneSystem01", "3CX PhoneSystem 01 SIP Server"}, {"3CXQueueManager01", "3CX PhoneSystem 01 Queue Manager Server"},
		{"3CXIVR01", "3CX PhoneSystem 01 IVR Server"}, {"3CXMediaServer", "3CX PhoneSystem Media Server"},
		{"3CXTunnel01", "3CX PhoneSystem 01 Tunnel"}, {"3CXCfgServ01", "3CX PhoneSystem 01 Configuration Server"},
		{"3CXCallFlow01", "3CX PhoneSystem 01 Call Flow Server"}, {"3CXSystemService01", "3CX PhoneSystem 01 System Server"},
		{"3CXEventNotificationManager", "3CX PhoneSystem Event Notification Manager"}, {"3CXGatewayService", "3CX PhoneSystem Gateway Service"},
		{"3CXManagementConsole", "3CX PhoneSystem Management Console"}, {"3CXAudioProvider01", "3CX PhoneSystem 01 Audio Provider Server"},
		{"3CXDialer01", "3CX PhoneSystem 01 Dialer"}, {"3CXFaxServer01", "3CX PhoneSystem 01 Fax Server"},
		{"3CXHistoryServer01", "3CX PhoneSystem 01 Call History Server"}, {"3CXParkOrbit01", "3CX PhoneSystem 01 Park Orbit Server"},
		{"3CXVoicemail01", "3CX PhoneSystem 01 Voice Mail Server"}, {"3CXConference01", "3CX PhoneSystem 01 Conference Server"},
		{"3CXWebMeeting01", "3CX PhoneSystem 01 Web Meeting"}, {"3CXIMService01", "3CX PhoneSystem 01 Messaging Server"},
		{"3CXPushService01", "3CX PhoneSystem 01 Push Server"}, {"3CXBackup01", "3CX PhoneSystem 01 Backup Server"},
		{"3CXReports01", "3CX PhoneSystem 01 Report Server"}, {"3CXCRM01", "3CX PhoneSystem 01 CRM Server"},
		{"postgresql", "PostgreSQL database server"}, {"nginx", "nginx web server"},
	}
)

func ptrTo[T any](v T) *T { return &v }

// newSite makes a site that differs from others by its seed, its names included.
func newSite(seed uint64, targets int) *site {
	s := &site{rnd: rand.New(rand.NewPCG(seed, 77)), now: 1795392000000 + int64(seed%1000)*7919000}
	// Words that no dictionary can know, as names in the field are.
	word := func() string {
		var w []byte
		for range 2 + s.rnd.IntN(3) {
			w = append(w, "bcdfghjklmnprstvwz"[s.rnd.IntN(18)], "aeiou"[s.rnd.IntN(5)])
		}
		return string(w)
	}
	company := fmt.Sprintf("%s%s%02d", word(), word(), s.rnd.IntN(100))
	host, pbx := "collector."+word()+".example", company+".my3cx.example:5001"
	usual := []telemetry.Target{ // what an agent measures by default
		{Method: telemetry.MethodSTAMP, Name: "collector", Address: "collector"}, {Method: telemetry.MethodSTUN, Name: "public address", Address: "collector"},
		{Method: telemetry.MethodICMP, Name: "collector", Address: host}, {Method: telemetry.MethodTCP, Name: "pbx", Address: pbx},
		{Method: telemetry.MethodTLS, Name: "pbx", Address: pbx}, {Method: telemetry.MethodDNS, Name: "resolver", Address: "system"}}
	for i := range targets {
		p := &probed{base: math.Exp(s.rnd.Float64()*5-1) * 1e6, sigma: 0.4 + s.rnd.Float64()*0.6, at: s.rnd.Int64N(10_000)}
		p.spread = p.base*0.01 + 1e5*(0.2+s.rnd.Float64())
		if s.rnd.IntN(3) == 0 {
			p.loss = 0.01
		}
		switch {
		case i < len(usual):
			p.row = usual[i]
		case i%2 == 0:
			p.row = telemetry.Target{Method: telemetry.MethodICMP, Name: word() + " " + word(),
				Address: fmt.Sprintf("%d.%d.%d.%d", 11+s.rnd.IntN(200), s.rnd.IntN(256), s.rnd.IntN(256), 1+s.rnd.IntN(254))}
		default:
			p.row = telemetry.Target{Method: telemetry.MethodTCP, Name: word() + " " + word(), Address: fmt.Sprintf("%s.%s.example:%d", word(), company, 443+s.rnd.IntN(5000))}
		}
		p.row.IntervalMS = 1000
		p.stamp = p.row.Method == telemetry.MethodSTAMP
		p.row.ID = telemetry.MakeItemID("target", string(p.row.Method), p.row.Address, p.row.Name)
		s.targets = append(s.targets, p)
	}
	s.buildPBX(company, word)
	return s
}

func (s *site) buildPBX(company string, word func() string) {
	type provider struct{ name, host, template string }
	var providers []provider // a company has a few, with several trunks each
	for range 3 {
		w := word()
		providers = append(providers, provider{w + []string{" SIP", " Voice", " Telecom"}[s.rnd.IntN(3)], fmt.Sprintf("sip%d.%s.example", s.rnd.IntN(4), w), w + ".pv.xml"})
	}
	for i := range 20 {
		number := fmt.Sprint(10000 + i)
		p := providers[s.rnd.IntN(len(providers))]
		s.trunks = append(s.trunks, telemetry.Trunk{ID: telemetry.MakeItemID("trunk", number), Number: number,
			Name: fmt.Sprintf("%s %d%03d", p.name, i, s.rnd.IntN(1000)), Host: p.host, Kind: "provider", Template: p.template,
			Registered: s.rnd.IntN(20) > 0, RegistrationNeeded: s.rnd.IntN(5) > 0, ChannelsMax: ptrTo(uint32(5 * (1 + s.rnd.IntN(6)))), CallsActive: ptrTo(uint32(0))})
	}
	for _, n := range serviceNames {
		s.services = append(s.services, telemetry.Service{ID: telemetry.MakeItemID("service", n[0]), Name: n[0], Title: n[1], Status: "Running",
			MemoryBytes: ptrTo(uint64(math.Exp(s.rnd.Float64()*4+16)) &^ 4095), Threads: ptrTo(uint32(8 + s.rnd.IntN(80))), Handles: ptrTo(uint32(100 + s.rnd.IntN(900)))})
	}
	for range 4 {
		name := "SBC " + word() + " " + word()
		s.sbcs = append(s.sbcs, telemetry.SBC{ID: telemetry.MakeItemID("sbc", name), Name: name, Connected: true, Version: "20.0.7",
			LatencyMS: ptrTo(uint32(5 + s.rnd.IntN(40))), CallsActive: ptrTo(uint32(0)), PhonesRegistered: ptrTo(uint32(s.rnd.IntN(40))),
			UDPActive: ptrTo(true), ConnectedS: ptrTo(uint64(s.rnd.IntN(1e6)))})
	}
	total := uint64(200+s.rnd.IntN(800)) << 30
	s.status = telemetry.PBXStatus{State: telemetry.PBXOK, FQDN: company + ".my3cx.example", Version: "20.0.7.1080", OS: "Linux", CallsActive: ptrTo(uint32(0)),
		CallsMax: ptrTo(uint32(32)), CallsTalking: ptrTo(uint32(0)), CallsRinging: ptrTo(uint32(0)), CallsOther: ptrTo(uint32(0)), LongestCallS: ptrTo(uint32(0)),
		ExtensionsTotal: ptrTo(uint32(80)), ExtensionsRegistered: ptrTo(uint32(71)), TrunksTotal: ptrTo(uint32(20)), TrunksRegistered: ptrTo(uint32(19)),
		ServicesNotRunning: ptrTo(false), SystemExtensionsUnregistered: ptrTo(false), DiskUsedPercent: ptrTo(uint32(41)), DiskFreeBytes: ptrTo(total / 2 &^ 4095),
		DiskTotalBytes: &total, RecordingUsedBytes: ptrTo(total / 20), RecordingQuotaBytes: ptrTo(uint64(50 << 30)), BackupScheduled: ptrTo(true),
		LastBackup: telemetry.UnixMS(s.now - 3e7), AutoUpdate: ptrTo(false), AuditLog: ptrTo(true), LocalIPValid: ptrTo(true), ClockOffsetMS: ptrTo(int64(12))}
	s.health = telemetry.AgentHealth{UptimeS: uint64(s.rnd.IntN(1e6)), RSSBytes: 14 << 20, CPUMS: uint64(s.rnd.IntN(1e6)), Goroutines: 40,
		SpoolBytes: 5000, MemoryFreeBytes: uint64(s.rnd.IntN(8<<20)) << 10, DiskFreeBytes: *s.status.DiskFreeBytes, Version: "1.4.2", SpoolEpoch: s.rnd.Uint64() >> 20, SpoolFirst: 1, SpoolNext: uint64(s.rnd.IntN(1e6))}
}

// emitted is rows that the agent has at an instant.
type emitted struct {
	at  int64 // ms
	set *telemetry.Set
}

// round is ten seconds of work, in the order of time.
func (s *site) round() []emitted {
	var out []emitted
	for _, p := range s.targets {
		w := s.window(p)
		end := s.now + p.at + 1000 // the last attempt's timeout
		out = append(out, emitted{end, &telemetry.Set{Targets: []telemetry.Target{p.row}, ProbeWindows: []telemetry.ProbeWindow{w}}})
	}
	at := s.now + 4000
	s.move(at)
	clone := func(n, i int64) (int64, telemetry.UnixMS) { return at + n, telemetry.UnixMS(at + n + i) }
	when, obs := clone(0, 0)
	s.status.Observed = obs
	out = append(out, emitted{when, &telemetry.Set{PBXStatuses: []telemetry.PBXStatus{s.status}}})
	when, obs = clone(40, 0)
	set := &telemetry.Set{}
	for _, t := range s.trunks {
		t.Observed = obs
		set.Trunks = append(set.Trunks, t)
	}
	out = append(out, emitted{when, set})
	when, obs = clone(90, 0)
	set = &telemetry.Set{}
	for _, t := range s.services {
		t.Observed = obs
		set.Services = append(set.Services, t)
	}
	out = append(out, emitted{when, set})
	when, obs = clone(500, 0)
	set = &telemetry.Set{}
	for _, t := range s.sbcs {
		t.Observed = obs
		set.SBCs = append(set.SBCs, t)
	}
	out = append(out, emitted{when, set})
	when, s.health.Observed = clone(2000, 0)
	out = append(out, emitted{when, &telemetry.Set{AgentHealth: []telemetry.AgentHealth{s.health}}})
	s.now += 10_000
	s.rounds++
	return out
}

// move changes the PBX a little. Values behind pointers are replaced, since earlier
// rows point to the old ones.
func (s *site) move(at int64) {
	r := s.rnd
	active := uint32(0)
	for i := range s.trunks {
		t := &s.trunks[i]
		if r.IntN(10) == 0 {
			t.CallsActive = ptrTo(uint32(max(0, int(*t.CallsActive)+r.IntN(3)-1)))
		}
		active += *t.CallsActive
	}
	for i := range s.services {
		v := &s.services[i]
		if r.IntN(3) > 0 {
			v.MemoryBytes = ptrTo(uint64(int64(*v.MemoryBytes) + int64(r.NormFloat64()*40)*4096))
		}
		if r.IntN(8) == 0 {
			v.Threads = ptrTo(uint32(max(4, int(*v.Threads)+r.IntN(5)-2)))
		}
		if r.IntN(5) == 0 {
			v.Handles = ptrTo(uint32(max(50, int(*v.Handles)+r.IntN(9)-4)))
		}
	}
	for i := range s.sbcs {
		v := &s.sbcs[i]
		v.LatencyMS = ptrTo(uint32(max(1, int(*v.LatencyMS)+r.IntN(5)-2)))
		v.ConnectedS = ptrTo(*v.ConnectedS + 10)
	}
	st := &s.status
	st.AnswerMS = uint32(20 + r.IntN(30))
	st.CallsActive, st.CallsTalking, st.LongestCallS = &active, &active, ptrTo(*st.LongestCallS+10)
	st.DiskFreeBytes = ptrTo(*st.DiskFreeBytes - uint64(r.IntN(200))<<12)
	st.ClockOffsetMS = ptrTo(int64(12 + r.IntN(5)))
	h := &s.health
	h.UptimeS += 10
	h.RSSBytes = uint64(14<<20 + r.IntN(100)<<12)
	h.CPUMS += uint64(10 + r.IntN(30))
	h.SpoolNext += 11
	h.SpoolLowest = h.SpoolNext - uint64(r.IntN(2))
	h.Load1Milli = uint32(100 + r.IntN(300))
	h.MemoryFreeBytes += uint64(r.IntN(64)-32) << 12
	h.DiskFreeBytes = *st.DiskFreeBytes
}

// window is one window of the target, by the same arithmetic as the agent's.
func (s *site) window(p *probed) telemetry.ProbeWindow {
	w := telemetry.ProbeWindow{Target: p.row.ID, Observed: telemetry.UnixMS(s.now + p.at - 10_000), LengthMS: 10_000}
	attempts := make([]pathstats.Attempt, 10)
	noise := func() float64 { return p.spread * math.Exp(s.rnd.NormFloat64()*p.sigma) }
	for i := range attempts {
		p.seq++
		a := &attempts[i]
		a.Seq = p.seq
		if s.rnd.Float64() < p.loss {
			w.Fault = "timeout"
			continue
		}
		fwd, rev := p.base/2+noise()/2, p.base/2+noise()/2
		a.RTT = time.Duration(fwd + rev)
		a.Received = time.Duration(p.seq)*time.Second + a.RTT
		if p.stamp {
			a.Far = pathstats.Far{Valid: true, Timed: true, Session: 1, SenderSeq: p.seq, Seq: p.seq - 1,
				Forward: time.Duration(fwd) + time.Hour, Reverse: time.Duration(rev) - time.Hour}
		}
	}
	p.calc.Window(attempts, nil, &w)
	return w
}

// gather joins what n rounds emit.
func (s *site) gather(n int) *telemetry.Set {
	set := &telemetry.Set{}
	for range n {
		for _, e := range s.round() {
			set.Append(e.set)
		}
	}
	return set
}

// samples counts the set as peers would, which store one value a point: six for a
// probe window (rtt min, mean, max, jitter, sent, lost), and each value of the other
// rows. values counts all that is carried: every RTT and every statistic.
func samples(set *telemetry.Set) (samples, values int) {
	v := reflect.ValueOf(*set)
	for i := range v.NumField() {
		if v.Type().Field(i).Name == "Targets" {
			continue
		}
		for j := range v.Field(i).Len() {
			n := countFields(v.Field(i).Index(j))
			if w, ok := v.Field(i).Index(j).Interface().(telemetry.ProbeWindow); ok {
				samples += 6
				values += n + len(w.RTTUS)
				continue
			}
			samples += n
			values += n
		}
	}
	return samples, values
}

// countFields counts a row's values: numbers, truths and states, but not what names
// the row or says when it was observed.
func countFields(row reflect.Value) int {
	n := 0
	for i := range row.NumField() {
		switch f := row.Field(i); {
		case f.Kind() == reflect.String:
			if name := row.Type().Field(i).Name; name == "State" || name == "Status" {
				n++
			}
		case f.Kind() == reflect.Pointer:
			if !f.IsNil() {
				n++
			}
		case f.Kind() == reflect.Slice, f.Type() == reflect.TypeFor[telemetry.ItemID](), row.Type().Field(i).Name == "Observed", row.Type().Field(i).Name == "LengthMS":
		default:
			n++
		}
	}
	return n
}
