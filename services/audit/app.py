"""Wires the audit service: opens things in order, closes them in reverse."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from faststream import FastStream
from faststream.nats import NatsBroker
from nats.js import JetStreamContext

from contracts.streams import AUDIT
from services.audit.clickhouse import Store, StoreUnavailableError
from services.audit.horizon import purge_for_ever
from services.audit.settings import AuditSettings
from services.audit.sink import Sink
from services.runtime import bus, health

log = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 0.5
"""Between attempts to reach ClickHouse at the start."""


def make_app(settings: AuditSettings) -> FastStream:
    """The sink as an application; `run()` it.

    `Sink` fetches from the stream itself. A batch subscriber of FastStream 0.7 drops what it has gathered when nats-py raises
    the builtin TimeoutError, and these events would come again only after `ack_wait`, a minute later.
    """
    broker = NatsBroker(logger=log, log_level=logging.DEBUG, **bus.connect_options(settings, "audit"))

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        nats = await bus.connect(settings, "audit sink")
        store = Store.open(settings)
        try:
            jetstream = nats.jetstream()
            await bus.declare(jetstream, settings)

            async def stream() -> None:
                await jetstream.consumer_info(AUDIT.stream, AUDIT.durable)

            async with health.serve(settings.health_port, {"clickhouse": store.ready, "nats": stream}):
                tasks = (
                    asyncio.create_task(_move_events(jetstream, store, settings), name="sink"),
                    asyncio.create_task(purge_for_ever(jetstream, settings.resume_horizon_hours), name="horizon"),
                )
                for task in tasks:
                    task.add_done_callback(lambda _: app.exit())  # neither ever ends unless something is wrong
                yield
                for task in tasks:
                    task.cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await store.close()
            await nats.drain()
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result

    app = FastStream(broker, logger=log, lifespan=lifespan)
    return app


async def _move_events(jetstream: JetStreamContext, store: Store, settings: AuditSettings) -> None:
    """Bring the schema up to date as soon as ClickHouse answers, then move events for ever."""
    while True:
        try:
            await store.migrate()
            break
        except StoreUnavailableError as error:
            log.warning("ClickHouse is not ready: %s", error)
        await asyncio.sleep(CONNECT_SECONDS)
    await Sink(jetstream, store, settings).run()
