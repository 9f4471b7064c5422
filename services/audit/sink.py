"""Moves events, access entries and anchors from their streams into ClickHouse: gather a batch, insert it, then acknowledge it.

It keeps nothing: a batch that was inserted and not acknowledged is delivered again and inserted again, which changes
nothing in what is read. Any number of replicas may share the durable consumer of a stream.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.errors import ServiceUnavailableError
from prometheus_client import CollectorRegistry

from contracts import anchors, subjects, wire
from contracts.anchors import AccessAnchor, Anchor
from contracts.streams import AUDIT, AUDIT_ACCESS, AUDIT_ACCESS_ANCHORS, AUDIT_ANCHORS, Consumer
from contracts.wire import Recorded, UndecodableError
from services.audit.clickhouse import Quarantined, RefusedError, Store, StoreUnavailableError
from services.audit.metrics import AuditMetrics
from services.audit.settings import AuditSettings
from services.runtime import access
from services.runtime.access import AccessEntry
from services.runtime.clickhouse import AT_MAX

log = logging.getLogger(__name__)

BATCH_BYTES_MAX: Final = 16 * 1024 * 1024
FETCH_EVENTS_MAX: Final = 256
"""Of one request to the stream, as a request cannot be bounded in bytes."""

GATHER_SECONDS: Final = 0.25
"""Between two looks for more of a batch: events are fetched some at a time, not each as it comes."""

LOOK_SECONDS: Final = 0.05
"""How long such a look waits for an answer."""

PULL_SECONDS: Final = 1.0
"""How long a request waits for a first event. Stopping waits for it, and after a server's restart the next one is answered."""

RETRY_SECONDS: Final = 0.2
RETRY_SECONDS_MAX: Final = 2.0
KEEP_SECONDS: Final = AUDIT.ack_wait_seconds / 3
"""How often the stream is told that a batch is still in hand, while ClickHouse does not take it."""

REASON_CHARACTERS_MAX: Final = 2000

SEQ_MAX: Final = 2**63 - 1


class Kind[Row](Struct, frozen=True):
    """What one stream carries: its consumer, the row in a message (or `UndecodableError`), and where rows go."""

    consumer: Consumer
    read: Callable[[Msg], Row]
    insert: Callable[[Store, Iterable[Row]], Awaitable[None]]


class Batch[Row](Struct, frozen=True):
    """What a run of messages means: rows, and what is none."""

    rows: tuple[Row, ...]
    messages: tuple[Msg, ...]
    """Those that the rows came in."""
    quarantined: tuple[Quarantined, ...]


class Sink:
    """`run` it until `stop` is called; it may be asked to stop before it runs. One sink moves one kind."""

    def __init__(
        self,
        jetstream: JetStreamContext,
        store: Store,
        settings: AuditSettings,
        kind: Kind[Any] | None = None,
        metrics: AuditMetrics | None = None,
    ) -> None:
        """Of events, when no other `kind` is given."""
        self._metrics = (metrics or AuditMetrics(CollectorRegistry())).of_stream((kind or EVENTS).consumer.stream)
        self._jetstream = jetstream
        self._store = store
        self._kind = kind or EVENTS
        self._events_max = settings.batch_events_max
        self._seconds_max = settings.batch_seconds_max
        self._subscription: JetStreamContext.PullSubscription | None = None
        self._stopping = asyncio.Event()
        self._hurried = asyncio.Event()

    def stop(self) -> None:
        """Finish the batch in hand; if ClickHouse does not take it, give it back, to be delivered again at once."""
        self._stopping.set()
        self._hurried.set()

    def hurry(self) -> None:
        """A reader waits: store what the stream has, without waiting for more."""
        self._hurried.set()

    async def run(self) -> None:
        """Bring the schema up to date as soon as ClickHouse answers, then move events. Raises `SchemaError`."""
        while not await self._migrated():
            if await self._stopped_within(RETRY_SECONDS):
                return
        self._subscription = await self._jetstream.pull_subscribe_bind(
            durable=self._kind.consumer.durable, stream=self._kind.consumer.stream, pending_bytes_limit=4 * BATCH_BYTES_MAX
        )
        try:
            while not self._stopping.is_set():
                if messages := await self._gather():
                    await self._move(messages)
        finally:
            await self._subscription.unsubscribe()

    async def _migrated(self) -> bool:
        try:
            await self._store.migrate()
        except StoreUnavailableError as error:
            log.warning("ClickHouse is not ready: %s", error)
            return False
        return True

    async def _gather(self) -> list[Msg]:
        """Some messages, or none after `PULL_SECONDS`. A batch is closed when it is full, its time is over, or somebody waits."""
        more = await self._fetch(PULL_SECONDS)
        messages = list(more)
        gathered_bytes = sum(len(message.data) for message in messages)
        deadline = time.monotonic() + self._seconds_max
        is_last = not messages
        while not is_last and len(messages) < self._events_max and gathered_bytes < BATCH_BYTES_MAX:
            if len(more) < FETCH_EVENTS_MAX:  # else there is more at once
                pause = min(GATHER_SECONDS, deadline - time.monotonic())
                is_last = await _set_within(self._hurried, pause) or pause < GATHER_SECONDS
            more = await self._fetch(LOOK_SECONDS)
            messages += more
            gathered_bytes += sum(len(message.data) for message in more)
        self._hurried.clear()
        return messages

    async def _fetch(self, seconds: float) -> list[Msg]:
        """What the stream has now, or the next that it gets within this time."""
        assert self._subscription, "run has subscribed"
        try:
            return await self._subscription.fetch(FETCH_EVENTS_MAX, timeout=seconds)
        except (NatsTimeoutError, TimeoutError):
            return []
        except ServiceUnavailableError:
            log.warning("JetStream does not answer")
            await self._stopped_within(RETRY_SECONDS)
            return []

    async def _move(self, messages: Sequence[Msg]) -> None:
        batch = sort(messages, self._kind)
        for set_aside in batch.quarantined:
            log.error(
                "message %d of stream %s is set aside: %s", set_aside.stream_seq, self._kind.consumer.stream, set_aside.reason
            )
        pause = RETRY_SECONDS
        kept_at = time.monotonic()
        while not await self._stored(batch):
            if await self._stopped_within(pause):
                for message in messages:
                    await message.nak()
                return
            pause = min(2 * pause, RETRY_SECONDS_MAX)
            if time.monotonic() - kept_at > KEEP_SECONDS:
                kept_at = time.monotonic()
                for message in messages:
                    await message.in_progress()
        for message in messages:
            await message.ack()

    async def _stored(self, batch: Batch[Any]) -> bool:
        try:
            with self._metrics.insert_seconds.time():
                refused = await self._insert(batch.rows, batch.messages)
                await self._store.insert_quarantined((*batch.quarantined, *refused))
        except StoreUnavailableError as error:
            self._metrics.failed_inserts.inc()
            log.warning(
                "ClickHouse did not take %d rows of stream %s, trying again: %s", len(batch.rows), self._kind.consumer.stream, error
            )
            return False
        self._metrics.stored.inc(len(batch.rows) - len(refused))
        self._metrics.quarantined.inc(len(batch.quarantined) + len(refused))
        return True

    async def _insert(self, rows: Sequence[Any], messages: Sequence[Msg]) -> list[Quarantined]:
        """Store these rows; gives those that ClickHouse refuses for what they are, found by halving, to be set aside."""
        try:
            await self._kind.insert(self._store, rows)
        except RefusedError as error:
            if len(rows) == 1:
                log.error("message %d of the stream is set aside: ClickHouse refuses it", messages[0].metadata.sequence.stream)
                return [_set_aside(messages[0], f"ClickHouse refuses it: {error}"[:REASON_CHARACTERS_MAX])]
            half = len(rows) // 2
            return await self._insert(rows[:half], messages[:half]) + await self._insert(rows[half:], messages[half:])
        return []

    async def _stopped_within(self, seconds: float) -> bool:
        return await _set_within(self._stopping, seconds)


def sort[Row](messages: Sequence[Msg], kind: Kind[Row]) -> Batch[Row]:
    """The rows in these messages, and the messages that hold none."""
    rows: list[Row] = []
    read: list[Msg] = []
    quarantined: list[Quarantined] = []
    for message in messages:
        try:
            rows.append(kind.read(message))
            read.append(message)
        except UndecodableError as error:
            quarantined.append(_set_aside(message, str(error)))
    return Batch(tuple(rows), tuple(read), tuple(quarantined))


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _set_aside(message: Msg, reason: str) -> Quarantined:
    published_at = round(message.metadata.timestamp.timestamp() * 1_000_000)
    return Quarantined(message.metadata.sequence.stream, published_at, message.subject, reason, message.data)


def _event(message: Msg) -> Recorded:
    """The event in `message`, within what ClickHouse can hold. Raises `UndecodableError`."""
    recorded = wire.decode(message.data)
    try:
        if subjects.event(recorded.session_id, recorded.type) != message.subject:
            raise UndecodableError("the envelope is of another session or type than the subject")
    except subjects.UnsafeTokenError as error:
        raise UndecodableError(str(error)) from error
    if not 1 <= recorded.seq <= SEQ_MAX:
        raise UndecodableError(f"seq {recorded.seq} is out of range")
    _check_at(recorded.at)
    return recorded


def _access(message: Msg) -> AccessEntry:
    return AccessEntry(access.read(message.subject, message.data), message.metadata.sequence.stream)


def _anchor(message: Msg) -> Anchor:
    anchor = _sealed(message, anchors.decode)
    _check_numbers(*(leaf.seq for leaf in anchor.leaves))
    return anchor


def _access_anchor(message: Msg) -> AccessAnchor:
    anchor = _sealed(message, anchors.decode_access)
    for leaf in anchor.leaves:
        _check_numbers(leaf.stream_seq)
        _check_at(leaf.at)
    return anchor


def _sealed[A: (Anchor, AccessAnchor)](message: Msg, decode: Callable[[bytes], A]) -> A:
    try:
        anchor = decode(message.data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UndecodableError(f"no anchor: {error}") from error
    _check_at(anchor.at)
    _check_numbers(anchor.number, anchor.first_stream_seq, anchor.last_stream_seq)
    return anchor


def _check_numbers(*numbers: int) -> None:
    if not all(0 <= number <= SEQ_MAX for number in numbers):
        raise UndecodableError("a number is out of range")


def _check_at(at: int) -> None:
    if not 0 <= at <= AT_MAX:
        raise UndecodableError(f"at {at} is out of range")


EVENTS: Final = Kind(AUDIT, _event, Store.insert_events)
ACCESS: Final = Kind(AUDIT_ACCESS, _access, Store.insert_access)
ANCHORS: Final = Kind(AUDIT_ANCHORS, _anchor, Store.insert_anchors)
ACCESS_ANCHORS: Final = Kind(AUDIT_ACCESS_ANCHORS, _access_anchor, Store.insert_access_anchors)
KINDS: Final[tuple[Kind[Any], ...]] = (EVENTS, ACCESS, ANCHORS, ACCESS_ANCHORS)
