"""How the benchmark's database gets its events: some through JetStream and `audit`, the rest as copies of these."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nats
from nats.js import JetStreamContext

from benchmarks.audit.history import sessions
from benchmarks.audit.notes import note
from benchmarks.terminal.measures import cpu_seconds, memory
from contracts import subjects, wire
from contracts.streams import AUDIT, SESSIONS
from contracts.wire import Recorded
from services.audit.clickhouse import Store
from services.runtime import bus
from services.runtime.settings import ClickHouseSettings, StreamSettings
from tests.integration.processes import Service

STREAM_BYTES_MAX = 4_000_000_000
PUBLISHED_AT_ONCE = 2000
DAYS = 60.0
COPY_EVENTS = 750_000
"""Of one insert; larger ones take memory and save no time."""

ANSWER_SECONDS = 3600
PROGRESS_POINTS = 25
"""Of the fill that are kept in the results."""

PAUSE_SECONDS = 10.0
"""A process that did not run for longer than this was stopped."""

MERGES_SECONDS_MAX = 3600.0


class Pauses:
    """How long this process, with those that it started, was stopped meanwhile."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Look at the clock while inside."""
        task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()

    async def _watch(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(1)
            gone = time.perf_counter() - before
            if gone > PAUSE_SECONDS:
                self.seconds += gone - 1
                note(f"was stopped for {gone:.0f} s")


async def streamed(
    settings: ClickHouseSettings, events: int, place: Path, processes: dict[str, int], results: dict[str, Any]
) -> None:
    """Fill the stream first, then let audit catch up: from when it is up until ClickHouse has everything.

    Beside the time stands the CPU time of each process, which the load of the machine changes less.
    """
    client = await nats.connect(settings.nats_url)
    jetstream = client.jetstream(publish_async_max_pending=PUBLISHED_AT_ONCE)
    await bus.declare(jetstream, StreamSettings(nats_url=settings.nats_url, stream_bytes_max=STREAM_BYTES_MAX))
    began, count, size = time.perf_counter(), 0, 0
    for session in sessions(1, events, datetime.now(UTC), DAYS):
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
            "memory_mb": {name: round(each / 1e6) for name, each in memory(processes).items()},
        }
    note(f"ingested {results['ingested']}")
    await client.close()


async def publish(jetstream: JetStreamContext, session: list[Recorded]) -> int:
    """How many bytes they are."""
    size = 0
    for event in session:
        payload = wire.encode(event)
        size += len(payload)
        await jetstream.publish_async(subjects.event(event.session_id, event.type), payload, wait_stall=60)
    return size


async def filled(settings: ClickHouseSettings, events: int, engine_pid: int, results: dict[str, Any]) -> None:
    """Up to that many, by copies of what was streamed under other session ids, through all materialized views.

    Table `seed` keeps what was streamed, so that a fill that was cut off goes on from where it was.
    """
    store = Store.open(settings, answer_seconds=ANSWER_SECONDS)
    await store.migrate()
    await store.command("CREATE TABLE IF NOT EXISTS seed AS events")
    if not (await store.query("SELECT count() FROM seed"))[0][0]:
        await store.command("INSERT INTO seed SELECT * FROM events")
    [(there,)] = await store.query("SELECT count() FROM events")
    [(seed,)] = await store.query("SELECT count() FROM seed")
    began, copied, number, pauses = time.perf_counter(), 0, there // seed, Pauses()
    progress: list[dict[str, float]] = []
    async with pauses.watched():
        while there + copied < events:
            copies = min(max(COPY_EVENTS // seed, 1), -(-(events - there - copied) // seed))
            await store.command(_copy(number, copies))
            number, copied = number + copies, copied + seed * copies
            progress.append(await _progress(store, there + copied, time.perf_counter() - began - pauses.seconds, engine_pid))
            note(f"filled {progress[-1]}")
    seconds = time.perf_counter() - began - pauses.seconds
    if copied:
        results["copied"] = {
            "events": copied,
            "seconds": round(seconds, 1),
            "per_second": round(copied / seconds),
            "stopped_seconds": round(pauses.seconds),
            "progress": progress[:: max(len(progress) // PROGRESS_POINTS, 1)],
        }
    await _merged(store, results)
    await store.close()


def _copy(first: int, copies: int) -> str:
    """Scattered ids and chains of their own, so that no copy lies beside its original and compresses away."""
    session, chain = "concat('sess_', toString(cityHash64(session_id, number)))", "MD5(concat(chain, toString(number)))"
    names = f"org_id, {session}, seq, at, type, attrs, data, {chain}"
    return (
        f"INSERT INTO events (org_id, session_id, seq, at, type, attrs, data, chain) SELECT {names} FROM seed"
        f" CROSS JOIN numbers({first}, {copies}) AS copy SETTINGS max_insert_threads = 2"
    )


async def _progress(store: Store, events: int, seconds: float, engine_pid: int) -> dict[str, float]:
    [(parts,)] = await store.query("SELECT count() FROM system.parts WHERE database = currentDatabase() AND active")
    used = memory({"engine": engine_pid})["engine"]
    return {"events": events, "seconds": round(seconds, 1), "engine_mb": round(used / 1e6), "parts": parts}


async def _merged(store: Store, results: dict[str, Any]) -> None:
    """Wait until ClickHouse has merged what it wants to, as it would have long since had the events come over months."""
    began, pauses, quiet = time.perf_counter(), Pauses(), 0
    async with pauses.watched():
        while quiet < 10 and time.perf_counter() - began - pauses.seconds < MERGES_SECONDS_MAX:
            await asyncio.sleep(1)
            [(merges,)] = await store.query("SELECT count() FROM system.merges")
            quiet = 0 if merges else quiet + 1
    results["merges_waited_seconds"] = round(time.perf_counter() - began - pauses.seconds)
    note(f"merges were over after {results['merges_waited_seconds']} s")
