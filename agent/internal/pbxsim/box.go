package pbxsim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Bait values: none of them may ever leave an agent.
const (
	baitSecret = "BAIT-secret-5d21"
	baitKey    = "BAIT-KEY0-KEY1-KEY2"
	baitPerson = "Baitperson"
	baitNumber = "+493055501"
)

// Baits lists what a test must not find in what leaves the agent.
func Baits() []string { return []string{"BAIT-", baitPerson, baitNumber} }

// box is the state of the phone system.
type box struct {
	fqdn     string
	version  string
	trunks   []*trunk
	sbcs     []*sbc
	services []*service
	calls    []*call
	events   []event
	backups  []backup
	users    []user

	rng        *rand.Rand
	born       time.Time
	lastEvent  int
	lastCall   int
	pinned     int  // number of calls asked for; -1 = a walk
	backupFail bool // backups fail from now on
	nextBackup time.Time
	nextNoise  time.Time
}

type trunk struct {
	number, name, host, kind, template, registration string
	id, channels                                     int
	online                                           bool
	changed                                          time.Time
}

type sbc struct {
	key, name, version, lan string
	up                      bool
	since                   time.Time
	phones, latency         int
}

type service struct {
	name, title, status string
	memory              int64
	threads             int
}

type call struct {
	id                   int
	caller, callee       string
	trunk                string
	status               string
	changed, established time.Time
	ends                 time.Time
}

type event struct {
	id, code int
	severity string
	source   string
	message  string
	params   []string
	at       time.Time
}

type backup struct {
	name string
	at   time.Time
	size int64
}

type user struct {
	id, number int
	registered bool
	loggedIn   bool
}

func newBox(opt Options) *box {
	now := time.Now()
	b := &box{
		fqdn: opt.FQDN, version: opt.Version, pinned: -1, born: now, lastCall: 700, lastEvent: 90400,
		rng:        rand.New(rand.NewPCG(opt.Seed, 0x51de70e)),
		nextBackup: now.Add(24 * time.Hour), nextNoise: now.Add(5 * time.Second),
	}
	b.trunks = []*trunk{
		{number: "10000", name: "Provider A", host: "sip.provider-a.example", kind: "Provider",
			template: "generic.pv.xml", registration: "InOutCalls", id: 54, channels: 10, online: true, changed: now},
		{number: "10001", name: "Provider B", host: "sip.provider-b.example", kind: "Provider",
			template: "twilio.xml", registration: "InOutCalls", id: 56, channels: 20, online: true, changed: now},
		{number: "10002", name: "Line without registration", host: "192.0.2.40", kind: "Provider",
			template: "asterisk.pv.xml", registration: "Nothing", id: 58, channels: 4, online: true, changed: now},
		{number: "10003", name: "Bridge to branch South", host: "198.51.100.60", kind: "BridgeMaster",
			template: "", registration: "Nothing", id: 60, channels: 8, online: true, changed: now},
	}
	b.sbcs = []*sbc{
		{key: "SBC7f3c", name: "Branch North", version: "20.0.26", lan: "192.168.40.10", up: true,
			since: now.Add(-76 * time.Hour), phones: 9, latency: 24},
		{key: "SBC81aa", name: "Warehouse", version: "20.0.26", lan: "192.168.41.10", up: true,
			since: now.Add(-20 * time.Hour), phones: 4, latency: 31},
	}
	b.services = newServices()
	for i := range 5 {
		at := now.Add(-3*time.Hour - time.Duration(4-i)*24*time.Hour)
		b.addBackup(at)
	}
	for i := range opt.Users {
		b.users = append(b.users, user{id: 30 + i, number: 100 + i, registered: b.rng.IntN(10) > 0, loggedIn: i%9 == 0})
	}
	for i := range 12 {
		b.log(now.Add(-time.Duration(12-i)*7*time.Minute), 10018, "Info", "3CX Management Console", "RPS request delivered")
	}
	for range 4 {
		b.startCall(now.Add(-time.Duration(b.rng.IntN(200)) * time.Second))
	}
	return b
}

func newServices() []*service {
	list := [][2]string{
		{"3CXPhoneSystem01", "3CX PhoneSystem 01 SIP Server"},
		{"3CXQueueManager01", "3CX PhoneSystem 01 Queue Manager Server"},
		{"3CXIVR01", "3CX PhoneSystem 01 IVR Server"},
		{"3CXMediaServer", "3CX PhoneSystem Media Server"},
		{"3CXTunnel01", "3CX PhoneSystem 01 Tunnel"},
		{"3CXCfgServ01", "3CX PhoneSystem 01 Configuration Server"},
		{"3CXCallFlow01", "3CX PhoneSystem 01 Call Flow Server"},
		{"3CXSystemService01", "3CX PhoneSystem 01 System Server"},
		{"3CXEventNotificationManager", "3CX PhoneSystem Event Notification Manager"},
		{"3CXGatewayService", "3CX PhoneSystem Gateway Service"},
		{"3CXManagementConsole", "3CX PhoneSystem Management Console"},
		{"nginx", "Nginx Server"},
		{"postgresql", "PostgreSQL Database Server"},
	}
	out := make([]*service, len(list))
	for i, s := range list {
		out[i] = &service{name: s[0], title: s[1], status: "Running", memory: int64(60+11*i) << 20, threads: 18 + 5*i}
	}
	return out
}

// log adds an entry to the event log. The text quotes what must stay at the box.
func (b *box) log(at time.Time, code int, severity, source, message string, params ...string) {
	b.lastEvent++
	b.events = append(b.events, event{
		id: b.lastEvent, code: code, severity: severity, source: source, at: at, params: params,
		message: message + " (" + baitPerson + ", " + baitNumber + "99, " + baitSecret + ")",
	})
	const keep = 5000
	if len(b.events) > keep {
		b.events = append([]event(nil), b.events[len(b.events)-keep:]...)
	}
}

func (b *box) addBackup(at time.Time) {
	b.backups = append(b.backups, backup{
		name: fmt.Sprintf("%s.%s.zip", b.fqdn, at.UTC().Format("20060102150405")), at: at,
		size: 180<<20 + int64(b.rng.IntN(9<<20)),
	})
	if len(b.backups) > 7 {
		b.backups = b.backups[1:]
	}
}

func (b *box) lastBackup() time.Time {
	if len(b.backups) == 0 {
		return time.Time{}
	}
	return b.backups[len(b.backups)-1].at
}

// build tells whether this box is at least of the given update: v20 Update n is 20.0.n.
func (b *box) build(update int) bool {
	parts := strings.Split(b.version, ".")
	if len(parts) < 3 {
		return true
	}
	have := 0
	if _, err := fmt.Sscanf(parts[2], "%d", &have); err != nil {
		return true
	}
	return have >= update
}

func (b *box) trunk(number string) *trunk {
	for _, t := range b.trunks {
		if t.number == number {
			return t
		}
	}
	return nil
}
