"""Reading a session's record from the SESSIONS stream: its last event, one event, or all after a number.

A stream's messages of one session are in the order of their numbers but for events that were published again, so a
number is found by bisection over the stream's sequence, and reading begins a little earlier and puts them in order.
"""

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from msgspec import Struct
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, RawStreamMsg
from nats.js.errors import NotFoundError

from contracts import subjects, wire
from contracts.streams import SESSIONS
from contracts.wire import Recorded

log = logging.getLogger(__name__)

DISORDER_EVENTS_MAX: Final = 256
"""How far an event that was published again can lie behind its place; above any writer's window."""

FETCH_EVENTS: Final = 64
FETCH_SECONDS: Final = 5.0
READER_SECONDS: Final = 30.0
"""A reader that has not fetched for this long is forgotten by the server."""


class Stored(Struct, frozen=True):
    """An event and its place in the stream."""

    recorded: Recorded
    stream_seq: int


class Record:
    """The stored events of sessions. Methods raise `nats.errors.Error` when the stream does not answer."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._jetstream = jetstream

    async def last(self, session_id: str, type_: str | None = None) -> Stored | None:
        """The session's newest stored event (of `type_`), as the stream's leader has it; None when there is none."""
        subject = subjects.event(session_id, type_) if type_ else subjects.events_of(session_id)
        try:
            message = await self._jetstream.get_msg(SESSIONS.name, subject=subject)
        except NotFoundError:
            return None
        return _stored(message)

    async def head(self, session_id: str) -> Recorded | None:
        """The stored event with the highest number; None when there is none."""
        last = await self.last(session_id)
        if last is None:
            return None
        head = last.recorded
        start = await self._stream_seq_before(session_id, head.seq - DISORDER_EVENTS_MAX)
        async for recorded in self._read(session_id, start or last.stream_seq):
            head = max(head, recorded, key=lambda each: each.seq)
        return head

    async def event(self, session_id: str, seq: int) -> Recorded | None:
        """Event number `seq`, or None when the stream does not have it."""
        async for recorded in self.events(session_id, after_seq=seq - 1):
            return recorded if recorded.seq == seq else None
        return None

    async def events(self, session_id: str, *, after_seq: int) -> AsyncGenerator[Recorded]:
        """The stored events after number `after_seq`, in order, up to what is stored when it comes to the end.

        Begins later than `after_seq + 1` when the stream no longer holds that, and ends before a number that is missing.
        """
        start = await self._stream_seq_before(session_id, after_seq + 1 - DISORDER_EVENTS_MAX)
        if start is None:
            return
        expected, held = after_seq + 1, dict[int, Recorded]()
        oldest_seen = False
        async for recorded in self._read(session_id, start):
            if not oldest_seen:
                oldest_seen = True
                expected = max(expected, recorded.seq)
            if recorded.seq >= expected:
                held[recorded.seq] = recorded
            while ready := held.pop(expected, None):
                expected += 1
                yield ready

    async def _read(self, session_id: str, stream_seq: int) -> AsyncIterator[Recorded]:
        reader = await self._jetstream.add_consumer(
            SESSIONS.name,
            ConsumerConfig(
                filter_subject=subjects.events_of(session_id),
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=stream_seq,
                ack_policy=AckPolicy.NONE,
                inactive_threshold=READER_SECONDS,
                mem_storage=True,
                num_replicas=1,
            ),
        )
        if not reader.num_pending:
            return
        subscription = await self._jetstream.pull_subscribe_bind(consumer=reader.name, stream=SESSIONS.name)
        try:
            while True:
                for message in await subscription.fetch(FETCH_EVENTS, timeout=FETCH_SECONDS):
                    yield wire.decode(message.data)
                    if message.metadata.num_pending == 0:
                        return
        finally:
            await subscription.unsubscribe()
            await self._forget(reader.name)

    async def _forget(self, reader: str) -> None:
        try:
            await self._jetstream.delete_consumer(SESSIONS.name, reader)
        except (NatsError, TimeoutError):
            log.debug("reader %s goes by itself after %.0f s", reader, READER_SECONDS)

    async def _stream_seq_before(self, session_id: str, seq: int) -> int | None:
        """A place in the stream from which on all of the session's events from number `seq` on lie; None when it has none."""
        first = await self._next(session_id, 1)
        if first is None:
            return None
        if first.recorded.seq >= seq:
            return first.stream_seq
        last = await self.last(session_id)
        low, high = first.stream_seq, last.stream_seq if last else first.stream_seq
        while low + 1 < high:
            middle = (low + high) // 2
            found = await self._next(session_id, middle)
            if found is None or found.stream_seq >= high or found.recorded.seq > seq:
                high = middle
            else:
                low = found.stream_seq
        return low

    async def _next(self, session_id: str, stream_seq: int) -> Stored | None:
        """The session's first event at or after that place in the stream."""
        try:
            message = await self._jetstream.get_msg(
                SESSIONS.name, seq=stream_seq, subject=subjects.events_of(session_id), direct=True, next=True
            )
        except NotFoundError:
            return None
        return _stored(message)


def _stored(message: RawStreamMsg) -> Stored:
    assert message.data is not None, "no envelope is empty"
    assert message.seq is not None, "JetStream numbers its messages"
    return Stored(wire.decode(message.data), message.seq)
