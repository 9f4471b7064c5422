"""Wires the audit service: opens things in order, closes them in reverse."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from faststream import AckPolicy, FastStream
from faststream.nats import JStream, NatsBroker, NatsMessage, PullSub
from nats.aio.msg import Msg

from contracts.streams import AUDIT, SESSIONS
from services.audit.clickhouse import Store, StoreUnavailableError
from services.audit.horizon import purge_for_ever
from services.audit.settings import AuditSettings
from services.audit.sink import Sink
from services.runtime import bus, health

log = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 1.0
"""Between attempts to reach ClickHouse at the start."""


def make_app(settings: AuditSettings) -> FastStream:
    """The sink as an application; `run()` it."""
    broker = NatsBroker(logger=log, log_level=logging.DEBUG, **bus.connect_options(settings, "audit"))
    sink: Sink

    @broker.subscriber(
        AUDIT.filter_subject,
        stream=JStream(SESSIONS.name, declare=False),
        durable=AUDIT.durable,
        pull_sub=PullSub(batch_size=settings.batch_events_max, timeout=settings.batch_seconds_max, batch=True),
        ack_policy=AckPolicy.MANUAL,
        decoder=_undecoded,
    )
    async def take(message: NatsMessage) -> None:
        """A batch of raw messages."""
        batch: Msg | list[Msg] = message.raw_message
        assert isinstance(batch, list), "a batch subscriber gets lists"
        await sink.take(batch)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        nonlocal sink
        nats = await bus.connect(settings, "audit housekeeping")
        jetstream = nats.jetstream()
        await bus.declare(jetstream, settings)
        store = await _migrated(settings)
        sink = Sink(store)
        purging = asyncio.create_task(purge_for_ever(jetstream, settings.resume_horizon_hours))

        async def clickhouse() -> None:
            if sink.failing:
                raise StoreUnavailableError(sink.failing)

        async def stream() -> None:
            await jetstream.consumer_info(SESSIONS.name, AUDIT.durable)

        try:
            async with health.serve(settings.health_port, {"clickhouse": clickhouse, "nats": stream}):
                yield
        finally:
            purging.cancel()
            await store.close()
            await nats.drain()

    return FastStream(broker, logger=log, lifespan=lifespan)


async def _migrated(settings: AuditSettings) -> Store:
    """The store once ClickHouse answers and has our tables."""
    store: Store | None = None
    while True:
        try:
            store = store or await Store.connect(settings)
            await store.migrate()
            return store
        except StoreUnavailableError as error:
            log.warning("ClickHouse is not ready: %s", error)
            await asyncio.sleep(CONNECT_SECONDS)


async def _undecoded(message: Any) -> list[bytes]:
    """Each message is decoded by the sink, so that a bad one does not spoil its batch."""
    return []
