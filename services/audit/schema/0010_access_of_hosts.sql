-- Who reads with `vsay` on a host is in the view too: the same columns, whose comments say so.

CREATE OR REPLACE VIEW access
(
    id String COMMENT 'One reading, as acc_…',
    at DateTime64(6, 'UTC') COMMENT 'When it was asked for',
    org_id String COMMENT 'Organization of the reader, and of what was read; what a user of an operating system reads of several makes a row for each',
    user_id String COMMENT 'Who read, as usr_…; os:NAME is a user of an operating system, who ran vsay on a host',
    user_name String COMMENT 'Name of that user at that time',
    user_email String COMMENT 'E-mail address of that user at that time; empty for a user of an operating system',
    role String COMMENT 'Role of that user at that time: operator, auditor or admin; host for a user of an operating system',
    action String COMMENT 'What was read: logs, recording, screen, search, export, verification, access (this very view, over the API)',
    session_id String COMMENT 'Of which session, as sess_…; empty: of more than one',
    detail String COMMENT 'What was asked for: the parameters of the request or of the command, as a JSON object; login: who logged in before the user was changed, as by sudo',
    ip_address String COMMENT 'Where the request came from: an address; host:NAME of a user of an operating system',
    user_agent String COMMENT 'With which program',
    stream_seq UInt64 COMMENT 'Place in the JetStream stream ACCESS: 1, 2, 3 … over all organizations, so that a missing row shows'
)
COMMENT 'Who read which records through the API, or with vsay export and vsay audit verify, one row a reading, recorded before the answer was given'
AS SELECT id, at, org_id, user_id, user_name, user_email, role, action, session_id, detail, ip_address, user_agent, stream_seq
FROM access_entries FINAL;
