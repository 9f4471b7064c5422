"""Several worker processes in one container: starts them, starts again what dies, and answers for all of them.

Each is a worker of its own, with a share of the places. The parent serves health and metrics for them at the one port, and
passes SIGTERM on, every time. A child whose parent is gone drains by itself: its standard input has ended.
"""

import asyncio
import logging
import os
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from services.runtime import health
from services.ssh_worker import deletion_cost
from services.ssh_worker.app import STOP_SIGNALS, worker_name
from services.ssh_worker.settings import WorkerSettings

log = logging.getLogger(__name__)

BACK_OFF_SECONDS: Final = 1.0
"""Before a process that died is started again."""

COUNT_SECONDS: Final = 5.0

ANSWER_SECONDS_MAX: Final = 2.0
ANSWER_BYTES_MAX: Final = 4 * 1024 * 1024


class NotReadyError(Exception):
    """A process is not ready, or does not answer."""


class Child:
    """One of the processes, by number from 1."""

    def __init__(self, settings: WorkerSettings, number: int, directory: Path) -> None:
        """Its Unix socket for health is made in `directory`."""
        self.number = number
        self.socket = directory / f"health-{number}"
        self._environment = os.environ | {
            "VSAY_WORKER_PROCESSES": "1",
            "VSAY_WORKER_NAME": f"{worker_name(settings)}-{number}",
            "VSAY_WORKER_PLACES": str(share(settings.worker_places, settings.worker_processes, number)),
            "VSAY_POD_NAME": "",  # the pod is the parent's affair
        }
        self._process: Process | None = None

    async def start(self) -> Process:
        """A new process."""
        self.socket.unlink(missing_ok=True)
        command = (sys.executable, "-m", "services.ssh_worker", "--health-socket", str(self.socket))
        self._process = await asyncio.create_subprocess_exec(*command, env=self._environment, stdin=PIPE)
        return self._process

    def stop(self) -> None:
        """SIGTERM, if it runs."""
        if self._process and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)

    async def ready(self) -> None:
        """Raises `NotReadyError`."""
        status, body = await self._ask("/readyz")
        if status != 200:  # OK
            raise NotReadyError(body.decode(errors="replace")[:200])

    async def metrics(self) -> bytes:
        """Its metrics; nothing when it does not answer."""
        try:
            status, body = await self._ask("/metrics")
        except NotReadyError:
            return b""
        return body if status == 200 else b""  # OK

    async def _ask(self, path: str) -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                reader, writer = await asyncio.open_unix_connection(self.socket, limit=ANSWER_BYTES_MAX)
                try:
                    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                    head = await reader.readuntil(b"\r\n\r\n")
                    return int(head.split()[1]), await reader.read(ANSWER_BYTES_MAX)
                finally:
                    writer.close()
        except (OSError, EOFError, TimeoutError, ValueError, IndexError) as error:
            raise NotReadyError(f"process {self.number} does not answer: {type(error).__name__}") from error


class Processes:
    """All of them, from `run` until they have drained."""

    def __init__(self, settings: WorkerSettings, directory: Path) -> None:
        self._children = [Child(settings, number, directory) for number in range(1, settings.worker_processes + 1)]
        self._health_port = settings.health_port
        self._pod = deletion_cost.own_pod(settings.pod_name, os.environ)
        self._sessions = 0
        self._stopping = asyncio.Event()
        self._registry = CollectorRegistry()
        self._restarts = Counter(
            "vsay_worker_process_restarts", "Worker processes that died and were started again.", registry=self._registry
        )

    async def run(self) -> None:
        """Returns when all have ended after SIGTERM or SIGINT."""
        for number in STOP_SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._stop)
        checks = {f"process-{child.number}": child.ready for child in self._children}
        counting = asyncio.create_task(self._count())
        async with health.serve(self._health_port, checks, self._metrics), deletion_cost.kept(self._pod, lambda: self._sessions):
            await asyncio.gather(*(self._keep(child) for child in self._children))
        counting.cancel()

    def _stop(self) -> None:
        self._stopping.set()
        for child in self._children:
            child.stop()

    async def _keep(self, child: Child) -> None:
        while not self._stopping.is_set():
            process = await child.start()
            if self._stopping.is_set():  # it was told while this one was being started
                child.stop()
            status = await process.wait()
            if not self._stopping.is_set():
                self._restarts.inc()
                log.error("worker process %d ended with status %s; another one is started", child.number, status)
                await self._pause()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(BACK_OFF_SECONDS):
                await self._stopping.wait()
        except TimeoutError:
            pass  # it was not told to stop meanwhile

    async def _count(self) -> None:
        """Keeps `_sessions` up to date, for whoever decides which pod to stop first."""
        while self._pod:
            counts = [
                sample.value
                for child in self._children
                for family in text_string_to_metric_families((await child.metrics()).decode())
                for sample in family.samples
                if sample.name == "vsay_worker_sessions"
            ]
            self._sessions = int(sum(counts))
            await asyncio.sleep(COUNT_SECONDS)

    async def _metrics(self) -> bytes:
        texts = await asyncio.gather(*(child.metrics() for child in self._children))
        registry = CollectorRegistry()
        registry.register(_Merged({str(child.number): text for child, text in zip(self._children, texts, strict=True)}))
        return generate_latest(self._registry) + generate_latest(registry)


class _Merged(Collector):
    """The metrics of several processes, told apart by the label `process`."""

    def __init__(self, texts: dict[str, bytes]) -> None:
        self._texts = texts

    def collect(self) -> Iterator[Metric]:
        merged: dict[str, Metric] = {}
        for number, text in self._texts.items():
            for family in text_string_to_metric_families(text.decode()):
                metric = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    metric.samples.append(sample._replace(labels=sample.labels | {"process": number}))
        yield from merged.values()


def share(places: int, processes: int, number: int) -> int:
    """How many of all places process `number` of so many has."""
    return places // processes + (number <= places % processes)


async def run_several(settings: WorkerSettings) -> None:
    """Run `worker_processes` processes until SIGTERM, and until they have drained."""
    with tempfile.TemporaryDirectory(prefix="vsay-worker-") as directory:
        await Processes(settings, Path(directory)).run()


def stop_with_parent() -> None:
    """Drain when standard input ends: the parent is gone."""
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), partial(_parent_gone, loop))


def _parent_gone(loop: asyncio.AbstractEventLoop) -> None:
    loop.remove_reader(sys.stdin.fileno())
    os.kill(os.getpid(), signal.SIGTERM)
