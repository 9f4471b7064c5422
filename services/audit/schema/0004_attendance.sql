-- Who watched or drove which session. Parts merge as those of sessions do.

CREATE TABLE IF NOT EXISTS attendance_parts
(
    org_id LowCardinality(String) COMMENT 'See view attendance',
    session_id String COMMENT 'See view attendance',
    viewer_id String COMMENT 'See view attendance',
    user_id SimpleAggregateFunction(max, String) COMMENT 'See view attendance',
    user_name SimpleAggregateFunction(max, String) COMMENT 'See view attendance',
    role SimpleAggregateFunction(max, String) COMMENT 'See view attendance',
    ip_address SimpleAggregateFunction(max, String) COMMENT 'See view attendance',
    user_agent SimpleAggregateFunction(max, String) COMMENT 'See view attendance',
    attached_at SimpleAggregateFunction(min, Nullable(DateTime64(6, 'UTC'))) COMMENT 'See view attendance',
    detached_at SimpleAggregateFunction(max, Nullable(DateTime64(6, 'UTC'))) COMMENT 'See view attendance',
    reason SimpleAggregateFunction(max, String) COMMENT 'See view attendance'
)
ENGINE = AggregatingMergeTree
ORDER BY (org_id, session_id, viewer_id)
COMMENT 'Parts of the rows of view attendance; read the view';

CREATE MATERIALIZED VIEW IF NOT EXISTS attendance_parts_from_events TO attendance_parts
(
    org_id String COMMENT 'Of table attendance_parts',
    session_id String COMMENT 'Of table attendance_parts',
    viewer_id String COMMENT 'Of table attendance_parts',
    user_id String COMMENT 'Of table attendance_parts',
    user_name String COMMENT 'Of table attendance_parts',
    role String COMMENT 'Of table attendance_parts',
    ip_address String COMMENT 'Of table attendance_parts',
    user_agent String COMMENT 'Of table attendance_parts',
    attached_at Nullable(DateTime64(6, 'UTC')) COMMENT 'Of table attendance_parts',
    detached_at Nullable(DateTime64(6, 'UTC')) COMMENT 'Of table attendance_parts',
    reason String COMMENT 'Of table attendance_parts'
)
AS SELECT
    org_id,
    session_id,
    JSONExtractString(attrs, 'viewer_id') AS viewer_id,
    JSONExtractString(attrs, 'user', 'id') AS user_id,
    JSONExtractString(attrs, 'user', 'name') AS user_name,
    JSONExtractString(attrs, 'role') AS role,
    JSONExtractString(attrs, 'ip_address') AS ip_address,
    JSONExtractString(attrs, 'user_agent') AS user_agent,
    if(type = 'attached', at, NULL) AS attached_at,
    if(type = 'detached', at, NULL) AS detached_at,
    JSONExtractString(attrs, 'reason') AS reason
FROM events
WHERE type IN ('attached', 'detached')
COMMENT 'Fills table attendance_parts from events attached and detached';

CREATE VIEW IF NOT EXISTS attendance
(
    org_id String COMMENT 'Organization that the session belongs to',
    session_id String COMMENT 'Session, as sess_…',
    viewer_id String COMMENT 'One attachment of one client, as view_…',
    user_id String COMMENT 'Who watched, as usr_…',
    user_name String COMMENT 'Name of that user at that time',
    role String COMMENT 'driver: could type; observer: could watch',
    ip_address String COMMENT 'Where the viewer came from',
    user_agent String COMMENT 'With which program',
    attached_at Nullable(DateTime64(6, 'UTC')) COMMENT 'From when',
    detached_at Nullable(DateTime64(6, 'UTC')) COMMENT 'Until when; NULL: still attached',
    reason String COMMENT 'How it went: left, lost or ended; empty: still attached'
)
COMMENT 'Who watched or drove which session, one row an attachment'
AS SELECT org_id, session_id, viewer_id, user_id, user_name, role, ip_address, user_agent, attached_at, detached_at, reason
FROM attendance_parts FINAL;
