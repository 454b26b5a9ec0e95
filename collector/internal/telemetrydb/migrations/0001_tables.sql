-- Raw tables, one for each kind of row. The identity of a row is (agent_id, epoch, seq,
-- idx); rows that were sent twice collapse in the exact views (0002) and in merges.
--
-- day is the partition: the observed day, so that a row and its repetition meet, or
-- 1970-01-01 when the agent's clock is so wrong that it would make partitions at will
-- (clock_flag). Such rows live as long as others by the time of receipt.

CREATE TABLE IF NOT EXISTS sidetone.probe_window_raw
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
ENGINE = ReplacingMergeTree
PARTITION BY day
ORDER BY (tenant_id, agent_id, target_id, observed, epoch, seq, idx)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 30 DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'One closed window of attempts at one target.';

CREATE TABLE IF NOT EXISTS sidetone.pbx_status_raw
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
ENGINE = ReplacingMergeTree
PARTITION BY day
ORDER BY (tenant_id, agent_id, observed, epoch, seq, idx)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 30 DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'One reading of a PBX as a whole.';

CREATE TABLE IF NOT EXISTS sidetone.trunk_state_raw
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
ENGINE = ReplacingMergeTree
PARTITION BY day
ORDER BY (tenant_id, agent_id, trunk_id, observed, epoch, seq, idx)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 30 DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'State of one trunk at one reading.';

CREATE TABLE IF NOT EXISTS sidetone.sbc_state_raw
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
ENGINE = ReplacingMergeTree
PARTITION BY day
ORDER BY (tenant_id, agent_id, sbc_id, observed, epoch, seq, idx)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 30 DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'State of one session border controller at one reading.';

CREATE TABLE IF NOT EXISTS sidetone.service_state_raw
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
ENGINE = ReplacingMergeTree
PARTITION BY day
ORDER BY (tenant_id, agent_id, service_id, observed, epoch, seq, idx)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 30 DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'State of one 3CX service at one reading.';

CREATE TABLE IF NOT EXISTS sidetone.extension_summary_raw
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
ENGINE = ReplacingMergeTree
PARTITION BY day
ORDER BY (tenant_id, agent_id, observed, epoch, seq, idx)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 30 DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Counts of extensions; none is named.';

CREATE TABLE IF NOT EXISTS sidetone.backup_raw
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
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (tenant_id, agent_id, observed, epoch, seq, idx)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 396 DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'The backups that a PBX holds.';

CREATE TABLE IF NOT EXISTS sidetone.licence_raw
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
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (tenant_id, agent_id, observed, epoch, seq, idx)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 396 DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Licence of a PBX; the key is never read.';

CREATE TABLE IF NOT EXISTS sidetone.event_log_raw
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
ENGINE = ReplacingMergeTree
PARTITION BY day
ORDER BY (tenant_id, agent_id, entry_id, observed, epoch, seq, idx)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 30 DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Lines of the PBX''s event log, without their text.';

CREATE TABLE IF NOT EXISTS sidetone.state_change_raw
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
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (tenant_id, agent_id, subject, item_id, observed, epoch, seq, idx)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 396 DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Something changed at an instant.';

CREATE TABLE IF NOT EXISTS sidetone.agent_health_raw
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
ENGINE = ReplacingMergeTree
PARTITION BY day
ORDER BY (tenant_id, agent_id, observed, epoch, seq, idx)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 30 DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'What an agent says of itself.';

CREATE TABLE IF NOT EXISTS sidetone.link_event_raw
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
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (tenant_id, agent_id, observed, epoch, seq, idx)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 396 DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Changes of an agent''s link to the collector.';

CREATE TABLE IF NOT EXISTS sidetone.gap_raw
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
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (tenant_id, agent_id, observed, epoch, seq, idx)
TTL toDate(if(clock_flag, received_at, observed)) + INTERVAL 396 DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Ranges of records that will never arrive, with the reason.';

-- Names. Rows carry ids; the views join these tables.

CREATE TABLE IF NOT EXISTS sidetone.item_raw
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
ENGINE = ReplacingMergeTree(seen_at)
ORDER BY (tenant_id, agent_id, item_id)
TTL toDate(seen_at) + INTERVAL 396 DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'What agents observe: targets, trunks, SBCs, services.';

CREATE TABLE IF NOT EXISTS sidetone.agent_dim
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
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY agent_id
SETTINGS non_replicated_deduplication_window = 0, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Agents and their place in the tree, mirrored from the control store.';

CREATE TABLE IF NOT EXISTS sidetone.incident_raw
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
ENGINE = ReplacingMergeTree(updated_at)
PARTITION BY toYYYYMM(opened_at)
ORDER BY (tenant_id, incident_id)
TTL toDate(opened_at) + INTERVAL 365 DAY
SETTINGS non_replicated_deduplication_window = 0, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Incidents, mirrored from the control store.';

CREATE TABLE IF NOT EXISTS sidetone.dead_letter
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
ENGINE = ReplacingMergeTree
ORDER BY (tenant_id, agent_id, epoch, seq)
TTL toDate(received_at) + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Records that ClickHouse refused for their content.';
