package loadgen

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strconv"
	"time"

	"sidetone/shared/pathstats"
	"sidetone/shared/telemetry"
	"sidetone/shared/wire"
)

// What one agent observes, as a usual site does.
const (
	targetCount   = 10
	attemptCount  = 10 // of a window
	trunkCount    = 10
	serviceCount  = 20
	variety       = 64 // windows of each target that differ
	servicesEvery = 6  // intervals
	healthEvery   = 3
	gapsAtOnce    = 32 // told with one health row
)

// templates are the rows that all agents copy. They are not changed after newTemplates.
type templates struct {
	targets  []telemetry.Target
	windows  [targetCount][variety]telemetry.ProbeWindow
	status   telemetry.PBXStatus
	trunks   []telemetry.Trunk
	services []telemetry.Service
}

func newTemplates() *templates {
	t := &templates{}
	methods := []telemetry.Method{telemetry.MethodICMP, telemetry.MethodTCP, telemetry.MethodDNS, telemetry.MethodSTUN}
	rng := rand.New(rand.NewPCG(1, 2)) // the same rows in every run
	for i := range targetCount {
		m, addr, name := methods[i%len(methods)], fmt.Sprintf("192.0.2.%d", i+1), fmt.Sprintf("target %d", i+1)
		id := telemetry.MakeItemID("target", string(m), addr, name)
		t.targets = append(t.targets, telemetry.Target{ID: id, Method: m, Name: name, Address: addr, IntervalMS: 1000})
		var calc pathstats.Calc
		for v := range variety {
			t.windows[i][v] = window(rng, &calc, id, 4_000+i*3_000, v)
		}
	}
	t.status = telemetry.PBXStatus{
		State: telemetry.PBXOK, FQDN: "pbx.example.com", Version: "20.0.7.1057", OS: "Linux",
		CallsMax: ptr(uint32(64)), ExtensionsTotal: ptr(uint32(120)), ExtensionsRegistered: ptr(uint32(117)),
		TrunksTotal: ptr(uint32(trunkCount)), TrunksRegistered: ptr(uint32(trunkCount)),
		ServicesNotRunning: ptr(false), SystemExtensionsUnregistered: ptr(false), DiskUsedPercent: ptr(uint32(41)),
		DiskTotalBytes: ptr(uint64(200 << 30)), RecordingQuotaBytes: ptr(uint64(50 << 30)),
		BackupScheduled: ptr(true), AutoUpdate: ptr(true), AuditLog: ptr(true), LocalIPValid: ptr(true),
	}
	for i := range trunkCount {
		n := strconv.Itoa(10000 + i)
		t.trunks = append(t.trunks, telemetry.Trunk{
			ID: telemetry.MakeItemID("trunk", n), Number: n, Name: "line " + n, Host: "sip.example.net", Kind: "provider",
			Template: "generic", Registered: true, RegistrationNeeded: true, ChannelsMax: ptr(uint32(30)),
		})
	}
	for i := range serviceCount {
		n := fmt.Sprintf("3CXService%02d", i+1)
		t.services = append(t.services, telemetry.Service{ID: telemetry.MakeItemID("service", n), Name: n, Title: "Service " + n[10:], Status: "Running"})
	}
	return t
}

// window is ten attempts about a base RTT; now and then one is lost.
func window(rng *rand.Rand, calc *pathstats.Calc, id telemetry.ItemID, baseUS, v int) telemetry.ProbeWindow {
	w := telemetry.ProbeWindow{Target: id}
	attempts := make([]pathstats.Attempt, attemptCount)
	began := time.Duration(v) * 10 * time.Second
	for i := range attempts {
		rtt := time.Duration(baseUS+int(rng.ExpFloat64()*float64(baseUS)/8)) * time.Microsecond
		if rng.IntN(200) == 0 {
			rtt = 0
			w.Fault = "timeout"
		}
		attempts[i] = pathstats.Attempt{Seq: uint32(v*attemptCount + i), RTT: rtt, Received: began + time.Duration(i)*time.Second + rtt}
	}
	calc.Window(attempts, nil, &w)
	return w
}

func ptr[T any](v T) *T { return &v }

// Values of a row: what was observed. Statistics that follow from a window's attempts
// are not counted.
const (
	windowValues  = attemptCount + 3 // late, duplicated, reordered
	statusValues  = 18
	trunkValues   = 4
	serviceValues = 4
	healthValues  = 15
	gapValues     = 2
)

// maker makes one agent's records. Its rows are used again for each.
type maker struct {
	kinds   *templates
	seed    int
	length  uint32 // of a window, ms
	began   time.Time
	set     telemetry.Set
	numbers struct {
		calls, used [trunkCount + 1]uint32
		memory      [serviceCount]uint64
		threads     [serviceCount]uint32
		disk        uint64
	}
}

func newMaker(t *templates, seed int, interval time.Duration) *maker {
	return &maker{kinds: t, seed: seed, length: uint32(interval.Milliseconds()), began: time.Now()}
}

// clear empties the set but keeps its memory.
func (m *maker) clear() {
	s := &m.set
	*s = telemetry.Set{
		ProbeWindows: s.ProbeWindows[:0], PBXStatuses: s.PBXStatuses[:0], Trunks: s.Trunks[:0],
		Services: s.Services[:0], AgentHealth: s.AgentHealth[:0], Gaps: s.Gaps[:0],
	}
}

// windows makes the record of the windows of interval n, which ends now.
func (m *maker) windows(n int, now time.Time) (*record, error) {
	m.clear()
	m.set.Targets = m.kinds.targets
	at := telemetry.MS(now) - telemetry.UnixMS(m.length)
	for i := range m.kinds.windows {
		w := m.kinds.windows[i][(n+7*m.seed+i)%variety]
		w.Observed, w.LengthMS = at, m.length
		m.set.ProbeWindows = append(m.set.ProbeWindows, w)
	}
	return m.record(now)
}

// readings makes the record of what was read from the PBX in interval n, and what the
// agent says of itself.
func (m *maker) readings(n int, now time.Time, sp *spool) (*record, error) {
	m.clear()
	at, rng := telemetry.MS(now), uint32(n*31+m.seed*17)
	st := m.kinds.status
	var calls uint32
	for i := range m.kinds.trunks {
		t := m.kinds.trunks[i]
		used := &m.numbers.used[i]
		*used = (rng + uint32(i)*5) / 7 % 4
		calls += *used
		t.Observed, t.CallsActive = at, used
		m.set.Trunks = append(m.set.Trunks, t)
	}
	m.numbers.calls[0], m.numbers.disk = calls, uint64(118<<30)-uint64(n)*300_000
	st.Observed, st.AnswerMS, st.CallsActive, st.CallsTalking, st.DiskFreeBytes = at, 20+rng%30, &m.numbers.calls[0], &m.numbers.calls[0], &m.numbers.disk
	m.set.PBXStatuses = append(m.set.PBXStatuses, st)
	if n%servicesEvery == m.seed%servicesEvery {
		for i := range m.kinds.services {
			s := m.kinds.services[i]
			m.numbers.memory[i], m.numbers.threads[i] = uint64(60<<20)+uint64(i)<<22+uint64(rng%64)<<12, 20+uint32(i)+rng%3
			s.Observed, s.MemoryBytes, s.Threads = at, &m.numbers.memory[i], &m.numbers.threads[i]
			m.set.Services = append(m.set.Services, s)
		}
	}
	if n%healthEvery == m.seed%healthEvery {
		m.health(now, sp)
	}
	return m.record(now)
}

// health says how the agent stands, and which records will not come.
func (m *maker) health(now time.Time, sp *spool) {
	st := sp.status(now)
	up := now.Sub(m.began)
	m.set.AgentHealth = append(m.set.AgentHealth, telemetry.AgentHealth{
		Observed: telemetry.MS(now), UptimeS: uint64(up.Seconds()), RSSBytes: 15 << 20, CPUMS: uint64(up.Milliseconds() / 300),
		Goroutines: 40, SpoolRecords: st.records, SpoolBytes: st.bytes, SpoolOldestMS: uint64(st.oldest.Milliseconds()),
		Load1Milli: 300, MemoryFreeBytes: 2 << 30, DiskFreeBytes: m.numbers.disk, Version: version,
		SpoolEpoch: sp.epoch, SpoolFirst: 1, SpoolNext: st.next, SpoolLowest: st.lowest,
	})
	for _, g := range sp.gaps(gapsAtOnce) {
		g.Observed = telemetry.MS(now)
		m.set.Gaps = append(m.set.Gaps, g)
	}
}

// version is what these agents call themselves.
const version = "loadgen"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record encodes the set.
func (m *maker) record(now time.Time) (*record, error) {
	s := &m.set
	p, err := wire.EncodePayload(s)
	if err != nil {
		return nil, fmt.Errorf("encode payload: %w", err)
	}
	r := &record{class: wire.ClassSample, payload: p, crc: crc32.Checksum(p, castagnoli), made: now}
	if len(s.Gaps) > 0 {
		r.class = wire.ClassState
	}
	r.rows = rowCounts{
		kindWindow: uint64(len(s.ProbeWindows)), kindStatus: uint64(len(s.PBXStatuses)), kindTrunk: uint64(len(s.Trunks)),
		kindService: uint64(len(s.Services)), kindHealth: uint64(len(s.AgentHealth)), kindGap: uint64(len(s.Gaps)),
	}
	per := [kindCount]uint64{windowValues, statusValues, trunkValues, serviceValues, healthValues, gapValues}
	for i, n := range r.rows {
		r.values += uint32(n * per[i])
	}
	return r, nil
}
