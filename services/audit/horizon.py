"""Drops from stream SESSIONS what ClickHouse has and nobody will resume from any more."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Final

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from contracts.streams import AUDIT, SESSIONS
from contracts.subjects import ALL_EVENTS

log = logging.getLogger(__name__)

PURGE_SECONDS: Final = 300.0


async def purge_for_ever(jetstream: JetStreamContext, horizon_hours: float) -> None:
    """`purge` every `PURGE_SECONDS` until cancelled."""
    while True:
        try:
            if dropped := await purge(jetstream, before=datetime.now(UTC) - timedelta(hours=horizon_hours)):
                log.info("dropped %d events from stream %s", dropped, SESSIONS.name)
        except (NatsError, TimeoutError) as error:
            log.warning("stream %s was not purged: %s", SESSIONS.name, type(error).__name__)
        await asyncio.sleep(PURGE_SECONDS)


async def purge(jetstream: JetStreamContext, *, before: datetime) -> int:
    """Drop what is acknowledged by `audit`, which means stored in ClickHouse, and was written before `before`. Returns how many."""
    consumer = await jetstream.consumer_info(SESSIONS.name, AUDIT.durable)
    state = (await jetstream.stream_info(SESSIONS.name)).state
    floor = consumer.ack_floor.stream_seq if consumer.ack_floor else 0
    first_kept = await _first_since(jetstream, before, state.first_seq, floor + 1)
    if first_kept <= state.first_seq:
        return 0
    await jetstream.purge_stream(SESSIONS.name, seq=first_kept)
    return state.messages - (await jetstream.stream_info(SESSIONS.name)).state.messages


async def _first_since(jetstream: JetStreamContext, before: datetime, low: int, high: int) -> int:
    """The first stream sequence in `low` … `high` whose message was stored at `before` or later, by bisection; else `high`."""
    while low < high:
        middle = (low + high) // 2
        try:
            message = await jetstream.get_msg(SESSIONS.name, seq=middle, subject=ALL_EVENTS, direct=True, next=True)
        except NotFoundError:
            high = middle
            continue
        if message.time is not None and message.time < before:
            low = middle + 1
        else:
            high = middle
    return high
