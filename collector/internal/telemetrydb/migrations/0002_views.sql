-- Exact views: duplicates collapse (FINAL), ids get their names, ratios are computed.
-- A window without an answer has NULL statistics: "no data" is never 0.

CREATE OR REPLACE VIEW sidetone.agent AS
SELECT tenant_id, tenant, customer_id, customer, site_id, site, pbx_id, pbx, pbx_fqdn, agent_id,
    if(hostname = '', concat('agent ', toString(agent_id)), hostname) AS agent, os, arch, version, updated_at
FROM sidetone.agent_dim FINAL;

CREATE OR REPLACE VIEW sidetone.site AS
SELECT tenant_id, any(tenant) AS tenant, customer_id, any(customer) AS customer, site_id, any(site) AS site,
    max(pbx_id) AS pbx_id, max(pbx) AS pbx, uniqExact(agent_id) AS agents
FROM sidetone.agent GROUP BY tenant_id, customer_id, site_id;

CREATE OR REPLACE VIEW sidetone.tenant AS
SELECT tenant_id, any(tenant) AS tenant, uniqExact(customer_id) AS customers, uniqExact(site_id) AS sites, uniqExact(agent_id) AS agents
FROM sidetone.agent GROUP BY tenant_id;

CREATE OR REPLACE VIEW sidetone.target AS
SELECT r.tenant_id AS tenant_id, a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site,
    r.agent_id AS agent_id, a.agent AS agent, r.item_id AS target_id, r.name AS target, r.method AS method, r.address AS address, r.interval_ms AS interval_ms, r.seen_at AS seen_at
FROM (SELECT * FROM sidetone.item_raw FINAL WHERE kind = 'target') AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id;

CREATE OR REPLACE VIEW sidetone.probe_window AS
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

CREATE OR REPLACE VIEW sidetone.pbx_status AS
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

CREATE OR REPLACE VIEW sidetone.trunk_state AS
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

CREATE OR REPLACE VIEW sidetone.sbc_state AS
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

CREATE OR REPLACE VIEW sidetone.service_state AS
SELECT
    r.observed AS observed, r.received_at AS received_at, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.service_id AS service_id, i.name AS service, i.address AS title, r.status AS status,
    r.memory_bytes AS memory_bytes, r.threads AS threads, r.handles AS handles, r.epoch AS epoch, r.seq AS seq,
    r.idx AS idx, r.clock_flag AS clock_flag, r.day AS day
FROM (SELECT *, clock_flag, day FROM sidetone.service_state_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id
LEFT ANY JOIN (SELECT * FROM sidetone.item_raw FINAL) AS i ON i.tenant_id = r.tenant_id AND i.agent_id = r.agent_id AND i.item_id = r.service_id;

CREATE OR REPLACE VIEW sidetone.extension_summary AS
SELECT
    r.observed AS observed, r.received_at AS received_at, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.total AS total, r.enabled AS enabled, r.registered AS registered, r.queue_logged_in AS queue_logged_in,
    r.system_total AS system_total, r.system_unregistered AS system_unregistered, r.epoch AS epoch, r.seq AS seq,
    r.idx AS idx, r.clock_flag AS clock_flag, r.day AS day
FROM (SELECT *, clock_flag, day FROM sidetone.extension_summary_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id;

CREATE OR REPLACE VIEW sidetone.backup AS
SELECT
    r.observed AS observed, r.received_at AS received_at, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.copies AS copies, r.newest_at AS newest_at, r.newest_size_bytes AS newest_size_bytes,
    r.total_size_bytes AS total_size_bytes, r.schedule_enabled AS schedule_enabled, r.encrypted AS encrypted,
    r.repository AS repository, r.kept_copies AS kept_copies, r.epoch AS epoch, r.seq AS seq, r.idx AS idx,
    r.clock_flag AS clock_flag, r.day AS day
FROM (SELECT *, clock_flag, day FROM sidetone.backup_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id;

CREATE OR REPLACE VIEW sidetone.licence AS
SELECT
    r.observed AS observed, r.received_at AS received_at, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.product_code AS product_code, r.active AS active, r.expires_at AS expires_at,
    r.maintenance_expires_at AS maintenance_expires_at, r.calls_max AS calls_max, r.support AS support,
    r.epoch AS epoch, r.seq AS seq, r.idx AS idx, r.clock_flag AS clock_flag, r.day AS day
FROM (SELECT *, clock_flag, day FROM sidetone.licence_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id;

CREATE OR REPLACE VIEW sidetone.event_log AS
SELECT
    r.observed AS observed, r.received_at AS received_at, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.entry_id AS entry_id, r.event_id AS event_id, r.severity AS severity, r.source AS source, r.epoch AS epoch,
    r.seq AS seq, r.idx AS idx, r.clock_flag AS clock_flag, r.day AS day
FROM (SELECT *, clock_flag, day FROM sidetone.event_log_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id;

CREATE OR REPLACE VIEW sidetone.state_change AS
SELECT
    r.observed AS observed, r.received_at AS received_at, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.subject AS subject, r.item_id AS item_id, r.name AS name, r.from_state AS from_state, r.to_state AS to_state,
    r.detail AS detail, r.epoch AS epoch, r.seq AS seq, r.idx AS idx, r.clock_flag AS clock_flag, r.day AS day
FROM (SELECT *, clock_flag, day FROM sidetone.state_change_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id;

CREATE OR REPLACE VIEW sidetone.link_event AS
SELECT
    r.observed AS observed, r.received_at AS received_at, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.event AS event, r.transport AS transport, r.collector AS collector, r.reason AS reason, r.epoch AS epoch,
    r.seq AS seq, r.idx AS idx, r.clock_flag AS clock_flag, r.day AS day
FROM (SELECT *, clock_flag, day FROM sidetone.link_event_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id;

CREATE OR REPLACE VIEW sidetone.gap AS
SELECT
    r.observed AS observed, r.received_at AS received_at, r.tenant_id AS tenant_id,
    a.tenant AS tenant, r.customer_id AS customer_id, a.customer AS customer, r.site_id AS site_id, a.site AS site, r.pbx_id AS pbx_id, a.pbx AS pbx, r.agent_id AS agent_id, a.agent AS agent,
    r.gap_epoch AS gap_epoch, r.from_seq AS from_seq, r.to_seq AS to_seq, r.reason AS reason,
    r.to_seq - r.from_seq + 1 AS records, r.epoch AS epoch, r.seq AS seq, r.idx AS idx, r.clock_flag AS clock_flag,
    r.day AS day
FROM (SELECT *, clock_flag, day FROM sidetone.gap_raw FINAL) AS r
LEFT ANY JOIN sidetone.agent AS a ON a.agent_id = r.agent_id;

CREATE OR REPLACE VIEW sidetone.incident AS
SELECT r.incident_id AS incident_id, r.tenant_id AS tenant_id, t.tenant AS tenant, r.customer_id AS customer_id, s.customer AS customer,
    r.site_id AS site_id, s.site AS site, r.pbx_id AS pbx_id, r.agent_id AS agent_id, r.rule AS rule, r.title AS title, r.severity AS severity,
    r.subject AS subject, r.state AS state, r.summary AS summary, r.opened_at AS opened_at, r.resolved_at AS resolved_at,
    if(r.resolved_at IS NULL, NULL, dateDiff('second', r.opened_at, assumeNotNull(r.resolved_at))) AS duration_s, r.reopened AS reopened, r.updated_at AS updated_at
FROM (SELECT * FROM sidetone.incident_raw FINAL) AS r
LEFT ANY JOIN sidetone.tenant AS t ON t.tenant_id = r.tenant_id
LEFT ANY JOIN sidetone.site AS s ON s.site_id = r.site_id;
