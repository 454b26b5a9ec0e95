package telemetry

// Method is how a target is measured.
type Method string

// The methods of measuring. The names are those of the agent's configuration file.
const (
	MethodICMP  Method = "icmp"
	MethodSTAMP Method = "stamp"
	MethodTCP   Method = "tcp"
	MethodTLS   Method = "tls"
	MethodDNS   Method = "dns"
	MethodSTUN  Method = "stun"
)

// Target is what is measured. ID = MakeItemID("target", method, address, name).
type Target struct {
	ID      ItemID `cbor:"1,keyasint"`
	Method  Method `cbor:"2,keyasint"`
	Name    string `cbor:"3,keyasint"`
	Address string `cbor:"4,keyasint"`
	// IntervalMS is the time between attempts.
	IntervalMS uint32 `cbor:"5,keyasint,omitempty"`
}

// ProbeWindow is the result of one closed interval of attempts at one target.
//
// Sent = Received + Lost. Late counts answers after their timeout (they are part
// of Lost). Duplicated and Reordered (RFC 4737 type-P-reordered) count answers.
type ProbeWindow struct {
	Target ItemID
	// Observed is the start of the interval, agent's clock.
	Observed UnixMS
	// LengthMS is the length of the interval.
	LengthMS uint32

	Sent       uint32
	Received   uint32
	Lost       uint32
	Late       uint32
	Duplicated uint32
	Reordered  uint32

	// RTTUS has one entry for each attempt in the order of sending: the RTT
	// (RFC 2681) in microseconds, at least 1; 0 marks a lost attempt.
	RTTUS []uint32

	// Statistics over the received attempts, microseconds; zero when none came back.
	RTTMinUS  uint32
	RTTP10US  uint32
	RTTP50US  uint32
	RTTP90US  uint32
	RTTP99US  uint32
	RTTMaxUS  uint32
	RTTMeanUS uint32

	// JitterUS is the interarrival jitter of RFC 3550 section 6.4.1 at the end of
	// the window, microseconds. For methods without timestamps of the far end it
	// is computed from successive RTTs and so covers both directions.
	JitterUS uint32
	// IPDVP95US is the 95th percentile of |IPDV| (RFC 3393), microseconds.
	IPDVP95US uint32

	// LossRunMax is the longest run of successive losses.
	LossRunMax uint32
	// BurstRatioMilli is BurstR of ITU-T G.107 times 1000; 0 when nothing was lost.
	BurstRatioMilli uint32

	// Lost on the way there and on the way back; only STAMP can tell, else nil.
	LostForward *uint32
	LostReverse *uint32

	// Fault is the cause of the last lost attempt when it is known: "timeout",
	// "refused", "unreachable", "resolve", "tls", "answer", or "" when nothing was lost.
	Fault string
	// Detail is what the method learnt, in short: the mapped address (STUN), the
	// answer (DNS), name and expiry of the certificate (TLS). At most 200 bytes.
	Detail string
}

// PBXState is how the agent's reading of the PBX stands.
type PBXState string

// States of reading the PBX.
const (
	PBXOK          PBXState = "ok"
	PBXUnreachable PBXState = "unreachable" // no answer, no TLS, or not a 3CX
	PBXAuthFailed  PBXState = "auth_failed" // wrong credentials, second factor, or too few rights
	PBXBusy        PBXState = "busy"        // answers with errors, or asks us to wait
)

// PBXStatus is one reading of a PBX as a whole. Fields below Detail are only
// filled when State is PBXOK; pointers are nil when the PBX did not say.
type PBXStatus struct {
	Observed UnixMS   `cbor:"1,keyasint"`
	State    PBXState `cbor:"2,keyasint"`
	// Detail says why State is not ok, for a person. No secret, at most 300 bytes.
	Detail string `cbor:"3,keyasint,omitempty"`
	// AnswerMS is the time of the status request.
	AnswerMS uint32 `cbor:"4,keyasint,omitempty"`

	FQDN    string `cbor:"5,keyasint,omitempty"`
	Version string `cbor:"6,keyasint,omitempty"`
	OS      string `cbor:"7,keyasint,omitempty"`

	CallsActive *uint32 `cbor:"8,keyasint,omitempty"`
	CallsMax    *uint32 `cbor:"9,keyasint,omitempty"`
	// Calls by state, from the list of active calls; the list itself never leaves the agent.
	CallsTalking *uint32 `cbor:"10,keyasint,omitempty"`
	CallsRinging *uint32 `cbor:"11,keyasint,omitempty"`
	CallsOther   *uint32 `cbor:"12,keyasint,omitempty"`
	// LongestCallS is the age of the oldest established call, seconds.
	LongestCallS *uint32 `cbor:"13,keyasint,omitempty"`

	ExtensionsTotal      *uint32 `cbor:"14,keyasint,omitempty"`
	ExtensionsRegistered *uint32 `cbor:"15,keyasint,omitempty"`
	TrunksTotal          *uint32 `cbor:"16,keyasint,omitempty"`
	TrunksRegistered     *uint32 `cbor:"17,keyasint,omitempty"`

	ServicesNotRunning           *bool `cbor:"18,keyasint,omitempty"`
	SystemExtensionsUnregistered *bool `cbor:"19,keyasint,omitempty"`

	DiskUsedPercent *uint32 `cbor:"20,keyasint,omitempty"`
	DiskFreeBytes   *uint64 `cbor:"21,keyasint,omitempty"`
	DiskTotalBytes  *uint64 `cbor:"22,keyasint,omitempty"`

	RecordingUsedBytes  *uint64 `cbor:"23,keyasint,omitempty"`
	RecordingQuotaBytes *uint64 `cbor:"24,keyasint,omitempty"`

	BackupScheduled *bool  `cbor:"25,keyasint,omitempty"`
	LastBackup      UnixMS `cbor:"26,keyasint,omitempty"` // PBX's clock

	AutoUpdate   *bool `cbor:"27,keyasint,omitempty"`
	AuditLog     *bool `cbor:"28,keyasint,omitempty"`
	LocalIPValid *bool `cbor:"29,keyasint,omitempty"`
	// ClockOffsetMS is PBX's clock minus agent's clock, when the PBX told its time.
	ClockOffsetMS *int64 `cbor:"30,keyasint,omitempty"`
}

// Trunk is the state of one external line. ID = MakeItemID("trunk", number).
type Trunk struct {
	Observed UnixMS `cbor:"1,keyasint"`
	ID       ItemID `cbor:"2,keyasint"`
	Number   string `cbor:"3,keyasint"` // the trunk's DN inside the PBX
	Name     string `cbor:"4,keyasint"`
	Host     string `cbor:"5,keyasint,omitempty"`
	// Kind is "provider", "bridge" or "other"; only providers carry calls to the world.
	Kind     string `cbor:"6,keyasint,omitempty"`
	Template string `cbor:"7,keyasint,omitempty"`
	// Registered is the PBX's IsOnline; RegistrationNeeded false means that there is
	// no registration to lose.
	Registered         bool    `cbor:"8,keyasint"`
	RegistrationNeeded bool    `cbor:"9,keyasint"`
	FailCode           string  `cbor:"10,keyasint,omitempty"`
	ConfigurationIssue bool    `cbor:"11,keyasint,omitempty"`
	ChannelsMax        *uint32 `cbor:"12,keyasint,omitempty"`
	CallsActive        *uint32 `cbor:"13,keyasint,omitempty"`
}

// SBC is the state of one session border controller. ID = MakeItemID("sbc", name).
type SBC struct {
	Observed         UnixMS  `cbor:"1,keyasint"`
	ID               ItemID  `cbor:"2,keyasint"`
	Name             string  `cbor:"3,keyasint"`
	Connected        bool    `cbor:"4,keyasint"`
	Version          string  `cbor:"5,keyasint,omitempty"`
	LatencyMS        *uint32 `cbor:"6,keyasint,omitempty"`
	CallsActive      *uint32 `cbor:"7,keyasint,omitempty"`
	PhonesRegistered *uint32 `cbor:"8,keyasint,omitempty"`
	UDPActive        *bool   `cbor:"9,keyasint,omitempty"`
	ConnectedS       *uint64 `cbor:"10,keyasint,omitempty"`
}

// Service is the state of one 3CX service. ID = MakeItemID("service", name).
type Service struct {
	Observed UnixMS `cbor:"1,keyasint"`
	ID       ItemID `cbor:"2,keyasint"`
	Name     string `cbor:"3,keyasint"`
	Title    string `cbor:"4,keyasint,omitempty"`
	// Status is one of the PBX's words: Running, Stopped, StartPending, …
	Status      string  `cbor:"5,keyasint"`
	MemoryBytes *uint64 `cbor:"6,keyasint,omitempty"`
	Threads     *uint32 `cbor:"7,keyasint,omitempty"`
	Handles     *uint32 `cbor:"8,keyasint,omitempty"`
}

// ExtensionSummary counts extensions; no extension is named.
type ExtensionSummary struct {
	Observed           UnixMS  `cbor:"1,keyasint"`
	Total              uint32  `cbor:"2,keyasint"`
	Enabled            uint32  `cbor:"3,keyasint"`
	Registered         uint32  `cbor:"4,keyasint"`
	QueueLoggedIn      uint32  `cbor:"5,keyasint"`
	SystemTotal        *uint32 `cbor:"6,keyasint,omitempty"`
	SystemUnregistered *uint32 `cbor:"7,keyasint,omitempty"`
}

// Backup describes the backups that the PBX holds.
type Backup struct {
	Observed        UnixMS  `cbor:"1,keyasint"`
	Count           uint32  `cbor:"2,keyasint"`
	Newest          UnixMS  `cbor:"3,keyasint,omitempty"` // PBX's clock; zero when there is none
	NewestSizeBytes uint64  `cbor:"4,keyasint,omitempty"`
	TotalSizeBytes  uint64  `cbor:"5,keyasint,omitempty"`
	ScheduleEnabled *bool   `cbor:"6,keyasint,omitempty"`
	Encrypted       *bool   `cbor:"7,keyasint,omitempty"`
	Repository      string  `cbor:"8,keyasint,omitempty"` // Local, Sftp, …
	KeptCopies      *uint32 `cbor:"9,keyasint,omitempty"`
}

// Licence is the PBX's licence. The key itself is never read into a row.
type Licence struct {
	Observed           UnixMS  `cbor:"1,keyasint"`
	ProductCode        string  `cbor:"2,keyasint,omitempty"`
	Active             *bool   `cbor:"3,keyasint,omitempty"`
	Expires            UnixMS  `cbor:"4,keyasint,omitempty"`
	MaintenanceExpires UnixMS  `cbor:"5,keyasint,omitempty"`
	CallsMax           *uint32 `cbor:"6,keyasint,omitempty"`
	Support            *bool   `cbor:"7,keyasint,omitempty"`
}

// EventLogEntry is one line of the PBX's event log, without its text: the text can
// quote numbers, addresses and secrets.
type EventLogEntry struct {
	Observed UnixMS `cbor:"1,keyasint"` // PBX's clock
	EntryID  int64  `cbor:"2,keyasint"`
	EventID  uint32 `cbor:"3,keyasint"`
	Severity string `cbor:"4,keyasint"` // Error, Warning, Info
	Source   string `cbor:"5,keyasint,omitempty"`
}

// Subject kinds of state changes.
const (
	SubjectPBX     = "pbx"
	SubjectTrunk   = "trunk"
	SubjectSBC     = "sbc"
	SubjectService = "service"
	SubjectTarget  = "target"
	SubjectAgent   = "agent"
)

// StateChange is an event: something changed at an instant.
type StateChange struct {
	Observed UnixMS `cbor:"1,keyasint"`
	Subject  string `cbor:"2,keyasint"` // one of the Subject constants
	Item     ItemID `cbor:"3,keyasint,omitempty"`
	Name     string `cbor:"4,keyasint,omitempty"`
	From     string `cbor:"5,keyasint,omitempty"`
	To       string `cbor:"6,keyasint"`
	Detail   string `cbor:"7,keyasint,omitempty"`
}

// AgentHealth is what the agent says of itself.
type AgentHealth struct {
	Observed          UnixMS `cbor:"1,keyasint"`
	UptimeS           uint64 `cbor:"2,keyasint"`
	RSSBytes          uint64 `cbor:"3,keyasint"`
	CPUMS             uint64 `cbor:"4,keyasint"` // user + system since the start
	Goroutines        uint32 `cbor:"5,keyasint"`
	SpoolRecords      uint64 `cbor:"6,keyasint"`
	SpoolBytes        uint64 `cbor:"7,keyasint"`
	SpoolOldestMS     uint64 `cbor:"8,keyasint"` // age of the oldest record not acked
	SpoolDegraded     bool   `cbor:"9,keyasint,omitempty"`
	DroppedTotal      uint64 `cbor:"10,keyasint,omitempty"` // records dropped since the start
	ProbeOverrunTotal uint64 `cbor:"11,keyasint,omitempty"`
	Load1Milli        uint32 `cbor:"12,keyasint,omitempty"`
	MemoryFreeBytes   uint64 `cbor:"13,keyasint,omitempty"`
	DiskFreeBytes     uint64 `cbor:"14,keyasint,omitempty"`
	Version           string `cbor:"15,keyasint,omitempty"`
	// The spool's numbers: its epoch, the epoch's first seq, the seq that the next
	// record will get, and the lowest seq that still waits (SpoolNext when none
	// does). What is below SpoolLowest and not stored will never come.
	SpoolEpoch  uint64 `cbor:"16,keyasint,omitempty"`
	SpoolFirst  uint64 `cbor:"17,keyasint,omitempty"`
	SpoolNext   uint64 `cbor:"18,keyasint,omitempty"`
	SpoolLowest uint64 `cbor:"19,keyasint,omitempty"`
}

// LinkEvent is a change of the agent's link to the collector.
type LinkEvent struct {
	Observed UnixMS `cbor:"1,keyasint"`
	// Event is "up", "down", "refused" (no way to the collector), "moved" (to another
	// transport without a break), "paused" and "resumed" (the backlog, for the sake of
	// the line).
	Event     string `cbor:"2,keyasint"`
	Transport string `cbor:"3,keyasint,omitempty"`
	Collector string `cbor:"4,keyasint,omitempty"`
	Reason    string `cbor:"5,keyasint,omitempty"`
}

// Reasons of a gap.
const (
	GapEvicted   = "evicted"   // dropped at the agent for want of room
	GapDamaged   = "damaged"   // lost to damage of the spool
	GapRejected  = "rejected"  // the collector refused it for its content
	GapDiscarded = "discarded" // a person threw the backlog away
)

// Gap is a range of sequence numbers that will never arrive, ends included.
type Gap struct {
	Observed UnixMS `cbor:"1,keyasint"`
	Epoch    uint64 `cbor:"2,keyasint"`
	From     uint64 `cbor:"3,keyasint"`
	To       uint64 `cbor:"4,keyasint"`
	Reason   string `cbor:"5,keyasint"`
}
