"""Batches of messages into ClickHouse: insert, then acknowledge. Running it twice is harmless."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, Self

from msgspec import Struct
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from contracts import wire
from contracts.wire import UndecodableError
from services.audit.clickhouse import Quarantined, Store, StoreUnavailableError

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 0.5
RETRY_SECONDS_MAX: Final = 15.0

REASON_CHARACTERS_MAX: Final = 500


class Batch(Struct, frozen=True):
    """What one fetch brought."""

    messages: Sequence[Msg]
    events: Sequence[wire.Recorded]
    strangers: Sequence[Quarantined]

    @classmethod
    def of(cls, messages: Sequence[Msg]) -> Self:
        """Each message decoded by itself, so that none spoils another."""
        events, strangers = [], []
        for message in messages:
            try:
                events.append(wire.decode(message.data))
            except UndecodableError as error:
                reason = str(error)[:REASON_CHARACTERS_MAX]
                strangers.append(Quarantined(message.subject, message.metadata.sequence.stream, reason, message.data))
        return cls(messages, events, strangers)


class Sink:
    """Holds nothing between batches."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.failing: str = ""
        """Why the newest insert failed; empty when it did not."""

    async def take(self, messages: Sequence[Msg]) -> None:
        """Returns once all `messages` are stored and acknowledged, however long ClickHouse is away."""
        batch = Batch.of(messages)
        delay = RETRY_SECONDS
        while True:
            try:
                if batch.events:
                    await self._store.insert(batch.events)
                if batch.strangers:
                    log.error("%d messages are no events and were set aside", len(batch.strangers))
                    await self._store.set_aside(batch.strangers)
                break
            except StoreUnavailableError as error:
                self.failing = str(error)
                log.warning("%d events wait for ClickHouse: %s", len(messages), error)
                await self._keep(messages)
                await asyncio.sleep(delay)
                delay = min(2 * delay, RETRY_SECONDS_MAX)
        self.failing = ""
        for message in messages:
            await message.ack()

    async def _keep(self, messages: Sequence[Msg]) -> None:
        """Tell JetStream that these are in hand; if it does not hear it, they are inserted again, which is harmless."""
        try:
            for message in messages:
                await message.in_progress()
        except NatsError as error:
            log.warning("not told that messages are in hand: %s", error)
