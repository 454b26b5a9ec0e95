CREATE TABLE tenant (
	id         {{id}},
	name       TEXT NOT NULL UNIQUE,
	created_ms BIGINT NOT NULL
);

CREATE TABLE customer (
	id         {{id}},
	tenant_id  BIGINT NOT NULL REFERENCES tenant (id),
	name       TEXT NOT NULL,
	created_ms BIGINT NOT NULL,
	UNIQUE (tenant_id, name)
);

CREATE TABLE site (
	id          {{id}},
	customer_id BIGINT NOT NULL REFERENCES customer (id),
	name        TEXT NOT NULL,
	created_ms  BIGINT NOT NULL,
	UNIQUE (customer_id, name)
);

CREATE TABLE pbx (
	id         {{id}},
	site_id    BIGINT NOT NULL REFERENCES site (id),
	name       TEXT NOT NULL,
	fqdn       TEXT NOT NULL DEFAULT '',
	version    TEXT NOT NULL DEFAULT '',
	created_ms BIGINT NOT NULL
);
CREATE INDEX pbx_site ON pbx (site_id);

-- One agent watches one PBX; both are created when the agent enrols.
CREATE TABLE agent (
	id           {{id}},
	pbx_id       BIGINT NOT NULL REFERENCES pbx (id),
	enrolment_id TEXT NOT NULL UNIQUE,
	token_id     TEXT NOT NULL, -- of enrolment_token, which may be gone by now
	hostname     TEXT NOT NULL DEFAULT '',
	os           TEXT NOT NULL DEFAULT '',
	arch         TEXT NOT NULL DEFAULT '',
	version      TEXT NOT NULL DEFAULT '',
	generation   BIGINT NOT NULL DEFAULT 1, -- the newest one given out
	used         SMALLINT NOT NULL DEFAULT 0, -- 1: the newest one was presented
	revoked_ms   BIGINT,
	created_ms   BIGINT NOT NULL,
	last_seen_ms BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX agent_pbx ON agent (pbx_id);

-- Only the hash of the secret is kept.
CREATE TABLE enrolment_token (
	id          TEXT PRIMARY KEY,
	secret_hash {{blob}} NOT NULL,
	site_id     BIGINT NOT NULL REFERENCES site (id),
	uses_left   INTEGER NOT NULL,
	created_ms  BIGINT NOT NULL,
	expires_ms  BIGINT NOT NULL
);

CREATE TABLE app_user (
	id            {{id}},
	email         TEXT NOT NULL UNIQUE,
	name          TEXT NOT NULL,
	role          TEXT NOT NULL,
	password_hash TEXT NOT NULL,
	created_ms    BIGINT NOT NULL
);

CREATE TABLE login_session (
	id_hash      {{blob}} PRIMARY KEY,
	user_id      BIGINT NOT NULL REFERENCES app_user (id) ON DELETE CASCADE,
	created_ms   BIGINT NOT NULL,
	last_seen_ms BIGINT NOT NULL,
	remote       TEXT NOT NULL DEFAULT ''
);
CREATE INDEX login_session_user ON login_session (user_id);
