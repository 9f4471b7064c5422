-- Search looks for a text anywhere in an entry, also within words: an index of all runs of four characters tells where it cannot be.
-- A granule holds up to 10 MB of text, in which terminals show some 100,000 different runs; 256 KiB keep false alarms rare.

ALTER TABLE log_parts ADD INDEX IF NOT EXISTS content_runs lower(content) TYPE ngrambf_v1(4, 262144, 2, 0) GRANULARITY 1;

ALTER TABLE log_parts MATERIALIZE INDEX content_runs;
