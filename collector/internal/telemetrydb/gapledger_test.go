package telemetrydb_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/telemetrydb"
	"sidetone/shared/telemetry"
)

// past is an agent's history as the database gets it.
type past struct {
	world *world
	agent telemetry.AgentID
	start time.Time
	calls int
}

// world gathers what many agents sent, for few inserts: the nth thing that each of them
// sent goes into the nth.
type world struct{ rounds []*round }

type round struct {
	frames []telemetrydb.Frame
	blocks *telemetrydb.Blocks
}

// next is the round of the agent's next thing.
func (p *past) next() *round {
	if p.calls == len(p.world.rounds) {
		p.world.rounds = append(p.world.rounds, &round{blocks: telemetrydb.NewBlocks(telemetrydb.NewKnown())})
	}
	p.calls++
	return p.world.rounds[p.calls-1]
}

func (w *world) store(t *testing.T, db *telemetrydb.DB) {
	t.Helper()
	for i, r := range w.rounds {
		for _, b := range append(r.blocks.Blocks(), telemetrydb.FrameBlock(r.frames)) {
			if b == nil {
				continue
			}
			if err := db.InsertBlock(t.Context(), b, fmt.Sprintf("%s-%d", b.Table, i)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func (p *past) source() telemetry.Source {
	return telemetry.Source{Tenant: telemetry.TenantID(1 + p.agent%2), Customer: 2, Site: 3, Agent: p.agent}
}

// epoch makes one as the spool does, from a time after start.
func (p *past) epoch(after time.Duration) uint64 {
	return uint64(p.start.Add(after).UnixMilli())<<10 | 5
}

// frames stores frames [from, to] of an epoch, seq n made n times 10 s after start.
func (p *past) frames(epoch, from, to uint64) {
	p.framesAt(epoch, from, to, p.start.Add(time.Duration(from)*10*time.Second), false)
}

func (p *past) framesAt(epoch, from, to uint64, at time.Time, dead bool) {
	r := p.next()
	now := time.Now()
	for seq := from; ; seq++ {
		r.frames = append(r.frames, telemetrydb.Frame{Source: p.source(), Epoch: epoch, Seq: seq, Class: 1, ReceivedAt: now, Age: now.Sub(at), Bytes: 100, Rows: 10, DeadLetter: dead})
		at = at.Add(10 * time.Second)
		if seq == to {
			return
		}
	}
}

// rows stores rows that came in frame (epoch, seq).
func (p *past) rows(epoch, seq uint64, set *telemetry.Set) {
	p.next().blocks.Add(p.source(), epoch, seq, time.Now(), set)
}

func (p *past) gap(epoch, seq uint64, of, from, to uint64, reason string) {
	p.rows(epoch, seq, &telemetry.Set{Gaps: []telemetry.Gap{{Observed: telemetry.MS(time.Now()), Epoch: of, From: from, To: to, Reason: reason}}})
}

// health tells the spool's numbers in frame (epoch, seq).
func (p *past) health(epoch, seq, first, next, lowest uint64) {
	p.rows(epoch, seq, &telemetry.Set{AgentHealth: []telemetry.AgentHealth{{
		Observed: telemetry.MS(time.Now()), SpoolEpoch: epoch, SpoolFirst: first, SpoolNext: next, SpoolLowest: lowest,
	}}})
}

// ledger writes the missing ranges of each agent as text, oldest first.
func ledger(t *testing.T, db *telemetrydb.DB, start time.Time) map[telemetry.AgentID]string {
	t.Helper()
	list, more, err := db.GapLedger(t.Context(), authz.System(), telemetrydb.GapQuery{From: start.Add(-time.Hour), To: time.Now().Add(time.Hour)})
	if err != nil || more {
		t.Fatal(err, more)
	}
	at := func(v time.Time) string {
		if v.IsZero() {
			return "-"
		}
		return fmt.Sprint(int(v.Sub(start).Round(time.Second) / time.Second))
	}
	text := map[telemetry.AgentID][]string{}
	for _, r := range slices.Backward(list) {
		what := "silence"
		if r.Numbered {
			what = fmt.Sprintf("%d-%d", r.FromSeq, r.ToSeq)
		}
		text[r.Agent] = append(text[r.Agent], fmt.Sprintf("%s %s %s..%s", what, r.Label, at(r.From), at(r.To)))
	}
	out := map[telemetry.AgentID]string{}
	for a, l := range text {
		out[a] = strings.Join(l, "; ")
	}
	return out
}

func TestGapLedger(t *testing.T) {
	db := open(t)
	start := time.Now().Add(-3 * time.Hour).Truncate(time.Second)
	const huge = math.MaxUint64
	cases := []struct {
		name string
		make func(p *past)
		want string
	}{
		{"nothing at all", func(*past) {}, ""},
		{"complete", func(p *past) {
			e := p.epoch(0)
			p.frames(e, 1, 20)
			p.health(e, 20, 1, 20, 20)
		}, ""},
		{"twice and out of order", func(p *past) {
			e := p.epoch(0)
			p.frames(e, 11, 20)
			p.frames(e, 1, 12)
			p.frames(e, 5, 15)
		}, ""},
		{"a hole of an agent that tells nothing", func(p *past) {
			e := p.epoch(0)
			p.frames(e, 1, 10)
			p.frames(e, 14, 20)
		}, "11-13 never_collected 100..140"},
		{"head, middle and tail are on their way", func(p *past) {
			e := p.epoch(0)
			p.frames(e, 5, 10)
			p.frames(e, 12, 20)
			p.health(e, 20, 1, 31, 1)
		}, "1-4 late -..50; 11-11 late 100..120; 21-30 late 200..-"},
		{"below the lowest that waits nothing is on its way", func(p *past) {
			e := p.epoch(0)
			p.frames(e, 1, 10)
			p.frames(e, 20, 20)
			p.health(e, 10, 1, 10, 10)
			p.health(e, 20, 1, 21, 15)
		}, "11-14 never_collected 100..200; 15-19 late 100..200"},
		{"a late answer of the spool does not go back", func(p *past) {
			e := p.epoch(0)
			p.frames(e, 1, 10)
			p.frames(e, 20, 20)
			p.health(e, 20, 1, 21, 21)
			p.health(e, 10, 1, 10, 1)
		}, "11-19 never_collected 100..200"},
		{"labels split a range, overlaps have one, repetitions join", func(p *past) {
			e := p.epoch(0)
			p.frames(e, 1, 10)
			p.frames(e, 51, 60)
			p.gap(e, 51, e, 11, 30, telemetry.GapEvicted)
			p.gap(e, 52, e, 11, 30, telemetry.GapEvicted)
			p.gap(e, 55, e, 25, 40, telemetry.GapDamaged)
			p.gap(e, 53, e, 38, 38, telemetry.GapRejected)
			p.gap(e, 54, e, 39, 42, telemetry.GapDiscarded)
			p.gap(e, 56, e, 31, 37, telemetry.GapEvicted)
			p.health(e, 60, 1, 61, 46)
		}, "11-24 evicted 100..510; 25-37 damaged 100..510; 38-38 rejected 100..510; 39-42 discarded 100..510; 43-45 never_collected 100..510; 46-50 late 100..510"},
		{"stored after all", func(p *past) {
			e := p.epoch(0)
			p.gap(e, 30, e, 5, 14, telemetry.GapEvicted)
			p.frames(e, 1, 10)
			p.frames(e, 13, 30)
		}, "11-12 evicted 100..130"},
		{"a dead letter counts as rejected until it is stored", func(p *past) {
			e := p.epoch(0)
			p.frames(e, 1, 10)
			p.framesAt(e, 11, 12, p.start.Add(110*time.Second), true)
			p.frames(e, 13, 20)
			p.frames(e, 12, 12)
		}, "11-11 rejected 100..120"},
		{"numbers go on in the next epoch", func(p *past) {
			e, f := p.epoch(0), p.epoch(time.Minute)
			p.frames(e, 1, 10)
			p.health(e, 10, 1, 10, 10)
			p.gap(f, 18, e, 11, 15, telemetry.GapDamaged)
			p.frames(f, 18, 30)
			p.health(f, 30, 16, 30, 30)
		}, "11-15 damaged 100..180; 16-17 never_collected 100..180"},
		{"the spool still has records of the epoch before", func(p *past) {
			e, f := p.epoch(0), p.epoch(time.Minute)
			p.frames(e, 1, 10)
			p.health(e, 10, 1, 16, 11)
			p.frames(f, 18, 30)
			p.health(f, 30, 16, 30, 13)
		}, "11-12 never_collected 100..180; 13-15 late 100..180; 16-17 late 100..180"},
		{"a spool that lost all begins anew", func(p *past) {
			e, f := p.epoch(0), p.epoch(time.Minute)
			p.frames(e, 1, 10)
			p.health(e, 10, 1, 16, 11)
			p.framesAt(f, 1, 9, p.start.Add(110*time.Second), false)
			p.health(f, 9, 1, 10, 1)
		}, "11-15 never_collected 100..110"},
		{"an epoch older than what is looked at has no known beginning", func(p *past) {
			e := p.epoch(-40 * 24 * time.Hour)
			p.frames(e, 101, 110)
			p.health(e, 105, 1, 105, 105)
		}, ""},
		{"down, and back in the same epoch", func(p *past) {
			e := p.epoch(0)
			p.frames(e, 1, 10)
			p.framesAt(e, 11, 20, p.start.Add(1000*time.Second), false)
			p.framesAt(e, 21, 25, p.start.Add(1150*time.Second), false)
		}, "silence never_collected 100..1000"},
		{"down, and numbers lost: told once", func(p *past) {
			e := p.epoch(0)
			p.frames(e, 1, 10)
			p.framesAt(e, 15, 20, p.start.Add(1000*time.Second), false)
		}, "11-14 never_collected 100..1000"},
		{"down for days before", func(p *past) {
			e := p.epoch(-20 * 24 * time.Hour)
			p.framesAt(e, 1, 3, p.start.Add(-10*24*time.Hour), false)
			p.framesAt(e, 4, 6, p.start, false)
		}, "silence never_collected -863980..0"},
		{"hostile numbers", func(p *past) {
			e := p.epoch(0)
			p.frames(e, 1, 10)
			p.framesAt(e, huge, huge, p.start.Add(110*time.Second), false)
			p.framesAt(huge, 0, 0, p.start.Add(105*time.Second), false)
			p.gap(e, 10, e, 0, huge, "it's '); DROP TABLE sidetone.gap_raw --")
			p.gap(e, 9, e, 9, 3, telemetry.GapEvicted)
			p.gap(e, 8, e, huge, huge, telemetry.GapEvicted)
			p.health(e, 10, huge, huge, huge)
			p.health(e, 9, 5, 2, 9)
		}, "11-9007199254740991 never_collected 100..105; 0-0 never_collected -..-"},
	}
	w := &world{}
	for i, c := range cases {
		c.make(&past{world: w, agent: telemetry.AgentID(100 + i), start: start})
	}
	w.store(t, db)
	all := ledger(t, db, start)
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := all[telemetry.AgentID(100+i)]; got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	t.Run("the view says the same of all", func(t *testing.T) {
		list, _, err := db.GapLedger(t.Context(), authz.System(), telemetrydb.GapQuery{From: start.Add(-time.Hour), To: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		if got := one(t, db, "SELECT count(), countIf(from_seq IS NULL), uniqExact(agent_id) FROM sidetone.gap_ledger"); !strings.HasPrefix(got, fmt.Sprintf("%d\t2\t", len(list))) {
			t.Errorf("the view has %s, the query %d", got, len(list))
		}
	})
	t.Run("one agent of many", func(t *testing.T) {
		const agent = telemetry.AgentID(104)
		list, _, err := db.GapLedger(t.Context(), authz.System(), telemetrydb.GapQuery{Agents: []telemetry.AgentID{agent}, From: start.Add(-time.Hour), To: time.Now().Add(time.Hour)})
		if err != nil || len(list) != 3 || list[0].Agent != agent || list[0].Records() != 10 || list[2].Records() != 4 {
			t.Errorf("%+v, %v", list, err)
		}
		list, _, err = db.GapLedger(t.Context(), authz.System(), telemetrydb.GapQuery{Agents: []telemetry.AgentID{agent}, From: start.Add(-time.Hour), To: start.Add(10 * time.Second)})
		if err != nil || len(list) != 1 || list[0].FromSeq != 1 {
			t.Errorf("what was missing before the first record: %+v, %v", list, err)
		}
	})
	t.Run("scope and limit", func(t *testing.T) {
		q := telemetrydb.GapQuery{From: start.Add(-time.Hour), To: time.Now().Add(time.Hour), Limit: 3}
		list, more, err := db.GapLedger(t.Context(), authz.Tenants(2), q)
		if err != nil || len(list) != 3 || !more {
			t.Fatal(len(list), more, err)
		}
		for _, r := range list {
			if r.Agent%2 != 1 {
				t.Errorf("agent %d is of another tenant", r.Agent)
			}
		}
		for _, none := range []authz.Scope{{}, authz.Tenants(77)} {
			if list, _, err := db.GapLedger(t.Context(), none, q); err != nil || len(list) != 0 {
				t.Errorf("%d ranges of strangers, %v", len(list), err)
			}
		}
		q.To = q.From
		if _, _, err := db.GapLedger(t.Context(), authz.System(), q); err == nil {
			t.Error("an empty time is accepted")
		}
	})
}
