-- Who read which records through the API. An entry is stored in the stream before anything is shown.

CREATE TABLE IF NOT EXISTS access_entries
(
    id String COMMENT 'See view access' CODEC(ZSTD(1)),
    at DateTime64(6, 'UTC') COMMENT 'See view access' CODEC(Delta, ZSTD(1)),
    org_id LowCardinality(String) COMMENT 'See view access',
    user_id String COMMENT 'See view access' CODEC(ZSTD(1)),
    user_name String COMMENT 'See view access' CODEC(ZSTD(1)),
    user_email String COMMENT 'See view access' CODEC(ZSTD(1)),
    role LowCardinality(String) COMMENT 'See view access',
    action LowCardinality(String) COMMENT 'See view access',
    session_id String COMMENT 'See view access' CODEC(ZSTD(1)),
    detail String COMMENT 'See view access' CODEC(ZSTD(3)),
    ip_address String COMMENT 'See view access' CODEC(ZSTD(1)),
    user_agent String COMMENT 'See view access' CODEC(ZSTD(1)),
    stream_seq UInt64 COMMENT 'See view access' CODEC(Delta, ZSTD(1)),
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When it was inserted here' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (org_id, at, id)
COMMENT 'Rows of view access, each perhaps twice until parts are merged; read the view';

CREATE VIEW IF NOT EXISTS access
(
    id String COMMENT 'One reading, as acc_…',
    at DateTime64(6, 'UTC') COMMENT 'When it was asked for',
    org_id String COMMENT 'Organization of the reader, and of what was read',
    user_id String COMMENT 'Who read, as usr_…',
    user_name String COMMENT 'Name of that user at that time',
    user_email String COMMENT 'E-mail address of that user at that time',
    role String COMMENT 'Role of that user at that time: operator, auditor or admin',
    action String COMMENT 'What was read: logs, recording, screen, search, export, verification, access (this very view, over the API)',
    session_id String COMMENT 'Of which session, as sess_…; empty: of more than one',
    detail String COMMENT 'What was asked for: the parameters of the request, as a JSON object',
    ip_address String COMMENT 'Where the request came from',
    user_agent String COMMENT 'With which program',
    stream_seq UInt64 COMMENT 'Place in the JetStream stream ACCESS: 1, 2, 3 … over all organizations, so that a missing row shows'
)
COMMENT 'Who read which records through the API, one row a reading, recorded before the answer was given'
AS SELECT id, at, org_id, user_id, user_name, user_email, role, action, session_id, detail, ip_address, user_agent, stream_seq
FROM access_entries FINAL;
