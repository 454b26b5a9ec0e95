// Package incident makes incidents out of transitions: one for each cause (a rule at
// a subject), opened once and resolved once. Opening or resolving it and putting its
// messages into the outbox is one transaction. A cause that comes back soon reopens
// its incident and holds its message back. See DESIGN.md.
package incident

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"

	"sidetone/collector/internal/alert"
	"sidetone/collector/internal/authz"
	"sidetone/shared/telemetry"
)

// Severity is how urgent an incident is: that of its rule.
type Severity = alert.Severity

// Phase says whether an incident is open.
type Phase string

// The phases.
const (
	Open     Phase = "open"
	Resolved Phase = "resolved"
)

// Kind is what a message says of an incident.
type Kind string

// The kinds.
const (
	KindOpened   Kind = "opened"
	KindResolved Kind = "resolved"
)

// Incident is one cause from its opening to its resolution.
type Incident struct {
	ID int64
	// Key is the incident's name outside; it is made of cause and time of opening, so
	// that a repeated try to open is the same incident.
	Key    string
	Cause  alert.Key
	Source alert.Source
	Path   Path

	Severity Severity
	Title    string
	Subject  string
	Summary  string
	Advice   string
	Evidence []alert.Evidence

	Phase    Phase
	Opened   time.Time
	Resolved time.Time // zero while open
	// Resolution is one sentence on how it ended.
	Resolution string
	// Reopened counts how often the cause came back within the flap window, and
	// ReopenedAt is when it last did.
	Reopened   int
	ReopenedAt time.Time
	// Parent is the cause that hides this one, if any. Nothing sets it yet: when an
	// agent is silent or a PBX unreachable, the rows of what hangs on it stop, and
	// with them the incidents.
	Parent string

	// Messages is how the notifications fare; only lists fill it.
	Messages []MessageState
}

// Path is the names of where the incident is.
type Path struct {
	Tenant, Customer, Site, PBX string
}

// MessageState is how one notification fares.
type MessageState struct {
	Channel   string
	Recipient string
	Kind      Kind
	State     string // queued, sent, failed
	At        time.Time
	Error     string
}

// Announcement is one message about an incident to one recipient, as it goes into the
// outbox.
type Announcement struct {
	Key       string // idempotency key
	Channel   string
	Recipient string
	Kind      Kind
	Subject   string
	Text      string
	// Body is the structured form (JSON), fixed when the message is made, so that
	// every try sends the same.
	Body []byte
	// Thread is the idempotency key of the first message to this recipient.
	Thread string
	// NotBefore holds the message back.
	NotBefore time.Time
}

// Filter picks incidents.
type Filter struct {
	Phase Phase // "" means both
	Site  telemetry.SiteID
	Limit int // 0 means DefaultLimit; at most MaxLimit
}

// Limits of a list.
const (
	DefaultLimit = 100
	MaxLimit     = 1000
)

// Names tells the names of a place in the tree.
type Names interface {
	IncidentPath(ctx context.Context, src alert.Source) (Path, error)
}

// Announcer decides who is told and words it. Announce is called inside the store's
// transaction and must not block; Wake is called after the commit.
type Announcer interface {
	Announce(inc Incident, kind Kind) []Announcement
	Wake()
}

// Store keeps incidents.
type Store interface {
	// InIncidentTx runs fn in one transaction; it is committed when fn returns nil.
	InIncidentTx(ctx context.Context, fn func(Tx) error) error
	// Incidents lists newest first, open ones before all others.
	Incidents(ctx context.Context, scope authz.Scope, f Filter) ([]Incident, error)
	// OpenIncidents counts open incidents by site.
	OpenIncidents(ctx context.Context, scope authz.Scope) (map[telemetry.SiteID]int, error)
}

// Tx is what happens to one incident at once.
type Tx interface {
	// LatestIncident returns the newest incident of the cause.
	LatestIncident(cause alert.Key) (Incident, bool, error)
	// OpenCauses lists the incidents that are open.
	OpenCauses() ([]Incident, error)
	// InsertIncident stores a new incident and sets its ID.
	InsertIncident(inc *Incident) error
	UpdateIncident(inc Incident) error
	Enqueue(incidentID int64, a Announcement, now time.Time) error
	// WithdrawHeld takes back the opening messages of the incident that are still held
	// back at now, and returns the recipients that have been told of the opening or
	// will be: those that a resolution is due to.
	WithdrawHeld(incidentID int64, now time.Time) (told []Recipient, err error)
}

// Recipient is one receiver at one channel.
type Recipient struct{ Channel, Name string }

// makeKey names an incident by its cause and opening.
func makeKey(cause alert.Key, opened time.Time) string {
	sum := sha256.Sum256([]byte(cause.String() + "|" + strconv.FormatInt(opened.UnixMilli(), 10)))
	return hex.EncodeToString(sum[:12])
}
