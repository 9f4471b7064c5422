-- Command lines and what a person would have read after them, searchable across sessions.

CREATE TABLE IF NOT EXISTS log_parts
(
    org_id LowCardinality(String) COMMENT 'See view logs',
    session_id String COMMENT 'See view logs' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'See view logs' CODEC(Delta, ZSTD(1)),
    at DateTime64(6, 'UTC') COMMENT 'See view logs' CODEC(Delta, ZSTD(1)),
    type LowCardinality(String) COMMENT 'See view logs',
    n UInt64 COMMENT 'See view logs',
    content String COMMENT 'See view logs' CODEC(ZSTD(3)),
    confidence LowCardinality(String) COMMENT 'See view commands',
    context LowCardinality(String) COMMENT 'See view commands',
    cwd String COMMENT 'See view commands' CODEC(ZSTD(1)),
    from_seq UInt64 COMMENT 'See views logs and commands',
    to_seq UInt64 COMMENT 'See views logs and commands',
    omitted_chars UInt64 COMMENT 'See view logs',
    exit_status Nullable(Int64) COMMENT 'See view logs',
    INDEX content_words lower(content) TYPE tokenbf_v1(32768, 3, 0) GRANULARITY 4
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (session_id, seq)
COMMENT 'Rows of the views logs and commands; read these';

CREATE MATERIALIZED VIEW IF NOT EXISTS log_parts_from_events TO log_parts
(
    org_id String COMMENT 'Of table log_parts',
    session_id String COMMENT 'Of table log_parts',
    seq UInt64 COMMENT 'Of table log_parts',
    at DateTime64(6, 'UTC') COMMENT 'Of table log_parts',
    type String COMMENT 'Of table log_parts',
    n UInt64 COMMENT 'Of table log_parts',
    content String COMMENT 'Of table log_parts',
    confidence String COMMENT 'Of table log_parts',
    context String COMMENT 'Of table log_parts',
    cwd String COMMENT 'Of table log_parts',
    from_seq UInt64 COMMENT 'Of table log_parts',
    to_seq UInt64 COMMENT 'Of table log_parts',
    omitted_chars UInt64 COMMENT 'Of table log_parts',
    exit_status Nullable(Int64) COMMENT 'Of table log_parts'
)
AS SELECT
    org_id,
    session_id,
    seq,
    at,
    transform(events.type, ['text'], ['output'], events.type) AS type,
    JSONExtractUInt(attrs, 'n') AS n,
    JSONExtractString(attrs, 'text') AS content,
    JSONExtractString(attrs, 'confidence') AS confidence,
    JSONExtractString(attrs, 'context') AS context,
    JSONExtractString(attrs, 'cwd') AS cwd,
    if(events.type = 'command', JSONExtractUInt(attrs, 'started_seq'), JSONExtractUInt(attrs, 'from_seq')) AS from_seq,
    multiIf(
        events.type = 'command', JSONExtractUInt(attrs, 'output_from_seq'),
        events.type = 'finished', JSONExtractUInt(attrs, 'output_to_seq'),
        JSONExtractUInt(attrs, 'to_seq')
    ) AS to_seq,
    JSONExtractUInt(attrs, 'omitted_chars') AS omitted_chars,
    JSONExtract(attrs, 'exit_status', 'Nullable(Int64)') AS exit_status
FROM events
WHERE events.type IN ('command', 'text', 'finished')
COMMENT 'Fills table log_parts from events command, text and finished';

CREATE TABLE IF NOT EXISTS rebuilt_logs
(
    org_id LowCardinality(String) COMMENT 'See view logs',
    session_id String COMMENT 'See view logs' CODEC(ZSTD(1)),
    version UInt32 COMMENT 'See view logs',
    seq UInt64 COMMENT 'See view logs' CODEC(Delta, ZSTD(1)),
    at DateTime64(6, 'UTC') COMMENT 'See view logs' CODEC(Delta, ZSTD(1)),
    type LowCardinality(String) COMMENT 'See view logs',
    n UInt64 COMMENT 'See view logs',
    content String COMMENT 'See view logs' CODEC(ZSTD(3)),
    confidence LowCardinality(String) COMMENT 'See view commands',
    context LowCardinality(String) COMMENT 'See view commands',
    cwd String COMMENT 'See view commands' CODEC(ZSTD(1)),
    from_seq UInt64 COMMENT 'See views logs and commands',
    to_seq UInt64 COMMENT 'See views logs and commands',
    omitted_chars UInt64 COMMENT 'See view logs',
    exit_status Nullable(Int64) COMMENT 'See view logs',
    INDEX content_words lower(content) TYPE tokenbf_v1(32768, 3, 0) GRANULARITY 4,
    INDEX content_runs lower(content) TYPE ngrambf_v1(4, 262144, 2, 0) GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (session_id, version, seq)
COMMENT 'Rows of the views logs and commands as vsay logs rebuild found them; read the views';

CREATE TABLE IF NOT EXISTS log_versions
(
    session_id String COMMENT 'Session, as sess_…',
    version UInt32 COMMENT 'Version of its logs in table rebuilt_logs, from 1; the highest counts',
    detection UInt32 COMMENT 'Version of the detection that found it',
    rebuilt_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When it was complete'
)
ENGINE = ReplacingMergeTree
ORDER BY (session_id, version)
COMMENT 'Which sessions have rebuilt logs; a session that is not here has them as they were recorded';

CREATE VIEW IF NOT EXISTS log_rows
(
    org_id String COMMENT 'See view logs',
    session_id String COMMENT 'See view logs',
    version UInt32 COMMENT 'See view logs',
    seq UInt64 COMMENT 'See view logs',
    at DateTime64(6, 'UTC') COMMENT 'See view logs',
    type String COMMENT 'command, output, or finished: the end of a command',
    n UInt64 COMMENT 'See view logs',
    content String COMMENT 'See view logs',
    confidence String COMMENT 'See view commands',
    context String COMMENT 'See view commands',
    cwd String COMMENT 'See view commands',
    from_seq UInt64 COMMENT 'See views logs and commands',
    to_seq UInt64 COMMENT 'See views logs and commands',
    omitted_chars UInt64 COMMENT 'See view logs',
    exit_status Nullable(Int64) COMMENT 'See view logs'
)
COMMENT 'Rows of the newest version of every session; read the views logs and commands'
AS SELECT
    org_id, session_id, toUInt32(0) AS version, seq, at, type, n, content, confidence, context, cwd, from_seq, to_seq, omitted_chars,
    exit_status
FROM log_parts FINAL
WHERE session_id GLOBAL NOT IN (SELECT session_id FROM log_versions)
UNION ALL
SELECT
    org_id, session_id, version, seq, at, type, n, content, confidence, context, cwd, from_seq, to_seq, omitted_chars, exit_status
FROM rebuilt_logs FINAL
WHERE (session_id, version) GLOBAL IN (SELECT session_id, max(version) FROM log_versions GROUP BY session_id);

CREATE VIEW IF NOT EXISTS logs
(
    org_id String COMMENT 'Organization that the session belongs to',
    session_id String COMMENT 'Session, as sess_…',
    seq UInt64 COMMENT 'Number of the event in its session',
    at DateTime64(6, 'UTC') COMMENT 'When it was recorded',
    type String COMMENT 'command: a line that was entered; output: the readable text that followed',
    n UInt64 COMMENT 'Which command of the session, from 1; output with 0 came before the first',
    content String COMMENT 'The command line, or the text',
    from_seq UInt64 COMMENT 'Event with which the command line or the output begins',
    to_seq UInt64 COMMENT 'Event with which the output ends; of a command, the one after which its output follows',
    omitted_chars UInt64 COMMENT 'Characters that were left out in the middle of the text',
    exit_status Nullable(Int64) COMMENT 'Exit status of the command, with its output, when the shell told it',
    version UInt32 COMMENT '0: as it was recorded; else which rebuild found it'
)
COMMENT 'Command lines and the readable output that followed, one row each'
AS SELECT org_id, session_id, seq, at, type, n, content, from_seq, to_seq, omitted_chars, exit_status, version
FROM log_rows
WHERE type IN ('command', 'output');

CREATE VIEW IF NOT EXISTS commands
(
    org_id String COMMENT 'Organization that the session belongs to',
    session_id String COMMENT 'Session, as sess_…',
    seq UInt64 COMMENT 'Number of the event in its session',
    at DateTime64(6, 'UTC') COMMENT 'When it was entered',
    n UInt64 COMMENT 'Which command of the session, from 1',
    text String COMMENT 'The command line',
    confidence String COMMENT 'How the text was found: exact (the shell told it), screen (read from the screen), input (from the keys)',
    context String COMMENT 'What read the line when it was not the login shell, as python or mysql',
    cwd String COMMENT 'Working directory, when the shell told it',
    started_seq UInt64 COMMENT 'Output event in which the command line begins',
    output_from_seq UInt64 COMMENT 'Event after which its output follows',
    user_id String COMMENT 'Whose session it is, as usr_…',
    user_name String COMMENT 'Name of the user at that time',
    machine_id String COMMENT 'On which machine, as mch_…',
    machine_name String COMMENT 'Name of the machine at that time',
    output_to_seq UInt64 COMMENT 'Event with which its output ended; 0: it is not known to have ended',
    exit_status Nullable(Int64) COMMENT 'Exit status, when the shell told it',
    ended_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When its output ended, as far as can be told',
    version UInt32 COMMENT '0: as it was recorded; else which rebuild found it'
)
COMMENT 'Command lines that were entered, one row each'
AS SELECT
    entries.org_id AS org_id,
    entries.session_id AS session_id,
    entries.command_seq AS seq,
    entries.entered_at AS at,
    entries.n AS n,
    entries.text AS text,
    entries.confidence AS confidence,
    entries.context AS context,
    entries.cwd AS cwd,
    entries.started_seq AS started_seq,
    entries.output_from_seq AS output_from_seq,
    sessions.user_id AS user_id,
    sessions.user_name AS user_name,
    sessions.machine_id AS machine_id,
    sessions.machine_name AS machine_name,
    entries.output_to_seq AS output_to_seq,
    entries.exit_status AS exit_status,
    entries.ended_at AS ended_at,
    entries.version AS version
FROM (
    SELECT
        org_id,
        session_id,
        n,
        maxIf(seq, type = 'command') AS command_seq,
        maxIf(at, type = 'command') AS entered_at,
        maxIf(content, type = 'command') AS text,
        maxIf(log_rows.confidence, type = 'command') AS confidence,
        maxIf(log_rows.context, type = 'command') AS context,
        maxIf(log_rows.cwd, type = 'command') AS cwd,
        maxIf(from_seq, type = 'command') AS started_seq,
        maxIf(to_seq, type = 'command') AS output_from_seq,
        maxIf(to_seq, type = 'finished') AS output_to_seq,
        maxIf(log_rows.exit_status, type = 'finished') AS exit_status,
        maxIf(toNullable(at), type = 'finished') AS ended_at,
        max(log_rows.version) AS version
    FROM log_rows
    WHERE type IN ('command', 'finished')
    GROUP BY org_id, session_id, n
    HAVING countIf(type = 'command') > 0
) AS entries
LEFT JOIN sessions ON sessions.org_id = entries.org_id AND sessions.session_id = entries.session_id;
