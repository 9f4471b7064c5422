"""One session's recorded events in order, wherever they lie: in ClickHouse, and in the stream what ClickHouse has not yet.

No query and no reader is held open while the events are consumed, however slowly that goes.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Final

from contracts.wire import Recorded
from services.session_api.gateway import Gateway
from services.session_api.history import History

BATCH_EVENTS: Final = 500
"""Read from the stream at once; of full output frames, 16 MiB."""


async def head_seq(gateway: Gateway, history: History, session_id: str) -> int:
    """The number of the last event that is recorded now; 0 when there is none."""
    last = await gateway.record.last(session_id)
    return last.recorded.seq if last else await history.last_seq(session_id)


async def events(
    gateway: Gateway, history: History, session_id: str, *, after_seq: int = 0, up_to_seq: int
) -> AsyncIterator[Recorded]:
    """The events after number `after_seq`, up to and with `up_to_seq`, each once.

    A number that is nowhere was lost with the worker that gave it; what follows it comes all the same, once ClickHouse has it.
    """
    next_seq = after_seq + 1
    async for stored in history.events(session_id, after_seq, up_to_seq):
        if stored.seq > next_seq:
            async for waiting in _streamed(gateway, history, session_id, next_seq, stored.seq - 1):
                yield waiting
        next_seq = stored.seq + 1
        yield stored
    async for waiting in _streamed(gateway, history, session_id, next_seq, up_to_seq):
        yield waiting


async def _streamed(gateway: Gateway, history: History, session_id: str, first_seq: int, last_seq: int) -> AsyncIterator[Recorded]:
    """What the stream has of these numbers; what it dropped since ClickHouse was asked is in ClickHouse now."""
    next_seq = first_seq
    while next_seq <= last_seq:
        batch = await _batch(gateway, session_id, next_seq, last_seq)
        until_seq = batch[0].seq - 1 if batch else last_seq
        if until_seq >= next_seq:
            async for moved in history.events(session_id, next_seq - 1, until_seq):
                yield moved
        for recorded in batch:
            yield recorded
        if not batch:
            return
        next_seq = batch[-1].seq + 1


async def _batch(gateway: Gateway, session_id: str, first_seq: int, last_seq: int) -> list[Recorded]:
    batch: list[Recorded] = []
    async with aclosing(gateway.record.events(session_id, after_seq=first_seq - 1)) as following:
        async for recorded in following:
            if recorded.seq > last_seq:
                break
            batch.append(recorded)
            if len(batch) == BATCH_EVENTS:
                break
    return batch
