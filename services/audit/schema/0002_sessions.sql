-- What each session is and was. Every aggregate gives the same however often, and in whatever order, an event arrives.
CREATE TABLE IF NOT EXISTS session_states
(
    org_id          LowCardinality(String) COMMENT 'organization',
    session_id      String COMMENT 'session',
    user_id         SimpleAggregateFunction(max, String) COMMENT 'who asked for it',
    user_name       SimpleAggregateFunction(max, String) COMMENT 'name at that time',
    user_email      SimpleAggregateFunction(max, String) COMMENT 'e-mail address at that time',
    machine_id      SimpleAggregateFunction(max, String) COMMENT 'machine',
    machine_name    SimpleAggregateFunction(max, String) COMMENT 'name at that time',
    machine_host    SimpleAggregateFunction(max, String) COMMENT 'address at that time',
    ip_address      SimpleAggregateFunction(max, String) COMMENT 'address of the client',
    user_agent      SimpleAggregateFunction(max, String) COMMENT 'program of the client',
    worker          SimpleAggregateFunction(max, String) COMMENT 'worker that claimed it',
    requested_at    SimpleAggregateFunction(max, DateTime64(6, 'UTC')) COMMENT 'when it was asked for; 1970 while unknown',
    shell_at        SimpleAggregateFunction(max, DateTime64(6, 'UTC')) COMMENT 'when its shell ran; 1970 when it never did',
    active_at       SimpleAggregateFunction(max, DateTime64(6, 'UTC')) COMMENT 'last output, input or command; 1970 when there was none',
    ended_at        SimpleAggregateFunction(max, DateTime64(6, 'UTC')) COMMENT 'when it ended; 1970 while it has not',
    login           SimpleAggregateFunction(max, String) COMMENT 'account on the machine',
    host_key        SimpleAggregateFunction(max, String) COMMENT 'fingerprint of the machine''s host key',
    reason          SimpleAggregateFunction(max, String) COMMENT 'why it ended',
    code            SimpleAggregateFunction(max, String) COMMENT 'what went wrong when it ended as connect_failed',
    message         SimpleAggregateFunction(max, String) COMMENT 'the end in words',
    exit_status     SimpleAggregateFunction(max, Nullable(Int32)) COMMENT 'of the shell',
    exit_signal     SimpleAggregateFunction(max, String) COMMENT 'that ended the shell',
    commands_count  SimpleAggregateFunction(max, UInt64) COMMENT 'commands entered',
    output_bytes    SimpleAggregateFunction(max, UInt64) COMMENT 'terminal output',
    input_bytes     SimpleAggregateFunction(max, UInt64) COMMENT 'recorded terminal input',
    last_seq        SimpleAggregateFunction(max, UInt64) COMMENT 'number of its last event'
)
ENGINE = AggregatingMergeTree
ORDER BY (org_id, session_id)
COMMENT 'One row a session once merged; read it through the view sessions';

CREATE MATERIALIZED VIEW IF NOT EXISTS session_states_from_events TO session_states AS
SELECT
    org_id,
    session_id,
    max(if(type = 'claimed', JSONExtractString(attrs, 'user', 'id'), '')) AS user_id,
    max(if(type = 'claimed', JSONExtractString(attrs, 'user', 'name'), '')) AS user_name,
    max(if(type = 'claimed', JSONExtractString(attrs, 'user', 'email'), '')) AS user_email,
    max(if(type = 'claimed', JSONExtractString(attrs, 'machine', 'id'), '')) AS machine_id,
    max(if(type = 'claimed', JSONExtractString(attrs, 'machine', 'name'), '')) AS machine_name,
    max(if(type = 'claimed', JSONExtractString(attrs, 'machine', 'host'), '')) AS machine_host,
    max(if(type = 'claimed', JSONExtractString(attrs, 'ip_address'), '')) AS ip_address,
    max(if(type = 'claimed', JSONExtractString(attrs, 'user_agent'), '')) AS user_agent,
    max(if(type = 'claimed', JSONExtractString(attrs, 'worker'), '')) AS worker,
    max(if(type = 'claimed', JSONExtract(attrs, 'requested_at', 'DateTime64(6, \'UTC\')'), toDateTime64(0, 6, 'UTC'))) AS requested_at,
    max(if(type = 'started', at, toDateTime64(0, 6, 'UTC'))) AS shell_at,
    max(if(type IN ('output', 'input', 'command'), at, toDateTime64(0, 6, 'UTC'))) AS active_at,
    max(if(type = 'ended', at, toDateTime64(0, 6, 'UTC'))) AS ended_at,
    max(if(type = 'started', JSONExtractString(attrs, 'login'), '')) AS login,
    max(if(type = 'started', JSONExtractString(attrs, 'host_key'), '')) AS host_key,
    max(if(type = 'ended', JSONExtractString(attrs, 'reason'), '')) AS reason,
    max(if(type = 'ended', JSONExtractString(attrs, 'code'), '')) AS code,
    max(if(type = 'ended', JSONExtractString(attrs, 'message'), '')) AS message,
    max(if(type = 'ended', JSONExtract(attrs, 'exit_status', 'Nullable(Int32)'), NULL)) AS exit_status,
    max(if(type = 'ended', JSONExtractString(attrs, 'exit_signal'), '')) AS exit_signal,
    max(if(type = 'command', JSONExtractUInt(attrs, 'n'), 0)) AS commands_count,
    max(if(type = 'output', JSONExtractUInt(attrs, 'bytes_total'), 0)) AS output_bytes,
    max(if(type = 'input', JSONExtractUInt(attrs, 'bytes_total'), 0)) AS input_bytes,
    max(seq) AS last_seq
FROM events
GROUP BY org_id, session_id;

CREATE VIEW IF NOT EXISTS sessions AS
SELECT
    org_id,
    session_id,
    max(states.user_id) AS user_id,
    max(states.user_name) AS user_name,
    max(states.user_email) AS user_email,
    max(states.machine_id) AS machine_id,
    max(states.machine_name) AS machine_name,
    max(states.machine_host) AS machine_host,
    max(states.ip_address) AS ip_address,
    max(states.user_agent) AS user_agent,
    max(states.worker) AS worker,
    max(states.requested_at) AS requested_at,
    if(max(states.shell_at) > toDateTime64(0, 6, 'UTC'), max(states.shell_at), max(states.requested_at)) AS started_at,
    max(states.shell_at) > toDateTime64(0, 6, 'UTC') AS shell_ran,
    greatest(max(states.active_at), if(max(states.shell_at) > toDateTime64(0, 6, 'UTC'), max(states.shell_at), max(states.requested_at))) AS last_activity,
    if(max(states.ended_at) > toDateTime64(0, 6, 'UTC'), max(states.ended_at), NULL) AS ended_at,
    max(states.login) AS login,
    max(states.host_key) AS host_key,
    max(states.reason) AS reason,
    max(states.code) AS code,
    max(states.message) AS message,
    max(states.exit_status) AS exit_status,
    max(states.exit_signal) AS exit_signal,
    max(states.commands_count) AS commands_count,
    max(states.output_bytes) AS output_bytes,
    max(states.input_bytes) AS input_bytes,
    max(states.last_seq) AS last_seq
FROM session_states AS states
GROUP BY org_id, session_id
HAVING user_id != '';
