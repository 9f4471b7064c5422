-- One row a session. Each event adds a part of the row; parts merge by max and min alone, so that neither order nor
-- repetition of events makes a difference. Empty text, 0 and NULL stand for "this event does not say".

CREATE TABLE IF NOT EXISTS session_parts
(
    org_id LowCardinality(String) COMMENT 'See view sessions',
    session_id String COMMENT 'See view sessions',
    user_id SimpleAggregateFunction(max, String) COMMENT 'See view sessions',
    user_name SimpleAggregateFunction(max, String) COMMENT 'See view sessions',
    user_email SimpleAggregateFunction(max, String) COMMENT 'See view sessions',
    machine_id SimpleAggregateFunction(max, String) COMMENT 'See view sessions',
    machine_name SimpleAggregateFunction(max, String) COMMENT 'See view sessions',
    machine_host SimpleAggregateFunction(max, String) COMMENT 'See view sessions',
    ip_address SimpleAggregateFunction(max, String) COMMENT 'See view sessions',
    user_agent SimpleAggregateFunction(max, String) COMMENT 'See view sessions',
    worker SimpleAggregateFunction(max, String) COMMENT 'See view sessions',
    requested_at SimpleAggregateFunction(min, Nullable(DateTime64(6, 'UTC'))) COMMENT 'See view sessions',
    claimed_at SimpleAggregateFunction(min, Nullable(DateTime64(6, 'UTC'))) COMMENT 'See view sessions',
    shell_started_at SimpleAggregateFunction(min, Nullable(DateTime64(6, 'UTC'))) COMMENT 'See view sessions',
    login SimpleAggregateFunction(max, String) COMMENT 'See view sessions',
    authentication SimpleAggregateFunction(max, String) COMMENT 'See view sessions',
    host_key SimpleAggregateFunction(max, String) COMMENT 'See view sessions',
    server_version SimpleAggregateFunction(max, String) COMMENT 'See view sessions',
    connect_ms SimpleAggregateFunction(max, UInt64) COMMENT 'See view sessions',
    first_at SimpleAggregateFunction(min, Nullable(DateTime64(6, 'UTC'))) COMMENT 'When the first event was recorded',
    active_at SimpleAggregateFunction(max, Nullable(DateTime64(6, 'UTC'))) COMMENT 'When the last output, input or command was recorded',
    last_seq SimpleAggregateFunction(max, UInt64) COMMENT 'See view sessions',
    commands_count SimpleAggregateFunction(max, UInt64) COMMENT 'See view sessions',
    output_bytes SimpleAggregateFunction(max, UInt64) COMMENT 'See view sessions',
    input_bytes SimpleAggregateFunction(max, UInt64) COMMENT 'See view sessions',
    ended_at SimpleAggregateFunction(max, Nullable(DateTime64(6, 'UTC'))) COMMENT 'See view sessions',
    reason SimpleAggregateFunction(max, String) COMMENT 'See view sessions',
    code SimpleAggregateFunction(max, String) COMMENT 'See view sessions',
    message SimpleAggregateFunction(max, String) COMMENT 'See view sessions',
    exit_status SimpleAggregateFunction(max, Nullable(Int64)) COMMENT 'See view sessions',
    exit_signal SimpleAggregateFunction(max, String) COMMENT 'See view sessions'
)
ENGINE = AggregatingMergeTree
ORDER BY (org_id, session_id)
COMMENT 'Parts of the rows of view sessions; read the view';

CREATE MATERIALIZED VIEW IF NOT EXISTS session_parts_from_claimed TO session_parts
(
    org_id String COMMENT 'Of table session_parts',
    session_id String COMMENT 'Of table session_parts',
    user_id String COMMENT 'Of table session_parts',
    user_name String COMMENT 'Of table session_parts',
    user_email String COMMENT 'Of table session_parts',
    machine_id String COMMENT 'Of table session_parts',
    machine_name String COMMENT 'Of table session_parts',
    machine_host String COMMENT 'Of table session_parts',
    ip_address String COMMENT 'Of table session_parts',
    user_agent String COMMENT 'Of table session_parts',
    worker String COMMENT 'Of table session_parts',
    requested_at Nullable(DateTime64(6, 'UTC')) COMMENT 'Of table session_parts',
    claimed_at Nullable(DateTime64(6, 'UTC')) COMMENT 'Of table session_parts'
)
AS SELECT
    org_id,
    session_id,
    JSONExtractString(attrs, 'user', 'id') AS user_id,
    JSONExtractString(attrs, 'user', 'name') AS user_name,
    JSONExtractString(attrs, 'user', 'email') AS user_email,
    JSONExtractString(attrs, 'machine', 'id') AS machine_id,
    JSONExtractString(attrs, 'machine', 'name') AS machine_name,
    JSONExtractString(attrs, 'machine', 'host') AS machine_host,
    JSONExtractString(attrs, 'ip_address') AS ip_address,
    JSONExtractString(attrs, 'user_agent') AS user_agent,
    JSONExtractString(attrs, 'worker') AS worker,
    JSONExtract(attrs, 'requested_at', 'Nullable(DateTime64(6, \'UTC\'))') AS requested_at,
    toNullable(at) AS claimed_at
FROM events
WHERE type = 'claimed'
COMMENT 'Fills table session_parts from events claimed';

CREATE MATERIALIZED VIEW IF NOT EXISTS session_parts_from_started TO session_parts
(
    org_id String COMMENT 'Of table session_parts',
    session_id String COMMENT 'Of table session_parts',
    shell_started_at Nullable(DateTime64(6, 'UTC')) COMMENT 'Of table session_parts',
    login String COMMENT 'Of table session_parts',
    authentication String COMMENT 'Of table session_parts',
    host_key String COMMENT 'Of table session_parts',
    server_version String COMMENT 'Of table session_parts',
    connect_ms UInt64 COMMENT 'Of table session_parts'
)
AS SELECT
    org_id,
    session_id,
    toNullable(at) AS shell_started_at,
    JSONExtractString(attrs, 'login') AS login,
    JSONExtractString(attrs, 'authentication') AS authentication,
    JSONExtractString(attrs, 'host_key') AS host_key,
    JSONExtractString(attrs, 'server_version') AS server_version,
    JSONExtractUInt(attrs, 'connect_ms') AS connect_ms
FROM events
WHERE type = 'started'
COMMENT 'Fills table session_parts from events started';

CREATE MATERIALIZED VIEW IF NOT EXISTS session_parts_from_ended TO session_parts
(
    org_id String COMMENT 'Of table session_parts',
    session_id String COMMENT 'Of table session_parts',
    ended_at Nullable(DateTime64(6, 'UTC')) COMMENT 'Of table session_parts',
    reason String COMMENT 'Of table session_parts',
    code String COMMENT 'Of table session_parts',
    message String COMMENT 'Of table session_parts',
    exit_status Nullable(Int64) COMMENT 'Of table session_parts',
    exit_signal String COMMENT 'Of table session_parts',
    commands_count UInt64 COMMENT 'Of table session_parts',
    output_bytes UInt64 COMMENT 'Of table session_parts',
    input_bytes UInt64 COMMENT 'Of table session_parts'
)
AS SELECT
    org_id,
    session_id,
    toNullable(at) AS ended_at,
    JSONExtractString(attrs, 'reason') AS reason,
    JSONExtractString(attrs, 'code') AS code,
    JSONExtractString(attrs, 'message') AS message,
    JSONExtract(attrs, 'exit_status', 'Nullable(Int64)') AS exit_status,
    JSONExtractString(attrs, 'exit_signal') AS exit_signal,
    JSONExtractUInt(attrs, 'commands_total') AS commands_count,
    JSONExtractUInt(attrs, 'output_bytes_total') AS output_bytes,
    JSONExtractUInt(attrs, 'input_bytes_total') AS input_bytes
FROM events
WHERE type = 'ended'
COMMENT 'Fills table session_parts from events ended';

CREATE MATERIALIZED VIEW IF NOT EXISTS session_parts_from_all TO session_parts
(
    org_id String COMMENT 'Of table session_parts',
    session_id String COMMENT 'Of table session_parts',
    first_at Nullable(DateTime64(6, 'UTC')) COMMENT 'Of table session_parts',
    active_at Nullable(DateTime64(6, 'UTC')) COMMENT 'Of table session_parts',
    last_seq UInt64 COMMENT 'Of table session_parts',
    commands_count UInt64 COMMENT 'Of table session_parts',
    output_bytes UInt64 COMMENT 'Of table session_parts',
    input_bytes UInt64 COMMENT 'Of table session_parts'
)
AS SELECT
    org_id,
    session_id,
    min(toNullable(at)) AS first_at,
    max(if(type IN ('output', 'input', 'command'), at, NULL)) AS active_at,
    max(seq) AS last_seq,
    max(if(type = 'command', JSONExtractUInt(attrs, 'n'), 0)) AS commands_count,
    max(if(type = 'output', JSONExtractUInt(attrs, 'bytes_total'), 0)) AS output_bytes,
    max(if(type = 'input', JSONExtractUInt(attrs, 'bytes_total'), 0)) AS input_bytes
FROM events
GROUP BY org_id, session_id
COMMENT 'Fills table session_parts from all events';

CREATE VIEW IF NOT EXISTS sessions
(
    org_id String COMMENT 'Organization that the session belongs to',
    session_id String COMMENT 'Session, as sess_…',
    user_id String COMMENT 'Who asked for it, as usr_…; empty while the event claimed is not here yet',
    user_name String COMMENT 'Name of the user at that time',
    user_email String COMMENT 'E-mail address of the user at that time',
    machine_id String COMMENT 'On which machine, as mch_…',
    machine_name String COMMENT 'Name of the machine at that time',
    machine_host String COMMENT 'Host name or address of the machine at that time',
    ip_address String COMMENT 'Where the request came from',
    user_agent String COMMENT 'With which program',
    worker String COMMENT 'The worker that took it',
    state String COMMENT 'claimed: not connected yet; started: its shell runs; ended',
    requested_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When it was asked for',
    claimed_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When a worker took it',
    shell_started_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When its shell ran; NULL: it has not',
    started_at DateTime64(6, 'UTC') COMMENT 'When its shell ran; before, and if it never does, when it was asked for',
    last_activity DateTime64(6, 'UTC') COMMENT 'When the last output, input or command was recorded; before, started_at',
    ended_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When it ended; NULL: it has not',
    duration_seconds Nullable(Float64) COMMENT 'From started_at to ended_at; NULL: it has not ended',
    reason String COMMENT 'Why it ended; empty: it has not',
    code String COMMENT 'What went wrong, when reason is connect_failed',
    message String COMMENT 'More about the end, for people',
    exit_status Nullable(Int64) COMMENT 'Exit status of the shell, when it told one',
    exit_signal String COMMENT 'Signal that ended the shell, as KILL; mostly empty',
    commands_count UInt64 COMMENT 'Command lines that were entered',
    output_bytes UInt64 COMMENT 'Bytes of terminal output',
    input_bytes UInt64 COMMENT 'Bytes of recorded terminal input; masked input is not counted',
    last_seq UInt64 COMMENT 'Number of the last event',
    login String COMMENT 'Login name on the machine',
    authentication String COMMENT 'How the worker logged in',
    host_key String COMMENT 'Fingerprint of the host key of the machine, as OpenSSH prints it',
    server_version String COMMENT 'What the SSH server says that it is',
    connect_ms UInt64 COMMENT 'Milliseconds from the claim to the shell'
)
COMMENT 'One row a session'
AS SELECT
    org_id,
    session_id,
    user_id,
    user_name,
    user_email,
    machine_id,
    machine_name,
    machine_host,
    ip_address,
    user_agent,
    worker,
    multiIf(ended_at IS NOT NULL, 'ended', shell_started_at IS NOT NULL, 'started', 'claimed') AS state,
    requested_at,
    claimed_at,
    shell_started_at,
    assumeNotNull(coalesce(shell_started_at, requested_at, claimed_at, first_at)) AS started_at,
    assumeNotNull(coalesce(active_at, shell_started_at, requested_at, claimed_at, first_at)) AS last_activity,
    ended_at,
    dateDiff('microsecond', started_at, ended_at) / 1000000 AS duration_seconds,
    reason,
    code,
    message,
    exit_status,
    exit_signal,
    commands_count,
    output_bytes,
    input_bytes,
    last_seq,
    login,
    authentication,
    host_key,
    server_version,
    connect_ms
FROM session_parts FINAL;
