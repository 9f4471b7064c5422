"""Wires the worker: opens things in order, closes them in reverse."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from faststream import FastStream

from contracts.streams import HOST_KEYS, LIVE, WORKERS
from services.runtime import bus, health, masking, metrics, signing
from services.runtime.broker import make_broker
from services.ssh_worker import deletion_cost
from services.ssh_worker.metrics import WorkerMetrics
from services.ssh_worker.owner import Bus
from services.ssh_worker.presence import Presence
from services.ssh_worker.settings import WorkerSettings
from services.ssh_worker.worker import Worker

log = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def make_app(settings: WorkerSettings, health_at: int | Path, *, obeys: tuple[signal.Signals, ...] = STOP_SIGNALS) -> FastStream:
    """One worker process as an application; `run()` it. `health_at`: where it serves health and metrics, as for `health.serve`.

    Of `STOP_SIGNALS` it `obeys` these, and ignores the others.
    """
    masking.load(settings.mask_rules_file)  # once, before there are sessions that would wait for it
    name = worker_name(settings)
    broker = make_broker(settings, f"ssh-worker {name}", log)
    registry = metrics.registry()
    worker_metrics = WorkerMetrics(registry)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        nats = await bus.connect(settings, f"ssh-worker {name}")
        try:
            jetstream = nats.jetstream()
            await bus.declare(jetstream, settings)
            if settings.signing_key:
                await signing.register(jetstream, signing.read(Path(settings.secrets_dir), settings.signing_key))
            parts = Bus(nats, jetstream, await bus.bucket(jetstream, LIVE), await bus.bucket(jetstream, HOST_KEYS))
            await bus.set_lease(jetstream, settings.lease_seconds)
            worker = Worker(parts, settings, worker_metrics, name)
            presence = Presence(await bus.bucket(jetstream, WORKERS), worker.view)

            def stop() -> None:
                worker.stop()
                presence.changed()

            for number in STOP_SIGNALS:  # instead of FastStream's own, which are looked at ten times a second, and once
                asyncio.get_running_loop().add_signal_handler(number, stop if number in obeys else _ignore)
            async with (
                health.serve(health_at, {"nats": worker.ready}, metrics.of(registry)),
                deletion_cost.kept(deletion_cost.own_pod(settings.pod_name, os.environ), lambda: worker.view().sessions),
            ):
                working = asyncio.create_task(worker.run())
                working.add_done_callback(lambda _: app.exit())
                announcing = asyncio.create_task(presence.keep())
                try:
                    yield
                finally:  # FastStream throws in here what it met when it stopped
                    announcing.cancel()
                    await asyncio.gather(announcing, return_exceptions=True)
                    await working
        finally:
            await bus.disconnect(nats)

    app = FastStream(broker, logger=log, lifespan=lifespan)
    return app


def _ignore() -> None:
    """Ctrl-C reaches every process of a terminal; one of several is told by its parent."""


def worker_name(settings: WorkerSettings) -> str:
    """As the record, the metrics and `GET /v1/workers` have it."""
    return settings.worker_name or f"{socket.gethostname()}-{os.getpid()}"
