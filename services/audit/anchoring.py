"""Makes the anchors: at intervals, one over all sessions of which `audit` has stored events since the anchor before.

It works from the stream, not from ClickHouse: what is altered there before it is anchored is found all the same. It is
over what is acknowledged, which means stored, so whatever an anchor names must be in ClickHouse. Any number of replicas
may do this: an anchor is published with the place of the one before, which the stream checks, so one of them wins and the
others see its anchor. Nothing is kept between anchors but the anchors.
"""

import asyncio
import logging
import time
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, Header
from nats.js.errors import BadRequestError, NotFoundError

from contracts import anchors, subjects, wire
from contracts.anchors import GENESIS, LEAVES_MAX, Anchor, Leaf
from contracts.proof import Verdict
from contracts.streams import ANCHORS, AUDIT, AUDIT_ANCHORS, SESSIONS
from services.audit.clickhouse import Store, StoreUnavailableError
from services.audit.settings import AuditSettings
from services.runtime import signing
from services.runtime.anchors import newest_anchor
from services.runtime.signing import PublicKeys, SigningKeyError

log = logging.getLogger(__name__)

PUBLISH_SECONDS: Final = 5.0
FETCH_HEADERS: Final = 256
FETCH_SECONDS: Final = 5.0
READER_SECONDS: Final = 30.0
"""A reader that could not be deleted is forgotten by the server after this."""

WRONG_LAST_SEQUENCE: Final = 10071
"""JetStream's `err_code` for a guard that did not hold."""


class _Head(Struct):
    """A session's highest number seen, and where in the stream it lies."""

    seq: int
    stream_seq: int


class Anchorer:
    """Methods raise `nats.errors.Error` when the bus does not answer, and `StoreUnavailableError`."""

    def __init__(self, jetstream: JetStreamContext, store: Store, settings: AuditSettings, *, leaves_max: int = LEAVES_MAX) -> None:
        self._jetstream = jetstream
        self._store = store
        self._settings = settings
        self._leaves_max = leaves_max

    async def run(self) -> None:
        """Make anchors until cancelled."""
        while True:
            await asyncio.sleep(self._settings.anchor_seconds)
            try:
                if await self._is_due():
                    # What was stored meanwhile waits for the next time, but what one anchor could not hold does not.
                    while (made := await self.anchor()) and len(made.leaves) >= self._leaves_max:
                        log.info("anchor %d is full, another follows", made.number)
            except (NatsError, TimeoutError, StoreUnavailableError, SigningKeyError) as error:
                log.warning("no anchor was made: %s: %s", type(error).__name__, error)

    async def anchor(self) -> Anchor | None:
        """Make the next anchor; None when there is nothing new to anchor, or another replica was faster."""
        place = (await self._jetstream.stream_info(ANCHORS.name)).state.last_seq
        streamed = await newest_anchor(self._jetstream)
        if streamed is None:
            moved = await self._jetstream.consumer_info(ANCHORS.name, AUDIT_ANCHORS.durable)
            if moved.num_pending or moved.num_ack_pending:
                return None  # something that is no anchor hides the newest one, until ClickHouse has it
        last = await self._stored_after(streamed) or streamed
        first, end = await self._range(streamed)
        heads, end = await self._heads(first, end) if first <= end else ({}, end)
        leaves = [leaf for _, head in sorted(heads.items()) if (leaf := await self._leaf(head))]
        if not leaves:
            return None
        anchor = self._sealed(last, first, end, tuple(leaves))
        guard = {Header.EXPECTED_LAST_SEQUENCE.value: str(place)}
        try:
            await self._jetstream.publish(
                subjects.ANCHORS, anchors.encode(anchor), timeout=PUBLISH_SECONDS, stream=ANCHORS.name, headers=guard
            )
        except BadRequestError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise
            log.info("anchor %d was made by another replica", anchor.number)
            return None
        log.info("anchor %d: %d sessions", anchor.number, len(leaves))
        return anchor

    async def _stored_after(self, streamed: Anchor | None) -> Anchor | None:
        """ClickHouse has later anchors than the stream when that was lost, or restored: their numbers are not given twice."""
        stored = await self._store.newest_anchor()
        if stored is None or stored.number <= (streamed.number if streamed else 0):
            return None
        if self._settings.signing_key:
            known = await PublicKeys.load(self._jetstream)
            if known.verdict(stored.key_id, stored.statement(), stored.signature) is not Verdict.GOOD:
                log.error("anchor %d in ClickHouse is not signed with a known key, and not continued", stored.number)
                return None
        return stored

    async def _is_due(self) -> bool:
        """Whether no other replica has made one just now."""
        last = await newest_anchor(self._jetstream)
        return last is None or _now_us() - last.at >= self._settings.anchor_seconds * 500_000

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

    def _sealed(self, last: Anchor | None, first: int, end: int, leaves: tuple[Leaf, ...]) -> Anchor:
        signer = signing.read_or_none(Path(self._settings.secrets_dir), self._settings.signing_key)
        anchor = Anchor(
            number=last.number + 1 if last else 1,
            at=_now_us(),
            first_stream_seq=first,
            last_stream_seq=end,
            leaves=leaves,
            root=anchors.root([leaf.hash() for leaf in leaves]),
            previous=last.hash() if last else GENESIS,
            key_id=signer.key_id if signer else "",
        )
        return replace(anchor, signature=signer.sign(anchor.statement())) if signer else anchor


def _now_us() -> int:
    return time.time_ns() // 1000
