-- Anchors over who read which records: what stream ACCESS had at intervals, sealed as the anchors over sessions are, in a chain of
-- their own; docs/verification.md defines everything.

CREATE TABLE IF NOT EXISTS access_anchors
(
    number UInt64 COMMENT 'Which anchor of this table: 1, 2, 3 … without a gap' CODEC(Delta, ZSTD(1)),
    at DateTime64(6, 'UTC') COMMENT 'When it was made' CODEC(Delta, ZSTD(1)),
    first_stream_seq UInt64 COMMENT 'It is over what the JetStream stream ACCESS has from this place on' CODEC(Delta, ZSTD(1)),
    last_stream_seq UInt64 COMMENT 'to this one' CODEC(Delta, ZSTD(1)),
    org_ids Array(String) COMMENT 'Of each entry there, by its place: its organization' CODEC(ZSTD(1)),
    ids Array(String) COMMENT 'its id, as acc_…' CODEC(ZSTD(1)),
    stream_seqs Array(UInt64) COMMENT 'its place in the stream' CODEC(ZSTD(1)),
    times Array(DateTime64(6, 'UTC')) COMMENT 'its time' CODEC(ZSTD(1)),
    digests Array(String) COMMENT 'and SHA-256 of its row in access_entries' CODEC(NONE),
    root String COMMENT 'Merkle root over these, SHA-256, RFC 6962' CODEC(NONE),
    previous String COMMENT 'SHA-256 of the anchor before; 32 zero bytes in number 1' CODEC(NONE),
    key_id LowCardinality(String) COMMENT 'Key that signed it, as key_…; empty: not signed',
    signature String COMMENT 'Ed25519 signature' CODEC(NONE),
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When it was inserted here' CODEC(Delta, ZSTD(1)),
    INDEX first_range first_stream_seq TYPE minmax GRANULARITY 1,
    INDEX last_range last_stream_seq TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY number
SETTINGS index_granularity = 16
COMMENT 'Anchors over rows of access_entries, one row each, perhaps twice until parts are merged: read it with FINAL';

-- Verification goes through the entries by their places.

ALTER TABLE access_entries ADD INDEX IF NOT EXISTS stream_seq_range stream_seq TYPE minmax GRANULARITY 1;

ALTER TABLE access_entries MATERIALIZE INDEX stream_seq_range;
