package api

import "sidetone/shared/telemetry"

// ms is Unix milliseconds.
type ms = telemetry.UnixMS

// State words of a site, worst first.
const (
	StateDown     = "down"
	StateNoData   = "no_data"
	StateDegraded = "degraded"
	StateOK       = "ok"
)

// Session says who is signed in.
type Session struct {
	SignedIn       bool   `json:"signed_in"`
	SetupNeeded    bool   `json:"setup_needed"`
	User           *User  `json:"user,omitempty"`
	ProductVersion string `json:"product_version"`
}

// User is a person with an account.
type User struct {
	Email string `json:"email"`
	Name  string `json:"name"`
	Role  string `json:"role"`
}

// Storage says whether measurements reach ClickHouse.
type Storage struct {
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
	Since  ms     `json:"since_ms,omitempty"`
}

// Counts is sites by state.
type Counts struct {
	OK       int `json:"ok"`
	Degraded int `json:"degraded"`
	Down     int `json:"down"`
	NoData   int `json:"no_data"`
}

// Fleet is all sites in scope, worst first.
type Fleet struct {
	Generated ms        `json:"generated_ms"`
	Storage   Storage   `json:"storage"`
	Counts    Counts    `json:"counts"`
	Sites     []SiteRow `json:"sites"`
}

// SiteRow is one site on the fleet list. Absent fields are not known.
type SiteRow struct {
	SiteID   telemetry.SiteID `json:"site_id"`
	Tenant   string           `json:"tenant"`
	Customer string           `json:"customer"`
	Site     string           `json:"site"`

	State         string `json:"state" enum:"ok,degraded,down,no_data"`
	Reason        string `json:"reason,omitempty"`
	Since         ms     `json:"since_ms,omitempty"`
	OpenIncidents int    `json:"open_incidents"`

	PBXName    string `json:"pbx_name,omitempty"`
	PBXFQDN    string `json:"pbx_fqdn,omitempty"`
	PBXVersion string `json:"pbx_version,omitempty"`
	PBXState   string `json:"pbx_state,omitempty"`

	TrunksRegistered *uint32 `json:"trunks_registered,omitempty"`
	TrunksTotal      *uint32 `json:"trunks_total,omitempty"`
	CallsActive      *uint32 `json:"calls_active,omitempty"`
	CallsMax         *uint32 `json:"calls_max,omitempty"`

	// Worst of the newest probe windows.
	WorstLossRatio *float64 `json:"worst_loss_ratio,omitempty"`
	WorstRTTP50US  *uint32  `json:"worst_rtt_p50_us,omitempty"`
	WorstTarget    string   `json:"worst_target,omitempty"`

	LastSeen        ms  `json:"last_seen_ms,omitempty"`
	AgentsConnected int `json:"agents_connected"`
	AgentsTotal     int `json:"agents_total"`
}

// SiteDetail is everything that the site page shows.
type SiteDetail struct {
	Row       SiteRow    `json:"row"`
	Agents    []Agent    `json:"agents"`
	PBX       *PBX       `json:"pbx,omitempty"`
	Trunks    []Trunk    `json:"trunks"`
	SBCs      []SBC      `json:"sbcs"`
	Services  []Service  `json:"services"`
	Targets   []Target   `json:"targets"`
	Incidents []Incident `json:"incidents"`
	Changes   []Change   `json:"changes"`
}

// Agent is one agent of a site.
type Agent struct {
	AgentID            telemetry.AgentID `json:"agent_id"`
	Hostname           string            `json:"hostname"`
	OS                 string            `json:"os"`
	Arch               string            `json:"arch"`
	Version            string            `json:"version"`
	Connected          bool              `json:"connected"`
	Since              ms                `json:"since_ms,omitempty"`
	Transport          string            `json:"transport,omitempty"`
	Remote             string            `json:"remote,omitempty"`
	LastSeen           ms                `json:"last_seen_ms,omitempty"`
	SpoolRecords       *uint64           `json:"spool_records,omitempty"`
	SpoolBytes         *uint64           `json:"spool_bytes,omitempty"`
	SpoolOldest        ms                `json:"spool_oldest_ms,omitempty" doc:"when the oldest record that is not acked entered the spool"`
	SpoolDegraded      bool              `json:"spool_degraded,omitempty"`
	RSSBytes           *uint64           `json:"rss_bytes,omitempty"`
	CertificateExpires ms                `json:"certificate_expires_ms,omitempty"`
	ClockOffsetMS      *int64            `json:"clock_offset_ms,omitempty"`
}

// PBX is the newest reading of the PBX as a whole.
type PBX struct {
	Observed ms     `json:"observed_ms"`
	State    string `json:"state"`
	Detail   string `json:"detail,omitempty"`
	AnswerMS uint32 `json:"answer_ms,omitempty"`
	FQDN     string `json:"fqdn,omitempty"`
	Version  string `json:"version,omitempty"`
	OS       string `json:"os,omitempty"`

	CallsActive          *uint32 `json:"calls_active,omitempty"`
	CallsMax             *uint32 `json:"calls_max,omitempty"`
	ExtensionsRegistered *uint32 `json:"extensions_registered,omitempty"`
	ExtensionsTotal      *uint32 `json:"extensions_total,omitempty"`
	DiskUsedPercent      *uint32 `json:"disk_used_percent,omitempty"`
	DiskFreeBytes        *uint64 `json:"disk_free_bytes,omitempty"`
	DiskTotalBytes       *uint64 `json:"disk_total_bytes,omitempty"`
	RecordingUsedBytes   *uint64 `json:"recording_used_bytes,omitempty"`
	RecordingQuotaBytes  *uint64 `json:"recording_quota_bytes,omitempty"`

	BackupScheduled       *bool   `json:"backup_scheduled,omitempty"`
	LastBackup            ms      `json:"last_backup_ms,omitempty"`
	BackupCount           *uint32 `json:"backup_count,omitempty"`
	BackupNewestSizeBytes *uint64 `json:"backup_newest_size_bytes,omitempty"`

	LicenceProduct     string `json:"licence_product,omitempty"`
	LicenceActive      *bool  `json:"licence_active,omitempty"`
	LicenceExpires     ms     `json:"licence_expires_ms,omitempty"`
	MaintenanceExpires ms     `json:"maintenance_expires_ms,omitempty"`
	Support            *bool  `json:"support,omitempty"`
	AutoUpdate         *bool  `json:"auto_update,omitempty"`
	AuditLog           *bool  `json:"audit_log,omitempty"`
}

// Trunk is one external line.
type Trunk struct {
	ItemID             string  `json:"item_id"`
	Observed           ms      `json:"observed_ms"`
	Number             string  `json:"number"`
	Name               string  `json:"name"`
	Host               string  `json:"host,omitempty"`
	Kind               string  `json:"kind"`
	Registered         bool    `json:"registered"`
	RegistrationNeeded bool    `json:"registration_needed"`
	FailCode           string  `json:"fail_code,omitempty"`
	ConfigurationIssue bool    `json:"configuration_issue"`
	ChannelsMax        *uint32 `json:"channels_max,omitempty"`
	CallsActive        *uint32 `json:"calls_active,omitempty"`
	Since              ms      `json:"since_ms,omitempty"`
}

// SBC is one session border controller.
type SBC struct {
	ItemID           string  `json:"item_id"`
	Observed         ms      `json:"observed_ms"`
	Name             string  `json:"name"`
	Connected        bool    `json:"connected"`
	Version          string  `json:"version,omitempty"`
	LatencyMS        *uint32 `json:"latency_ms,omitempty"`
	CallsActive      *uint32 `json:"calls_active,omitempty"`
	PhonesRegistered *uint32 `json:"phones_registered,omitempty"`
	Since            ms      `json:"since_ms,omitempty"`
}

// Service is one 3CX service.
type Service struct {
	ItemID      string  `json:"item_id"`
	Observed    ms      `json:"observed_ms"`
	Name        string  `json:"name"`
	Title       string  `json:"title,omitempty"`
	Status      string  `json:"status"`
	MemoryBytes *uint64 `json:"memory_bytes,omitempty"`
	Since       ms      `json:"since_ms,omitempty"`
}

// Target is what is measured, with its newest window.
type Target struct {
	ItemID  string            `json:"item_id"`
	AgentID telemetry.AgentID `json:"agent_id"`
	Method  string            `json:"method"`
	Name    string            `json:"name"`
	Address string            `json:"address"`
	Last    *Window           `json:"last,omitempty"`
}

// Window is one closed interval of probing. Delays are absent when nothing came back.
type Window struct {
	Observed    ms      `json:"observed_ms"`
	LengthMS    uint32  `json:"length_ms"`
	Sent        uint32  `json:"sent"`
	Received    uint32  `json:"received"`
	Lost        uint32  `json:"lost"`
	RTTMinUS    *uint32 `json:"rtt_min_us,omitempty"`
	RTTP10US    *uint32 `json:"rtt_p10_us,omitempty"`
	RTTP50US    *uint32 `json:"rtt_p50_us,omitempty"`
	RTTP90US    *uint32 `json:"rtt_p90_us,omitempty"`
	RTTMaxUS    *uint32 `json:"rtt_max_us,omitempty"`
	JitterUS    *uint32 `json:"jitter_us,omitempty" doc:"interarrival jitter, RFC 3550"`
	LossRatio   float64 `json:"loss_ratio"`
	LostForward *uint32 `json:"lost_forward,omitempty"`
	LostReverse *uint32 `json:"lost_reverse,omitempty"`
	Fault       string  `json:"fault,omitempty"`
	Detail      string  `json:"detail,omitempty"`
}

// Change is a state change of something at the site.
type Change struct {
	Observed ms     `json:"observed_ms"`
	Subject  string `json:"subject"`
	Name     string `json:"name"`
	From     string `json:"from,omitempty"`
	To       string `json:"to"`
	Detail   string `json:"detail,omitempty"`
}

// Incident is one cause, from its opening to its resolution.
type Incident struct {
	IncidentID int64            `json:"incident_id"`
	Tenant     string           `json:"tenant"`
	Customer   string           `json:"customer"`
	Site       string           `json:"site"`
	SiteID     telemetry.SiteID `json:"site_id"`
	Rule       string           `json:"rule"`
	Title      string           `json:"title"`
	Severity   string           `json:"severity"`
	Subject    string           `json:"subject"`
	State      string           `json:"state" enum:"open,resolved"`
	Opened     ms               `json:"opened_ms"`
	Resolved   ms               `json:"resolved_ms,omitempty"`
	Summary    string           `json:"summary"`
	Resolution string           `json:"resolution,omitempty"`
	Advice     string           `json:"advice,omitempty"`
	Evidence   []Evidence       `json:"evidence"`
	Messages   []MessageState   `json:"messages"`
}

// Evidence is one fact that an incident rests on.
type Evidence struct {
	Label string `json:"label"`
	Value string `json:"value"`
}

// MessageState is how a notification fared.
type MessageState struct {
	Channel string `json:"channel"`
	Kind    string `json:"kind" enum:"opened,resolved"`
	State   string `json:"state" enum:"queued,sent,failed"`
	At      ms     `json:"at_ms,omitempty"`
	Error   string `json:"error,omitempty"`
}

// Series is a curve as columns of equal length; null where there is no data.
type Series struct {
	Target Target `json:"target"`
	From   ms     `json:"from_ms"`
	To     ms     `json:"to_ms"`
	StepMS int64  `json:"step_ms"`

	T         []ms       `json:"t_ms"`
	RTTMinUS  []*uint32  `json:"rtt_min_us"`
	RTTP10US  []*uint32  `json:"rtt_p10_us"`
	RTTP50US  []*uint32  `json:"rtt_p50_us"`
	RTTP90US  []*uint32  `json:"rtt_p90_us"`
	RTTMaxUS  []*uint32  `json:"rtt_max_us"`
	JitterUS  []*uint32  `json:"jitter_us"`
	LossRatio []*float64 `json:"loss_ratio"`
	Sent      []*uint32  `json:"sent"`
}

// Tree is the names that tokens can be made for.
type Tree struct {
	Tenants []TreeTenant `json:"tenants"`
}

// TreeTenant is one tenant of the tree.
type TreeTenant struct {
	TenantID  telemetry.TenantID `json:"tenant_id"`
	Name      string             `json:"name"`
	Customers []TreeCustomer     `json:"customers"`
}

// TreeCustomer is one customer of a tenant.
type TreeCustomer struct {
	CustomerID telemetry.CustomerID `json:"customer_id"`
	Name       string               `json:"name"`
	Sites      []TreeSite           `json:"sites"`
}

// TreeSite is one site of a customer.
type TreeSite struct {
	SiteID telemetry.SiteID `json:"site_id"`
	Name   string           `json:"name"`
}

// NewToken is a token that was just made; it is shown this once.
type NewToken struct {
	Token   string `json:"token"`
	Command string `json:"command"`
	Expires ms     `json:"expires_ms"`
}
