-- The permanent record, as it came, and what could not be decoded.
--
-- Every statement here and in the other files ends with a semicolon at the end of its line, and is harmless when it runs
-- twice. A file that has been released is never changed; what is to be different comes in a new file.
--
-- Codecs are those that benchmarks/audit found best for what they cost: benchmarks/results/2026-11-24-audit.md.

CREATE TABLE IF NOT EXISTS events
(
    org_id LowCardinality(String) COMMENT 'Organization that the session belongs to',
    session_id String COMMENT 'Session, as sess_…' CODEC(ZSTD(3)),
    seq UInt64 COMMENT 'Number of the event in its session: 1, 2, 3 … without a gap' CODEC(DoubleDelta, ZSTD(1)),
    at DateTime64(6, 'UTC') COMMENT 'When the worker recorded it' CODEC(Delta, ZSTD(1)),
    type LowCardinality(String) COMMENT 'What happened: claimed, started, output, input, resized, command, text, finished, attached, detached, ended',
    attrs String COMMENT 'The event as JSON, exactly as written' CODEC(ZSTD(3)),
    data String COMMENT 'Raw terminal bytes of output and input; may be no UTF-8' CODEC(ZSTD(3)),
    chain String COMMENT 'BLAKE2b-128 over the chain of the event before and this event; contracts/wire.py defines it' CODEC(LZ4),
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When it was inserted here; of an event that was delivered twice, either time' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (session_id, seq)
SETTINGS ttl_only_drop_parts = 1
COMMENT 'Every event of every session. A row may be there twice until parts are merged: read it with FINAL, or take the views';

CREATE TABLE IF NOT EXISTS quarantine
(
    stream_seq UInt64 COMMENT 'Place in the JetStream stream SESSIONS' CODEC(Delta, ZSTD(1)),
    published_at DateTime64(6, 'UTC') COMMENT 'When the stream stored it' CODEC(Delta, ZSTD(1)),
    subject String COMMENT 'Subject that it was published to' CODEC(ZSTD(1)),
    reason String COMMENT 'Why it is not an event' CODEC(ZSTD(1)),
    payload String COMMENT 'The message, byte for byte' CODEC(ZSTD(3))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(published_at)
ORDER BY (published_at, stream_seq)
COMMENT 'Messages of the stream that could not be decoded, set aside. A row may be there twice until parts are merged: read it with FINAL';
