-- Where the chains of all sessions stood at intervals, sealed by a signed Merkle root; docs/verification.md defines everything.

CREATE TABLE IF NOT EXISTS anchors
(
    number UInt64 COMMENT 'Which anchor: 1, 2, 3 … without a gap' CODEC(Delta, ZSTD(1)),
    at DateTime64(6, 'UTC') COMMENT 'When it was made' CODEC(Delta, ZSTD(1)),
    first_stream_seq UInt64 COMMENT 'It is over what the JetStream stream SESSIONS has from this place on' CODEC(Delta, ZSTD(1)),
    last_stream_seq UInt64 COMMENT 'to this one' CODEC(Delta, ZSTD(1)),
    org_ids Array(String) COMMENT 'Of each session with events there, by session_id: its organization' CODEC(ZSTD(1)),
    session_ids Array(String) COMMENT 'the session' CODEC(ZSTD(1)),
    seqs Array(UInt64) COMMENT 'the number of its newest event there' CODEC(ZSTD(1)),
    chains Array(String) COMMENT 'and the chain of that event' CODEC(NONE),
    root String COMMENT 'Merkle root over these, SHA-256, RFC 6962' CODEC(NONE),
    previous String COMMENT 'SHA-256 of the anchor before; 32 zero bytes in number 1' CODEC(NONE),
    key_id LowCardinality(String) COMMENT 'Key that signed it, as key_…; empty: not signed',
    signature String COMMENT 'Ed25519 signature' CODEC(NONE),
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When it was inserted here' CODEC(Delta, ZSTD(1)),
    INDEX session_ids_bloom session_ids TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY number
SETTINGS index_granularity = 16
COMMENT 'Anchors, one row each, perhaps twice until parts are merged: read it with FINAL';

CREATE VIEW IF NOT EXISTS anchor_leaves
(
    number UInt64 COMMENT 'Which anchor',
    at DateTime64(6, 'UTC') COMMENT 'When it was made',
    org_id String COMMENT 'Organization that the session belongs to',
    session_id String COMMENT 'Session, as sess_…',
    seq UInt64 COMMENT 'Number of its newest event then',
    chain String COMMENT 'Chain of that event'
)
COMMENT 'Which anchor has which session how far, one row each'
AS SELECT number, at, org_id, session_id, seq, chain
FROM anchors FINAL
ARRAY JOIN org_ids AS org_id, session_ids AS session_id, seqs AS seq, chains AS chain;
