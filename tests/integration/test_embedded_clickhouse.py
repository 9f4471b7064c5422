"""The ClickHouse HTTP interface over the embedded engine, as its clients use it."""

import asyncio
import gzip
import json
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import clickhouse_connect
import lz4.frame
import pytest
import zstandard
from clickhouse_connect.driver import AsyncClient
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.integration.servers import ClickHouse

ROWS = 300_000


@pytest.fixture
async def client(clickhouse: ClickHouse) -> AsyncIterator[AsyncClient]:
    client = await clickhouse_connect.get_async_client(host="127.0.0.1", port=clickhouse.port, autogenerate_session_id=False)
    yield client
    await client.close()


def call(clickhouse: ClickHouse, body: bytes | None = None, *, headers: dict[str, str] | None = None, **url: str) -> bytes:
    """The answer's body. Raises `urllib.error.HTTPError`."""
    address = f"{clickhouse.url}/?{urllib.parse.urlencode(url)}"
    with urllib.request.urlopen(urllib.request.Request(address, data=body, headers=headers or {}), timeout=60) as answer:
        return bytes(answer.read())


def refusal(clickhouse: ClickHouse, body: bytes | None = None, **url: str) -> tuple[int, str]:
    """Status and ClickHouse's code of a refused request."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        call(clickhouse, body, **url)
    with refused.value as error:
        text = error.read().decode()
        code = error.headers["X-ClickHouse-Exception-Code"]
    assert f"Code: {code}." in text
    return error.code, code


def test_it_answers_a_ping_and_queries_by_url_and_body(clickhouse: ClickHouse) -> None:
    with urllib.request.urlopen(clickhouse.url + "/ping", timeout=10) as answer:
        assert answer.read() == b"Ok.\n"
    assert call(clickhouse) == b"Ok.\n"
    assert call(clickhouse, query="SELECT 1") == b"1\n"
    assert call(clickhouse, b"SELECT 1") == b"1\n"
    assert call(clickhouse, b"1 + 1", query="SELECT") == b"2\n"
    assert call(clickhouse, b"SELECT {a:UInt8} + 1, {b:String}", param_a="3", param_b="it's; -- \\'") == b"4\tit\\'s; -- \\'\n"
    assert call(clickhouse, b"SELECT getSetting('max_threads')", max_threads="3") == b"3\n"
    assert call(clickhouse, b"SELECT 1 AS a", default_format="JSONEachRow") == b'{"a":1}\n'
    assert call(clickhouse, b"SELECT 1 AS a;", default_format="CSV") == b"1\n"


@pytest.mark.parametrize("rows", [0, 3, ROWS])
@pytest.mark.parametrize("clause", ["", " SETTINGS max_threads = 1"])
def test_json_is_one_document_however_long(clickhouse: ClickHouse, rows: int, clause: str) -> None:
    answer = json.loads(call(clickhouse, f"SELECT number AS n FROM numbers({rows}) FORMAT JSONCompact{clause}".encode()))
    assert answer["rows"] == rows
    assert len(answer["data"]) == rows
    assert answer["meta"] == [{"name": "n", "type": "UInt64"}]


@pytest.mark.parametrize("format_", ["TabSeparated", "CSV", "JSONEachRow", "TabSeparatedWithNames"])
def test_long_results_are_whole(clickhouse: ClickHouse, format_: str) -> None:
    sql = f"SELECT number AS n FROM numbers({ROWS})"
    answer = call(clickhouse, sql.encode(), default_format=format_)
    assert answer.count(b"\n") == ROWS + ("Names" in format_)
    assert call(clickhouse, f"{sql} FORMAT {format_}".encode()) == answer


@pytest.mark.parametrize(
    ("body", "url"),
    [
        (b"INSERT INTO t VALUES (1, 'a FORMAT CSV b'), (2, 'select')", {}),
        (b"INSERT INTO t FORMAT CSV\n1,a FORMAT CSV b\n2,select\n", {}),
        (b"INSERT INTO t (n, s) FORMAT TSV\n1\ta FORMAT CSV b\n2\tselect", {}),
        (b'INSERT INTO t FORMAT JSONEachRow {"n":1,"s":"a FORMAT CSV b"} {"n":2,"s":"select"}', {}),
        (b"1,a FORMAT CSV b\n2,select\n", {"query": "INSERT INTO t FORMAT CSV"}),
        (b"INSERT INTO t SELECT number + 1, ['a FORMAT CSV b', 'select'][number + 1] FROM numbers(2)", {}),
        (b"insert into t\n(n, s)\nformat RowBinary\n\x01\x0ea FORMAT CSV b\x02\x06select", {}),
    ],
    ids=lambda value: value[:40].decode(errors="replace") if isinstance(value, bytes) else "",
)
def test_rows_are_inserted(clickhouse: ClickHouse, body: bytes, url: dict[str, str]) -> None:
    call(clickhouse, b"CREATE TABLE t (n UInt8, s String) ENGINE = MergeTree ORDER BY n")
    call(clickhouse, body, **url)
    assert call(clickhouse, b"SELECT * FROM t ORDER BY n") == b"1\ta FORMAT CSV b\n2\tselect\n"


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("gzip", gzip.compress), ("lz4", lz4.frame.compress), ("zstd", zstandard.compress), ("identity", bytes)],
)
def test_bodies_may_be_compressed(clickhouse: ClickHouse, encoding: str, compress: type[bytes]) -> None:
    call(clickhouse, b"CREATE TABLE t (n UInt32) ENGINE = MergeTree ORDER BY n")
    rows = b"".join(b"%d\n" % n for n in range(ROWS))
    call(clickhouse, compress(b"INSERT INTO t FORMAT CSV\n" + rows), headers={"Content-Encoding": encoding})
    assert call(clickhouse, b"SELECT count(), uniqExact(n) FROM t") == b"%d\t%d\n" % (ROWS, ROWS)
    if encoding != "identity":
        with pytest.raises(urllib.error.HTTPError) as refused:
            call(clickhouse, b"no such thing", headers={"Content-Encoding": encoding})
        refused.value.close()


DECOMPRESS = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "lz4": lz4.frame.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}


def test_answers_are_compressed_for_who_asks(clickhouse: ClickHouse) -> None:
    for rows in (0, 1, ROWS):
        sql = f"SELECT number FROM numbers({rows})".encode()
        plain = call(clickhouse, sql)
        for encoding, decompress in DECOMPRESS.items():
            answer = call(clickhouse, sql, headers={"Accept-Encoding": f"br, {encoding}"}, enable_http_compression="1")
            assert decompress(answer) == plain, encoding
            assert rows < ROWS or len(answer) < len(plain)
        assert call(clickhouse, sql, headers={"Accept-Encoding": "gzip"}) == plain, "it was not asked for"
        assert call(clickhouse, sql, headers={"Accept-Encoding": "br"}, enable_http_compression="1") == plain


async def test_a_client_that_compresses_sees_no_difference(clickhouse: ClickHouse) -> None:
    for compress in ("lz4", "zstd", "gzip"):
        client = await clickhouse_connect.get_async_client(
            host="127.0.0.1", port=clickhouse.port, username="analyst", password=ClickHouse.ANALYST_PASSWORD, compress=compress
        )
        rows = (await client.query(f"SELECT number, toString(number) FROM numbers({ROWS})")).result_rows
        assert (len(rows), rows[-1]) == (ROWS, (ROWS - 1, str(ROWS - 1)))
        with pytest.raises(DatabaseError, match="too far"):
            await client.query("SELECT throwIf(number = 2, 'too far') FROM numbers(3)")
        await client.close()


def test_parquet_and_parameters_of_every_kind(clickhouse: ClickHouse) -> None:
    file = call(clickhouse, b"SELECT number AS n FROM numbers(1000) FORMAT Parquet")
    assert (file[:4], file[-4:]) == (b"PAR1", b"PAR1")
    given = {"param_n": "7", "param_s": "it's \\\\ \\t", "param_a": "['x','y']", "param_d": "2024-01-01 12:00:00"}
    sql = b"SELECT {n:UInt8} + 1, {s:String}, {a:Array(String)}[2], {d:DateTime64(3)}, {n:Nullable(UInt8)}"
    answer = json.loads(call(clickhouse, sql, **given, **ANALYST, default_format="JSONCompactEachRow"))
    assert answer == [8, "it's \\ \t", "y", "2024-01-01 12:00:00.000", 7]
    assert refusal(clickhouse, b"SELECT {missing:UInt8}")[1] == "456"


def test_a_long_query_of_the_analyst_ends(clickhouse: ClickHouse) -> None:
    status, code = refusal(
        clickhouse, b"SELECT sum(sipHash64(number)) FROM numbers(10000000000000)", **ANALYST, max_execution_time="1"
    )
    assert (status, code) == (500, "159")


def test_errors_have_their_code(clickhouse: ClickHouse) -> None:
    assert refusal(clickhouse, b"SELECT * FROM nothing") == (404, "60")
    assert refusal(clickhouse, b"SELECT 1", database="nothing") == (404, "81")
    assert refusal(clickhouse, b"SELECT FROM WHERE") == (500, "62")
    assert refusal(clickhouse, b"SELECT 1", nonsense="1") == (500, "115")
    assert refusal(clickhouse, b"SELECT throwIf(1)") == (500, "395")
    assert refusal(clickhouse, b"SELECT 1", user="nobody") == (403, "516")
    assert refusal(clickhouse, b"SELECT 1", user="default", password="wrong") == (403, "516")
    assert refusal(clickhouse, query="CREATE TABLE t (n UInt8) ENGINE = Memory") == (500, "164"), "a GET only reads"


async def test_an_error_after_the_first_rows_is_no_short_answer(client: AsyncClient) -> None:
    with pytest.raises(DatabaseError, match="too far"):
        await client.query(
            f"SELECT throwIf(number = {10 * ROWS}, 'too far') FROM numbers({20 * ROWS}) SETTINGS max_block_size = 1000"
        )


ANALYST = {"user": "analyst", "password": ClickHouse.ANALYST_PASSWORD}


def test_the_analyst_reads(clickhouse: ClickHouse) -> None:
    call(clickhouse, b"CREATE TABLE t (n UInt8) ENGINE = MergeTree ORDER BY n")
    call(clickhouse, b"INSERT INTO t VALUES (7)")
    for sql in ("SELECT n FROM t", "WITH 7 AS n SELECT n", "(SELECT n FROM t)", "-- why\nSELECT n FROM t"):
        assert call(clickhouse, sql.encode(), **ANALYST) == b"7\n"
    for sql in ("SHOW TABLES", "DESCRIBE t", "EXPLAIN SELECT n FROM t"):
        assert call(clickhouse, sql.encode(), **ANALYST)
    assert call(clickhouse, b"SELECT {t:String}", param_t="into outfile", **ANALYST) == b"into outfile\n"


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t FORMAT CSV\n1\n",
        "DROP TABLE t",
        "TRUNCATE TABLE t",
        "ALTER TABLE t DELETE WHERE 1",
        "CREATE TABLE u (n UInt8) ENGINE = Memory",
        "CREATE TEMPORARY TABLE u (n UInt8)",
        "OPTIMIZE TABLE t FINAL",
        "SYSTEM FLUSH LOGS",
        "SET readonly = 0",
        "SELECT 1 SETTINGS readonly = 0",
        "SELECT 1 SETTINGS max_execution_time = 0",
        "SELECT * FROM file('/etc/hostname', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
        "SELECT 1 INTO OUTFILE '{file}'",
        "SELECT 1 INTO/**/OUTFILE '{file}' FORMAT CSV",
        "EXPLAIN SELECT 1 INTO OUTFILE '{file}'",
        "INSERT INTO FUNCTION file('{file}', 'CSV', 'n UInt8') VALUES (1)",
    ],
)
def test_the_analyst_changes_nothing(clickhouse: ClickHouse, sql: str) -> None:
    call(clickhouse, b"CREATE TABLE t (n UInt8) ENGINE = MergeTree ORDER BY n")
    call(clickhouse, b"INSERT INTO t VALUES (7)")
    file = clickhouse.directory / "written"
    for more in ({}, {"readonly": "0"}, {"allow_ddl": "1", "readonly": "2"}):
        refusal(clickhouse, sql.replace("{file}", str(file)).encode(), **ANALYST, **more)
    assert not file.exists()
    assert call(clickhouse, b"SELECT n FROM t") == b"7\n"
    assert call(clickhouse, b"INSERT INTO t VALUES (8)") == b"", "others may still write"


async def test_quick_queries_do_not_wait_for_slow_ones(client: AsyncClient) -> None:
    slow = asyncio.create_task(
        client.query("SELECT sum(sipHash64(number)) FROM numbers(10000000000) SETTINGS max_execution_time = 60")
    )
    for _ in range(20):
        assert (await client.query("SELECT 1")).result_rows == [(1,)]
    assert not slow.done()
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)


def test_it_stops_also_while_a_query_runs(clickhouse: ClickHouse) -> None:
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(call, clickhouse, b"SELECT sum(sipHash64(number)) FROM numbers(1000000000000)")
        while "sipHash64" not in call(clickhouse, b"SELECT query FROM system.processes WHERE query_id != queryID()").decode():
            assert not slow.done()
        clickhouse.stop()
        assert slow.exception()
    clickhouse.start()


async def test_many_writers_and_readers_at_once(client: AsyncClient) -> None:
    await client.command("CREATE TABLE t (n UInt32) ENGINE = MergeTree ORDER BY n")

    async def write(first: int) -> None:
        for n in range(first, first + 10):
            await client.raw_insert(insert_block=b"INSERT INTO t FORMAT CSV\n%d\n" % n)

    async def read() -> None:
        for _ in range(10):
            [(count, distinct)] = (await client.query("SELECT count(), uniqExact(n) FROM t")).result_rows
            assert count == distinct

    await asyncio.gather(*(write(10 * k) for k in range(8)), *(read() for _ in range(8)))
    assert (await client.query("SELECT count() FROM t")).result_rows == [(80,)]


async def test_the_sync_client_and_compression_of_inserts_work(clickhouse: ClickHouse) -> None:
    def use() -> list[tuple[int, bytes]]:
        client = clickhouse_connect.get_client(host="127.0.0.1", port=clickhouse.port, compress="lz4")
        client.command("CREATE TABLE t (n UInt32, s String) ENGINE = MergeTree ORDER BY n")
        client.insert("t", [(n, b"\xff%d" % n) for n in range(1000)], column_names=["n", "s"])
        rows = client.query(
            "SELECT n, s FROM t WHERE n < {m:UInt8} ORDER BY n", {"m": 2}, column_formats={"s": "bytes"}
        ).result_rows
        client.close()
        return [(n, s) for n, s in rows]

    assert await asyncio.to_thread(use) == [(0, b"\xff0"), (1, b"\xff1")]


def test_it_keeps_everything_over_a_restart_and_over_a_kill(clickhouse: ClickHouse) -> None:
    call(clickhouse, b"CREATE TABLE t (n UInt8) ENGINE = MergeTree ORDER BY n")
    for n in (1, 2):
        call(clickhouse, f"INSERT INTO t VALUES ({n})".encode())
        clickhouse.restart(kill=n == 2)
    assert call(clickhouse, b"SELECT n FROM t ORDER BY n") == b"1\n2\n"
