"""Wires the worker: opens things in order, closes them in reverse."""

import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from faststream import AckPolicy, FastStream
from faststream.nats import JStream, NatsBroker, NatsMessage, PullSub
from nats.aio.msg import Msg

from contracts.streams import COMMANDS, LIVE, SSH_WORKERS
from services.runtime import bus, health, metrics, signing
from services.ssh_worker import deletion_cost
from services.ssh_worker.metrics import WorkerMetrics
from services.ssh_worker.owner import Bus
from services.ssh_worker.settings import WorkerSettings
from services.ssh_worker.worker import Worker

log = logging.getLogger(__name__)

PULL_SECONDS = 5.0
"""How long one request for a command waits at the server before it is made again; a request is lost with its server."""


def make_app(settings: WorkerSettings) -> FastStream:
    """The worker as an application; `run()` it."""
    name = settings.worker_name or f"{socket.gethostname()}-{os.getpid()}"
    broker = NatsBroker(logger=log, log_level=logging.DEBUG, **bus.connect_options(settings, f"ssh-worker {name}"))
    registry = metrics.registry()
    worker_metrics = WorkerMetrics(registry)
    worker: Worker

    @broker.subscriber(
        SSH_WORKERS.filter_subject,
        stream=JStream(COMMANDS.name, declare=False),
        durable=SSH_WORKERS.durable,
        pull_sub=PullSub(batch_size=1, timeout=PULL_SECONDS),
        ack_policy=AckPolicy.MANUAL,
        decoder=_raw,
    )
    async def open_session(message: NatsMessage) -> None:
        """A command from the work queue; not acknowledged before its session has ended."""
        assert isinstance(message.raw_message, Msg), "a pull subscriber gets single messages"
        await worker.claim(message.raw_message)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        nonlocal worker
        nats = await bus.connect(settings, f"ssh-worker {name}")
        try:
            jetstream = nats.jetstream()
            await bus.declare(jetstream, settings)
            if settings.signing_key:
                await signing.register(jetstream, signing.read(Path(settings.secrets_dir), settings.signing_key))
            worker = Worker(Bus(nats, jetstream, await bus.bucket(jetstream, LIVE)), settings, worker_metrics, name)
            async with (
                health.serve(settings.health_port, {"nats": worker.ready}, metrics.of(registry)),
                deletion_cost.kept(deletion_cost.own_pod(settings.pod_name, os.environ), lambda: len(worker)),
            ):
                yield
                await worker.drain()
        finally:
            await nats.drain()

    return FastStream(broker, logger=log, lifespan=lifespan, on_shutdown=[lambda: worker.stop_claiming()])


async def _raw(message: NatsMessage) -> bytes:
    return bytes(message.body)
