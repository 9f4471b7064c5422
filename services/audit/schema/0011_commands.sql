-- The view without FINAL: it takes the greatest of what is said of each command, so that a row that is there twice changes nothing,
-- and ClickHouse need not merge the text of all output first (benchmarks/results/2026-11-25-audit.md).

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
    FROM
    (
        SELECT org_id, session_id, toUInt32(0) AS version,
            seq, at, type, n, content, confidence, context, cwd, from_seq, to_seq, exit_status
        FROM log_parts
        WHERE session_id GLOBAL NOT IN (SELECT session_id FROM log_versions)
        UNION ALL
        SELECT org_id, session_id, version,
            seq, at, type, n, content, confidence, context, cwd, from_seq, to_seq, exit_status
        FROM rebuilt_logs
        WHERE (session_id, version) GLOBAL IN (SELECT session_id, max(version) FROM log_versions GROUP BY session_id)
    ) AS log_rows
    WHERE type IN ('command', 'finished')
    GROUP BY org_id, session_id, n
    HAVING countIf(type = 'command') > 0
) AS entries
LEFT JOIN sessions ON sessions.org_id = entries.org_id AND sessions.session_id = entries.session_id;
