package loadgen

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os/exec"
	"strconv"
	"strings"

	"sidetone/shared/wire"
)

// Query runs a statement and gives its rows as tab-separated text.
type Query func(ctx context.Context, sql string) (string, error)

// Command is a Query by `sidetone-collector sql`, with the flags that it needs.
func Command(bin string, flags ...string) Query {
	return func(ctx context.Context, sql string) (string, error) {
		cmd := exec.CommandContext(ctx, bin, append(append([]string{"sql"}, flags...), "--format", "TSV", sql)...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("%s sql: %w: %s", bin, err, strings.TrimSpace(stderr.String()))
		}
		return string(out), nil
	}
}

// key is one agent's epoch.
type key struct {
	agent uint32
	epoch uint64
}

// Stored is what ClickHouse has of a fleet's epochs.
type Stored struct {
	agents map[key]*storedAgent
	// Frames whose rows in the exact views are not as many as the frame ledger says.
	broken []brokenFrame
	// Repeated is rows of the raw tables that are there more than once; the exact views
	// show each once. It is told, and no difference.
	Repeated uint64
}

type storedAgent struct {
	frames []wire.Range // of the frame ledger, ascending
	dead   uint64       // frames in dead_letter
	kinds  [kindCount]storedKind
}

type storedKind struct{ rows, identities uint64 }

type brokenFrame struct {
	key
	seq, told, found uint64
}

// maxBroken bounds the frames that are told.
const maxBroken = 20

// Load asks what is stored of a ledger's agents.
func Load(ctx context.Context, q Query, l *Ledger) (*Stored, error) {
	s := &Stored{agents: map[key]*storedAgent{}}
	within := l.within()
	each := func(sql string, f func(n []uint64)) error {
		text, err := q(ctx, sql)
		if err != nil {
			return err
		}
		return rows(text, f)
	}
	err := each(`SELECT agent_id, epoch, min(seq), max(seq), countIf(dead_letter) FROM (
 SELECT agent_id, epoch, seq, dead_letter, seq - row_number() OVER (PARTITION BY agent_id, epoch ORDER BY seq) AS run
 FROM sidetone.frame WHERE `+within+`) GROUP BY agent_id, epoch, run ORDER BY agent_id, epoch, min(seq)`, func(n []uint64) {
		a := s.agent(n)
		a.frames = append(a.frames, wire.Range{From: n[2], To: n[3]})
		a.dead += n[4]
	})
	var union []string
	for i, kind := range kindNames {
		err = errors.Join(err, each("SELECT agent_id, epoch, count(), uniqExact(agent_id, epoch, seq, idx) FROM sidetone."+kind+" WHERE "+within+" GROUP BY agent_id, epoch", func(n []uint64) {
			s.agent(n).kinds[i] = storedKind{n[2], n[3]}
		}))
		err = errors.Join(err, each("SELECT 0, 0, count() - uniqExact(agent_id, epoch, seq, idx) FROM sidetone."+kind+"_raw WHERE "+within, func(n []uint64) { s.Repeated += n[2] }))
		union = append(union, "SELECT agent_id, epoch, seq, 0 AS told, count() AS found FROM sidetone."+kind+"_raw FINAL WHERE "+within+" GROUP BY agent_id, epoch, seq")
	}
	union = append(union, "SELECT agent_id, epoch, seq, toUInt64(rows) AS told, 0 AS found FROM sidetone.frame_raw FINAL WHERE NOT dead_letter AND "+within)
	err = errors.Join(err, each(fmt.Sprintf("SELECT agent_id, epoch, seq, sum(told) AS t, sum(found) AS f FROM (%s) GROUP BY agent_id, epoch, seq HAVING t != f ORDER BY agent_id, epoch, seq LIMIT %d",
		strings.Join(union, " UNION ALL "), maxBroken+1), func(n []uint64) {
		s.broken = append(s.broken, brokenFrame{key{uint32(n[0]), n[1]}, n[2], n[3], n[4]})
	}))
	if err != nil {
		return nil, fmt.Errorf("ask what is stored: %w", err)
	}
	return s, nil
}

// within is the condition that finds a ledger's rows: epochs lie close together, and
// belong to one agent each.
func (l *Ledger) within() string {
	from, to := uint64(math.MaxUint64), uint64(0)
	for i := range l.Agents {
		from, to = min(from, l.Agents[i].Epoch), max(to, l.Agents[i].Epoch)
	}
	return fmt.Sprintf("epoch BETWEEN %d AND %d", from, to)
}

func (s *Stored) agent(n []uint64) *storedAgent {
	k := key{uint32(n[0]), n[1]}
	a := s.agents[k]
	if a == nil {
		a = &storedAgent{}
		s.agents[k] = a
	}
	return a
}

// rows calls f with the numbers of each line.
func rows(text string, f func([]uint64)) error {
	for line := range strings.Lines(text) {
		var n []uint64
		for _, cell := range strings.Split(strings.TrimRight(line, "\n"), "\t") {
			v, err := strconv.ParseUint(cell, 10, 64)
			if err != nil {
				return fmt.Errorf("unexpected answer %q", line)
			}
			n = append(n, v)
		}
		f(n)
	}
	return nil
}

// Compare lists every difference between what a fleet has produced and what is stored:
// none means that each record is stored once, or is a gap that the agent has told.
func Compare(l *Ledger, s *Stored) []string {
	var out []string
	seen := map[key]bool{}
	for i := range l.Agents {
		a := &l.Agents[i]
		k := key{a.Agent, a.Epoch}
		seen[k] = true
		st := s.agents[k]
		if st == nil {
			st = &storedAgent{}
		}
		for _, text := range a.compare(st) {
			out = append(out, fmt.Sprintf("agent %d epoch %d: %s", a.Agent, a.Epoch, text))
		}
	}
	for k, st := range s.agents {
		if mine := len(seen) > 0 && !seen[k]; mine && l.has(k.agent) {
			out = append(out, fmt.Sprintf("agent %d epoch %d: %d frames of an epoch that the ledger does not have", k.agent, k.epoch, size(st.frames)))
		}
	}
	for i, b := range s.broken {
		if i == maxBroken {
			out = append(out, "and further frames with a wrong number of rows")
			break
		}
		out = append(out, fmt.Sprintf("agent %d epoch %d seq %d: the frame ledger says %d rows, there are %d", b.agent, b.epoch, b.seq, b.told, b.found))
	}
	return out
}

func (l *Ledger) has(agent uint32) bool {
	for i := range l.Agents {
		if l.Agents[i].Agent == agent {
			return true
		}
	}
	return false
}

// compare judges one agent.
func (l *AgentLedger) compare(st *storedAgent) (out []string) {
	bad := func(format string, a ...any) { out = append(out, fmt.Sprintf(format, a...)) }
	all := []wire.Range{{From: 1, To: l.Highest}}
	if l.Highest == 0 {
		all = nil
	}
	var gaps []wire.Range
	for _, g := range l.Gaps {
		gaps = append(gaps, wire.Range{From: g.From, To: g.To})
	}
	if r := without(l.Acked, st.frames); len(r) > 0 {
		bad("acked, but not stored: %s", text(r))
	}
	if r := without(without(without(all, l.Acked), st.frames), gaps); len(r) > 0 {
		bad("neither acked nor stored nor a gap: %s", text(r))
	}
	if r := without(st.frames, all); len(r) > 0 {
		bad("stored, but never produced: %s", text(r))
	}
	if st.dead > 0 {
		bad("%d frames in dead_letter", st.dead)
	}
	exact := size(l.Acked) == l.Highest
	for i, k := range st.kinds {
		switch least, most := l.AckedRows[i], l.Rows[i]; {
		case k.rows != k.identities:
			bad("%s: %d rows, but %d identities", kindNames[i], k.rows, k.identities)
		case exact && k.rows != most:
			bad("%s: %d rows, produced %d", kindNames[i], k.rows, most)
		case k.rows < least:
			bad("%s: %d rows, acked %d", kindNames[i], k.rows, least)
		case k.rows > most:
			bad("%s: %d rows, produced only %d", kindNames[i], k.rows, most)
		}
	}
	return out
}

// without gives the parts of a that are in none of b. Both are ascending.
func without(a, b []wire.Range) (out []wire.Range) {
	for _, r := range a {
		from := r.From
		for _, x := range b {
			if x.To < from || x.From > r.To {
				continue
			}
			if x.From > from {
				out = append(out, wire.Range{From: from, To: x.From - 1})
			}
			from = x.To + 1
		}
		if from <= r.To {
			out = append(out, wire.Range{From: from, To: r.To})
		}
	}
	return out
}

func size(r []wire.Range) (n uint64) {
	for _, x := range r {
		n += x.To - x.From + 1
	}
	return n
}

// maxRanges bounds the ranges that a text names.
const maxRanges = 8

func text(r []wire.Range) string {
	var parts []string
	for i, x := range r {
		if i == maxRanges {
			parts = append(parts, "…")
			break
		}
		if x.From == x.To {
			parts = append(parts, strconv.FormatUint(x.From, 10))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", x.From, x.To))
		}
	}
	return fmt.Sprintf("%s (%d records)", strings.Join(parts, ", "), size(r))
}

// Summary says in one line what was compared.
func (l *Ledger) Summary(s *Stored) string {
	var produced, acked, gaps, pending, stored uint64
	var made, found rowCounts
	for i := range l.Agents {
		a := &l.Agents[i]
		produced, acked, pending = produced+a.Highest, acked+size(a.Acked), pending+a.Pending
		for _, g := range a.Gaps {
			gaps += g.To - g.From + 1
		}
		made.add(&a.Rows)
		if st := s.agents[key{a.Agent, a.Epoch}]; st != nil {
			stored += size(st.frames)
			for k := range st.kinds {
				found[k] += st.kinds[k].rows
			}
		}
	}
	return fmt.Sprintf("%d agents: %d records produced, %d acked, %d in gaps, %d pending; %d stored; %d rows produced, %d in exact views; %d repetitions in raw tables",
		len(l.Agents), produced, acked, gaps, pending, stored, made.sum(), found.sum(), s.Repeated)
}
