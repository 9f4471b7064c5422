"""Codecs of the columns of `events`, and text indexes of logs, beside each other on the events that are there."""

import statistics
import time
from typing import Any

from tests.integration.servers import ClickHouse

ROWS = 500_000
TIMES = 3
WIDE = "SETTINGS min_bytes_for_wide_part = 0"
"""So that each column has a size of its own."""

CODECS = {
    "session_id": ("String", ("LZ4", "ZSTD(1)", "ZSTD(3)")),
    "seq": ("UInt64", ("ZSTD(1)", "Delta, ZSTD(1)", "DoubleDelta, ZSTD(1)", "Delta, LZ4")),
    "at": ("DateTime64(6, 'UTC')", ("ZSTD(1)", "Delta, ZSTD(1)", "DoubleDelta, ZSTD(1)")),
    "attrs": ("String", ("LZ4", "ZSTD(1)", "ZSTD(3)", "ZSTD(6)")),
    "data": ("String", ("LZ4", "ZSTD(1)", "ZSTD(3)", "ZSTD(6)")),
    "chain": ("String", ("NONE", "LZ4", "ZSTD(1)")),
    "stored_at": ("DateTime64(3, 'UTC')", ("ZSTD(1)", "Delta, ZSTD(1)", "DoubleDelta, ZSTD(1)")),
}

INDEXES = {
    "none": "",
    "tokenbf_v1": "INDEX i lower(content) TYPE tokenbf_v1(32768, 3, 0) GRANULARITY 4",
    "ngrambf_v1": "INDEX i lower(content) TYPE ngrambf_v1(4, 65536, 3, 0) GRANULARITY 4",
    "text": "INDEX i lower(content) TYPE text(tokenizer = splitByNonAlpha)",
    "text ngrams(4)": "INDEX i lower(content) TYPE text(tokenizer = ngrams(4))",
}

LOOK_FOR = {
    "a word in every tenth": "hasToken(lower(content), 'denied')",
    "a rare word": "hasToken(lower(content), 'needleword')",
    "a rare part": "lower(content) LIKE '%dlewor%'",
}


def measured(clickhouse: ClickHouse) -> dict[str, Any]:
    """Bytes an event, and seconds to insert and to read these rows (at most `ROWS`), by column and codec."""
    rows = min(ROWS, int(clickhouse.query("SELECT count() FROM vsay.events")))
    result: dict[str, Any] = {}
    for column, (type_, codecs) in CODECS.items():
        result[column] = {}
        key = "" if column == "session_id" else "session_id String, "
        key += "" if column == "seq" else "seq UInt64, "
        for codec in codecs:
            clickhouse.query("DROP TABLE IF EXISTS vsay.codec")
            columns = f"{key}{column} {type_} CODEC({codec})"
            clickhouse.query(f"CREATE TABLE vsay.codec ({columns}) ENGINE = MergeTree ORDER BY (session_id, seq) {WIDE}")
            names = ", ".join(dict.fromkeys(("session_id", "seq", column)))
            insert = f"INSERT INTO vsay.codec ({names}) SELECT {names} FROM vsay.events ORDER BY session_id, seq LIMIT {rows}"
            insert_seconds = seconds(clickhouse, insert)
            read = [seconds(clickhouse, f"SELECT count() FROM vsay.codec WHERE NOT ignore({column})") for _ in range(TIMES)]
            size = clickhouse.query(
                "SELECT sum(column_data_compressed_bytes) FROM system.parts_columns"
                f" WHERE table = 'codec' AND active AND column = '{column}'"
            )
            result[column][codec] = {
                "bytes_per_event": round(int(size) / rows, 2),
                "insert_seconds": round(insert_seconds, 2),
                "read_seconds": round(statistics.median(read), 3),
            }
    clickhouse.query("DROP TABLE vsay.codec")
    return result


def text_indexes(clickhouse: ClickHouse) -> dict[str, Any]:
    """Bytes of each index, seconds to insert, and milliseconds to find, over the logs that are there (at most `ROWS`)."""
    result: dict[str, Any] = {}
    for name, index in INDEXES.items():
        clickhouse.query("DROP TABLE IF EXISTS vsay.searched")
        comma = ", " if index else ""
        clickhouse.query(
            f"CREATE TABLE vsay.searched (session_id String, seq UInt64, content String CODEC(ZSTD(3)){comma}{index})"
            " ENGINE = MergeTree ORDER BY (session_id, seq)"
        )
        needle = "if(cityHash64(session_id, seq) % 100000 = 7, concat(content, ' needleword'), content)"
        insert_seconds = seconds(
            clickhouse, f"INSERT INTO vsay.searched SELECT session_id, seq, {needle} FROM vsay.log_parts ORDER BY 1, 2 LIMIT {ROWS}"
        )
        clickhouse.query("OPTIMIZE TABLE vsay.searched FINAL")
        size = clickhouse.query(
            "SELECT sum(secondary_indices_compressed_bytes), sum(data_compressed_bytes) FROM system.parts"
            " WHERE table = 'searched' AND active"
        )
        index_bytes, data_bytes = (int(each) for each in size.split())
        found = {}
        for what, condition in LOOK_FOR.items():
            times = [seconds(clickhouse, f"SELECT count() FROM vsay.searched WHERE {condition}") for _ in range(TIMES)]
            found[what] = round(statistics.median(times) * 1000, 1)
        result[name] = {
            "index_bytes": index_bytes,
            "data_bytes": data_bytes,
            "insert_seconds": round(insert_seconds, 1),
            "found_ms": found,
        }
    clickhouse.query("DROP TABLE vsay.searched")
    return result


def seconds(clickhouse: ClickHouse, sql: str) -> float:
    began = time.perf_counter()
    clickhouse.query(sql)
    return time.perf_counter() - began
