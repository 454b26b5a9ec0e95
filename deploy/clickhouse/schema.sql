-- The schema for a cluster, made from the migrations; do not edit. To make it anew:
-- go test ./internal/telemetrydb -run TestClusterSchema -update (in collector/).
--
-- Run it once, before the first collector and after each upgrade, as the user that may
-- migrate. The servers must define the macros cluster, shard and replica. Each table has
-- replicas (…_local) and a table over all shards; an agent's rows stay on one shard, where
-- a row and its repetition meet. The last statement tells collectors that the schema is
-- there, so that they change nothing.

CREATE DATABASE IF NOT EXISTS sidetone ON CLUSTER '{cluster}';

CREATE TABLE IF NOT EXISTS sidetone.schema_migration_local ON CLUSTER '{cluster}'
(
    version UInt32 COMMENT 'Number of the migration.',
    name String COMMENT 'File.',
    checksum String COMMENT 'SHA-256 of the file.',
    applied_at DateTime('UTC') DEFAULT now() COMMENT 'When, clock of the server.'
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', applied_at)
ORDER BY version
COMMENT 'Migrations that were applied.';

CREATE TABLE IF NOT EXISTS sidetone.probe_window_raw_local ON CLUSTER '{cluster}'
(
    tenant_id UInt32 COMMENT 'Tenant, from the agent''s certificate.' CODEC(ZSTD(1)),
    customer_id UInt32 COMMENT 'Customer.' CODEC(ZSTD(1)),
    site_id UInt32 COMMENT 'Site.' CODEC(ZSTD(1)),
    pbx_id UInt32 COMMENT 'PBX; 0 when the site has none.' CODEC(ZSTD(1)),
    agent_id UInt32 COMMENT 'Agent, from its certificate.' CODEC(ZSTD(1)),
    epoch UInt64 COMMENT 'Life of the agent''s spool.' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'Number of the record within the epoch.' CODEC(Delta, ZSTD(1)),
    idx UInt32 COMMENT 'Number of the row within the record.' CODEC(Delta, ZSTD(1)),
    observed DateTime64(3, 'UTC') COMMENT 'When it was observed, clock of the agent.' CODEC(Delta, ZSTD(1)),
    received_at DateTime64(3, 'UTC') COMMENT 'When it arrived, clock of the collector.' CODEC(Delta, ZSTD(1)),
    target_id UInt64 COMMENT 'Hash that identifies the target; its name is in item_raw.' CODEC(ZSTD(1)),
    length_ms UInt32 COMMENT 'Length of the window, ms.' CODEC(Delta, ZSTD(1)),
    sent UInt32 COMMENT 'Attempts sent; sent = received + lost.' CODEC(Delta, ZSTD(1)),
    received UInt32 COMMENT 'Attempts answered in time.' CODEC(Delta, ZSTD(1)),
    lost UInt32 COMMENT 'Attempts without an answer in time.' CODEC(Delta, ZSTD(1)),
    late UInt32 COMMENT 'Answers after their timeout; they are part of lost.' CODEC(Delta, ZSTD(1)),
    duplicated UInt32 COMMENT 'Answers that came more than once.' CODEC(Delta, ZSTD(1)),
    reordered UInt32 COMMENT 'Answers that came out of order (RFC 4737).' CODEC(Delta, ZSTD(1)),
    rtt_us Array(UInt32) COMMENT 'RTT of each attempt in the order of sending, us; 0 marks a lost one.' CODEC(ZSTD(1)),
    rtt_min_us UInt32 COMMENT 'Least RTT, us; 0 when none came back.' CODEC(Delta, ZSTD(1)),
    rtt_p10_us UInt32 COMMENT '10th percentile of RTT, us.' CODEC(Delta, ZSTD(1)),
    rtt_p50_us UInt32 COMMENT 'Median RTT, us.' CODEC(Delta, ZSTD(1)),
    rtt_p90_us UInt32 COMMENT '90th percentile of RTT, us.' CODEC(Delta, ZSTD(1)),
    rtt_p99_us UInt32 COMMENT '99th percentile of RTT, us.' CODEC(Delta, ZSTD(1)),
    rtt_max_us UInt32 COMMENT 'Greatest RTT, us.' CODEC(Delta, ZSTD(1)),
    rtt_mean_us UInt32 COMMENT 'Mean RTT, us.' CODEC(Delta, ZSTD(1)),
    jitter_us UInt32 COMMENT 'Interarrival jitter (RFC 3550), us.' CODEC(Delta, ZSTD(1)),
    ipdv_p95_us UInt32 COMMENT '95th percentile of absolute IPDV (RFC 3393), us.' CODEC(Delta, ZSTD(1)),
    loss_run_max UInt32 COMMENT 'Longest run of successive losses, attempts.' CODEC(Delta, ZSTD(1)),
    burst_ratio_milli UInt32 COMMENT 'Burst ratio (G.107) times 1000; 0 when nothing was lost.' CODEC(Delta, ZSTD(1)),
    lost_forward Nullable(UInt32) COMMENT 'Lost on the way there; NULL when the method cannot tell.' CODEC(ZSTD(1)),
    lost_reverse Nullable(UInt32) COMMENT 'Lost on the way back; NULL when the method cannot tell.' CODEC(ZSTD(1)),
    fault LowCardinality(String) COMMENT 'Cause of the last loss: timeout, refused, unreachable, resolve, tls, answer; empty when nothing was lost.',
    detail String COMMENT 'What the method learnt: mapped address, answer, certificate.' CODEC(ZSTD(1)),
    clock_flag Bool MATERIALIZED observed < received_at - INTERVAL 30 DAY OR observed > received_at + INTERVAL 1 DAY COMMENT 'The agent''s clock was too far off to be believed.',
    day Date MATERIALIZED if(clock_flag, toDate(0), toDate(observed)) COMMENT 'Observed day, UTC; 1970-01-01 when clock_flag.'
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
PARTITION BY day
ORDER BY (tenant_id, agent_id, target_id, observed, epoch, seq, idx)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 30 DAY
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'One closed window of attempts at one target.';

CREATE TABLE IF NOT EXISTS sidetone.pbx_status_raw_local ON CLUSTER '{cluster}'
(
    tenant_id UInt32 COMMENT 'Tenant, from the agent''s certificate.' CODEC(ZSTD(1)),
    customer_id UInt32 COMMENT 'Customer.' CODEC(ZSTD(1)),
    site_id UInt32 COMMENT 'Site.' CODEC(ZSTD(1)),
    pbx_id UInt32 COMMENT 'PBX; 0 when the site has none.' CODEC(ZSTD(1)),
    agent_id UInt32 COMMENT 'Agent, from its certificate.' CODEC(ZSTD(1)),
    epoch UInt64 COMMENT 'Life of the agent''s spool.' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'Number of the record within the epoch.' CODEC(Delta, ZSTD(1)),
    idx UInt32 COMMENT 'Number of the row within the record.' CODEC(Delta, ZSTD(1)),
    observed DateTime64(3, 'UTC') COMMENT 'When it was observed, clock of the agent.' CODEC(Delta, ZSTD(1)),
    received_at DateTime64(3, 'UTC') COMMENT 'When it arrived, clock of the collector.' CODEC(Delta, ZSTD(1)),
    state LowCardinality(String) COMMENT 'ok, unreachable, auth_failed or busy.',
    detail String COMMENT 'Why state is not ok, for a person.' CODEC(ZSTD(1)),
    answer_ms UInt32 COMMENT 'Time of the status request, ms.' CODEC(Delta, ZSTD(1)),
    fqdn LowCardinality(String) COMMENT 'Name of the PBX.',
    version LowCardinality(String) COMMENT 'Version of the PBX.',
    os LowCardinality(String) COMMENT 'Operating system of the PBX.',
    calls_active Nullable(UInt32) COMMENT 'Calls now.' CODEC(ZSTD(1)),
    calls_max Nullable(UInt32) COMMENT 'Calls that the licence allows.' CODEC(ZSTD(1)),
    calls_talking Nullable(UInt32) COMMENT 'Calls that are established.' CODEC(ZSTD(1)),
    calls_ringing Nullable(UInt32) COMMENT 'Calls that ring.' CODEC(ZSTD(1)),
    calls_other Nullable(UInt32) COMMENT 'Calls in any other state.' CODEC(ZSTD(1)),
    longest_call_s Nullable(UInt32) COMMENT 'Age of the oldest established call, s.' CODEC(ZSTD(1)),
    extensions_total Nullable(UInt32) COMMENT 'Extensions.' CODEC(ZSTD(1)),
    extensions_registered Nullable(UInt32) COMMENT 'Extensions with a registered phone.' CODEC(ZSTD(1)),
    trunks_total Nullable(UInt32) COMMENT 'Trunks.' CODEC(ZSTD(1)),
    trunks_registered Nullable(UInt32) COMMENT 'Trunks that are registered.' CODEC(ZSTD(1)),
    services_not_running Nullable(Bool) COMMENT 'The PBX says that a service does not run.' CODEC(ZSTD(1)),
    system_extensions_unregistered Nullable(Bool) COMMENT 'The PBX says that a system extension is not registered.' CODEC(ZSTD(1)),
    disk_used_percent Nullable(UInt32) COMMENT 'Used part of the disk, percent.' CODEC(ZSTD(1)),
    disk_free_bytes Nullable(UInt64) COMMENT 'Free disk space, bytes.' CODEC(ZSTD(1)),
    disk_total_bytes Nullable(UInt64) COMMENT 'Size of the disk, bytes.' CODEC(ZSTD(1)),
    recording_used_bytes Nullable(UInt64) COMMENT 'Space of recordings, bytes.' CODEC(ZSTD(1)),
    recording_quota_bytes Nullable(UInt64) COMMENT 'Space allowed for recordings, bytes.' CODEC(ZSTD(1)),
    backup_scheduled Nullable(Bool) COMMENT 'A backup schedule is on.' CODEC(ZSTD(1)),
    last_backup_at Nullable(DateTime64(3, 'UTC')) COMMENT 'Last backup, clock of the PBX; NULL when there is none.' CODEC(ZSTD(1)),
    auto_update Nullable(Bool) COMMENT 'Automatic updates are on.' CODEC(ZSTD(1)),
    audit_log Nullable(Bool) COMMENT 'The audit log is on.' CODEC(ZSTD(1)),
    local_ip_valid Nullable(Bool) COMMENT 'The PBX thinks its local address valid.' CODEC(ZSTD(1)),
    clock_offset_ms Nullable(Int64) COMMENT 'Clock of the PBX minus clock of the agent, ms.' CODEC(ZSTD(1)),
    clock_flag Bool MATERIALIZED observed < received_at - INTERVAL 30 DAY OR observed > received_at + INTERVAL 1 DAY COMMENT 'The agent''s clock was too far off to be believed.',
    day Date MATERIALIZED if(clock_flag, toDate(0), toDate(observed)) COMMENT 'Observed day, UTC; 1970-01-01 when clock_flag.'
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
PARTITION BY day
ORDER BY (tenant_id, agent_id, observed, epoch, seq, idx)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 30 DAY
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'One reading of a PBX as a whole.';

CREATE TABLE IF NOT EXISTS sidetone.trunk_state_raw_local ON CLUSTER '{cluster}'
(
    tenant_id UInt32 COMMENT 'Tenant, from the agent''s certificate.' CODEC(ZSTD(1)),
    customer_id UInt32 COMMENT 'Customer.' CODEC(ZSTD(1)),
    site_id UInt32 COMMENT 'Site.' CODEC(ZSTD(1)),
    pbx_id UInt32 COMMENT 'PBX; 0 when the site has none.' CODEC(ZSTD(1)),
    agent_id UInt32 COMMENT 'Agent, from its certificate.' CODEC(ZSTD(1)),
    epoch UInt64 COMMENT 'Life of the agent''s spool.' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'Number of the record within the epoch.' CODEC(Delta, ZSTD(1)),
    idx UInt32 COMMENT 'Number of the row within the record.' CODEC(Delta, ZSTD(1)),
    observed DateTime64(3, 'UTC') COMMENT 'When it was observed, clock of the agent.' CODEC(Delta, ZSTD(1)),
    received_at DateTime64(3, 'UTC') COMMENT 'When it arrived, clock of the collector.' CODEC(Delta, ZSTD(1)),
    trunk_id UInt64 COMMENT 'Hash that identifies the trunk.' CODEC(ZSTD(1)),
    registered Bool COMMENT 'The PBX calls the trunk online.' CODEC(ZSTD(1)),
    registration_needed Bool COMMENT 'The trunk registers at all.' CODEC(ZSTD(1)),
    fail_code LowCardinality(String) COMMENT 'Code of the failed registration.',
    configuration_issue Bool COMMENT 'The PBX sees a fault in the configuration.' CODEC(ZSTD(1)),
    channels_max Nullable(UInt32) COMMENT 'Calls that the trunk can carry.' CODEC(ZSTD(1)),
    calls_active Nullable(UInt32) COMMENT 'Calls on the trunk now.' CODEC(ZSTD(1)),
    clock_flag Bool MATERIALIZED observed < received_at - INTERVAL 30 DAY OR observed > received_at + INTERVAL 1 DAY COMMENT 'The agent''s clock was too far off to be believed.',
    day Date MATERIALIZED if(clock_flag, toDate(0), toDate(observed)) COMMENT 'Observed day, UTC; 1970-01-01 when clock_flag.'
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
PARTITION BY day
ORDER BY (tenant_id, agent_id, trunk_id, observed, epoch, seq, idx)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 30 DAY
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'State of one trunk at one reading.';

CREATE TABLE IF NOT EXISTS sidetone.sbc_state_raw_local ON CLUSTER '{cluster}'
(
    tenant_id UInt32 COMMENT 'Tenant, from the agent''s certificate.' CODEC(ZSTD(1)),
    customer_id UInt32 COMMENT 'Customer.' CODEC(ZSTD(1)),
    site_id UInt32 COMMENT 'Site.' CODEC(ZSTD(1)),
    pbx_id UInt32 COMMENT 'PBX; 0 when the site has none.' CODEC(ZSTD(1)),
    agent_id UInt32 COMMENT 'Agent, from its certificate.' CODEC(ZSTD(1)),
    epoch UInt64 COMMENT 'Life of the agent''s spool.' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'Number of the record within the epoch.' CODEC(Delta, ZSTD(1)),
    idx UInt32 COMMENT 'Number of the row within the record.' CODEC(Delta, ZSTD(1)),
    observed DateTime64(3, 'UTC') COMMENT 'When it was observed, clock of the agent.' CODEC(Delta, ZSTD(1)),
    received_at DateTime64(3, 'UTC') COMMENT 'When it arrived, clock of the collector.' CODEC(Delta, ZSTD(1)),
    sbc_id UInt64 COMMENT 'Hash that identifies the SBC.' CODEC(ZSTD(1)),
    connected Bool COMMENT 'The SBC has its connection to the PBX.' CODEC(ZSTD(1)),
    version LowCardinality(String) COMMENT 'Version of the SBC.',
    latency_ms Nullable(UInt32) COMMENT 'Delay that the PBX measures to the SBC, ms.' CODEC(ZSTD(1)),
    calls_active Nullable(UInt32) COMMENT 'Calls through the SBC now.' CODEC(ZSTD(1)),
    phones_registered Nullable(UInt32) COMMENT 'Phones registered through the SBC.' CODEC(ZSTD(1)),
    udp_active Nullable(Bool) COMMENT 'The SBC carries media over UDP.' CODEC(ZSTD(1)),
    connected_s Nullable(UInt64) COMMENT 'Age of the connection, s.' CODEC(ZSTD(1)),
    clock_flag Bool MATERIALIZED observed < received_at - INTERVAL 30 DAY OR observed > received_at + INTERVAL 1 DAY COMMENT 'The agent''s clock was too far off to be believed.',
    day Date MATERIALIZED if(clock_flag, toDate(0), toDate(observed)) COMMENT 'Observed day, UTC; 1970-01-01 when clock_flag.'
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
PARTITION BY day
ORDER BY (tenant_id, agent_id, sbc_id, observed, epoch, seq, idx)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 30 DAY
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'State of one session border controller at one reading.';

CREATE TABLE IF NOT EXISTS sidetone.service_state_raw_local ON CLUSTER '{cluster}'
(
    tenant_id UInt32 COMMENT 'Tenant, from the agent''s certificate.' CODEC(ZSTD(1)),
    customer_id UInt32 COMMENT 'Customer.' CODEC(ZSTD(1)),
    site_id UInt32 COMMENT 'Site.' CODEC(ZSTD(1)),
    pbx_id UInt32 COMMENT 'PBX; 0 when the site has none.' CODEC(ZSTD(1)),
    agent_id UInt32 COMMENT 'Agent, from its certificate.' CODEC(ZSTD(1)),
    epoch UInt64 COMMENT 'Life of the agent''s spool.' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'Number of the record within the epoch.' CODEC(Delta, ZSTD(1)),
    idx UInt32 COMMENT 'Number of the row within the record.' CODEC(Delta, ZSTD(1)),
    observed DateTime64(3, 'UTC') COMMENT 'When it was observed, clock of the agent.' CODEC(Delta, ZSTD(1)),
    received_at DateTime64(3, 'UTC') COMMENT 'When it arrived, clock of the collector.' CODEC(Delta, ZSTD(1)),
    service_id UInt64 COMMENT 'Hash that identifies the service.' CODEC(ZSTD(1)),
    status LowCardinality(String) COMMENT 'The word of the PBX: Running, Stopped, StartPending and so on.',
    memory_bytes Nullable(UInt64) COMMENT 'Memory in use, bytes.' CODEC(ZSTD(1)),
    threads Nullable(UInt32) COMMENT 'Threads.' CODEC(ZSTD(1)),
    handles Nullable(UInt32) COMMENT 'Open handles.' CODEC(ZSTD(1)),
    clock_flag Bool MATERIALIZED observed < received_at - INTERVAL 30 DAY OR observed > received_at + INTERVAL 1 DAY COMMENT 'The agent''s clock was too far off to be believed.',
    day Date MATERIALIZED if(clock_flag, toDate(0), toDate(observed)) COMMENT 'Observed day, UTC; 1970-01-01 when clock_flag.'
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
PARTITION BY day
ORDER BY (tenant_id, agent_id, service_id, observed, epoch, seq, idx)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 30 DAY
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'State of one 3CX service at one reading.';

CREATE TABLE IF NOT EXISTS sidetone.extension_summary_raw_local ON CLUSTER '{cluster}'
(
    tenant_id UInt32 COMMENT 'Tenant, from the agent''s certificate.' CODEC(ZSTD(1)),
    customer_id UInt32 COMMENT 'Customer.' CODEC(ZSTD(1)),
    site_id UInt32 COMMENT 'Site.' CODEC(ZSTD(1)),
    pbx_id UInt32 COMMENT 'PBX; 0 when the site has none.' CODEC(ZSTD(1)),
    agent_id UInt32 COMMENT 'Agent, from its certificate.' CODEC(ZSTD(1)),
    epoch UInt64 COMMENT 'Life of the agent''s spool.' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'Number of the record within the epoch.' CODEC(Delta, ZSTD(1)),
    idx UInt32 COMMENT 'Number of the row within the record.' CODEC(Delta, ZSTD(1)),
    observed DateTime64(3, 'UTC') COMMENT 'When it was observed, clock of the agent.' CODEC(Delta, ZSTD(1)),
    received_at DateTime64(3, 'UTC') COMMENT 'When it arrived, clock of the collector.' CODEC(Delta, ZSTD(1)),
    total UInt32 COMMENT 'Extensions.' CODEC(Delta, ZSTD(1)),
    enabled UInt32 COMMENT 'Extensions that are enabled.' CODEC(Delta, ZSTD(1)),
    registered UInt32 COMMENT 'Extensions with a registered phone.' CODEC(Delta, ZSTD(1)),
    queue_logged_in UInt32 COMMENT 'Extensions logged into queues.' CODEC(Delta, ZSTD(1)),
    system_total Nullable(UInt32) COMMENT 'System extensions.' CODEC(ZSTD(1)),
    system_unregistered Nullable(UInt32) COMMENT 'System extensions that are not registered.' CODEC(ZSTD(1)),
    clock_flag Bool MATERIALIZED observed < received_at - INTERVAL 30 DAY OR observed > received_at + INTERVAL 1 DAY COMMENT 'The agent''s clock was too far off to be believed.',
    day Date MATERIALIZED if(clock_flag, toDate(0), toDate(observed)) COMMENT 'Observed day, UTC; 1970-01-01 when clock_flag.'
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
PARTITION BY day
ORDER BY (tenant_id, agent_id, observed, epoch, seq, idx)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 30 DAY
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Counts of extensions; none is named.';

CREATE TABLE IF NOT EXISTS sidetone.backup_raw_local ON CLUSTER '{cluster}'
(
    tenant_id UInt32 COMMENT 'Tenant, from the agent''s certificate.' CODEC(ZSTD(1)),
    customer_id UInt32 COMMENT 'Customer.' CODEC(ZSTD(1)),
    site_id UInt32 COMMENT 'Site.' CODEC(ZSTD(1)),
    pbx_id UInt32 COMMENT 'PBX; 0 when the site has none.' CODEC(ZSTD(1)),
    agent_id UInt32 COMMENT 'Agent, from its certificate.' CODEC(ZSTD(1)),
    epoch UInt64 COMMENT 'Life of the agent''s spool.' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'Number of the record within the epoch.' CODEC(Delta, ZSTD(1)),
    idx UInt32 COMMENT 'Number of the row within the record.' CODEC(Delta, ZSTD(1)),
    observed DateTime64(3, 'UTC') COMMENT 'When it was observed, clock of the agent.' CODEC(Delta, ZSTD(1)),
    received_at DateTime64(3, 'UTC') COMMENT 'When it arrived, clock of the collector.' CODEC(Delta, ZSTD(1)),
    copies UInt32 COMMENT 'Backups that are there.' CODEC(Delta, ZSTD(1)),
    newest_at Nullable(DateTime64(3, 'UTC')) COMMENT 'Newest backup, clock of the PBX; NULL when there is none.' CODEC(ZSTD(1)),
    newest_size_bytes UInt64 COMMENT 'Size of the newest backup, bytes.' CODEC(Delta, ZSTD(1)),
    total_size_bytes UInt64 COMMENT 'Size of all backups, bytes.' CODEC(Delta, ZSTD(1)),
    schedule_enabled Nullable(Bool) COMMENT 'A schedule is on.' CODEC(ZSTD(1)),
    encrypted Nullable(Bool) COMMENT 'Backups are encrypted.' CODEC(ZSTD(1)),
    repository LowCardinality(String) COMMENT 'Kind of place: Local, Sftp and so on.',
    kept_copies Nullable(UInt32) COMMENT 'Copies that the schedule keeps.' CODEC(ZSTD(1)),
    clock_flag Bool MATERIALIZED observed < received_at - INTERVAL 30 DAY OR observed > received_at + INTERVAL 1 DAY COMMENT 'The agent''s clock was too far off to be believed.',
    day Date MATERIALIZED if(clock_flag, toDate(0), toDate(observed)) COMMENT 'Observed day, UTC; 1970-01-01 when clock_flag.'
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
PARTITION BY toYYYYMM(day)
ORDER BY (tenant_id, agent_id, observed, epoch, seq, idx)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 396 DAY
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'The backups that a PBX holds.';

CREATE TABLE IF NOT EXISTS sidetone.licence_raw_local ON CLUSTER '{cluster}'
(
    tenant_id UInt32 COMMENT 'Tenant, from the agent''s certificate.' CODEC(ZSTD(1)),
    customer_id UInt32 COMMENT 'Customer.' CODEC(ZSTD(1)),
    site_id UInt32 COMMENT 'Site.' CODEC(ZSTD(1)),
    pbx_id UInt32 COMMENT 'PBX; 0 when the site has none.' CODEC(ZSTD(1)),
    agent_id UInt32 COMMENT 'Agent, from its certificate.' CODEC(ZSTD(1)),
    epoch UInt64 COMMENT 'Life of the agent''s spool.' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'Number of the record within the epoch.' CODEC(Delta, ZSTD(1)),
    idx UInt32 COMMENT 'Number of the row within the record.' CODEC(Delta, ZSTD(1)),
    observed DateTime64(3, 'UTC') COMMENT 'When it was observed, clock of the agent.' CODEC(Delta, ZSTD(1)),
    received_at DateTime64(3, 'UTC') COMMENT 'When it arrived, clock of the collector.' CODEC(Delta, ZSTD(1)),
    product_code LowCardinality(String) COMMENT 'Product.',
    active Nullable(Bool) COMMENT 'The licence is active.' CODEC(ZSTD(1)),
    expires_at Nullable(DateTime64(3, 'UTC')) COMMENT 'End of the licence.' CODEC(ZSTD(1)),
    maintenance_expires_at Nullable(DateTime64(3, 'UTC')) COMMENT 'End of the maintenance.' CODEC(ZSTD(1)),
    calls_max Nullable(UInt32) COMMENT 'Calls that the licence allows.' CODEC(ZSTD(1)),
    support Nullable(Bool) COMMENT 'Support is included.' CODEC(ZSTD(1)),
    clock_flag Bool MATERIALIZED observed < received_at - INTERVAL 30 DAY OR observed > received_at + INTERVAL 1 DAY COMMENT 'The agent''s clock was too far off to be believed.',
    day Date MATERIALIZED if(clock_flag, toDate(0), toDate(observed)) COMMENT 'Observed day, UTC; 1970-01-01 when clock_flag.'
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
PARTITION BY toYYYYMM(day)
ORDER BY (tenant_id, agent_id, observed, epoch, seq, idx)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 396 DAY
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Licence of a PBX; the key is never read.';

CREATE TABLE IF NOT EXISTS sidetone.event_log_raw_local ON CLUSTER '{cluster}'
(
    tenant_id UInt32 COMMENT 'Tenant, from the agent''s certificate.' CODEC(ZSTD(1)),
    customer_id UInt32 COMMENT 'Customer.' CODEC(ZSTD(1)),
    site_id UInt32 COMMENT 'Site.' CODEC(ZSTD(1)),
    pbx_id UInt32 COMMENT 'PBX; 0 when the site has none.' CODEC(ZSTD(1)),
    agent_id UInt32 COMMENT 'Agent, from its certificate.' CODEC(ZSTD(1)),
    epoch UInt64 COMMENT 'Life of the agent''s spool.' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'Number of the record within the epoch.' CODEC(Delta, ZSTD(1)),
    idx UInt32 COMMENT 'Number of the row within the record.' CODEC(Delta, ZSTD(1)),
    observed DateTime64(3, 'UTC') COMMENT 'When it was observed, clock of the agent.' CODEC(Delta, ZSTD(1)),
    received_at DateTime64(3, 'UTC') COMMENT 'When it arrived, clock of the collector.' CODEC(Delta, ZSTD(1)),
    entry_id Int64 COMMENT 'Number of the line in the PBX.' CODEC(Delta, ZSTD(1)),
    event_id UInt32 COMMENT 'Kind of event, number of the PBX.' CODEC(Delta, ZSTD(1)),
    severity LowCardinality(String) COMMENT 'Error, Warning or Info.',
    source LowCardinality(String) COMMENT 'Part of the PBX that wrote the line.',
    clock_flag Bool MATERIALIZED observed < received_at - INTERVAL 30 DAY OR observed > received_at + INTERVAL 1 DAY COMMENT 'The agent''s clock was too far off to be believed.',
    day Date MATERIALIZED if(clock_flag, toDate(0), toDate(observed)) COMMENT 'Observed day, UTC; 1970-01-01 when clock_flag.'
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
PARTITION BY day
ORDER BY (tenant_id, agent_id, entry_id, observed, epoch, seq, idx)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 30 DAY
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Lines of the PBX''s event log, without their text.';

CREATE TABLE IF NOT EXISTS sidetone.state_change_raw_local ON CLUSTER '{cluster}'
(
    tenant_id UInt32 COMMENT 'Tenant, from the agent''s certificate.' CODEC(ZSTD(1)),
    customer_id UInt32 COMMENT 'Customer.' CODEC(ZSTD(1)),
    site_id UInt32 COMMENT 'Site.' CODEC(ZSTD(1)),
    pbx_id UInt32 COMMENT 'PBX; 0 when the site has none.' CODEC(ZSTD(1)),
    agent_id UInt32 COMMENT 'Agent, from its certificate.' CODEC(ZSTD(1)),
    epoch UInt64 COMMENT 'Life of the agent''s spool.' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'Number of the record within the epoch.' CODEC(Delta, ZSTD(1)),
    idx UInt32 COMMENT 'Number of the row within the record.' CODEC(Delta, ZSTD(1)),
    observed DateTime64(3, 'UTC') COMMENT 'When it was observed, clock of the agent.' CODEC(Delta, ZSTD(1)),
    received_at DateTime64(3, 'UTC') COMMENT 'When it arrived, clock of the collector.' CODEC(Delta, ZSTD(1)),
    subject LowCardinality(String) COMMENT 'pbx, trunk, sbc, service, target or agent.',
    item_id UInt64 COMMENT 'Hash that identifies the thing; 0 for the PBX itself.' CODEC(ZSTD(1)),
    name String COMMENT 'Name of the thing when it changed.' CODEC(ZSTD(1)),
    from_state LowCardinality(String) COMMENT 'State before; empty when not known.',
    to_state LowCardinality(String) COMMENT 'State after.',
    detail String COMMENT 'More about it, for a person.' CODEC(ZSTD(1)),
    clock_flag Bool MATERIALIZED observed < received_at - INTERVAL 30 DAY OR observed > received_at + INTERVAL 1 DAY COMMENT 'The agent''s clock was too far off to be believed.',
    day Date MATERIALIZED if(clock_flag, toDate(0), toDate(observed)) COMMENT 'Observed day, UTC; 1970-01-01 when clock_flag.'
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
PARTITION BY toYYYYMM(day)
ORDER BY (tenant_id, agent_id, subject, item_id, observed, epoch, seq, idx)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 396 DAY
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Something changed at an instant.';

CREATE TABLE IF NOT EXISTS sidetone.agent_health_raw_local ON CLUSTER '{cluster}'
(
    tenant_id UInt32 COMMENT 'Tenant, from the agent''s certificate.' CODEC(ZSTD(1)),
    customer_id UInt32 COMMENT 'Customer.' CODEC(ZSTD(1)),
    site_id UInt32 COMMENT 'Site.' CODEC(ZSTD(1)),
    pbx_id UInt32 COMMENT 'PBX; 0 when the site has none.' CODEC(ZSTD(1)),
    agent_id UInt32 COMMENT 'Agent, from its certificate.' CODEC(ZSTD(1)),
    epoch UInt64 COMMENT 'Life of the agent''s spool.' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'Number of the record within the epoch.' CODEC(Delta, ZSTD(1)),
    idx UInt32 COMMENT 'Number of the row within the record.' CODEC(Delta, ZSTD(1)),
    observed DateTime64(3, 'UTC') COMMENT 'When it was observed, clock of the agent.' CODEC(Delta, ZSTD(1)),
    received_at DateTime64(3, 'UTC') COMMENT 'When it arrived, clock of the collector.' CODEC(Delta, ZSTD(1)),
    uptime_s UInt64 COMMENT 'Time since the start, s.' CODEC(Delta, ZSTD(1)),
    rss_bytes UInt64 COMMENT 'Resident memory, bytes.' CODEC(Delta, ZSTD(1)),
    cpu_ms UInt64 COMMENT 'CPU time since the start, ms.' CODEC(Delta, ZSTD(1)),
    goroutines UInt32 COMMENT 'Goroutines.' CODEC(Delta, ZSTD(1)),
    spool_records UInt64 COMMENT 'Records that wait in the spool.' CODEC(Delta, ZSTD(1)),
    spool_bytes UInt64 COMMENT 'Size of the spool, bytes.' CODEC(Delta, ZSTD(1)),
    spool_oldest_ms UInt64 COMMENT 'Age of the oldest record that waits, ms.' CODEC(Delta, ZSTD(1)),
    spool_degraded Bool COMMENT 'The spool cannot use its disk.' CODEC(ZSTD(1)),
    dropped_total UInt64 COMMENT 'Records dropped since the start.' CODEC(Delta, ZSTD(1)),
    probe_overrun_total UInt64 COMMENT 'Attempts that could not start in time since the start.' CODEC(Delta, ZSTD(1)),
    load1_milli UInt32 COMMENT 'Load average of one minute times 1000.' CODEC(Delta, ZSTD(1)),
    memory_free_bytes UInt64 COMMENT 'Free memory of the host, bytes.' CODEC(Delta, ZSTD(1)),
    disk_free_bytes UInt64 COMMENT 'Free space of the spool''s disk, bytes.' CODEC(Delta, ZSTD(1)),
    version LowCardinality(String) COMMENT 'Version of the agent.',
    clock_flag Bool MATERIALIZED observed < received_at - INTERVAL 30 DAY OR observed > received_at + INTERVAL 1 DAY COMMENT 'The agent''s clock was too far off to be believed.',
    day Date MATERIALIZED if(clock_flag, toDate(0), toDate(observed)) COMMENT 'Observed day, UTC; 1970-01-01 when clock_flag.'
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
PARTITION BY day
ORDER BY (tenant_id, agent_id, observed, epoch, seq, idx)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 30 DAY
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'What an agent says of itself.';

CREATE TABLE IF NOT EXISTS sidetone.link_event_raw_local ON CLUSTER '{cluster}'
(
    tenant_id UInt32 COMMENT 'Tenant, from the agent''s certificate.' CODEC(ZSTD(1)),
    customer_id UInt32 COMMENT 'Customer.' CODEC(ZSTD(1)),
    site_id UInt32 COMMENT 'Site.' CODEC(ZSTD(1)),
    pbx_id UInt32 COMMENT 'PBX; 0 when the site has none.' CODEC(ZSTD(1)),
    agent_id UInt32 COMMENT 'Agent, from its certificate.' CODEC(ZSTD(1)),
    epoch UInt64 COMMENT 'Life of the agent''s spool.' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'Number of the record within the epoch.' CODEC(Delta, ZSTD(1)),
    idx UInt32 COMMENT 'Number of the row within the record.' CODEC(Delta, ZSTD(1)),
    observed DateTime64(3, 'UTC') COMMENT 'When it was observed, clock of the agent.' CODEC(Delta, ZSTD(1)),
    received_at DateTime64(3, 'UTC') COMMENT 'When it arrived, clock of the collector.' CODEC(Delta, ZSTD(1)),
    event LowCardinality(String) COMMENT 'up, down or refused.',
    transport LowCardinality(String) COMMENT 'quic or tcp.',
    collector LowCardinality(String) COMMENT 'Address that the agent dialled.',
    reason String COMMENT 'Why.' CODEC(ZSTD(1)),
    clock_flag Bool MATERIALIZED observed < received_at - INTERVAL 30 DAY OR observed > received_at + INTERVAL 1 DAY COMMENT 'The agent''s clock was too far off to be believed.',
    day Date MATERIALIZED if(clock_flag, toDate(0), toDate(observed)) COMMENT 'Observed day, UTC; 1970-01-01 when clock_flag.'
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
PARTITION BY toYYYYMM(day)
ORDER BY (tenant_id, agent_id, observed, epoch, seq, idx)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 396 DAY
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Changes of an agent''s link to the collector.';

CREATE TABLE IF NOT EXISTS sidetone.gap_raw_local ON CLUSTER '{cluster}'
(
    tenant_id UInt32 COMMENT 'Tenant, from the agent''s certificate.' CODEC(ZSTD(1)),
    customer_id UInt32 COMMENT 'Customer.' CODEC(ZSTD(1)),
    site_id UInt32 COMMENT 'Site.' CODEC(ZSTD(1)),
    pbx_id UInt32 COMMENT 'PBX; 0 when the site has none.' CODEC(ZSTD(1)),
    agent_id UInt32 COMMENT 'Agent, from its certificate.' CODEC(ZSTD(1)),
    epoch UInt64 COMMENT 'Life of the agent''s spool.' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'Number of the record within the epoch.' CODEC(Delta, ZSTD(1)),
    idx UInt32 COMMENT 'Number of the row within the record.' CODEC(Delta, ZSTD(1)),
    observed DateTime64(3, 'UTC') COMMENT 'When it was observed, clock of the agent.' CODEC(Delta, ZSTD(1)),
    received_at DateTime64(3, 'UTC') COMMENT 'When it arrived, clock of the collector.' CODEC(Delta, ZSTD(1)),
    gap_epoch UInt64 COMMENT 'Epoch of the missing records.' CODEC(Delta, ZSTD(1)),
    from_seq UInt64 COMMENT 'First missing seq.' CODEC(Delta, ZSTD(1)),
    to_seq UInt64 COMMENT 'Last missing seq.' CODEC(Delta, ZSTD(1)),
    reason LowCardinality(String) COMMENT 'evicted, damaged or rejected.',
    clock_flag Bool MATERIALIZED observed < received_at - INTERVAL 30 DAY OR observed > received_at + INTERVAL 1 DAY COMMENT 'The agent''s clock was too far off to be believed.',
    day Date MATERIALIZED if(clock_flag, toDate(0), toDate(observed)) COMMENT 'Observed day, UTC; 1970-01-01 when clock_flag.'
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
PARTITION BY toYYYYMM(day)
ORDER BY (tenant_id, agent_id, observed, epoch, seq, idx)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 396 DAY
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Ranges of records that will never arrive, with the reason.';

CREATE TABLE IF NOT EXISTS sidetone.item_raw_local ON CLUSTER '{cluster}'
(
    tenant_id UInt32 COMMENT 'Tenant.',
    customer_id UInt32 COMMENT 'Customer.',
    site_id UInt32 COMMENT 'Site.',
    agent_id UInt32 COMMENT 'Agent that observes the thing.',
    item_id UInt64 COMMENT 'Hash that identifies the thing at this agent.',
    kind LowCardinality(String) COMMENT 'target, trunk, sbc or service.',
    name String COMMENT 'Name for people.',
    address String COMMENT 'Address of a target, host of a trunk, title of a service.',
    method LowCardinality(String) COMMENT 'How a target is measured: icmp, stamp, tcp, tls, dns or stun.',
    number String COMMENT 'DN of a trunk.',
    variety LowCardinality(String) COMMENT 'Kind of a trunk: provider, bridge or other.',
    template LowCardinality(String) COMMENT 'Template that a trunk was made from.',
    interval_ms UInt32 COMMENT 'Time between the attempts at a target, ms.',
    seen_at DateTime64(3, 'UTC') COMMENT 'When a row about it arrived, to within hours; clock of the collector.'
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', seen_at)
ORDER BY (tenant_id, agent_id, item_id)
TTL toDate(seen_at) + INTERVAL 396 DAY
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'What agents observe: targets, trunks, SBCs, services.';

CREATE TABLE IF NOT EXISTS sidetone.agent_dim_local ON CLUSTER '{cluster}'
(
    tenant_id UInt32 COMMENT 'Tenant.',
    customer_id UInt32 COMMENT 'Customer.',
    site_id UInt32 COMMENT 'Site.',
    pbx_id UInt32 COMMENT 'PBX; 0 when the site has none.',
    agent_id UInt32 COMMENT 'Agent.',
    tenant String COMMENT 'Name of the tenant.',
    customer String COMMENT 'Name of the customer.',
    site String COMMENT 'Name of the site.',
    pbx String COMMENT 'Name of the PBX.',
    pbx_fqdn String COMMENT 'Name of the PBX in DNS.',
    hostname String COMMENT 'Host of the agent.',
    os LowCardinality(String) COMMENT 'Operating system of the agent.',
    arch LowCardinality(String) COMMENT 'Architecture of the agent.',
    version LowCardinality(String) COMMENT 'Version of the agent.',
    updated_at DateTime64(3, 'UTC') COMMENT 'When this row was written, clock of the collector.'
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', updated_at)
ORDER BY agent_id
SETTINGS replicated_deduplication_window = 0, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Agents and their place in the tree, mirrored from the control store.';

CREATE TABLE IF NOT EXISTS sidetone.incident_raw_local ON CLUSTER '{cluster}'
(
    tenant_id UInt32 COMMENT 'Tenant.',
    customer_id UInt32 COMMENT 'Customer.',
    site_id UInt32 COMMENT 'Site.',
    pbx_id UInt32 COMMENT 'PBX; 0 when it is not about one.',
    agent_id UInt32 COMMENT 'Agent; 0 when it is not about one.',
    incident_id UInt64 COMMENT 'Number of the incident.',
    rule LowCardinality(String) COMMENT 'Rule that opened it.',
    title String COMMENT 'Title.',
    severity LowCardinality(String) COMMENT 'critical, warning or info.',
    subject String COMMENT 'What it is about.',
    state LowCardinality(String) COMMENT 'open or resolved.',
    summary String COMMENT 'What happened, for a person.',
    opened_at DateTime64(3, 'UTC') COMMENT 'When it was opened, clock of the collector.',
    resolved_at Nullable(DateTime64(3, 'UTC')) COMMENT 'When it was resolved; NULL while open.',
    reopened UInt32 COMMENT 'How often the cause came back.',
    updated_at DateTime64(3, 'UTC') COMMENT 'When this row was written, clock of the collector.'
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', updated_at)
PARTITION BY toYYYYMM(opened_at)
ORDER BY (tenant_id, incident_id)
TTL toDate(opened_at) + INTERVAL 365 DAY
SETTINGS replicated_deduplication_window = 0, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Incidents, mirrored from the control store.';

CREATE TABLE IF NOT EXISTS sidetone.dead_letter_local ON CLUSTER '{cluster}'
(
    tenant_id UInt32 COMMENT 'Tenant.',
    customer_id UInt32 COMMENT 'Customer.',
    site_id UInt32 COMMENT 'Site.',
    pbx_id UInt32 COMMENT 'PBX.',
    agent_id UInt32 COMMENT 'Agent that sent it.',
    epoch UInt64 COMMENT 'Life of the agent''s spool.',
    seq UInt64 COMMENT 'Number of the record within the epoch.',
    received_at DateTime64(3, 'UTC') COMMENT 'When it arrived, clock of the collector.',
    reason String COMMENT 'Why ClickHouse refused it.',
    rows UInt32 COMMENT 'Rows in the record.',
    content String COMMENT 'The record as JSON, cut at one megabyte.' CODEC(ZSTD(3))
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
ORDER BY (tenant_id, agent_id, epoch, seq)
TTL toDate(received_at) + INTERVAL 90 DAY
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Records that ClickHouse refused for their content.';

CREATE TABLE IF NOT EXISTS sidetone.frame_raw_local ON CLUSTER '{cluster}'
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
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
PARTITION BY toYYYYMM(day)
ORDER BY (tenant_id, agent_id, epoch, seq)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 45 DAY
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'One stored frame.';

ALTER TABLE sidetone.agent_health_raw_local ON CLUSTER '{cluster}'
    ADD COLUMN IF NOT EXISTS spool_epoch UInt64 COMMENT 'Epoch of the spool; 0 from an agent that does not tell.' CODEC(ZSTD(1)) AFTER version,
    ADD COLUMN IF NOT EXISTS spool_first UInt64 COMMENT 'First seq of that epoch.' CODEC(ZSTD(1)) AFTER spool_epoch,
    ADD COLUMN IF NOT EXISTS spool_next UInt64 COMMENT 'Seq that the next record gets.' CODEC(Delta, ZSTD(1)) AFTER spool_first,
    ADD COLUMN IF NOT EXISTS spool_lowest UInt64 COMMENT 'Lowest seq that waits, of whatever epoch; spool_next when none does.' CODEC(Delta, ZSTD(1)) AFTER spool_next;

ALTER TABLE sidetone.gap_raw_local ON CLUSTER '{cluster}' COMMENT COLUMN reason 'evicted, damaged, rejected or discarded.';

ALTER TABLE sidetone.frame_raw_local ON CLUSTER '{cluster}'
    ADD COLUMN IF NOT EXISTS minutes Array(UInt32) COMMENT 'Minutes (Unix time / 60, clock of the agent) of its windows and PBX readings.' CODEC(ZSTD(1)) AFTER dead_letter,
    ADD COLUMN IF NOT EXISTS stored_at DateTime64(3, 'UTC') MATERIALIZED now64(3, 'UTC') COMMENT 'When it was inserted, clock of the server.' CODEC(Delta, ZSTD(1)),
    ADD INDEX IF NOT EXISTS stored stored_at TYPE minmax GRANULARITY 1;

CREATE TABLE IF NOT EXISTS sidetone.rollup_state_local ON CLUSTER '{cluster}'
(
    job LowCardinality(String) COMMENT 'Name of the job.',
    since DateTime64(3, 'UTC') COMMENT 'Rows before this were never rolled up.',
    done_to DateTime64(3, 'UTC') COMMENT 'What was stored until then is rolled up, clock of the server.'
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', done_to)
ORDER BY job
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'How far the roll-ups are.';

CREATE TABLE IF NOT EXISTS sidetone.probe_minute_raw_local ON CLUSTER '{cluster}'
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
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', rolled_at)
PARTITION BY toYYYYMM(start)
ORDER BY (tenant_id, agent_id, target_id, start)
TTL toDate(start) + INTERVAL 90 DAY
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'A minute of one target.';

CREATE TABLE IF NOT EXISTS sidetone.probe_hour_raw_local ON CLUSTER '{cluster}' AS sidetone.probe_minute_raw_local
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', rolled_at)
PARTITION BY toYYYYMM(start)
ORDER BY (tenant_id, agent_id, target_id, start)
TTL toDate(start) + INTERVAL 396 DAY
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'An hour of one target.';

CREATE TABLE IF NOT EXISTS sidetone.pbx_minute_raw_local ON CLUSTER '{cluster}'
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
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', rolled_at)
PARTITION BY toYYYYMM(start)
ORDER BY (tenant_id, agent_id, start)
TTL toDate(start) + INTERVAL 90 DAY
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'A minute of one PBX.';

CREATE TABLE IF NOT EXISTS sidetone.pbx_hour_raw_local ON CLUSTER '{cluster}' AS sidetone.pbx_minute_raw_local
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', rolled_at)
PARTITION BY toYYYYMM(start)
ORDER BY (tenant_id, agent_id, start)
TTL toDate(start) + INTERVAL 396 DAY
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'An hour of one PBX.';

ALTER TABLE sidetone.probe_window_raw_local ON CLUSTER '{cluster}' MODIFY SETTING merge_selector_base = 15;

ALTER TABLE sidetone.pbx_status_raw_local ON CLUSTER '{cluster}' MODIFY SETTING merge_selector_base = 15;

ALTER TABLE sidetone.trunk_state_raw_local ON CLUSTER '{cluster}' MODIFY SETTING merge_selector_base = 15;

ALTER TABLE sidetone.sbc_state_raw_local ON CLUSTER '{cluster}' MODIFY SETTING merge_selector_base = 15;

ALTER TABLE sidetone.service_state_raw_local ON CLUSTER '{cluster}' MODIFY SETTING merge_selector_base = 15;

ALTER TABLE sidetone.extension_summary_raw_local ON CLUSTER '{cluster}' MODIFY SETTING merge_selector_base = 15;

ALTER TABLE sidetone.backup_raw_local ON CLUSTER '{cluster}' MODIFY SETTING merge_selector_base = 15;

ALTER TABLE sidetone.licence_raw_local ON CLUSTER '{cluster}' MODIFY SETTING merge_selector_base = 15;

ALTER TABLE sidetone.event_log_raw_local ON CLUSTER '{cluster}' MODIFY SETTING merge_selector_base = 15;

ALTER TABLE sidetone.state_change_raw_local ON CLUSTER '{cluster}' MODIFY SETTING merge_selector_base = 15;

ALTER TABLE sidetone.agent_health_raw_local ON CLUSTER '{cluster}' MODIFY SETTING merge_selector_base = 15;

ALTER TABLE sidetone.link_event_raw_local ON CLUSTER '{cluster}' MODIFY SETTING merge_selector_base = 15;

ALTER TABLE sidetone.gap_raw_local ON CLUSTER '{cluster}' MODIFY SETTING merge_selector_base = 15;

ALTER TABLE sidetone.item_raw_local ON CLUSTER '{cluster}' MODIFY SETTING merge_selector_base = 15;

ALTER TABLE sidetone.frame_raw_local ON CLUSTER '{cluster}' MODIFY SETTING merge_selector_base = 15;

CREATE TABLE IF NOT EXISTS sidetone.schema_migration ON CLUSTER '{cluster}' AS sidetone.schema_migration_local
ENGINE = Distributed('{cluster}', sidetone, schema_migration_local, cityHash64(version));

CREATE TABLE IF NOT EXISTS sidetone.probe_window_raw ON CLUSTER '{cluster}' AS sidetone.probe_window_raw_local
ENGINE = Distributed('{cluster}', sidetone, probe_window_raw_local, cityHash64(tenant_id, agent_id));

CREATE TABLE IF NOT EXISTS sidetone.pbx_status_raw ON CLUSTER '{cluster}' AS sidetone.pbx_status_raw_local
ENGINE = Distributed('{cluster}', sidetone, pbx_status_raw_local, cityHash64(tenant_id, agent_id));

CREATE TABLE IF NOT EXISTS sidetone.trunk_state_raw ON CLUSTER '{cluster}' AS sidetone.trunk_state_raw_local
ENGINE = Distributed('{cluster}', sidetone, trunk_state_raw_local, cityHash64(tenant_id, agent_id));

CREATE TABLE IF NOT EXISTS sidetone.sbc_state_raw ON CLUSTER '{cluster}' AS sidetone.sbc_state_raw_local
ENGINE = Distributed('{cluster}', sidetone, sbc_state_raw_local, cityHash64(tenant_id, agent_id));

CREATE TABLE IF NOT EXISTS sidetone.service_state_raw ON CLUSTER '{cluster}' AS sidetone.service_state_raw_local
ENGINE = Distributed('{cluster}', sidetone, service_state_raw_local, cityHash64(tenant_id, agent_id));

CREATE TABLE IF NOT EXISTS sidetone.extension_summary_raw ON CLUSTER '{cluster}' AS sidetone.extension_summary_raw_local
ENGINE = Distributed('{cluster}', sidetone, extension_summary_raw_local, cityHash64(tenant_id, agent_id));

CREATE TABLE IF NOT EXISTS sidetone.backup_raw ON CLUSTER '{cluster}' AS sidetone.backup_raw_local
ENGINE = Distributed('{cluster}', sidetone, backup_raw_local, cityHash64(tenant_id, agent_id));

CREATE TABLE IF NOT EXISTS sidetone.licence_raw ON CLUSTER '{cluster}' AS sidetone.licence_raw_local
ENGINE = Distributed('{cluster}', sidetone, licence_raw_local, cityHash64(tenant_id, agent_id));

CREATE TABLE IF NOT EXISTS sidetone.event_log_raw ON CLUSTER '{cluster}' AS sidetone.event_log_raw_local
ENGINE = Distributed('{cluster}', sidetone, event_log_raw_local, cityHash64(tenant_id, agent_id));

CREATE TABLE IF NOT EXISTS sidetone.state_change_raw ON CLUSTER '{cluster}' AS sidetone.state_change_raw_local
ENGINE = Distributed('{cluster}', sidetone, state_change_raw_local, cityHash64(tenant_id, agent_id));

CREATE TABLE IF NOT EXISTS sidetone.agent_health_raw ON CLUSTER '{cluster}' AS sidetone.agent_health_raw_local
ENGINE = Distributed('{cluster}', sidetone, agent_health_raw_local, cityHash64(tenant_id, agent_id));

CREATE TABLE IF NOT EXISTS sidetone.link_event_raw ON CLUSTER '{cluster}' AS sidetone.link_event_raw_local
ENGINE = Distributed('{cluster}', sidetone, link_event_raw_local, cityHash64(tenant_id, agent_id));

CREATE TABLE IF NOT EXISTS sidetone.gap_raw ON CLUSTER '{cluster}' AS sidetone.gap_raw_local
ENGINE = Distributed('{cluster}', sidetone, gap_raw_local, cityHash64(tenant_id, agent_id));

CREATE TABLE IF NOT EXISTS sidetone.item_raw ON CLUSTER '{cluster}' AS sidetone.item_raw_local
ENGINE = Distributed('{cluster}', sidetone, item_raw_local, cityHash64(tenant_id, agent_id));

CREATE TABLE IF NOT EXISTS sidetone.agent_dim ON CLUSTER '{cluster}' AS sidetone.agent_dim_local
ENGINE = Distributed('{cluster}', sidetone, agent_dim_local, cityHash64(tenant_id, agent_id));

CREATE TABLE IF NOT EXISTS sidetone.incident_raw ON CLUSTER '{cluster}' AS sidetone.incident_raw_local
ENGINE = Distributed('{cluster}', sidetone, incident_raw_local, cityHash64(tenant_id, agent_id));

CREATE TABLE IF NOT EXISTS sidetone.dead_letter ON CLUSTER '{cluster}' AS sidetone.dead_letter_local
ENGINE = Distributed('{cluster}', sidetone, dead_letter_local, cityHash64(tenant_id, agent_id));

CREATE TABLE IF NOT EXISTS sidetone.frame_raw ON CLUSTER '{cluster}' AS sidetone.frame_raw_local
ENGINE = Distributed('{cluster}', sidetone, frame_raw_local, cityHash64(tenant_id, agent_id));

CREATE TABLE IF NOT EXISTS sidetone.rollup_state ON CLUSTER '{cluster}' AS sidetone.rollup_state_local
ENGINE = Distributed('{cluster}', sidetone, rollup_state_local, cityHash64(job));

CREATE TABLE IF NOT EXISTS sidetone.probe_minute_raw ON CLUSTER '{cluster}' AS sidetone.probe_minute_raw_local
ENGINE = Distributed('{cluster}', sidetone, probe_minute_raw_local, cityHash64(tenant_id, agent_id));

CREATE TABLE IF NOT EXISTS sidetone.probe_hour_raw ON CLUSTER '{cluster}' AS sidetone.probe_hour_raw_local
ENGINE = Distributed('{cluster}', sidetone, probe_hour_raw_local, cityHash64(tenant_id, agent_id));

CREATE TABLE IF NOT EXISTS sidetone.pbx_minute_raw ON CLUSTER '{cluster}' AS sidetone.pbx_minute_raw_local
ENGINE = Distributed('{cluster}', sidetone, pbx_minute_raw_local, cityHash64(tenant_id, agent_id));

CREATE TABLE IF NOT EXISTS sidetone.pbx_hour_raw ON CLUSTER '{cluster}' AS sidetone.pbx_hour_raw_local
ENGINE = Distributed('{cluster}', sidetone, pbx_hour_raw_local, cityHash64(tenant_id, agent_id));

CREATE OR REPLACE VIEW sidetone.agent ON CLUSTER '{cluster}' AS
SELECT tenant_id, tenant, customer_id, customer, site_id, site, pbx_id, pbx, pbx_fqdn, agent_id,
    if(hostname = '', concat('agent ', toString(agent_id)), hostname) AS agent, os, arch, version, updated_at
FROM sidetone.agent_dim FINAL;

CREATE OR REPLACE VIEW sidetone.site ON CLUSTER '{cluster}' AS
SELECT tenant_id, any(tenant) AS tenant, customer_id, any(customer) AS customer, site_id, any(site) AS site,
    max(pbx_id) AS pbx_id, max(pbx) AS pbx, uniqExact(agent_id) AS agents
FROM sidetone.agent GROUP BY tenant_id, customer_id, site_id;

CREATE OR REPLACE VIEW sidetone.tenant ON CLUSTER '{cluster}' AS
SELECT tenant_id, any(tenant) AS tenant, uniqExact(customer_id) AS customers, uniqExact(site_id) AS sites, uniqExact(agent_id) AS agents
FROM sidetone.agent GROUP BY tenant_id;

CREATE OR REPLACE VIEW sidetone.target ON CLUSTER '{cluster}' AS
SELECT r.tenant_id AS tenant_id, a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site,
    r.agent_id AS agent_id, a.agent AS agent, r.item_id AS target_id, r.name AS target, r.method AS method, r.address AS address, r.interval_ms AS interval_ms, r.seen_at AS seen_at
FROM (SELECT * FROM sidetone.item_raw FINAL WHERE kind = 'target') AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id;

CREATE OR REPLACE VIEW sidetone.probe_window ON CLUSTER '{cluster}' AS
SELECT
    r.observed AS observed, r.observed + toIntervalMillisecond(r.length_ms) AS ended_at,
    r.received_at AS received_at, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.target_id AS target_id, i.name AS target, i.method AS method, i.address AS address, r.length_ms AS length_ms,
    r.sent AS sent, r.received AS received, r.lost AS lost, if(r.sent = 0, NULL, r.lost / r.sent) AS loss_ratio,
    r.late AS late, r.duplicated AS duplicated, r.reordered AS reordered, r.rtt_us AS rtt_us,
    if(r.received = 0, NULL, r.rtt_min_us) AS rtt_min_us, if(r.received = 0, NULL, r.rtt_p10_us) AS rtt_p10_us,
    if(r.received = 0, NULL, r.rtt_p50_us) AS rtt_p50_us, if(r.received = 0, NULL, r.rtt_p90_us) AS rtt_p90_us,
    if(r.received = 0, NULL, r.rtt_p99_us) AS rtt_p99_us, if(r.received = 0, NULL, r.rtt_max_us) AS rtt_max_us,
    if(r.received = 0, NULL, r.rtt_mean_us) AS rtt_mean_us, if(r.received < 2, NULL, r.jitter_us) AS jitter_us,
    if(r.received < 2, NULL, r.ipdv_p95_us) AS ipdv_p95_us, r.loss_run_max AS loss_run_max,
    if(r.lost = 0, NULL, r.burst_ratio_milli / 1000) AS burst_ratio, r.lost_forward AS lost_forward,
    r.lost_reverse AS lost_reverse, r.fault AS fault, r.detail AS detail, r.epoch AS epoch, r.seq AS seq,
    r.idx AS idx, r.clock_flag AS clock_flag, r.day AS day
FROM (SELECT *, clock_flag, day FROM sidetone.probe_window_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id
LEFT ANY JOIN (SELECT * FROM sidetone.item_raw FINAL) AS i ON i.tenant_id = r.tenant_id AND i.agent_id = r.agent_id AND i.item_id = r.target_id;

CREATE OR REPLACE VIEW sidetone.pbx_status ON CLUSTER '{cluster}' AS
SELECT
    r.observed AS observed, r.received_at AS received_at, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.state AS state, r.detail AS detail, r.answer_ms AS answer_ms, r.fqdn AS fqdn, r.version AS version,
    r.os AS os, r.calls_active AS calls_active, r.calls_max AS calls_max, r.calls_talking AS calls_talking,
    r.calls_ringing AS calls_ringing, r.calls_other AS calls_other, r.longest_call_s AS longest_call_s,
    r.extensions_total AS extensions_total, r.extensions_registered AS extensions_registered,
    r.trunks_total AS trunks_total, r.trunks_registered AS trunks_registered,
    r.services_not_running AS services_not_running,
    r.system_extensions_unregistered AS system_extensions_unregistered, r.disk_used_percent AS disk_used_percent,
    r.disk_free_bytes AS disk_free_bytes, r.disk_total_bytes AS disk_total_bytes,
    r.recording_used_bytes AS recording_used_bytes, r.recording_quota_bytes AS recording_quota_bytes,
    r.backup_scheduled AS backup_scheduled, r.last_backup_at AS last_backup_at, r.auto_update AS auto_update,
    r.audit_log AS audit_log, r.local_ip_valid AS local_ip_valid, r.clock_offset_ms AS clock_offset_ms,
    r.epoch AS epoch, r.seq AS seq, r.idx AS idx, r.clock_flag AS clock_flag, r.day AS day
FROM (SELECT *, clock_flag, day FROM sidetone.pbx_status_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id;

CREATE OR REPLACE VIEW sidetone.trunk_state ON CLUSTER '{cluster}' AS
SELECT
    r.observed AS observed, r.received_at AS received_at, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.trunk_id AS trunk_id, i.name AS trunk, i.number AS number, i.variety AS kind, i.address AS host,
    r.registered AS registered, r.registration_needed AS registration_needed, r.fail_code AS fail_code,
    r.configuration_issue AS configuration_issue, r.channels_max AS channels_max, r.calls_active AS calls_active,
    r.epoch AS epoch, r.seq AS seq, r.idx AS idx, r.clock_flag AS clock_flag, r.day AS day
FROM (SELECT *, clock_flag, day FROM sidetone.trunk_state_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id
LEFT ANY JOIN (SELECT * FROM sidetone.item_raw FINAL) AS i ON i.tenant_id = r.tenant_id AND i.agent_id = r.agent_id AND i.item_id = r.trunk_id;

CREATE OR REPLACE VIEW sidetone.sbc_state ON CLUSTER '{cluster}' AS
SELECT
    r.observed AS observed, r.received_at AS received_at, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.sbc_id AS sbc_id, i.name AS sbc, r.connected AS connected, r.version AS version, r.latency_ms AS latency_ms,
    r.calls_active AS calls_active, r.phones_registered AS phones_registered, r.udp_active AS udp_active,
    r.connected_s AS connected_s, r.epoch AS epoch, r.seq AS seq, r.idx AS idx, r.clock_flag AS clock_flag,
    r.day AS day
FROM (SELECT *, clock_flag, day FROM sidetone.sbc_state_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id
LEFT ANY JOIN (SELECT * FROM sidetone.item_raw FINAL) AS i ON i.tenant_id = r.tenant_id AND i.agent_id = r.agent_id AND i.item_id = r.sbc_id;

CREATE OR REPLACE VIEW sidetone.service_state ON CLUSTER '{cluster}' AS
SELECT
    r.observed AS observed, r.received_at AS received_at, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.service_id AS service_id, i.name AS service, i.address AS title, r.status AS status,
    r.memory_bytes AS memory_bytes, r.threads AS threads, r.handles AS handles, r.epoch AS epoch, r.seq AS seq,
    r.idx AS idx, r.clock_flag AS clock_flag, r.day AS day
FROM (SELECT *, clock_flag, day FROM sidetone.service_state_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id
LEFT ANY JOIN (SELECT * FROM sidetone.item_raw FINAL) AS i ON i.tenant_id = r.tenant_id AND i.agent_id = r.agent_id AND i.item_id = r.service_id;

CREATE OR REPLACE VIEW sidetone.extension_summary ON CLUSTER '{cluster}' AS
SELECT
    r.observed AS observed, r.received_at AS received_at, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.total AS total, r.enabled AS enabled, r.registered AS registered, r.queue_logged_in AS queue_logged_in,
    r.system_total AS system_total, r.system_unregistered AS system_unregistered, r.epoch AS epoch, r.seq AS seq,
    r.idx AS idx, r.clock_flag AS clock_flag, r.day AS day
FROM (SELECT *, clock_flag, day FROM sidetone.extension_summary_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id;

CREATE OR REPLACE VIEW sidetone.backup ON CLUSTER '{cluster}' AS
SELECT
    r.observed AS observed, r.received_at AS received_at, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.copies AS copies, r.newest_at AS newest_at, r.newest_size_bytes AS newest_size_bytes,
    r.total_size_bytes AS total_size_bytes, r.schedule_enabled AS schedule_enabled, r.encrypted AS encrypted,
    r.repository AS repository, r.kept_copies AS kept_copies, r.epoch AS epoch, r.seq AS seq, r.idx AS idx,
    r.clock_flag AS clock_flag, r.day AS day
FROM (SELECT *, clock_flag, day FROM sidetone.backup_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id;

CREATE OR REPLACE VIEW sidetone.licence ON CLUSTER '{cluster}' AS
SELECT
    r.observed AS observed, r.received_at AS received_at, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.product_code AS product_code, r.active AS active, r.expires_at AS expires_at,
    r.maintenance_expires_at AS maintenance_expires_at, r.calls_max AS calls_max, r.support AS support,
    r.epoch AS epoch, r.seq AS seq, r.idx AS idx, r.clock_flag AS clock_flag, r.day AS day
FROM (SELECT *, clock_flag, day FROM sidetone.licence_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id;

CREATE OR REPLACE VIEW sidetone.event_log ON CLUSTER '{cluster}' AS
SELECT
    r.observed AS observed, r.received_at AS received_at, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.entry_id AS entry_id, r.event_id AS event_id, r.severity AS severity, r.source AS source, r.epoch AS epoch,
    r.seq AS seq, r.idx AS idx, r.clock_flag AS clock_flag, r.day AS day
FROM (SELECT *, clock_flag, day FROM sidetone.event_log_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id;

CREATE OR REPLACE VIEW sidetone.state_change ON CLUSTER '{cluster}' AS
SELECT
    r.observed AS observed, r.received_at AS received_at, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.subject AS subject, r.item_id AS item_id, r.name AS name, r.from_state AS from_state, r.to_state AS to_state,
    r.detail AS detail, r.epoch AS epoch, r.seq AS seq, r.idx AS idx, r.clock_flag AS clock_flag, r.day AS day
FROM (SELECT *, clock_flag, day FROM sidetone.state_change_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id;

CREATE OR REPLACE VIEW sidetone.link_event ON CLUSTER '{cluster}' AS
SELECT
    r.observed AS observed, r.received_at AS received_at, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.event AS event, r.transport AS transport, r.collector AS collector, r.reason AS reason, r.epoch AS epoch,
    r.seq AS seq, r.idx AS idx, r.clock_flag AS clock_flag, r.day AS day
FROM (SELECT *, clock_flag, day FROM sidetone.link_event_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id;

CREATE OR REPLACE VIEW sidetone.gap ON CLUSTER '{cluster}' AS
SELECT
    r.observed AS observed, r.received_at AS received_at, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.gap_epoch AS gap_epoch, r.from_seq AS from_seq, r.to_seq AS to_seq, r.reason AS reason,
    r.to_seq - r.from_seq + 1 AS records, r.epoch AS epoch, r.seq AS seq, r.idx AS idx, r.clock_flag AS clock_flag,
    r.day AS day
FROM (SELECT *, clock_flag, day FROM sidetone.gap_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id;

CREATE OR REPLACE VIEW sidetone.incident ON CLUSTER '{cluster}' AS
SELECT r.incident_id AS incident_id, r.tenant_id AS tenant_id, t.tenant AS tenant, r.customer_id AS customer_id, s.customer AS customer,
    r.site_id AS site_id, s.site AS site, r.pbx_id AS pbx_id, r.agent_id AS agent_id, r.rule AS rule, r.title AS title, r.severity AS severity,
    r.subject AS subject, r.state AS state, r.summary AS summary, r.opened_at AS opened_at, r.resolved_at AS resolved_at,
    if(r.resolved_at IS NULL, NULL, dateDiff('second', r.opened_at, assumeNotNull(r.resolved_at))) AS duration_s, r.reopened AS reopened, r.updated_at AS updated_at
FROM (SELECT * FROM sidetone.incident_raw FINAL) AS r
LEFT ANY JOIN sidetone.tenant AS t ON t.tenant_id = r.tenant_id
LEFT ANY JOIN sidetone.site AS s ON s.site_id = r.site_id;

CREATE OR REPLACE VIEW sidetone.frame ON CLUSTER '{cluster}' AS
SELECT
    r.observed AS observed, r.received_at AS received_at, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.class AS class, r.age_ms AS age_ms, r.bytes AS bytes, r.rows AS rows, r.dead_letter AS dead_letter,
    r.epoch AS epoch, r.seq AS seq, r.clock_flag AS clock_flag, r.day AS day
FROM (SELECT *, clock_flag, day FROM sidetone.frame_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id;

CREATE OR REPLACE VIEW sidetone.agent_health ON CLUSTER '{cluster}' AS
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

CREATE OR REPLACE VIEW sidetone.gap_ledger ON CLUSTER '{cluster}' AS
WITH
    /*since*/ (toStartOfDay(now('UTC')) - INTERVAL 30 DAY) AS since,
    9007199254740992 AS no_seq, -- 2^53: numbers from here on are not believed
    stored AS
    (
        SELECT tenant_id, agent_id, epoch, seq, toUnixTimestamp64Milli(observed) AS at
        FROM sidetone.frame_raw
        WHERE (/*within*/ 1) AND (day >= toDate(since, 'UTC') OR clock_flag) AND NOT dead_letter AND seq < no_seq
    ),
    -- runs of stored numbers; a repetition has the same rank and so the same run
    runs AS
    (
        SELECT tenant_id, agent_id, epoch, min(seq) AS a, max(seq) AS b, argMin(at, seq) AS a_at, argMax(at, seq) AS b_at
        FROM (SELECT *, toInt64(seq) - toInt64(dense_rank() OVER (PARTITION BY tenant_id, agent_id, epoch ORDER BY seq)) AS run FROM stored)
        GROUP BY tenant_id, agent_id, epoch, run
    ),
    placed AS
    (
        SELECT *, lagInFrame(b_at, 1, toInt64(0)) OVER w AS before_at, leadInFrame(a_at, 1, toInt64(0)) OVER w AS after_at
        FROM runs
        WINDOW w AS (PARTITION BY tenant_id, agent_id ORDER BY epoch, a ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
    ),
    -- what agents say of numbers that will not come; a refused frame is one of them
    told AS
    (
        SELECT tenant_id, agent_id, gap_epoch AS epoch, from_seq AS a, toUInt64(least(to_seq, no_seq - 1)) AS b, toString(reason) AS label
        FROM sidetone.gap_raw
        WHERE (/*within*/ 1) AND (day >= toDate(since, 'UTC') OR clock_flag) AND from_seq <= to_seq AND from_seq < no_seq
        UNION ALL
        SELECT tenant_id, agent_id, epoch, seq, seq, 'rejected'
        FROM sidetone.frame_raw
        WHERE (/*within*/ 1) AND (day >= toDate(since, 'UTC') OR clock_flag) AND dead_letter AND seq < no_seq
    ),
    health AS
    (
        SELECT tenant_id, agent_id, spool_epoch, spool_first, spool_next, spool_lowest, epoch AS own_epoch, seq AS own_seq
        FROM sidetone.agent_health_raw
        WHERE (/*within*/ 1) AND (day >= toDate(since, 'UTC') OR clock_flag) AND spool_epoch > 0
            AND spool_first <= spool_next AND spool_next < no_seq AND spool_lowest <= spool_next
    ),
    newest AS
    (
        SELECT tenant_id, agent_id, argMax(spool_epoch, (own_epoch, own_seq)) AS now_epoch, argMax(spool_lowest, (own_epoch, own_seq)) AS now_lowest
        FROM health GROUP BY tenant_id, agent_id
    ),
    known AS
    (
        SELECT tenant_id, agent_id, epoch, min(low) AS stored_from, max(high) AS given_to, max(told_first) AS first, min(told_lowest) AS lowest,
            argMin(low_before_at, low) AS first_before_at, argMin(low_at, low) AS first_at
        FROM
        (
            SELECT tenant_id, agent_id, epoch, a AS low, b AS high, toUInt64(0) AS told_first, toUInt64(no_seq) AS told_lowest, before_at AS low_before_at, a_at AS low_at
            FROM placed
            UNION ALL
            SELECT tenant_id, agent_id, epoch, toUInt64(no_seq), b, 0, no_seq, 0, 0 FROM told
            UNION ALL
            SELECT tenant_id, agent_id, spool_epoch, toUInt64(no_seq), toUInt64(max(spool_next) - 1), max(spool_first), greatest(min(spool_lowest), max(spool_first)), 0, 0
            FROM health GROUP BY tenant_id, agent_id, spool_epoch HAVING max(spool_next) > max(spool_first)
        )
        GROUP BY tenant_id, agent_id, epoch
    ),
    -- numbers go on from one epoch of a spool to the next; a spool that lost all begins anew
    lives AS
    (
        SELECT *,
            if(first > 0 AND bitShiftRight(epoch, 10) >= toUnixTimestamp(since) * 1000, least(first, stored_from), least(stored_from, lowest)) AS given_from,
            min(if(first > 0, least(first, stored_from), least(stored_from, lowest))) OVER
                (PARTITION BY tenant_id, agent_id ORDER BY epoch DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS later_first,
            count() OVER (PARTITION BY tenant_id, agent_id ORDER BY epoch DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS later
        FROM known
    ),
    spans AS
    (
        SELECT l.tenant_id AS tenant_id, l.agent_id AS agent_id, l.epoch AS epoch, l.given_from AS given_from, l.given_to AS given_to,
            l.first_before_at AS first_before_at, l.first_at AS first_at,
            if(n.now_epoch > 0 AND (l.later = 0 OR l.given_to < l.later_first), greatest(n.now_lowest, l.given_from), toUInt64(no_seq)) AS late_from
        FROM lives AS l
        LEFT ANY JOIN newest AS n ON n.tenant_id = l.tenant_id AND n.agent_id = l.agent_id
        WHERE l.given_from <= l.given_to
    ),
    -- every edge of every range: what begins or ends there, and what was stored on either side
    edges AS
    (
        SELECT tenant_id, agent_id, epoch, arrayJoin([(a, 1, 0), (b + 1, -1, 1)]) AS e, e.1 AS pos, 'stored' AS what, toInt64(e.2) AS change,
            if(e.3 = 1, b_at, NULL) AS edge_before, if(e.3 = 1, after_at, NULL) AS edge_after
        FROM placed
        UNION ALL
        SELECT tenant_id, agent_id, epoch, arrayJoin([(given_from, 1, 1), (given_to + 1, -1, 0)]) AS e, e.1, 'given', toInt64(e.2),
            if(e.3 = 1, first_before_at, NULL), if(e.3 = 1, first_at, NULL)
        FROM spans
        UNION ALL
        SELECT tenant_id, agent_id, epoch, arrayJoin([(late_from, 1, 0), (given_to + 1, -1, 0)]) AS e, e.1, 'late', toInt64(e.2), NULL, NULL
        FROM spans WHERE late_from <= given_to
        UNION ALL
        SELECT tenant_id, agent_id, epoch, arrayJoin([(a, 1, 0), (b + 1, -1, 0)]) AS e, e.1, if(label IN ('rejected', 'discarded', 'damaged', 'evicted'), label, 'other'), toInt64(e.2), NULL, NULL
        FROM told
    ),
    pieces AS
    (
        SELECT tenant_id, agent_id, epoch, pos AS a, leadInFrame(pos, 1, pos) OVER w AS next_pos,
            sum(stored_) OVER r AS is_stored, sum(given_) OVER r AS is_given, sum(late_) OVER r AS is_late,
            sum(rejected_) OVER r AS is_rejected, sum(discarded_) OVER r AS is_discarded, sum(damaged_) OVER r AS is_damaged,
            sum(evicted_) OVER r AS is_evicted, sum(other_) OVER r AS is_other,
            anyLast(edge_before) OVER r AS before_at, anyLast(edge_after) OVER r AS after_at
        FROM
        (
            SELECT tenant_id, agent_id, epoch, pos,
                sumIf(change, what = 'stored') AS stored_, sumIf(change, what = 'given') AS given_, sumIf(change, what = 'late') AS late_,
                sumIf(change, what = 'rejected') AS rejected_, sumIf(change, what = 'discarded') AS discarded_, sumIf(change, what = 'damaged') AS damaged_,
                sumIf(change, what = 'evicted') AS evicted_, sumIf(change, what = 'other') AS other_,
                argMaxIf(edge_before, what = 'stored', edge_before IS NOT NULL) AS edge_before,
                argMaxIf(edge_after, what = 'stored', edge_after IS NOT NULL) AS edge_after
            FROM edges GROUP BY tenant_id, agent_id, epoch, pos
        )
        WINDOW w AS (PARTITION BY tenant_id, agent_id, epoch ORDER BY pos ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING),
            r AS (PARTITION BY tenant_id, agent_id, epoch ORDER BY pos ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
    ),
    labelled AS
    (
        SELECT tenant_id, agent_id, epoch, a, toUInt64(next_pos - 1) AS b, before_at, after_at,
            multiIf(is_rejected > 0, 'rejected', is_discarded > 0, 'discarded', is_damaged > 0, 'damaged', is_evicted > 0, 'evicted',
                is_other > 0, 'never_collected', is_late > 0, 'late', 'never_collected') AS label
        FROM pieces
        WHERE next_pos > a AND is_stored = 0 AND (is_given > 0 OR is_rejected + is_discarded + is_damaged + is_evicted + is_other > 0)
    ),
    seq_ranges AS
    (
        SELECT tenant_id, agent_id, epoch, min(a) AS from_seq, max(b) AS to_seq, any(label) AS label, any(before_at) AS before_at, any(after_at) AS after_at
        FROM
        (
            SELECT *, sum(begins) OVER (PARTITION BY tenant_id, agent_id, epoch ORDER BY a ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS range
            FROM
            (
                SELECT *, NOT (lagInFrame(label, 1, '') OVER p = label AND lagInFrame(b, 1, toUInt64(0)) OVER p + 1 = a) AS begins
                FROM labelled
                WINDOW p AS (PARTITION BY tenant_id, agent_id, epoch ORDER BY a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
            )
        )
        GROUP BY tenant_id, agent_id, epoch, range
    ),
    -- silence: over a minute between two records with no number missing in between
    silences AS
    (
        SELECT tenant_id, agent_id, epoch, prev_at AS before_at, at AS after_at
        FROM
        (
            SELECT tenant_id, agent_id, epoch, at, lagInFrame(at, 1, toInt64(0)) OVER t AS prev_at
            FROM
            (
                SELECT tenant_id, agent_id, epoch, seq, at FROM stored WHERE at > 0
                UNION ALL
                SELECT tenant_id, agent_id, epoch, seq, toUnixTimestamp64Milli(observed) FROM sidetone.frame_raw
                WHERE (/*within*/ 1) AND dead_letter AND day >= toDate(since, 'UTC')
                UNION ALL
                SELECT tenant_id, agent_id, argMax(epoch, observed), argMax(seq, observed), toUnixTimestamp64Milli(max(observed)) FROM sidetone.frame_raw
                WHERE (/*within*/ 1) AND day < toDate(since, 'UTC') AND day >= toDate(since, 'UTC') - 30
                GROUP BY tenant_id, agent_id
            )
            WINDOW t AS (PARTITION BY tenant_id, agent_id ORDER BY at, epoch, seq ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
        )
        WHERE prev_at > 0 AND at - prev_at > 60000
    )
SELECT
    x.tenant_id AS tenant_id, a.tenant AS tenant, a.customer_id AS customer_id, a.customer AS customer, a.site_id AS site_id, a.site AS site,
    a.pbx_id AS pbx_id, a.pbx AS pbx, x.agent_id AS agent_id, a.agent AS agent, x.label AS label, x.epoch AS epoch,
    x.from_seq AS from_seq, x.to_seq AS to_seq, x.to_seq - x.from_seq + 1 AS records,
    fromUnixTimestamp64Milli(if(x.after_ms < x.before_ms, x.after_ms, x.before_ms), 'UTC') AS from_time,
    fromUnixTimestamp64Milli(if(x.after_ms < x.before_ms, x.before_ms, x.after_ms), 'UTC') AS to_time
FROM
(
    SELECT *, sum(numbered) OVER (PARTITION BY tenant_id, agent_id, before_ms) AS told_already
    FROM
    (
        SELECT tenant_id, agent_id, label, epoch, CAST(from_seq, 'Nullable(UInt64)') AS from_seq, CAST(to_seq, 'Nullable(UInt64)') AS to_seq, 1 AS numbered,
            nullIf(before_at, 0) AS before_ms, nullIf(after_at, 0) AS after_ms
        FROM seq_ranges
        UNION ALL
        SELECT tenant_id, agent_id, 'never_collected', epoch, NULL, NULL, 0, CAST(before_at, 'Nullable(Int64)'), CAST(after_at, 'Nullable(Int64)')
        FROM silences
    )
) AS x
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = x.agent_id
WHERE x.numbered = 1 OR x.told_already = 0;

CREATE OR REPLACE VIEW sidetone.probe_minute ON CLUSTER '{cluster}' AS
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

CREATE OR REPLACE VIEW sidetone.pbx_minute ON CLUSTER '{cluster}' AS
SELECT
    r.start AS start, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.readings AS readings, r.readings_ok AS readings_ok, r.answer_max_ms AS answer_max_ms,
    if(r.calls_readings = 0, NULL, r.calls_sum / r.calls_readings) AS calls_active_mean, r.calls_active_max AS calls_active_max, r.calls_max AS calls_max,
    r.trunks_registered_min AS trunks_registered_min, r.trunks_total AS trunks_total,
    r.extensions_registered_min AS extensions_registered_min, r.disk_used_percent_max AS disk_used_percent_max, r.rolled_at AS rolled_at
FROM (SELECT * FROM sidetone.pbx_minute_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id;

CREATE OR REPLACE VIEW sidetone.probe_hour ON CLUSTER '{cluster}' AS
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

CREATE OR REPLACE VIEW sidetone.pbx_hour ON CLUSTER '{cluster}' AS
SELECT
    r.start AS start, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.readings AS readings, r.readings_ok AS readings_ok, r.answer_max_ms AS answer_max_ms,
    if(r.calls_readings = 0, NULL, r.calls_sum / r.calls_readings) AS calls_active_mean, r.calls_active_max AS calls_active_max, r.calls_max AS calls_max,
    r.trunks_registered_min AS trunks_registered_min, r.trunks_total AS trunks_total,
    r.extensions_registered_min AS extensions_registered_min, r.disk_used_percent_max AS disk_used_percent_max, r.rolled_at AS rolled_at
FROM (SELECT * FROM sidetone.pbx_hour_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id;

INSERT INTO sidetone.schema_migration (version, name, checksum) VALUES
    (1, '0001_tables.sql', '88e58cee8096c3ddcab89abc092c51818ff60b90b13417b6cdc9556f57e835e7'),
    (2, '0002_views.sql', '29a6b7ea4a9bbe50cf0ec107002bd23b70056f4653b6c9eaceab3bb30fedb61f'),
    (3, '0003_delivery.sql', '4be0a3cc75333c1e71fb33a7e58b583abc5ff80793ab5a3973c3ee772aa69786'),
    (4, '0004_gap_ledger.sql', 'df9f51e9d5d3450f2bac0d86264e37a2d7d0ab9be6547d00a158470403f6f2be'),
    (5, '0005_rollups.sql', 'f6ff995d10748f4dcf646879e2f6305284a23d9438e70d53750fdf853c5f92da'),
    (6, '0006_merges.sql', '5781c51a804375eb7a9b8d3063f28fadf394daa1711ebefbc496d3587dbbaa93');
