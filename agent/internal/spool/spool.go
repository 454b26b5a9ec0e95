// Package spool is the agent's durable, bounded queue of encoded payloads: the only
// queue of the system that survives a crash. It keeps records in Badger, fenced with
// its own checksums, a sentinel file outside the database, a free-space guard and
// quarantine, and it accounts for every sequence number that it ever gave: a record
// is delivered and acknowledged, or its number is in a gap. DESIGN.md has the on-disk
// form, the invariants, and what happens at a crash in each step.
package spool

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"sidetone/shared/telemetry"
	"sidetone/shared/wire"
)

var (
	// ErrLocked says that another process has the spool open.
	ErrLocked = errors.New("spool is in use by another process")
	// ErrTooLarge says that a payload is over MaxPayload, or empty.
	ErrTooLarge = errors.New("payload is empty or too large for the spool")
	// ErrClosed says that the spool was closed.
	ErrClosed = errors.New("spool is closed")
)

// Config is what an operator may choose. Zero values mean the defaults.
type Config struct {
	Dir string
	// MaxBytes is the hard cap of what records take on disk.
	MaxBytes uint64
	// MaxAge is how long a record is kept.
	MaxAge time.Duration
	// MaxRecords bounds the index in memory, 24 bytes each.
	MaxRecords int
	// MinFreeBytes is the free space below which nothing is appended on disk.
	MinFreeBytes uint64
	// MaxMemoryBytes bounds the records kept in memory while the disk is unusable.
	MaxMemoryBytes uint64
	// BallastBytes is the size of the ballast; NoBallast is none.
	BallastBytes uint64
	NoBallast    bool
	// Encrypt has payloads encrypted at rest. Switching it changes new records only.
	Encrypt bool
	// KeyFile holds the key, and is made when there is none; by default it is beside Dir.
	KeyFile string
	// Credentials is a directory with credentials; a key there goes before KeyFile. By
	// default it is systemd's, $CREDENTIALS_DIRECTORY.
	Credentials string
}

// Defaults and bounds of Config.
const (
	DefaultMaxBytes       = 512 << 20
	DefaultMaxAge         = 14 * 24 * time.Hour
	DefaultMaxRecords     = 250_000
	DefaultMinFreeBytes   = 256 << 20
	DefaultMaxMemoryBytes = 16 << 20

	minMaxBytes = 1 << 20
	maxMaxBytes = 64 << 30
	minMaxAge   = time.Minute
	maxBallast  = 1 << 30
)

// Validate lists all mistakes, each with the path of its key.
func (c Config) Validate() []error {
	var errs []error
	if c.MaxBytes != 0 && (c.MaxBytes < minMaxBytes || c.MaxBytes > maxMaxBytes) {
		errs = append(errs, fmt.Errorf("spool.max_bytes: %d is outside %d (1 MiB) to %d (64 GiB)", c.MaxBytes, minMaxBytes, uint64(maxMaxBytes)))
	}
	if c.BallastBytes > maxBallast {
		errs = append(errs, fmt.Errorf("spool.ballast_bytes: %d is more than %d (1 GiB)", c.BallastBytes, maxBallast))
	}
	if c.MaxAge != 0 && c.MaxAge < minMaxAge {
		errs = append(errs, fmt.Errorf("spool.max_age: %s is less than %s", c.MaxAge, minMaxAge))
	}
	return errs
}

func (c Config) withDefaults() Config {
	if c.MaxBytes == 0 {
		c.MaxBytes = DefaultMaxBytes
	}
	if c.MaxAge == 0 {
		c.MaxAge = DefaultMaxAge
	}
	if c.MaxRecords == 0 {
		c.MaxRecords = DefaultMaxRecords
	}
	if c.MinFreeBytes == 0 {
		c.MinFreeBytes = DefaultMinFreeBytes
	}
	if c.MaxMemoryBytes == 0 {
		c.MaxMemoryBytes = DefaultMaxMemoryBytes
	}
	if c.BallastBytes == 0 {
		c.BallastBytes = DefaultBallastBytes
	}
	if c.KeyFile == "" {
		c.KeyFile = filepath.Join(filepath.Dir(filepath.Clean(c.Dir)), KeyFileName)
	}
	if c.Credentials == "" {
		c.Credentials = os.Getenv("CREDENTIALS_DIRECTORY")
	}
	return c
}

// Event is a change that a person should hear of.
type Event struct{ From, To, Detail string }

// States in events.
const (
	StateOK          = "spool_ok"
	StateDegraded    = "spool_degraded"     // records are kept in memory only
	StateQuarantined = "spool_quarantined"  // the database was set aside
	StateDamaged     = "spool_damaged"      // records were lost to damage
	StateBallastGone = "spool_ballast_gone" // the disk is nearly full
)

// Deps is handed in by code. All but Log may be nil.
type Deps struct {
	Log zerolog.Logger
	Now func() time.Time
	// FreeSpace gives free and total bytes of the filesystem that holds path.
	FreeSpace func(path string) (free, total uint64, err error)
	// Event is called, without locks, for what a person should hear of.
	Event func(Event)
	// Precheck opens the database in dir for trial, where it may crash: see ExecChecker.
	// Without it, only the known faults are looked for before Badger opens it.
	Precheck func(ctx context.Context, dir string) error

	boot string // the machine's life, for tests
}

// Spool is safe for concurrent use.
type Spool struct {
	cfg      Config
	deps     Deps
	appended chan struct{}
	lock     *os.File

	mu          sync.Mutex // guards all below; held across disk writes
	closed      bool
	db          *store // nil while it cannot be opened
	sentinel    *sentinel
	idx         index
	payloads    map[uint64][]byte // of records in memory, by seq
	epochs      []epochStart      // ascending; the last is the current one
	next        uint64            // seq of the next record
	keys        keyring
	before      string  // the database's files as they were before it was opened; "" = not kept
	doomed      []write // deletions of records that wait for the disk
	gaps        gapList
	gapsOld     bool     // the database does not hold the present gaps
	promised    *promise // what must be in the database, while that is not open yet
	degraded    bool
	why         string // reason of degraded
	retryAt     time.Time
	setAsideDB  bool // a database was quarantined by this process
	dropped     uint64
	events      []Event
	damageAt    time.Time // of the last event of damage
	ballastGone bool      // thrown off, and not made again yet
	reclaimAt   time.Time // when the database was last compacted for want of space
	ballastAt   time.Time // when the ballast was last looked after
	statusAt    time.Time
	lastStat    Status
}

func (c Config) path(name string) string { return filepath.Join(c.Dir, name) }

const (
	dbName       = "db"
	sentinelName = "sentinel"
	lockName     = "lock"
	statusName   = "status.json"
)

// Open opens or makes the spool in cfg.Dir. It fails only when the directory cannot be
// used at all or another process has it; damage is quarantined, and a full disk makes
// it start in memory.
func Open(cfg Config, deps Deps) (*Spool, error) {
	cfg = cfg.withDefaults()
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.FreeSpace == nil {
		deps.FreeSpace = freeSpace
	}
	if deps.boot == "" {
		deps.boot = bootID()
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	lock, err := takeLock(cfg.path(lockName))
	if err != nil {
		return nil, fmt.Errorf("open spool %s: %w", cfg.Dir, err)
	}
	s := &Spool{
		cfg: cfg, deps: deps, lock: lock,
		appended: make(chan struct{}, 1),
		payloads: map[uint64][]byte{},
	}
	dropViews(cfg.Dir)
	s.mu.Lock()
	s.open()
	s.mu.Unlock()
	s.tellEvents()
	return s, nil
}

func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, syscall.EROFS) {
		f, err = os.Open(path) // a disk that turned read-only: we go on in memory
	}
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (s *Spool) epoch() uint64 { return s.epochs[len(s.epochs)-1].Epoch }

// epochOf tells to which epoch a seq belongs.
func (s *Spool) epochOf(seq uint64) uint64 {
	for i := len(s.epochs) - 1; i > 0; i-- {
		if s.epochs[i].From <= seq {
			return s.epochs[i].Epoch
		}
	}
	return s.epochs[0].Epoch
}

// Appended receives after appends; it is edge-triggered with room for one.
func (s *Spool) Appended() <-chan struct{} { return s.appended }

// Append makes payload durable and returns its number. It fails only for a payload
// that can never be taken, or on a closed spool: an unusable disk means memory.
func (s *Spool) Append(class wire.Class, payload []byte) (epoch, seq uint64, err error) {
	return s.AppendBatch(class, [][]byte{payload})
}

// AppendBatch makes payloads durable with as few flushes as may be. They get numbers from
// first upwards, in one epoch. All are taken, or none.
func (s *Spool) AppendBatch(class wire.Class, payloads [][]byte) (epoch, first uint64, err error) {
	for _, p := range payloads {
		if len(p) == 0 || len(p) > MaxPayload {
			return 0, 0, fmt.Errorf("append %d bytes: %w", len(p), ErrTooLarge)
		}
	}
	if class != wire.ClassState {
		class = wire.ClassSample
	}
	defer s.tellEvents()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, 0, ErrClosed
	}
	epoch, first = s.epoch(), s.next
	s.checkDisk()
	for len(payloads) > 0 {
		n, size := 0, 0
		for n < len(payloads) && n < perPutRecords && (n == 0 || size+len(payloads[n]) <= perPutBytes) {
			size += len(payloads[n])
			n++
		}
		s.appendSome(class, payloads[:n])
		payloads = payloads[n:]
	}
	s.makeRoomInMemory()
	s.promiseAppend()
	select {
	case s.appended <- struct{}{}:
	default:
	}
	return epoch, first, nil
}

// appendSome takes payloads that fit into one transaction.
func (s *Spool) appendSome(class wire.Class, payloads [][]byte) {
	r := Record{Epoch: s.epoch(), Class: class, Created: s.deps.Now().UTC()}
	entries := make([]entry, len(payloads))
	var total uint64
	for i, p := range payloads {
		r.Seq, r.Payload = s.next+uint64(i), p
		entries[i] = entryOf(&r)
		if s.cfg.Encrypt {
			entries[i].size += sealOverhead
		}
		total += uint64(entries[i].size)
	}
	s.makeRoom(total, len(entries))
	if !s.degraded {
		ws := make([]write, 0, 2*len(entries))
		for i, p := range payloads {
			r.Seq, r.Payload, r.CRC = entries[i].seq, p, checksum(p)
			v, err := s.encode(&r)
			if err != nil {
				s.degrade(err.Error())
				break
			}
			ws = append(ws, write{key(prefixRecord, r.Epoch, r.Seq), v},
				write{key(prefixIndex, r.Epoch, r.Seq), indexValue(entries[i])})
		}
		if !s.degraded {
			if err := s.db.write(ws); err != nil {
				s.degrade(err.Error())
			}
		}
	}
	for i, e := range entries {
		if s.degraded {
			e.state = inMemory
			s.payloads[e.seq] = append([]byte(nil), payloads[i]...)
		}
		s.idx.add(e)
	}
	s.next += uint64(len(entries))
}

// put writes a record and its index entry in one transaction.
func (s *Spool) put(r *Record, e entry) error {
	v, err := s.encode(r)
	if err != nil {
		return err
	}
	return s.db.write([]write{
		{key(prefixRecord, r.Epoch, r.Seq), v},
		{key(prefixIndex, r.Epoch, r.Seq), indexValue(e)},
	})
}

// Read returns records with a seq above afterSeq, ascending, up to the limits but at
// least one when there is one. After damage, records of the former epoch come first:
// seq goes on over epochs, so each record must be sent under its own Epoch.
func (s *Spool) Read(afterSeq uint64, maxRecords, maxBytes int) ([]Record, error) {
	if afterSeq == math.MaxUint64 {
		return nil, nil
	}
	return s.ReadRange(afterSeq+1, math.MaxUint64, 0, maxRecords, maxBytes)
}

// ReadRange returns the records with a seq of from…to, ends included, and of one class
// (0 = any), ascending, up to the limits but at least one when there is one. What comes
// behind the last one returned was not looked at.
func (s *Spool) ReadRange(from, to uint64, class wire.Class, maxRecords, maxBytes int) ([]Record, error) {
	defer s.tellEvents()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	for from <= to {
		want := s.choose(from, to, class, maxRecords, maxBytes)
		if len(want) == 0 {
			break
		}
		out, err := s.loadEach(want)
		last := want[len(want)-1].seq
		if len(out) > 0 || err != nil || last == math.MaxUint64 {
			return out, nil // after an error: what is known to be good; try again later
		}
		from = last + 1 // all of them were damaged: there may be more
	}
	return nil, nil
}

// choose picks live records, within the limits.
func (s *Spool) choose(from, to uint64, class wire.Class, maxRecords, maxBytes int) []entry {
	var want []entry
	bytes := 0
	s.idx.each(from, func(e entry) bool {
		if e.seq > to {
			return false
		}
		if class != 0 && e.class != class {
			return true
		}
		bytes += int(e.size) - overhead - headerSize
		if len(want) >= maxRecords || len(want) > 0 && bytes > maxBytes {
			return false
		}
		want = append(want, e)
		return true
	})
	return want
}

// loadEach reads records; a damaged one is set aside and becomes a gap. The error is
// errUnreadable, and nothing is known to be lost then.
func (s *Spool) loadEach(want []entry) ([]Record, error) {
	var out []Record
	for _, e := range want {
		r, err := s.load(e)
		if errors.Is(err, errUnreadable) {
			return out, err
		}
		if err != nil {
			s.setAside(e, err.Error())
			s.note(StateOK, StateDamaged, fmt.Sprintf("record %d: %s", e.seq, err))
			s.retire([]entry{e}, telemetry.GapDamaged)
			continue
		}
		out = append(out, r)
	}
	return out, nil
}

// errUnreadable says that the database did not answer, which says nothing of the record.
var errUnreadable = errors.New("spool cannot be read now")

func (s *Spool) load(e entry) (Record, error) {
	epoch := s.epochOf(e.seq)
	if e.state == inMemory {
		p := s.payloads[e.seq]
		return Record{
			Epoch: epoch, Seq: e.seq, Class: e.class, Created: time.UnixMilli(e.created).UTC(),
			CRC: checksum(p), Payload: p,
		}, nil
	}
	k := key(prefixRecord, epoch, e.seq)
	v, err := s.db.get(k)
	if errors.Is(err, errNotFound) {
		return Record{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if err != nil {
		return Record{}, s.readFailed(k, err)
	}
	return s.decode(epoch, e.seq, v)
}

// readFailed judges a record that the database does not give. A block with a wrong
// checksum fails for ever, and says so in text only; so the record counts as damaged
// when it fails again and again while the database answers other questions.
func (s *Spool) readFailed(k []byte, err error) error {
	const tries = 3
	for range tries {
		if _, again := s.db.get(k); again == nil {
			return errUnreadable // it works again: the next Read has it
		}
	}
	if _, other := s.db.get(key(prefixNone)); !errors.Is(other, errNotFound) {
		s.deps.Log.Warn().Err(err).Msg("spool cannot be read now")
		return errUnreadable
	}
	return fmt.Errorf("%w: %w", errDamaged, err)
}

// Ack deletes records that the collector has stored.
func (s *Spool) Ack(epoch uint64, ranges []wire.Range) error {
	defer s.tellEvents()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	var done []entry
	for _, r := range ranges {
		s.idx.each(r.From, func(e entry) bool {
			if e.seq > r.To {
				return false
			}
			if s.epochOf(e.seq) == epoch {
				done = append(done, e)
			}
			return true
		})
	}
	s.forget(done, s.gaps.settle(done))
	return nil
}

// Drop sets a record aside that the collector rejected, and records a gap. The reason
// is text for a person.
func (s *Spool) Drop(epoch, seq uint64, reason string) error {
	defer s.tellEvents()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	e, ok := s.idx.find(seq)
	if !ok || s.epochOf(seq) != epoch {
		return nil
	}
	s.setAside(e, reason)
	s.deps.Log.Warn().Uint64("epoch", epoch).Uint64("seq", seq).Str("reason", clip(reason)).Msg("record rejected by the collector")
	s.retire([]entry{e}, telemetry.GapRejected)
	return nil
}

// Close makes everything durable that can be and gives the directory free.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.checkDisk()
	s.writeSentinel(true, true)
	s.writeStatus(false)
	s.closed = true
	var errs []error
	if s.db != nil {
		errs = append(errs, s.db.close())
	}
	if s.sentinel != nil {
		errs = append(errs, s.sentinel.close())
	}
	errs = append(errs, s.lock.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close spool %s: %w", s.cfg.Dir, err)
	}
	return nil
}
