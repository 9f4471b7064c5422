"""Makes the anchors: at intervals, one over all sessions of which `audit` has stored events since the anchor before.

It works from the stream, not from ClickHouse: what is altered there before it is anchored is found all the same. It is
over what is acknowledged, which means stored, so whatever an anchor names must be in ClickHouse.
"""

import logging
from typing import Final

from msgspec import Struct
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, Header
from nats.js.errors import NotFoundError

from contracts import anchors, subjects, wire
from contracts.anchors import LEAVES_MAX, Anchor, Leaf
from contracts.streams import AUDIT, SESSIONS
from services.audit.chain import AnchorMaker
from services.audit.clickhouse import Store
from services.audit.settings import AuditSettings
from services.runtime.anchors import OF_SESSIONS

log = logging.getLogger(__name__)

FETCH_HEADERS: Final = 256
FETCH_SECONDS: Final = 5.0
READER_SECONDS: Final = 30.0
"""A reader that could not be deleted is forgotten by the server after this."""


class _Head(Struct):
    """A session's highest number seen, and where in the stream it lies."""

    seq: int
    stream_seq: int


class Anchorer(AnchorMaker[Anchor]):
    """Makes the anchors over sessions."""

    def __init__(self, jetstream: JetStreamContext, store: Store, settings: AuditSettings, *, leaves_max: int = LEAVES_MAX) -> None:
        super().__init__(jetstream, store, settings, OF_SESSIONS, leaves_max)

    async def _newest_stored(self) -> Anchor | None:
        return await self._store.newest_anchor()

    async def _draft(self, streamed: Anchor | None) -> Anchor | None:
        first, end = await self._range(streamed)
        heads, end = await self._heads(first, end) if first <= end else ({}, end)
        leaves = [leaf for _, head in sorted(heads.items()) if (leaf := await self._leaf(head))]
        if not leaves:
            return None
        root = anchors.root([leaf.hash() for leaf in leaves])
        return Anchor(0, 0, first, end, tuple(leaves), root, previous=b"")

    async def _range(self, last: Anchor | None) -> tuple[int, int]:
        """The part of the stream that is stored and that its own anchor `last` is not over; it may be empty."""
        consumer = await self._jetstream.consumer_info(SESSIONS.name, AUDIT.durable)
        state = (await self._jetstream.stream_info(SESSIONS.name)).state
        floor = consumer.ack_floor.stream_seq if consumer.ack_floor else 0
        # A stream that ends before the last anchor is another one, made after the first was lost.
        anchored = last.last_stream_seq if last and last.last_stream_seq <= state.last_seq else 0
        return max(anchored + 1, state.first_seq), floor

    async def _heads(self, first: int, end: int) -> tuple[dict[str, _Head], int]:
        """The highest event of each session in this part of the stream, and where the part ends: sooner, when it has too many."""
        reader = await self._jetstream.add_consumer(
            SESSIONS.name,
            ConsumerConfig(
                filter_subject=subjects.ALL_EVENTS,
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=first,
                ack_policy=AckPolicy.NONE,
                headers_only=True,
                inactive_threshold=READER_SECONDS,
                mem_storage=True,
                num_replicas=1,
            ),
        )
        subscription = await self._jetstream.pull_subscribe_bind(consumer=reader.name, stream=SESSIONS.name)
        heads: dict[str, _Head] = {}
        left = reader.num_pending
        try:
            while left:
                for message in await subscription.fetch(FETCH_HEADERS, timeout=FETCH_SECONDS):
                    stream_seq, left = message.metadata.sequence.stream, message.metadata.num_pending
                    if stream_seq > end:
                        return heads, end
                    found = await self._number(message.subject, message.headers or {}, stream_seq)
                    if found is None:
                        continue
                    session_id, seq = found
                    if session_id not in heads and len(heads) >= self._leaves_max:
                        return heads, stream_seq - 1
                    if session_id not in heads or heads[session_id].seq < seq:
                        heads[session_id] = _Head(seq, stream_seq)
            return heads, end
        finally:
            await subscription.unsubscribe()
            await self._forget(reader.name)

    async def _number(self, subject: str, headers: dict[str, str], stream_seq: int) -> tuple[str, int] | None:
        """Of which session the message is and which event: as its id says, so that its bytes need not be read; else by these."""
        session_id, _, seq = headers.get(Header.MSG_ID.value, "").rpartition(":")
        if seq.isascii() and seq.isdecimal() and subject.startswith(f"session.{session_id}."):
            return session_id, int(seq)
        leaf = await self._leaf(_Head(0, stream_seq))
        return (leaf.session_id, leaf.seq) if leaf else None

    async def _leaf(self, head: _Head) -> Leaf | None:
        """None for a message that is no event: it was set aside."""
        try:
            message = await self._jetstream.get_msg(SESSIONS.name, seq=head.stream_seq, direct=True)
            event = wire.decode(message.data or b"")
        except (NotFoundError, wire.UndecodableError):
            return None
        return Leaf(event.org_id, event.session_id, event.seq, event.chain)

    async def _forget(self, reader: str) -> None:
        try:
            await self._jetstream.delete_consumer(SESSIONS.name, reader)
        except (NatsError, NatsTimeoutError, TimeoutError):
            log.debug("reader %s goes by itself after %.0f s", reader, READER_SECONDS)
