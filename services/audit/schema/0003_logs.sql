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
    if(events.type = 'command', 'command', 'output') AS type,
    JSONExtractUInt(attrs, 'n') AS n,
    JSONExtractString(attrs, 'text') AS content,
    JSONExtractString(attrs, 'confidence') AS confidence,
    JSONExtractString(attrs, 'context') AS context,
    JSONExtractString(attrs, 'cwd') AS cwd,
    if(events.type = 'command', JSONExtractUInt(attrs, 'started_seq'), JSONExtractUInt(attrs, 'from_seq')) AS from_seq,
    if(events.type = 'command', JSONExtractUInt(attrs, 'output_from_seq'), JSONExtractUInt(attrs, 'to_seq')) AS to_seq,
    JSONExtractUInt(attrs, 'omitted_chars') AS omitted_chars,
    JSONExtract(attrs, 'exit_status', 'Nullable(Int64)') AS exit_status
FROM events
WHERE events.type IN ('command', 'text')
COMMENT 'Fills table log_parts from events command and text';

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
    exit_status Nullable(Int64) COMMENT 'Exit status of the command, with its output, when the shell told it'
)
COMMENT 'Command lines and the readable output that followed, one row each'
AS SELECT org_id, session_id, seq, at, type, n, content, from_seq, to_seq, omitted_chars, exit_status
FROM log_parts FINAL;

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
    machine_name String COMMENT 'Name of the machine at that time'
)
COMMENT 'Command lines that were entered, one row each'
AS SELECT
    entries.org_id AS org_id,
    entries.session_id AS session_id,
    entries.seq AS seq,
    entries.at AS at,
    entries.n AS n,
    entries.content AS text,
    entries.confidence AS confidence,
    entries.context AS context,
    entries.cwd AS cwd,
    entries.from_seq AS started_seq,
    entries.to_seq AS output_from_seq,
    sessions.user_id AS user_id,
    sessions.user_name AS user_name,
    sessions.machine_id AS machine_id,
    sessions.machine_name AS machine_name
FROM (SELECT * FROM log_parts FINAL WHERE type = 'command') AS entries
LEFT JOIN sessions ON sessions.org_id = entries.org_id AND sessions.session_id = entries.session_id;
