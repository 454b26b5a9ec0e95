package batch

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"sidetone/collector/internal/ingest"
	"sidetone/collector/internal/telemetrydb"
	"sidetone/shared/backoff"
)

// store stores one batch and answers its deliveries.
func (b *Batcher) store(ctx context.Context, batch []held) {
	start := time.Now()
	defer b.release(batch)
	blocks := b.build(batch)
	bad := map[int]string{} // index of a delivery at fault → reason
	for _, blk := range blocks.Blocks() {
		err := b.insert(ctx, blk, token(batch, blk))
		if telemetrydb.IsPoison(err) {
			err = b.bisect(ctx, batch, 0, blk.Table, err, bad)
		}
		if err != nil {
			b.answer(batch, nil, ingest.ErrDefer)
			return
		}
	}
	blocks.Stored()
	rejected, err := b.bury(ctx, batch, bad)
	if err != nil {
		b.answer(batch, nil, ingest.ErrDefer)
		return
	}
	if err := b.enter(ctx, batch, bad, rejected); err != nil {
		b.answer(batch, nil, ingest.ErrDefer)
		return
	}
	b.mu.Lock()
	b.stats.Batches++
	b.stats.Rows += uint64(blocks.Rows())
	b.stats.LastBatch = time.Since(start)
	b.mu.Unlock()
	b.answer(batch, rejected, nil)
}

func (b *Batcher) build(batch []held) *telemetrydb.Blocks {
	blocks := telemetrydb.NewBlocks(b.known)
	for _, h := range batch {
		blocks.Add(h.Source, h.Epoch, h.Seq, h.ReceivedAt, h.Rows)
	}
	return blocks
}

// enter writes the batch into the frame ledger, once its rows are stored: a frame in the
// ledger is never missing. Rejected ones are: their agents tell the gap.
func (b *Batcher) enter(ctx context.Context, batch []held, bad map[int]string, rejected map[int]error) error {
	frames := make([]telemetrydb.Frame, 0, len(batch))
	for i, h := range batch {
		if rejected[i] != nil {
			continue
		}
		_, dead := bad[i]
		frames = append(frames, telemetrydb.Frame{
			Source: h.Source, Epoch: h.Epoch, Seq: h.Seq, Class: uint8(h.Class), ReceivedAt: h.ReceivedAt,
			Age: h.Age, Bytes: h.Bytes, Rows: h.rows, DeadLetter: dead,
			Minutes: telemetrydb.MinutesOf(h.Rows, h.ReceivedAt),
		})
	}
	blk := telemetrydb.FrameBlock(frames)
	if blk == nil {
		return nil
	}
	// The ledger holds ids, times and counts only, so a refusal is no fault of one
	// record: it is told to the agents like any other trouble.
	return b.insert(ctx, blk, token(batch, blk))
}

// answer calls every Done: err, unless the delivery has an answer of its own.
func (b *Batcher) answer(batch []held, own map[int]error, err error) {
	for i, h := range batch {
		if e, ok := own[i]; ok {
			h.Done(e)
			continue
		}
		h.Done(err)
	}
}

// token names exactly these records in exactly this table. The same records gathered
// once more, in this order, are the same block, also after a restart; any other block
// has another token, for ClickHouse drops what it takes for a repetition.
func token(batch []held, blk *telemetrydb.Block) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d\x00%s\x00%s\x00", telemetrydb.SchemaVersion, blk.Table, blk.Salt)
	var buf [24]byte
	for _, d := range batch {
		binary.LittleEndian.PutUint32(buf[0:], uint32(d.Source.Tenant))
		binary.LittleEndian.PutUint32(buf[4:], uint32(d.Source.Agent))
		binary.LittleEndian.PutUint64(buf[8:], d.Epoch)
		binary.LittleEndian.PutUint64(buf[16:], d.Seq)
		h.Write(buf[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// insert stores a block; it returns an error of the content, or one that says that
// the time is over. Everything else is tried again.
func (b *Batcher) insert(ctx context.Context, blk *telemetrydb.Block, token string) error {
	return b.persist(ctx, blk.Table, func(ctx context.Context) error { return b.deps.Store.InsertBlock(ctx, blk, token) })
}

// persist calls f until it succeeds, fails for its content, or ctx ends.
func (b *Batcher) persist(ctx context.Context, what string, f func(context.Context) error) error {
	wait := backoff.Backoff{Min: b.cfg.RetryMin, Max: b.cfg.RetryMax}
	for {
		try, cancel := context.WithTimeout(ctx, b.cfg.InsertTimeout)
		err := f(try)
		cancel()
		if err == nil || telemetrydb.IsPoison(err) {
			b.storage(nil, what)
			return err
		}
		b.storage(err, what)
		if wait.Wait(ctx) != nil {
			return errStopped
		}
	}
}

// storage notes how the last try ended and logs when that changes.
func (b *Batcher) storage(err error, what string) {
	b.mu.Lock()
	was := b.stats.StorageOK
	b.stats.StorageOK = err == nil
	if err != nil {
		b.stats.Retries++
		b.stats.LastError = err.Error()
	} else {
		b.stats.LastError = ""
	}
	if was != b.stats.StorageOK {
		b.stats.Since = time.Now()
	}
	b.mu.Unlock()
	switch {
	case was && err != nil:
		b.deps.Log.Warn().Err(err).Str("reason", what).Msg("ClickHouse does not take rows; trying on, agents keep their data")
	case !was && err == nil:
		b.deps.Log.Info().Msg("ClickHouse takes rows again")
	}
}

// bisect stores the rows of one table without the deliveries whose content ClickHouse
// refuses, and puts those into bad. cause is the refusal of all of them together; at is
// the index of the first.
func (b *Batcher) bisect(ctx context.Context, batch []held, at int, table string, cause error, bad map[int]string) error {
	if len(batch) == 1 {
		bad[at] = cause.Error()
		return nil
	}
	half := len(batch) / 2
	for _, part := range []struct {
		batch []held
		at    int
	}{{batch[:half], at}, {batch[half:], at + half}} {
		blk := b.only(part.batch, table)
		if blk == nil {
			continue
		}
		err := b.insert(ctx, blk, token(part.batch, blk))
		if telemetrydb.IsPoison(err) {
			err = b.bisect(ctx, part.batch, part.at, table, err, bad)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// only builds the block of one table.
func (b *Batcher) only(batch []held, table string) *telemetrydb.Block {
	for _, blk := range b.build(batch).Blocks() {
		if blk.Table == table {
			return blk
		}
	}
	return nil
}

// bury puts the deliveries at fault into the dead-letter table, where a person finds
// them. One that not even this table takes is rejected: its agent notes the gap.
func (b *Batcher) bury(ctx context.Context, batch []held, bad map[int]string) (rejected map[int]error, err error) {
	rejected = map[int]error{}
	for i, reason := range bad {
		h := batch[i]
		letter := telemetrydb.DeadLetter{Source: h.Source, Epoch: h.Epoch, Seq: h.Seq, ReceivedAt: h.ReceivedAt, Reason: reason, Rows: h.Rows}
		log := b.deps.Log.Error().Uint32("tenant", uint32(h.Source.Tenant)).Uint32("agent", uint32(h.Source.Agent)).
			Uint64("epoch", h.Epoch).Uint64("seq", h.Seq).Str("reason", reason)
		err := b.persist(ctx, "dead_letter", func(ctx context.Context) error { return b.deps.Store.PutDeadLetter(ctx, letter) })
		switch {
		case telemetrydb.IsPoison(err):
			rejected[i] = &ingest.RejectError{Reason: reason}
			b.count(&b.stats.Rejected)
			log.Msg("ClickHouse refuses a record, and its dead letter too; rejected")
		case err != nil:
			return nil, err
		default:
			b.count(&b.stats.DeadLetters)
			log.Msg("ClickHouse refuses a record for its content; it is in dead_letter")
		}
	}
	return rejected, nil
}

func (b *Batcher) count(n *uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	*n++
}
