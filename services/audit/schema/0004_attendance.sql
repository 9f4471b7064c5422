-- Who watched or drove which session, and when.
CREATE TABLE IF NOT EXISTS attendance_states
(
    org_id      LowCardinality(String) COMMENT 'organization',
    session_id  String COMMENT 'session',
    viewer_id   String COMMENT 'one attachment of one client',
    user_id     SimpleAggregateFunction(max, String) COMMENT 'who',
    user_name   SimpleAggregateFunction(max, String) COMMENT 'name at that time',
    role        SimpleAggregateFunction(max, String) COMMENT 'driver or observer',
    ip_address  SimpleAggregateFunction(max, String) COMMENT 'address of the client',
    attached_at SimpleAggregateFunction(max, DateTime64(6, 'UTC')) COMMENT 'from when; 1970 while unknown',
    detached_at SimpleAggregateFunction(max, DateTime64(6, 'UTC')) COMMENT 'to when; 1970 while it is attached',
    reason      SimpleAggregateFunction(max, String) COMMENT 'left, lost or ended'
)
ENGINE = AggregatingMergeTree
ORDER BY (org_id, session_id, viewer_id)
COMMENT 'One row an attachment once merged; read it through the view attendance';

CREATE MATERIALIZED VIEW IF NOT EXISTS attendance_states_from_events TO attendance_states AS
SELECT
    org_id,
    session_id,
    JSONExtractString(attrs, 'viewer_id') AS viewer_id,
    max(JSONExtractString(attrs, 'user', 'id')) AS user_id,
    max(JSONExtractString(attrs, 'user', 'name')) AS user_name,
    max(if(type = 'attached', JSONExtractString(attrs, 'role'), '')) AS role,
    max(if(type = 'attached', JSONExtractString(attrs, 'ip_address'), '')) AS ip_address,
    max(if(type = 'attached', at, toDateTime64(0, 6, 'UTC'))) AS attached_at,
    max(if(type = 'detached', at, toDateTime64(0, 6, 'UTC'))) AS detached_at,
    max(if(type = 'detached', JSONExtractString(attrs, 'reason'), '')) AS reason
FROM events
WHERE type IN ('attached', 'detached')
GROUP BY org_id, session_id, viewer_id;

CREATE VIEW IF NOT EXISTS attendance AS
SELECT
    org_id,
    session_id,
    viewer_id,
    max(states.user_id) AS user_id,
    max(states.user_name) AS user_name,
    max(states.role) AS role,
    max(states.ip_address) AS ip_address,
    max(states.attached_at) AS attached_at,
    if(max(states.detached_at) > toDateTime64(0, 6, 'UTC'), max(states.detached_at), NULL) AS detached_at,
    max(states.reason) AS reason
FROM attendance_states AS states
GROUP BY org_id, session_id, viewer_id;
