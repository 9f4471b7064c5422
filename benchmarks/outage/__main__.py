"""`just bench outage [--minutes N] [--sessions N] [--per-second N | --events N] [--seed N] [--output FILE]`."""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop
from nats.js import JetStreamContext

from benchmarks.audit.__main__ import described
from benchmarks.audit.notes import note
from benchmarks.outage.checking import checked
from benchmarks.outage.producing import Producer
from benchmarks.outage.watching import Watch
from contracts.streams import AUDIT, SESSIONS
from services.runtime import bus
from services.runtime.settings import StreamSettings
from tests.integration.processes import Service
from tests.integration.servers import ClickHouse, NatsServer, free_port

REPLICAS = 2
WARM_UP_SECONDS = 20.0
KILL_SECONDS = (20.0, 90.0)
"""Between one kill of an audit and the next, at least and at most, while ClickHouse is down."""

KILLS_WHILE_CATCHING_UP = 2
CATCH_UP_SECONDS_MAX = 3600.0


class Run:
    """One outage."""

    def __init__(self, arguments: argparse.Namespace, place: Path, running: ExitStack) -> None:
        self.results: dict[str, Any] = {"machine": described(), "arguments": vars(arguments) | {"output": None}}
        self._arguments = arguments
        self._randomness = random.Random(arguments.seed)
        self._nats = running.enter_context(NatsServer(place / "nats"))
        self._clickhouse = running.enter_context(ClickHouse(place / "clickhouse"))
        self._place = place
        self._running = running
        self._kills = 0

    async def run(self) -> None:
        """Before, while and after ClickHouse is down."""
        client = await bus.connect(StreamSettings(nats_url=self._nats.url), "outage")
        jetstream = client.jetstream()
        await bus.declare(jetstream, StreamSettings(nats_url=self._nats.url))
        replicas = {f"audit-{number}": self._replica(number) for number in range(1, REPLICAS + 1)}
        watch = Watch(replicas)
        watching = asyncio.create_task(watch.run())
        producer = Producer(jetstream, self._arguments.seed, self._arguments.sessions, self._arguments.per_second)
        audits = [service for service, _ in replicas.values()]
        try:
            await self._measured(jetstream, producer, watch, audits)
        finally:
            watching.cancel()
            self.results["audit"] = watch.told()
            self.results["kills_of_audit"] = self._kills
        producer.write(self._place / "accounts.jsonl")
        self.results["check"] = await asyncio.to_thread(checked, self._clickhouse, producer.accounts())
        await client.close()

    async def _measured(self, jetstream: JetStreamContext, producer: Producer, watch: Watch, audits: list[Service]) -> None:
        producing = asyncio.create_task(producer.run(self._arguments.events or sys.maxsize))
        await asyncio.sleep(WARM_UP_SECONDS)
        before = producer.published
        await asyncio.to_thread(self._clickhouse.stop, kill=True)
        watch.phase, down_at = "ClickHouse down", time.monotonic()
        note(f"ClickHouse is down, {before} events so far")
        await self._down(producing, audits)
        info = await jetstream.stream_info(SESSIONS.name)
        self.results["down_seconds"] = round(time.monotonic() - down_at)
        self.results["published_before"], self.results["published_while_down"] = before, producer.published - before
        self.results["stream_bytes"] = info.state.bytes
        self.results["behind"] = await behind(jetstream)
        note(f"ClickHouse starts again; {self.results['behind']} events behind")
        watch.phase, up_at, published = "catching up", time.monotonic(), producer.published
        await asyncio.to_thread(self._clickhouse.start)
        for _ in range(KILLS_WHILE_CATCHING_UP):
            await asyncio.sleep(self._randomness.uniform(1, 5))
            await self._kill(audits)
        while await behind(jetstream) > self._arguments.per_second * 5:
            if time.monotonic() - up_at > CATCH_UP_SECONDS_MAX:
                raise TimeoutError(f"still {await behind(jetstream)} events behind")
            await asyncio.sleep(0.5)
        self.results["caught_up_seconds"] = round(time.monotonic() - up_at, 1)
        self.results["published_while_catching_up"] = producer.published - published
        note(f"caught up after {self.results['caught_up_seconds']} s")
        watch.phase = "after"
        producer.stop()
        await producing
        while await behind(jetstream):
            await asyncio.sleep(0.5)

    async def _down(self, producing: asyncio.Task[None], audits: list[Service]) -> None:
        """For so many minutes, or until so many events are published; kills audits meanwhile."""
        ends = time.monotonic() + self._arguments.minutes * 60
        kill_at = time.monotonic() + self._randomness.uniform(*KILL_SECONDS)
        while (not producing.done()) if self._arguments.events else (time.monotonic() < ends):
            await asyncio.sleep(0.5)
            if time.monotonic() >= kill_at:
                await self._kill(audits)
                kill_at = time.monotonic() + self._randomness.uniform(*KILL_SECONDS)

    async def _kill(self, audits: list[Service]) -> None:
        self._kills += 1
        await asyncio.to_thread(self._randomness.choice(audits).restart, kill=True)

    def _replica(self, number: int) -> tuple[Service, int]:
        port = free_port()
        environment = {
            "VSAY_NATS_URL": self._nats.url,
            "VSAY_CLICKHOUSE_URL": self._clickhouse.url,
            "VSAY_HEALTH_PORT": str(port),
        }
        return self._running.enter_context(Service(self._place / f"audit-{number}", "audit", environment)), port


async def behind(jetstream: JetStreamContext) -> int:
    """Events that are not acknowledged yet."""
    info = await jetstream.consumer_info(SESSIONS.name, AUDIT.durable)
    return (info.num_pending or 0) + (info.num_ack_pending or 0)


async def main(arguments: argparse.Namespace) -> None:
    """Prints everything; exit status 1 when an event is missing, altered or doubled."""
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory, ExitStack() as running:
        run = Run(arguments, Path(directory), running)
        try:
            await run.run()
        finally:
            run.results["ended"] = datetime.now(UTC).isoformat(timespec="seconds")
            text = json.dumps(run.results, indent=2, ensure_ascii=False)
            print(text)
            if arguments.output:
                Path(arguments.output).write_text(text + "\n")
        if run.results["check"]["wrong"] or run.results["check"]["quarantined"]:
            raise SystemExit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="just bench outage", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long ClickHouse is down")
    parser.add_argument("--sessions", type=int, default=100, help="how many sessions produce at the same time")
    parser.add_argument("--per-second", type=float, default=37.0, help="events of all of them; 0: as fast as the stream takes them")
    parser.add_argument("--events", type=int, default=0, help="how many events in all, whatever time it takes; 0: by --minutes")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(31), help="of the events and the kills")
    parser.add_argument("--directory", help="where the data lie meanwhile")
    parser.add_argument("--output", help="write all figures as JSON to this file")
    uvloop.run(main(parser.parse_args()))
