-- Users of a ClickHouse server or cluster for vsay; run once as an administrator, with the three words in capitals replaced.
-- On a cluster, put ON CLUSTER 'NAME' after each CREATE SETTINGS PROFILE, CREATE QUOTA, CREATE ROLE, CREATE USER and GRANT.
-- `distributed_product_mode` lets queries on a cluster join and compare with what lies on other shards; one server knows none.
-- The database is `vsay`, as VSAY_CLICKHOUSE_DATABASE has it unless it is set.

-- Analysts: read, within limits that no query of theirs can lift.

CREATE SETTINGS PROFILE IF NOT EXISTS vsay_analyst SETTINGS
    readonly = 2,
    allow_ddl = 0 CONST,
    allow_introspection_functions = 0 CONST,
    max_execution_time = 60 MAX 600,
    max_memory_usage = 4000000000 MAX 4000000000,
    max_threads = 4 MAX 8,
    max_concurrent_queries_for_user = 8 CONST,
    max_bytes_to_read = 200000000000 MAX 200000000000,
    distributed_product_mode = 'global';

CREATE QUOTA IF NOT EXISTS vsay_analyst FOR INTERVAL 1 hour MAX queries = 5000, execution_time = 3600 TO vsay_analyst;

CREATE ROLE IF NOT EXISTS vsay_analyst SETTINGS PROFILE 'vsay_analyst';

GRANT SELECT ON vsay.* TO vsay_analyst;

CREATE USER IF NOT EXISTS analyst IDENTIFIED WITH sha256_password BY 'ANALYST_PASSWORD' DEFAULT ROLE vsay_analyst SETTINGS PROFILE 'vsay_analyst';

GRANT vsay_analyst TO analyst;

-- The API: reads alone, but without an analyst's limits.

CREATE USER IF NOT EXISTS vsay_api IDENTIFIED WITH sha256_password BY 'API_PASSWORD' SETTINGS readonly = 2, distributed_product_mode = 'global';

GRANT SELECT ON vsay.* TO vsay_api;

-- The audit service: makes the schema, inserts, and rebuilds projections, which needs to see which inserts are under way.

CREATE USER IF NOT EXISTS vsay_audit IDENTIFIED WITH sha256_password BY 'AUDIT_PASSWORD' SETTINGS distributed_product_mode = 'global';

GRANT SELECT, INSERT, CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP TABLE, DROP VIEW, ALTER TABLE, ALTER VIEW, OPTIMIZE, TRUNCATE ON vsay.* TO vsay_audit;

GRANT SELECT ON system.processes TO vsay_audit;

GRANT CLUSTER, REMOTE, SYSTEM SYNC REPLICA ON *.* TO vsay_audit;
