-- The frame ledger: one row for each frame whose rows are stored, written after them. It
-- is what tells which records are missing. A frame that came twice has one row in the view.
--
-- observed is the time of arrival less the age of the record in the agent's spool, so
-- that a wrong clock of the agent does not move it.

CREATE TABLE IF NOT EXISTS sidetone.frame_raw
(
    tenant_id UInt32 COMMENT 'Tenant, from the agent''s certificate.' CODEC(ZSTD(1)),
    customer_id UInt32 COMMENT 'Customer.' CODEC(ZSTD(1)),
    site_id UInt32 COMMENT 'Site.' CODEC(ZSTD(1)),
    pbx_id UInt32 COMMENT 'PBX; 0 when the site has none.' CODEC(ZSTD(1)),
    agent_id UInt32 COMMENT 'Agent, from its certificate.' CODEC(ZSTD(1)),
    epoch UInt64 COMMENT 'Life of the agent''s spool.' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'Number of the record within the epoch.' CODEC(Delta, ZSTD(1)),
    class UInt8 COMMENT 'Class of the record: 1 samples, 2 changes of state.' CODEC(ZSTD(1)),
    observed DateTime64(3, 'UTC') COMMENT 'When the record was made: received_at less age_ms.' CODEC(Delta, ZSTD(1)),
    received_at DateTime64(3, 'UTC') COMMENT 'When it arrived, clock of the collector.' CODEC(Delta, ZSTD(1)),
    age_ms UInt64 COMMENT 'How long the record lay in the spool, ms, by the agent.' CODEC(ZSTD(1)),
    bytes UInt32 COMMENT 'Size of the payload as it came.' CODEC(ZSTD(1)),
    rows UInt32 COMMENT 'Rows in it, names apart.' CODEC(ZSTD(1)),
    dead_letter Bool COMMENT 'ClickHouse refused the content; the record is in dead_letter.' CODEC(ZSTD(1)),
    clock_flag Bool MATERIALIZED observed < received_at - INTERVAL 366 DAY COMMENT 'The age cannot be believed.',
    day Date MATERIALIZED if(clock_flag, toDate(0), toDate(observed)) COMMENT 'Day it was made, UTC; 1970-01-01 when clock_flag.'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (tenant_id, agent_id, epoch, seq)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 45 DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'One stored frame.';

CREATE OR REPLACE VIEW sidetone.frame AS
SELECT
    r.observed AS observed, r.received_at AS received_at, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.class AS class, r.age_ms AS age_ms, r.bytes AS bytes, r.rows AS rows, r.dead_letter AS dead_letter,
    r.epoch AS epoch, r.seq AS seq, r.clock_flag AS clock_flag, r.day AS day
FROM (SELECT *, clock_flag, day FROM sidetone.frame_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id;

-- The spool's numbers, for telling what is on its way from what is lost.

ALTER TABLE sidetone.agent_health_raw
    ADD COLUMN IF NOT EXISTS spool_epoch UInt64 COMMENT 'Epoch of the spool; 0 from an agent that does not tell.' CODEC(ZSTD(1)) AFTER version,
    ADD COLUMN IF NOT EXISTS spool_first UInt64 COMMENT 'First seq of that epoch.' CODEC(ZSTD(1)) AFTER spool_epoch,
    ADD COLUMN IF NOT EXISTS spool_next UInt64 COMMENT 'Seq that the next record gets.' CODEC(Delta, ZSTD(1)) AFTER spool_first,
    ADD COLUMN IF NOT EXISTS spool_lowest UInt64 COMMENT 'Lowest seq that waits, of whatever epoch; spool_next when none does.' CODEC(Delta, ZSTD(1)) AFTER spool_next;

ALTER TABLE sidetone.gap_raw COMMENT COLUMN reason 'evicted, damaged, rejected or discarded.';

CREATE OR REPLACE VIEW sidetone.agent_health AS
SELECT
    r.observed AS observed, r.received_at AS received_at, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.uptime_s AS uptime_s, r.rss_bytes AS rss_bytes, r.cpu_ms AS cpu_ms, r.goroutines AS goroutines,
    r.spool_records AS spool_records, r.spool_bytes AS spool_bytes, r.spool_oldest_ms AS spool_oldest_ms,
    r.spool_degraded AS spool_degraded, r.dropped_total AS dropped_total,
    r.probe_overrun_total AS probe_overrun_total, r.load1_milli / 1000 AS load1,
    r.memory_free_bytes AS memory_free_bytes, r.disk_free_bytes AS disk_free_bytes, r.version AS version, r.spool_epoch AS spool_epoch,
    r.spool_first AS spool_first, r.spool_next AS spool_next, r.spool_lowest AS spool_lowest,
    r.epoch AS epoch, r.seq AS seq, r.idx AS idx, r.clock_flag AS clock_flag, r.day AS day
FROM (SELECT *, clock_flag, day FROM sidetone.agent_health_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id;
