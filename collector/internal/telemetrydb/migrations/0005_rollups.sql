-- Roll-ups: a minute and an hour of each target and PBX, made by the collector out of
-- the exact rows once the interval is closed, and anew when rows arrive late. The newest
-- row of an interval counts, so that making one again does no harm.

ALTER TABLE sidetone.frame_raw
    ADD COLUMN IF NOT EXISTS minutes Array(UInt32) COMMENT 'Minutes (Unix time / 60, clock of the agent) of its windows and PBX readings.' CODEC(ZSTD(1)) AFTER dead_letter,
    ADD COLUMN IF NOT EXISTS stored_at DateTime64(3, 'UTC') MATERIALIZED now64(3, 'UTC') COMMENT 'When it was inserted, clock of the server.' CODEC(Delta, ZSTD(1)),
    ADD INDEX IF NOT EXISTS stored stored_at TYPE minmax GRANULARITY 1;

CREATE TABLE IF NOT EXISTS sidetone.rollup_state
(
    job LowCardinality(String) COMMENT 'Name of the job.',
    since DateTime64(3, 'UTC') COMMENT 'Rows before this were never rolled up.',
    done_to DateTime64(3, 'UTC') COMMENT 'What was stored until then is rolled up, clock of the server.'
)
ENGINE = ReplacingMergeTree(done_to)
ORDER BY job
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'How far the roll-ups are.';

CREATE TABLE IF NOT EXISTS sidetone.probe_minute_raw
(
    tenant_id UInt32 COMMENT 'Tenant.' CODEC(ZSTD(1)),
    customer_id UInt32 COMMENT 'Customer.' CODEC(ZSTD(1)),
    site_id UInt32 COMMENT 'Site.' CODEC(ZSTD(1)),
    pbx_id UInt32 COMMENT 'PBX; 0 when the site has none.' CODEC(ZSTD(1)),
    agent_id UInt32 COMMENT 'Agent.' CODEC(ZSTD(1)),
    target_id UInt64 COMMENT 'Target; its name is in item_raw.' CODEC(ZSTD(1)),
    start DateTime('UTC') COMMENT 'Start of the interval, clock of the agent.' CODEC(Delta, ZSTD(1)),
    windows UInt32 COMMENT 'Windows that began in it.' CODEC(ZSTD(1)),
    sent UInt64 COMMENT 'Attempts sent; sent = received + lost.' CODEC(ZSTD(1)),
    received UInt64 COMMENT 'Attempts answered in time.' CODEC(ZSTD(1)),
    lost UInt64 COMMENT 'Attempts without an answer in time.' CODEC(ZSTD(1)),
    late UInt64 COMMENT 'Answers after their timeout.' CODEC(ZSTD(1)),
    duplicated UInt64 COMMENT 'Answers that came more than once.' CODEC(ZSTD(1)),
    reordered UInt64 COMMENT 'Answers that came out of order.' CODEC(ZSTD(1)),
    sent_directed UInt64 COMMENT 'Attempts whose losses are known by direction.' CODEC(ZSTD(1)),
    lost_forward UInt64 COMMENT 'Lost on the way there, of sent_directed.' CODEC(ZSTD(1)),
    lost_reverse UInt64 COMMENT 'Lost on the way back, of sent_directed.' CODEC(ZSTD(1)),
    rtt_min_us UInt32 COMMENT 'Least RTT, us; 0 when none came back.' CODEC(Delta, ZSTD(1)),
    rtt_max_us UInt32 COMMENT 'Greatest RTT, us.' CODEC(Delta, ZSTD(1)),
    rtt_sum_us UInt64 COMMENT 'Sum of all RTTs, us.' CODEC(ZSTD(1)),
    rtt_bucket Array(UInt16) COMMENT 'Histogram of all RTTs: round(32 log2 us), so 2.2 % wide.' CODEC(ZSTD(1)),
    rtt_count Array(UInt64) COMMENT 'RTTs in each bucket.' CODEC(ZSTD(1)),
    jitter_windows UInt32 COMMENT 'Windows with a jitter: two answers or more.' CODEC(ZSTD(1)),
    jitter_sum_us UInt64 COMMENT 'Sum of their interarrival jitter, us.' CODEC(ZSTD(1)),
    jitter_max_us UInt32 COMMENT 'Greatest interarrival jitter, us.' CODEC(ZSTD(1)),
    loss_run_max UInt32 COMMENT 'Longest run of successive losses within a window.' CODEC(ZSTD(1)),
    rolled_at DateTime64(3, 'UTC') COMMENT 'When this was made, clock of the server; the newest counts.' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(rolled_at)
PARTITION BY toYYYYMM(start)
ORDER BY (tenant_id, agent_id, target_id, start)
TTL toDate(start) + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'A minute of one target.';

CREATE TABLE IF NOT EXISTS sidetone.probe_hour_raw AS sidetone.probe_minute_raw
ENGINE = ReplacingMergeTree(rolled_at)
PARTITION BY toYYYYMM(start)
ORDER BY (tenant_id, agent_id, target_id, start)
TTL toDate(start) + INTERVAL 396 DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'An hour of one target.';

CREATE TABLE IF NOT EXISTS sidetone.pbx_minute_raw
(
    tenant_id UInt32 COMMENT 'Tenant.' CODEC(ZSTD(1)),
    customer_id UInt32 COMMENT 'Customer.' CODEC(ZSTD(1)),
    site_id UInt32 COMMENT 'Site.' CODEC(ZSTD(1)),
    pbx_id UInt32 COMMENT 'PBX.' CODEC(ZSTD(1)),
    agent_id UInt32 COMMENT 'Agent.' CODEC(ZSTD(1)),
    start DateTime('UTC') COMMENT 'Start of the interval, clock of the agent.' CODEC(Delta, ZSTD(1)),
    readings UInt32 COMMENT 'Readings in it.' CODEC(ZSTD(1)),
    readings_ok UInt32 COMMENT 'Readings with state ok.' CODEC(ZSTD(1)),
    answer_max_ms UInt32 COMMENT 'Longest answer, ms.' CODEC(ZSTD(1)),
    calls_readings UInt32 COMMENT 'Readings that tell the calls.' CODEC(ZSTD(1)),
    calls_sum UInt64 COMMENT 'Sum of calls over calls_readings.' CODEC(ZSTD(1)),
    calls_active_max Nullable(UInt32) COMMENT 'Most calls at one time; NULL when not told.' CODEC(ZSTD(1)),
    calls_max Nullable(UInt32) COMMENT 'Calls that the licence allows.' CODEC(ZSTD(1)),
    trunks_registered_min Nullable(UInt32) COMMENT 'Fewest registered trunks.' CODEC(ZSTD(1)),
    trunks_total Nullable(UInt32) COMMENT 'Trunks.' CODEC(ZSTD(1)),
    extensions_registered_min Nullable(UInt32) COMMENT 'Fewest registered extensions.' CODEC(ZSTD(1)),
    disk_used_percent_max Nullable(UInt32) COMMENT 'Most used part of the disk, percent.' CODEC(ZSTD(1)),
    rolled_at DateTime64(3, 'UTC') COMMENT 'When this was made, clock of the server; the newest counts.' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(rolled_at)
PARTITION BY toYYYYMM(start)
ORDER BY (tenant_id, agent_id, start)
TTL toDate(start) + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'A minute of one PBX.';

CREATE TABLE IF NOT EXISTS sidetone.pbx_hour_raw AS sidetone.pbx_minute_raw
ENGINE = ReplacingMergeTree(rolled_at)
PARTITION BY toYYYYMM(start)
ORDER BY (tenant_id, agent_id, start)
TTL toDate(start) + INTERVAL 396 DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'An hour of one PBX.';

CREATE OR REPLACE VIEW sidetone.probe_minute AS
SELECT
    r.start AS start, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.target_id AS target_id, i.name AS target, i.method AS method, i.address AS address,
    r.windows AS windows, r.sent AS sent, r.received AS received, r.lost AS lost, if(r.sent = 0, NULL, r.lost / r.sent) AS loss_ratio,
    r.late AS late, r.duplicated AS duplicated, r.reordered AS reordered,
    if(r.sent_directed = 0, NULL, r.lost_forward) AS lost_forward, if(r.sent_directed = 0, NULL, r.lost_reverse) AS lost_reverse,
    if(r.sent_directed = 0, NULL, r.lost_forward / r.sent_directed) AS loss_forward_ratio, if(r.sent_directed = 0, NULL, r.lost_reverse / r.sent_directed) AS loss_reverse_ratio,
    if(r.received = 0, NULL, r.rtt_min_us) AS rtt_min_us, if(r.received = 0, NULL, r.rtt_max_us) AS rtt_max_us,
    if(r.received = 0, NULL, r.rtt_sum_us / r.received) AS rtt_mean_us,
    arrayMap(q -> if(empty(r.rtt_count), NULL, least(greatest(exp2(r.rtt_bucket[arrayFirstIndex(c -> c >= q * arraySum(r.rtt_count), arrayCumSum(r.rtt_count))] / 32), r.rtt_min_us), r.rtt_max_us)), [0.1, 0.5, 0.9, 0.99]) AS rtt_quantiles_us,
    rtt_quantiles_us[1] AS rtt_p10_us, rtt_quantiles_us[2] AS rtt_p50_us, rtt_quantiles_us[3] AS rtt_p90_us, rtt_quantiles_us[4] AS rtt_p99_us,
    if(r.jitter_windows = 0, NULL, r.jitter_sum_us / r.jitter_windows) AS jitter_mean_us, if(r.jitter_windows = 0, NULL, r.jitter_max_us) AS jitter_max_us,
    r.loss_run_max AS loss_run_max, r.rtt_bucket AS rtt_bucket, r.rtt_count AS rtt_count, r.rolled_at AS rolled_at
FROM (SELECT * FROM sidetone.probe_minute_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id
LEFT ANY JOIN (SELECT * FROM sidetone.item_raw FINAL) AS i ON i.tenant_id = r.tenant_id AND i.agent_id = r.agent_id AND i.item_id = r.target_id;

CREATE OR REPLACE VIEW sidetone.pbx_minute AS
SELECT
    r.start AS start, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.readings AS readings, r.readings_ok AS readings_ok, r.answer_max_ms AS answer_max_ms,
    if(r.calls_readings = 0, NULL, r.calls_sum / r.calls_readings) AS calls_active_mean, r.calls_active_max AS calls_active_max, r.calls_max AS calls_max,
    r.trunks_registered_min AS trunks_registered_min, r.trunks_total AS trunks_total,
    r.extensions_registered_min AS extensions_registered_min, r.disk_used_percent_max AS disk_used_percent_max, r.rolled_at AS rolled_at
FROM (SELECT * FROM sidetone.pbx_minute_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id;

CREATE OR REPLACE VIEW sidetone.probe_hour AS
SELECT
    r.start AS start, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.target_id AS target_id, i.name AS target, i.method AS method, i.address AS address,
    r.windows AS windows, r.sent AS sent, r.received AS received, r.lost AS lost, if(r.sent = 0, NULL, r.lost / r.sent) AS loss_ratio,
    r.late AS late, r.duplicated AS duplicated, r.reordered AS reordered,
    if(r.sent_directed = 0, NULL, r.lost_forward) AS lost_forward, if(r.sent_directed = 0, NULL, r.lost_reverse) AS lost_reverse,
    if(r.sent_directed = 0, NULL, r.lost_forward / r.sent_directed) AS loss_forward_ratio, if(r.sent_directed = 0, NULL, r.lost_reverse / r.sent_directed) AS loss_reverse_ratio,
    if(r.received = 0, NULL, r.rtt_min_us) AS rtt_min_us, if(r.received = 0, NULL, r.rtt_max_us) AS rtt_max_us,
    if(r.received = 0, NULL, r.rtt_sum_us / r.received) AS rtt_mean_us,
    arrayMap(q -> if(empty(r.rtt_count), NULL, least(greatest(exp2(r.rtt_bucket[arrayFirstIndex(c -> c >= q * arraySum(r.rtt_count), arrayCumSum(r.rtt_count))] / 32), r.rtt_min_us), r.rtt_max_us)), [0.1, 0.5, 0.9, 0.99]) AS rtt_quantiles_us,
    rtt_quantiles_us[1] AS rtt_p10_us, rtt_quantiles_us[2] AS rtt_p50_us, rtt_quantiles_us[3] AS rtt_p90_us, rtt_quantiles_us[4] AS rtt_p99_us,
    if(r.jitter_windows = 0, NULL, r.jitter_sum_us / r.jitter_windows) AS jitter_mean_us, if(r.jitter_windows = 0, NULL, r.jitter_max_us) AS jitter_max_us,
    r.loss_run_max AS loss_run_max, r.rtt_bucket AS rtt_bucket, r.rtt_count AS rtt_count, r.rolled_at AS rolled_at
FROM (SELECT * FROM sidetone.probe_hour_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id
LEFT ANY JOIN (SELECT * FROM sidetone.item_raw FINAL) AS i ON i.tenant_id = r.tenant_id AND i.agent_id = r.agent_id AND i.item_id = r.target_id;

CREATE OR REPLACE VIEW sidetone.pbx_hour AS
SELECT
    r.start AS start, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.readings AS readings, r.readings_ok AS readings_ok, r.answer_max_ms AS answer_max_ms,
    if(r.calls_readings = 0, NULL, r.calls_sum / r.calls_readings) AS calls_active_mean, r.calls_active_max AS calls_active_max, r.calls_max AS calls_max,
    r.trunks_registered_min AS trunks_registered_min, r.trunks_total AS trunks_total,
    r.extensions_registered_min AS extensions_registered_min, r.disk_used_percent_max AS disk_used_percent_max, r.rolled_at AS rolled_at
FROM (SELECT * FROM sidetone.pbx_hour_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id;
