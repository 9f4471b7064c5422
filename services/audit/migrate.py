"""`python -m services.audit.migrate`: makes the streams and brings the schema up to date, then ends.

The services do the same when they start; this is for those who want it done, and seen, before them.
"""

import asyncio
import logging
from typing import Final

from nats.errors import Error as NatsError

from services.audit.clickhouse import Store, StoreUnavailableError
from services.audit.settings import AuditSettings
from services.runtime import bus
from services.runtime.process import run

log = logging.getLogger("services.audit.migrate")  # run as a program, its name is __main__

RETRY_SECONDS: Final = 1.0


async def main(settings: AuditSettings) -> None:
    """Returns when both are done, however long NATS and ClickHouse take to answer. Raises `SchemaError`."""
    await _streams(settings)
    log.info("streams, consumers and buckets are there")
    store = Store.open(settings, retention_days=settings.retention_days)
    try:
        applied = await _schema(store)
    finally:
        await store.close()
    log.info("schema is up to date; applied now: %s", ", ".join(applied) or "nothing")


async def _streams(settings: AuditSettings) -> None:
    while True:
        try:
            nats = await bus.connect(settings, "migrate")
            try:
                return await bus.declare(nats.jetstream(), settings)
            finally:
                await nats.close()
        except (NatsError, OSError, TimeoutError) as error:
            log.warning("NATS is not ready: %s: %s", type(error).__name__, error)
            await asyncio.sleep(RETRY_SECONDS)


async def _schema(store: Store) -> list[str]:
    while True:
        try:
            return await store.migrate()
        except StoreUnavailableError as error:
            log.warning("ClickHouse is not ready: %s", error)
            await asyncio.sleep(RETRY_SECONDS)


if __name__ == "__main__":
    run(AuditSettings, main)
