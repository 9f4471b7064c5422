-- What was entered and what could be read after it.
CREATE TABLE IF NOT EXISTS log_entries
(
    org_id      LowCardinality(String) COMMENT 'organization',
    session_id  String COMMENT 'session' CODEC(ZSTD(1)),
    seq         UInt64 COMMENT 'number of the event; points into the recording' CODEC(Delta, ZSTD(1)),
    at          DateTime64(6, 'UTC') COMMENT 'when it was recorded' CODEC(Delta, ZSTD(1)),
    type        LowCardinality(String) COMMENT 'command or output',
    n           UInt64 COMMENT 'which command of the session, from 1; of output: the command that it followed, 0 before the first',
    content     String COMMENT 'the command line, or the readable output' CODEC(ZSTD(3)),
    confidence  LowCardinality(String) COMMENT 'of a command: exact (told by the shell), screen (read from it), input (from keys alone)',
    context     LowCardinality(String) COMMENT 'of a command: what read it when that was not the login shell',
    exit_status Nullable(Int32) COMMENT 'of output: exit status of its command, when the shell told it',
    from_seq    UInt64 COMMENT 'event in which it began',
    to_seq      UInt64 COMMENT 'event with which it ended',
    INDEX content_words lower(content) TYPE tokenbf_v1(32768, 3, 0) GRANULARITY 4
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (session_id, seq)
COMMENT 'Commands and their readable output. Rows may be repeated until merged: read it through the view logs';

CREATE MATERIALIZED VIEW IF NOT EXISTS log_entries_from_events TO log_entries AS
SELECT
    org_id,
    session_id,
    seq,
    at,
    if(type = 'command', 'command', 'output') AS type,
    JSONExtractUInt(attrs, 'n') AS n,
    JSONExtractString(attrs, 'text') AS content,
    JSONExtractString(attrs, 'confidence') AS confidence,
    JSONExtractString(attrs, 'context') AS context,
    JSONExtract(attrs, 'exit_status', 'Nullable(Int32)') AS exit_status,
    if(events.type = 'command', JSONExtractUInt(attrs, 'started_seq'), JSONExtractUInt(attrs, 'from_seq')) AS from_seq,
    if(events.type = 'command', JSONExtractUInt(attrs, 'output_from_seq'), JSONExtractUInt(attrs, 'to_seq')) AS to_seq
FROM events
WHERE events.type IN ('command', 'text');

CREATE VIEW IF NOT EXISTS logs AS
SELECT org_id, session_id, seq, at, type, n, content, confidence, context, exit_status, from_seq, to_seq
FROM log_entries FINAL;

CREATE VIEW IF NOT EXISTS commands AS
SELECT
    logs.org_id AS org_id,
    logs.session_id AS session_id,
    logs.n AS n,
    logs.at AS at,
    logs.content AS command,
    logs.confidence AS confidence,
    logs.context AS context,
    logs.seq AS seq,
    sessions.user_id AS user_id,
    sessions.user_name AS user_name,
    sessions.machine_id AS machine_id,
    sessions.machine_name AS machine_name
FROM logs
INNER JOIN sessions ON sessions.session_id = logs.session_id
WHERE logs.type = 'command';
