-- What each session did in each hour, in the order of time: statistics over a period read the hours of that period and
-- no more, however much was recorded before. Parts merge as those of sessions do. Counters of events are cumulative, so
-- that "before" is the least and "after" the greatest of an hour, and their difference is what the hour had.

CREATE TABLE IF NOT EXISTS session_hour_parts
(
    org_id LowCardinality(String) COMMENT 'See view session_hours',
    hour DateTime('UTC') COMMENT 'See view session_hours' CODEC(Delta, ZSTD(1)),
    session_id String COMMENT 'See view session_hours' CODEC(ZSTD(1)),
    user_id SimpleAggregateFunction(max, String) COMMENT 'See view sessions; in the hour of the claim alone' CODEC(ZSTD(1)),
    user_name SimpleAggregateFunction(max, String) COMMENT 'See view sessions; in the hour of the claim alone' CODEC(ZSTD(1)),
    machine_id SimpleAggregateFunction(max, String) COMMENT 'See view sessions; in the hour of the claim alone' CODEC(ZSTD(1)),
    machine_name SimpleAggregateFunction(max, String) COMMENT 'See view sessions; in the hour of the claim alone' CODEC(ZSTD(1)),
    requested_at SimpleAggregateFunction(min, Nullable(DateTime64(6, 'UTC'))) COMMENT 'See view sessions; in the hour of the claim alone',
    claimed_at SimpleAggregateFunction(min, Nullable(DateTime64(6, 'UTC'))) COMMENT 'When a worker took it, if it was in this hour',
    shell_started_at SimpleAggregateFunction(min, Nullable(DateTime64(6, 'UTC'))) COMMENT 'When its shell ran, if it was in this hour',
    ended_at SimpleAggregateFunction(max, Nullable(DateTime64(6, 'UTC'))) COMMENT 'When it ended, if it was in this hour',
    reason SimpleAggregateFunction(max, LowCardinality(String)) COMMENT 'Why it ended, if it did in this hour',
    first_at SimpleAggregateFunction(min, DateTime64(6, 'UTC')) COMMENT 'See view session_hours',
    last_at SimpleAggregateFunction(max, DateTime64(6, 'UTC')) COMMENT 'See view session_hours',
    first_seq SimpleAggregateFunction(min, UInt64) COMMENT 'Number of the first event in this hour',
    last_seq SimpleAggregateFunction(max, UInt64) COMMENT 'Number of the last event in this hour',
    commands_before SimpleAggregateFunction(min, Nullable(UInt64)) COMMENT 'Command lines before this hour; NULL: none in it',
    commands_after SimpleAggregateFunction(max, Nullable(UInt64)) COMMENT 'Command lines up to the end of this hour; NULL: none in it',
    output_bytes_before SimpleAggregateFunction(min, Nullable(UInt64)) COMMENT 'Bytes of output before this hour; NULL: none in it',
    output_bytes_after SimpleAggregateFunction(max, Nullable(UInt64)) COMMENT 'Bytes of output up to the end of this hour; NULL: none in it',
    input_bytes_before SimpleAggregateFunction(min, Nullable(UInt64)) COMMENT 'Bytes of recorded input before this hour; NULL: none in it',
    input_bytes_after SimpleAggregateFunction(max, Nullable(UInt64)) COMMENT 'Bytes of recorded input up to the end of this hour; NULL: none in it'
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (org_id, hour, session_id)
COMMENT 'Parts of the rows of views session_hours and stats_hourly; read these';

CREATE MATERIALIZED VIEW IF NOT EXISTS session_hour_parts_from_events TO session_hour_parts
(
    org_id String COMMENT 'Of table session_hour_parts',
    hour DateTime('UTC') COMMENT 'Of table session_hour_parts',
    session_id String COMMENT 'Of table session_hour_parts',
    user_id String COMMENT 'Of table session_hour_parts',
    user_name String COMMENT 'Of table session_hour_parts',
    machine_id String COMMENT 'Of table session_hour_parts',
    machine_name String COMMENT 'Of table session_hour_parts',
    requested_at Nullable(DateTime64(6, 'UTC')) COMMENT 'Of table session_hour_parts',
    claimed_at Nullable(DateTime64(6, 'UTC')) COMMENT 'Of table session_hour_parts',
    shell_started_at Nullable(DateTime64(6, 'UTC')) COMMENT 'Of table session_hour_parts',
    ended_at Nullable(DateTime64(6, 'UTC')) COMMENT 'Of table session_hour_parts',
    reason String COMMENT 'Of table session_hour_parts',
    first_at DateTime64(6, 'UTC') COMMENT 'Of table session_hour_parts',
    last_at DateTime64(6, 'UTC') COMMENT 'Of table session_hour_parts',
    first_seq UInt64 COMMENT 'Of table session_hour_parts',
    last_seq UInt64 COMMENT 'Of table session_hour_parts',
    commands_before Nullable(UInt64) COMMENT 'Of table session_hour_parts',
    commands_after Nullable(UInt64) COMMENT 'Of table session_hour_parts',
    output_bytes_before Nullable(UInt64) COMMENT 'Of table session_hour_parts',
    output_bytes_after Nullable(UInt64) COMMENT 'Of table session_hour_parts',
    input_bytes_before Nullable(UInt64) COMMENT 'Of table session_hour_parts',
    input_bytes_after Nullable(UInt64) COMMENT 'Of table session_hour_parts'
)
AS SELECT
    org_id,
    toStartOfHour(at) AS hour,
    session_id,
    max(if(type = 'claimed', JSONExtractString(attrs, 'user', 'id'), '')) AS user_id,
    max(if(type = 'claimed', JSONExtractString(attrs, 'user', 'name'), '')) AS user_name,
    max(if(type = 'claimed', JSONExtractString(attrs, 'machine', 'id'), '')) AS machine_id,
    max(if(type = 'claimed', JSONExtractString(attrs, 'machine', 'name'), '')) AS machine_name,
    min(if(type = 'claimed', JSONExtract(attrs, 'requested_at', 'Nullable(DateTime64(6, \'UTC\'))'), NULL)) AS requested_at,
    min(if(type = 'claimed', at, NULL)) AS claimed_at,
    min(if(type = 'started', at, NULL)) AS shell_started_at,
    max(if(type = 'ended', at, NULL)) AS ended_at,
    max(if(type = 'ended', JSONExtractString(attrs, 'reason'), '')) AS reason,
    min(at) AS first_at,
    max(at) AS last_at,
    min(seq) AS first_seq,
    max(seq) AS last_seq,
    min(if(type = 'command', JSONExtractUInt(attrs, 'n') - 1, NULL)) AS commands_before,
    max(if(type = 'command', JSONExtractUInt(attrs, 'n'), NULL)) AS commands_after,
    min(if(type = 'output', JSONExtractUInt(attrs, 'bytes_total') - length(data), NULL)) AS output_bytes_before,
    max(if(type = 'output', JSONExtractUInt(attrs, 'bytes_total'), NULL)) AS output_bytes_after,
    min(if(type = 'input', JSONExtractUInt(attrs, 'bytes_total') - length(data), NULL)) AS input_bytes_before,
    max(if(type = 'input', JSONExtractUInt(attrs, 'bytes_total'), NULL)) AS input_bytes_after
FROM events
GROUP BY org_id, hour, session_id
COMMENT 'Fills table session_hour_parts from all events';

CREATE VIEW IF NOT EXISTS session_hours
(
    org_id String COMMENT 'Organization that the session belongs to',
    hour DateTime('UTC') COMMENT 'The hour, by its beginning',
    session_id String COMMENT 'Session, as sess_…',
    started UInt8 COMMENT '1: its shell began to run in this hour',
    ended UInt8 COMMENT '1: it ended in this hour',
    events UInt64 COMMENT 'Events that were recorded of it in this hour',
    commands UInt64 COMMENT 'Command lines that were entered in this hour',
    output_bytes UInt64 COMMENT 'Bytes of terminal output in this hour',
    input_bytes UInt64 COMMENT 'Bytes of recorded terminal input in this hour; masked input is not counted',
    first_at DateTime64(6, 'UTC') COMMENT 'When the first event of this hour was recorded',
    last_at DateTime64(6, 'UTC') COMMENT 'When the last event of this hour was recorded'
)
COMMENT 'What each session did in each hour: one row a session and hour in which something was recorded of it'
AS SELECT
    org_id,
    hour,
    session_id,
    shell_started_at IS NOT NULL AS started,
    ended_at IS NOT NULL AS ended,
    last_seq - first_seq + 1 AS events,
    ifNull(commands_after - commands_before, 0) AS commands,
    ifNull(output_bytes_after - output_bytes_before, 0) AS output_bytes,
    ifNull(input_bytes_after - input_bytes_before, 0) AS input_bytes,
    first_at,
    last_at
FROM session_hour_parts FINAL;

CREATE VIEW IF NOT EXISTS stats_hourly
(
    org_id String COMMENT 'Organization',
    hour DateTime('UTC') COMMENT 'The hour, by its beginning',
    machine_id String COMMENT 'Machine, as mch_…',
    machine_name String COMMENT 'Its name, as it was last',
    user_id String COMMENT 'User, as usr_…',
    user_name String COMMENT 'Name of the user, as it was last',
    sessions UInt64 COMMENT 'Sessions of which something was recorded in this hour',
    sessions_started UInt64 COMMENT 'Of these, whose shell began to run in it',
    sessions_ended UInt64 COMMENT 'Of these, which ended in it',
    commands UInt64 COMMENT 'Command lines that were entered',
    output_bytes UInt64 COMMENT 'Bytes of terminal output',
    input_bytes UInt64 COMMENT 'Bytes of recorded terminal input'
)
COMMENT 'What was done in each hour: one row an organization, hour, machine and user. Sessions go over several hours: do not add up their number'
AS SELECT
    session_hours.org_id AS org_id,
    session_hours.hour AS hour,
    sessions.machine_id AS machine_id,
    max(sessions.machine_name) AS machine_name,
    sessions.user_id AS user_id,
    max(sessions.user_name) AS user_name,
    count() AS sessions,
    sum(session_hours.started) AS sessions_started,
    sum(session_hours.ended) AS sessions_ended,
    sum(session_hours.commands) AS commands,
    sum(session_hours.output_bytes) AS output_bytes,
    sum(session_hours.input_bytes) AS input_bytes
FROM session_hours
LEFT JOIN sessions ON sessions.org_id = session_hours.org_id AND sessions.session_id = session_hours.session_id
GROUP BY session_hours.org_id, session_hours.hour, sessions.machine_id, sessions.user_id;
