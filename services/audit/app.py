"""Wires the audit service: opens things in order, closes them in reverse."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from faststream import FastStream
from nats.aio.msg import Msg

from contracts import subjects
from contracts.streams import AUDIT, AUDIT_ACCESS, AUDIT_ACCESS_ANCHORS, AUDIT_ANCHORS
from services.audit.access_anchoring import AccessAnchorer
from services.audit.anchoring import Anchorer
from services.audit.clickhouse import Store
from services.audit.horizon import purge_for_ever
from services.audit.metrics import AuditMetrics, lag
from services.audit.settings import AuditSettings
from services.audit.sink import KINDS, Sink
from services.runtime import bus, health, metrics, signing
from services.runtime.broker import make_broker

log = logging.getLogger(__name__)


def make_app(settings: AuditSettings) -> FastStream:
    """The sink as an application; `run()` it.

    `Sink` fetches from the stream itself. A batch subscriber of FastStream 0.7 drops what it has gathered when nats-py raises
    the builtin TimeoutError, and these events would come again only after `ack_wait`, a minute later.
    """
    broker = make_broker(settings, "audit", log)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        nats = await bus.connect(settings, "audit sink")
        store = Store.open(settings, retention_days=settings.retention_days)
        try:
            jetstream = nats.jetstream()
            await bus.declare(jetstream, settings)
            if settings.signing_key:
                await signing.register(jetstream, signing.read(Path(settings.secrets_dir), settings.signing_key))

            async def stream() -> str:
                return f"{await lag(jetstream, AUDIT)} events behind"

            registry = metrics.registry()
            counted = AuditMetrics(registry)
            checks = {"clickhouse": store.ready, "nats": stream}
            text = counted.text(jetstream, AUDIT, AUDIT_ACCESS, AUDIT_ANCHORS, AUDIT_ACCESS_ANCHORS)
            async with health.serve(settings.health_port, checks, text):
                sinks = [Sink(jetstream, store, settings, kind, counted) for kind in KINDS]

                async def hurry(_: Msg) -> None:
                    for sink in sinks:
                        sink.hurry()

                await nats.subscribe(subjects.HURRY, cb=hurry)
                housekeeping = [asyncio.create_task(purge_for_ever(jetstream, settings))]
                if settings.anchor_seconds:
                    housekeeping.append(asyncio.create_task(Anchorer(jetstream, store, settings).run()))
                    housekeeping.append(asyncio.create_task(AccessAnchorer(jetstream, store, settings).run()))
                moving = [asyncio.create_task(sink.run()) for sink in sinks]
                for task in (*moving, *housekeeping):
                    task.add_done_callback(lambda _: app.exit())  # when it ends before it is told to, something is wrong
                yield
                for task in housekeeping:
                    task.cancel()
                for sink in sinks:
                    sink.stop()
                await asyncio.gather(*moving)
        finally:
            await store.close()
            await nats.drain()

    app = FastStream(broker, logger=log, lifespan=lifespan)
    return app
