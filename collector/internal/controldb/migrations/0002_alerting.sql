-- Alert states that fire. The state itself is JSON: only the engine reads it.
CREATE TABLE alert_state (
	rule         TEXT NOT NULL,
	agent_id     BIGINT NOT NULL,
	subject_kind TEXT NOT NULL,
	item_id      BIGINT NOT NULL,
	state_json   TEXT NOT NULL,
	PRIMARY KEY (rule, agent_id, subject_kind, item_id)
);

-- One cause (rule, agent, subject) has at most one open incident. The names are those
-- at the time of opening: an incident is history.
CREATE TABLE incident (
	id            {{id}},
	key           TEXT NOT NULL UNIQUE,
	rule          TEXT NOT NULL,
	agent_id      BIGINT NOT NULL,
	subject_kind  TEXT NOT NULL,
	item_id       BIGINT NOT NULL,
	tenant_id     BIGINT NOT NULL REFERENCES tenant (id),
	customer_id   BIGINT NOT NULL,
	site_id       BIGINT NOT NULL REFERENCES site (id),
	pbx_id        BIGINT NOT NULL,
	tenant_name   TEXT NOT NULL,
	customer_name TEXT NOT NULL,
	site_name     TEXT NOT NULL,
	pbx_name      TEXT NOT NULL,
	severity      TEXT NOT NULL,
	title         TEXT NOT NULL,
	subject       TEXT NOT NULL,
	summary       TEXT NOT NULL,
	advice        TEXT NOT NULL,
	evidence_json TEXT NOT NULL,
	opened_ms     BIGINT NOT NULL,
	resolved_ms   BIGINT,
	resolution    TEXT NOT NULL DEFAULT '',
	reopened      INTEGER NOT NULL DEFAULT 0,
	reopened_ms   BIGINT NOT NULL DEFAULT 0,
	parent_cause  TEXT NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX incident_open ON incident (rule, agent_id, subject_kind, item_id) WHERE resolved_ms IS NULL;
CREATE INDEX incident_cause ON incident (rule, agent_id, subject_kind, item_id, id);
CREATE INDEX incident_site ON incident (site_id, opened_ms);

-- The outbox. state: queued, sending (claimed until lease_until_ms), sent, failed,
-- withdrawn. due_ms is when the next try may begin; a queued message without an attempt that is due in the
-- future is held back and may still be withdrawn.
CREATE TABLE outbox (
	id             {{id}},
	key            TEXT NOT NULL UNIQUE,
	incident_id    BIGINT NOT NULL REFERENCES incident (id) ON DELETE CASCADE,
	channel        TEXT NOT NULL,
	recipient      TEXT NOT NULL,
	kind           TEXT NOT NULL,
	subject        TEXT NOT NULL,
	body_text      TEXT NOT NULL,
	body_json      {{blob}} NOT NULL,
	thread         TEXT NOT NULL,
	state          TEXT NOT NULL,
	attempts       INTEGER NOT NULL DEFAULT 0,
	created_ms     BIGINT NOT NULL,
	due_ms         BIGINT NOT NULL,
	holder         TEXT NOT NULL DEFAULT '',
	lease_until_ms BIGINT NOT NULL DEFAULT 0,
	done_ms        BIGINT NOT NULL DEFAULT 0,
	error          TEXT NOT NULL DEFAULT ''
);
CREATE INDEX outbox_waiting ON outbox (channel, due_ms) WHERE state IN ('queued', 'sending');
CREATE INDEX outbox_incident ON outbox (incident_id, id);

-- One row a try.
CREATE TABLE delivery (
	id         {{id}},
	message_id BIGINT NOT NULL REFERENCES outbox (id) ON DELETE CASCADE,
	outcome    TEXT NOT NULL,
	at_ms      BIGINT NOT NULL,
	dur_ms     BIGINT NOT NULL,
	error      TEXT NOT NULL DEFAULT ''
);
CREATE INDEX delivery_message ON delivery (message_id);
