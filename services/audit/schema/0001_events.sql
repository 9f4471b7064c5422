-- The permanent store. One row an event, as its envelope lies on the bus (contracts/wire.py).
CREATE TABLE IF NOT EXISTS events
(
    org_id     LowCardinality(String) COMMENT 'organization',
    session_id String                 COMMENT 'session' CODEC(ZSTD(1)),
    seq        UInt64                 COMMENT 'number in the session: 1, 2, 3 … without a gap' CODEC(Delta, ZSTD(1)),
    at         DateTime64(6, 'UTC')   COMMENT 'when the owning worker wrote it' CODEC(Delta, ZSTD(1)),
    type       LowCardinality(String) COMMENT 'claimed, started, output, input, resized, command, text, attached, detached, ended',
    attrs      String                 COMMENT 'the typed event as JSON, bytes as written' CODEC(ZSTD(3)),
    data       String                 COMMENT 'terminal bytes of output and input, else empty' CODEC(ZSTD(3)),
    chain      FixedString(16)        COMMENT 'BLAKE2b-128 over the previous chain and this event' CODEC(NONE)
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (session_id, seq)
COMMENT 'Every event of every session. Rows may be repeated until merged: read with FINAL, or through the views';

CREATE TABLE IF NOT EXISTS quarantine
(
    received_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when it was set aside',
    subject     String COMMENT 'subject of the message',
    stream_seq  UInt64 COMMENT 'its place in stream SESSIONS',
    reason      String COMMENT 'why it is no event',
    payload     String COMMENT 'its bytes' CODEC(ZSTD(3))
)
ENGINE = ReplacingMergeTree(received_at)
ORDER BY stream_seq
COMMENT 'Messages of stream SESSIONS that are no envelope';
