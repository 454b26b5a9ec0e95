package telemetrydb

import (
	"time"

	"sidetone/shared/telemetry"
)

// SchemaVersion is part of every insert token: a block of another form is another
// block, even when it holds the same rows.
const SchemaVersion = 2

// Column is one column of a block: a name and a slice of values that the driver takes.
type Column struct {
	Name, Type string
	Values     any
}

// Block is the rows of one insert into one table. It does not change once it is made.
type Block struct {
	Table   string // without the database
	Columns []Column
	Rows    int
	// Salt tells apart blocks of this table that come from the same records but differ
	// in content; it goes into the token.
	Salt string
}

// table ties a ClickHouse table to a kind of telemetry row.
type table[R any] struct {
	name     string
	rows     func(*telemetry.Set) []R
	put      func(*telemetry.Set, R)
	observed func(*R) *telemetry.UnixMS
	fields   []field[R]
}

// ident gathers the columns that every raw table begins with.
type ident struct {
	tenant, customer, site, pbx, agent []uint32
	epoch, seq                         []uint64
	idx                                []uint32
	observed, received                 []int64
}

func (c *ident) add(o *origin, idx int, observed telemetry.UnixMS) {
	c.tenant = append(c.tenant, uint32(o.Tenant))
	c.customer = append(c.customer, uint32(o.Customer))
	c.site = append(c.site, uint32(o.Site))
	c.pbx = append(c.pbx, uint32(o.PBX))
	c.agent = append(c.agent, uint32(o.Agent))
	c.epoch = append(c.epoch, o.epoch)
	c.seq = append(c.seq, o.seq)
	c.idx = append(c.idx, uint32(idx))
	c.observed = append(c.observed, clampMS(observed))
	c.received = append(c.received, o.received)
}

func (c *ident) columns() []Column {
	return []Column{
		{"tenant_id", "UInt32", c.tenant}, {"customer_id", "UInt32", c.customer}, {"site_id", "UInt32", c.site},
		{"pbx_id", "UInt32", c.pbx}, {"agent_id", "UInt32", c.agent},
		{"epoch", "UInt64", c.epoch}, {"seq", "UInt64", c.seq}, {"idx", "UInt32", c.idx},
		{"observed", instantType, c.observed}, {"received_at", instantType, c.received},
	}
}

// origin is what all rows of one record share.
type origin struct {
	telemetry.Source
	epoch, seq uint64
	received   int64
}

// builder gathers rows of one table.
type builder interface {
	add(o *origin, set *telemetry.Set)
	block() *Block
}

type builderOf[R any] struct {
	table *table[R]
	ident ident
	cells []cells[R]
}

// startRows is the room that a column begins with.
const startRows = 64

func newBuilder[R any](t *table[R]) builder { return &builderOf[R]{table: t} }

func (b *builderOf[R]) add(o *origin, set *telemetry.Set) {
	rows := b.table.rows(set)
	if len(rows) > 0 && b.cells == nil {
		for _, f := range b.table.fields {
			b.cells = append(b.cells, f.gather(startRows))
		}
	}
	for i := range rows {
		b.ident.add(o, i, *b.table.observed(&rows[i]))
	}
	for _, c := range b.cells { // column by column: one call per cell, no boxing
		for i := range rows {
			c.add(&rows[i])
		}
	}
}

func (b *builderOf[R]) block() *Block {
	if len(b.ident.seq) == 0 {
		return nil
	}
	out := &Block{Table: b.table.name, Rows: len(b.ident.seq), Columns: b.ident.columns()}
	for i, f := range b.table.fields {
		out.Columns = append(out.Columns, Column{f.name, f.typ, b.cells[i].values()})
	}
	return out
}

// Blocks turns the rows of many records into one block for each table.
type Blocks struct {
	builders []builder
	items    *itemBuilder
	rows     int
}

// NewBlocks starts an empty set of blocks; names already in the database, as far as
// known cares to remember, are left out.
func NewBlocks(known *Known) *Blocks {
	return &Blocks{
		items: newItemBuilder(known),
		builders: []builder{
			newBuilder(&probeWindowTable), newBuilder(&pbxStatusTable), newBuilder(&trunkStateTable),
			newBuilder(&sbcStateTable), newBuilder(&serviceStateTable), newBuilder(&extensionSummaryTable),
			newBuilder(&backupTable), newBuilder(&licenceTable), newBuilder(&eventLogTable),
			newBuilder(&stateChangeTable), newBuilder(&agentHealthTable), newBuilder(&linkEventTable), newBuilder(&gapTable),
		},
	}
}

// Add takes the rows of one record.
func (b *Blocks) Add(src telemetry.Source, epoch, seq uint64, receivedAt time.Time, set *telemetry.Set) {
	o := &origin{Source: src, epoch: epoch, seq: seq, received: receivedAt.UnixMilli()}
	b.items.add(o, set)
	for _, t := range b.builders {
		t.add(o, set)
	}
	b.rows += set.Len()
}

// Rows counts the rows taken, names apart.
func (b *Blocks) Rows() int { return b.rows }

// Blocks returns the blocks that hold rows; names come first, so that no row is
// stored before its name.
func (b *Blocks) Blocks() []*Block {
	var out []*Block
	if blk := b.items.block(); blk != nil {
		out = append(out, blk)
	}
	for _, t := range b.builders {
		if blk := t.block(); blk != nil {
			out = append(out, blk)
		}
	}
	return out
}

// Stored remembers the names of these blocks as being in the database.
func (b *Blocks) Stored() { b.items.stored() }
