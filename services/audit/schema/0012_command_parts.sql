-- Commands have tables of their own, small and in order, so that a question over all of them reads neither the text of all output
-- nor keeps a row for each in memory (benchmarks/results/2026-11-25-audit.md). One row a command: its line is a part of the row,
-- its end another; parts merge by max alone, so that neither order nor repetition makes a difference.

CREATE TABLE IF NOT EXISTS command_parts
(
    org_id LowCardinality(String) COMMENT 'See view commands',
    session_id String COMMENT 'See view commands' CODEC(ZSTD(1)),
    n UInt64 COMMENT 'See view commands' CODEC(ZSTD(1)),
    at SimpleAggregateFunction(max, DateTime64(6, 'UTC')) COMMENT 'When the last event that is in this row was recorded' CODEC(Delta, ZSTD(1)),
    seq SimpleAggregateFunction(max, UInt64) COMMENT 'See view commands; 0 in the part that comes from its end' CODEC(ZSTD(1)),
    entered_at SimpleAggregateFunction(max, Nullable(DateTime64(6, 'UTC'))) COMMENT 'Column at of view commands' CODEC(ZSTD(1)),
    text SimpleAggregateFunction(max, String) COMMENT 'See view commands' CODEC(ZSTD(3)),
    confidence SimpleAggregateFunction(max, String) COMMENT 'See view commands' CODEC(ZSTD(1)),
    context SimpleAggregateFunction(max, String) COMMENT 'See view commands' CODEC(ZSTD(1)),
    cwd SimpleAggregateFunction(max, String) COMMENT 'See view commands' CODEC(ZSTD(1)),
    started_seq SimpleAggregateFunction(max, UInt64) COMMENT 'See view commands' CODEC(ZSTD(1)),
    output_from_seq SimpleAggregateFunction(max, UInt64) COMMENT 'See view commands' CODEC(ZSTD(1)),
    output_to_seq SimpleAggregateFunction(max, UInt64) COMMENT 'See view commands' CODEC(ZSTD(1)),
    exit_status SimpleAggregateFunction(max, Nullable(Int64)) COMMENT 'See view commands' CODEC(ZSTD(1)),
    ended_at SimpleAggregateFunction(max, Nullable(DateTime64(6, 'UTC'))) COMMENT 'See view commands' CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (org_id, session_id, n)
COMMENT 'Parts of the rows of view commands; read the view';

CREATE MATERIALIZED VIEW IF NOT EXISTS command_parts_from_events TO command_parts
(
    org_id String COMMENT 'Of table command_parts',
    session_id String COMMENT 'Of table command_parts',
    n UInt64 COMMENT 'Of table command_parts',
    at DateTime64(6, 'UTC') COMMENT 'Of table command_parts',
    seq UInt64 COMMENT 'Of table command_parts',
    entered_at Nullable(DateTime64(6, 'UTC')) COMMENT 'Of table command_parts',
    text String COMMENT 'Of table command_parts',
    confidence String COMMENT 'Of table command_parts',
    context String COMMENT 'Of table command_parts',
    cwd String COMMENT 'Of table command_parts',
    started_seq UInt64 COMMENT 'Of table command_parts',
    output_from_seq UInt64 COMMENT 'Of table command_parts',
    output_to_seq UInt64 COMMENT 'Of table command_parts',
    exit_status Nullable(Int64) COMMENT 'Of table command_parts',
    ended_at Nullable(DateTime64(6, 'UTC')) COMMENT 'Of table command_parts'
)
AS SELECT
    org_id,
    session_id,
    JSONExtractUInt(attrs, 'n') AS n,
    events.at AS at,
    if(type = 'command', events.seq, 0) AS seq,
    if(type = 'command', toNullable(events.at), NULL) AS entered_at,
    JSONExtractString(attrs, 'text') AS text,
    JSONExtractString(attrs, 'confidence') AS confidence,
    JSONExtractString(attrs, 'context') AS context,
    JSONExtractString(attrs, 'cwd') AS cwd,
    JSONExtractUInt(attrs, 'started_seq') AS started_seq,
    JSONExtractUInt(attrs, 'output_from_seq') AS output_from_seq,
    JSONExtractUInt(attrs, 'output_to_seq') AS output_to_seq,
    JSONExtract(attrs, 'exit_status', 'Nullable(Int64)') AS exit_status,
    if(type = 'finished', toNullable(events.at), NULL) AS ended_at
FROM events
WHERE type IN ('command', 'finished')
COMMENT 'Fills table command_parts from events command and finished';

CREATE TABLE IF NOT EXISTS rebuilt_commands
(
    org_id LowCardinality(String) COMMENT 'See view commands',
    session_id String COMMENT 'See view commands' CODEC(ZSTD(1)),
    version UInt32 COMMENT 'See view commands' CODEC(ZSTD(1)),
    n UInt64 COMMENT 'See view commands' CODEC(ZSTD(1)),
    at SimpleAggregateFunction(max, DateTime64(6, 'UTC')) COMMENT 'When the last event that is in this row was recorded' CODEC(Delta, ZSTD(1)),
    seq SimpleAggregateFunction(max, UInt64) COMMENT 'See view commands; 0 in the part that comes from its end' CODEC(ZSTD(1)),
    entered_at SimpleAggregateFunction(max, Nullable(DateTime64(6, 'UTC'))) COMMENT 'Column at of view commands' CODEC(ZSTD(1)),
    text SimpleAggregateFunction(max, String) COMMENT 'See view commands' CODEC(ZSTD(3)),
    confidence SimpleAggregateFunction(max, String) COMMENT 'See view commands' CODEC(ZSTD(1)),
    context SimpleAggregateFunction(max, String) COMMENT 'See view commands' CODEC(ZSTD(1)),
    cwd SimpleAggregateFunction(max, String) COMMENT 'See view commands' CODEC(ZSTD(1)),
    started_seq SimpleAggregateFunction(max, UInt64) COMMENT 'See view commands' CODEC(ZSTD(1)),
    output_from_seq SimpleAggregateFunction(max, UInt64) COMMENT 'See view commands' CODEC(ZSTD(1)),
    output_to_seq SimpleAggregateFunction(max, UInt64) COMMENT 'See view commands' CODEC(ZSTD(1)),
    exit_status SimpleAggregateFunction(max, Nullable(Int64)) COMMENT 'See view commands' CODEC(ZSTD(1)),
    ended_at SimpleAggregateFunction(max, Nullable(DateTime64(6, 'UTC'))) COMMENT 'See view commands' CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (org_id, session_id, version, n)
COMMENT 'Parts of the rows of view commands as vsay logs rebuild found them; read the view';

CREATE MATERIALIZED VIEW IF NOT EXISTS rebuilt_commands_from_logs TO rebuilt_commands
(
    org_id String COMMENT 'Of table rebuilt_commands',
    session_id String COMMENT 'Of table rebuilt_commands',
    version UInt32 COMMENT 'Of table rebuilt_commands',
    n UInt64 COMMENT 'Of table rebuilt_commands',
    at DateTime64(6, 'UTC') COMMENT 'Of table rebuilt_commands',
    seq UInt64 COMMENT 'Of table rebuilt_commands',
    entered_at Nullable(DateTime64(6, 'UTC')) COMMENT 'Of table rebuilt_commands',
    text String COMMENT 'Of table rebuilt_commands',
    confidence String COMMENT 'Of table rebuilt_commands',
    context String COMMENT 'Of table rebuilt_commands',
    cwd String COMMENT 'Of table rebuilt_commands',
    started_seq UInt64 COMMENT 'Of table rebuilt_commands',
    output_from_seq UInt64 COMMENT 'Of table rebuilt_commands',
    output_to_seq UInt64 COMMENT 'Of table rebuilt_commands',
    exit_status Nullable(Int64) COMMENT 'Of table rebuilt_commands',
    ended_at Nullable(DateTime64(6, 'UTC')) COMMENT 'Of table rebuilt_commands'
)
AS SELECT
    org_id,
    session_id,
    version,
    n,
    rebuilt_logs.at AS at,
    if(type = 'command', rebuilt_logs.seq, 0) AS seq,
    if(type = 'command', toNullable(rebuilt_logs.at), NULL) AS entered_at,
    content AS text,
    confidence,
    context,
    cwd,
    if(type = 'command', from_seq, 0) AS started_seq,
    if(type = 'command', to_seq, 0) AS output_from_seq,
    if(type = 'finished', to_seq, 0) AS output_to_seq,
    exit_status,
    if(type = 'finished', toNullable(rebuilt_logs.at), NULL) AS ended_at
FROM rebuilt_logs
WHERE type IN ('command', 'finished')
COMMENT 'Fills table rebuilt_commands from rows command and finished of table rebuilt_logs';

-- What was recorded before these views were there.

INSERT INTO command_parts
(
    org_id, session_id, n, at, seq, entered_at, text, confidence, context, cwd,
    started_seq, output_from_seq, output_to_seq, exit_status, ended_at
)
SELECT
    org_id,
    session_id,
    n,
    at,
    if(type = 'command', seq, 0),
    if(type = 'command', toNullable(at), NULL),
    content,
    confidence,
    context,
    cwd,
    if(type = 'command', from_seq, 0),
    if(type = 'command', to_seq, 0),
    if(type = 'finished', to_seq, 0),
    exit_status,
    if(type = 'finished', toNullable(at), NULL)
FROM log_parts
WHERE type IN ('command', 'finished')
SETTINGS max_partitions_per_insert_block = 0, distributed_foreground_insert = 1;

INSERT INTO rebuilt_commands
(
    org_id, session_id, version, n, at, seq, entered_at, text, confidence, context, cwd,
    started_seq, output_from_seq, output_to_seq, exit_status, ended_at
)
SELECT
    org_id,
    session_id,
    version,
    n,
    at,
    if(type = 'command', seq, 0),
    if(type = 'command', toNullable(at), NULL),
    content,
    confidence,
    context,
    cwd,
    if(type = 'command', from_seq, 0),
    if(type = 'command', to_seq, 0),
    if(type = 'finished', to_seq, 0),
    exit_status,
    if(type = 'finished', toNullable(at), NULL)
FROM rebuilt_logs
WHERE type IN ('command', 'finished')
SETTINGS max_partitions_per_insert_block = 0, distributed_foreground_insert = 1;

CREATE OR REPLACE VIEW commands
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
    entered.org_id AS org_id,
    entered.session_id AS session_id,
    entered.seq AS seq,
    assumeNotNull(entered.entered_at) AS at,
    entered.n AS n,
    entered.text AS text,
    entered.confidence AS confidence,
    entered.context AS context,
    entered.cwd AS cwd,
    entered.started_seq AS started_seq,
    entered.output_from_seq AS output_from_seq,
    sessions.user_id AS user_id,
    sessions.user_name AS user_name,
    sessions.machine_id AS machine_id,
    sessions.machine_name AS machine_name,
    entered.output_to_seq AS output_to_seq,
    entered.exit_status AS exit_status,
    entered.ended_at AS ended_at,
    entered.version AS version
FROM (
    SELECT org_id, session_id, toUInt32(0) AS version, n, seq, entered_at, text, confidence, context, cwd,
        started_seq, output_from_seq, output_to_seq, exit_status, ended_at
    FROM command_parts FINAL
    WHERE seq > 0 AND session_id GLOBAL NOT IN (SELECT session_id FROM log_versions)
    UNION ALL
    SELECT org_id, session_id, version, n, seq, entered_at, text, confidence, context, cwd,
        started_seq, output_from_seq, output_to_seq, exit_status, ended_at
    FROM rebuilt_commands FINAL
    WHERE seq > 0 AND (session_id, version) GLOBAL IN (SELECT session_id, max(version) FROM log_versions GROUP BY session_id)
) AS entered
LEFT JOIN sessions ON sessions.org_id = entered.org_id AND sessions.session_id = entered.session_id;
